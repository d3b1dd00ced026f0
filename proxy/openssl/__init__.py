"""The one door to pyOpenSSL: contexts that are built whole, and an engine over a non-blocking socket.

Why it looks as it does:

* No Python callback is ever given to OpenSSL: a callback needs memory that is writable and executable, which a
  hardened unit denies, and a verify callback that returns true clears OpenSSL's own error. What a callback could
  decide is decided after the handshake, before any byte is relayed.
* No tickets and no session cache: a resumed session checks neither the certificate nor the CRL.
* A context is never changed once it has made a connection. A reload builds another one.
* The engine drives OpenSSL over the socket itself (`SSL_set_fd`), not over memory buffers: one copy less in each
  direction. Measured by `make bench`.
"""

from proxy.openssl.binding import (
    VERIFY_ADDRESS_MISMATCH,
    VERIFY_CRL_CODES,
    VERIFY_EXPIRED,
    VERIFY_HOSTNAME_MISMATCH,
    VERIFY_REVOKED,
    VERIFY_UNTRUSTED_CODES,
    linked_openssl,
    verify_error_text,
)
from proxy.openssl.contexts import Context, TlsSettingsError, client_context, server_context, verify_again
from proxy.openssl.engine import RECORD_BYTES, Negotiated, TlsEngine, TlsFailed, Want, require_verifiable

__all__ = [
    "RECORD_BYTES",
    "VERIFY_ADDRESS_MISMATCH",
    "VERIFY_CRL_CODES",
    "VERIFY_EXPIRED",
    "VERIFY_HOSTNAME_MISMATCH",
    "VERIFY_REVOKED",
    "VERIFY_UNTRUSTED_CODES",
    "Context",
    "Negotiated",
    "TlsEngine",
    "TlsFailed",
    "TlsSettingsError",
    "Want",
    "client_context",
    "linked_openssl",
    "require_verifiable",
    "server_context",
    "verify_again",
    "verify_error_text",
]
