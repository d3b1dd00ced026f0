"""Metrics: names and labels of the contract, and bounds that hold whatever peers do."""

from datetime import UTC, datetime, timedelta

from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from monitor.reporting.metrics import InterfaceReading, Metrics, Reading
from monitor.verdicts import TlsFacts, Verdict

CONTRACT = {
    "binlock_monitor_flows_total": {"verdict"},
    "binlock_monitor_flows_active": {"verdict"},
    "binlock_monitor_bytes_total": {"verdict"},
    "binlock_monitor_plaintext_replication_active": {"source", "replica"},
    "binlock_monitor_tls_flows_total": {"version", "cipher"},
    "binlock_monitor_tls_flows_active": {"version", "cipher"},
    "binlock_monitor_packets_total": {"interface"},
    "binlock_monitor_packets_dropped_total": {"interface"},
    "binlock_monitor_capture_up": {"interface"},
    "binlock_monitor_flows_evicted_total": {"reason"},
    "binlock_monitor_packet_errors_total": set(),
    "binlock_monitor_build_info": {"version"},
    "process_cpu_seconds_total": set(),
}

Samples = dict[tuple[str, tuple[str, ...]], float]


def samples(metrics: Metrics) -> Samples:
    text = generate_latest(metrics.registry).decode()
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def pairs(metrics: Metrics) -> dict[tuple[str, ...], float]:
    text = generate_latest(metrics.registry).decode()
    return {
        (sample.labels["source"], sample.labels["replica"]): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "binlock_monitor_plaintext_replication_active"
    }


def make(reading: Reading | None = None) -> Metrics:
    return Metrics("1.2.3", lambda: reading or Reading())


def test_names_and_labels_are_those_of_the_contract() -> None:
    reading = Reading(
        interfaces=[InterfaceReading("lo", is_up=True, packets=1, dropped=0, is_dropping=False)],
        evicted={"full": 1},
    )
    text = generate_latest(make(reading).registry).decode()
    found = {
        sample.name: set(sample.labels) for family in text_string_to_metric_families(text) for sample in family.samples
    }
    assert {name: found.get(name) for name in CONTRACT} == CONTRACT
    assert "_created" not in text


def test_every_help_text_is_a_sentence() -> None:
    families = text_string_to_metric_families(generate_latest(make().registry).decode())
    ours = [family for family in families if family.name.startswith("binlock_")]
    assert len(ours) > 10
    assert all(family.documentation.endswith(".") for family in ours)


def test_every_verdict_is_there_from_the_start() -> None:
    shown = samples(make())
    for name in ("flows_total", "flows_active", "bytes_total"):
        for verdict in Verdict:
            assert shown[f"binlock_monitor_{name}", (verdict.value,)] == 0
    assert shown["binlock_monitor_plaintext_replication_active", ("other", "other")] == 0
    assert shown["binlock_monitor_tls_flows_total", ("unknown", "unknown")] == 0


def test_each_scrape_shows_what_stands_then() -> None:
    counted = {Verdict.TLS: 1}
    metrics = make(Reading(flows=counted, bytes={Verdict.TLS: 5}))
    assert samples(metrics)["binlock_monitor_flows_total", ("tls",)] == 1
    counted[Verdict.TLS] = 2
    assert samples(metrics)["binlock_monitor_flows_total", ("tls",)] == 2
    assert samples(metrics)["binlock_monitor_bytes_total", ("tls",)] == 5


def test_an_interface_shows_drops_and_whether_it_is_up() -> None:
    shown = samples(make(Reading(interfaces=[InterfaceReading("eth0", False, 10, 3, True)])))
    for name, value in {
        "packets_total": 10,
        "packets_dropped_total": 3,
        "packets_dropped_recently": 1,
        "capture_up": 0,
    }.items():
        assert shown[f"binlock_monitor_{name}", ("eth0",)] == value


def test_a_pair_goes_to_1_and_to_0_and_away() -> None:
    metrics = make()
    metrics.pairs.begin(1, "10.0.0.1", "10.0.0.2")
    metrics.pairs.begin(2, "10.0.0.1", "10.0.0.2")
    assert pairs(metrics)["10.0.0.1", "10.0.0.2"] == 2
    metrics.pairs.end(1, 100.0)
    assert pairs(metrics)["10.0.0.1", "10.0.0.2"] == 1
    metrics.pairs.end(2, 100.0)
    metrics.pairs.end(2, 100.0)
    metrics.pairs.forget_gone(999.0)
    assert pairs(metrics)["10.0.0.1", "10.0.0.2"] == 0
    metrics.pairs.forget_gone(1000.0)
    assert pairs(metrics) == {("other", "other"): 0}


def test_a_pair_that_comes_back_stays() -> None:
    metrics = make()
    metrics.pairs.begin(1, "10.0.0.1", "10.0.0.2")
    metrics.pairs.end(1, 100.0)
    metrics.pairs.begin(2, "10.0.0.1", "10.0.0.2")
    metrics.pairs.forget_gone(5000.0)
    assert pairs(metrics)["10.0.0.1", "10.0.0.2"] == 1


def test_pairs_beyond_the_bound_are_one_and_leave_it_again() -> None:
    metrics = make()
    for number in range(103):
        metrics.pairs.begin(number, "10.0.0.1", f"10.1.0.{number}")
    shown = pairs(metrics)
    assert len(shown) == 101
    assert shown["other", "other"] == 3
    for number in range(103):
        metrics.pairs.end(number, 100.0)
    assert set(pairs(metrics).values()) == {0}


def test_a_new_pair_takes_the_place_of_the_one_that_is_gone_longest() -> None:
    metrics = make()
    for number in range(100):
        metrics.pairs.begin(number, "10.0.0.1", f"10.1.0.{number}")
    metrics.pairs.end(7, 100.0)
    metrics.pairs.end(3, 101.0)
    metrics.pairs.begin(100, "10.0.0.1", "10.1.0.100")
    shown = pairs(metrics)
    assert shown["10.0.0.1", "10.1.0.100"] == 1
    assert ("10.0.0.1", "10.1.0.7") not in shown
    assert shown["10.0.0.1", "10.1.0.3"] == 0
    assert shown["other", "other"] == 0


def test_kinds_of_tls_are_bounded() -> None:
    metrics = make()
    for number in range(300):
        metrics.tls.begin(number, TlsFacts("TLSv1.3", f"0x{number:04X}"))
    metrics.tls.begin(300, TlsFacts())
    shown = {
        labels: value for (name, labels), value in samples(metrics).items() if name == "binlock_monitor_tls_flows_total"
    }
    assert sum(shown.values()) == 301
    assert len(shown) == 101
    assert shown["unknown", "unknown"] == 1
    for number in range(301):
        metrics.tls.end(number)
    active = {
        labels: value
        for (name, labels), value in samples(metrics).items()
        if name == "binlock_monitor_tls_flows_active"
    }
    assert active == dict.fromkeys(shown, 0)


def test_certificates_are_those_shown_last() -> None:
    metrics = make()
    start = datetime(2030, 1, 1, tzinfo=UTC)
    metrics.certificates.note("10.0.0.1:3306", TlsFacts())
    for number in [*range(100), 0, 100]:
        metrics.certificates.note(
            f"10.0.0.{number}:3306", TlsFacts(certificate_not_after=start + timedelta(days=number))
        )
    name = "binlock_monitor_tls_certificate_not_after_timestamp_seconds"
    shown = {labels[0]: value for (family, labels), value in samples(metrics).items() if family == name}
    assert len(shown) == 100
    assert "10.0.0.1:3306" not in shown
    assert shown["10.0.0.0:3306"] == start.timestamp()
