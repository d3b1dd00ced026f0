"""Fixes in each server's dialect."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from audit.facts import Role, ServerFacts, quoted
from audit.findings import Fix, When
from audit.versions import ServerVersion

# AEAD with forward secrecy; the order and the names are OpenSSL's.
GOOD_CIPHERS = (
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-CHACHA20-POLY1305",
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
)
GOOD_CIPHERSUITES = ("TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256", "TLS_AES_128_GCM_SHA256")
_LONGEST_STEM_CHARACTERS = 200
CIPHERS_TEXT = ":".join(GOOD_CIPHERS)


def good_versions(version: ServerVersion) -> str:
    """Those of TLS that the server may speak and knows: one that it does not know keeps it from starting."""
    return "TLSv1.2,TLSv1.3" if version.has_tls_1_3 else "TLSv1.2"


@dataclass(frozen=True)
class Files:
    """Where, on every server, its certificate is or will be put, named as `binlock-certs issue` names files.

    Attributes:
        folder: holds ca.crt, ca.crl, NAME.crt and NAME.key; the pair is for both ends of replication.
    """

    folder: PurePosixPath

    def path(self, name: str) -> str:
        """A file's path."""
        return str(self.folder / name)

    def own(self, server: ServerFacts, suffix: str) -> str:
        """The path of the server's certificate, `.crt`, or key, `.key`."""
        stem = file_stem(server.issued_name) if server.issued_name else "<name>"
        return self.path(f"{stem}{suffix}")


def file_stem(name: str) -> str:
    """What `binlock-certs issue` calls the files of a name, without the ending."""
    try:
        name = str(ipaddress.ip_address(name))
    except ValueError:
        name = name if "://" in name else name.lower()
    return re.sub(r"[^A-Za-z0-9._-]", "-", name.partition("://")[2] or name).strip("-.")[:_LONGEST_STEM_CHARACTERS]


def own_files_note(server: ServerFacts) -> str:
    """How those files come to be. A server that is both ends of replication needs a certificate for both."""
    role = "source" if server.role is Role.SOURCE else "proxy"
    both = "" if server.role is Role.SOURCE else ", for both ends of replication"
    name = server.issued_name or "<name>"
    return f"`binlock-certs issue {role} {name}` makes the pair{both}; put it there first, with ca.crt and ca.crl"


def set_variable(version: ServerVersion, name: str, value: str, *, when: When = When.FIRST, note: str = "") -> Fix:
    """Sets a dynamic variable, now and for good."""
    literal = value if value.isalnum() else quoted(value)
    if version.has_persist:
        return Fix(statements=(f"SET PERSIST {name} = {literal}",), when=when, note=note)
    return Fix(statements=(f"SET GLOBAL {name} = {literal}",), kept=(f"{name} = {value}",), when=when, note=note)


def set_at_start(name: str, value: str, *, note: str = "") -> Fix:
    """Sets a variable that only the next start reads."""
    return Fix(settings=(f"{name} = {value}",), note=note)


def set_tls(version: ServerVersion, values: dict[str, str], *, note: str = "") -> Fix:
    """Sets variables of TLS: in place where the server can, otherwise for the next start."""
    if not version.has_tls_reload:
        return Fix(settings=tuple(f"{name} = {value}" for name, value in values.items()), note=note)
    return Fix(tls=tuple(values.items()), note=note)


def tls_statements(values: Mapping[str, str]) -> list[str]:
    """Sets variables of TLS in place, and keeps them for later starts once they have been found to work."""
    tried = [f"SET GLOBAL {name} = {quoted(value)}" for name, value in values.items()]
    kept = [f"SET PERSIST {name} = {quoted(value)}" for name, value in values.items()]
    return [*tried, "ALTER INSTANCE RELOAD TLS", *kept] if values else []


def change_source(version: ServerVersion, channel: str, options: dict[str, str], *, is_running: bool) -> list[str]:
    """The statements that change a channel.

    Args:
        version: of the replica.
        channel: its name; empty for the default one.
        options: names without SOURCE_ or MASTER_, values as SQL.
        is_running: whether to run it again.
    """
    word = "SOURCE" if version.has_source_words else "MASTER"
    names = {name: f"GET_{word}_PUBLIC_KEY" if name == "GET_PUBLIC_KEY" else f"{word}_{name}" for name in options}
    assignments = ", ".join(f"{names[name]} = {value}" for name, value in options.items())
    threads = "REPLICA" if version.has_replica_words else "SLAVE"
    if version.is_mariadb:
        own = f" {quoted(channel)}" if channel else ""
        statements = [f"STOP SLAVE{own}", f"CHANGE MASTER{own} TO {assignments}", f"START SLAVE{own}"]
    else:
        # Without FOR CHANNEL, STOP stops them all, and CHANGE is an error where there are several.
        own = f" FOR CHANNEL {quoted(channel)}"
        command = "CHANGE REPLICATION SOURCE TO" if version.has_source_words else "CHANGE MASTER TO"
        statements = [f"STOP {threads}{own}", f"{command} {assignments}{own}", f"START {threads}{own}"]
    return statements if is_running else statements[:-1]


def statements_of(fix: Fix, version: ServerVersion) -> list[str]:
    """All SQL of one fix, in order."""
    found = list(fix.statements)
    found += tls_statements(dict(fix.tls))
    if fix.options:
        found += change_source(version, fix.channel, dict(fix.options), is_running=fix.is_channel_running)
    return found
