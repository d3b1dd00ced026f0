"""Binlock's own monitor, `binlock-monitor run`, as the demonstration has it watch; its log is its word."""

import contextlib
import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from testbed.demo.sidecars import PROGRAMS
from testbed.programs import Place, Program, ProgramError

# On the bridge there is no loopback to listen on; the network is the demonstration's own.
LISTEN = "0.0.0.0:9308"
STOP_SECONDS = 20
TLS, PLAINTEXT = "tls", "plaintext-replication"
FOUND = ("flow_found", "flow_changed")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Seen:
    """What a monitor said.

    Attributes:
        verdicts: the last one of each flow, by addresses and ports of client and server.
        dropped: packets that the kernel dropped before it could look at them.
        defects: lines of its log that must not be there.
        exit_status: once it was told to stop.
    """

    verdicts: Mapping[tuple[str, str], str] = dataclasses.field(default_factory=dict)
    dropped: int = 0
    defects: Sequence[str] = ()
    exit_status: int | None = None

    def clients(self, verdict: str) -> set[str]:
        """The addresses of the clients of those flows whose last verdict this is."""
        return {client.rpartition(":")[0] for (client, _), said in self.verdicts.items() if said == verdict}


class Watch:
    """One monitor on one interface. A context manager: watches from entry until `stop`, or exit."""

    def __init__(self, folder: Path, *, place: Place, interface: str, ports: Sequence[int]) -> None:
        """Nothing is started yet.

        Args:
            folder: gets its log.
            place: where the interface is.
            interface: its name.
            ports: those of servers.
        """
        folder.mkdir(parents=True)
        argv = [str(PROGRAMS / "binlock-monitor"), "run", "--interface", interface]
        argv += ["--listen", LISTEN, "--unsafe-listen"]
        for port in ports:
            argv += ["--port", str(port)]
        if os.geteuid() != 0:
            # In a user namespace of one's own there is no other user to become.
            argv += ["--user", ""]
        self._program = Program(argv, log=folder / "monitor.log", host=place)
        self._exit_status: int | None = None

    def seen(self) -> Seen:
        """What it has said so far."""
        verdicts: dict[tuple[str, str], str] = {}
        dropped, defects = 0, []
        for line in self._program.log().splitlines():
            try:
                entry: dict[str, Any] = json.loads(line)
            except ValueError:
                defects.append(line)  # a traceback or a warning: nobody wrote it on purpose
                continue
            if entry["event"] in FOUND:
                verdicts[entry["client"], entry["server"]] = entry["verdict"]
            elif entry["event"] == "packets_dropped":
                dropped += entry["packets"]
            elif "defect" in entry["event"]:
                defects.append(line)
        return Seen(verdicts=verdicts, dropped=dropped, defects=defects, exit_status=self._exit_status)

    def stop(self) -> Seen:
        """Shut it down in order, and what it said until then."""
        with contextlib.suppress(ProgramError):  # killed: the status says so
            self._program.terminate(STOP_SECONDS)
        self._exit_status = self._program.exit_status
        return self.seen()

    def __enter__(self) -> Self:
        self._program.start()
        self._program.wait_for_log('"event": "started"')
        return self

    def __exit__(self, *_: object) -> None:
        self._program.__exit__(None, None, None)
