"""What kubelet does for a pod, done by hand: volumes that are swapped in one step, names, and containers."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from testbed.containers import NET_RAW, container
from testbed.hosts import Host
from testbed.programs import Place, Program, listening_ports
from tests.deploy.definition import Stage

GROUP = 999  # of the pods' volumes, `fsGroup`
_numbers = itertools.count(1)


class ProjectedVolume:
    """A volume as kubelet's atomic writer leaves it: each name leads through `..data`, which one rename exchanges."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()

    def write(self, files: Mapping[str, bytes]) -> None:
        """Exchanges everything that is in it; paths are relative, with folders."""
        data = self.folder / "..data"
        former = data.resolve() if data.exists() else None
        fresh = self.folder / f"..2026_01_01_00_00_00.{next(_numbers)}"
        for name, content in files.items():
            path = fresh / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            path.chmod(0o440)
            if os.geteuid() == 0:
                os.chown(path, 0, GROUP)
        (self.folder / "..data_tmp").symlink_to(fresh.name)
        (self.folder / "..data_tmp").rename(data)
        for name in {Path(name).parts[0] for name in files}:
            if not (self.folder / name).is_symlink():
                (self.folder / name).symlink_to(f"..data/{name}")
        if former is not None:
            shutil.rmtree(former)


class Pod:
    """The container of Binlock in a pod that the chart describes, on a host that is the pod's network."""

    def __init__(
        self,
        described: dict[str, Any],
        stage: Stage,
        root: Path,
        host: Host | Place,
        mounts: Mapping[Path, str],
        log: Path,
    ) -> None:
        self.described = described
        self._stage = stage
        self._root = root
        self._host = host
        self._mounts = mounts
        self.program = Program(self._inside([*stage.entrypoint, *described["args"]]), log=log, host=host)

    def _inside(self, argv: list[str]) -> list[str]:
        security = self.described["securityContext"]
        return container(
            self._root,
            argv,
            environment=self._stage.environment,
            mounts=self._mounts,
            user=security["runAsUser"],
            groups=[GROUP],
            capabilities=[NET_RAW] if security["capabilities"].get("add") == ["NET_RAW"] else [],
        )

    def execute(self, argv: list[str]) -> subprocess.CompletedProcess[str]:
        """As `kubectl exec` does: another program in the same container."""
        return subprocess.run(self._host.command(self._inside(argv)), capture_output=True, text=True, check=False)

    def probe(self, name: str) -> bool:
        """Whether a probe of the container, by its key, succeeds."""
        probe = self.described[name]
        if "exec" in probe:
            return self.execute(probe["exec"]["command"]).returncode == 0
        (port,) = [
            each["containerPort"] for each in self.described["ports"] if each["name"] == probe["tcpSocket"]["port"]
        ]
        return port in listening_ports(self.program.pid)
