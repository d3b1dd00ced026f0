"""What a server is told so that its replication is encrypted and verified: option file and statements.

Everything is written for one server version, with what that version has and nothing that it would refuse. The
passwords are left open: what is written here may be kept and shared.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from certs.errors import CertsError
from certs.servers.quoting import option_text, sql_text
from certs.servers.versions import ServerVersion

PASSWORD_PLACEHOLDER = "<password>"  # noqa: S105 - what stands for one
FILE_PLACEHOLDER = "<binary log file>"

# AEAD with forward secrecy, for either kind of certificate, which MySQL 5.7 to 9.7 and MariaDB all know.
DEFAULT_CIPHERS = (
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
)
DEFAULT_CIPHERSUITES = ("TLS_AES_256_GCM_SHA384", "TLS_AES_128_GCM_SHA256", "TLS_CHACHA20_POLY1305_SHA256")
# The attempts of a day at the default of one a minute: MySQL 9.7 gives up after ten.
RETRY_COUNT = 86_400


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Where the files are on the server's own host; complete paths, as the manual recommends."""

    ca: str | None
    certificate: str
    key: str
    crl: str | None = None
    ca_folder: str | None = None
    crl_folder: str | None = None

    def __post_init__(self) -> None:
        for path in (self.ca, self.certificate, self.key, self.crl, self.ca_folder, self.crl_folder):
            if path is not None and not PurePosixPath(path).is_absolute():
                raise CertsError(
                    f"{path!r} is no complete path: servers look for it in their data directory; begin with /"
                )
        if self.ca is None and self.ca_folder is None:
            raise CertsError("without --ca or --capath nothing is verified: name one")


@dataclass(frozen=True, slots=True)
class TlsLimits:
    """Versions and algorithms that may be agreed upon."""

    versions: tuple[str, ...]
    ciphers: tuple[str, ...] = DEFAULT_CIPHERS
    ciphersuites: tuple[str, ...] | None = None

    @classmethod
    def of(
        cls,
        server: ServerVersion,
        versions: tuple[str, ...] = (),
        ciphers: tuple[str, ...] = (),
        ciphersuites: tuple[str, ...] = (),
    ) -> "TlsLimits":
        """What was asked for, or the defaults, as far as this server has them."""
        if ciphersuites and not server.has_server_ciphersuites:
            raise CertsError(f"{server} has no setting for TLS 1.3 ciphersuites: leave out --ciphersuites")
        known = ("TLSv1.2", "TLSv1.3") if server.has_tls_1_3 else ("TLSv1.2",)
        for version in versions:
            if version not in known:
                raise CertsError(f"{version!r} is not offered for {server}: choose from {', '.join(known)}")
        suites = ciphersuites or DEFAULT_CIPHERSUITES if server.has_server_ciphersuites else None
        return cls(versions or known, ciphers or DEFAULT_CIPHERS, suites)


def source_section(server: ServerVersion, files: TlsFiles, limits: TlsLimits) -> list[str]:
    """The `[mysqld]` section of a source, and of a replica that may become one."""
    settings = {
        "ssl_ca": files.ca,
        "ssl_capath": files.ca_folder,
        "ssl_cert": files.certificate,
        "ssl_key": files.key,
        "ssl_crl": files.crl,
        "ssl_crlpath": files.crl_folder,
        "tls_version": ",".join(limits.versions),
        "ssl_cipher": ":".join(limits.ciphers),
        "tls_ciphersuites": ":".join(limits.ciphersuites) if limits.ciphersuites else None,
        # A unix socket counts as secure; Binlock over plain loopback TCP does not.
        "require_secure_transport": "ON",
    }
    reload = server.reload_tls
    return [
        f"# {server}: an option file, such as /etc/mysql/conf.d/binlock.cnf. Restart the server once; after that",
        f"# `{reload};` reads renewed files." if reload else "# renewed files are read at a restart as well.",
        "# With require_secure_transport Binlock reaches it over its unix socket or over TLS, not over plain TCP.",
        "[mysqld]",
        *(f"{name} = {option_text(value)}" for name, value in settings.items() if value is not None),
    ]


@dataclass(frozen=True, slots=True)
class Source:
    """Whom a replica connects to, and as whom."""

    host: str
    port: int
    user: str


def replica_statements(
    server: ServerVersion, files: TlsFiles, limits: TlsLimits, source: Source | None, *, by_gtid: bool = True
) -> list[str]:
    """The statements for a replica.

    Args:
        server: the replica's own version.
        files: its own files.
        limits: what it may agree upon.
        source: None keeps whom and where from: the encryption alone changes.
        by_gtid: otherwise by file and position, which are left open.
    """
    options = [*_source_options(server, source, by_gtid=by_gtid), *_tls_options(server, files, limits)]
    lines = [f"  {name} = {value}" for name, value in options]
    remarks = [f"-- {server}, on the replica. Its password is stored on its disk: give the account no other use."]
    if server.verifies_common_name_alone and source is not None:
        remarks.append("-- It compares the host with the common name of the source's certificate, which must be it.")
    if by_gtid and source is not None and not server.is_mariadb:
        remarks.append("-- By GTID, for which gtid_mode is ON at both ends; otherwise --position file.")
    return [
        *remarks,
        f"STOP {server.replica};",
        server.change_source,
        *(f"{line}," for line in lines[:-1]),
        f"{lines[-1]};",
        f"START {server.replica};",
    ]


def _source_options(server: ServerVersion, source: Source | None, *, by_gtid: bool) -> Iterator[tuple[str, str]]:
    if source is None:
        return
    word = server.word
    yield f"{word}_HOST", sql_text(source.host)
    yield f"{word}_PORT", str(source.port)
    yield f"{word}_USER", sql_text(source.user)
    yield f"{word}_PASSWORD", sql_text(PASSWORD_PLACEHOLDER)
    if not server.is_mariadb:
        yield f"{word}_RETRY_COUNT", str(RETRY_COUNT)
    if not by_gtid:
        yield f"{word}_LOG_FILE", sql_text(FILE_PLACEHOLDER)
        yield f"{word}_LOG_POS", "4"  # the first event of any file
    elif server.is_mariadb:
        yield "MASTER_USE_GTID", "slave_pos"
    else:
        yield f"{word}_AUTO_POSITION", "1"


def _tls_options(server: ServerVersion, files: TlsFiles, limits: TlsLimits) -> Iterator[tuple[str, str]]:
    """Every TLS option that the version has, also to clear it: a server keeps what an earlier statement said."""
    word = server.word
    yield f"{word}_SSL", "1"
    for name, value in (
        ("CA", files.ca),
        ("CAPATH", files.ca_folder),
        ("CERT", files.certificate),
        ("KEY", files.key),
        ("CRL", files.crl),
        ("CRLPATH", files.crl_folder),
        ("CIPHER", ":".join(limits.ciphers)),
    ):
        yield f"{word}_SSL_{name}", sql_text(value or "")
    if server.has_replica_tls_version:
        yield f"{word}_TLS_VERSION", sql_text(",".join(limits.versions))
    if server.has_replica_ciphersuites and limits.ciphersuites:
        yield f"{word}_TLS_CIPHERSUITES", sql_text(":".join(limits.ciphersuites))
    yield f"{word}_SSL_VERIFY_SERVER_CERT", "1"
