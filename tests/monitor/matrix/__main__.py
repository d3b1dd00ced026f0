"""`python -m tests.monitor.matrix [--document] [FACTOR]` prints the confusion matrix.

With FACTOR times as many cases; with `--document` it goes into docs/detection.md as well.
"""

from __future__ import annotations

import sys

from tests.monitor.matrix.confusion import run
from tests.monitor.matrix.document import write_tables
from tests.monitor.matrix.recording import recorded


def main(words: list[str]) -> int:
    """Records what is not recorded yet, judges all cases, prints what went wrong and the tables; 1 if anything did."""
    is_for_document = "--document" in words
    factor = int(next((word for word in words if word.isdigit()), "1"))
    matrix = run(recorded(lambda line: print(line, file=sys.stderr, flush=True)), factor)
    for outcome in matrix.failures:
        print(outcome.describe(), file=sys.stderr)
    print(matrix.markdown(), matrix.markdown_of_scenarios(), sep="\n\n")
    if is_for_document:
        write_tables(matrix)
    return 1 if matrix.failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
