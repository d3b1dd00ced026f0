"""Where passwords come from: a file, the environment, an option file, a person. Never the command line."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from audit.dsn import Target
from audit.errors import AuditError

# More than any server takes; a wrong path may lead to something that never ends.
_LONGEST_FILE_BYTES = 4096


def password_of(target: Target, *, ask: Callable[[str], str] | None) -> str:
    """The password for a server.

    Args:
        target: the server.
        ask: prompts a person; None where nobody is there, and then it is empty, as for accounts that the unix socket
            vouches for.

    Raises:
        AuditError: the file or the variable that is named is not there.
    """
    if target.password_file is not None:
        return _from_file(target.password_file)
    if target.password_env is not None:
        try:
            return os.environ[target.password_env]
        except KeyError:
            raise AuditError(f"the environment variable {target.password_env} is not set") from None
    if target.defaults_password is not None:
        return target.defaults_password
    return ask(f"Password of {target.user} at {target.name}: ") if ask is not None else ""


def _from_file(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(_LONGEST_FILE_BYTES + 1)
    except OSError as error:
        raise AuditError(f"{path}: {error.strerror}") from error
    if len(content) > _LONGEST_FILE_BYTES:
        raise AuditError(f"{path}: too long for a password")
    try:
        return content.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise AuditError(f"{path}: not text") from None
