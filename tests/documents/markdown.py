"""The repository's Markdown as its readers' programs see it: headings, anchors, links, fenced blocks, tables."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
_FENCE = re.compile(r"^```(\S*)[^\n]*\n(.*?)^```$", flags=re.DOTALL | re.MULTILINE)


class Block(NamedTuple):
    """One fenced block.

    Attributes:
        language: the word behind the fence; empty for none.
        lead: the paragraph before it.
    """

    language: str
    lead: str
    text: str


def pages() -> list[Path]:
    """Every page of the repository; what tools unpack and install is in folders that begin with a dot, or ignored."""
    found = [path for path in ROOT.glob("**/*.md") if not _is_foreign(path)]
    return sorted(found)


def _is_foreign(path: Path) -> bool:
    parts = path.relative_to(ROOT).parts
    return any(part.startswith(".") or part in {"node_modules", "dist", "build"} for part in parts)


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    return blocks_in(page.read_text())


def blocks_in(text: str) -> list[Block]:
    """The fenced blocks of a part of a page, in order."""
    found, end = [], 0
    for match in _FENCE.finditer(text):
        before = text[end : match.start()].strip()
        found.append(Block(match[1], re.split(r"\n\n", before)[-1], match[2]))
        end = match.end()
    return found


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return _FENCE.sub("", page.read_text())


def section(page: Path, title: str) -> str:
    """What stands under a heading, up to the next one of its level or above."""
    marks = re.escape(title.split(maxsplit=1)[0])
    _, found, rest = page.read_text().partition(f"\n{title}\n")
    if not found:
        raise LookupError(f"{page.name} has no {title!r}")
    return re.split(rf"\n#{{1,{len(title.split(maxsplit=1)[0])}}} ", rest)[0] if marks else rest


def rows(text: str) -> list[list[str]]:
    """The cells of the tables in a text, without heads; a `|` inside a code span is written `\\|`."""
    found, is_head = [], True
    for line in text.splitlines():
        if not line.startswith("|"):
            is_head = True
        elif set(line) <= set("|-: "):
            is_head = False
        elif not is_head:
            cells = re.split(r"(?<!\\)\|", line.strip().removeprefix("|").removesuffix("|"))
            found.append([cell.strip() for cell in cells])
    return found


def anchors(page: Path) -> set[str]:
    """What a link's fragment can name, as GitHub makes it from headings."""
    counts: Counter[str] = Counter()
    found = set()
    for heading in re.findall(r"^#{1,6} +(.*?) *#*$", prose(page), flags=re.MULTILINE):
        slug = _slug(re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading))
        found.add(slug if not counts[slug] else f"{slug}-{counts[slug]}")
        counts[slug] += 1
    return found | set(re.findall(r'<a (?:id|name)="([^"]+)"', page.read_text()))


def _slug(heading: str) -> str:
    kept = (c for c in heading.lower() if c in " -_" or unicodedata.category(c)[0] in "LNM")
    return "".join(kept).replace(" ", "-")


def links(page: Path) -> Iterator[str]:
    """The targets of a page's links and pictures, but for those in code."""
    text = re.sub(r"`[^`\n]*`", "", prose(page))
    yield from re.findall(r"\]\(<?([^)\s>]+)>?(?: \"[^\"]*\")?\)", text)
    yield from re.findall(r"^\[[^]]+\]: *(\S+)", text, flags=re.MULTILINE)
    yield from re.findall(r'<(?:img|a)[^>]* (?:src|href)="([^"]+)"', text)
