"""Where an answer of Binlock's own may stand: behind the answers to all commands before."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.protocol.turns import Turns
from wire.commands import Command
from wire.errors import UnexpectedPacket
from wire.framing import encode_packet

OK = bytes(7)
ERR = b"\xff\x48\x04#HY000No tables used"
RESULT = [b"\x01", b"\x03def\x00\x00\x00\x01a", b"\x011", b"\x012", b"\xfe\x00\x00\x02\x00"]


def is_answered(turns: Turns, *, is_quiet: bool = True) -> bool:
    try:
        turns.require_answered(is_quiet=is_quiet)
    except UnexpectedPacket:
        return False
    return True


def asked(command: Command = Command.COM_QUERY) -> Turns:
    turns = Turns()
    turns.asked(command)
    return turns


def encoded(*payloads: bytes) -> bytes:
    return b"".join(encode_packet(payload, number) for number, payload in enumerate(payloads, start=1))


def test_before_the_first_command_it_is_the_replicas_turn() -> None:
    assert is_answered(Turns())
    assert not is_answered(Turns(), is_quiet=False)


@pytest.mark.parametrize("answer", [[OK], [ERR], RESULT, [b"\xfe\x00\x00\x02\x00"]])
def test_an_answer_has_to_be_there_to_its_end(answer: list[bytes]) -> None:
    data = encoded(*answer)
    ends = {len(encoded(*answer[:count])) for count in range(1, len(answer)) if answer[count - 1][0] in {0, 0xFE, 0xFF}}
    for cut in range(len(data) + 1):
        turns = asked()
        turns.watch(memoryview(data[:cut]))
        assert is_answered(turns) == (cut in ends or cut == len(data)), cut
        assert not is_answered(turns, is_quiet=False)


@given(st.lists(st.integers(0, 300), max_size=6), st.data())
def test_however_the_pieces_are_cut(sizes: list[int], data: st.DataObject) -> None:
    whole = encoded(*[b"x" * size for size in sizes], OK)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=8)))
    turns = asked()
    for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True):
        assert bytes(turns.watch(memoryview(whole[start:end]))) == whole[start:end]
    assert is_answered(turns)
    assert turns.first_byte == (0 if not sizes or not sizes[0] else ord("x"))


def test_an_answer_of_sixteen_mebibytes_ends_with_its_last_fragment() -> None:
    whole = encoded(b"\x00" * 0xFFFFFF)
    turns = asked()
    turns.watch(memoryview(whole[: 4 + 0xFFFFFF]))
    assert not is_answered(turns)
    turns.watch(memoryview(whole[4 + 0xFFFFFF :]))
    assert is_answered(turns)


def test_one_packet_is_the_answer_to_what_is_no_query() -> None:
    turns = asked(Command.COM_STATISTICS)
    turns.watch(memoryview(encoded(b"Uptime: 1")))
    assert is_answered(turns)


def test_who_asks_again_before_the_answer_is_never_certain_again() -> None:
    turns = asked()
    turns.asked(Command.COM_QUERY)
    turns.watch(memoryview(encoded(OK) + encoded(OK)))
    assert not is_answered(turns)


@pytest.mark.parametrize("command", [Command.COM_STMT_CLOSE, Command.COM_STMT_SEND_LONG_DATA, Command.COM_QUIT])
def test_some_commands_have_no_answer_to_wait_for(command: Command) -> None:
    turns = asked()
    turns.watch(memoryview(encoded(OK)))
    turns.asked(command)
    turns.asked(Command.COM_QUERY)
    turns.watch(memoryview(encoded(OK)))
    assert is_answered(turns)


def test_each_command_has_an_answer_of_its_own() -> None:
    turns = asked()
    turns.watch(memoryview(encoded(ERR)))
    assert first_byte(turns) == 0xFF
    turns.asked(Command.COM_QUERY)
    assert first_byte(turns) is None
    assert not is_answered(turns)


def first_byte(turns: Turns) -> int | None:
    return turns.first_byte
