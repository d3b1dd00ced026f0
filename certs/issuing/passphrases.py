"""Passphrases of authorities' keys, from files; asking on a terminal is the command line's."""

from pathlib import Path

from certs.errors import CertsError
from certs.storage import read_file, verify_secret_mode

# The file can be copied and tried at leisure; what can be guessed then, protects nothing.
MIN_CHARACTERS = 12


def read_passphrase(path: Path) -> bytes:
    """The first line of a file that is its owner's alone."""
    verify_secret_mode(path)
    lines = read_file(path).splitlines()
    if not lines or not lines[0]:
        raise CertsError(f"{path} has no passphrase in its first line: write one there")
    return lines[0]


def refuse_short(passphrase: bytes) -> bytes:
    """The passphrase, if it may protect a new key."""
    if len(passphrase) < MIN_CHARACTERS:
        raise CertsError(f"a passphrase of {len(passphrase)} characters can be guessed: use {MIN_CHARACTERS} or more")
    return passphrase
