"""docs/migration.md, step by step on real servers under load; each step is taken, taken back, and taken again."""

from __future__ import annotations

import re
import shlex
from itertools import takewhile
from pathlib import Path

from testbed.servers import Server
from tests.documents.markdown import DOCS, Block, blocks_in
from tests.integration.following import replicate_in_plaintext, site
from tests.integration.lab import BIN, Table

PAGE = DOCS / "migration.md"


def steps() -> list[tuple[str, list[Block], list[Block]]]:
    """Title, what is done, and what takes it back."""
    found = []
    for part in re.split(r"^## ", PAGE.read_text(), flags=re.MULTILINE)[1:]:
        if part.startswith("Step "):
            blocks = blocks_in(part)
            forth = list(takewhile(lambda block: "**Back**" not in block.lead, blocks))
            found.append((part.partition("\n")[0], forth, blocks[len(forth) :]))
    return found


def source_port(replica: Server) -> int:
    return int(replica.replica_status().raw["Source_Port"])


def test_each_step_can_be_taken_and_taken_back_under_load(tmp_path: Path) -> None:
    with site(tmp_path, servers=("db1", "db2", "db3"), others=("admin",)) as found:
        source, *replicas = found.servers.values()
        replicate_in_plaintext(source, *replicas)
        for machine in found.reader.machines.values():
            machine.type(f"PATH={shlex.quote(str(BIN))}:$PATH")
        table = Table(source, "shop")

        def take(blocks: list[Block]) -> list[int]:
            """Does it, and returns the ports that the replicas use once they have all rows until then."""
            for block in blocks:
                found.reader.follow(block)
            for replica in replicas:
                replica.catch_up_with(source)
                replica.wait_for_replication()
            return [source_port(replica) for replica in replicas]

        undone, after = 0, [3306, 3306]
        with table.under_load(rows=5, pause_seconds=0.05):
            for _, forth, back in steps():
                before = [source_port(replica) for replica in replicas]
                after = take(forth)
                if back:
                    assert take(back) == before
                    assert take(forth) == after
                    undone += 1
        assert (undone, after) == (6, [3307, 3307])
        for replica in replicas:
            table.assert_same_on(replica)
