"""Certificates from elsewhere, made by OpenSSL as their makers make them: `verify` and the proxy take them.

The shapes are those of cert-manager's secrets (tls.crt, tls.key, ca.crt), of SPIRE's X.509-SVIDs (RFC-like names in a
URI, an intermediate in the chain), of a company's authority, and of the MySQL manual's own instructions.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from testbed.fetch import bundle
from testbed.replication import ReplicaTls
from tests.integration.conftest import Pair
from tests.integration.deployments import StartProxy
from tests.integration.lab import BIN, Leaf, replicating, run_certs

AUTHORITY = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\n"
BOTH = "extendedKeyUsage=serverAuth,clientAuth\n"
EC = ("ec", "-pkeyopt", "ec_paramgen_curve:P-256")
RSA = ("rsa:2048",)


def openssl(*arguments: str | Path) -> None:
    command = [*bundle("openssl").command("openssl"), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@dataclass(frozen=True)
class Foreign:
    """What somebody else hands out: a pair for Binlock, one for the replica, trust, perhaps lists."""

    proxy: Leaf
    replica: Leaf
    ca: Path
    identity: str
    crl: Path | None = None

    @property
    def proxy_tls(self) -> dict[str, Any]:
        lists = {} if self.crl is None else {"crl": [self.crl]}
        return {"certificate": self.proxy.certificate, "key": self.proxy.key, "ca": self.ca, **lists}


@dataclass(frozen=True)
class Maker:
    """Keys and certificates in one folder, by `openssl req` and `openssl x509`."""

    folder: Path

    def path(self, name: str) -> Path:
        return self.folder / name

    def key(self, name: str, kind: tuple[str, ...], subject: str) -> None:
        openssl("req", "-new", "-newkey", *kind, "-noenc", "-subj", subject, "-keyout", self.path(f"{name}.key"),
                "-out", self.path(f"{name}.csr"))  # fmt: skip

    def certificate(self, name: str, issuer: str, extensions: str | None, days: int = 30) -> None:
        signer = ("-CA", self.path(f"{issuer}.crt"), "-CAkey", self.path(f"{issuer}.key"), "-CAcreateserial")
        if issuer == name:
            signer = ("-key", self.path(f"{name}.key"))  # type: ignore[assignment]
        options: tuple[str | Path, ...] = ()
        if extensions is not None:
            self.path(f"{name}.ext").write_text(extensions)
            options = ("-extfile", self.path(f"{name}.ext"))
        openssl("x509", "-req", "-in", self.path(f"{name}.csr"), *signer, *options, "-days", str(days), "-sha256",
                "-out", self.path(f"{name}.crt"))  # fmt: skip

    def crl(self, issuer: str) -> bytes:
        """An empty list, by `openssl ca`."""
        database, config = self.path(f"{issuer}.db"), self.path(f"{issuer}.cnf")
        database.touch()
        config.write_text(
            f"[ca]\ndefault_ca = it\n[it]\ndatabase = {database}\ndefault_md = sha256\ncrl_extensions = more\n"
            "[more]\nauthorityKeyIdentifier = keyid\n"
        )
        openssl("ca", "-gencrl", "-config", config, "-cert", self.path(f"{issuer}.crt"), "-keyfile",
                self.path(f"{issuer}.key"), "-crldays", "30", "-out", self.path(f"{issuer}.crl"))  # fmt: skip
        return self.path(f"{issuer}.crl").read_bytes()

    def join(self, name: str, *parts: str) -> Path:
        self.path(name).write_bytes(b"".join(self.path(part).read_bytes() for part in parts))
        return self.path(name)

    def leaf(self, name: str, *chain: str) -> Leaf:
        return Leaf(self.join(f"{name}-chain.pem", f"{name}.crt", *chain), self.path(f"{name}.key"))


def cert_manager(folder: Path) -> Foreign:
    """A CA issuer: RSA keys in PKCS #1, no subject but a critical name, the authority alone in ca.crt."""
    maker = Maker(folder)
    maker.key("ca", RSA, "/CN=cluster ca")
    maker.certificate("ca", "ca", AUTHORITY)
    usage = "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature,keyEncipherment\n"
    for name, host in (("proxy", "DNS:proxy.db.svc,IP:127.0.0.1"), ("replica", "DNS:replica-0.db.svc")):
        maker.key(name, RSA, "/")
        maker.certificate(name, "ca", f"{usage}{BOTH}authorityKeyIdentifier=keyid\nsubjectAltName=critical,{host}\n")
        openssl("rsa", "-traditional", "-in", maker.path(f"{name}.key"), "-out", maker.path("pkcs1.key"))
        maker.path("pkcs1.key").replace(maker.path(f"{name}.key"))
    return Foreign(maker.leaf("proxy"), maker.leaf("replica"), maker.path("ca.crt"), "replica-0.db.svc")


