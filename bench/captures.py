"""Capture files for the bench of the monitor, made here: real conversations and handshakes, in segments of any size."""

import socket
import ssl
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from bench.competitors import Certificates
from bench.conversation import Order, dump, events_chunk, serve_until_dump
from wire.capabilities import Capability
from wire.framing import encode_packet
from wire.login import SSLRequest

MTU_PAYLOAD_BYTES = 1448
# What the kernel hands over at once: a segment that the network card cuts up (segmentation offload).
OFFLOADED_PAYLOAD_BYTES = 44 * MTU_PAYLOAD_BYTES

_CLIENT, _SERVER = bytes([10, 20, 0, 2]), bytes([10, 20, 0, 1])
_SERVER_PORT = 3306
_SYN, _ACK, _PUSH, _FIN = 0x02, 0x10, 0x08, 0x01
_NANOSECONDS_APART = 12_000  # 1500-byte packets at 1 Gbit/s
_START_SECONDS = 1_800_000_000
_EVENT_BYTES = 8192
_COM_QUIT = b"\x01"

# Whether the client sends, and what.
Said = tuple[bool, bytes]


class _Noted(socket.socket):
    """A socket that notes what is sent on it."""

    said: list[Said]
    is_client: bool

    def sendall(self, data: bytes, flags: int = 0) -> None:  # type: ignore[override]
        """Sends and notes."""
        self.said.append((self.is_client, bytes(data)))
        super().sendall(data, flags)


def login() -> list[Said]:
    """A conversation up to the dump, as both sides have it."""
    said: list[Said] = []
    ends = [_Noted(fileno=end.detach()) for end in socket.socketpair()]
    for end, is_client in zip(ends, (True, False), strict=True):
        end.said, end.is_client = said, is_client
    client, server = ends
    with client, server:
        source = threading.Thread(target=serve_until_dump, args=(server,))
        source.start()
        dump(client, Order("bulk", _EVENT_BYTES))
        source.join()
    return said


def tls_session(certificates: Certificates, plain: bytes) -> tuple[list[Said], bytes]:
    """A greeting, the request for TLS, a handshake; and `plain` as the source sends it then."""
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.load_cert_chain(certificates.source, certificates.source_key)
    client_context = certificates.replica_context()
    client_context.check_hostname = False
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context.wrap_bio(to_client, to_server)
    server = server_context.wrap_bio(to_server, to_client, server_side=True)
    greeting = bytearray(login()[0][1])
    # The lower half of the capabilities stands behind the version, the thread id and half of the nonce.
    flags = greeting.index(0, 5) + 1 + 4 + 8 + 1
    capabilities = int.from_bytes(greeting[flags : flags + 2], "little") | Capability.CLIENT_SSL
    greeting[flags : flags + 2] = (capabilities & 0xFFFF).to_bytes(2, "little")
    request = SSLRequest(Capability(capabilities), max_packet_bytes=1 << 24, charset=0xFF).serialize()
    said: list[Said] = [(False, bytes(greeting)), (True, encode_packet(request, 1))]
    done = {client: False, server: False}
    while not all(done.values()):
        for end, outgoing, incoming in ((client, to_server, to_client), (server, to_client, to_server)):
            try:
                end.do_handshake()
                done[end] = True
            except ssl.SSLWantReadError:
                pass
            if outgoing.pending:
                sent = outgoing.read()
                said.append((end is client, sent))
                outgoing.write(sent)
            del incoming
    server.write(plain)
    return said, to_client.read()


