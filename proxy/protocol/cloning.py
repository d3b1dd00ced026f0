"""The clone plugin's conversation: its requests pass, and nothing else does.

After COM_CLONE and the source's OK a packet of the recipient begins with a request of the plugin's own (`Command_RPC`
in MySQL `plugin/clone/include/clone.h`), which are the bytes of ordinary commands: COM_REINIT is COM_QUERY's. The
source goes back to ordinary commands after COM_EXIT, and after an error of its own without being asked. So what could
be a query may only come first, when the source is in the conversation for certain; the others are harmless as
commands, too.
"""

from __future__ import annotations

from enum import IntEnum

from wire.errors import UnexpectedPacket
from wire.results import OK_HEADER


class _Request(IntEnum):
    COM_INIT = 1
    COM_ATTACH = 2
    COM_REINIT = 3
    COM_EXECUTE = 4
    COM_ACK = 5
    COM_EXIT = 6


# The recipient's second connection is for acknowledgements alone.
_FIRST = frozenset({_Request.COM_INIT, _Request.COM_ATTACH, _Request.COM_REINIT, _Request.COM_ACK, _Request.COM_EXIT})
_LATER = frozenset({_Request.COM_EXECUTE, _Request.COM_ACK, _Request.COM_EXIT})
_WITHOUT_BODY = frozenset({_Request.COM_EXECUTE, _Request.COM_EXIT})


class CloneConversation:
    """Where one connection stands in it."""

    def __init__(self) -> None:
        self._awaited: frozenset[_Request] = frozenset()

    def begin(self) -> None:
        """COM_CLONE has been sent to the source."""
        self._awaited = _FIRST

    def takes(self, payload: bytes, answer: int | None) -> bool:
        """Whether a packet of the recipient belongs to the conversation; if not, it is an ordinary command.

        Args:
            payload: the packet's.
            answer: with which byte the source's answer to the command before begins; None if there is none yet.

        Raises:
            UnexpectedPacket: it is none of the requests that may come now.
        """
        if self._awaited is _FIRST and answer != OK_HEADER:
            if answer is None:
                raise UnexpectedPacket("a packet before the source has answered COM_CLONE")
            self._awaited = frozenset()
        if not self._awaited:
            return False
        request = payload[0] if payload else 0
        if request not in self._awaited or (request in _WITHOUT_BODY and len(payload) > 1):
            raise UnexpectedPacket(f"waiting for a request of the clone plugin, and 0x{request:02X} begins none")
        self._awaited = frozenset() if request == _Request.COM_EXIT else _LATER
        return True
