"""Sessions that end to begin again, of age or before their TLS keys wear out: no row is lost, no commit waits."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from testbed.flavours import Flavour
from tests.integration.conftest import MODERN, Pair, Pki
from tests.integration.lab import PROMPTLY_SECONDS, Proxy, replicating
from tests.integration.load import Gate, writing
from tests.integration.semi_sync import semi_synchronous

StartProxy = Callable[..., Proxy]
every = pytest.mark.parametrize("pair", list(Flavour), indirect=True, ids=lambda flavour: flavour.value)
modern = pytest.mark.parametrize("pair", list(MODERN), indirect=True, ids=lambda flavour: flavour.value)


def ended(proxy: Proxy, reason: str) -> int:
    return sum(event["reason"] == reason for event in proxy.events("session_ended"))


@modern
def test_a_session_of_age_begins_again_and_no_row_is_lost(pair: Pair, pki: Pki, source_side: StartProxy) -> None:
    proxy = source_side(limits="[limits]\nsession_max_age_seconds = 1")
    table = pair.table()
    with replicating(pair.replica, proxy.port, user="repl", tls=pki.authority.replica_tls(pki.replica)):
        pair.replica.wait_for_replication()
        with table.under_load():
            pair.replica.wait_until(lambda: ended(proxy, "max_age") >= 3, what="three sessions to be of age")
        table.assert_same_on(pair.replica)
        assert proxy.metric("binlock_proxy_sessions_ended_total", reason="max_age") >= 3
        ages = [event["age_seconds"] for event in proxy.events("session_ended")]
        assert all(0.9 < age < 1 + PROMPTLY_SECONDS for age in ages), ages


@every
def test_keys_are_renewed_between_commits_side_by_side_and_none_waits_until_it_times_out(
    pair: Pair, pki: Pki, source_side: StartProxy
) -> None:
    proxy = source_side(limits="[limits]\ntls_key_records = 1000")
    table = pair.table()
    insert = f"INSERT INTO {table.schema}.orders (body) VALUES (REPEAT('x', 2000))"
    with semi_synchronous(pair, timeout_seconds=20) as semi_sync:
        received = semi_sync.acknowledgements_received()
        with replicating(pair.replica, proxy.port, user="repl", tls=pki.authority.replica_tls(pki.replica)):
            semi_sync.wait_for_replica()
            acknowledged, without = semi_sync.counts()
            with writing(pair.source, lambda cursor, *_: cursor.execute(insert), writers=16):
                pair.replica.wait_until(
                    lambda: ended(proxy, "key_limit") >= 5,
                    timeout=60,
                    what="five sessions to reach the limit of their keys",
                )
            assert semi_sync.counts()[0] > acknowledged
            assert semi_sync.counts()[1] == without
            table.assert_same_on(pair.replica)
            assert {event["reason"] for event in proxy.events("session_ended")} == {"key_limit"}
            assert proxy.metric("binlock_proxy_sessions_ended_total", reason="key_limit") >= 5
            passed = proxy.metric("binlock_proxy_semisync_ack_seconds_count")
            pair.source.wait_until(
                lambda: semi_sync.acknowledgements_received() in {received + passed, 0},  # 0: not counted
                what=f"{passed} acknowledgements to be counted",
            )


@modern
def test_a_session_whose_key_wears_out_within_an_event_ends_behind_its_last_packet(
    pair: Pair, pki: Pki, source_side: StartProxy
) -> None:
    proxy = source_side(limits="[limits]\ntls_key_records = 1000")
    table = pair.table()
    # Where 1220 full records have passed, within the second packet of three.
    with (
        Gate(proxy.port, hold_after_bytes=20_000_000) as gate,
        replicating(pair.replica, gate.port, user="repl", tls=pki.authority.replica_tls(pki.replica)),
    ):
        pair.replica.wait_for_replication()
        table.insert(1, body_bytes=40_000_000)
        gate.wait_until_held()
        session = proxy.stream_of("replica-1.example")
        looked = session["age_seconds"]
        # The proxy has looked at its keys by then.
        pair.source.wait_until(lambda: proxy.stream_of("replica-1.example")["age_seconds"] > looked + 1.5)
        assert proxy.stream_of("replica-1.example")["session"] == session["session"], proxy.events("session_ended")
        gate.open()
        ended = proxy.wait_for_end(session["session"])
        assert ended["reason"] == "key_limit"
        assert ended["bytes_to_replica"] > 40_000_000
        table.assert_same_on(pair.replica)
        # It did not come a second time.
        assert proxy.stream_of("replica-1.example")["bytes_to_replica"] < 1_000_000
