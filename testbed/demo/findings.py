"""What a capture shows: what of it is TLS, what is not, and which known texts can be read in it.

Two looks that do not depend on one another. One searches for texts that plaintext replication carries. The other
accounts for every byte of TCP payload: on a connection of MySQL there may be the source's greeting and the
replica's SSLRequest, which the protocol sends before TLS, then TLS records to the end, and nothing else.
"""

import collections
import dataclasses
from collections.abc import Mapping
from pathlib import Path

from testbed.pcap import Stream, clear_text_hits, tcp_streams

MYSQL_HEADER = 4
# mysql_com.h and page_protocol_connection_phase_packets: a greeting begins with protocol version 10, and an
# SSLRequest is the first 32 bytes of a login.
GREETING_PROTOCOL = 10
SSL_REQUEST_BYTES = 32
# RFC 8446, 5.1 and 5.2: types from change_cipher_spec to application_data, and the longest record.
TLS_HEADER = 5
TLS_TYPES = range(20, 24)
TLS_APPLICATION_DATA = 23
TLS_VERSIONS = (b"\x03\x01", b"\x03\x03")
TLS_LONGEST = 16384 + 256


@dataclasses.dataclass(frozen=True, kw_only=True)
class Findings:
    """What was found in one or more captures.

    Attributes:
        packets: how many were captured.
        dropped: how many the kernel could not hold, so that nobody looked at them.
        payload: bytes of TCP payload.
        before_tls: bytes of greetings and SSLRequests.
        clear: bytes of neither those nor TLS.
        encrypted: bytes in records of application data, by addresses of sender and receiver.
        readable: what could be read, by name, and where: "name: sender > receiver".
    """

    packets: int = 0
    dropped: int = 0
    payload: int = 0
    before_tls: int = 0
    clear: int = 0
    encrypted: Mapping[tuple[str, str], int] = dataclasses.field(default_factory=dict)
    readable: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def __add__(self, other: "Findings") -> "Findings":
        return Findings(
            packets=self.packets + other.packets,
            dropped=self.dropped + other.dropped,
            payload=self.payload + other.payload,
            before_tls=self.before_tls + other.before_tls,
            clear=self.clear + other.clear,
            encrypted=collections.Counter(self.encrypted) + collections.Counter(other.encrypted),
            readable={**other.readable, **self.readable},
        )

    @property
    def is_clean(self) -> bool:
        """Whether nothing was seen that should not be."""
        return not self.clear and not self.readable


def inspect(pcap: Path, needles: Mapping[str, bytes], *, packets: int = 0, dropped: int = 0) -> Findings:
    """Look at a capture.

    Args:
        pcap: the file.
        needles: what to search for, by name.
        packets: how many are in it, for the count.
        dropped: how many are not in it because the kernel could not hold them.
    """
    names = {needle: name for name, needle in needles.items()}
    readable: dict[str, str] = {}
    for hit in clear_text_hits(pcap, names):
        readable.setdefault(names[hit.needle], f"{hit.source} > {hit.destination}")
    payload = before_tls = clear = 0
    encrypted: collections.Counter[tuple[str, str]] = collections.Counter()
    for stream in tcp_streams(pcap):
        account = _account_for(stream)
        payload += stream.size
        before_tls += account.before_tls
        clear += account.clear
        if account.encrypted:
            encrypted[_host(stream.source), _host(stream.destination)] += account.encrypted
    return Findings(
        packets=packets, dropped=dropped, payload=payload, before_tls=before_tls, clear=clear, encrypted=encrypted,
        readable=readable,
    )  # fmt: skip


@dataclasses.dataclass(frozen=True)
class _Account:
    before_tls: int = 0
    encrypted: int = 0
    clear: int = 0


def _account_for(stream: Stream) -> _Account:
    before_tls = encrypted = clear = 0
    for run in stream.runs:
        start = _preamble_bytes(run)
        records = _Records(run, start)
        if start == 0 and records.end == 0:
            # The capture began in the middle of a record, or missed some.
            records = _resynchronised(run)
        before_tls += start
        encrypted += records.encrypted
        clear += len(run) - records.end
    return _Account(before_tls, encrypted, clear)


def _preamble_bytes(run: bytes) -> int:
    """The length of a greeting or an SSLRequest at the beginning of a connection."""
    length, number = int.from_bytes(run[:3], "little"), run[3:4]
    is_greeting = number == b"\0" and run[MYSQL_HEADER : MYSQL_HEADER + 1] == bytes([GREETING_PROTOCOL])
    is_ssl_request = number == b"\1" and length == SSL_REQUEST_BYTES
    whole = MYSQL_HEADER + length
    return whole if (is_greeting or is_ssl_request) and whole <= len(run) else 0


class _Records:
    """TLS records one after the other, from `start` on.

    Attributes:
        end: where they end: the length of `run` when they fill it; the last may be cut off by the capture's end.
        encrypted: bytes in records of application data.
    """

    def __init__(self, run: bytes, start: int) -> None:
        self.end = start
        self.encrypted = 0
        while self.end < len(run):
            header = run[self.end : self.end + TLS_HEADER]
            is_record = header[0] in TLS_TYPES and any(version.startswith(header[1:3]) for version in TLS_VERSIONS)
            length = int.from_bytes(header[3:5].ljust(2, b"\0"))
            if not is_record or length > TLS_LONGEST:
                return
            present = min(length, len(run) - self.end - TLS_HEADER)
            if header[0] == TLS_APPLICATION_DATA:
                self.encrypted += max(0, present)
            self.end = min(self.end + TLS_HEADER + length, len(run))


def _resynchronised(run: bytes) -> _Records:
    """The records after the rest of one whose beginning is not there; none when they do not fill the run."""
    beginning = bytes([TLS_APPLICATION_DATA]) + TLS_VERSIONS[-1]
    if beginning not in run:
        return _Records(run, len(run) if _is_inside_a_record(run) else 0)
    place = run.find(beginning, 0, TLS_LONGEST + len(beginning))
    while place != -1:
        records = _Records(run, place)
        if records.end == len(run):
            return records
        place = run.find(beginning, place + 1, TLS_LONGEST + len(beginning))
    return _Records(run, 0)


def _is_inside_a_record(run: bytes) -> bool:
    """Whether a run without any record's beginning can be a part of one.

    Ciphertext is even noise: of any few dozen bytes about half have the highest bit set. MySQL's packets, made of
    text, small numbers and zeros, have few.
    """
    high = sum(byte >> 7 for byte in run)
    return len(run) <= TLS_LONGEST and high * 4 > len(run)


def _host(endpoint: str) -> str:
    return endpoint.rpartition(":")[0]
