"""One proxy with a route for every pair of legs in front of one source, and real clients that log in through it."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from testbed.flavours import Flavour
from testbed.servers import free_port
from tests.integration.authentication_table import LEGS, SOURCE_LEGS
from tests.integration.conftest import Pair, Pki
from tests.integration.lab import Proxy, RouteConfig

# What a client says within: everything that cannot work must say so at once.
AT_ONCE_SECONDS = 15


@dataclass(frozen=True)
class Answer:
    """What a command-line client was answered."""

    is_in: bool
    shown: str


class Stand:
    """Clients and replicas log in here.

    Args:
        folder: of the proxy.
        pair: the source, and the replica that replicates from it.
        accounts: that every route lets in.
        route_options: of every route.
    """

    def __init__(self, folder: Path, pair: Pair, pki: Pki, accounts: list[str], **route_options: Any) -> None:
        self.pair = pair
        self._pki = pki
        self._ports = {legs: free_port() for legs in LEGS}
        options = {"policy": "any", **route_options}
        routes = [self._route(legs, accounts, options) for legs in LEGS]
        self.proxy = Proxy(folder, *routes)

    def port(self, legs: str) -> int:
        return self._ports[legs]

    def client(
        self, legs: str, account: str, *passwords: str, flavour: Flavour | None = None, may_ask_for_key: bool = True
    ) -> Answer:
        """Lets the command-line client of a flavour, the source's own for None, log in and ask who it is."""
        flavour = flavour or self.pair.flavour
        words = [*flavour.client("mysql"), "--no-defaults", "--batch", "--skip-column-names", f"--user={account}"]
        words += [f"--plugin-dir={flavour.bundle().path('usr/lib/mysql/plugin')}", "--protocol=tcp"]
        words += ["--host=127.0.0.1", f"--port={self.port(legs)}", f"--password={passwords[0]}"]
        words += [f"--password{number}={password}" for number, password in enumerate(passwords[1:], start=2)]
        words += self._tls_words(flavour, legs, may_ask_for_key=may_ask_for_key)
        done = subprocess.run(
            [*words, "--execute=SELECT CURRENT_USER()"],
            capture_output=True, text=True, timeout=AT_ONCE_SECONDS, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        return Answer(done.returncode == 0 and done.stdout.startswith(f"{account}@"), done.stdout + done.stderr)

    def replica_options(self, legs: str) -> dict[str, Any]:
        """What a replica is told that connects to `port(legs)`."""
        if legs.startswith("tls"):
            return {"tls": self._pki.authority.replica_tls(self._pki.replica)}
        return {} if self.pair.flavour.is_mariadb else {"get_source_public_key": True}

    def _tls_words(self, flavour: Flavour, legs: str, *, may_ask_for_key: bool) -> list[str]:
        if not legs.startswith("tls"):
            if flavour.is_mariadb:
                return ["--skip-ssl"]
            return ["--ssl-mode=DISABLED", *(["--get-server-public-key"] if may_ask_for_key else [])]
        mode = "--ssl-verify-server-cert" if flavour.is_mariadb else "--ssl-mode=VERIFY_IDENTITY"
        leaf = self._pki.replica
        return [mode, f"--ssl-ca={self._pki.authority.ca}", f"--ssl-cert={leaf.certificate}", f"--ssl-key={leaf.key}"]

    def _route(self, legs: str, accounts: list[str], options: dict[str, Any]) -> RouteConfig:
        replica_leg, _, source_leg = legs.partition("-")
        tcp = f"127.0.0.1:{self.pair.source.port}"
        source = f"unix:{self.pair.source.socket_path}" if source_leg == "unix" else tcp
        source_tls = self._pki.source_tls() if source_leg == SOURCE_LEGS[-1] else None
        if replica_leg == "tunnel":
            source, leaf = f"127.0.0.1:{self.port(f'tls-{source_leg}')}", self._pki.replica
            source_tls = self._pki.source_tls(certificate=leaf.certificate, key=leaf.key)
        by = {"identity": "replica-1.example"} if replica_leg == "tls" else {"name": "local"}
        return RouteConfig(
            source=source,
            replicas=[{**by, "accounts": accounts}],
            name=legs,
            listen=f"127.0.0.1:{self.port(legs)}",
            replica_tls=self._pki.replica_tls() if replica_leg == "tls" else None,
            source_tls=source_tls,
            more=options,
        )
