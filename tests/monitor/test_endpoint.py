"""The endpoint of a whole `binlock-monitor run`: mutual TLS, lost privileges, a scraper that reads nothing."""

import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from certs.profiles import Role
from monitor.command_line import main
from tests.endpoint.promtool import complaints
from tests.endpoint.scrapers import clogged
from tests.monitor.capture.namespaces import ROOT, in_namespace, ip
from tests.monitor.test_command_line import run_once
from tests.proxy.pki import EXPIRED, Leaf, Pki

PORT = 9308  # in a namespace of its own
GIVE_UP_SECONDS = 60


def other_user() -> str:
    """Whom the monitor can become: nobody else where an ordinary user is root of a user namespace."""
    mapped = Path("/proc/self/uid_map").read_text().split()[2]
    return "nobody" if os.geteuid() == 0 and mapped != "1" else ""


class Running:
    """A monitor that runs, and what it has logged so far."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process

    def event(self, name: str) -> dict[str, Any]:
        assert self.process.stderr is not None
        seen = []
        for line in self.process.stderr:
            seen.append(line)
            event: dict[str, Any] = json.loads(line)
            if event["event"] == name:
                return event
        raise AssertionError(seen)


@contextmanager
def running(*options: str) -> Iterator[Running]:
    command = [sys.executable, "-m", "monitor", "run", "--interface", "lo", "--user", other_user(), *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT) as process:
        watchdog = threading.Timer(GIVE_UP_SECONDS, process.kill)
        watchdog.start()
        try:
            monitor = Running(process)
            monitor.event("started")
            yield monitor
        finally:
            process.kill()
            watchdog.cancel()


def scrape(pki: Pki, leaf: Leaf | None) -> str:
    with urllib.request.urlopen(f"https://127.0.0.1:{PORT}/metrics", context=pki.client(leaf), timeout=60) as response:
        return str(response.read().decode())


def value(metrics: str, name: str) -> float:
    [line] = [line for line in metrics.splitlines() if line.startswith(f"binlock_monitor_{name} ")]
    return float(line.split()[1])


def again_let_in(pki: Pki) -> str:
    """The metrics, once the replica may read them."""
    deadline = time.monotonic() + GIVE_UP_SECONDS
    while True:
        try:
            return scrape(pki, pki.replica)
        except (OSError, http.client.HTTPException):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


@in_namespace
def test_tls_is_read_before_privileges_are_given_up() -> None:
    ip("link", "set", "lo", "up")
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        pki = Pki(folder / "pki")
        key, crl = folder / "m.key", pki.authority.write_crl(pki.crl)
        shutil.copy(pki.source.key_file, key)
        key.chmod(0o600)
        options = [
            "--listen", f"0.0.0.0:{PORT}", "--tls-certificate", str(pki.source.certificate_file), "--tls-key", str(key),
            "--tls-ca", str(pki.authority.file), "--tls-crl", str(crl),
        ]  # fmt: skip
        with running(*options) as monitor:
            metrics = scrape(pki, pki.replica)
            after = pki.source.certificate.not_valid_after_utc.timestamp()
            assert value(metrics, 'certificate_not_after_timestamp_seconds{role="endpoint"}') == after
            assert value(metrics, "endpoint_tls_refusals_total") == 0
            assert complaints(metrics) == []
            for leaf in (pki.revoked_replica, pki.foreign_replica, None):
                with pytest.raises((OSError, http.client.HTTPException)):
                    scrape(pki, leaf)
            # Of several in a second the first is logged; all are counted.
            assert "certificate revoked" in monitor.event("endpoint_refused")["detail"]
            assert value(scrape(pki, pki.replica), "endpoint_tls_refusals_total") == 3
            if other_user():
                # Root's key is out of reach by now; what was read first stays.
                monitor.process.send_signal(signal.SIGHUP)
                failed = monitor.event("tls_reload_failed")
                assert "cannot be read: Permission denied" in failed["detail"]
                scrape(pki, pki.replica)
                for path in (folder, *folder.glob("**/*")):
                    shutil.chown(path, other_user())
            shutil.copy(pki.authority.write_crl(pki.authority.crl(pki.replica)), crl)
            monitor.process.send_signal(signal.SIGHUP)
            monitor.event("tls_reloaded")
            with pytest.raises((OSError, http.client.HTTPException)):
                scrape(pki, pki.replica)
            scrape(pki, pki.unlisted_replica)
            # Nobody sends a signal when a volume is exchanged.
            shutil.copy(pki.authority.write_crl(pki.crl), crl)
            assert "binlock_monitor" in again_let_in(pki)


@in_namespace
def test_a_scraper_that_reads_nothing_keeps_nobody_waiting() -> None:
    ip("link", "set", "lo", "up")
    with running("--listen", f"127.0.0.1:{PORT}"), clogged(("127.0.0.1", PORT), "/metrics"):
        for path in ("/metrics", "/flows", "/readyz"):
            with urllib.request.urlopen(f"http://127.0.0.1:{PORT}{path}", timeout=60) as response:
                assert response.status == http.client.OK
                assert response.read()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--listen", "0.0.0.0:0"], "--listen 0.0.0.0:0 can be reached from other machines"),
        (["--listen", "[::]:0"], "can be reached from other machines"),
        (["--listen", "db1.example:0"], "or say --unsafe-listen"),
        (["--tls-certificate", "x", "--tls-key", "x"], "--tls-certificate, --tls-key and --tls-ca go together"),
        (["--tls-crl", "x"], "and --tls-crl with them"),
        (
            ["--tls-certificate", "/x", "--tls-key", "/x", "--tls-ca", "/x"],
            "/x: certificate: cannot be read",
        ),
    ],
)
def test_what_cannot_be_served_is_told_before_anything_is_opened(
    options: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "--interface", "nosuch0", *options]) == 2
    told = capsys.readouterr().err
    assert told.startswith("binlock-monitor: ")
    assert said in told


def test_an_expired_certificate_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pki = Pki(tmp_path)
    leaf = pki.authority.issue(Role.SOURCE, "m.example", **EXPIRED)
    words = ("--tls-certificate", leaf.certificate_file, "--tls-key", leaf.key_file, "--tls-ca", pki.authority.file)
    assert main(["run", "--interface", "nosuch0", *map(str, words)]) == 2
    assert f"{leaf.certificate_file}: certificate: expired at " in capsys.readouterr().err


def test_an_option_called_unsafe_lets_it_answer_everybody() -> None:
    done = run_once("--interface", "nosuch0", "--listen", "0.0.0.0:0", "--unsafe-listen")
    assert done.returncode == 2
    assert "there is no interface nosuch0" in done.stderr
