"""One flow, one verdict: from the beginning, from the middle, from one side, through holes."""

from __future__ import annotations

import random
import ssl
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.monitor.detection.shaking import Certificate, Handshake
from tests.monitor.detection.watching import Watch
from tests.monitor.segmenting import CLIENT, SERVER, Said, packet
from tests.monitor.talk import (
    CAPABILITIES,
    CLIENT_QUERIES,
    GREETING,
    OK,
    OPEN_QUERIES,
    SETUP_QUERIES,
    acknowledgement,
    client,
    column,
    dump,
    dump_gtid,
    event,
    logged_in,
    login,
    query,
    register,
    replication,
    result,
    ssl_request,
    stream,
)
from wire.binlog import EventType
from wire.capabilities import Capability
from wire.compression import encode_stored_frames
from wire.results import ErrPacket

PROOFS: dict[str, tuple[str, bytes]] = {
    "set-up query": (CLIENT, query(SETUP_QUERIES[1])),
    "COM_REGISTER_SLAVE": (CLIENT, register()),
    "COM_BINLOG_DUMP": (CLIENT, dump()),
    "COM_BINLOG_DUMP_GTID": (CLIENT, dump_gtid()),
    "acknowledgement": (CLIENT, acknowledgement()),
    "events": (SERVER, stream(event(), event(position=2000))),
    "one event": (SERVER, stream(event(), first_id=77)),
    "events without checksums": (SERVER, stream(event(with_checksum=False), event(with_checksum=False))),
    "semi-synchronous events": (SERVER, stream(event(), event(), semi_sync=True)),
    "heartbeat": (SERVER, stream(event(EventType.HEARTBEAT, b"binlog.000001", timestamp=0), first_id=9)),
}


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return Certificate(tmp_path_factory.mktemp("certificate"), with_rsa=True)


def deflated(data: bytes, sequence_id: int = 0) -> bytes:
    body = zlib.compress(data)
    return len(body).to_bytes(3, "little") + bytes([sequence_id]) + len(data).to_bytes(3, "little") + body


@pytest.mark.parametrize("piece_bytes", [1, 7, 1 << 20])
def test_a_replica_is_known_from_its_beginning(piece_bytes: int) -> None:
    watch = Watch().take(replication(), piece_bytes=piece_bytes)
    assert watch.verdicts == ["undecided", "plaintext-replication"]
    expected = {"a replica's login", "COM_REGISTER_SLAVE", "COM_BINLOG_DUMP", "the event stream"}
    assert expected <= set(watch.flow.evidence)


@pytest.mark.parametrize("piece_bytes", [1, 7, 1 << 20])
def test_a_client_is_known_from_its_beginning(piece_bytes: int) -> None:
    assert Watch().take(client(), piece_bytes=piece_bytes).verdicts == ["undecided", "plaintext-client"]


@pytest.mark.parametrize("proof", PROOFS.values(), ids=PROOFS)
@pytest.mark.parametrize("before", [b"", b"\x05", bytes(4), b"SELECT half a query", b"\x17\x03\x03"], ids=repr)
@pytest.mark.parametrize("piece_bytes", [1, 1 << 20])
@pytest.mark.parametrize("knows_sides", [True, False])
def test_each_proof_alone_is_enough_in_the_middle(
    proof: Said, before: bytes, piece_bytes: int, knows_sides: bool
) -> None:
    side, data = proof
    watch = Watch(is_start=False, knows_sides=knows_sides).take([(side, before + data)], piece_bytes=piece_bytes)
    assert watch.verdict == "plaintext-replication"
    assert watch.inspector.client_direction == 0


@pytest.mark.parametrize("algorithm", ["stored", "zlib"])
@pytest.mark.parametrize("name", PROOFS)
def test_each_proof_alone_is_enough_in_a_compressed_session(name: str, algorithm: str) -> None:
    side, data = PROOFS[name]
    framed = deflated(data) if algorithm == "zlib" else encode_stored_frames(data, 0)
    said = [*logged_in(CAPABILITIES | Capability.CLIENT_COMPRESS), (side, framed)]
    watch = Watch().take(said, piece_bytes=5)
    assert (watch.verdict, watch.flow.is_compressed) == ("plaintext-replication", True)
    assert Watch(is_start=False).take([(side, b"\x01\x02" + framed)]).verdict == "plaintext-replication"


