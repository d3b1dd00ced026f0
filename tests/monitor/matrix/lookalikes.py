"""What is not MySQL in the clear, on a port that is watched for MySQL: real programs, and conversations as they are."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from testbed.fetch import bundle
from testbed.hosts import Host
from testbed.programs import Program
from testbed.servers import free_port
from tests.integration.lab import Authority
from tests.monitor.matrix.connections import Truth, noise_of

ADDRESS = "127.0.0.1"
CLIENT_SECONDS = 60


@dataclass(frozen=True)
class Parlour:
    """Where they talk."""

    host: Host
    folder: Path

    def run(self, *command: str | Path, given: bytes = b"") -> None:
        done = subprocess.run(
            self.host.command([str(word) for word in command]),
            input=given, capture_output=True, timeout=CLIENT_SECONDS, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}: {done.stderr.decode(errors='replace')}"

    @contextmanager
    def program(self, name: str, port: int, *command: str | Path, **environment: str) -> Iterator[Program]:
        """A server, once it listens."""
        self.folder.mkdir(parents=True, exist_ok=True)
        log = self.folder / f"{name}.log"
        with Program(command, log=log, host=self.host, environment=environment) as program:
            program.wait_for_port(port)
            yield program


Served = tuple[int, Callable[[], None]]


@dataclass(frozen=True)
class Lookalike:
    """One kind. `serve` gives the port, and what then has the conversation take place."""

    name: str
    truth: Truth
    serve: Callable[[Parlour], AbstractContextManager[Served]]


@contextmanager
def http(parlour: Parlour) -> Iterator[Served]:
    port = free_port()
    get = (
        "import sys, urllib.request\n"
        "for path in ('/', '/testbed/', '/testbed/servers.py'):\n"
        "    urllib.request.urlopen(f'http://127.0.0.1:{sys.argv[1]}{path}').read()\n"
    )
    checkout = Path(__file__).resolve().parents[3]
    command = [sys.executable, "-m", "http.server", str(port), "--bind", ADDRESS, "--directory", str(checkout)]
    with parlour.program("http", port, *command):
        yield port, lambda: parlour.run(sys.executable, "-c", get, str(port))


@contextmanager
def redis(parlour: Parlour, *, replicating: bool = False) -> Iterator[Served]:
    port = free_port()
    programs = bundle("redis")
    options = ["--bind", ADDRESS, "--save", "", "--dir", str(parlour.folder), "--repl-diskless-sync-delay", "0"]
    command = [*programs.command("redis-server"), "--port", str(port), *options]
    script = b"".join(b"SET key:%d %s\nGET key:%d\n" % (n, b"v" * n * 20, n) for n in range(60))

    def talk() -> None:
        if not replicating:
            parlour.run(*programs.command("redis-cli"), "-p", str(port), given=script + b"INFO\nKEYS *\n")
            return
        replica_port = free_port()
        follow = [*programs.command("redis-server"), "--port", str(replica_port), *options]
        with parlour.program("redis-replica", replica_port, *follow, "--replicaof", f"{ADDRESS} {port}") as replica:
            replica.wait_for_log("Finished with success")

    with parlour.program("redis", port, *command):
        yield port, talk


@contextmanager
def postgresql(parlour: Parlour, *, encrypted: bool = False) -> Iterator[Served]:
    """Its server refuses to run as root: it gets a user namespace of its own, in which it is somebody else."""
    port = free_port()
    programs = bundle("postgresql")
    root = programs.root
    assert root is not None
    binaries = root / "usr/lib/postgresql/15/bin"
    libraries = programs.command("../lib/postgresql/15/bin/psql")[2]
    data = parlour.folder / f"postgresql-{port}"
    somebody = ["unshare", "--user", "--map-user=1000", "--map-group=1000"]
    environment = {"LD_LIBRARY_PATH": libraries}
    parlour.folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        parlour.host.command([*somebody, str(binaries / "initdb"), "-D", str(data), "-U", "app", "-A", "trust", "-N"]),
        env={**os.environ, **environment}, capture_output=True, timeout=CLIENT_SECONDS, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    command: list[str | Path] = [
        *somebody,
        binaries / "postgres",
        "-D",
        data,
        "-p",
        str(port),
        "-k",
        data,
        "-c",
        f"listen_addresses={ADDRESS}",
    ]
    if encrypted:
        leaf = Authority(parlour.folder / "postgresql-authority").issue("source", "postgresql.example", "--ip", ADDRESS)
        command += ["-c", "ssl=on", "-c", f"ssl_cert_file={leaf.certificate}", "-c", f"ssl_key_file={leaf.key}"]
    mode = "require" if encrypted else "disable"
    script = b"""
        BEGIN; CREATE TABLE orders (id serial PRIMARY KEY, body bytea);
        INSERT INTO orders (body) SELECT decode(repeat('00ef01', n), 'hex') FROM generate_series(1, 50) n; COMMIT;
        SELECT * FROM orders; SELECT version(); COPY orders TO STDOUT;
    """

    def talk() -> None:
        psql = ["env", f"LD_LIBRARY_PATH={libraries}", str(binaries / "psql"), "-X"]
        parlour.run(*psql, f"host={ADDRESS} port={port} user=app dbname=postgres sslmode={mode}", given=script)

    with parlour.program("postgresql", port, *command, **environment):
        yield port, talk


TLS_SERVER = """
import socket, ssl, sys
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[2], sys.argv[3])
context.maximum_version = ssl.TLSVersion[sys.argv[4]]
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    connection, _ = listener.accept()
    with context.wrap_socket(connection, server_side=True) as tls:
        while data := tls.recv(65536):
            tls.sendall(data)
