"""What `binlock-certs mysql-config` prints is given to real servers, word for word but for the passwords.

The authority is one below a root, and its certificates reach the servers as they are issued. MySQL before 9.7 cannot
be had here: tests/certs/servers/test_mysql_config.py holds those outputs to the manual's grammar.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pymysql
import pytest

from testbed.fetch import bundle
from testbed.flavours import Flavour
from testbed.programs import Program
from testbed.servers import Server, free_port
from tests.integration.lab import BIN, PASSWORD, Table, run_certs

# ER_SECURE_TRANSPORT_REQUIRED; MariaDB 10.11 has no number of its own for it.
TRANSPORT_REFUSED = {3159, 1045}

flavours = pytest.mark.parametrize("flavour", list(Flavour), ids=lambda flavour: flavour.value)


@dataclass(frozen=True)
class Site:
    """An authority below a root, and a folder for each host."""

    folder: Path

    @property
    def authority(self) -> Path:
        return self.folder / "authority"

    def host(self, role: str, name: str, *options: str) -> Path:
        """Issue for a host, and bring it what the README says it needs."""
        out = self.folder / name
        run_certs("issue", role, name, "--dir", self.authority, "--out", out, *options)
        for file in ("ca.crt", "ca.crl"):
            (out / file).write_bytes((self.authority / file).read_bytes())
        return out


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    folder = tmp_path_factory.mktemp("site")
    run_certs("init", "--dir", folder / "root", "--name", "Site root", "--allow-intermediates")
    run_certs("init", "--dir", folder / "authority", "--name", "Site CA", "--parent", folder / "root")
    site = Site(folder)
    site.host("source", "source.example", "--ip", "127.0.0.1")
    site.host("replica", "replica-1.example")
    site.host("replica", "replica-2.example")
    site.host("proxy", "proxy.example", "--ip", "127.0.0.1")
    return site


def config(*arguments: str | Path) -> str:
    return run_certs("mysql-config", *arguments)


def run_printed(server: Server, printed: str) -> None:
    """Run what was printed, with the password in its place, as `mysql < file` would."""
    assert "'<password>'" in printed or "IDENTIFIED" not in printed
    server.execute_script(printed.replace("<password>", PASSWORD))


@dataclass(frozen=True)
class Duo:
    """A source that was started with the printed section, and a replica without any TLS of its own."""

    source: Server
    replica: Server

    @property
    def version(self) -> str:
        return self.source.flavour.value


@pytest.fixture(scope="module")
def start_duo(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Flavour], Duo]]:
    duos: dict[Flavour, Duo] = {}

    def start(flavour: Flavour) -> Duo:
        if flavour not in duos:
            folder = tmp_path_factory.mktemp(f"{flavour.value}-configured")
            section = folder / "binlock.cnf"
            certificates = site.folder / "source.example"
            section.write_text(config("source", "source.example", "--server", flavour.value, "--folder", certificates))
            duos[flavour] = Duo(
                Server(folder / "source", flavour, server_id=1, option_file=section).start(),
                Server(folder / "replica", flavour, server_id=2).start(),
            )
        return duos[flavour]

    yield start
    for duo in duos.values():
        duo.replica.kill()
        duo.source.kill()


def statement(site: Site, duo: Duo, user: str, *options: str, name: str = "replica-1.example") -> str:
    """The printed statement for the replica."""
    source = ("--source", f"127.0.0.1:{duo.source.port}", "--user", user)
    where = ("--server", duo.version, "--folder", site.folder / name)
    return config("replica", name, *where, *source, *options)


def account(duo: Duo, user: str, *options: str) -> str:
    return config("account", "--server", duo.version, "--user", user, "--host", "127.0.0.%", *options)


def replicate_in_plaintext(replica: Server, port: int, user: str) -> None:
    is_mysql = not replica.flavour.is_mariadb
    replica.replicate_from(host="127.0.0.1", port=port, user=user, password=PASSWORD, get_source_public_key=is_mysql)


def replicates(duo: Duo, user: str) -> None:
    """A row reaches the replica, over TLS 1.3, which nobody needed to be told."""
    duo.replica.wait_for_replication()
    table = Table(duo.source, f"schema_{user}")
    table.insert(10)
    table.assert_same_on(duo.replica)
    dump = "SELECT id FROM information_schema.processlist WHERE user = %s AND command LIKE 'Binlog Dump%%'"
    # One that left before is there until the source notices.
    duo.source.wait_until(lambda: len(duo.source.sql(dump, user)) == 1, what="one dump")
    [row] = duo.source.sql(dump, user)
    if not duo.source.flavour.is_mariadb:
        session = "SELECT connection_type FROM performance_schema.threads WHERE processlist_id = %s"
        assert duo.source.scalar(session, row["id"]) == "SSL/TLS"


@flavours
def test_the_printed_section_is_what_the_server_runs_with(
    site: Site, start_duo: Callable[[Flavour], Duo], flavour: Flavour
) -> None:
    source = start_duo(flavour).source
    variables = {row["Variable_name"]: row["Value"] for row in source.sql("SHOW GLOBAL VARIABLES")}
    folder = site.folder / "source.example"
    assert variables["ssl_ca"] == str(folder / "ca.crt")
    assert variables["ssl_cert"] == str(folder / "source.example.crt")
    assert variables["ssl_key"] == str(folder / "source.example.key")
    assert variables["ssl_crl"] == str(folder / "ca.crl")
    assert variables["tls_version"] == "TLSv1.2,TLSv1.3"
    assert variables["require_secure_transport"] == "ON"
    assert variables["ssl_cipher"].startswith("ECDHE-ECDSA-AES256-GCM-SHA384:")
    if not flavour.is_mariadb:
        assert variables["tls_ciphersuites"].startswith("TLS_AES_256_GCM_SHA384:")
    source.execute_script(f"CREATE USER anybody@'127.0.0.%' IDENTIFIED BY '{PASSWORD}'")
    login: dict[str, Any] = {"host": "127.0.0.1", "port": source.port, "user": "anybody", "password": PASSWORD}
    pymysql.connect(**login, ssl_ca=str(folder / "ca.crt"), ssl_verify_cert=True, ssl_verify_identity=True).close()
    with pytest.raises(pymysql.err.OperationalError) as refused:
        pymysql.connect(**login, ssl_disabled=True)
    assert refused.value.args[0] in TRANSPORT_REFUSED


@flavours
@pytest.mark.parametrize(
    "requirement",
    [
        ("--require", "ssl"),
        ("--require", "x509"),
        ("--require", "subject", "--subject", "/CN=replica-1.example", "--issuer", "/CN=Site CA"),
    ],
    ids=["ssl", "x509", "subject"],
)
def test_account_and_statement_replicate(
    site: Site, start_duo: Callable[[Flavour], Duo], flavour: Flavour, requirement: tuple[str, ...]
) -> None:
    duo = start_duo(flavour)
    user = f"repl_{requirement[1]}"
    run_printed(duo.source, account(duo, user, *requirement))
    run_printed(duo.replica, statement(site, duo, user))
    try:
        replicates(duo, user)
    finally:
        duo.replica.reset_replication()


@flavours
def test_a_certificate_of_another_subject_is_not_let_in(
    site: Site, start_duo: Callable[[Flavour], Duo], flavour: Flavour
) -> None:
    duo = start_duo(flavour)
    subject = ("--require", "subject", "--subject", "/CN=replica-1.example")
    run_printed(duo.source, account(duo, "repl_other", *subject))
    run_printed(duo.replica, statement(site, duo, "repl_other", name="replica-2.example"))
    try:
        duo.replica.wait_until(lambda: duo.replica.replica_status().last_io_errno == 1045, what="access to be denied")
    finally:
        duo.replica.reset_replication()


@flavours
def test_roles_are_made_and_a_replica_replicates_by_one(
    site: Site, start_duo: Callable[[Flavour], Duo], flavour: Flavour
) -> None:
    duo = start_duo(flavour)
    run_printed(duo.source, config("roles", "--server", duo.version))
    run_printed(duo.source, account(duo, "repl_role", "--role"))
    grants = [next(iter(row.values())) for row in duo.source.sql("SHOW GRANTS FOR repl_role@'127.0.0.%'")]
    assert not any("REPLICATION SLAVE" in grant for grant in grants)
    run_printed(duo.replica, statement(site, duo, "repl_role"))
    try:
        replicates(duo, "repl_role")
    finally:
        duo.replica.reset_replication()


@flavours
def test_a_replica_that_ran_in_plaintext_keeps_its_place_and_is_encrypted(
    site: Site, start_duo: Callable[[Flavour], Duo], flavour: Flavour
) -> None:
    duo = start_duo(flavour)
    source = duo.source
    source.sql("SET GLOBAL require_secure_transport = OFF")
    # The replica has no such account: ALTER USER as it stands would stop its SQL thread, error 1396.
    source.create_replication_account("repl_plain", PASSWORD)
    replicate_in_plaintext(duo.replica, source.port, "repl_plain")
    try:
        duo.replica.wait_for_replication()
        run_printed(source, config(
            "account", "--server", duo.version, "--user", "repl_plain", "--host", "%", "--require", "x509", "--existing"
        ))  # fmt: skip
        source.sql("SET GLOBAL require_secure_transport = ON")
        folder = site.folder / "replica-1.example"
        keep = ("--position", "keep")
        run_printed(
            duo.replica, config("replica", "replica-1.example", "--server", duo.version, "--folder", folder, *keep)
        )
        replicates(duo, "repl_plain")
    finally:
        source.sql("SET GLOBAL require_secure_transport = ON")
        duo.replica.reset_replication()


@flavours
def test_by_file_and_position(site: Site, start_duo: Callable[[Flavour], Duo], flavour: Flavour) -> None:
    duo = start_duo(flavour)
    file, position = duo.source.binlog_position()
    run_printed(duo.source, account(duo, "repl_file"))
    printed = statement(site, duo, "repl_file", "--position", "file")
    assert "_LOG_POS = 4" in printed
    run_printed(duo.replica, printed.replace("<binary log file>", file).replace("_POS = 4", f"_POS = {position}"))
    try:
        replicates(duo, "repl_file")
    finally:
        duo.replica.reset_replication()


@pytest.mark.parametrize(
    ("beside", "flavour"),
    [
        ("source", Flavour.MYSQL_9_7),
        ("replica", Flavour.MYSQL_9_7),
        ("source", Flavour.MARIADB_11_8),
        ("replica", Flavour.MARIADB_10_11),
    ],
    ids=lambda value: getattr(value, "value", value),
)
def test_the_printed_route_carries_the_stream(
    site: Site, start_duo: Callable[[Flavour], Duo], flavour: Flavour, beside: str, tmp_path: Path
) -> None:
    duo = start_duo(flavour)
    user, port = f"repl_{beside}_side", free_port()
    common = ("--listen", f"127.0.0.1:{port}", "--user", user, "--server-id", "2", "--beside", beside)
    route = tmp_path / "proxy.toml"
    if beside == "source":
        run_printed(duo.source, config(
            "account", "--server", duo.version, "--user", user, "--host", "localhost", "--require", "none"
        ))  # fmt: skip
        printed = config(
            "route", "proxy.example", "--folder", site.folder / "proxy.example", *common, "--allow", "127.0.0.0/8",
            "--source", f"unix:{duo.source.socket_path}", "--identity", "replica-1.example",
        )  # fmt: skip
    else:
        run_printed(duo.source, account(duo, user))
        printed = config(
            "route", "replica-1.example", "--folder", site.folder / "replica-1.example", *common,
            "--source", f"127.0.0.1:{duo.source.port}",
        )  # fmt: skip
    route.write_text(printed + f'[admin]\nlisten = "unix:{tmp_path}/admin.sock"\n')
    with Program([BIN / "binlock-proxy", "run", "--config", route], log=tmp_path / "proxy.log") as proxy:
        proxy.wait_for_log('"event": "listening"')
        if beside == "source":
            through = ("--source", f"127.0.0.1:{port}", "--user", user)
            where = ("--server", duo.version, "--folder", site.folder / "replica-1.example")
            run_printed(duo.replica, config("replica", "replica-1.example", *where, *through))
        else:
            replicate_in_plaintext(duo.replica, port, user)
        try:
            duo.replica.wait_for_replication()
            table = Table(duo.source, f"schema_{user}")
            table.insert(10)
            table.assert_same_on(duo.replica)
        finally:
            duo.replica.reset_replication()


SHOWN = {"ed25519": "ed25519", "rsa-3072": "rsa 3072", "ecdsa-p384": "secp384r1", "ecdsa-p256": "secp256r1"}
ONE_EACH = zip(Flavour, ("ed25519", "rsa-3072", "ecdsa-p384"), strict=True)


@pytest.mark.parametrize(
    ("flavour", "kinds"),
    [
        *(pytest.param(flavour, [kind], id=f"{flavour.value}-{kind}") for flavour, kind in ONE_EACH),
        *(pytest.param(flavour, [*SHOWN], id=f"{flavour.value}-all", marks=pytest.mark.soak) for flavour in Flavour),
    ],
)
def test_renewed_certificates_of_another_kind_are_taken(
    site: Site, start_duo: Callable[[Flavour], Duo], flavour: Flavour, kinds: list[str]
) -> None:
    duo = start_duo(flavour)
    run_printed(duo.source, account(duo, "repl_renewed"))
    printed = config("source", "source.example", "--server", duo.version, "--folder", site.folder / "source.example")
    [reload] = re.findall(r"`(.*;)`", printed)
    ca, crl = site.authority / "ca.crt", site.authority / "ca.crl"
    for kind in kinds:
        for name in ("source.example", "replica-1.example"):
            run_certs("renew", name, "--dir", site.authority, "--replace", "--key-type", kind)
        duo.source.sql(reload)
        seen = run_certs("verify", "--server", f"127.0.0.1:{duo.source.port}", "--ca", ca, "--crl", crl)
        assert SHOWN[kind] in seen
        run_printed(duo.replica, statement(site, duo, "repl_renewed"))
        try:
            replicates(duo, "repl_renewed")
        finally:
            duo.replica.reset_replication()


@flavours
def test_folders_of_authorities_and_lists_and_one_cipher(site: Site, flavour: Flavour, tmp_path: Path) -> None:
    trusted, revoked = tmp_path / "trusted", tmp_path / "revoked"
    for folder, file, word in ((trusted, "ca.crt", "CERTIFICATE"), (revoked, "ca.crl", "X509 CRL")):
        folder.mkdir()
        text = (site.authority / file).read_text()
        blocks = re.findall(rf"-----BEGIN {word}-----.*?-----END {word}-----\n", text, re.DOTALL)
        for number, block in enumerate(blocks):
            (folder / f"{number}.pem").write_text(block)
        subprocess.run([*bundle("openssl").command("openssl"), "rehash", str(folder)], check=True)
    folders = ("--capath", trusted, "--crlpath", revoked)
    cipher = "ECDHE-ECDSA-AES128-GCM-SHA256"
    limits = ("--tls-version", "TLSv1.2", "--cipher", cipher)
    section = tmp_path / "binlock.cnf"
    where = ("--server", flavour.value, "--folder", site.folder / "source.example")
    section.write_text(config("source", "source.example", *where, *folders))
    # A replica that followed another source before takes this one's events for old ones, by their GTIDs.
    with (
        Server(tmp_path / "source", flavour, server_id=1, option_file=section) as source,
        Server(tmp_path / "replica", flavour, server_id=2) as replica,
    ):
        duo = Duo(source, replica)
        run_printed(source, account(duo, "repl_folders"))
        file, position = source.binlog_position()
        printed = statement(site, duo, "repl_folders", *map(str, folders), *limits, "--position", "file")
        run_printed(replica, printed.replace("<binary log file>", file).replace("_POS = 4", f"_POS = {position}"))
        replica.wait_for_replication()
        source.sql("CREATE DATABASE by_folders")
        replica.wait_until("SELECT COUNT(*) FROM information_schema.schemata WHERE schema_name = 'by_folders'")
