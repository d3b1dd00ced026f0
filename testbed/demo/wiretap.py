"""A capture of all that crosses the network, looked at while it runs.

It is taken in slices of some seconds: each is looked at when the next one has begun, and of those without a
finding only the last few are kept, so that neither memory nor disk grows with the hours.
"""

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from testbed.capture import PacketCapture
from testbed.demo.findings import Findings, inspect
from testbed.hosts import Network

SLICE_SECONDS = 5
KEPT_SLICES = 24


class Wiretap:
    """Captures on a network's bridge from entry until `stop`, or exit.

    Attributes:
        error: what ended it early; None otherwise.
        kept: the slices on disk with something in them that should not be there.
    """

    def __init__(self, network: Network, folder: Path, needles: Mapping[str, bytes]) -> None:
        """Nothing is captured yet.

        Args:
            network: where.
            folder: for the pcap files.
            needles: what to search for, by name.
        """
        self.error: Exception | None = None
        self.kept: list[Path] = []
        self._network = network
        self._folder = folder
        self._needles = needles
        self._findings = Findings()
        self._clean: list[Path] = []
        self._number = 0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="demo wiretap", daemon=True)
        self._capture: PacketCapture | None = None

    @property
    def findings(self) -> Findings:
        """What was found in the slices that are complete."""
        return self._findings

    def stop(self) -> Findings:
        """Take what has arrived, end, and look at the last slice; a second call does nothing more."""
        self._stopping.set()
        self._thread.join()
        return self._findings

    def __enter__(self) -> Self:
        self._capture = self._next()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _run(self) -> None:
        try:
            while not self._stopping.wait(SLICE_SECONDS):
                # The next begins before this one ends: a packet in both is better than one in neither.
                former, self._capture = self._capture, self._next()
                self._look_at(former)
            self._look_at(self._capture)
        except Exception as error:  # noqa: BLE001 - whoever reads the verdict is told
            self.error = error

    def _next(self) -> PacketCapture:
        self._number += 1
        return self._network.open_capture(self._folder / f"network-{self._number:05}.pcap")

    def _look_at(self, capture: PacketCapture | None) -> None:
        if capture is None:
            return
        path = capture.stop()
        found = inspect(path, self._needles, packets=capture.packets, dropped=capture.dropped)
        self._findings += found
        if not found.is_clean:
            self.kept.append(path)
            return
        self._clean.append(path)
        while len(self._clean) > KEPT_SLICES:
            self._clean.pop(0).unlink(missing_ok=True)
