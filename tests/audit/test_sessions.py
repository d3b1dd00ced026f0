"""Binlock's list of sessions, from where it may be believed."""

from __future__ import annotations

import http.server
import json
import socketserver
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from audit.errors import AuditError
from audit.sessions import read_sessions

LISTED = [
    {"session": 1, "route": "r", "stage": "relay", "replica": "one", "peer": "10.0.0.2:5", "account": "repl",
     "replica_tls_version": "TLSv1.3"},
    {"session": 2, "route": "r", "stage": "tls", "peer": "10.0.0.3:6"},
]  # fmt: skip


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/sessions" else 404)
        self.end_headers()
        self.wfile.write(json.dumps(LISTED).encode())

    def address_string(self) -> str:
        return "client"

    def log_message(self, *_: object) -> None:
        pass


class UnixServer(socketserver.UnixStreamServer):
    pass


@pytest.fixture
def endpoints(tmp_path: Path) -> Iterator[list[str]]:
    tcp = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    unix = UnixServer(str(tmp_path / "a.sock"), Handler)
    servers: list[socketserver.BaseServer] = [tcp, unix]
    threads = [threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}) for server in servers]
    for thread in threads:
        thread.start()
    yield [f"http://127.0.0.1:{tcp.server_port}", f"unix:{tmp_path}/a.sock"]
    for server, thread in zip(servers, threads, strict=True):
        server.shutdown()
        thread.join()
        server.server_close()


def test_streams_are_read_from_files_and_endpoints(endpoints: list[str], tmp_path: Path) -> None:
    (tmp_path / "sessions.json").write_text(json.dumps(LISTED))
    for where in (str(tmp_path / "sessions.json"), *endpoints):
        [session] = read_sessions(where)
        assert (session.replica, session.peer_host, session.tls_version) == ("one", "10.0.0.2", "TLSv1.3")


@pytest.mark.parametrize("content", ["", "{}", "[1]", "not JSON", "[" * 100_000], ids=len)
def test_anything_else_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "f").write_text(content)
    with pytest.raises(AuditError, match="f: not"):
        read_sessions(str(tmp_path / "f"))


@pytest.mark.parametrize(
    ("where", "complaint"),
    [
        ("http://10.0.0.1:9307", "read it on its own host"),
        ("http://example.org/sessions", "read it on its own host"),
        ("ftp://x", "http://HOST:PORT"),
        ("https:///?ssl-ca=f", "http://HOST:PORT"),
        ("https://127.0.0.1:port/?ssl-ca=f", "cannot be read: look at its port"),
        ("https://127.0.0.1:1/?ssl-ca", "cannot be read: look at its port, its brackets and its options"),
        ("https://127.0.0.1:1/?ssl_ca=f", "https:// has no option 'ssl_ca': did you mean ssl-ca?"),
        ("https://127.0.0.1:1/?unsafe-unverified-tls=1", "https:// has no option 'unsafe-unverified-tls'"),
        ("https://127.0.0.1:1/?ssl-ca=/none", "/none: not usable for TLS: No such file or directory"),
        ("http://127.0.0.1:1/?ssl-ca=/none", "only https:// has options"),
    ],
)
def test_what_cannot_be_read_or_believed_is_refused(where: str, complaint: str) -> None:
    with pytest.raises(AuditError, match=complaint):
        read_sessions(where)


def test_who_is_not_there_is_named(tmp_path: Path) -> None:
    for where in (f"unix:{tmp_path}/none", f"{tmp_path}/none"):
        with pytest.raises(AuditError, match="No such file"):
            read_sessions(where)
