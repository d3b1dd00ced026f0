"""The protocol's basic data types: a bounds-checked reader, and the writers of what has a length.

Manual: page_protocol_basic_data_types, page_protocol_basic_dt_integers, page_protocol_basic_dt_strings.
Integers are little-endian. A length-encoded integer is one byte below 0xFB, or a first byte that says how
many follow: 0xFC two, 0xFD three, 0xFE eight. 0xFB is NULL in a row and 0xFF begins an ERR packet: neither
begins a length.
"""

from wire.errors import MalformedPacket, TruncatedPacket

Payload = bytes | bytearray | memoryview

_LENENC_WIDTHS = {0xFC: 2, 0xFD: 3, 0xFE: 8}


class PayloadReader:
    """Reads one payload from left to right and never beyond its end.

    Every method raises `TruncatedPacket` when the payload ends before the field does.
    """

    __slots__ = ("_payload", "_position")

    def __init__(self, payload: Payload) -> None:
        self._payload = bytes(payload)  # no copy when these are bytes already
        self._position = 0

    @property
    def position(self) -> int:
        """Offset of the next byte to be read."""
        return self._position

    @property
    def remaining(self) -> int:
        """Number of bytes not read yet."""
        return len(self._payload) - self._position

    def fixed(self, length: int) -> bytes:
        """Read exactly `length` bytes."""
        if length > self.remaining:
            raise TruncatedPacket(
                f"{length} bytes wanted at offset {self._position}, and the payload has {self.remaining} left"
            )
        start = self._position
        self._position = start + length
        return self._payload[start : self._position]

    def integer(self, width: int) -> int:
        """Read a little-endian unsigned integer of `width` bytes."""
        return int.from_bytes(self.fixed(width), "little")

    def int1(self) -> int:
        """Read int<1>."""
        return self.integer(1)

    def int2(self) -> int:
        """Read int<2>."""
        return self.integer(2)

    def int3(self) -> int:
        """Read int<3>."""
        return self.integer(3)

    def int4(self) -> int:
        """Read int<4>."""
        return self.integer(4)

    def int6(self) -> int:
        """Read int<6>."""
        return self.integer(6)

    def int8(self) -> int:
        """Read int<8>."""
        return self.integer(8)

    def lenenc_int(self) -> int:
        """Read a length-encoded integer.

        Raises:
            MalformedPacket: The first byte is 0xFB or 0xFF, which begin no length.
        """
        first = self.int1()
        if first < 0xFB:
            return first
        if first not in _LENENC_WIDTHS:
            raise MalformedPacket(f"0x{first:02X} begins no length-encoded integer")
        return self.integer(_LENENC_WIDTHS[first])

    def lenenc_bytes(self) -> bytes:
        """Read a length-encoded string."""
        return self.fixed(self.lenenc_int())

    def nul_terminated(self) -> bytes:
        """Read up to a NUL, which is consumed and not returned."""
        end = self._payload.find(b"\x00", self._position)
        if end < 0:
            raise TruncatedPacket(f"the string at offset {self._position} is not terminated")
        value = self._payload[self._position : end]
        self._position = end + 1
        return value

    def nul_terminated_or_rest(self) -> bytes:
        """Read up to a NUL, or to the end where the last field's NUL is missing, as some peers have it."""
        if self._payload.find(b"\x00", self._position) < 0:
            return self.rest()
        return self.nul_terminated()

    def rest(self) -> bytes:
        """Read everything that is left, which may be nothing."""
        return self.fixed(self.remaining)


def lenenc_int(value: int) -> bytes:
    """Write a length-encoded integer in its shortest form."""
    if value < 0xFB:
        return value.to_bytes(1, "little")
    if value <= 0xFFFF:
        return b"\xfc" + value.to_bytes(2, "little")
    if value <= 0xFFFFFF:
        return b"\xfd" + value.to_bytes(3, "little")
    return b"\xfe" + value.to_bytes(8, "little")


def lenenc_bytes(value: Payload) -> bytes:
    """Write a length-encoded string."""
    return lenenc_int(len(value)) + value
