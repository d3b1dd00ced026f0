"""Servers that encrypt their binary logs, with a key file in a private folder; never a way to keep a key in earnest."""

import dataclasses
import json
from pathlib import Path

from testbed.flavours import Flavour


@dataclasses.dataclass(frozen=True)
class BinlogEncryption:
    """What a server is started with, see `Server`."""

    options: dict[str, str | int | Path | None]
    program: Path | None = None


def binlog_encryption(flavour: Flavour, folder: Path) -> BinlogEncryption:
    """Prepares a key in `folder`, which must not exist.

    MySQL's keyring is a component: its manifest lies beside the program, its configuration beside the library. Both
    get a folder of links here, for the bundle is shared.
    """
    folder.mkdir(parents=True)
    if flavour.is_mariadb:
        (folder / "keys").write_text(f"1;{'5a' * 32}\n")
        return BinlogEncryption(
            {
                "plugin-load-add": "file_key_management",
                "file-key-management-filename": folder / "keys",
                "encrypt-binlog": "ON",
            }
        )
    bundle = flavour.bundle()
    program, plugins = folder / "mysqld", folder / "plugin"
    program.symlink_to(bundle.program("mysqld"))
    plugins.mkdir()
    for library in bundle.path("usr/lib/mysql/plugin").iterdir():
        (plugins / library.name).symlink_to(library)
    (folder / "mysqld.my").write_text(json.dumps({"components": "file://component_keyring_file"}))
    keyring = {"path": str(folder / "keyring"), "read_only": False}
    (plugins / "component_keyring_file.cnf").write_text(json.dumps(keyring))
    return BinlogEncryption({"plugin-dir": plugins, "binlog-encryption": "ON"}, program)
