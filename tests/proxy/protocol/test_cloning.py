"""The clone plugin's conversation, and what it must not be used for."""

from __future__ import annotations

import pytest

from proxy.protocol.cloning import CloneConversation
from wire.errors import UnexpectedPacket

INIT, ATTACH, REINIT = (bytes([request]) + bytes(8) for request in (1, 2, 3))
EXECUTE, ACK, EXIT = b"\x04", b"\x05" + bytes(12), b"\x06"
OK, ERR = 0x00, 0xFF


def cloning(*requests: bytes) -> CloneConversation:
    clone = CloneConversation()
    clone.begin()
    for request in requests:
        assert clone.takes(request, OK)
    return clone


@pytest.mark.parametrize(
    "requests",
    [[INIT, EXECUTE, EXIT], [REINIT, EXECUTE, EXIT], [ATTACH, EXECUTE, EXIT], [ACK, ACK, EXIT], [EXIT]],
)
def test_a_conversation_is_carried_to_its_end_and_commands_follow(requests: list[bytes]) -> None:
    clone = cloning(*requests)
    assert not clone.takes(b"\x03DROP DATABASE x", OK)


def test_outside_of_a_conversation_everything_is_a_command() -> None:
    for packet in (INIT, REINIT, EXIT, b"", b"\x03SELECT 1"):
        assert not CloneConversation().takes(packet, OK)


@pytest.mark.parametrize("packet", [INIT, REINIT, EXIT, b"\x03DROP DATABASE x", b""])
def test_a_source_that_does_not_clone_hears_commands(packet: bytes) -> None:
    clone = cloning()
    assert not clone.takes(packet, ERR)
    assert not clone.takes(packet, OK)


def test_nothing_may_come_before_the_source_has_said_yes() -> None:
    with pytest.raises(UnexpectedPacket, match="before the source has answered COM_CLONE"):
        cloning().takes(INIT, None)


@pytest.mark.parametrize("packet", [b"", b"\x00", EXECUTE, b"\x07", b"\x11root\x00", b"\x0e", b"\xff", b"\x06x"])
def test_no_other_request_comes_first(packet: bytes) -> None:
    with pytest.raises(UnexpectedPacket, match="a request of the clone plugin"):
        cloning().takes(packet, OK)


@pytest.mark.parametrize(
    "packet", [b"", b"\x03DROP DATABASE x", REINIT, INIT, ATTACH, b"\x04x", b"\x06x", b"\x11root\x00", b"\x17"]
)
def test_after_an_error_of_its_own_a_source_reads_commands_so_no_query_passes_later(packet: bytes) -> None:
    with pytest.raises(UnexpectedPacket, match="a request of the clone plugin"):
        cloning(INIT).takes(packet, ERR)
