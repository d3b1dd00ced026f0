"""How a session can end, stage by stage, and what the replica is told.

A replica shows the text of an ERR packet in `SHOW REPLICA STATUS` and decides by its number whether to try again. While
it connects it retries whatever the number is; in the command phase and in the event stream only some numbers are
transient. `ERROR_NUMBERS` is the one place where a number is chosen.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from wire.results import ErrPacket


class Stage(StrEnum):
    """The eight stages of a session, in order; also the `stage` label of the metrics."""

    ADMISSION = "admission"
    SOURCE = "source"
    GREETING = "greeting"
    TLS = "tls"
    IDENTITY = "identity"
    AUTHENTICATION = "authentication"
    POLICY = "policy"
    RELAY = "relay"


class Reason(StrEnum):
    """Why a session was refused or ended; also the `reason` label of the metrics."""

    ADDRESS_NOT_ALLOWED = "address_not_allowed"
    TOO_MANY_SESSIONS = "too_many_sessions"
    SOURCE_UNREACHABLE = "source_unreachable"
    SOURCE_REFUSED = "source_refused"
    SOURCE_WITHOUT_TLS = "source_without_tls"
    SOURCE_TLS_FAILED = "source_tls_failed"
    SOURCE_NAME_MISMATCH = "source_name_mismatch"
    PLAINTEXT_REFUSED = "plaintext_refused"
    NOT_TLS = "not_tls"
    CERTIFICATE_MISSING = "certificate_missing"
    CERTIFICATE_UNTRUSTED = "certificate_untrusted"
    CERTIFICATE_EXPIRED = "certificate_expired"
    CERTIFICATE_REVOKED = "certificate_revoked"
    CERTIFICATE_REFUSED = "certificate_refused"
    CRL_UNUSABLE = "crl_unusable"
    TLS_VERSION_REFUSED = "tls_version_refused"
    NO_SHARED_CIPHER = "no_shared_cipher"
    NO_SHARED_GROUP = "no_shared_group"
    TLS_HANDSHAKE_FAILED = "tls_handshake_failed"
    REPLICA_REJECTED_CERTIFICATE = "replica_rejected_certificate"
    IDENTITY_NOT_ON_ROSTER = "identity_not_on_roster"
    ADDRESS_NOT_ON_ROSTER = "address_not_on_roster"
    ACCOUNT_NOT_ALLOWED = "account_not_allowed"
    SERVER_ID_NOT_ALLOWED = "server_id_not_allowed"
    AUTHENTICATION_REJECTED = "authentication_rejected"
    AUTHENTICATION_NOT_BRIDGEABLE = "authentication_not_bridgeable"
    REPLICA_LEFT_AFTER_LOGIN = "replica_left_after_login"
    COMMAND_REFUSED = "command_refused"
    PROTOCOL_ERROR = "protocol_error"
    TIMEOUT = "timeout"
    DISCONNECTED = "disconnected"
    SOURCE_DISCONNECTED = "source_disconnected"
    CLOSED = "closed"
    DRAINED = "drained"
    EXPIRED = "expired"
    REVOKED = "revoked"
    UNTRUSTED = "untrusted"
    SOURCE_EXPIRED = "source_expired"
    SOURCE_REVOKED = "source_revoked"
    SOURCE_UNTRUSTED = "source_untrusted"
    NOT_ALLOWED = "not_allowed"
    NOT_ON_ROSTER = "not_on_roster"
    ROUTE_CHANGED = "route_changed"
    KEY_LIMIT = "key_limit"
    MAX_AGE = "max_age"
    INTERNAL_ERROR = "internal_error"


# MySQL 9.7 `share/messages_to_clients.txt` and the client's errmsg list; the SQLSTATE belongs to the number.
ERROR_NUMBERS: dict[Reason, tuple[int, bytes]] = {
    Reason.ADDRESS_NOT_ALLOWED: (1130, b"HY000"),  # ER_HOST_NOT_PRIVILEGED
    Reason.TOO_MANY_SESSIONS: (1040, b"08004"),  # ER_CON_COUNT_ERROR, transient for a replica
    Reason.SOURCE_UNREACHABLE: (2003, b"HY000"),  # CR_CONN_HOST_ERROR, transient for a replica
    Reason.SOURCE_WITHOUT_TLS: (2026, b"HY000"),  # CR_SSL_CONNECTION_ERROR
    Reason.SOURCE_TLS_FAILED: (2026, b"HY000"),
    Reason.SOURCE_NAME_MISMATCH: (2026, b"HY000"),
    Reason.PLAINTEXT_REFUSED: (3159, b"HY000"),  # ER_SECURE_TRANSPORT_REQUIRED
    Reason.IDENTITY_NOT_ON_ROSTER: (1045, b"28000"),  # ER_ACCESS_DENIED_ERROR
    Reason.ADDRESS_NOT_ON_ROSTER: (1045, b"28000"),
    Reason.ACCOUNT_NOT_ALLOWED: (1045, b"28000"),
    Reason.AUTHENTICATION_NOT_BRIDGEABLE: (1045, b"28000"),
    Reason.SERVER_ID_NOT_ALLOWED: (1227, b"42000"),  # ER_SPECIFIC_ACCESS_DENIED_ERROR
    Reason.COMMAND_REFUSED: (1227, b"42000"),
    Reason.PROTOCOL_ERROR: (1043, b"08S01"),  # ER_HANDSHAKE_ERROR
    Reason.TIMEOUT: (1159, b"08S01"),  # ER_NET_READ_INTERRUPTED, transient for a replica
    # In the event stream anything but 1236 and a few of the client's own makes a replica reconnect (handle_slave_io).
    Reason.DRAINED: (1053, b"08S01"),  # ER_SERVER_SHUTDOWN, transient for a replica
    Reason.KEY_LIMIT: (1053, b"08S01"),
    Reason.MAX_AGE: (1053, b"08S01"),
    Reason.ROUTE_CHANGED: (1053, b"08S01"),
    Reason.EXPIRED: (1045, b"28000"),
    Reason.REVOKED: (1045, b"28000"),
    Reason.UNTRUSTED: (1045, b"28000"),
    Reason.NOT_ALLOWED: (1130, b"HY000"),
    Reason.NOT_ON_ROSTER: (1045, b"28000"),
    Reason.SOURCE_EXPIRED: (2026, b"HY000"),
    Reason.SOURCE_REVOKED: (2026, b"HY000"),
    Reason.SOURCE_UNTRUSTED: (2026, b"HY000"),
}


_BEFORE_LOGIN = (
    Reason.TIMEOUT,
    Reason.PROTOCOL_ERROR,
    Reason.DISCONNECTED,
    Reason.SOURCE_DISCONNECTED,
    Reason.TOO_MANY_SESSIONS,
    Reason.DRAINED,
    Reason.INTERNAL_ERROR,
)
_AFTER_LOGIN = (Reason.PROTOCOL_ERROR, Reason.INTERNAL_ERROR)
# Which reasons a stage can refuse for: every pair that `binlock_proxy_refusals_total` can have.
REFUSALS: dict[Stage, tuple[Reason, ...]] = {
    Stage.ADMISSION: (Reason.ADDRESS_NOT_ALLOWED, *_BEFORE_LOGIN),
    Stage.SOURCE: (
        Reason.SOURCE_UNREACHABLE,
        Reason.SOURCE_REFUSED,
        Reason.SOURCE_NAME_MISMATCH,
        Reason.SOURCE_TLS_FAILED,
        *_BEFORE_LOGIN,
    ),
    Stage.GREETING: (Reason.SOURCE_WITHOUT_TLS, *_BEFORE_LOGIN),
    Stage.TLS: (
        Reason.PLAINTEXT_REFUSED,
        Reason.NOT_TLS,
        Reason.CERTIFICATE_MISSING,
        Reason.CERTIFICATE_UNTRUSTED,
        Reason.CERTIFICATE_EXPIRED,
        Reason.CERTIFICATE_REVOKED,
        Reason.CERTIFICATE_REFUSED,
        Reason.CRL_UNUSABLE,
        Reason.TLS_VERSION_REFUSED,
        Reason.NO_SHARED_CIPHER,
        Reason.NO_SHARED_GROUP,
        Reason.TLS_HANDSHAKE_FAILED,
        Reason.REPLICA_REJECTED_CERTIFICATE,
        *_BEFORE_LOGIN,
    ),
    Stage.IDENTITY: (Reason.IDENTITY_NOT_ON_ROSTER, Reason.ADDRESS_NOT_ON_ROSTER, *_BEFORE_LOGIN),
    Stage.AUTHENTICATION: (
        Reason.ACCOUNT_NOT_ALLOWED,
        Reason.AUTHENTICATION_REJECTED,
        Reason.AUTHENTICATION_NOT_BRIDGEABLE,
        Reason.REPLICA_LEFT_AFTER_LOGIN,
        *_BEFORE_LOGIN,
    ),
    Stage.POLICY: (Reason.SERVER_ID_NOT_ALLOWED, *_AFTER_LOGIN),
    Stage.RELAY: _AFTER_LOGIN,
}
# What observe mode lets pass.
OBJECTIONS: dict[Stage, tuple[Reason, ...]] = {
    Stage.IDENTITY: (Reason.IDENTITY_NOT_ON_ROSTER, Reason.ADDRESS_NOT_ON_ROSTER),
    Stage.AUTHENTICATION: (Reason.ACCOUNT_NOT_ALLOWED,),
    Stage.POLICY: (Reason.SERVER_ID_NOT_ALLOWED, Reason.COMMAND_REFUSED),
}
# How a session that had logged in can end.
ENDINGS: tuple[Reason, ...] = (
    Reason.CLOSED,
    Reason.DISCONNECTED,
    Reason.SOURCE_DISCONNECTED,
    Reason.DRAINED,
    Reason.EXPIRED,
    Reason.REVOKED,
    Reason.UNTRUSTED,
    Reason.SOURCE_EXPIRED,
    Reason.SOURCE_REVOKED,
    Reason.SOURCE_UNTRUSTED,
    Reason.NOT_ALLOWED,
    Reason.NOT_ON_ROSTER,
    Reason.ROUTE_CHANGED,
    Reason.KEY_LIMIT,
    Reason.MAX_AGE,
)


class SessionRefused(Exception):  # noqa: N818 - a refusal is an outcome, not a defect
    """One stage said no.

    Attributes:
        stage: where.
        reason: why, as a bounded label.
        detail: one sentence for the log, with names and addresses.
        answer: what the replica is told, or None where no packet can reach it (inside a TLS handshake) or where
            the source's own ERR has been passed on already.
    """

    def __init__(self, stage: Stage, reason: Reason, detail: str, *, told: str | None = None) -> None:
        super().__init__(detail)
        self.stage = stage
        self.reason = reason
        self.detail = detail
        self.answer = None if told is None else err_packet(reason, told)


@dataclass(frozen=True, slots=True)
class Ending:
    """Why a session that is up has to end.

    Attributes:
        reason: the label.
        detail: one sentence, for the log and for the replica.
        is_urgent: whether it must end now; if not, it may wait for a moment when nobody waits for an acknowledgement.
    """

    reason: Reason
    detail: str
    is_urgent: bool = True

    @property
    def answer(self) -> ErrPacket:
        """What the replica is told."""
        return err_packet(self.reason, self.detail)


class ListenError(Exception):
    """An address cannot be listened on. The text says which, and why."""


class LegClosed(Exception):  # noqa: N818
    """A leg ended: an orderly close in the wrong place, a reset, or a broken TLS stream.

    Attributes:
        leg: `replica` or `source`.
    """

    def __init__(self, leg: str, detail: str) -> None:
        super().__init__(f"{leg}: {detail}")
        self.leg = leg


def err_packet(reason: Reason, text: str) -> ErrPacket:
    """The ERR packet for `reason`, marked as Binlock's so that nobody looks for its cause in the source."""
    number, sqlstate = ERROR_NUMBERS[reason]
    return ErrPacket(code=number, sqlstate=sqlstate, message=f"Binlock: {text}".encode())
