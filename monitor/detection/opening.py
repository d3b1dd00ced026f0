"""How the bytes of one direction begin: as MySQL's do, as TLS does, or as something else.

In the middle of a stream anything may come first, and only what is beyond doubt is taken for a beginning.
"""

from dataclasses import dataclass
from enum import Enum, auto

from monitor.detection.records import ALERT, HANDSHAKE, RECORD_HEADER_BYTES
from wire.capabilities import Capability
from wire.errors import WireError
from wire.framing import HEADER_BYTES
from wire.greeting import PROTOCOL_VERSION, HandshakeV10
from wire.login import SSL_REQUEST_BYTES, SSLRequest
from wire.results import ERR_HEADER, ErrPacket

_LONGEST_RECORD_BYTES = 16 * 1024 + 2048
_LONGEST_GREETING_BYTES = 1024
_LONGEST_LOGIN_BYTES = 128 * 1024
# mysqld_error.h, of both servers.
_SERVER_ERRORS = range(1000, 5000)
_FILLER = bytes(19)  # behind capabilities, largest packet and character set
# The PROXY protocol, versions 1 and 2 (haproxy.org, proxy-protocol.txt, sections 2.1 and 2.2).
_PROXY_V1, _PROXY_V2 = b"PROXY ", b"\r\n\r\n\x00\r\nQUIT\n"
_PROXY_V1_LIMIT_BYTES = 107
_PROXY_V2_HEADER_BYTES = 16


class Side(Enum):
    """Who sends a direction."""

    CLIENT = auto()
    SERVER = auto()


class Opening(Enum):
    """What stands at the beginning."""

    UNKNOWN = auto()
    """Too little is there to say."""
    PREAMBLE = auto()
    """A load balancer's header, to be passed over."""
    HELLO = auto()
    GREETING = auto()
    LOGIN = auto()
    """Or a request for TLS."""
    FOREIGN = auto()


@dataclass(frozen=True, slots=True)
class Begins:
    """What was found: its kind, who sends such a thing, and a preamble's length."""

    kind: Opening
    side: Side | None = None
    length: int = 0


_UNKNOWN = Begins(Opening.UNKNOWN)
_FOREIGN = Begins(Opening.FOREIGN)


def is_record_header(data: bytes | bytearray) -> bool:
    """Whether a TLS record may begin with these five bytes (RFC 8446, section 5.1)."""
    return (
        20 <= data[0] <= 23 and data[1] == 3 and data[2] <= 4 and 0 < (data[3] << 8 | data[4]) <= _LONGEST_RECORD_BYTES
    )


def is_hello(data: bytes | bytearray, side: Side | None) -> bool:
    """Whether six bytes begin the record of a hello, or of an alert in its place."""
    return _side_of_hello(data, side) is not None


def opening_of(data: bytearray, side: Side | None) -> Begins:
    """Say how a direction begins.

    Args:
        data: its first bytes; more of them may settle what few leave open.
        side: who sends it, where that is known.
    """
    if side is not Side.SERVER:
        preamble = _preamble(data)
        if preamble is not None:
            return preamble
    if len(data) <= RECORD_HEADER_BYTES:
        return _UNKNOWN
    said_by = _side_of_hello(data, side)
    if said_by is not None:
        return Begins(Opening.HELLO, said_by)
    if side is not Side.CLIENT and data[3] == 0 and data[4] in {PROTOCOL_VERSION, ERR_HEADER}:
        return _greeting(data, side)
    if side is not Side.SERVER and data[3] == 1:
        return _login(data)
    return _FOREIGN


def _side_of_hello(data: bytes | bytearray, side: Side | None) -> Side | None:
    if not is_record_header(data):
        return None
    if data[0] == ALERT:
        return side if data[3] == 0 and data[4] == 2 else None
    said_by = {1: Side.CLIENT, 2: Side.SERVER}.get(data[5]) if data[0] == HANDSHAKE else None
    return said_by if side in {None, said_by} else None


def _greeting(data: bytearray, side: Side | None) -> Begins:
    length = int.from_bytes(data[:3], "little")
    if length > _LONGEST_GREETING_BYTES:
        return _FOREIGN
    if len(data) < HEADER_BYTES + length:
        return _UNKNOWN
    if data[4] == ERR_HEADER:
        # On its own it is too little to know a server by.
        is_refusal = side is not None and _is_refusal(data[HEADER_BYTES : HEADER_BYTES + length])
        return Begins(Opening.GREETING, Side.SERVER) if is_refusal else _FOREIGN
    try:
        greeting = HandshakeV10.parse(data[HEADER_BYTES : HEADER_BYTES + length])
    except WireError:
        return _FOREIGN
    is_sound = greeting.capabilities & Capability.CLIENT_PROTOCOL_41 and greeting.server_version.isascii()
    return Begins(Opening.GREETING, Side.SERVER) if is_sound else _FOREIGN


def _is_refusal(payload: bytearray) -> bool:
    """Whether this is the ERR of a server that does not get as far as its greeting: without SQLSTATE."""
    try:
        error = ErrPacket.parse(payload)
    except WireError:
        return False
    return error.code in _SERVER_ERRORS and error.message.decode(errors="replace").isprintable()


def _login(data: bytearray) -> Begins:
    length = int.from_bytes(data[:3], "little")
    if length < SSL_REQUEST_BYTES or length > _LONGEST_LOGIN_BYTES:
        # The short request of old drivers: its capabilities alone.
        return Begins(Opening.LOGIN, Side.CLIENT) if _is_short_request(data, length) else _FOREIGN
    if len(data) < HEADER_BYTES + SSL_REQUEST_BYTES:
        return _UNKNOWN
    header = bytes(data[HEADER_BYTES : HEADER_BYTES + SSL_REQUEST_BYTES])
    is_sound = header[9 : 9 + len(_FILLER)] == _FILLER and header[1] & Capability.CLIENT_PROTOCOL_41 >> 8
    return Begins(Opening.LOGIN, Side.CLIENT) if is_sound else _FOREIGN


def _is_short_request(data: bytearray, length: int) -> bool:
    if length != 4 or len(data) < HEADER_BYTES + length:
        return False
    try:
        request = SSLRequest.parse(data[HEADER_BYTES : HEADER_BYTES + length])
    except WireError:
        return False
    return bool(request.capabilities & Capability.CLIENT_PROTOCOL_41)


def _preamble(data: bytearray) -> Begins | None:
    if data.startswith(_PROXY_V1):
        end = data.find(b"\r\n", 0, _PROXY_V1_LIMIT_BYTES)
        if end >= 0:
            return Begins(Opening.PREAMBLE, Side.CLIENT, end + 2)
        return _UNKNOWN if len(data) < _PROXY_V1_LIMIT_BYTES else None
    if data.startswith(_PROXY_V2):
        if len(data) < _PROXY_V2_HEADER_BYTES:
            return _UNKNOWN
        end = _PROXY_V2_HEADER_BYTES + int.from_bytes(data[14:16])
        return Begins(Opening.PREAMBLE, Side.CLIENT, end) if len(data) >= end else _UNKNOWN
    return _UNKNOWN if _PROXY_V1.startswith(data) or _PROXY_V2.startswith(data) else None
