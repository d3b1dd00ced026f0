"""X.509 without a cryptography library: nothing is verified here."""

from datetime import UTC, datetime

from scapy.layers.x509 import X509_Cert


def certificate_not_after(der: bytes) -> datetime | None:
    """When a certificate expires, in UTC; None for what is not a certificate."""
    if not der:
        # scapy would make up one.
        return None
    try:
        value = X509_Cert(der).tbsCertificate.validity.not_after.datetime
    except Exception:  # noqa: BLE001 - scapy raises whatever its fields meet in bytes that are no certificate
        return None
    return value.astimezone(UTC) if isinstance(value, datetime) else None
