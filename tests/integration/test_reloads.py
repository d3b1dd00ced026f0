"""A reload is all or nothing: what cannot be used is refused and reported, and everything keeps running."""

from __future__ import annotations

import shutil
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from testbed.servers import free_port
from tests.integration.conftest import MODERN, Pair, Pki
from tests.integration.lab import WAIT_SECONDS, Authority, Leaf, Proxy, replicating

StartProxy = Callable[..., Proxy]
modern = pytest.mark.parametrize("pair", list(MODERN), indirect=True, ids=lambda flavour: flavour.value)


class Files:
    """A route's files in a folder of their own, to be spoilt and mended."""

    def __init__(self, folder: Path, pki: Pki) -> None:
        folder.mkdir()
        self._originals = {
            folder / "proxy.crt": pki.proxy.certificate,
            folder / "proxy.key": pki.proxy.key,
            folder / "ca.crt": pki.authority.ca,
            folder / "ca.crl": pki.authority.crl,
        }
        self.certificate, self.key, self.ca, self.crl = self._originals
        self.taken: socket.socket | None = None
        self.mend()

    @property
    def table(self) -> dict[str, Any]:
        return {"certificate": self.certificate, "key": self.key, "ca": self.ca, "crl": [self.crl]}

    def mend(self) -> None:
        if self.taken is not None:
            self.taken.close()
        for path, original in self._originals.items():
            shutil.copy(original, path)


def take_port(proxy: Proxy, files: Files, *_: object) -> None:
    files.taken = socket.create_server(("127.0.0.1", free_port()))
    proxy.routes[0].listen = f"127.0.0.1:{files.taken.getsockname()[1]}"
    proxy.write_config()


SPOILT: dict[str, tuple[Callable[[Proxy, Files, Pki, Authority], Any], str]] = {
    "a broken key": (lambda _, files, *__: files.key.write_text("no key"), "proxy.key: key: holds no PEM"),
    "a mismatched pair": (
        lambda _, files, pki, __: shutil.copy(pki.replica.key, files.key),
        "proxy.key: key: does not belong to the certificate in",
    ),
    "an empty CA": (lambda _, files, *__: files.ca.write_bytes(b""), "ca.crt: ca: holds no PEM"),
    "a CRL of another issuer": (
        lambda _, files, __, foreign: shutil.copy(foreign.crl, files.crl),
        "ca.crl: crl: not issued by any authority in ca",
    ),
    "an expired CRL": (
        lambda _, files, pki, __: files.crl.write_bytes(pki.authority.lapsed_crl()),
        "ca.crl: crl: was due for renewal at",
    ),
    "a missing file": (lambda _, files, *__: files.crl.unlink(), "ca.crl: crl: cannot be read: No such file"),
    "broken TOML": (lambda proxy, *_: proxy.config.write_text("[[route]\n"), "proxy.toml: not valid TOML"),
    "a key that is not known": (
        lambda proxy, *_: proxy.config.write_text("[limit]\n" + proxy.config.read_text()),
        "unknown key 'limit'; did you mean 'limits'?",
    ),
    "a port that is taken": (take_port, "cannot listen on 127.0.0.1:"),
}


@modern
def test_a_reload_that_cannot_be_is_reported_and_changes_nothing(
    pair: Pair, pki: Pki, foreign: Authority, source_side: StartProxy, tmp_path: Path
) -> None:
    files = Files(tmp_path / "files", pki)
    proxy = source_side(replica_tls=files.table)
    listen = proxy.routes[0].listen
    table = pair.table()
    with replicating(pair.replica, proxy.port, user="repl", tls=pki.authority.replica_tls(pki.replica)):
        pair.replica.wait_for_replication()
        session = proxy.stream_of("replica-1.example")["session"]
        for name, (spoil, reason) in SPOILT.items():
            spoil(proxy, files, pki, foreign)
            event = proxy.reload()
            assert event["event"] == "reload_failed", name
            assert reason in event["detail"], name
            assert proxy.metric("binlock_proxy_config_last_reload_success") == 0
            assert proxy.get("/readyz") == f"ready; the last reload failed: {event['detail']}\n"
            table.insert(3)
            table.assert_same_on(pair.replica)
            assert proxy.stream_of("replica-1.example")["session"] == session, name

            files.mend()
            assert proxy.change(listen=listen)["event"] == "reloaded", name
            assert proxy.metric("binlock_proxy_config_last_reload_success") == 1
            assert proxy.get("/readyz") == "ready\n"
        assert proxy.stream_of("replica-1.example")["session"] == session
        # Who was kept running is still judged, and newcomers are let in.
        pair.replica.stop_replication()
        proxy.wait_for_end(session)
        pair.replica.start_replication()
        pair.replica.wait_for_replication()


def presented(proxy: Proxy) -> float:
    """The end of the certificate that the proxy presents now."""
    return proxy.metric("binlock_proxy_certificate_not_after_timestamp_seconds", role="replica_leg")


def fill(folder: Path, leaf: Leaf, authority: Authority) -> Path:
    folder.mkdir()
    for name, original in (
        ("tls.crt", leaf.certificate), ("tls.key", leaf.key), ("ca.crt", authority.ca), ("ca.crl", authority.crl)
    ):  # fmt: skip
        shutil.copy(original, folder / name)
    return folder