class CaptureWriter:
    """Writes TCP over IPv4 over Ethernet into a classic pcap file.

    Attributes:
        packets: how many were written.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.packets = 0
        self._file = file
        self._time = _START_SECONDS * 10**9
        file.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 1 << 18, 1))

    def connection(self, client_port: int) -> "Connection":
        """A connection whose handshake has passed."""
        return Connection(self, client_port)

    def write(self, packet: bytes) -> None:
        """A packet, a little later than the one before."""
        self.packets += 1
        self._time += _NANOSECONDS_APART
        seconds, nanoseconds = divmod(self._time, 10**9)
        self._file.write(struct.pack("<IIII", seconds, nanoseconds // 1000, len(packet), len(packet)) + packet)


class Connection:
    """One connection: what each side sends is acknowledged after every second segment, as TCP does."""

    def __init__(self, writer: CaptureWriter, client_port: int) -> None:
        self._writer = writer
        self._headers = tuple(
            (b"\x02\0\0\0\0" + bytes([2 - is_client]) + b"\x02\0\0\0\0" + bytes([1 + is_client]) + b"\x08\0",
             (_CLIENT + _SERVER if is_client else _SERVER + _CLIENT)
             + struct.pack(">HH", *((client_port, _SERVER_PORT) if is_client else (_SERVER_PORT, client_port))))
            for is_client in (False, True)
        )  # fmt: skip
        self._sequences = [2_000_000_000, 1_000_000_000]
        self._unacknowledged = [0, 0]
        self._packet(is_client=True, flags=_SYN)
        self._packet(is_client=False, flags=_SYN | _ACK)
        self._packet(is_client=True, flags=_ACK)

    def say(self, said: list[Said]) -> None:
        """What both sides say, in turn."""
        for is_client, data in said:
            self.send(data, MTU_PAYLOAD_BYTES, is_client=is_client)

    def send(self, data: bytes, payload_bytes: int, *, is_client: bool) -> None:
        """Data in segments of so many bytes."""
        for start in range(0, len(data), payload_bytes):
            self._packet(is_client=is_client, flags=_ACK | _PUSH, payload=data[start : start + payload_bytes])
            self._unacknowledged[is_client] += 1
            if self._unacknowledged[is_client] == 2:
                self._unacknowledged[is_client] = 0
                self._packet(is_client=not is_client, flags=_ACK)

    def close(self) -> None:
        """Both sides finish."""
        self._packet(is_client=True, flags=_ACK | _FIN)
        self._packet(is_client=False, flags=_ACK | _FIN)
        self._packet(is_client=True, flags=_ACK)

    def _packet(self, *, is_client: bool, flags: int, payload: bytes = b"") -> None:
        ethernet, key = self._headers[is_client]
        total = 52 + len(payload)
        ip = struct.pack(">BBHHHBBH", 0x45, 0, total, self._writer.packets & 0xFFFF, 0x4000, 64, 6, 0)
        # Without its checksum a header is dropped by whoever checks.
        checksum = sum(struct.unpack(">10H", ip + key[:8]))
        checksum = ~((checksum & 0xFFFF) + (checksum >> 16)) & 0xFFFF
        sequence, acknowledgement = self._sequences[is_client], self._sequences[not is_client]
        tcp = struct.pack(">IIBBHHH", sequence & 0xFFFFFFFF, acknowledgement & 0xFFFFFFFF if flags & _ACK else 0,
                          0x80, flags, 512, 0, 0)  # fmt: skip
        options = b"\x01\x01\x08\x0a" + struct.pack(">II", self._writer.packets & 0xFFFFFFFF, 1)
        self._writer.write(ethernet + ip[:-2] + checksum.to_bytes(2) + key + tcp + options + payload)
        self._sequences[is_client] += len(payload) + bool(flags & (_SYN | _FIN))


@dataclass(frozen=True, slots=True)
class Capture:
    """A capture file and what a monitor should say of it."""

    path: Path
    packets: int
    flows: int
    verdict: str


def _stream(
    path: Path, packets: int, opening: list[Said], chunk: bytes, *, payload_bytes: int, verdict: str
) -> Capture:
    with path.open("wb") as file:
        writer = CaptureWriter(file)
        connection = writer.connection(40000)
        connection.say(opening)
        while writer.packets < packets:
            connection.send(chunk, payload_bytes, is_client=False)
        connection.close()
    return Capture(path, writer.packets, 1, verdict)


def _churn(path: Path, packets: int) -> Capture:
    conversation = [*login()[:3], (True, encode_packet(_COM_QUIT, 0))]
    flows = 0
    with path.open("wb") as file:
        writer = CaptureWriter(file)
        while writer.packets < packets:
            connection = writer.connection(1024 + flows % 64000)
            connection.say(conversation)
            connection.close()
            flows += 1
    return Capture(path, writer.packets, flows, "plaintext-client")


def captures(folder: Path, certificates: Certificates, packets: int) -> Iterator[tuple[str, Capture]]:
    """One capture file after the other, each gone when the next is made. Those of large segments have fewer packets."""
    plain = events_chunk(_EVENT_BYTES)
    path = folder / "capture.pcap"
    yield (
        "plaintext stream, MTU 1500",
        _stream(path, packets, login(), plain, payload_bytes=MTU_PAYLOAD_BYTES, verdict="plaintext-replication"),
    )
    handshake, encrypted = tls_session(certificates, plain)
    yield (
        "TLS 1.3 stream, MTU 1500",
        _stream(path, packets, handshake, encrypted, payload_bytes=MTU_PAYLOAD_BYTES, verdict="tls"),
    )
    yield "many short connections", _churn(path, packets // 3)
    yield (
        "plaintext stream, 62 KiB segments",
        _stream(
            path, packets // 50, login(), plain, payload_bytes=OFFLOADED_PAYLOAD_BYTES, verdict="plaintext-replication"
        ),
    )


__all__ = ["Capture", "captures"]
