"""No more lines than the bound."""

from monitor.reporting.logs import Allowance


def test_an_allowance_is_for_a_second_and_counts_what_is_over() -> None:
    allowance = Allowance(2)
    assert [allowance.admits("flow_found", now) for now in (5.0, 5.1, 5.2, 5.9, 6.0)] == [
        True,
        True,
        False,
        False,
        True,
    ]
    assert allowance.settle() == {"flow_found": 2}
    assert allowance.settle() == {}
    assert allowance.suppressed_total == 2
