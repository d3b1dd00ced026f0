"""The one family of errors that this package raises."""


class AuditError(Exception):
    """Something cannot be used or read; the text says what, and what to do about it, on one line."""


class ServerUnreadable(AuditError):  # noqa: N818 - named for what it is about
    """A server cannot be reached, cannot be trusted, or does not let the audit in."""
