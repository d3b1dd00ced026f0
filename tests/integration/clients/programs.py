"""Clients as programs: one for npm's, one for each library from PyPI, and the command lines."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from testbed.folders import CHECKOUT
from testbed.node import NODE, packages
from testbed.programs import popen
from tests.integration.clients.facts import COMMAND_LINES, READERS, Client
from tests.integration.lab import PASSWORD

HERE = Path(__file__).parent
ANSWER_SECONDS = 60
Row = dict[str, Any]
_FILES = {
    Client.PYTHON_MYSQL_REPLICATION: "with_pymysql.py",
    Client.PYMYSQL: "with_pymysql.py",
    Client.CONNECTOR: "with_connector.py",
    Client.CONNECTOR_PURE: "with_connector.py",
    Client.ZONGJI: "clients.mjs",
    Client.MYSQL2: "clients.mjs",
    Client.MARIADB_NPM: "clients.mjs",
}
# What a command line is told about TLS, and in plaintext; docs/clients.md has these words.
_WORDS = {
    Client.MYSQL: (["--ssl-mode=VERIFY_IDENTITY"], ["--get-server-public-key"]),
    Client.MARIADB_10_11: (["--ssl-verify-server-cert"], ["--skip-ssl"]),
    Client.MARIADB_11_8: ([], ["--skip-ssl"]),
}


class ClientError(Exception):
    """What the client shows; `code` is its error number, if it has one."""

    def __init__(self, text: str, code: int | str | None = None) -> None:
        super().__init__(text)
        self.code = code


@dataclass(frozen=True)
class Target:
    """Where a client connects to, and as whom. With TLS it goes by name, since not every client checks an address."""

    port: int
    user: str
    tls: dict[str, str] | None = None
    password: str = PASSWORD

    @property
    def host(self) -> str:
        return "localhost" if self.tls else "127.0.0.1"


class Reader:
    """A binlog reader at work."""

    def __init__(self, program: _Program, number: int) -> None:
        self._program = program
        self._number = number
        self._has_ended = False

    def rows(self, count: int) -> list[Row]:
        """The next rows that it brings."""
        return [self._answer("row")["row"] for _ in range(count)]

    def stop(self) -> None:
        """Ends it in its own way, unless it has ended already."""
        if not self._has_ended:
            self._program.send(id=self._number, do="stop")
            self.wait()

    def wait(self) -> None:
        """Returns once it has ended by itself."""
        self._answer("ended")
        self._has_ended = True

    def _answer(self, wanted: str) -> dict[str, Any]:
        while wanted not in (answer := self._program.answer(self._number)):
            if "error" in answer:
                self._has_ended = True
                self._program.send(id=self._number, do="stop")  # zongji has its other connection still
                raise ClientError(answer["error"], answer["code"])
        return answer


class _Program:
    def __init__(self, argv: Sequence[str | Path], log: Path) -> None:
        with log.open("ab") as errors:
            self._process = popen(
                [str(word) for word in argv],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, folder=CHECKOUT,
            )  # fmt: skip
        self._log = log
        self._answers: dict[int, queue.SimpleQueue[dict[str, Any]]] = defaultdict(queue.SimpleQueue)
        threading.Thread(target=self._sort, daemon=True).start()

    def send(self, **request: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        self._process.stdin.flush()

    def answer(self, number: int) -> dict[str, Any]:
        try:
            return self._answers[number].get(timeout=ANSWER_SECONDS)
        except queue.Empty:
            raise AssertionError(f"no answer from {self._log.stem}:\n{self._log.read_text()[-2000:]}") from None

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stdin is not None
        self._process.stdin.close()

    def _sort(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                answer = json.loads(line)
                self._answers[answer["id"]].put(answer)


class ClientPrograms:
    """Starts each program when it is first needed; a context manager that ends them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._programs: dict[str, _Program] = {}
        self._requests = 0

    def query(self, client: Client, target: Target, sql: str, *, compress: str = "") -> list[Row]:
        """Connects, asks and says goodbye.

        Args:
            client: any but a reader.
            target: where to, and as whom.
            sql: one statement that has a result.
            compress: the algorithm; empty for none. Only `mysql` has a choice.

        Raises:
            ClientError: whatever went wrong, as the client tells it.
        """
        if client in COMMAND_LINES:
            return _ask_command_line(client, target, sql, compress)
        program, number = self._request("query", client, target, sql=sql, compress=bool(compress))
        answer = program.answer(number)
        if "error" in answer:
            raise ClientError(answer["error"], answer["code"])
        return list(answer["rows"])

    @contextmanager
    def reading(
        self, client: Client, target: Target, schema: str, *, rows: int, server_id: int | None = None,
        compress: bool = False, **options: Any,
    ) -> Iterator[Reader]:  # fmt: skip
        """A reader for the duration, which ends in its own way.

        Args:
            client: one of `READERS`.
            target: where to, and as whom.
            schema: whose rows it reads.
            rows: how many there will be.
            server_id: None for the client's own.
            compress: whether it asks for it; zongji alone can.
            options: the client's own, such as where to start.
        """
        program, number = self._request(
            "read", client, target, schema=schema, rows=rows, server_id=server_id or READERS[client],
            compress=compress, options=options,
        )  # fmt: skip
        reader = Reader(program, number)
        yield reader
        reader.stop()

    def _request(self, do: str, client: Client, target: Target, **more: Any) -> tuple[_Program, int]:
        program = self._program(_FILES[client])
        self._requests += 1
        program.send(
            id=self._requests, do=do, client=client.value, host=target.host, port=target.port, user=target.user,
            password=target.password, tls=target.tls, **more,
        )  # fmt: skip
        return program, self._requests

    def _program(self, file: str) -> _Program:
        if file not in self._programs:
            argv: list[str | Path] = [sys.executable, "-m", f"tests.integration.clients.{Path(file).stem}"]
            if file.endswith(".mjs"):
                argv = [NODE, HERE / file, packages(HERE)]
            self._programs[file] = _Program(argv, self._folder / f"{file}.log")
        return self._programs[file]

    def __enter__(self) -> ClientPrograms:
        return self

    def __exit__(self, *_: object) -> None:
        for program in self._programs.values():
            program.close()


def words(client: Client, tls: dict[str, str] | None) -> list[str]:
    """What a command-line client is told about TLS."""
    encrypted, plain = _WORDS[client]
    return [*encrypted, *(f"--ssl-{name}={tls[name]}" for name in ("ca", "cert", "key"))] if tls else plain


def _ask_command_line(client: Client, target: Target, sql: str, compress: str) -> list[Row]:
    flavour = COMMAND_LINES[client]
    plugins = flavour.bundle().path("usr/lib/mysql/plugin")
    compression = f"--compression-algorithms={compress}" if client is Client.MYSQL else "--compress"
    done = subprocess.run(
        [
            *flavour.client("mysql"), "--no-defaults", f"--plugin-dir={plugins}", "--protocol=tcp", "--batch",
            "--default-character-set=utf8mb4", f"--host={target.host}", f"--port={target.port}",
            f"--user={target.user}", f"--password={target.password}", *words(client, target.tls),
            *([compression] if compress else []), f"--execute={sql}",
        ],
        capture_output=True, text=True, timeout=ANSWER_SECONDS, check=False,
    )  # fmt: skip
    if done.returncode:
        error = done.stderr.strip().splitlines()[-1]
        raise ClientError(error, int(error.split()[1]) if error.startswith("ERROR ") else None)
    names, *lines = (line.split("\t") for line in done.stdout.splitlines())
    return [dict(zip(names, line, strict=True)) for line in lines]
