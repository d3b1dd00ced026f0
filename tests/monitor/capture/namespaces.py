"""Tests that run in a network namespace of their own, as root of it."""

import fcntl
import functools
import os
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from testbed.fetch import bundle

ROOT = Path(__file__).parents[3]
INSIDE = "BINLOCK_TEST_INSIDE"
TIMEOUT_SECONDS = 120
SIOCGIFFLAGS, IFF_RUNNING = 0x8913, 0x40  # linux/sockios.h, linux/if.h


def in_namespace(test: Callable[[], None]) -> Callable[[], None]:
    """Has a test run by another Python in a new network namespace, where nothing but `lo` exists, down."""

    @functools.wraps(test)
    def outside() -> None:
        if INSIDE in os.environ:
            test()
            return
        unshare = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--net"]
        program = f"import {test.__module__} as tests; tests.{test.__name__}()"
        result = subprocess.run(
            [*unshare, "--", sys.executable, "-W", "error", "-c", program],
            env={**os.environ, INSIDE: "1", "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
            check=False,
        )
        assert result.returncode == 0, result.stdout + result.stderr

    return outside


def ip(*words: str) -> None:
    """Runs `ip`."""
    command = [*bundle("iproute2").command("ip"), *words]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def wait_for_link(interface: str) -> None:
    """Waits until the kernel calls an interface running, up to a second after its cable works."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as anything:
        for _ in range(1000):
            request = fcntl.ioctl(anything, SIOCGIFFLAGS, struct.pack("=16sh22x", interface.encode(), 0))
            if struct.unpack("=16sh22x", request)[1] & IFF_RUNNING:
                return
            time.sleep(0.01)
    raise AssertionError(f"{interface} does not run")


def add_pair(*, up: bool = True) -> None:
    """Makes `near` and `far`, the ends of one cable, on which nothing is sent but by the test."""
    ip("link", "add", "near", "type", "veth", "peer", "name", "far")
    for end in ("near", "far"):
        ip("link", "set", end, "addrgenmode", "none")
        if up:
            ip("link", "set", end, "up")
    if up:
        wait_for_link("near")
        wait_for_link("far")
