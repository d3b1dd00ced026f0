"""Prometheus and Alertmanager in private folders, and what their HTTP endpoints say.

    with Alertmanager(folder / "alertmanager", configuration) as alertmanager:
        with Prometheus(folder / "prometheus", {**scraping, **alertmanager.alerting}) as prometheus:
            prometheus.query("up")

Every configuration is a mapping and is written as JSON, which is YAML too. Methods may be called from any thread.
"""

import http.client
import json
import os
import sys
import threading
import time
import urllib.parse
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any, Self

from testbed.fetch import Bundle, bundle
from testbed.folders import CHECKOUT
from testbed.hosts import Host
from testbed.programs import POLL_SECONDS, Place, Program, ProgramError
from testbed.servers import free_port

LOOPBACK = "127.0.0.1"
ANSWER_SECONDS = 30
MOUNT_SHARE = 'mount --bind "$0" /usr/share && exec "$@"'
START_SECONDS = 60


class HttpClient:
    """One HTTP endpoint on loopback, of this network namespace or a host's; one connection, opened when needed."""

    def __init__(self, port: int, host: Host | None = None) -> None:
        self.port = port
        self._host = host
        self._connection: http.client.HTTPConnection | None = None
        self._lock = threading.Lock()

    def get(self, path: str) -> tuple[int, str]:
        """GET: status and body; OSError when nobody answers."""
        return self._request("GET", path, None)

    def post(self, path: str, form: Mapping[str, str]) -> tuple[int, str]:
        """POST of a form: status and body; OSError when nobody answers."""
        return self._request("POST", path, urllib.parse.urlencode(form))

    def close(self) -> None:
        """Close the connection, if there is one; the next request opens another."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
            self._connection = None

    def _request(self, method: str, path: str, body: str | None) -> tuple[int, str]:
        headers = {} if body is None else {"Content-Type": "application/x-www-form-urlencoded"}
        with self._lock:
            # A connection that was kept may have been closed meanwhile by whoever was stopped and started again.
            for is_last in (self._connection is None, True):
                try:
                    connection = self._connection = self._connection or self._connect()
                    connection.request(method, path, body, headers)
                    response = connection.getresponse()
                    return response.status, response.read().decode()
                except (OSError, http.client.HTTPException) as error:
                    if self._connection is not None:
                        self._connection.close()
                    self._connection = None
                    if is_last:
                        raise OSError(f"{method} {path} at port {self.port}: {error!r}") from error
        raise AssertionError("the last attempt returns or raises")

    def _connect(self) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection(LOOPBACK, self.port, timeout=ANSWER_SECONDS)
        if self._host is not None:
            connection.sock = self._host.open_connection(LOOPBACK, self.port)
            connection.sock.settimeout(ANSWER_SECONDS)
        return connection


class _Sharing:
    """Where a bundle's /usr/share is the machine's, in a mount namespace: Debian's Alertmanager has that path in it."""

    def __init__(self, needed: Bundle, host: Host | None) -> None:
        self._share = needed.path("usr/share")
        self._host = host

    def command(self, argv: Sequence[str]) -> list[str]:
        """The command that runs `argv` there."""
        # An ordinary user on a host is in that host's user namespace, where he may mount.
        alone = self._host is None and os.geteuid() != 0
        unshare = ["unshare", *(["--user", "--map-root-user"] if alone else []), "--mount"]
        command = [*unshare, "sh", "-c", MOUNT_SHARE, str(self._share), *argv]
        return command if self._host is None else self._host.command(command)


