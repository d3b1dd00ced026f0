"""The sockets that the endpoint listens on; they are opened before there is a loop, or privileges are given up."""

from __future__ import annotations

import errno
import os
import socket
import stat
from pathlib import Path


def open_tcp_sockets(host: str, port: int) -> list[socket.socket]:
    """Listens on each address that a host has.

    Raises:
        OSError: there is no such host, or an address is taken, or not ours.
    """
    opened: list[socket.socket] = []
    try:
        for family, kind, _, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
            listening = socket.socket(family, kind)
            opened.append(listening)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            listening.bind(address)
            listening.listen()
    except OSError:
        for listening in opened:
            listening.close()
        raise
    return opened


def open_unix_socket(path: Path) -> socket.socket:
    """Listens at a path, for this user and group only. What a process that was killed has left there is replaced.

    Raises:
        OSError: somebody answers there, or a socket cannot be made there.
    """
    _remove_stale_socket(path)
    listening = socket.socket(socket.AF_UNIX)
    mask = os.umask(0o117)
    try:
        listening.bind(str(path))
        listening.listen()
    except OSError:
        listening.close()
        raise
    finally:
        os.umask(mask)
    return listening


def _remove_stale_socket(path: Path) -> None:
    """A socket that somebody answers on stays, and so does a file."""
    if not path.exists() or not stat.S_ISSOCK(path.stat().st_mode):
        return
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise FileExistsError(errno.EADDRINUSE, "already in use by another process", str(path))