@pytest.mark.parametrize("count", range(1, len(OPEN_QUERIES)))
def test_what_others_ask_too_decides_nothing(count: int) -> None:
    said = logged_in()
    for text in OPEN_QUERIES[:count]:
        said += [(CLIENT, query(text)), (SERVER, result())]
    assert Watch().take(said).verdict == "undecided"


def test_a_client_that_becomes_a_replica_is_one() -> None:
    said = [*client()[:-1], (CLIENT, dump()), (SERVER, stream(event()))]
    assert Watch().take(said).verdicts == ["undecided", "plaintext-client", "plaintext-replication"]


def test_a_login_a_hole_and_events_are_replication() -> None:
    watch = Watch().take(logged_in()).lose(CLIENT, 300).lose(SERVER, 500)
    assert watch.take([(SERVER, stream(event(), event()))]).verdicts == ["undecided", "plaintext-replication"]
    assert watch.flow.is_incomplete


def test_a_hole_in_the_login_does_not_hide_that_the_session_is_compressed() -> None:
    whole = packet(login(CAPABILITIES | Capability.CLIENT_COMPRESS), 1)
    watch = Watch().take([(SERVER, GREETING), (CLIENT, whole[:48])]).lose(CLIENT, len(whole) - 48)
    assert watch.take([(CLIENT, encode_stored_frames(query(SETUP_QUERIES[1]), 0))]).verdict == "plaintext-replication"


def test_results_in_stored_frames_and_then_events_in_compressed_ones_are_read_in_the_middle() -> None:
    frames = encode_stored_frames(result(), 1) + deflated(stream(event()), 1)
    assert Watch(is_start=False).take([(SERVER, b"\x01\x02" + frames)]).verdict == "plaintext-replication"


def test_a_login_alone_is_undecided_and_whole_with_its_end_a_clients() -> None:
    assert Watch().take(logged_in()).end().verdict == "undecided"
    assert Watch().take([*logged_in(), (CLIENT, packet(b"\x01"))]).end().verdict == "plaintext-client"
    asked = [*logged_in(), (CLIENT, query(OPEN_QUERIES[0])), (CLIENT, packet(b"\x01"))]
    assert Watch().take(asked).end().verdict == "undecided"


def test_a_greeting_alone_and_a_refusal_are_undecided() -> None:
    assert Watch().take([(SERVER, GREETING)]).end().verdict == "undecided"
    refusal = packet(ErrPacket(1130, None, b"not allowed").serialize(with_sqlstate=False))
    assert Watch().take([(SERVER, refusal)]).end().verdict == "undecided"


@pytest.mark.parametrize("said", [[(CLIENT, b"GET / HTTP/1.1\r\n\r\n")], [(SERVER, b"SSH-2.0-x\r\n")]], ids=repr)
def test_another_beginning_is_not_mysql(said: list[Said]) -> None:
    assert Watch().take(said).verdict == "not-mysql"
    assert Watch(is_start=False).take(said).verdict == "undecided"


def test_a_request_for_tls_alone_is_not_tls() -> None:
    assert Watch().take([(SERVER, GREETING), (CLIENT, ssl_request())]).verdict == "undecided"


def test_a_request_for_tls_that_is_not_meant_is_in_the_clear() -> None:
    said = [(SERVER, GREETING), (CLIENT, ssl_request()), (CLIENT, packet(login(), 2)), (SERVER, packet(OK, 3))]
    watch = Watch().take([*said, (CLIENT, register()), (CLIENT, dump()), (SERVER, stream(event()))])
    assert watch.verdict == "plaintext-replication"
    assert "a login in the clear behind a request for TLS" in watch.flow.evidence


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=lambda one: one.name)
def test_a_handshake_that_carries_on_in_the_clear_is_in_the_clear(
    certificate: Certificate, version: ssl.TLSVersion
) -> None:
    handshake = Handshake(certificate, version)
    before = [(SERVER, GREETING), (CLIENT, ssl_request()), *handshake.said]
    watch = Watch().take([*before, (CLIENT, packet(login(), 2)), (SERVER, packet(OK, 3)), (CLIENT, dump())])
    assert watch.take([(SERVER, stream(event(), event()))]).verdict == "plaintext-replication"
    assert "TLS records break off" in watch.flow.evidence


