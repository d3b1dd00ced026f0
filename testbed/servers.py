"""Real servers: start, stop, ask, replicate, with the dialects hidden.

    with Server(folder, Flavour.MYSQL_9_7, server_id=1) as source:
        source.sql("CREATE DATABASE shop")

Every method may be called from any thread; none is asynchronous.
"""

import contextlib
import fcntl
import hashlib
import os
import random
import shutil
import socket
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import pymysql

from testbed.flavours import Flavour
from testbed.folders import private_folder
from testbed.programs import Place, Program, ProgramError
from testbed.replication import ReplicaStatus, ReplicaTls, change_source, dialect, parse_status
from testbed.sql import SqlAccess

START_SECONDS = 90  # three seconds alone; more on a busy machine
STOP_SECONDS = 90
# Below the ports that the kernel gives to outgoing connections: one could take a stopped server's.
PORTS = range(20000, 32000)
DUMP_CONNECTIONS = (
    "SELECT processlist_id AS id FROM performance_schema.threads WHERE processlist_command LIKE 'Binlog Dump%'"
)
SOCKET_PATH_LIMIT = 100  # sockaddr_un holds 107 bytes; the server refuses a longer path

Options = Mapping[str, str | int | Path | None] | Sequence[str]


class Server(SqlAccess):
    """One MySQL or MariaDB server on a data directory of its own.

    A context manager: starts on entry, is killed on exit, which is quick; `stop` is the clean way.

    Attributes:
        folder: holds the data directory, the log and, where its path is short enough, the socket.
        socket_path: root without a password comes in here, from any network namespace.
        log_path: what the server writes about itself.
        port: the TCP port; chosen when the server is created.
    """

    def __init__(
        self,
        folder: Path,
        flavour: Flavour,
        *,
        server_id: int,
        port: int = 0,
        bind_address: str | None = None,
        options: Options = (),
        host: Place | None = None,
        program: Path | None = None,
        option_file: Path | None = None,
    ) -> None:
        """Nothing is started or written yet.

        Args:
            folder: an existing server's, or one that does not exist or is empty.
            flavour: which server.
            server_id: must differ between a source and its replicas.
            port: 0 chooses a free one.
            bind_address: where to listen; by default on 127.0.0.1, and on a host on every address.
            options: of mysqld: a mapping without the dashes (None for no value), or words with them.
            host: a host of a testbed network to run on.
            program: another path to the flavour's program, such as a link; see `Flavour.server_command`.
            option_file: the one option file that it reads.
        """
        self.folder = folder.resolve()
        self.flavour = flavour
        self.server_id = server_id
        self.port = port or free_port(bind_address or "127.0.0.1")
        self.bind_address = bind_address or ("127.0.0.1" if host is None else "*")
        self.host = host
        self.log_path = self.folder / "server.log"
        self.socket_path = self.folder / "mysqld.sock"
        if len(str(self.socket_path)) > SOCKET_PATH_LIMIT:
            name = hashlib.sha256(str(self.folder).encode()).hexdigest()[:16]
            self.socket_path = Path(tempfile.gettempdir()) / f"testbed-{name}" / "mysqld.sock"
        self.options = option_words(options)
        self._alias = program
        self._option_file = option_file
        self._program: Program | None = None

    def start(self) -> Self:
        """Start, and return once it answers.

        Raises:
            ProgramError: it ended at start; the text has the tail of its log.
        """
        data = self.folder / "data"
        if not data.exists():
            self.flavour.make_data(data)
        (self.folder / "tmp").mkdir(exist_ok=True)
        self.socket_path.parent.mkdir(mode=0o700, exist_ok=True)
        words = [
            f"--server-id={self.server_id}",
            f"--port={self.port}",
            f"--bind-address={self.bind_address}",
            f"--socket={self.socket_path}",
            f"--pid-file={self.folder / 'pid'}",
            f"--tmpdir={self.folder / 'tmp'}",
            *self.options,
        ]
        command = self.flavour.server_command(data, words, program=self._alias, option_file=self._option_file)
        self._program = Program(command, log=self.log_path, host=self.host)
        self._program.start()
        self._program.wait_for(self._answers, f"{self.flavour.value} to answer", START_SECONDS)
        return self

    def stop(self, *, end_dumps: bool = True) -> None:
        """Shut down cleanly.

        Args:
            end_dumps: end the replicas' connections first. MySQL 9.7 waits 8 seconds for them to leave, then
                ends each with an EOF packet; with False a replica sees just that.

        Raises:
            ProgramError: it would not, and was killed.
        """
        if self.running:
            if end_dumps and not self.flavour.is_mariadb:
                for row in self.sql(DUMP_CONNECTIONS):
                    with contextlib.suppress(pymysql.err.OperationalError):  # gone by itself
                        self.sql("KILL %s", row["id"])
            self._running_program.terminate(STOP_SECONDS)

    def kill(self) -> None:
        """SIGKILL: what a crash leaves behind."""
        if self.running:
            self._running_program.kill()

    def restart(self) -> None:
        """Shut down cleanly and start again, on the same port."""
        self.stop()
        self.start()

    @property
    def running(self) -> bool:
        """Whether the process is there."""
        return self._program is not None and self._program.running

    @property
    def pid(self) -> int:
        """The server's process id."""
        return self._running_program.pid

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        if self.socket_path.parent != self.folder:
            shutil.rmtree(self.socket_path.parent, ignore_errors=True)

    def binlog_position(self) -> tuple[str, int]:
        """The binary log's file and the position after its last event."""
        row = self.sql(dialect(self.flavour).binlog_status)[0]
        return row["File"], row["Position"]

    def executed_gtids(self) -> str:
        """What was executed here, by GTID, on one line; empty for nothing."""
        return str(self.scalar(dialect(self.flavour).executed_gtids)).replace("\n", "")

    def create_replication_account(
        self, name: str, password: str, *, host: str = "%", plugin: str | None = None, require: str = ""
    ) -> None:
        """Make an account for replicas, on this server only: it is not written to the binary log.

        Args:
            name: of the account.
            password: of the account.
            host: from where.
            plugin: an authentication plugin, loaded if need be; None for the server's default.
            require: what comes after REQUIRE: `SSL`, `X509`, `SUBJECT '...'`.
        """
        requirement = f" REQUIRE {require}" if require else ""
        via = ""
        if plugin is not None:
            self._load_authentication_plugin(plugin)
            via = f" VIA {plugin} USING PASSWORD(%s)" if self.flavour.is_mariadb else f" WITH {plugin} BY %s"
        with self.connection() as connection, connection.cursor() as cursor:
            cursor.execute("SET SESSION sql_log_bin = 0")
            cursor.execute(f"CREATE USER %s@%s IDENTIFIED{via or ' BY %s'}{requirement}", (name, host, password))
            cursor.execute("GRANT REPLICATION SLAVE ON *.* TO %s@%s", (name, host))

    def replicate_from(
        self,
        *,
        host: str,
        port: int,
        user: str,
        password: str,
        auto_position: bool = True,
        position: tuple[str, int] | None = None,
        tls: ReplicaTls | None = None,
        get_source_public_key: bool = False,
        connect_retry_seconds: int = 1,
        retry_count: int | None = None,
        bind: str | None = None,
        heartbeat_period: float | None = None,
        compression: Literal["uncompressed", "zlib", "zstd"] = "uncompressed",
    ) -> None:
        """Point this server at a source and start; returns at once, connected or not.

        Args:
            host: the source's address.
            port: the source's port.
            user: the replication account.
            password: its password.
            auto_position: by GTID; False needs `position`, or starts with the source's first binary log.
            position: the source's `binlog_position()` to start after.
            tls: None for plaintext.
            get_source_public_key: MySQL: fetch the RSA key that caching_sha2_password needs in plaintext.
            connect_retry_seconds: between two attempts.
            retry_count: MySQL: how many attempts; None for a day's worth (the server's own is 10).
            bind: the local address to connect from.
            heartbeat_period: in seconds; None for the server's default.
            compression: of the protocol, asked for by this end alone. MariaDB has zlib, and for the whole server.

        Raises:
            ValueError: an option that this dialect does not have.
        """
        statement, values = change_source(
            self.flavour, host=host, port=port, user=user, password=password, auto_position=auto_position,
            position=position, tls=tls, get_source_public_key=get_source_public_key,
            connect_retry_seconds=connect_retry_seconds, retry_count=retry_count, bind=bind,
            heartbeat_period=heartbeat_period, compression=compression,
        )  # fmt: skip
        self.sql(statement, *values)
        if self.flavour.is_mariadb:
            self.sql(f"SET GLOBAL slave_compressed_protocol = {int(compression == 'zlib')}")
        self.start_replication()

    def start_replication(self) -> None:
        """Start both replication threads."""
        self.sql(dialect(self.flavour).start)

    def stop_replication(self) -> None:
        """Stop both replication threads."""
        self.sql(dialect(self.flavour).stop)

    def reset_replication(self) -> None:
        """Stop, and forget the source."""
        self.stop_replication()
        self.sql(dialect(self.flavour).reset)

    def replica_status(self) -> ReplicaStatus:
        """What this replica says about itself.

        Raises:
            LookupError: it has no source.
        """
        rows = self.sql(dialect(self.flavour).status)
        if not rows:
            raise LookupError(f"{self} replicates from nowhere")
        return parse_status(self.flavour, rows[0])

    def wait_for_replication(self, timeout: float = 60) -> None:
        """Wait until both threads run; raises TimeoutError with their errors otherwise."""
        self.wait_until(lambda: self.replica_status().running, timeout=timeout, what="replication to run")

    def catch_up_with(self, source: "Server", timeout: float = 180) -> None:
        """Wait until this replica has executed all that `source` has now.

        Raises:
            TimeoutError: not within `timeout` seconds; the text has the replica's errors.
        """
        gtids = source.executed_gtids()
        if self.scalar(dialect(self.flavour).wait_for_gtids, gtids, timeout) != 0:
            raise TimeoutError(f"{self} waited {timeout} s for {gtids}{self.describe_state()}")

    def describe_state(self) -> str:
        """The replication threads and their errors, when there are any."""
        with contextlib.suppress(LookupError, OSError, pymysql.err.OperationalError):
            status = self.replica_status()
            threads = f"{status.io_running}, {status.sql_running}"
            return f"; its threads: {threads}; its errors: {status.errors or 'none'}"
        return ""

    def __str__(self) -> str:
        return f"{self.flavour.value} server {self.server_id}"

    @property
    def _running_program(self) -> Program:
        if self._program is None:
            raise ProgramError(f"{self} was never started")
        return self._program

    def _answers(self) -> bool:
        with contextlib.suppress(OSError, pymysql.err.OperationalError):
            return bool(self.scalar("SELECT 1"))
        return False

    def _load_authentication_plugin(self, plugin: str) -> None:
        loaded = "SELECT COUNT(*) FROM information_schema.plugins WHERE plugin_name = %s"
        if self.scalar(loaded, plugin):
            return
        library = LIBRARIES_OF_PLUGINS.get((self.flavour.is_mariadb, plugin), plugin)
        with self.connection() as connection, connection.cursor() as cursor:
            cursor.execute("SET SESSION sql_log_bin = 0")
            cursor.execute(f"INSTALL PLUGIN {plugin} SONAME '{library}.so'")


