"""The audit reads Binlock's list of sessions from an endpoint with mutual TLS."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import urlencode

import pytest

from testbed.flavours import Flavour
from tests.integration.audit_stand import run_audit
from tests.integration.conftest import Pair, Pki
from tests.integration.lab import BIN, Authority, Proxy, replicating, toml

StartProxy = Callable[..., Proxy]
HINT = (
    "; name its authority with ssl-ca=, the name that its certificate has with name=, and a certificate that it lets in"
)


@pytest.mark.parametrize("pair", [Flavour.MYSQL_9_7], indirect=True, ids=lambda flavour: flavour.value)
def test_over_mutual_tls_the_sessions_explain_loopback(
    pair: Pair, pki: Pki, foreign: Authority, source_side: StartProxy
) -> None:
    files = {"certificate": pki.proxy.certificate, "key": pki.proxy.key, "ca": pki.authority.ca}
    proxy = source_side(
        source=f"127.0.0.1:{pair.source.port}",
        more={"connection_attributes": False},
        limits="\n".join(["[admin.tls]", *(f"{name} = {toml(path)}" for name, path in files.items())]),
    )
    dsn = f"mysql://root@localhost/?socket={pair.source.socket_path}"
    authority = {"ssl-ca": pki.authority.ca}
    shown = {"ssl-cert": pki.replica.certificate, "ssl-key": pki.replica.key}
    stranger = foreign.issue("replica", "replica-1.example")

    def url(*options: Mapping[str, Path | str], host: str = "127.0.0.1") -> str:
        return f"https://{host}:{proxy.admin_port}/?{'&'.join(map(urlencode, options))}"

    with replicating(pair.replica, proxy.port, user="repl", tls=pki.authority.replica_tls(pki.replica)):
        pair.replica.wait_for_replication()
        proxy.wait_for_event("session_started")
        for where in (
            url(authority, shown),
            url(authority, shown, {"name": "proxy.example"}),
            url(authority, shown, host="localhost"),
        ):
            _, report = run_audit("--source", dsn, "--json", "--binlock-sessions", where)
            [dump] = [finding for finding in report["findings"] if finding["check"] == "source-dumps"]
            assert dump["status"] == "pass", dump
            assert "Binlock, route test, for replica-1.example" in dump["reason"]
        for where, complaint in (
            (url(authority), f"TLSV13_ALERT_CERTIFICATE_REQUIRED{HINT}"),
            (
                url(authority, {"ssl-cert": stranger.certificate, "ssl-key": stranger.key}),
                f"TLSV1_ALERT_UNKNOWN_CA{HINT}",
            ),
            (url({"ssl-ca": foreign.ca}, shown), f"self-signed certificate in certificate chain{HINT}"),
            (url(shown), f"self-signed certificate in certificate chain{HINT}"),
            (
                url(authority, shown, {"name": "another.example"}),
                f"Hostname mismatch, certificate is not valid for 'another.example'{HINT}",
            ),
            (
                f"http://127.0.0.1:{proxy.admin_port}/",
                "what answers there speaks no HTTP; with [admin.tls] it is https",
            ),
            (f"https://127.0.0.1:{pair.source.port}/", HINT),
        ):
            done = subprocess.run(
                [BIN / "binlock-audit", "--source", dsn, "--binlock-sessions", where],
                capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, timeout=60,
            )  # fmt: skip
            assert done.returncode == 2
            assert done.stderr.startswith(f"binlock-audit: {where.partition('?')[0]}: ")
            assert complaint in done.stderr
            assert done.stderr.count("\n") == 1
            assert done.stdout == ""