def spire(folder: Path) -> Foreign:
    """X.509-SVIDs: one URI, an intermediate that is sent along, the trust domain's root as the bundle."""
    maker = Maker(folder)
    domain = "subjectAltName=URI:spiffe://example.org\n"
    maker.key("root", EC, "/C=US/O=SPIFFE")
    maker.certificate("root", "root", AUTHORITY + domain)
    maker.key("server", EC, "/C=US/O=SPIRE/serialNumber=1")
    maker.certificate("server", "root", f"{AUTHORITY}{domain}authorityKeyIdentifier=keyid\n")
    usage = "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature,keyAgreement\n"
    for name, path in (("proxy", "db/binlock"), ("replica", "db/replica/1")):
        maker.key(name, EC, "/C=US/O=SPIRE")
        names = f"subjectAltName=URI:spiffe://example.org/{path}" + (",IP:127.0.0.1\n" if name == "proxy" else "\n")
        maker.certificate(
            name, "server", f"{usage}{BOTH}authorityKeyIdentifier=keyid\nsubjectKeyIdentifier=hash\n{names}"
        )
    identity = "spiffe://example.org/db/replica/1"
    return Foreign(
        maker.leaf("proxy", "server.crt"), maker.leaf("replica", "server.crt"), maker.path("root.crt"), identity
    )


def company(folder: Path) -> Foreign:
    """A root and an issuing authority with lists, distribution points, policies and long names; RSA."""
    maker = Maker(folder)
    maker.key("root", RSA, "/DC=com/DC=example/O=Example AG/CN=Example Root CA G2")
    maker.certificate("root", "root", AUTHORITY)
    maker.key("issuing", RSA, "/DC=com/DC=example/O=Example AG/CN=Example Issuing CA 3")
    more = (
        "authorityKeyIdentifier=keyid\ncertificatePolicies=1.3.6.1.4.1.55555.1.1\n"
        "crlDistributionPoints=URI:http://pki.example.com/ca.crl\nauthorityInfoAccess=OCSP;URI:http://ocsp.example.com/\n"
    )
    maker.certificate("issuing", "root", f"{AUTHORITY}{more}")
    usage = "basicConstraints=CA:FALSE\nkeyUsage=critical,digitalSignature,keyEncipherment\nsubjectKeyIdentifier=hash\n"
    for name, host in (("proxy", "DNS:db1.example.com,IP:127.0.0.1"), ("replica", "DNS:replica-1.example.com")):
        maker.key(name, RSA, f"/O=Example AG/OU=Databases/CN={name}")
        maker.certificate(name, "issuing", f"{usage}{BOTH}{more}subjectAltName={host}\n")
    for issuer in ("root", "issuing"):
        maker.crl(issuer)
    # Binlock wants the authority of every list among those that it trusts.
    return Foreign(
        maker.leaf("proxy", "issuing.crt"),
        maker.leaf("replica", "issuing.crt"),
        maker.join("trust.pem", "root.crt", "issuing.crt"),
        "replica-1.example.com",
        maker.join("lists.pem", "root.crl", "issuing.crl"),
    )


MAKERS: dict[str, Callable[[Path], Foreign]] = {"cert-manager": cert_manager, "spire": spire, "company": company}


def verify(leaf: Leaf, ca: Path, *more: str | Path, code: int = 0) -> dict[str, tuple[str, str]]:
    command = [BIN / "binlock-certs", "verify", "--ca", ca, "--certificate", leaf.certificate, "--key", leaf.key]
    done = subprocess.run(
        [*map(str, command), *map(str, more), "--json"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == code, done.stdout + done.stderr
    return {check["check"]: (check["verdict"], check["detail"]) for check in json.loads(done.stdout)["checks"]}


@pytest.mark.parametrize("maker", MAKERS)
def test_they_verify_and_carry_replication(maker: str, pair: Pair, source_side: StartProxy, tmp_path: Path) -> None:
    foreign = MAKERS[maker](tmp_path)
    lists = () if foreign.crl is None else ("--crl", foreign.crl)
    for leaf, name in ((foreign.proxy, "127.0.0.1"), (foreign.replica, foreign.identity)):
        checks = verify(leaf, foreign.ca, *lists, "--role", "proxy", "--name", name)
        assert {verdict for check, (verdict, _) in checks.items() if check != "revocation"} == {"pass"}
        assert checks["revocation"][0] == ("pass" if foreign.crl else "warn")
    proxy = source_side(
        replica_tls=foreign.proxy_tls,
        replicas=[{"identity": foreign.identity, "accounts": ["repl"], "server_ids": [2]}],
    )
    table = pair.table()
    tls = ReplicaTls(ca=foreign.ca, cert=foreign.replica.certificate, key=foreign.replica.key, crl=foreign.crl)
    with replicating(pair.replica, proxy.port, user="repl", tls=tls):
        table.insert(10)
        table.assert_same_on(pair.replica)
        assert proxy.stream_of(foreign.identity)["identity"] == foreign.identity
        # The port shows what the files do.
        trust = ("--ca", foreign.ca, *lists, "--role", "proxy")
        shown = ("--certificate", foreign.replica.certificate, "--key", foreign.replica.key)
        run_certs("verify", "--server", f"127.0.0.1:{proxy.port}", *trust, *shown)


def test_what_the_mysql_manual_makes_verifies_for_mysql_and_is_nobody_to_binlock(tmp_path: Path) -> None:
    maker = Maker(tmp_path)
    maker.key("ca", RSA, "/CN=MySQL CA")
    maker.certificate("ca", "ca", "basicConstraints=critical,CA:TRUE\nsubjectKeyIdentifier=hash\n")
    maker.key("server", RSA, "/CN=db1.example")
    maker.certificate("server", "ca", None)
    checks = verify(maker.leaf("server"), tmp_path / "ca.crt", "--role", "source", "--name", "db1.example", code=1)
    assert {check for check, (verdict, _) in checks.items() if verdict == "fail"} == {"strict"}
    assert checks["name"][0] == "warn"
    assert "common name alone" in checks["name"][1]
    assert "an authority without a keyUsage" in checks["strict"][1]
