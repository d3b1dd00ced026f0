"""Every link of every page leads somewhere: to a file of the repository, and in a page to a heading."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.documents.markdown import DOCS, ROOT, anchors, links, pages


def relative_links(page: Path) -> list[str]:
    return [link for link in links(page) if "://" not in link and not link.startswith("mailto:")]


def fault(page: Path, link: str) -> str | None:
    """Why a link leads nowhere; None if it leads somewhere."""
    name, _, anchor = link.partition("#")
    target = (page.parent / name).resolve() if name else page
    if not target.is_relative_to(ROOT):
        return "leads out of the repository"
    if not target.exists():
        return "no such file"
    if anchor and (target.suffix != ".md" or anchor not in anchors(target)):
        return "no such heading"
    return None


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    broken = {link: why for link in relative_links(page) if (why := fault(page, link))}
    assert not broken


def test_there_are_links_to_be_checked() -> None:
    assert sum(len(relative_links(page)) for page in pages()) > 60


def test_a_link_that_leads_nowhere_is_noticed(tmp_path: Path) -> None:
    page = DOCS / "README.md"
    assert fault(page, "missing.md") == "no such file"
    assert fault(page, "refusals.md#no-such-heading") == "no such heading"
    assert fault(page, "../../elsewhere.md") == "leads out of the repository"
    assert fault(page, "refusals.md#refused-before-the-stream") is None
    written = tmp_path / "page.md"
    written.write_text(
        "# A `b` & c_d!\n\n## A `b` & c_d!\n\n```\n# no heading\n[no](link)\n```\n[x](y.md#z) `[no](code)`\n"
    )
    assert anchors(written) == {"a-b--c_d", "a-b--c_d-1"}
    assert list(links(written)) == ["y.md#z"]


def test_the_index_has_every_page() -> None:
    linked = {(DOCS / link.partition("#")[0]).resolve() for link in relative_links(DOCS / "README.md")}
    missing = {page.name for page in DOCS.glob("*.md") if page.resolve() not in linked and page.name != "README.md"}
    assert not missing
