"""`python -m testbed.pictures`: the pictures of the status pages in docs/pictures, from real servers.

The demonstration's topology, and beside it what its hosts must not do: a replica and a client in the clear, and
clients that the proxy refuses. Names of the machine that it runs on are replaced before a picture is taken.
"""

import argparse
import contextlib
import io
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page

from testbed.browser import running_browser
from testbed.demo.forward import Forwarder
from testbed.demo.links import PASSWORD
from testbed.demo.load import Load
from testbed.demo.sidecars import PROGRAMS
from testbed.demo.topology import MYSQL_PORT, PROXY_PORT, Topology, running_topology
from testbed.fetch import bundle
from testbed.folders import CHECKOUT
from testbed.hosts import Host
from testbed.programs import Program

MONITOR_PORT = 9308
WIDTH = 1280
COLOURS = 256
# Of load before the pictures, so that there is something to see.
LOAD_SECONDS = 8
LONGEST_WAIT_MS = 30_000
# Where this machine shows: its name, and where it keeps the socket.
RENAME = """
() => {
  document.querySelector("h1 .host").textContent = "db1.example";
  for (const cell of document.querySelectorAll("bdi.code")) {
    if (cell.textContent.startsWith("unix:")) {
      cell.textContent = "unix:/run/mysqld/mysqld.sock";
    }
  }
}
"""


def main() -> int:
    """Take both pictures."""
    parser = argparse.ArgumentParser(prog="python -m testbed.pictures", description=__doc__)
    parser.add_argument("--folder", type=Path, default=CHECKOUT / "docs" / "pictures", help="where the pictures go")
    folder: Path = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="binlock-pictures-")))
        topology = stack.enter_context(running_topology(work, _say))
        stack.enter_context(_monitor(work, topology.source_host)).wait_for_log('"event": "started"')
        stack.enter_context(Load(topology.source, "BINLOCK-PICTURE"))
        for link in topology.links:
            link.start_replication()
        for link in topology.links:
            link.replica.wait_for_replication()
        _refused(topology)
        stack.enter_context(_in_the_clear(topology, work))
        time.sleep(LOAD_SECONDS)
        forwarder = stack.enter_context(Forwarder(topology.source_sidecar.admin_socket))
        with running_browser() as browser:
            _take(browser, f"http://{forwarder.address}/", folder / "status-proxy.png")
        with running_browser(topology.source_host) as browser:
            _take(browser, f"http://127.0.0.1:{MONITOR_PORT}/", folder / "status-monitor.png")
    return 0


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def _monitor(folder: Path, host: Host) -> Program:
    words = ["run", "--interface", "eth0", "--listen", f"127.0.0.1:{MONITOR_PORT}", "--user", ""]
    ports = ["--port", str(MYSQL_PORT), "--port", str(PROXY_PORT)]
    return Program([PROGRAMS / "binlock-monitor", *words, *ports], log=folder / "monitor.log", host=host)


@contextlib.contextmanager
def _in_the_clear(topology: Topology, folder: Path) -> Iterator[None]:
    """One reads the binlog as a replica does, one is a client at rest."""
    source, replica_host = topology.source, topology.links[0].host
    source.sql("SET GLOBAL require_secure_transport = OFF")
    source.sql(f"CREATE USER legacy IDENTIFIED BY '{PASSWORD}'")
    source.sql("GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO legacy")
    file, _ = source.binlog_position()
    plain = [
        f"--host={topology.source_host.address}", f"--port={MYSQL_PORT}", "--user=legacy", f"--password={PASSWORD}",
        "--ssl-mode=DISABLED", "--get-server-public-key",
    ]  # fmt: skip
    programs = bundle("mysql-9.7")
    reader = [
        *programs.command("mysqlbinlog"), "--no-defaults", *plain, "--read-from-remote-server", "--raw",
        "--stop-never", f"--result-file={folder}/", file,
    ]  # fmt: skip
    client = [*programs.command("mysql"), "--no-defaults", *plain, "--execute=SELECT SLEEP(600)"]
    with (
        Program(reader, log=folder / "reader.log", host=replica_host),
        Program(client, log=folder / "client.log", host=topology.links[1].host),
    ):
        yield


def _refused(topology: Topology) -> None:
    """Clients that the proxy turns away: without TLS, without a certificate, and from where nobody may come."""
    direct, elsewhere = topology.links[0].host, topology.links[1].host
    wants = ((direct, "DISABLED", 3), (direct, "REQUIRED", 2), (elsewhere, "REQUIRED", 4))
    for host, mode, times in wants:
        command = [
            *bundle("mysql-9.7").command("mysql"), "--no-defaults", f"--host={topology.source_host.address}",
            f"--port={PROXY_PORT}", "--user=root", f"--ssl-mode={mode}", "--execute=SELECT 1",
        ]  # fmt: skip
        for _ in range(times):
            subprocess.run(host.command(command), capture_output=True, timeout=60, check=False)


def _take(browser: Browser, address: str, path: Path) -> None:
    page: Page = browser.new_page(viewport={"width": WIDTH, "height": 800}, color_scheme="light")
    page.goto(address, timeout=LONGEST_WAIT_MS)
    page.wait_for_selector("#pulse[data-state=live]", timeout=LONGEST_WAIT_MS)
    page.evaluate(RENAME)
    taken = page.screenshot(full_page=True, animations="disabled")
    # A page has few colours; with a palette its picture is a third of the size.
    Image.open(io.BytesIO(taken)).quantize(COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(
        path, optimize=True
    )
    _say(f"{path}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    sys.exit(main())
