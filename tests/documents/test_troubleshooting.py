"""The texts of ours that docs/troubleshooting.md quotes are in the code."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from tests.documents.markdown import DOCS, ROOT, rows, section

PAGE = DOCS / "troubleshooting.md"
SECTIONS = {
    "## The proxy does not start, or does not reload": "proxy",
    "## In the proxy's log": "proxy",
    "## The monitor": "monitor",
    "## Certificates": "certs",
    "## The audit": "audit",
}


def rendered(node: ast.AST) -> str:
    """A text as the code has it, `...` where it puts something in."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(rendered(part) for part in parts)
        case ast.BinOp(left=left, right=right):
            return rendered(left) + rendered(right)
        case ast.Call(func=ast.Attribute(value=inner, attr="format")):
            return re.sub(r"\{[^}]*\}", "...", rendered(inner))
        case ast.IfExp(body=body):
            return rendered(body)
    return "..."


def texts(package: str) -> Iterator[str]:
    kinds = ast.Constant | ast.JoinedStr | ast.BinOp | ast.Call
    for path in (ROOT / package).glob("**/*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, kinds) and (text := rendered(node)).strip(". "):
                yield " ".join(text.split())


def quoted() -> list[tuple[str, str]]:
    """Package and text of each first cell."""
    found = []
    for title, package in SECTIONS.items():
        # A text with backticks of its own stands between two and a space.
        found += [(package, row[0].strip("`").strip()) for row in rows(section(PAGE, title)) if row[0].startswith("`")]
    return found


def is_in(text: str, known: set[str]) -> bool:
    """Whether the code has it: each `...` of the page may stand for more than the code's own."""
    wanted = re.compile(r".*?".join(map(re.escape, text.split("..."))), flags=re.DOTALL)
    return any(wanted.fullmatch(found) for found in known)


@pytest.fixture(scope="module")
def known() -> dict[str, set[str]]:
    return {package: set(texts(package)) for package in SECTIONS.values()}


@pytest.mark.parametrize(("package", "text"), quoted())
def test_a_text_that_is_quoted_is_in_the_code(package: str, text: str, known: dict[str, set[str]]) -> None:
    assert is_in(text, known[package]), "no message of that package reads so"


def test_a_text_that_is_not_is_noticed(known: dict[str, set[str]]) -> None:
    assert len(quoted()) > 50
    assert not is_in("the replica logs in without a hat", known["proxy"])
    assert not is_in("the replica logs in", known["proxy"])