def swap(mount: Path, folder: Path) -> None:
    """As the kubelet does it: `..data` leads to another folder from one moment to the next."""
    fresh = mount / "..data_tmp"
    fresh.symlink_to(folder.name)
    fresh.replace(mount / "..data")


@modern
def test_a_secret_that_kubernetes_swaps_is_noticed_and_the_stream_stays(
    pair: Pair, pki: Pki, foreign: Authority, source_side: StartProxy, tmp_path: Path
) -> None:
    mount = tmp_path / "mount"
    mount.mkdir()
    fill(mount / "..2026_1", pki.proxy, pki.authority)
    swap(mount, mount / "..2026_1")
    for name in ("tls.crt", "tls.key", "ca.crt", "ca.crl"):
        (mount / name).symlink_to(f"..data/{name}")
    files = {"certificate": mount / "tls.crt", "key": mount / "tls.key", "ca": mount / "ca.crt"}
    proxy = source_side(replica_tls={**files, "crl": [mount / "ca.crl"]})
    table = pair.table()
    with replicating(pair.replica, proxy.port, user="repl", tls=pki.authority.replica_tls(pki.replica)):
        pair.replica.wait_for_replication()
        session = proxy.stream_of("replica-1.example")["session"]
        successor = pki.authority.issue_again("proxy", "proxy.example", "--days", "9", "--ip", "127.0.0.1")

        mark = proxy.mark()
        fill(mount / "..2026_2", successor, pki.authority)
        swap(mount, mount / "..2026_2")
        shutil.rmtree(mount / "..2026_1")
        assert proxy.wait_for_event("reloaded", after=mark)["sessions_ended"] == 0
        assert presented(proxy) == successor.not_after.timestamp()
        table.insert(5)
        table.assert_same_on(pair.replica)
        assert proxy.stream_of("replica-1.example")["session"] == session

        mark = proxy.mark()
        fill(mount / "..2026_3", successor, foreign)
        swap(mount, mount / "..2026_3")
        assert proxy.wait_for_event("reloaded", after=mark)["sessions_ended"] == 1
        assert proxy.wait_for_end(session)["reason"] == "untrusted"

        swap(mount, mount / "..2026_2")
        pair.replica.wait_for_replication()
        table.assert_same_on(pair.replica)


def write_slowly(path: Path, content: bytes) -> float:
    """A piece each tenth of a second: longer in all than a file is watched for; the longest that it was left alone."""
    longest, before = 0.0, time.monotonic()
    with path.open("wb") as file:
        for start in range(0, len(content), 64):
            file.write(content[start : start + 64])
            file.flush()
            longest, before = max(longest, time.monotonic() - before), time.monotonic()
            time.sleep(0.1)
    return longest


def test_a_file_that_is_written_slowly_is_read_when_it_is_whole(
    pair: Pair, pki: Pki, source_side: StartProxy, tmp_path: Path
) -> None:
    files = Files(tmp_path / "files", pki)
    proxy = source_side(replica_tls=files.table)
    successor = pki.authority.issue_again("proxy", "proxy.example", "--days", "9", "--ip", "127.0.0.1")
    with replicating(pair.replica, proxy.port, user="repl", tls=pki.authority.replica_tls(pki.replica)):
        pair.replica.wait_for_replication()
        session = proxy.stream_of("replica-1.example")["session"]
        mark = proxy.mark()
        files.key.write_bytes(successor.key.read_bytes())
        longest_pause = write_slowly(files.certificate, successor.certificate.read_bytes())
        first = proxy.wait_for_event("reloaded", "reload_failed", after=mark)
        # Where the writer was kept waiting for so long, it has let go of the file as far as can be seen.
        assert first["event"] == "reloaded" or longest_pause > 0.4
        proxy.wait_for_event("reloaded", after=mark)
        assert presented(proxy) == successor.not_after.timestamp()

        # Left half-written for longer, it is refused; the rest, whenever it comes, is noticed.
        mark = proxy.mark()
        former = pki.proxy.certificate.read_bytes()
        files.certificate.write_bytes(former[: len(former) // 2])
        assert "holds no PEM" in proxy.wait_for_event("reload_failed", after=mark)["detail"]
        shutil.copy(pki.proxy.key, files.key)
        files.certificate.write_bytes(former)
        proxy.wait_for_event("reloaded", after=mark)
        assert presented(proxy) == pki.proxy.not_after.timestamp()
        assert proxy.stream_of("replica-1.example")["session"] == session


def test_files_that_are_renamed_into_place_are_noticed(pki: Pki, source_side: StartProxy, tmp_path: Path) -> None:
    files = Files(tmp_path / "files", pki)
    proxy = source_side(replica_tls=files.table)
    successor = pki.authority.issue_again("proxy", "proxy.example", "--days", "9")
    mark = proxy.mark()
    Leaf(files.certificate, files.key).become(successor)
    proxy.wait_for_event("files_changed", after=mark)
    proxy.wait_for_event("reloaded", after=mark)
    assert presented(proxy) == successor.not_after.timestamp()

    # The configuration itself as well, and a route's new address is opened before the former is closed.
    mark = proxy.mark()
    proxy.routes[0].listen = f"127.0.0.1:{free_port()}"
    proxy.write_config()
    proxy.wait_for_event("reloaded", after=mark)
    host, port = proxy.routes[0].listen.split(":")
    socket.create_connection((host, int(port)), timeout=WAIT_SECONDS).close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, proxy.port), timeout=WAIT_SECONDS)