"""
TLS_CLIENT = """
import random, socket, ssl, sys
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.check_hostname = False
context.verify_mode = ssl.CERT_NONE
with context.wrap_socket(socket.create_connection(("127.0.0.1", int(sys.argv[1])))) as tls:
    for size in (5, 100, 2000, 40000, 3):
        tls.sendall(random.randbytes(size))
        while size > 0:
            size -= len(tls.recv(65536))
"""


@contextmanager
def tls(parlour: Parlour, version: str) -> Iterator[Served]:
    port = free_port()
    leaf = Authority(parlour.folder / f"authority-{version}").issue("source", "tls.example", "--ip", ADDRESS)
    command: list[str | Path] = [sys.executable, "-c", TLS_SERVER, str(port), leaf.certificate, leaf.key, version]
    with parlour.program("tls", port, *command):
        yield port, lambda: parlour.run(sys.executable, "-c", TLS_CLIENT, str(port))


SSH_SERVER = """
import asyncio, asyncssh, sys
class Server(asyncssh.SSHServer):
    def begin_auth(self, username):
        return False
async def process(process):
    process.stdout.write("y" * 20000)
    process.exit(0)
async def serve():
    await asyncssh.create_server(Server, "127.0.0.1", int(sys.argv[1]), process_factory=process,
        server_host_keys=[asyncssh.generate_private_key("ssh-ed25519")])
    await asyncio.Event().wait()
asyncio.run(serve())
"""
SSH_CLIENT = """
import asyncio, asyncssh, sys
async def ask():
    async with asyncssh.connect("127.0.0.1", int(sys.argv[1]), known_hosts=None, username="app", client_keys=None,
                                agent_path=None, config=None) as connection:
        for _ in range(3):
            await connection.run("anything")
asyncio.run(ask())
"""


@contextmanager
def ssh(parlour: Parlour) -> Iterator[Served]:
    port = free_port()
    with parlour.program("ssh", port, sys.executable, "-c", SSH_SERVER, str(port)):
        yield port, lambda: parlour.run(sys.executable, "-c", SSH_CLIENT, str(port))


# Answers OP_QUERY and OP_MSG (mongodb.com/docs/manual/reference/mongodb-wire-protocol) as a lone server does.
MONGODB_SERVER = """
import socket, struct, sys, threading, bson
HELLO = {"ismaster": True, "helloOk": True, "isWritablePrimary": True, "maxBsonObjectSize": 16777216,
         "maxMessageSizeBytes": 48000000, "maxWriteBatchSize": 100000,
         "minWireVersion": 0, "maxWireVersion": 21, "ok": 1.0}
def exactly(connection, size):
    data = b""
    while len(data) < size:
        piece = connection.recv(size - len(data))
        if not piece:
            raise EOFError
        data += piece
    return data
