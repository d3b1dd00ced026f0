"""Tells the service manager how the service is: sd_notify(3), by datagrams to the socket that NOTIFY_SOCKET names."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, MutableMapping

# A manager that does not read is given so long, while nothing else goes on here.
_SEND_SECONDS = 1
_MOST_STATUS_CHARACTERS = 500


class SupervisionError(Exception):
    """What the service manager has set makes no sense; the text says what."""


class Notifier:
    """Says what state the service is in; does nothing without a manager that wants to know.

    What cannot be sent is no reason for the service to fail: it is passed to `complain`.

    Attributes:
        watchdog_seconds: within which the manager wants a sign of life each time; None if it wants none.
    """

    def __init__(
        self,
        address: str | None = None,
        watchdog_seconds: float | None = None,
        complain: Callable[[OSError], None] | None = None,
    ) -> None:
        """Nothing is sent yet.

        Args:
            address: a path, or @ and the name of an abstract socket; None if nobody wants to know.
            watchdog_seconds: see the attribute.
            complain: called with what kept a message from being sent.
        """
        self.watchdog_seconds = watchdog_seconds
        self._address = address
        self._complain = complain
        self._status = ""
        # Opened here, as privileges may be given up later.
        self._socket = None if address is None else socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)

    @classmethod
    def from_environment(
        cls, environment: MutableMapping[str, str], complain: Callable[[OSError], None] | None = None
    ) -> Notifier:
        """What the manager has set; it is taken out, for it is for this process alone.

        Raises:
            SupervisionError: it makes no sense.
        """
        address = environment.pop("NOTIFY_SOCKET", "") or None
        microseconds = environment.pop("WATCHDOG_USEC", "")
        for_process = environment.pop("WATCHDOG_PID", "") or str(os.getpid())
        if address is not None and not address.startswith(("/", "@")):
            raise SupervisionError(f"NOTIFY_SOCKET is {address!r}, which is neither a path nor an abstract socket")
        if microseconds and not (microseconds.isascii() and microseconds.isdigit() and int(microseconds)):
            raise SupervisionError(f"WATCHDOG_USEC is {microseconds!r}, which is no number of microseconds")
        is_watched = bool(microseconds) and for_process == str(os.getpid())
        return cls(address, int(microseconds) / 1e6 if is_watched else None, complain)

    @property
    def is_wanted(self) -> bool:
        """Whether anybody wants to know."""
        return self._socket is not None

    def ready(self, status: str) -> None:
        """It serves: after the start, and after a reload, whether or not that succeeded."""
        self._send("READY=1", status)

    def reloading(self) -> None:
        """A reload begins; `ready` ends it."""
        # Both clocks are CLOCK_MONOTONIC.
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}", "reloading")

    def stopping(self, status: str, within_seconds: float) -> None:
        """The end begins, and may take so long; the manager gives it at least that."""
        self._send(f"STOPPING=1\nEXTEND_TIMEOUT_USEC={int(within_seconds * 1e6)}", status)

    def status(self, status: str) -> None:
        """One line for people; sent if it differs from the last one."""
        if status != self._status:
            self._send("", status)

    def alive(self) -> None:
        """A sign of life."""
        self._send("WATCHDOG=1")

    def close(self) -> None:
        """Says nothing any more."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, state: str, status: str = "") -> None:
        if self._socket is None or self._address is None:
            return
        lines = [state] if state else []
        if status:
            self._status = status
            # A line break would begin another assignment.
            lines.append(f"STATUS={''.join(c if c.isprintable() else ' ' for c in status)[:_MOST_STATUS_CHARACTERS]}")
        address = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        # The next sign of life comes anyway, so that none is waited for.
        self._socket.settimeout(0 if state == "WATCHDOG=1" else _SEND_SECONDS)
        try:
            self._socket.sendto("\n".join(lines).encode(), address)
        except OSError as error:
            if self._complain is not None:
                self._complain(error)