def test_records_that_encrypt_nothing_are_read(certificate: Certificate) -> None:
    handshake = Handshake(certificate, ssl.TLSVersion.TLSv1_2, ciphers="NULL-SHA256:@SECLEVEL=0")
    for side, data in replication()[1:]:
        handshake.say(side, data)
    said = [(SERVER, GREETING), (CLIENT, ssl_request()), *handshake.said]
    assert Watch().take(said, piece_bytes=100).verdict == "plaintext-replication"


def test_records_that_encrypt_nothing_are_read_where_no_handshake_tells(certificate: Certificate) -> None:
    handshake = Handshake(certificate, ssl.TLSVersion.TLSv1_2, ciphers="NULL-SHA256:@SECLEVEL=0")
    shaken = len(handshake.said)
    for number in range(5):
        handshake.say(SERVER, stream(event(with_checksum=False), first_id=number))
    records = b"".join(data for _, data in handshake.said[shaken:])
    watch = Watch(is_start=False).take([(SERVER, records)])
    assert watch.verdict == "plaintext-replication"
    assert "TLS records that encrypt nothing" in watch.flow.evidence


def test_tls_that_ends_in_the_clear_is_no_longer_tls(certificate: Certificate) -> None:
    handshake = Handshake(certificate, ssl.TLSVersion.TLSv1_3)
    watch = Watch().take([(SERVER, GREETING), (CLIENT, ssl_request()), *handshake.said])
    assert watch.verdict == "tls"
    # What MariaDB says where a client breaks the handshake off.
    refusal = packet(ErrPacket(1043, b"08S01", b"Bad handshake").serialize(with_sqlstate=True), 2)
    assert watch.take([(SERVER, refusal)]).verdict == "undecided"


def test_a_stranger_at_a_source_is_undecided() -> None:
    watch = Watch().take([(SERVER, GREETING), (CLIENT, b"GET / HTTP/1.1\r\n\r\n")]).end()
    assert watch.verdict == "undecided"
    assert "the client begins with HTTP" in watch.flow.evidence


def test_a_stored_frame_and_then_a_compressed_one_are_read_in_the_middle() -> None:
    frames = encode_stored_frames(query("SELECT VERSION()"), 0) + deflated(query(SETUP_QUERIES[1]))
    assert Watch(is_start=False).take([(CLIENT, frames)]).verdict == "plaintext-replication"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=lambda one: one.name)
@pytest.mark.parametrize("side", [CLIENT, SERVER])
def test_tls_in_the_middle_and_from_one_side_is_tls(
    certificate: Certificate, version: ssl.TLSVersion, side: str
) -> None:
    handshake = Handshake(certificate, version)
    shaken = len(handshake.said)
    for number in range(5):
        handshake.say(side, bytes(100 + number))
    said = [one for one in handshake.said[shaken:] if one[0] == side]
    for skipped in range(len(said[0][1])):
        cut = [(side, said[0][1][skipped:]), *said[1:]]
        assert Watch(is_start=False).take(cut).verdict == "tls", skipped
    assert Watch(is_start=False).take(said[:1]).verdict == "tls"
    assert Watch(is_start=False).take([(side, said[0][1][:-1])]).verdict == "undecided"


def test_a_schema_of_the_system_is_nobodys() -> None:
    of_system = result(b"performance_schema", b"session_variables", b"Value")
    assert Watch(is_start=False).take([(SERVER, b"\x01\x02" + of_system)]).verdict == "undecided"
    assert Watch(is_start=False).take([(SERVER, b"\x01\x02" + result(b"shop", b"t"))]).verdict == "plaintext-client"
    assert len(column(b"shop", b"t", b"c")) > 20


