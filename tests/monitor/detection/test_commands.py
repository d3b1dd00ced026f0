"""Each thing that only a replica sends is known by itself; nothing else is taken for it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.detection.commands import Proof, judge_command
from monitor.detection.statements import Speaker, speaker_of
from tests.monitor.talk import (
    CLIENT_QUERIES,
    OPEN_QUERIES,
    SETUP_QUERIES,
    acknowledgement,
    dump,
    dump_gtid,
    register,
)

ONLY_REPLICAS = {
    "COM_REGISTER_SLAVE": register()[4:],
    "COM_BINLOG_DUMP": dump()[4:],
    "COM_BINLOG_DUMP_GTID": dump_gtid()[4:],
    "acknowledgement": acknowledgement()[4:],
}


def judged(payload: bytes) -> Proof:
    return judge_command(payload, len(payload)).proof


@pytest.mark.parametrize("text", SETUP_QUERIES)
@pytest.mark.parametrize("prefix", [b"\x03", b"\x03\x00\x01"], ids=["plain", "with query attributes"])
def test_a_query_of_the_set_up_is_a_replicas(text: str, prefix: bytes) -> None:
    judgement = judge_command(prefix + text.encode(), len(prefix) + len(text))
    assert (judgement.proof, judgement.is_strict) == (Proof.REPLICATION, True)


@pytest.mark.parametrize("text", OPEN_QUERIES)
def test_a_query_that_others_ask_too_proves_mysql_alone(text: str) -> None:
    assert judged(b"\x03" + text.encode()) in {Proof.SETUP, Proof.MYSQL}


@pytest.mark.parametrize("text", CLIENT_QUERIES)
def test_a_query_of_no_replica_is_a_clients(text: str) -> None:
    assert judged(b"\x03" + text.encode()) is Proof.CLIENT


@pytest.mark.parametrize("text", [*SETUP_QUERIES, *OPEN_QUERIES])
def test_a_replicas_query_that_is_cut_off_is_never_a_clients(text: str) -> None:
    for length in range(1, len(text)):
        said = speaker_of(text[:length].encode(), is_whole=False)
        assert said is not Speaker.CLIENT, text[:length]


@pytest.mark.parametrize("payload", ONLY_REPLICAS.values(), ids=ONLY_REPLICAS)
def test_what_only_replicas_send_is_known_by_its_form(payload: bytes) -> None:
    judgement = judge_command(payload, len(payload))
    assert (judgement.proof, judgement.is_strict) == (Proof.REPLICATION, True)


@pytest.mark.parametrize("payload", ONLY_REPLICAS.values(), ids=ONLY_REPLICAS)
def test_what_is_cut_off_or_goes_on_is_not(payload: bytes) -> None:
    for length in range(len(payload)):
        head = payload[:length]
        assert judge_command(head, len(payload)).proof is not Proof.CLIENT or head[:1] == payload[:1]
        if payload[0] != 0x12:  # a file's name may be any length
            assert judge_command(head, length).proof is not Proof.REPLICATION
    assert judged(payload + b"\x01\x02") is not Proof.REPLICATION


def test_a_password_of_a_registration_is_not_in_its_evidence() -> None:
    payload = b"\x15\x02\x00\x00\x00\x01h\x01u\x06hidden\x00\x00" + bytes(8)
    judgement = judge_command(payload, len(payload))
    assert judgement.proof is Proof.REPLICATION
    assert "hidden" not in repr(judgement)


def test_a_registration_with_a_rank_is_none() -> None:
    payload = bytearray(register()[4:])
    payload[-8] = 1
    assert judged(bytes(payload)) is Proof.NONE


@pytest.mark.parametrize("code", [0x04, 0x08, 0x11, 0x16, 0x18, 0x20], ids=hex)
def test_other_commands_are_a_clients(code: int) -> None:
    assert judged(bytes([code]) + b"SELECT 2") is Proof.CLIENT


@pytest.mark.parametrize("payload", [b"\x01", b"\x0e", b"\x02shop"], ids=["quit", "ping", "init db"])
def test_commands_that_anybody_sends_prove_mysql_alone(payload: bytes) -> None:
    assert judged(payload) is Proof.MYSQL


@pytest.mark.parametrize("payload", [b"", b"\x00", b"\x01x", b"\x03", b"\x99abc", b"\xff\x15\x04"], ids=repr)
def test_what_is_no_command_proves_nothing(payload: bytes) -> None:
    assert judged(payload) is Proof.NONE


@given(st.binary(max_size=200), st.integers(0, 1 << 24))
def test_any_bytes_are_judged(head: bytes, length: int) -> None:
    judge_command(head, max(length, len(head)))
