"""Flows as they are shown: the fields of JSON lines, of the log and of `/flows`, and a table for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from endpoint.page.wording import shown_bytes
from monitor.reporting.masking import Masking
from monitor.verdicts import Flow, TlsFacts, Verdict

# What wants attention comes first.
ORDER = (
    Verdict.PLAINTEXT_REPLICATION,
    Verdict.UNDECIDED,
    Verdict.PLAINTEXT_CLIENT,
    Verdict.TLS,
    Verdict.NOT_MYSQL,
)
# Of a capture with more flows than a person reads; the counts are of all.
_MOST_ROWS_A_VERDICT = 10_000

_RESET = "\x1b[0m"
_COLOURS = {
    Verdict.PLAINTEXT_REPLICATION: "\x1b[1;31m",
    Verdict.UNDECIDED: "\x1b[33m",
    Verdict.PLAINTEXT_CLIENT: "\x1b[33m",
    Verdict.TLS: "\x1b[32m",
    Verdict.NOT_MYSQL: "\x1b[2m",
}


def flow_fields(flow: Flow, masking: Masking) -> dict[str, Any]:
    """What is said of a flow, by the names of docs/monitor.md; never what was sent."""
    fields: dict[str, Any] = {
        "client": masking.endpoint(flow.client),
        "server": masking.endpoint(flow.server),
        "verdict": flow.verdict.value,
        "evidence": list(flow.evidence),
        "mid_stream": flow.mid_stream,
        "incomplete": flow.is_incomplete,
        "compressed": flow.is_compressed,
        "packets": flow.packets,
        "bytes": flow.bytes,
    }
    tls = _tls_fields(flow.tls)
    if tls:
        fields["tls"] = tls
    return fields | {"first_seen": _iso(flow.first_seconds), "last_seen": _iso(flow.last_seconds)}


def _tls_fields(tls: TlsFacts) -> dict[str, str]:
    fields = {"version": tls.version, "cipher": tls.cipher, "group": tls.group}
    if tls.certificate_not_after is not None:
        fields["certificate_not_after"] = tls.certificate_not_after.isoformat()
    return {name: value for name, value in fields.items() if value}


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


@dataclass(frozen=True, slots=True)
class _Row:
    cells: tuple[str, ...]
    evidence: tuple[str, ...]


@dataclass(slots=True)
class Report:
    """Collects flows in the order in which they are found, and shows them as a table, the worst first.

    Attributes:
        masking: of their addresses.
        counts: of all flows, also those that the table has no room for.
    """

    masking: Masking
    counts: Counter[Verdict] = field(default_factory=Counter)
    _rows: dict[Verdict, list[_Row]] = field(default_factory=dict)

    def add(self, file: str, flow: Flow) -> None:
        """Takes a flow that is over."""
        self.counts[flow.verdict] += 1
        rows = self._rows.setdefault(flow.verdict, [])
        if len(rows) < _MOST_ROWS_A_VERDICT:
            fields = flow_fields(flow, self.masking) | {"file": file}
            rows.append(_Row(tuple(shown(fields) for shown in _COLUMNS.values()), tuple(flow.evidence)))

    def lines(self, *, is_coloured: bool, has_file_column: bool) -> Iterator[str]:
        """The table, and a count of each verdict behind it."""
        columns = [index for index, name in enumerate(_COLUMNS) if name != "file" or has_file_column]
        titles = tuple(_COLUMNS)
        rows = [row for verdict in ORDER for row in self._rows.get(verdict, ())]
        widths = [max(len(cells[index]) for cells in (titles, *(row.cells for row in rows))) for index in columns]

        def laid_out(cells: tuple[str, ...]) -> str:
            return "  ".join(cells[index].ljust(width) for index, width in zip(columns, widths, strict=True)).rstrip()

        if rows:
            yield laid_out(titles)
        for verdict in ORDER:
            colour, reset = (_COLOURS[verdict], _RESET) if is_coloured else ("", "")
            for row in self._rows.get(verdict, ()):
                yield f"{colour}{laid_out(row.cells)}{reset}"
                yield from (f"    {piece}" for piece in row.evidence)
            left_out = self.counts[verdict] - len(self._rows.get(verdict, ()))
            if left_out:
                yield f"{colour}... and {left_out} more: {verdict}{reset}"
        if rows:
            yield ""
        for verdict in ORDER:
            colour, reset = (_COLOURS[verdict], _RESET) if is_coloured and self.counts[verdict] else ("", "")
            yield f"{colour}{self.counts[verdict]:>8}  {verdict}{reset}"


def _encryption(fields: dict[str, Any]) -> str:
    tls = fields.get("tls", {})
    return " ".join(tls[name] for name in ("version", "cipher", "group") if name in tls) or "-"


def _seen(fields: dict[str, Any]) -> str:
    marks = {"mid_stream": "joined late", "incomplete": "packets lost", "compressed": "compressed"}
    return ", ".join(text for name, text in marks.items() if fields[name]) or "-"


def printable(text: str) -> str:
    """A name from outside, such as a file's, without what would move a terminal's cursor."""
    return text if text.isprintable() else text.encode("unicode_escape").decode("ascii")


# One line a flow; what led to the verdict stands below it. JSON has every field.
_COLUMNS: dict[str, Callable[[dict[str, Any]], str]] = {
    "verdict": lambda fields: str(fields["verdict"]),
    "client": lambda fields: str(fields["client"]),
    "server": lambda fields: str(fields["server"]),
    "TLS": _encryption,
    "seen": _seen,
    "packets": lambda fields: str(fields["packets"]),
    "bytes": lambda fields: shown_bytes(fields["bytes"]),
    "first seen": lambda fields: str(fields["first_seen"])[:19].replace("T", " "),
    "file": lambda fields: printable(str(fields["file"])),
}