def test_a_load_balancers_header_comes_before_a_login() -> None:
    headers = (b"PROXY TCP4 192.0.2.7 192.0.2.2 1 2\r\n", b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c" + bytes(12))
    for header in headers:
        said = [(CLIENT, header), *replication()]
        assert Watch().take(said, piece_bytes=3).verdict == "plaintext-replication"


ALLOWED = {
    "replication": (replication(), {"undecided", "plaintext-replication"}),
    "client": (client(), {"undecided", "plaintext-client"}),
}


def test_what_was_put_off_is_searched_when_a_hole_follows() -> None:
    records = [b"\x17\x03\x03" + size.to_bytes(2) + random.Random(size).randbytes(size) for size in (6470, 40, 41)]  # noqa: S311
    watch = Watch(is_start=False).take([(SERVER, b"\x9c" + records[0]), (SERVER, records[1] + records[2])])
    assert watch.verdict == "undecided"
    assert watch.lose(SERVER, 100).verdict == "tls"


@pytest.mark.parametrize("name", ALLOWED)
@given(seed=st.integers(0, 1 << 32), loss=st.sampled_from([0.02, 0.2, 0.6]), is_start=st.booleans())
def test_a_verdict_never_turns_false_however_it_is_torn_and_lost(
    name: str, seed: int, loss: float, is_start: bool
) -> None:
    said, allowed = ALLOWED[name]
    chance = random.Random(seed)  # noqa: S311 - no secret
    watch = Watch(is_start=is_start)
    for side, data in said if is_start else said[chance.randrange(len(said)) :]:
        start = 0
        while start < len(data):
            size = chance.choice((1, 5, 30, 1000))
            piece = data[start : start + size]
            if chance.random() < loss:
                watch.lose(side, len(piece))
            else:
                watch.take([(side, piece)])
            start += size
    watch.end()
    assert {*watch.verdicts, watch.verdict} <= allowed


# The ids of a long stream begin anew behind 255, and are then those of answers.
LONG_STREAM = [(SERVER, stream(*(event(position=1000 * number) for number in range(1, 9)), first_id=253))]


@pytest.mark.parametrize(
    ("name", "is_start"),
    [("replication", True), ("replication", False), ("client", True), ("client", False), ("", False)],
)
@pytest.mark.parametrize("knows_sides", [True, False])
def test_a_hole_may_begin_at_any_byte(name: str, is_start: bool, knows_sides: bool) -> None:
    said, allowed = ALLOWED[name] if name else (LONG_STREAM, ALLOWED["replication"][1])
    for turn, (side, data) in enumerate(said):
        before = said[:turn] if is_start else said[max(0, turn - 1) : turn]
        # One that is seen from its middle begins at a packet, or within one.
        for begin in (0, 1) if not is_start and not before else (0,):
            for offset in range(begin, len(data)):
                rest = len(data) - offset
                for size in {min(3, rest), min(40, rest), rest}:
                    watch = Watch(is_start=is_start, knows_sides=knows_sides)
                    watch.take(before).take([(side, data[begin:offset])]).lose(side, size)
                    watch.take([(side, data[offset + size :]), *said[turn + 1 :]]).end()
                    assert {*watch.verdicts, watch.verdict} <= allowed, (turn, begin, offset, size)


@given(st.lists(st.tuples(st.sampled_from([CLIENT, SERVER]), st.binary(max_size=300)), max_size=12), st.booleans())
def test_any_bytes_are_watched_and_are_nothing_in_the_clear(said: list[Said], is_start: bool) -> None:
    watch = Watch(is_start=is_start).take(said).end()
    assert watch.verdict in {"undecided", "not-mysql"}


@pytest.mark.parametrize("text", CLIENT_QUERIES)
def test_sql_is_in_no_evidence(text: str) -> None:
    watch = Watch().take([*logged_in(), (CLIENT, query(text))])
    assert watch.verdict == "plaintext-client"
    assert not any("secret" in line for line in watch.flow.evidence)
