"""docs/migration.md, step by step on real servers under load; each step is taken, taken back, and taken again."""

from __future__ import annotations

import re
import shlex
from itertools import takewhile
from pathlib import Path

import pytest

from testbed.flavours import Flavour
from testbed.servers import Server
from tests.documents.markdown import DOCS, Block, blocks_in
from tests.integration.following import is_for, replicate_in_plaintext, site
from tests.integration.lab import BIN, Table

PAGE = DOCS / "migration.md"


def steps(flavour: Flavour) -> list[tuple[str, list[Block], list[Block]]]:
    """Title, what is done, and what takes it back, on this product."""
    found = []
    for part in re.split(r"^## ", PAGE.read_text(), flags=re.MULTILINE)[1:]:
        if part.startswith("Step "):
            blocks = blocks_in(part)
            forth = list(takewhile(lambda block: "**Back**" not in block.lead, blocks))
            back = blocks[len(forth) :]
            ours = [[block for block in each if is_for(block, flavour)] for each in (forth, back)]
            found.append((part.partition("\n")[0], ours[0], ours[1]))
    return found


def statements(blocks: list[Block]) -> int:
    return sum(block.language == "sql" for block in blocks)


def test_what_is_typed_for_one_product_has_its_like_for_the_other() -> None:
    ours, theirs = (
        [(title, statements(forth), statements(back)) for title, forth, back in steps(flavour)]
        for flavour in (Flavour.MYSQL_9_7, Flavour.MARIADB_11_8)
    )
    assert ours == theirs
    assert sum(forth + back for _, forth, back in ours) == 9


def way(replica: Server) -> tuple[int, str]:
    """The port that a replica goes to, and whether by TLS."""
    status, word = replica.replica_status().raw, "Master" if replica.flavour.is_mariadb else "Source"
    return int(status[f"{word}_Port"]), status[f"{word}_SSL_Allowed"]


@pytest.mark.parametrize("flavour", [Flavour.MYSQL_9_7, Flavour.MARIADB_11_8], ids=lambda flavour: flavour.value)
def test_each_step_can_be_taken_and_taken_back_under_load(flavour: Flavour, tmp_path: Path) -> None:
    with site(tmp_path, servers=("db1", "db2", "db3"), others=("admin",), flavour=flavour) as found:
        source, *replicas = found.servers.values()
        replicate_in_plaintext(source, *replicas)
        for machine in found.reader.machines.values():
            machine.type(f"PATH={shlex.quote(str(BIN))}:$PATH")
        table = Table(source, "shop")

        def take(blocks: list[Block]) -> list[tuple[int, str]]:
            """Does it, and returns the ways that the replicas go once they have all rows until then."""
            for block in blocks:
                found.reader.follow(block)
            for replica in replicas:
                replica.catch_up_with(source)
                replica.wait_for_replication()
            return [way(replica) for replica in replicas]

        undone, after = 0, [way(replica) for replica in replicas]
        assert after == [(3306, "No"), (3306, "No")]
        with table.under_load(rows=5, pause_seconds=0.05):
            for _, forth, back in steps(flavour):
                before = [way(replica) for replica in replicas]
                after = take(forth)
                if back:
                    assert take(back) == before
                    assert take(forth) == after
                    undone += 1
        assert (undone, after) == (6, [(3307, "Yes"), (3307, "No")])
        for replica in replicas:
            table.assert_same_on(replica)
