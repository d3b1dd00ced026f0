"""What is said of a session is true: in `/sessions`, on the command line, in the log and in the metrics."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.endpoint.promtool import complaints
from tests.integration.conftest import MODERN, Pair, Pki
from tests.integration.deployments import wait_for_place
from tests.integration.lab import BIN, WAIT_SECONDS, Proxy, replicating
from wire.binlog import EventType

StartProxy = Callable[..., Proxy]
modern = pytest.mark.parametrize("pair", list(MODERN), indirect=True, ids=lambda flavour: flavour.value)
DOCUMENT = Path(__file__).parents[2] / "docs" / "sessions.md"
PLACES = ("/sessions", "session_started", "stream_started", "session_ended", "session_refused", "would_refuse")
LAST_EVENT = "binlock_proxy_replica_last_event_timestamp_seconds"


def assert_stream_is_measured(proxy: Proxy, pair: Pair) -> None:
    """What the metrics say of the stream is what the source says."""

    def measured(name: str) -> float:
        return proxy.metric(f"binlock_proxy_replica_{name}", replica="replica-1.example")

    file, position = pair.source.binlog_position()
    pair.replica.wait_until(lambda: measured("binlog_position_bytes") == position, what="the position")
    assert measured("binlog_file_number") == int(file.rpartition(".")[2])
    assert 0 <= measured("delivery_lag_seconds") < 20
    assert time.time() - measured("last_activity_timestamp_seconds") < 20
    [session] = proxy.sessions()
    assert session["events"] > 10
    pair.replica.wait_until(lambda: measured("events_total") >= session["events"], what="the count of events")
    # MariaDB notes some time after a rotation that its former file is not needed any more.
    last = {EventType.XID, EventType.HEARTBEAT, EventType.HEARTBEAT_V2, EventType.MARIADB_BINLOG_CHECKPOINT}
    assert EventType[session["last_event_type"]] in last
    assert measured("last_event_type") in last
    assert datetime.now(UTC) - datetime.fromisoformat(session["last_active"]) < timedelta(seconds=20)


@modern
def test_a_session_shows_where_its_replica_stands(pair: Pair, pki: Pki, source_side: StartProxy) -> None:
    tcp = f"127.0.0.1:{pair.source.port}"
    proxy = source_side(source=tcp, source_tls=pki.source_tls())
    table = pair.table()
    with replicating(pair.replica, proxy.port, user="repl", tls=pki.authority.replica_tls(pki.replica)):
        pair.replica.wait_for_replication()
        table.insert(700)
        pair.source.sql("FLUSH BINARY LOGS")
        table.insert(5)
        table.assert_same_on(pair.replica)
        session = wait_for_place(proxy, "test", pair.source)
        assert datetime.now(UTC) - datetime.fromisoformat(session["last_event"]) < timedelta(seconds=20)
        assert datetime.fromisoformat(session["replica_certificate_not_after"]) == pki.replica.not_after
        assert datetime.fromisoformat(session["source_certificate_not_after"]) == pki.source.not_after
        assert session["replica_tls_version"] == session["source_tls_version"] == "TLSv1.3"
        assert (session["account"], session["server_id"], session["identity"]) == ("repl", 2, "replica-1.example")
        assert session["bytes_to_replica"] > 70_000
        assert complaints(proxy.get("/metrics")) == []

        # The metric follows some times a second, and may still be at an event of the second before.
        former = moved_to(proxy, datetime.fromisoformat(session["last_event"]).timestamp())
        [shown] = proxy.sessions()
        assert former <= datetime.fromisoformat(shown["last_event"]).timestamp()
        # Events carry whole seconds of the source's clock.
        while time.time() < former + 1.1:
            time.sleep(0.02)
        table.insert(1)
        table.assert_same_on(pair.replica)
        moved_to(proxy, former + 1)
        assert_stream_is_measured(proxy, pair)

        listed = subprocess.run(
            [BIN / "binlock-proxy", "sessions", "--json", "--config", proxy.config],
            capture_output=True, text=True, timeout=30, check=True,
        )  # fmt: skip
        assert [one["session"] for one in json.loads(listed.stdout)] == [session["session"]]
    ended = proxy.wait_for_end(session["session"])
    assert ended["binlog_position"] > session["binlog_position"]


@modern
def test_who_ended_a_session_is_told_apart(pair: Pair, pki: Pki, source_side: StartProxy) -> None:
    proxy = source_side()
    with replicating(pair.replica, proxy.port, user="repl", tls=pki.authority.replica_tls(pki.replica)):
        pair.replica.wait_for_replication()
        first = proxy.stream_of("replica-1.example")["session"]
        # One that shuts down may say so in the stream, and then the replica is the first to hang up.
        pair.source.kill()
        pair.source.start()
        ended = proxy.wait_for_end(first)
        assert (ended["reason"], ended["detail"]) == ("closed", "the source closed the connection")
        pair.replica.wait_for_replication()
        second = proxy.stream_of("replica-1.example")["session"]
        pair.replica.stop_replication()
        assert proxy.wait_for_end(second)["reason"] == "disconnected"


def moved_to(proxy: Proxy, least: float) -> float:
    deadline = time.monotonic() + WAIT_SECONDS
    while (value := proxy.metric(LAST_EVENT, replica="replica-1.example")) < least:
        assert time.monotonic() < deadline, f"{LAST_EVENT} stays at {value}"
        time.sleep(0.02)
    return value


def documented() -> dict[str, set[str]]:
    """The fields of docs/sessions.md, with the places that each is said to be found in."""
    rows = re.findall(r"^\| `(\w+)` \|.*\|.*\| ([^|]+) \|$", DOCUMENT.read_text(), re.MULTILINE)
    return {name: set(PLACES if places == "everywhere" else re.findall(r"`([/\w]+)`", places)) for name, places in rows}


def test_the_document_has_every_field_and_where_it_is_found(pair: Pair, pki: Pki, source_side: StartProxy) -> None:
    fields = documented()
    tcp = f"127.0.0.1:{pair.source.port}"
    roster = [{"identity": "replica-1.example", "accounts": ["another"], "server_ids": [2]}]
    proxy = source_side(source=tcp, source_tls=pki.source_tls(), replicas=roster, more={"enforce": False})
    table = pair.table()
    tls = pki.authority.replica_tls(pki.replica)
    with replicating(pair.replica, proxy.port, user="repl", tls=tls, compression="zlib"):
        table.insert(5)
        table.assert_same_on(pair.replica)
        pair.replica.wait_until(
            lambda: "last_active" in proxy.stream_of("replica-1.example"), what="a look at the stream"
        )
        shown = proxy.stream_of("replica-1.example")
        proxy.change(more={"enforce": True})
        proxy.wait_for_refusal("account_not_allowed")
    lines = {place: [shown] if place == "/sessions" else proxy.events(place) for place in PLACES}
    for place, found in lines.items():
        seen = set().union(*found) - {"time", "level", "event"}
        expected = {name for name, places in fields.items() if place in places}
        assert seen, place
        assert seen <= expected, place
        if place in {"/sessions", "session_ended"}:
            # What a load balancer says is shown behind one only.
            assert seen == expected - {"via"}, place
