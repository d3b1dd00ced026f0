"""What reading a peer's bytes may raise: one family, three children, nothing else.

Every function of `wire` that takes bytes from a peer raises a `WireError` or returns. An `IndexError`, a
`struct.error` or a `UnicodeDecodeError` that escapes from here is a bug. A `ValueError` means that our own
code asked for something that cannot be written down, for instance an authentication response too long for
its length field.
"""


class WireError(Exception):
    """A peer sent something that cannot be accepted."""


class TruncatedPacket(WireError):  # noqa: N818 - named for what it is about
    """The payload ends before a field does."""


class MalformedPacket(WireError):  # noqa: N818 - named for what it is about
    """The payload holds what no peer may send."""


class UnexpectedPacket(WireError):  # noqa: N818 - named for what it is about
    """The packet is well formed, but not one that may come now."""
