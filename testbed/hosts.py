"""Hosts with their own addresses, as network namespaces on one bridge.

    with Network() as network:
        source = network.add_host("source")     # 10.77.0.2
        replica = network.add_host("replica")   # 10.77.0.3
        replica.run(["ping", "-c1", source.address])

Each namespace lives as long as a process that holds it, and those processes die with this one, so nothing is
left behind and nothing of the machine's own network is touched. An ordinary user gets the same in a user
namespace, where the kernel permits it. There are no names to resolve and no way out: hosts reach one another.
"""

import ipaddress
import os
import shlex
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from testbed.capture import PacketCapture
from testbed.fetch import bundle
from testbed.programs import Place, ProgramError, popen

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Subnet = ipaddress.IPv4Network | ipaddress.IPv6Network

INTERFACE = "eth0"
BRIDGE = "br0"
# Runs in a host's namespace: connects, and hands the socket over, which stays where it was made.
CONNECT = """
import socket, sys
connection = socket.create_connection((sys.argv[1], int(sys.argv[2])), float(sys.argv[3]))
connection.settimeout(None)
socket.send_fds(socket.socket(fileno=int(sys.argv[4])), [b"x"], [connection.fileno()])
"""
# Runs in a mount namespace of its own, so that the machine's /run stays as it is: gives network namespaces names.
NAME = """
mount -t tmpfs none /run && mkdir /run/netns || exit
while test "$1" != --; do : > "/run/netns/$1" && mount --bind "/proc/$2/ns/net" "/run/netns/$1" || exit; shift 2; done
shift; exec "$@"
"""


class HostError(Exception):
    """A namespace could not be made or used; the text says why and what to do."""


