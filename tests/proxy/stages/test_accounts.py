"""The account that a replica gives: it must be the identity's, it is what the log shows, and it chooses the line."""

import pytest

from certs.profiles import Role
from proxy.openssl import Context
from proxy.outcomes import Reason, Stage
from tests.proxy.bench import EventLog, benched, entry
from tests.proxy.fakes import OK, FakeSource
from tests.proxy.pki import Pki
from wire.results import ErrPacket


@pytest.mark.parametrize(
    ("account", "shown"),
    [
        (b"REPL", "REPL"),
        (b"repl ", "repl "),
        (b" repl", " repl"),
        (b"'repl'", "'repl'"),
        (b"repl\xff", "repl\\xff"),
        (b"", None),
        (b"repl@localhost", "repl@localhost"),
        (b"r" * 100_000, "r" * 128 + "..."),
    ],
    ids=lambda value: repr(value)[:20],
)
async def test_an_account_is_compared_byte_for_byte_and_shown(account: bytes, shown: str, log: EventLog) -> None:
    async with benched(FakeSource(account=account), log) as bench:
        replica = await bench.connect(account=account)
        answer = ErrPacket.parse(await replica.log_in())
        assert answer.code == 1045
        refusal = await bench.assert_refused(Stage.AUTHENTICATION, Reason.ACCOUNT_NOT_ALLOWED)
    assert refusal.get("account") == shown
    assert len(answer.message) + len(refusal["detail"]) < 500


async def test_of_a_certificate_with_several_names_the_account_chooses_the_one_that_counts(
    pki: Pki, replica_context: Context, log: EventLog
) -> None:
    two_names = pki.authority.issue(Role.REPLICA, "replica-1.example", "replica-2.example")
    roster = (
        entry("first", accounts=("other",)),
        entry("second", identity="replica-2.example", accounts=("repl",)),
    )
    async with benched(FakeSource(), log, replica_context=replica_context, roster=roster) as bench:
        replica = await bench.connect(pki.client(two_names))
        assert await replica.log_in() == OK
        assert [(record.replica, record.identity) for record in bench.runtime.registry] == [
            ("second", "replica-2.example")
        ]


async def test_the_entry_of_an_identity_is_chosen_by_the_account(
    pki: Pki, replica_context: Context, log: EventLog
) -> None:
    roster = (entry("first", accounts=("other",)), entry("second", accounts=("repl",)))
    async with benched(FakeSource(), log, replica_context=replica_context, roster=roster) as bench:
        replica = await bench.connect(pki.client(pki.replica))
        assert await replica.log_in() == OK
        assert [record.replica for record in bench.runtime.registry] == ["second"]
