from pathlib import Path

import pytest

from testbed.encryption import binlog_encryption
from testbed.flavours import Flavour
from testbed.servers import Server

MARKER = b"a sentence that must not be read in the log"


@pytest.mark.parametrize("flavour", list(Flavour), ids=lambda flavour: flavour.value)
def test_a_row_is_not_readable_in_an_encrypted_log(flavour: Flavour, folder: Path) -> None:
    encryption = binlog_encryption(flavour, folder / "encryption")
    with Server(
        folder / "server", flavour, server_id=1, options=encryption.options, program=encryption.program
    ) as server:
        for statement in ("CREATE DATABASE shop", "CREATE TABLE shop.orders (id INT PRIMARY KEY, what TEXT)"):
            server.sql(statement)
        server.sql("INSERT INTO shop.orders VALUES (1, %s)", MARKER.decode())
        log = folder / "server" / "data" / server.binlog_position()[0]
        assert MARKER not in log.read_bytes()
        assert server.sql(f"SHOW BINLOG EVENTS IN '{log.name}'")[-1]["Event_type"] == "Xid"
