"""Tests that run in a network namespace of their own, as root of it."""

import functools
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from testbed.fetch import bundle

ROOT = Path(__file__).parent.parent.parent
INSIDE = "BINLOCK_TEST_INSIDE"
TIMEOUT_SECONDS = 120


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


def add_pair(*, up: bool = True) -> None:
    """Makes `near` and `far`, the ends of one cable, on which nothing is sent but by the test."""
    ip("link", "add", "near", "type", "veth", "peer", "name", "far")
    for end in ("near", "far"):
        ip("link", "set", end, "addrgenmode", "none")
        if up:
            ip("link", "set", end, "up")
