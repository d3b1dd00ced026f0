"""A client as a program that tests talk to: a request a line on standard input, answers a line each under its id.

Its sibling for clients from npm is clients.mjs.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

Request = dict[str, Any]
Row = dict[str, Any]


def serve(query: Callable[[Request], list[Row]], read: Callable[[Request], Iterator[Row]] | None = None) -> None:
    """Serves requests, each in a thread of its own, until standard input ends.

    Args:
        query: connects, asks and returns the rows.
        read: connects and yields the rows that the binlog brings. It is closed once the test says stop.
    """
    printing = threading.Lock()
    stops: dict[int, threading.Event] = {}

    def answer(request: Request, **said: object) -> None:
        with printing:
            sys.stdout.write(json.dumps({"id": request["id"], **said}) + "\n")
            sys.stdout.flush()

    def handle(request: Request) -> None:
        try:
            if request["do"] == "query":
                answer(request, rows=query(request))
            elif read is not None:
                rows = read(request)
                for count, row in enumerate(rows, start=1):
                    answer(request, row=row)
                    if count == request["rows"]:
                        stops[request["id"]].wait()
                        break
                rows.close()  # type: ignore[attr-defined]
                answer(request, ended=True)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the test's
            code = getattr(error, "errno", None) or next(iter(error.args), None)
            answer(request, error=str(error), code=code if isinstance(code, int) else None)

    for line in sys.stdin:
        request = json.loads(line)
        if request["do"] == "stop":
            stops[request["id"]].set()
        else:
            stops[request["id"]] = threading.Event()
            threading.Thread(target=handle, args=(request,), daemon=True).start()
