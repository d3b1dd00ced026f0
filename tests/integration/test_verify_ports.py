"""`binlock-certs verify --server` looks at real servers and at Binlock, and says of a port what it says of files."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from testbed.flavours import Flavour
from testbed.servers import free_port
from tests.integration.conftest import Pair, Pki
from tests.integration.deployments import StartProxy
from tests.integration.lab import BIN

Checks = dict[str, tuple[str, str]]


def look(port: int, *more: str | Path, code: int = 0) -> Checks:
    command = [BIN / "binlock-certs", "verify", "--server", f"127.0.0.1:{port}", *more, "--json"]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return {check["check"]: (check["verdict"], check["detail"]) for check in json.loads(done.stdout)["checks"]}


@pytest.mark.parametrize("pair", list(Flavour), indirect=True, ids=lambda flavour: flavour.value)
def test_a_servers_port(pair: Pair, pki: Pki) -> None:
    trust, port = ("--ca", pki.authority.ca, "--crl", pki.authority.crl), pair.source.port
    ours = ("--certificate", pki.replica.certificate, "--key", pki.replica.key)
    good = look(port, *trust, *ours)
    assert {verdict for verdict, _ in good.values()} == {"pass"}
    assert "TLSv1.3" in good["tls"][1]
    bad = look(port, *trust, "--name", "other.example", "--role", "replica", code=1)
    assert {check for check, (verdict, _) in bad.items() if verdict == "fail"} == {"name", "purpose"}
    assert bad["client"][0] == "pass"
    # A certificate for servers is none for clients, and mysqld says so.
    other = ("--certificate", pki.source.certificate, "--key", pki.source.key)
    assert look(port, *trust, *other, code=1)["client"][0] == "fail"


@pytest.mark.parametrize("pair", list(Flavour), indirect=True, ids=lambda flavour: flavour.value)
def test_a_server_that_nobody_configured(pair: Pair, pki: Pki) -> None:
    checks = look(pair.replica.port, "--ca", pki.authority.ca, "--crl", pki.authority.crl, code=1)
    failed = {check for check, (verdict, _) in checks.items() if verdict == "fail"}
    if pair.flavour is Flavour.MARIADB_10_11:
        assert failed == {"tls"}
        assert "has no TLS: set ssl_cert" in checks["tls"][1]
    else:  # these make a certificate of their own, which nobody knows
        assert {"chain", "name"} <= failed


def test_binlocks_port_and_a_revocation(pair: Pair, pki: Pki, source_side: StartProxy) -> None:
    leaf = pki.authority.issue("proxy", "looked-at.example", "--ip", "127.0.0.1")
    proxy = source_side(replica_tls=pki.replica_tls(certificate=leaf.certificate, key=leaf.key))
    trust = ("--ca", pki.authority.ca, "--crl", pki.authority.crl)
    stranger = look(proxy.port, *trust)
    assert "turns away a client without a certificate" in stranger["client"][1]
    ours = ("--certificate", pki.replica.certificate, "--key", pki.replica.key)
    assert "does not turn away the certificate that was shown" in look(proxy.port, *trust, *ours)["client"][1]
    pki.authority.revoke("looked-at.example")
    revoked = look(proxy.port, *trust, *ours, code=1)
    assert {check for check, (verdict, _) in revoked.items() if verdict == "fail"} == {"revocation"}
    assert "CN=looked-at.example was revoked on 20" in revoked["revocation"][1]


def test_what_is_no_mysql_port_is_said(pki: Pki) -> None:
    command = [str(BIN / "binlock-certs"), "verify", "--ca", str(pki.authority.ca), "--server"]
    done = subprocess.run([*command, f"127.0.0.1:{free_port()}"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "cannot be asked: Connection refused: check address, port, firewall" in done.stderr
