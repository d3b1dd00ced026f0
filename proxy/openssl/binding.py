"""The binding beneath pyOpenSSL, and what OpenSSL says when it fails.

pyOpenSSL wraps reads and writes in calls that allocate and copy; the engine calls the binding beneath it, with the
caller's own buffer. That binding is private: importing this module fails, and loudly, if it has changed.
"""

from __future__ import annotations

import os
from typing import Any

from OpenSSL import SSL

LIB: Any = getattr(SSL, "_lib")  # noqa: B009 - private, and so not in the package's types
FFI: Any = getattr(SSL, "_ffi")  # noqa: B009

# X509_V_ERR_* of x509_vfy.h, as openssl-verification-options(1) explains them.
VERIFY_EXPIRED = 10
VERIFY_REVOKED = 23
VERIFY_CRL_CODES = frozenset({3, 11, 12, 13, 35, 36, 44})
VERIFY_UNTRUSTED_CODES = frozenset({2, 7, 18, 19, 20, 21})
VERIFY_HOSTNAME_MISMATCH = 62
VERIFY_ADDRESS_MISMATCH = 64


def _require_binding() -> None:
    wanted = (
        "SSL_read",
        "SSL_write",
        "SSL_get_error",
        "SSL_CTX_clear_mode",
        "SSL_CTX_set1_curves_list",
        "SSL_get_verify_result",
        "SSL_get0_param",
        "X509_VERIFY_PARAM_set1_host",
        "X509_VERIFY_PARAM_set1_ip",
        "X509_VERIFY_PARAM_set_hostflags",
        "X509_verify_cert_error_string",
        "ERR_clear_error",
        "ERR_GET_REASON",
        "ERR_get_error",
    )
    missing = [name for name in wanted if not hasattr(LIB, name)]
    if missing:
        raise ImportError(
            f"this release of cryptography does not bind {', '.join(missing)}; see pyproject.toml for those that do"
        )


_require_binding()


def linked_openssl() -> str:
    """The version of the OpenSSL that runs here, such as `OpenSSL 4.0.3 29 Sep 2026`."""
    return SSL.OpenSSL_version(SSL.OPENSSL_VERSION).decode()


def verify_error_text(code: int) -> str:
    """OpenSSL's sentence for an X509_V_ERR_* code, such as `certificate has expired`."""
    text: bytes = FFI.string(LIB.X509_verify_cert_error_string(code))
    return text.decode()


def reasons_of(error: BaseException) -> list[str]:
    """OpenSSL's reason strings out of pyOpenSSL's `Error([(library, function, reason), ...])`."""
    first = error.args[0] if error.args else None
    if isinstance(first, list):
        return [reason for _, _, reason in first]
    return [str(error.args[-1])] if error.args else []


def words_of(error: BaseException) -> str:
    """The same on one line."""
    return "; ".join(reasons_of(error)) or str(error)


def take_reasons() -> list[str]:
    """The reason strings that wait in this thread's error queue, which is empty afterwards."""
    reasons = []
    while error := LIB.ERR_get_error():
        text = LIB.ERR_reason_error_string(error)
        # For what the kernel said there is no string; the reason is its errno (ERR_raise(3), ERR_LIB_SYS).
        reasons.append(os.strerror(LIB.ERR_GET_REASON(error)) if text == FFI.NULL else FFI.string(text).decode())
    return reasons