class _Service:
    """A program with an HTTP endpoint that says when it is ready. A context manager: starts on entry, ends on exit."""

    def __init__(
        self,
        folder: Path,
        argv: Sequence[str | Path],
        *,
        port: int,
        ready: str,
        host: Host | None,
        place: Place | None = None,
    ) -> None:
        self.folder = folder
        self.port = port
        self.http = HttpClient(port, host)
        self.program = Program(argv, log=folder / "log", host=place or host, folder=folder)
        self._ready = ready

    @property
    def address(self) -> str:
        """Where it listens: address and port."""
        return f"{LOOPBACK}:{self.port}"

    def start(self) -> Self:
        """Start, and return once it says that it is ready.

        Raises:
            ProgramError: it ended at start; the text has its log's tail.
        """
        self.program.start()
        self.program.wait_for_port(self.port, START_SECONDS)
        self.program.wait_for(lambda: self.http.get(self._ready)[0] == HTTPStatus.OK, "it to be ready", START_SECONDS)
        return self

    def stop(self) -> int:
        """SIGTERM, and its exit status."""
        return self.program.terminate()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.http.close()
        self.program.__exit__(None, None, None)

    def answer(self, path: str) -> Any:
        """What a path of its API answers, from JSON.

        Raises:
            ProgramError: it answers with an error; the text has it.
        """
        status, body = self.http.get(path)
        if status != HTTPStatus.OK:
            raise ProgramError(f"{path} at {self.address}: {status} {body}")
        return json.loads(body)


class Prometheus(_Service):
    """One Prometheus with its own storage.

    Attributes:
        folder: has its configuration, its storage and its log.
        http: its endpoint.
    """

    def __init__(
        self,
        folder: Path,
        configuration: Mapping[str, Any],
        *,
        bundle_name: str = "prometheus",
        host: Host | None = None,
    ) -> None:
        """The configuration is written; nothing is started yet.

        Args:
            folder: a new one.
            configuration: as in prometheus.yml.
            bundle_name: `prometheus` or `prometheus-sid`.
            host: where it runs, and what its loopback is.
        """
        folder.mkdir(parents=True)
        port = free_port()
        (folder / "prometheus.yml").write_text(json.dumps(configuration, indent=1))
        argv: list[str | Path] = [
            *bundle(bundle_name).command("prometheus"),
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address={LOOPBACK}:{port}",
        ]
        super().__init__(folder, argv, port=port, ready="/-/ready", host=host)

    def query(self, expression: str, at_seconds: float | None = None) -> list[dict[str, Any]]:
        """An instant query: each result with `metric`, its labels, and `value`, a time and a text.

        Raises:
            ProgramError: the expression is wrong; the text has Prometheus' words.
        """
        words = {"query": expression} | ({} if at_seconds is None else {"time": f"{at_seconds:.3f}"})
        status, body = self.http.post("/api/v1/query", words)
        if status != HTTPStatus.OK:
            raise ProgramError(f"{expression}: {json.loads(body)['error']}")
        return list(json.loads(body)["data"]["result"])

    def query_range(
        self, expression: str, start_seconds: float, end_seconds: float, step_seconds: float
    ) -> list[dict[str, Any]]:
        """A range query: each result with `metric` and `values`; raises as `query`."""
        words = {
            "query": expression,
            "start": f"{start_seconds:.3f}",
            "end": f"{end_seconds:.3f}",
            "step": f"{step_seconds:.3f}",
        }
        status, body = self.http.post("/api/v1/query_range", words)
        if status != HTTPStatus.OK:
            raise ProgramError(f"{expression}: {json.loads(body)['error']}")
        return list(json.loads(body)["data"]["result"])

    def value(self, expression: str) -> float | None:
        """The one value of an instant query; None where there is no result; raises as `query`."""
        found = self.query(expression)
        if len(found) > 1:
            raise ProgramError(f"{expression} has {len(found)} results")
        return float(found[0]["value"][1]) if found else None

    def alerts(self) -> list[dict[str, Any]]:
        """Alerts that are pending or firing, as `/api/v1/alerts` shows them."""
        return list(self.answer("/api/v1/alerts")["data"]["alerts"])

    def rules(self) -> list[dict[str, Any]]:
        """Every rule of every group, as `/api/v1/rules` shows them: `health` and `lastError` among the fields."""
        return [rule for group in self.answer("/api/v1/rules")["data"]["groups"] for rule in group["rules"]]

    def targets(self) -> list[dict[str, Any]]:
        """What is scraped, as `/api/v1/targets` shows it."""
        return list(self.answer("/api/v1/targets")["data"]["activeTargets"])

    def wait_for(self, expression: str, timeout: float = 30) -> list[dict[str, Any]]:
        """The results of an instant query, once there are any.

        Raises:
            TimeoutError: there are none after `timeout` seconds.
        """
        deadline = time.monotonic() + timeout
        while not (found := self.query(expression)):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{expression} has no result after {timeout} s")
            time.sleep(5 * POLL_SECONDS)
        return found


