"""What logs in through Binlock, as data: the tests run it, and docs/authentication.md shows it.

Legs are named `<replica leg>-<source leg>`. A tunnel is a plaintext replica leg, TLS between two proxies, and the
source leg of the second one.
"""

from __future__ import annotations

import getpass
from dataclasses import dataclass
from enum import Enum

from testbed.flavours import Flavour

REPLICA_LEGS = ("tls", "plain", "tunnel")
SOURCE_LEGS = ("unix", "tcp", "tls")
LEGS = tuple(f"{replica}-{source}" for replica in REPLICA_LEGS for source in SOURCE_LEGS)
TITLES = {
    Flavour.MYSQL_9_7: "MySQL 9.7",
    Flavour.MARIADB_10_11: "MariaDB 10.11",
    Flavour.MARIADB_11_8: "MariaDB 11.8",
}


class Cache(Enum):
    """What the source keeps of a password that it was once given."""

    NONE = "none"
    COLD_AND_WARM = "cold and warm"


@dataclass(frozen=True)
class Row:
    """One way to authenticate at one source.

    Attributes:
        key: what its accounts begin with.
        plugin: as docs/authentication.md names it.
        created_as: what comes behind IDENTIFIED, with `%s` for the password.
        cache: whether a login differs that is not the first.
        fails_on: the legs on which it cannot work, with Binlock or without.
        takes_empty: whether the server lets an account with an empty password in at all.
        is_for_replicas: whether a replica can, and not only a client.
        note: a reference to the notes of the document.
        refused_peers: whose client cannot, and the error that it shows.
    """

    source: Flavour
    key: str
    plugin: str
    created_as: str
    cache: Cache = Cache.NONE
    fails_on: frozenset[str] = frozenset()
    takes_empty: bool = True
    is_for_replicas: bool = True
    note: str = ""
    refused_peers: tuple[tuple[Flavour, int], ...] = ()

    def works_on(self, legs: str) -> bool:
        return legs not in self.fails_on

    @property
    def title(self) -> str:
        return f"{self.plugin}{self.note}"


_NOT_UNIX = frozenset(legs for legs in LEGS if not legs.endswith("unix"))
_ONE_FACTOR_CLIENTS = ((Flavour.MARIADB_10_11, 1045), (Flavour.MARIADB_11_8, 1045))
_NO_ED25519 = ((Flavour.MYSQL_9_7, 2059),)
_NO_PARSEC = ((Flavour.MYSQL_9_7, 2059), (Flavour.MARIADB_10_11, 1045))
_CACHING_SHA2 = "WITH caching_sha2_password BY %s"
# The operating system's user that Binlock runs as: the second factor is who is at the other end of the socket.
_SOCKET = f"{_CACHING_SHA2} AND IDENTIFIED WITH auth_socket AS '{getpass.getuser()}'"
_WEBAUTHN = f"{_CACHING_SHA2} AND IDENTIFIED WITH authentication_webauthn"
_NATIVE = "VIA mysql_native_password USING PASSWORD(%s)"
_ED25519 = "VIA ed25519 USING PASSWORD(%s)"
_PARSEC = "VIA parsec USING PASSWORD(%s)"
_MARIADB_SHA2 = "VIA caching_sha2_password USING PASSWORD(%s)"
_EITHER = "VIA ed25519 USING PASSWORD('the other one') OR mysql_native_password USING PASSWORD(%s)"

_MYSQL, _OLD, _NEW = Flavour.MYSQL_9_7, Flavour.MARIADB_10_11, Flavour.MARIADB_11_8
_TWO = Cache.COLD_AND_WARM
WEBAUTHN = Row(
    _MYSQL, "webauthn", "caching_sha2_password, then authentication_webauthn", _WEBAUTHN, _TWO,
    is_for_replicas=False, note=" (2)", refused_peers=_ONE_FACTOR_CLIENTS,
)  # fmt: skip
EITHER = Row(
    _NEW, "either", "ed25519 or mysql_native_password", _EITHER,
    is_for_replicas=False, note=" (5)", refused_peers=_NO_ED25519,
)  # fmt: skip
ROWS = (
    Row(_MYSQL, "caching", "caching_sha2_password", _CACHING_SHA2, _TWO),
    Row(_MYSQL, "sha256", "sha256_password", "WITH sha256_password BY %s"),
    Row(
        _MYSQL, "socket", "caching_sha2_password, then auth_socket", _SOCKET, _TWO,
        fails_on=_NOT_UNIX, note=" (1)", refused_peers=_ONE_FACTOR_CLIENTS,
    ),
    WEBAUTHN,
    Row(_OLD, "native", "mysql_native_password", _NATIVE),
    Row(_OLD, "ed25519", "ed25519", _ED25519, takes_empty=False, note=" (3)", refused_peers=_NO_ED25519),
    Row(_NEW, "native", "mysql_native_password", _NATIVE),
    Row(_NEW, "ed25519", "ed25519", _ED25519, refused_peers=_NO_ED25519),
    Row(_NEW, "parsec", "parsec", _PARSEC, refused_peers=_NO_PARSEC),
    Row(_NEW, "caching", "caching_sha2_password", _MARIADB_SHA2, note=" (4)"),
    EITHER,
)  # fmt: skip


def table_of_legs() -> list[str]:
    """The first table of docs/authentication.md."""
    lines = [["source", "plugin", "cache", *LEGS]]
    lines += [
        [TITLES[row.source], row.title, row.cache.value, *("yes" if row.works_on(legs) else "no" for legs in LEGS)]
        for row in ROWS
    ]
    return _markdown(lines)


def table_of_peers() -> list[str]:
    """The second one."""
    lines = [["source", "plugin", *(f"{title} client" for title in TITLES.values())]]
    for row in ROWS:
        refused = dict(row.refused_peers)
        answers = (f"no: {refused[peer]}" if peer in refused else "yes" for peer in TITLES)
        lines.append([TITLES[row.source], row.title, *answers])
    return _markdown(lines)


def _markdown(lines: list[list[str]]) -> list[str]:
    header, *rows = (f"| {' | '.join(cells)} |" for cells in lines)
    return [header, "|" + "---|" * len(lines[0]), *rows]