LIBRARIES_OF_PLUGINS = {
    (True, "ed25519"): "auth_ed25519",
    (True, "parsec"): "auth_parsec",
    (True, "caching_sha2_password"): "auth_mysql_sha2",
}


def option_words(options: Options) -> list[str]:
    """Options of mysqld as words of its command line."""
    if isinstance(options, Mapping):
        return [f"--{name}" if value is None else f"--{name}={value}" for name, value in options.items()]
    return list(options)


def free_port(address: str = "127.0.0.1") -> int:
    """A TCP port that is free in this network namespace, that the kernel gives to nobody, and this function only once.

    While this process lives no other one of this test bed chooses it: it may be long until anything listens there.

    Raises:
        ProgramError: there is none.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    for port in random.sample(PORTS, len(PORTS)):
        if not _claims.take(port):
            continue
        with socket.socket(family, socket.SOCK_STREAM) as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1" if address in {"*", "0.0.0.0"} else address, port))  # noqa: S104 - compared
            return port
    raise ProgramError(f"no port from {PORTS[0]} to {PORTS[-1]} is left")


class _Claims:
    """The ports that this process has chosen, as locks on the bytes of a file, which the kernel forgets with it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._taken: dict[int, set[int]] = {}  # by process id: a forked child has none of the locks
        self._file = -1

    def take(self, port: int) -> bool:
        """Whether nobody else has it: then it is ours."""
        with self._lock:
            taken = self._taken.setdefault(os.getpid(), set())
            if port in taken:
                return False
            if self._file < 0:
                path = private_folder() / "ports"
                path.parent.mkdir(parents=True, exist_ok=True)
                # For good: whoever closes it gives up every lock.
                self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
            except OSError:
                return False
            taken.add(port)
            return True


_claims = _Claims()
