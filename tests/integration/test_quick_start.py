"""docs/quick-start.md, word for word, on three machines with real servers, under load."""

from __future__ import annotations

from pathlib import Path

from tests.documents.markdown import DOCS, blocks
from tests.integration.following import replicate_in_plaintext, site
from tests.integration.lab import Table

PAGE = DOCS / "quick-start.md"


def test_a_stranger_can_follow_the_page(tmp_path: Path) -> None:
    with site(tmp_path, servers=("db1", "db2"), others=("admin",)) as found:
        source, replica = found.servers.values()
        replicate_in_plaintext(source, replica)
        table = Table(source, "shop")
        with table.under_load(rows=5, pause_seconds=0.05):
            for block in blocks(PAGE):
                found.reader.follow(block)
        assert found.reader.commands > 25
        table.assert_same_on(replica)
        assert replica.sql("SHOW DATABASES LIKE 'hello'")
