"""docs/reference-commands.md is what the parsers say."""

from __future__ import annotations

import re

from tests.documents.commands import PAGE, reference
from tests.documents.markdown import DOCS, blocks


def test_the_reference_is_current() -> None:
    assert PAGE.read_text() == reference(), "run `python -m tests.documents.commands`"


def test_every_command_and_every_option_is_there() -> None:
    text = PAGE.read_text()
    commands = set(re.findall(r"^### binlock-(\S+ \S+)$", text, flags=re.MULTILINE))
    assert {"proxy run", "proxy check", "proxy sessions", "proxy health", "monitor run", "monitor read"} <= commands
    assert {f"certs {name}" for name in ("init", "issue", "renew", "revoke", "crl", "show", "verify")} <= commands
    assert text.count("\n## binlock-") == 4


def offered(text: str) -> dict[str, set[str]]:
    """The options by command, as the reference has them."""
    parts = re.split(r"^##+ (binlock-[a-z -]+)$", text, flags=re.MULTILINE)
    return {
        name: set(re.findall(r"^\| `(--[a-z-]+)", body, flags=re.MULTILINE))
        for name, body in zip(parts[1::2], parts[2::2], strict=True)
    }


def test_no_page_uses_an_option_that_does_not_exist() -> None:
    options = offered(PAGE.read_text())
    seen = 0
    for page in [*DOCS.glob("*.md"), DOCS.parent / "README.md"]:
        for block in blocks(page):
            for line in block.text.replace("\\\n", " ").splitlines():
                command = re.search(r"\b(binlock-(?:audit|(?:proxy|monitor|certs) [a-z-]+))\b([^|#;]*)", line)
                if command is None or command[1] not in options:
                    continue
                seen += 1
                assert set(re.findall(r"(?<= )--[a-z-]+", command[2])) <= options[command[1]], f"{page.name}: {line}"
    assert seen > 30
