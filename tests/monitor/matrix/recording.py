"""Has every scenario happen once and keeps what passed, until the scenarios or the servers change."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from testbed.capture import PacketCapture
from testbed.fetch import RECIPES, bundle
from testbed.flavours import Flavour
from testbed.folders import locked, private_folder
from testbed.hosts import Host, Network
from tests.integration.lab import Authority
from tests.monitor.matrix.connections import Connection, Truth, read_connections
from tests.monitor.matrix.lookalikes import LOOKALIKES, Parlour
from tests.monitor.matrix.scenarios import scenarios
from tests.monitor.matrix.stand import Stand

# For the last packets, which the kernel hands to the capture after those who sent them have gone on.
SETTLING_SECONDS = 0.1
BUNDLES = ("mysql-9.7", "mariadb-10.11", "mariadb-11.8", "redis", "postgresql")
SOURCES = ("recording.py", "scenarios.py", "lookalikes.py", "stand.py")


def recorded(report: Callable[[str], None] = lambda _line: None) -> list[Connection]:
    """All connections, recorded now unless they have been.

    Args:
        report: is told each scenario.
    """
    folder = private_folder() / "matrix"
    with locked(private_folder() / "matrix.lock"):
        complete = folder / _fingerprint()
        if not complete.exists():
            if folder.exists():
                shutil.rmtree(folder)
            growing = folder / "incomplete"
            growing.mkdir(parents=True)
            _record(growing, report)
            shutil.rmtree(growing / "servers")
            growing.rename(complete)
        manifest = json.loads((complete / "manifest.json").read_text())
        return [
            connection
            for entry in manifest
            for connection in read_connections(
                complete / entry["file"], entry["port"], entry["scenario"], tuple(map(Truth, entry["truths"]))
            )
        ]


def names() -> list[str]:
    """Of all scenarios, in the order of the recordings."""
    return [scenario.name for scenario in scenarios()] + [lookalike.name for lookalike in LOOKALIKES]


def _fingerprint() -> str:
    content = hashlib.sha256()
    for name in SOURCES:
        content.update((Path(__file__).parent / name).read_bytes())
    for name in BUNDLES:
        content.update((bundle(name).fingerprint() + repr(RECIPES[name])).encode())
    return content.hexdigest()[:16]


def _record(folder: Path, report: Callable[[str], None]) -> None:
    manifest: list[dict[str, object]] = []
    with Network() as network:
        host = network.add_host("stage")

        def record(name: str, port: int, truths: tuple[Truth, ...], play: Callable[[], None]) -> None:
            started = time.monotonic()
            file = f"{len(manifest):03}.pcap"
            with PacketCapture(folder / file, host=host) as capture:
                play()
                time.sleep(SETTLING_SECONDS)
            assert not capture.dropped, name
            manifest.append({"scenario": name, "file": file, "port": port, "truths": truths})
            size = (folder / file).stat().st_size
            report(f"{name}: {time.monotonic() - started:.1f} s, {size} bytes")

        _record_servers(folder / "servers", host, record)
        _record_lookalikes(folder / "servers", host, record)
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1))


def _record_servers(folder: Path, host: Host, record: Callable[..., None]) -> None:
    authority = Authority(folder / "authority")
    for flavour in Flavour:
        with Stand(flavour, host, folder / flavour.value, authority) as stand:
            for scenario in scenarios():
                if scenario.flavour is flavour:
                    record(scenario.name, stand.source.port, scenario.truths, lambda: scenario.play(stand))  # noqa: B023


def _record_lookalikes(folder: Path, host: Host, record: Callable[..., None]) -> None:
    parlour = Parlour(host, folder / "lookalikes")
    for lookalike in LOOKALIKES:
        with lookalike.serve(parlour) as (port, play):
            record(lookalike.name, port, (lookalike.truth,), play)
