"""Listening sockets that the service manager has opened and hands over: sd_listen_fds(3).

They stay open while the service is restarted, so that whoever connects meanwhile waits and is not refused, and
they may have ports that the service itself may not open.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, MutableMapping

from supervision.notifier import SupervisionError

# SD_LISTEN_FDS_START of sd-daemon.h
_FIRST_DESCRIPTOR = 3
_VARIABLES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")


def handed_over_sockets(environment: MutableMapping[str, str]) -> dict[str, socket.socket]:
    """The sockets that were handed over to this process, by the names that FileDescriptorName= gives them.

    The variables are taken out: they are for this process alone.

    Raises:
        SupervisionError: the variables make no sense, one name is given twice, or what was handed over is not a
            listening stream socket.
    """
    process, count, names = (environment.pop(name, "") for name in _VARIABLES)
    if not count or process != str(os.getpid()):
        # Somebody else's, who left them to us without meaning to.
        return {}
    if not (count.isascii() and count.isdigit()):
        raise SupervisionError(f"LISTEN_FDS is {count!r}, which is no number of descriptors")
    found: dict[str, socket.socket] = {}
    for descriptor, name in zip(
        range(_FIRST_DESCRIPTOR, _FIRST_DESCRIPTOR + int(count)), _names(names, int(count)), strict=True
    ):
        if name in found:
            raise SupervisionError(
                f"the service manager hands over two sockets named {name!r}: a socket unit needs a "
                "FileDescriptorName= of its own, and one ListenStream="
            )
        found[name] = _listening(descriptor, name)
    return found


def _names(text: str, count: int) -> Iterator[str]:
    names = text.split(":") if text else ["unknown"] * count
    if len(names) != count:
        raise SupervisionError(f"LISTEN_FDNAMES has {len(names)} names for {count} descriptors")
    return iter(names)


def _listening(descriptor: int, name: str) -> socket.socket:
    os.set_inheritable(descriptor, False)
    try:
        found = socket.socket(fileno=descriptor)
    except OSError as error:
        raise SupervisionError(f"what the service manager hands over as {name!r} is no socket: {error}") from error
    if found.type != socket.SOCK_STREAM or not found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        raise SupervisionError(
            f"the socket that the service manager hands over as {name!r} does not listen for streams: its unit needs "
            "ListenStream= and Accept=no"
        )
    found.setblocking(False)
    return found


def require_address(handed_over: socket.socket, name: str, host: str, port: int) -> None:
    """That a socket listens where the configuration says that it does; port 0 stands for any.

    Raises:
        SupervisionError: it listens elsewhere.
    """
    bound = handed_over.getsockname()
    wanted = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    for family, _, _, _, address in wanted:
        if family == handed_over.family and address[0] == bound[0] and port in {0, bound[1]}:
            return
    raise _elsewhere(handed_over, name, _tcp_text(host, port))


def require_path(handed_over: socket.socket, name: str, path: str) -> None:
    """That a unix socket has the path that the configuration gives it.

    Raises:
        SupervisionError: it has another, or is none.
    """
    if handed_over.family != socket.AF_UNIX or handed_over.getsockname() != path:
        raise _elsewhere(handed_over, name, f"unix:{path}")


def address_text(listening: socket.socket) -> str:
    """Where a socket listens, as configurations write it."""
    bound = listening.getsockname()
    return f"unix:{bound}" if listening.family == socket.AF_UNIX else _tcp_text(*bound[:2])


def _tcp_text(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _elsewhere(handed_over: socket.socket, name: str, wanted: str) -> SupervisionError:
    return SupervisionError(
        f"the socket that the service manager hands over as {name!r} listens on {address_text(handed_over)}, not on "
        f"{wanted}: ListenStream= and the configuration must be the same"
    )
