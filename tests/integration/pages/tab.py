"""A tab of a real browser that notes all that a page must not do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Literal

from playwright.sync_api import Browser, Dialog, Page, Request

from testbed.node import packages

PHONE_WIDTH, DESK_WIDTH = 360, 1280
# The narrowest at which a table is a table.
TABLE_WIDTH = 1121
WAIT_MS = 60_000
# A violation is an event of the document; the page's own script does not listen.
NOTE_VIOLATIONS = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) => {
  window.violations.push(`${event.violatedDirective}: ${event.blockedURI} ${event.sample}`);
});
"""
BEST = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


@cache
def axe_source() -> str:
    return (packages(Path(__file__).parent) / "node_modules" / "axe-core" / "axe.min.js").read_text()


class Tab:
    """A page in a context of its own.

    Attributes:
        complaints: errors of its scripts, of the console, dialogs, and requests to anywhere else.
    """

    def __init__(self, page: Page, address: str) -> None:
        self.page = page
        self.address = address
        self.complaints: list[str] = []
        page.set_default_timeout(WAIT_MS)
        page.on("console", lambda message: self._note(message.text, unless=message.type not in {"error", "warning"}))
        page.on("pageerror", lambda error: self._note(str(error)))
        page.on("dialog", self._note_dialog)
        page.on("request", self._note_request)

    def _note(self, complaint: str, *, unless: bool = False) -> None:
        if not unless:
            self.complaints.append(complaint)

    def _note_dialog(self, dialog: Dialog) -> None:
        self._note(f"a dialog: {dialog.message}")
        dialog.dismiss()

    def _note_request(self, request: Request) -> None:
        self._note(f"asks for {request.url}", unless=request.url.startswith(self.address))

    def rows(self, section: str) -> list[str]:
        """The text of each row of a section's table."""
        return [row.inner_text() for row in self.page.locator(f"#{section} tbody tr").all()]

    def wait_for_text(self, selector: str, text: str) -> None:
        self.page.locator(selector).filter(has_text=text).first.wait_for()

    def ask_now(self) -> None:
        """Somebody who pauses and resumes has the page ask again at once."""
        for name in ("Pause", "Resume"):
            self.page.get_by_role("button", name=name).click()

    def width_of_content(self) -> int:
        return int(self.page.evaluate("document.documentElement.scrollWidth"))

    def faults(self, scheme: Literal["light", "dark"]) -> list[str]:
        """What axe-core objects to, in one colour scheme."""
        self.page.emulate_media(color_scheme=scheme)
        if not self.page.evaluate("typeof axe === 'object'"):
            self.page.evaluate(axe_source())
        # It would load the style once more to know whether a phone may be turned, and wait for what the policy forbids.
        found: dict[str, Any] = self.page.evaluate("(tags) => axe.run(document, {runOnly: tags, preload: false})", BEST)
        looked_at = {rule["id"] for rule in found["passes"]}
        assert {"color-contrast", "html-has-lang", "landmark-one-main", "region"} <= looked_at
        return [f"{fault['id']}: {[node['html'] for node in fault['nodes']]}" for fault in found["violations"]]

    def assert_fits(self, width: int, *schemes: Literal["light", "dark"]) -> None:
        """Nothing is wider than the window, and axe-core finds nothing."""
        self.page.set_viewport_size({"width": width, "height": 800})
        assert self.width_of_content() <= width
        assert [fault for scheme in schemes for fault in self.faults(scheme)] == []

    def assert_behaved(self) -> None:
        assert self.page.evaluate("window.violations") == []
        assert self.complaints == []


@contextmanager
def opened(browser: Browser, address: str, **settings: Any) -> Iterator[Tab]:
    """The page at an address; without `java_script_enabled` it is what the server has rendered."""
    with browser.new_context(viewport={"width": DESK_WIDTH, "height": 800}, **settings) as context:
        context.add_init_script(NOTE_VIOLATIONS)
        tab = Tab(context.new_page(), address)
        tab.page.goto(address)
        yield tab