def serve(connection):
    try:
        while True:
            length, request, _, code = struct.unpack("<iiii", exactly(connection, 16))
            body = exactly(connection, length - 16)
            if code == 2004:
                answer = struct.pack("<iqii", 8, 0, 0, 1) + bson.encode(HELLO)
                kind = 1
            else:
                asked = bson.decode(body[5:5 + struct.unpack_from("<i", body, 5)[0]])
                reply = dict(HELLO)
                if "find" in asked:
                    rows = [{"_id": n, "body": "x" * n} for n in range(50)]
                    reply = {"cursor": {"id": 0, "ns": "shop.orders", "firstBatch": rows}, "ok": 1.0}
                answer = struct.pack("<i", 0) + b"\\0" + bson.encode(reply)
                kind = 2013
            connection.sendall(struct.pack("<iiii", 16 + len(answer), 1, request, kind) + answer)
    except EOFError:
        connection.close()
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
while True:
    threading.Thread(target=serve, args=[listener.accept()[0]], daemon=True).start()
"""
MONGODB_CLIENT = """
import sys, pymongo
with pymongo.MongoClient("127.0.0.1", int(sys.argv[1]), directConnection=True, serverSelectionTimeoutMS=5000) as client:
    for number in range(10):
        client.shop.orders.insert_one({"number": number, "body": "x" * 100})
    assert len(list(client.shop.orders.find())) == 50
"""


@contextmanager
def mongodb(parlour: Parlour) -> Iterator[Served]:
    port = free_port()
    with parlour.program("mongodb", port, sys.executable, "-c", MONGODB_SERVER, str(port)):
        yield port, lambda: parlour.run(sys.executable, "-c", MONGODB_CLIENT, str(port))


Turn = tuple[str, bytes]  # who speaks, "client" or "server", and what is said


@contextmanager
def conversation(parlour: Parlour, turns: Callable[[], list[Turn]]) -> Iterator[Served]:
    """Two ends say what they are told to, in turn."""
    port = free_port()
    listener = _listen_on(parlour, port)

    def talk() -> None:
        client = parlour.host.open_connection(ADDRESS, port)
        server, _ = listener.accept()
        with client, server:
            for speaker, said in turns():
                near, far = (client, server) if speaker == "client" else (server, client)
                near.sendall(said)
                left = len(said)
                while left:
                    left -= len(far.recv(left))

    with listener:
        yield port, talk


LISTEN = """
import socket, sys
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
socket.send_fds(socket.socket(fileno=int(sys.argv[2])), [b"x"], [listener.fileno()])
"""


def _listen_on(parlour: Parlour, port: int) -> socket.socket:
    """A listening socket of the host's, for use in this process."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        command = parlour.host.command([sys.executable, "-c", LISTEN, str(port), str(theirs.fileno())])
        subprocess.run(command, pass_fds=[theirs.fileno()], check=True)
        _, descriptors, _, _ = socket.recv_fds(ours, 1, 1)
    return socket.socket(fileno=descriptors[0])


def random_bytes() -> list[Turn]:
    noise = noise_of(1)
    speakers = ("client", "server")
    return [(speakers[n % 2], noise.randbytes(noise.choice((1, 4, 40, 700, 9000)))) for n in range(40)]


def random_bytes_in_packets() -> list[Turn]:
    """As MySQL frames it, but what is framed is noise."""
    noise = noise_of(2)
    turns: list[Turn] = []
    for number in range(40):
        body = noise.randbytes(noise.choice((5, 40, 700, 5000)))
        turns.append((("client", "server")[number % 2], len(body).to_bytes(3, "little") + bytes([number]) + body))
    return turns


def lengths_and_deflate() -> list[Turn]:
    """A protocol of somebody's own: a little-endian length, and zlib."""
    turns: list[Turn] = []
    for number in range(30):
        body = zlib.compress(f"message {number} ".encode() * number)
        turns.append((("client", "server")[number % 2], struct.pack("<I", len(body)) + body))
    return turns


def vnc() -> list[Turn]:
    """RFC 6143: the handshake without authentication, key and pointer events, rectangles."""
    noise = noise_of(3)
    pixels = bytes([32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0, 0, 0, 0])
    turns: list[Turn] = [
        ("server", b"RFB 003.008\n"), ("client", b"RFB 003.008\n"), ("server", b"\x01\x01"), ("client", b"\x01"),
        ("server", bytes(4)), ("client", b"\x01"),
        ("server", struct.pack("!HH16sI", 640, 480, pixels, 4) + b"desk"),
    ]  # fmt: skip
    for number in range(20):
        turns.append(("client", struct.pack("!BBHHHH", 3, 1, 0, 0, 640, 480)))
        turns.append(
            ("server", struct.pack("!BBH", 0, 0, 1) + struct.pack("!HHHHi", 0, number, 16, 4, 0) + noise.randbytes(256))
        )
        turns.append(
            ("client", struct.pack("!BBHI", 4, number % 2, 0, 0x61 + number) + struct.pack("!BBHH", 5, 0, 3, 22))
        )
    return turns


