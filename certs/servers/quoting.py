"""Values as the languages that are written here spell them: TOML, SQL, option files."""

import json
from pathlib import Path

from certs.errors import CertsError


def toml_text(value: Path | str) -> str:
    """A TOML basic string; that is a JSON string which leaves what is not ASCII as it is."""
    return json.dumps(_text(value), ensure_ascii=False)


def sql_text(value: Path | str) -> str:
    """An SQL string, for the servers' default sql_mode, where a backslash escapes."""
    return "'" + _text(value).replace("\\", "\\\\").replace("'", "''") + "'"


def option_text(value: Path | str) -> str:
    """A value in `my.cnf`: quoted where `#` or a space would end it (manual, Using Option Files)."""
    text = _text(value)
    if not text.isprintable() or '"' in text or "'" in text:
        raise CertsError(f"{text!r} cannot stand in an option file: choose a path without quotes and line ends")
    escaped = text.replace("\\", "\\\\")
    return f'"{escaped}"' if "#" in text or " " in text else escaped


def _text(value: Path | str) -> str:
    return str(value.absolute() if isinstance(value, Path) else value)
