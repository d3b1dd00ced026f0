"""TLS towards whom the audit reads: verified by authority and by name, as far as nobody relaxes what is made here."""

from __future__ import annotations

import ssl
from pathlib import Path

from audit.errors import AuditError


def client_context(*, ca: Path | None, certificate: Path | None, key: Path | None) -> ssl.SSLContext:
    """Reads the files.

    Args:
        ca: authorities that the peer's certificate must lead to; None for those of the system.
        certificate: to show to a peer that requires one.
        key: of that certificate; None if it is in the same file.

    Raises:
        AuditError: one cannot be used.
    """
    try:
        context = ssl.create_default_context(cafile=None if ca is None else str(ca))
        # What Python 3.13 has by default.
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if certificate is not None:
            # A passphrase would be asked for on the terminal, by OpenSSL: an empty one fails at once.
            context.load_cert_chain(certificate, key, password="")
    except (OSError, ssl.SSLError) as error:
        files = ", ".join(str(path) for path in (ca, certificate, key) if path is not None)
        raise AuditError(f"{files or 'the system authorities'}: not usable for TLS: {tls_reason(error)}") from error
    return context


def tls_reason(error: OSError) -> str:
    """OpenSSL's own words, or the system's."""
    return str(getattr(error, "verify_message", "") or getattr(error, "reason", "") or error.strerror or error)
