"""Common passwords, held against what the server stores of them. What is stored never leaves this module.

Formats: `mysql_native_password` is `*` and SHA1(SHA1(password)) in hexadecimal; `caching_sha2_password` is
`$A$<rounds/1000, hexadecimal>$` and `sha256_password` is `$5$`, each with 20 bytes of salt and 43 characters of
SHA-crypt digest (mysys/crypt_genhash_impl.cc, after https://www.akkadia.org/drepper/SHA-crypt.txt).
"""

from __future__ import annotations

import hashlib
import itertools

_COMMON = (
    "password", "Password1", "password123", "passw0rd", "123456", "12345678", "secret", "changeme", "admin", "root",
    "mysql", "mariadb", "repl", "replica", "replication", "slave", "slavepass", "replpass", "test",
)  # fmt: skip
_SALT_BYTES = 20
_DIGEST_CHARACTERS = 43
_ALPHABET = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def guess(user: str, plugin: str, stored: str) -> str | None:
    """Which common password an account has.

    Returns:
        The password; empty for none of those that are tried; None where this plugin's form is not known here.
    """
    candidates = dict.fromkeys((user, f"{user}123", f"{user}pass", user[::-1], *_COMMON))
    if plugin == "mysql_native_password" and stored.startswith("*"):
        return next((word for word in candidates if _native(word) == stored.upper()), "")
    parsed = _parse_crypt(plugin, stored)
    if parsed is None:
        return None
    salt, rounds, digest = parsed
    return next((word for word in candidates if _sha_crypt(word.encode(), salt, rounds) == digest), "")


def _native(word: str) -> str:
    return "*" + hashlib.sha1(hashlib.sha1(word.encode()).digest()).hexdigest().upper()  # noqa: S324 - the format's own


def _parse_crypt(plugin: str, stored: str) -> tuple[bytes, int, str] | None:
    """Salt, rounds and digest."""
    if plugin == "caching_sha2_password" and stored.startswith("$A$") and stored[6:7] == "$":
        try:
            rounds = int(stored[3:6], 16) * 1000
        except ValueError:
            return None
        rest = stored[7:]
    elif plugin == "sha256_password" and stored.startswith("$5$"):
        rounds, rest = 5000, stored[3 : 3 + _SALT_BYTES] + stored[4 + _SALT_BYTES :]
    else:
        return None
    if len(rest) != _SALT_BYTES + _DIGEST_CHARACTERS:
        return None
    return rest[:_SALT_BYTES].encode(), rounds, rest[_SALT_BYTES:]


def _sha_crypt(key: bytes, salt: bytes, rounds: int) -> str:
    """SHA-256 crypt; the steps are those of the paper, with all of MySQL's longer salt."""
    sha = hashlib.sha256
    alternate = sha(key + salt + key).digest()
    start = key + salt + _repeated(alternate, len(key))
    length = len(key)
    while length:
        start += alternate if length & 1 else key
        length >>= 1
    digest = sha(start).digest()
    p_bytes = _repeated(sha(key * len(key)).digest(), len(key))
    s_bytes = _repeated(sha(salt * (16 + digest[0])).digest(), len(salt))
    # What stands before and behind the digest in each round repeats itself after 2 * 3 * 7 of them.
    around = []
    for number in range(42):
        middle = (s_bytes if number % 3 else b"") + (p_bytes if number % 7 else b"")
        around.append((p_bytes + middle, b"") if number & 1 else (b"", middle + p_bytes))
    for before, behind in itertools.islice(itertools.cycle(around), rounds):
        digest = sha(before + digest + behind).digest()
    return _encoded(digest)


def _repeated(block: bytes, length: int) -> bytes:
    return (block * (length // len(block) + 1))[:length]


def _encoded(digest: bytes) -> str:
    """The digest's bytes in the order of the paper, six bits a character, the lowest first."""
    order = [(0, 10, 20), (21, 1, 11), (12, 22, 2), (3, 13, 23), (24, 4, 14), (15, 25, 5), (6, 16, 26), (27, 7, 17),
             (18, 28, 8), (9, 19, 29)]  # fmt: skip
    text = ""
    for high, middle, low in order:
        text += _characters(digest[high] << 16 | digest[middle] << 8 | digest[low], 4)
    return text + _characters(digest[31] << 8 | digest[30], 3)


def _characters(value: int, count: int) -> str:
    return "".join(_ALPHABET[value >> (6 * position) & 0x3F] for position in range(count))
