"""`python -m testbed.webhook PORT`: takes Alertmanager's notifications on loopback and prints each as one line."""

import json
import sys
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MOST_BYTES = 1_000_000


class Receiver(BaseHTTPRequestHandler):
    """One notification a POST, of Alertmanager's webhook format, version 4."""

    def do_POST(self) -> None:
        """Print the body with when it came and to which path."""
        received_seconds = time.time()
        length = int(self.headers["Content-Length"])
        if length > MOST_BYTES:
            self.send_error(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            return
        notification = json.loads(self.rfile.read(length))
        # Written in one piece, as several may come at once.
        sys.stdout.write(json.dumps({"path": self.path, "received_seconds": received_seconds} | notification) + "\n")
        sys.stdout.flush()
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Requests stand in the output already."""


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Receiver).serve_forever()
