"""Pseudonyms for addresses, so that a report can be given away without the network's layout.

An address becomes `host-` and ten hexadecimal digits of a keyed hash (BLAKE2b, RFC 7693). Without the key nobody can
try out the four thousand million IPv4 addresses; with it, the same address has the same name in every report. Ports
stay: a server's says which service is meant, and a client's is picked by chance.
"""

import hashlib
import ipaddress
import secrets
from pathlib import Path

_KEY_BYTES_AT_LEAST = 16
_PSEUDONYM_BYTES = 5


class MaskKeyError(Exception):
    """A key file cannot be used; the text names it and says why."""


class Masking:
    """Addresses as they are shown: themselves, or pseudonyms."""

    def __init__(self, key: bytes | None = None) -> None:
        """Without a key addresses stay as they are.

        Args:
            key: of any length; see `fresh` and `from_file`.
        """
        self._key = hashlib.blake2b(key).digest() if key is not None else None

    @classmethod
    def fresh(cls) -> "Masking":
        """Pseudonyms that hold for this run."""
        return cls(secrets.token_bytes(32))

    @classmethod
    def from_file(cls, path: Path) -> "Masking":
        """Pseudonyms that hold wherever this file is the key.

        Raises:
            MaskKeyError: it cannot be read, or is too short to be a secret.
        """
        try:
            key = path.read_bytes().strip()
        except OSError as error:
            raise MaskKeyError(f"{path}: {error.strerror}") from error
        if len(key) < _KEY_BYTES_AT_LEAST:
            raise MaskKeyError(
                f"{path}: holds {len(key)} bytes; a key has {_KEY_BYTES_AT_LEAST} or more, such as"
                " `head -c 32 /dev/urandom | base64` writes"
            )
        return cls(key)

    def address(self, text: str) -> str:
        """An address as it is shown.

        Args:
            text: of an IPv4 or IPv6 address, without brackets.
        """
        if self._key is None:
            return text
        packed = ipaddress.ip_address(text).packed
        return f"host-{hashlib.blake2b(packed, key=self._key, digest_size=_PSEUDONYM_BYTES).hexdigest()}"

    def endpoint(self, text: str) -> str:
        """An address and port as they are shown.

        Args:
            text: "address:port", an IPv6 address in brackets.
        """
        return text if self._key is None else f"{self.address(host_of(text))}:{text.rpartition(':')[2]}"


def host_of(endpoint: str) -> str:
    """The address of "address:port", without brackets."""
    return endpoint.rpartition(":")[0].strip("[]")