class Alertmanager(_Service):
    """One Alertmanager with its own storage and no peers; attributes as of `Prometheus`."""

    def __init__(
        self,
        folder: Path,
        configuration: Path,
        *,
        bundle_name: str = "alertmanager",
        host: Host | None = None,
    ) -> None:
        """Nothing is started yet.

        Args:
            folder: a new one.
            configuration: the alertmanager.yml to run with.
            bundle_name: `alertmanager` or `alertmanager-sid`.
            host: where it runs, and what its loopback is.
        """
        folder.mkdir(parents=True)
        port = free_port()
        argv: list[str | Path] = [
            *bundle(bundle_name).command("prometheus-alertmanager"),
            f"--config.file={configuration}",
            f"--storage.path={folder / 'data'}",
            f"--web.listen-address={LOOPBACK}:{port}",
            "--cluster.listen-address=",
        ]
        place = _Sharing(bundle(bundle_name), host)
        super().__init__(folder, argv, port=port, ready="/-/ready", host=host, place=place)

    def alerts(self) -> list[dict[str, Any]]:
        """Alerts that it knows, as its API shows them, those that are inhibited or silenced among them."""
        return list(self.answer("/api/v2/alerts"))


class Webhook:
    """A receiver for Alertmanager's notifications, as a program that writes each into its log."""

    def __init__(self, folder: Path, *, host: Host | None = None, port: int = 0) -> None:
        self.port = port or free_port()
        argv = [sys.executable, "-m", "testbed.webhook", str(self.port)]
        self.program = Program(argv, log=folder / "webhook.log", host=host, folder=CHECKOUT)

    def start(self) -> Self:
        """Start, and return once it listens."""
        self.program.start()
        self.program.wait_for_port(self.port)
        return self

    def notifications(self) -> list[dict[str, Any]]:
        """What has come, oldest first: Alertmanager's objects, with `path` and `received_seconds` (since the epoch)."""
        whole = self.program.log().rpartition("\n")[0]
        return [json.loads(line) for line in whole.splitlines()]

    def alerts(self, name: str, status: str = "firing") -> list[dict[str, Any]]:
        """The alerts of that name in what has come, each with the notification's `path` and `received_seconds`."""
        return [
            alert | {"path": notification["path"], "received_seconds": notification["received_seconds"]}
            for notification in self.notifications()
            for alert in notification["alerts"]
            if (alert["labels"]["alertname"], alert["status"]) == (name, status)
        ]

    def wait_for(self, name: str, status: str = "firing", timeout: float = 30) -> dict[str, Any]:
        """The first alert of that name and status; raises TimeoutError after `timeout` seconds without one."""
        self.program.wait_for(lambda: bool(self.alerts(name, status)), f"the alert {name}, {status}", timeout)
        return self.alerts(name, status)[0]

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.program.__exit__(None, None, None)


def promtool(bundle_name: str, *words: str | Path) -> list[str]:
    """The command that runs promtool of a bundle, `prometheus` or `prometheus-sid`."""
    return [*bundle(bundle_name).command("promtool"), *map(str, words)]


def amtool(bundle_name: str, *words: str | Path) -> list[str]:
    """The command that runs amtool of a bundle, `alertmanager` or `alertmanager-sid`."""
    return [*bundle(bundle_name).command("amtool"), *map(str, words)]
