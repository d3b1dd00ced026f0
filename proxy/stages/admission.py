"""Stage 1, admission: is this address on the allowlist, and is there room? Before anything is dialled."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass

from proxy.configuration.addresses import IpAddress, TcpAddress
from proxy.outcomes import Reason, SessionRefused, Stage

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class AdmittedPeer:
    """Proof that an address may connect. Only `Allowlist.admit` makes one."""

    address: IpAddress
    port: int

    def __str__(self) -> str:
        return str(TcpAddress(str(self.address), self.port))


class Allowlist:
    """The networks whose hosts may connect to a route."""

    def __init__(self, networks: Iterable[str]) -> None:
        """Takes networks as the configuration spells them, such as `10.20.0.0/16`.

        Raises:
            ValueError: one is not a network, or has host bits set.
        """
        self._networks: tuple[Network, ...] = tuple(ipaddress.ip_network(network) for network in networks)

    def __contains__(self, address: IpAddress) -> bool:
        return any(address in network for network in self._networks)

    def admit(self, address: IpAddress, port: int) -> AdmittedPeer:
        """Judges a peer by its address.

        Raises:
            SessionRefused: no network of the list has it.
        """
        if address not in self:
            raise SessionRefused(
                Stage.ADMISSION,
                Reason.ADDRESS_NOT_ALLOWED,
                f"{address} is in no network of the allowlist",
                told=f"host {address} is not on the allowlist of this route",
            )
        return AdmittedPeer(address, port)
