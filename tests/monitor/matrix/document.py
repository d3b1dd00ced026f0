"""The tables in docs/detection.md, between their marks."""

from __future__ import annotations

import re
from pathlib import Path

from tests.monitor.matrix.confusion import Matrix

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "detection.md"


def write_tables(matrix: Matrix) -> None:
    """Replaces both tables by a matrix's."""
    text = DOCUMENT.read_text()
    for name, table in (("matrix", matrix.markdown()), ("scenarios", matrix.markdown_of_scenarios())):
        text = re.sub(rf"(<!-- {name} -->\n).*?(<!-- end -->)", rf"\g<1>{table}\n\2", text, flags=re.DOTALL)
    DOCUMENT.write_text(text)


def documented_scenarios() -> list[str]:
    """The first column of the table of scenarios."""
    [table] = re.findall(r"<!-- scenarios -->\n(.*?)<!-- end -->", DOCUMENT.read_text(), flags=re.DOTALL)
    return [line.split("|")[1].strip() for line in table.splitlines()[2:]]


def documented_counts() -> dict[str, list[str]]:
    """The rows of the confusion matrix by their first column, in the order of its heads."""
    [table] = re.findall(r"<!-- matrix -->\n(.*?)<!-- end -->", DOCUMENT.read_text(), flags=re.DOTALL)
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
    return {row[0]: row[1:] for row in rows}