class _Namespace:
    """A network namespace, held by a process that waits for its standard input to end."""

    def __init__(self, within: "_Namespace | None" = None) -> None:
        self.user: int | None = within.user if within is not None else None
        if within is None and os.geteuid() != 0:
            unshare = ["unshare", "--user", "--map-root-user", "--net"]
        else:
            unshare = ["unshare", "--net"]
        holder = [*unshare, "sh", "-c", "echo held; exec cat"]
        if within is not None:
            holder = within.command(holder)
        self._holder = popen(holder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        output, errors = self._holder.stdout, self._holder.stderr
        if output is None or errors is None or output.readline() != b"held\n":
            said = errors.read().decode().strip() if errors is not None else ""
            self.close()
            raise HostError(
                f"{shlex.join(unshare)}: {said or 'no answer'}; network namespaces need root, or a kernel "
                "that lets ordinary users make user namespaces (kernel.unprivilegeduserns_clone, "
                "kernel.apparmor_restrict_unprivilegeduserns, a container's seccomp profile)"
            )
        if within is None and os.geteuid() != 0:
            self.user = self.pid

    @property
    def pid(self) -> int:
        """The process id of the holder: its /proc entry names the namespace."""
        return self._holder.pid

    def command(self, argv: Sequence[str]) -> list[str]:
        """The command that runs `argv` in the namespace."""
        prefix = ["nsenter", f"--net=/proc/{self.pid}/ns/net"]
        if self.user is not None:
            prefix += [f"--user=/proc/{self.user}/ns/user", "--preserve-credentials"]
        return [*prefix, "--", *argv]

    def ip(self, *arguments: str) -> None:
        """Run `ip` in the namespace."""
        command = self.command([*bundle("iproute2").command("ip"), *arguments])
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode:
            raise HostError(f"ip {shlex.join(arguments)}: {result.stderr.strip()}")

    def close(self) -> None:
        """Let the namespace go; the kernel keeps it until the last process in it ends."""
        self._holder.kill()
        with self._holder:
            pass


class Host:
    """A host of a network: a namespace with one interface, `eth0`, beside `lo`.

    Attributes:
        name: as given.
        address: its IPv4 address.
        address6: its IPv6 address; None when the network has none.
    """

    def __init__(
        self, name: str, namespace: _Namespace, bridge: _Namespace, port: str, addresses: Sequence[Address]
    ) -> None:
        self.name = name
        self.address = str(addresses[0])
        self.address6 = str(addresses[1]) if len(addresses) > 1 else None
        self._namespace = namespace
        self._bridge = bridge
        self._port = port

    @property
    def pid(self) -> int:
        """The process whose /proc entry names this host's namespace."""
        return self._namespace.pid

    def command(self, argv: Sequence[str]) -> list[str]:
        """The command that runs `argv` on this host; its process id is the program's own."""
        return self._namespace.command(argv)

    def popen(
        self,
        argv: Sequence[str],
        *,
        stdin: int | IO[bytes] | None = subprocess.DEVNULL,
        stdout: int | IO[bytes] | None = None,
        stderr: int | IO[bytes] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> subprocess.Popen[bytes]:
        """Start a program on this host that dies with this process; see `testbed.programs.popen`."""
        return popen(argv, place=self, stdin=stdin, stdout=stdout, stderr=stderr, environment=environment)

    def run(self, argv: Sequence[str], *, timeout: float = 60) -> str:
        """Run a program on this host to its end, and return its standard output.

        Raises:
            ProgramError: it failed, or did not end within `timeout` seconds.
        """
        with self.popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            try:
                output, errors = process.communicate(timeout=timeout)
            except subprocess.TimeoutExpired:
                process.kill()
                raise ProgramError(f"{shlex.join(argv)} on {self.name} took over {timeout} s") from None
        if process.returncode:
            said = errors.decode(errors="replace").strip()
            raise ProgramError(f"{shlex.join(argv)} on {self.name}: status {process.returncode}: {said}")
        return output.decode(errors="replace")

    def naming(self, *others: "Host") -> Place:
        """This host, for a program that enters other hosts' network namespaces by the names that `ip netns` gives."""
        return _NamingHost(self, others)

    def open_connection(self, address: str, port: int, *, timeout: float = 10) -> socket.socket:
        """A TCP connection from this host, for use in this process.

        Raises:
            ConnectionError: it could not be made; the text has the reason.
        """
        ours, theirs = socket.socketpair()
        with ours, theirs:
            words = [address, str(port), str(timeout), str(theirs.fileno())]
            argv = [sys.executable, "-c", CONNECT, *words]
            helper = popen(argv, place=self, stderr=subprocess.PIPE, pass_fds=[theirs.fileno()])
            theirs.close()
            with helper:
                _, descriptors, _, _ = socket.recv_fds(ours, 1, 1)
                _, errors = helper.communicate()
        if not descriptors:
            reason = errors.decode(errors="replace").strip().splitlines()[-1:]
            raise ConnectionError(f"from {self.name} to {address} port {port}: {' '.join(reason)}")
        return socket.socket(fileno=descriptors[0])

    def open_capture(self, path: Path, *, interface: str = INTERFACE) -> PacketCapture:
        """Start to capture what passes one of this host's interfaces into a pcap file."""
        return PacketCapture(path, interface=interface, host=self).start()

    def unplug(self) -> None:
        """Take its link away without a word to anybody: packets get lost, connections do not end."""
        self._bridge.ip("link", "set", self._port, "down")

    def plug(self) -> None:
        """Give its link back."""
        self._bridge.ip("link", "set", self._port, "up")


class _NamingHost:
    """A host whose programs find the network namespaces of others under /run/netns."""

    def __init__(self, host: Host, others: Sequence[Host]) -> None:
        self._host = host
        self._others = others

    def command(self, argv: Sequence[str]) -> list[str]:
        """The command that runs `argv` on the host."""
        names = [word for other in self._others for word in (other.name, str(other.pid))]
        return self._host.command(["unshare", "--mount", "sh", "-c", NAME, "sh", *names, "--", *argv])


class Network:
    """A bridge to which hosts are added. A context manager: made on entry, gone on exit.

    Its hosts' programs should have ended by then: a namespace lives on while a process is in it.
    """

    def __init__(self, ipv4: str = "10.77.0.0/24", ipv6: str | None = None) -> None:
        """Nothing is made yet.

        Args:
            ipv4: the hosts' subnet; the first host is its second address.
            ipv6: another subnet for the same hosts, such as "fd77::/64"; None for IPv4 only.
        """
        self.hosts: dict[str, Host] = {}
        self._subnets: list[Subnet] = [ipaddress.ip_network(ipv4)]
        if ipv6 is not None:
            self._subnets.append(ipaddress.ip_network(ipv6))
        self._namespaces: list[_Namespace] = []

    def start(self) -> Self:
        """Make the bridge.

        Raises:
            HostError: this user may not, or the kernel cannot.
        """
        bridge = _Namespace()
        self._namespaces.append(bridge)
        bridge.ip("link", "add", BRIDGE, "type", "bridge")
        bridge.ip("link", "set", BRIDGE, "up")
        return self

    def close(self) -> None:
        """Let all hosts go."""
        while self._namespaces:
            self._namespaces.pop().close()
        self.hosts.clear()

    def add_host(self, name: str) -> Host:
        """Add a host with the next address of each subnet."""
        bridge = self._bridge
        number = len(self.hosts) + 2
        namespace = _Namespace(within=bridge)
        self._namespaces.append(namespace)
        port = f"port{number}"
        bridge.ip("link", "add", port, "type", "veth", "peer", "name", INTERFACE, "netns", str(namespace.pid))
        bridge.ip("link", "set", port, "master", BRIDGE, "up")
        namespace.ip("link", "set", "lo", "up")
        addresses = [subnet[number] for subnet in self._subnets]
        for subnet, address in zip(self._subnets, addresses, strict=True):
            # Without duplicate address detection an IPv6 address can be used at once.
            flags = ["nodad"] if address.version == 6 else []
            namespace.ip("address", "add", f"{address}/{subnet.prefixlen}", "dev", INTERFACE, *flags)
        namespace.ip("link", "set", INTERFACE, "up")
        self.hosts[name] = Host(name, namespace, bridge, port, addresses)
        return self.hosts[name]

    def command(self, argv: Sequence[str]) -> list[str]:
        """The command that runs `argv` beside the bridge, where every host's traffic passes."""
        return self._bridge.command(argv)

    def open_capture(self, path: Path, *, interface: str = BRIDGE) -> PacketCapture:
        """Start to capture at the bridge, or at one host's port of it, into a pcap file."""
        return PacketCapture(path, interface=interface, host=self).start()

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def _bridge(self) -> _Namespace:
        if not self._namespaces:
            raise HostError("the network was not started")
        return self._namespaces[0]