def cassandra() -> list[Turn]:
    """The native protocol, version 4: frames of version, flags, stream, opcode and length."""

    def frame(version: int, stream: int, opcode: int, body: bytes) -> bytes:
        return struct.pack("!BBhBI", version, 0, stream, opcode, len(body)) + body

    turns: list[Turn] = [
        ("client", frame(4, 0, 5, b"")),
        ("server", frame(0x84, 0, 6, b"\x00\x01\x00\x0bCQL_VERSION\x00\x01\x00\x053.4.5")),
        ("client", frame(4, 1, 1, b"\x00\x01\x00\x0bCQL_VERSION\x00\x053.4.5")),
        ("server", frame(0x84, 1, 2, b"")),
    ]
    for number in range(20):
        query = f"SELECT * FROM shop.orders WHERE id = {number}".encode()
        turns.append(("client", frame(4, number, 7, struct.pack("!I", len(query)) + query + b"\x00\x01\x00")))
        turns.append(("server", frame(0x84, number, 8, struct.pack("!I", 2) + bytes(20 + number))))
    return turns


def mqtt() -> list[Turn]:
    turns: list[Turn] = [
        ("client", b"\x10\x10\x00\x04MQTT\x04\x02\x00\x3c\x00\x04shop"), ("server", b"\x20\x02\x00\x00"),
        ("client", b"\x82\x0b\x00\x01\x00\x06orders\x00"), ("server", b"\x90\x03\x00\x01\x00"),
    ]  # fmt: skip
    for number in range(30):
        body = b"\x00\x06orders" + bytes([number]) * 20
        turns.append(("client" if number % 2 else "server", bytes([0x30, len(body)]) + body))
        turns.append(("client", b"\xc0\x00"))
        turns.append(("server", b"\xd0\x00"))
    return turns


def mail() -> list[Turn]:
    return [
        ("server", b"220 mail.example ESMTP\r\n"), ("client", b"EHLO shop.example\r\n"),
        ("server", b"250-mail.example\r\n250 SIZE 10240000\r\n"), ("client", b"MAIL FROM:<a@shop.example>\r\n"),
        ("server", b"250 OK\r\n"), ("client", b"RCPT TO:<b@mail.example>\r\n"), ("server", b"250 OK\r\n"),
        ("client", b"DATA\r\n"), ("server", b"354 go on\r\n"),
        ("client", b"Subject: SELECT * FROM orders\r\n\r\nINSERT INTO orders VALUES (1);\r\n.\r\n"),
        ("server", b"250 OK\r\n"), ("client", b"QUIT\r\n"), ("server", b"221 bye\r\n"),
    ]  # fmt: skip


def zeros() -> list[Turn]:
    return [(("client", "server")[number % 2], bytes(1000 * number + 7)) for number in range(12)]


def spoken(name: str, turns: Callable[[], list[Turn]]) -> Lookalike:
    return Lookalike(name, Truth.OTHER, partial(conversation, turns=turns))


LOOKALIKES = [
    Lookalike("TLS 1.3 from the first byte", Truth.TLS, partial(tls, version="TLSv1_3")),
    Lookalike("TLS 1.2 from the first byte", Truth.TLS, partial(tls, version="TLSv1_2")),
    Lookalike("PostgreSQL", Truth.OTHER, postgresql),
    Lookalike("PostgreSQL with TLS", Truth.OTHER_THEN_TLS, partial(postgresql, encrypted=True)),
    Lookalike("Redis", Truth.OTHER, redis),
    Lookalike("Redis replication", Truth.OTHER, partial(redis, replicating=True)),
    Lookalike("SSH", Truth.OTHER, ssh),
    Lookalike("HTTP", Truth.OTHER, http),
    Lookalike("MongoDB", Truth.OTHER, mongodb),
    spoken("random bytes", random_bytes),
    spoken("random bytes in packets", random_bytes_in_packets),
    spoken("lengths and zlib", lengths_and_deflate),
    spoken("VNC", vnc),
    spoken("Cassandra", cassandra),
    spoken("MQTT", mqtt),
    spoken("SMTP", mail),
    spoken("zeros", zeros),
]
