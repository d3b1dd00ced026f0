"""The one door to pyOpenSSL: contexts that are built whole, and a TLS engine over a non-blocking socket.

Why it looks as it does:

* No Python callback is ever given to OpenSSL: a callback needs memory that is writable and executable, which a
  hardened unit denies, and a verify callback that returns true clears OpenSSL's own error. What a callback could
  decide is decided after the handshake, before any byte is relayed.
* No tickets and no session cache: a resumed session checks neither the certificate nor the CRL.
* A context is never changed once it has made a connection. A reload builds another one.
* The engine drives OpenSSL over the socket itself (`SSL_set_fd`), not over memory buffers: one copy less in each
  direction. Measured by `make bench`.

pyOpenSSL wraps reads and writes in calls that allocate and copy; the engine calls the binding beneath it, with the
caller's own buffer. That binding is private: `_require_binding` fails at import time, and loudly, if it changes.
"""

from __future__ import annotations

import ipaddress
import os
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from typing import Any

from cryptography import x509
from OpenSSL import SSL, crypto

from proxy.material import TlsMaterial

# The TLS record's largest plaintext, RFC 8446 section 5.1. SSL_read returns at most one record.
RECORD_BYTES = 16_384
# SSL_MODE_NO_AUTO_CHAIN: send the configured chain, not what the trust store happens to hold (SSL_CTX_set_mode(3)).
_MODE_NO_AUTO_CHAIN = 0x8
# SSL_MODE_RELEASE_BUFFERS: an idle connection keeps no record buffers (SSL_CTX_set_mode(3)).
_MODE_RELEASE_BUFFERS = 0x10

_VERSIONS = {"TLSv1.2": SSL.TLS1_2_VERSION, "TLSv1.3": SSL.TLS1_3_VERSION}

# X509_V_ERR_* of x509_vfy.h, as openssl-verification-options(1) explains them.
VERIFY_EXPIRED = 10
VERIFY_REVOKED = 23
VERIFY_CRL_CODES = frozenset({3, 11, 12, 13, 35, 36, 44})
VERIFY_UNTRUSTED_CODES = frozenset({2, 7, 18, 19, 20, 21})
VERIFY_HOSTNAME_MISMATCH = 62
VERIFY_ADDRESS_MISMATCH = 64


_lib: Any = getattr(SSL, "_lib")  # noqa: B009 - private, and so not in the package's types
_ffi: Any = getattr(SSL, "_ffi")  # noqa: B009


# Neither an operator of OpenSSL's cipher and group strings nor a separator of theirs.
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_-]+")


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
    missing = [name for name in wanted if not hasattr(_lib, name)]
    if missing:
        raise ImportError(
            f"this release of cryptography does not bind {', '.join(missing)}; see pyproject.toml for those that do"
        )


_require_binding()


class TlsSettingsError(ValueError):
    """OpenSSL does not take a cipher, suite, group, certificate or key. The text names the setting."""


class TlsFailed(Exception):  # noqa: N818 - named for what it is about
    """The handshake or the stream broke.

    Attributes:
        reasons: OpenSSL's own words, such as `wrong version number`.
        verify_code: the X509_V_ERR_* of the peer's chain, 0 if there was no complaint about it.
    """

    def __init__(self, reasons: Sequence[str], verify_code: int) -> None:
        super().__init__("; ".join(reasons) or "the peer closed the connection")
        self.reasons = tuple(reasons)
        self.verify_code = verify_code


class Want(IntEnum):
    """What an operation waits for. Negative, so that it never reads as a count of bytes."""

    READ = -1
    WRITE = -2


Context = SSL.Context


@dataclass(frozen=True, slots=True)
class Negotiated:
    """What a handshake agreed on, in OpenSSL's names.

    Attributes:
        seconds: how long it took.
        peer_chain: what was verified, the peer's leaf first, its trust anchor last.
    """

    seconds: float
    version: str
    cipher: str
    group: str
    peer_chain: tuple[x509.Certificate, ...]

    @property
    def peer_leaf(self) -> x509.Certificate | None:
        """The peer's own certificate."""
        return self.peer_chain[0] if self.peer_chain else None

    @property
    def peer_not_after(self) -> datetime | None:
        """When the chain stops being valid: the earliest expiry in it."""
        return min((certificate.not_valid_after_utc for certificate in self.peer_chain), default=None)


def require_verifiable(server_name: str) -> None:
    """Tries a name that a source's certificate is to have, so that the first replica need not find out.

    Raises:
        TlsSettingsError: no certificate can have it.
    """
    TlsEngine(SSL.Connection(SSL.Context(SSL.TLS_CLIENT_METHOD), None))._expect_name(server_name)


def linked_openssl() -> str:
    """The version of the OpenSSL that runs here, such as `OpenSSL 4.0.3 29 Sep 2026`."""
    return SSL.OpenSSL_version(SSL.OPENSSL_VERSION).decode()


def server_context(material: TlsMaterial) -> SSL.Context:
    """A context for the replica leg: the peer must present a certificate of the anchors.

    Raises:
        TlsSettingsError: OpenSSL does not take one of the settings.
    """
    context = _context(SSL.TLS_SERVER_METHOD, material)
    for anchor in material.anchors:
        context.add_client_ca(anchor)
    context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT)
    return context


def client_context(material: TlsMaterial) -> SSL.Context:
    """A context for the source leg: the source must present a certificate of the anchors.

    Raises:
        TlsSettingsError: OpenSSL does not take one of the settings.
    """
    context = _context(SSL.TLS_CLIENT_METHOD, material)
    context.set_verify(SSL.VERIFY_PEER)
    return context


def _context(method: int, material: TlsMaterial) -> SSL.Context:
    context = SSL.Context(method)
    versions = [_VERSIONS[version] for version in material.versions]
    context.set_min_proto_version(min(versions))
    context.set_max_proto_version(max(versions))
    context.set_options(
        SSL.OP_NO_TICKET | SSL.OP_NO_RENEGOTIATION | SSL.OP_NO_COMPRESSION | SSL.OP_CIPHER_SERVER_PREFERENCE
    )
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_mode(_MODE_NO_AUTO_CHAIN | _MODE_RELEASE_BUFFERS)
    # pyOpenSSL sets it. Without it one SSL_write makes all the records of a buffer, and Python is asked once.
    _lib.SSL_CTX_clear_mode(context._context, _lib.SSL_MODE_ENABLE_PARTIAL_WRITE)
    _set_algorithms(context, material)
    if material.certificate is not None and material.key is not None:
        try:
            context.use_certificate(material.certificate)
            context.use_privatekey(material.key)  # type: ignore[arg-type]
            context.check_privatekey()
        except (SSL.Error, TypeError) as error:
            raise TlsSettingsError(f"certificate and key: OpenSSL does not take them: {_words(error)}") from error
        for issuer in material.chain:
            context.add_extra_chain_cert(issuer)
    store = context.get_cert_store()
    if store is None:
        raise TlsSettingsError("OpenSSL gave no trust store")
    _fill_store(store, material)
    return context


def verify_again(material: TlsMaterial, chain: Sequence[x509.Certificate]) -> int:
    """Judges a chain that was verified before, against the trust and the CRLs of now.

    Args:
        material: what is trusted now.
        chain: the leaf first.

    Returns:
        An X509_V_ERR_* code; 0 if the chain still stands.
    """
    store = crypto.X509Store()
    _fill_store(store, material)
    leaf, *others = (crypto.X509.from_cryptography(certificate) for certificate in chain)
    try:
        crypto.X509StoreContext(store, leaf, others).verify_certificate()
    except crypto.X509StoreContextError as error:
        return int(error.errors[0])
    return 0


def _fill_store(store: crypto.X509Store, material: TlsMaterial) -> None:
    for anchor in material.anchors:
        store.add_cert(crypto.X509.from_cryptography(anchor))
    for crl in material.crls:
        store.add_crl(crl)
    flags = crypto.X509StoreFlags.X509_STRICT
    if material.crls:
        # CRL_CHECK_ALL alone checks nothing, CRL_CHECK alone checks the leaf only.
        flags |= crypto.X509StoreFlags.CRL_CHECK | crypto.X509StoreFlags.CRL_CHECK_ALL
    store.set_flags(flags)


def _set_algorithms(context: SSL.Context, material: TlsMaterial) -> None:
    # OpenSSL takes expressions (ALL, ECDHE+AESGCM) and drops names that it does not know from a list without a word. An
    # allowlist says what it says: each entry is tried alone first, and must come to the one algorithm of that name.
    for cipher in material.ciphers:
        if _ciphers_meant_by(cipher) != [cipher]:
            raise TlsSettingsError(f"ciphers: {cipher!r} is not a TLS 1.2 cipher that OpenSSL knows")
    for suite in material.ciphersuites:
        if not _is_ciphersuite(suite):
            raise TlsSettingsError(f"ciphersuites: {suite!r} is not a TLS 1.3 ciphersuite that OpenSSL knows")
    if material.ciphers:
        context.set_cipher_list(":".join(material.ciphers).encode())
    context.set_tls13_ciphersuites(":".join(material.ciphersuites).encode())
    for groups in (*((group,) for group in material.groups), material.groups):
        name = ":".join(groups)
        is_plain = all(_PLAIN_NAME.fullmatch(group) and group.upper() != "DEFAULT" for group in groups)
        if not is_plain or _lib.SSL_CTX_set1_curves_list(context._context, name.encode()) != 1:
            _lib.ERR_clear_error()
            raise TlsSettingsError(f"groups: {name!r} is not a key exchange group that OpenSSL knows")


def _ciphers_meant_by(name: str) -> list[str]:
    scratch = SSL.Context(SSL.TLS_SERVER_METHOD)
    try:
        scratch.set_cipher_list(name.encode())
    except SSL.Error:
        return []
    # The suites of TLS 1.3 are always among them.
    return [cipher for cipher in SSL.Connection(scratch, None).get_cipher_list() if not cipher.startswith("TLS_")]


def _is_ciphersuite(name: str) -> bool:
    if not _PLAIN_NAME.fullmatch(name):
        return False
    try:
        SSL.Context(SSL.TLS_SERVER_METHOD).set_tls13_ciphersuites(name.encode())
    except SSL.Error:
        return False
    return True


class TlsEngine:
    """One TLS connection over a non-blocking socket. Never waits: it says what it waits for.

    Attributes:
        records_read, records_written: how many records each of the two keys has protected.

    The engine does not own the socket. It must never be used by two threads at once.
    """

    __slots__ = ("_connection", "_ssl", "records_read", "records_written")

    def __init__(self, connection: SSL.Connection) -> None:
        self.records_read = 0
        self.records_written = 0
        self._connection = connection
        self._ssl = connection._ssl

    @classmethod
    def accepting(cls, context: SSL.Context, sock: socket.socket) -> TlsEngine:
        """The server's end of a connection that is about to start its handshake."""
        connection = SSL.Connection(context, sock)
        connection.set_accept_state()
        return cls(connection)

    @classmethod
    def connecting(cls, context: SSL.Context, sock: socket.socket, server_name: str) -> TlsEngine:
        """The client's end; the handshake fails unless the peer's SAN has `server_name` (RFC 9525 section 6.3)."""
        connection = SSL.Connection(context, sock)
        connection.set_connect_state()
        engine = cls(connection)
        engine._expect_name(server_name)
        return engine

    def _expect_name(self, server_name: str) -> None:
        parameters = _lib.SSL_get0_param(self._ssl)
        # X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS | X509_CHECK_FLAG_NEVER_CHECK_SUBJECT (X509_check_host(3)).
        _lib.X509_VERIFY_PARAM_set_hostflags(parameters, 0x4 | 0x20)
        try:
            packed = ipaddress.ip_address(server_name).packed
        except ValueError:
            try:
                name = server_name.rstrip(".").encode("ascii" if server_name.isascii() else "idna")
            except UnicodeError as error:
                raise TlsSettingsError(f"server_name: {server_name!r} is not a DNS name") from error
            self._connection.set_tlsext_host_name(name)
            accepted = _lib.X509_VERIFY_PARAM_set1_host(parameters, name, len(name))
        else:
            accepted = _lib.X509_VERIFY_PARAM_set1_ip(parameters, packed, len(packed))
        if accepted != 1:
            _lib.ERR_clear_error()
            raise TlsSettingsError(f"server_name: {server_name!r} is not a name that a certificate could have")

    def shake_hands(self) -> Want | None:
        """Takes the handshake as far as it goes; None when it is complete.

        Raises:
            TlsFailed: either side refused. The alert is on its way to the peer.
        """
        try:
            self._connection.do_handshake()
        except SSL.WantReadError:
            return Want.READ
        except SSL.WantWriteError:
            return Want.WRITE
        except (SSL.Error, OSError) as error:
            raise TlsFailed(_reasons(error), _lib.SSL_get_verify_result(self._ssl)) from error
        return None

    def read_into(self, view: memoryview) -> int:
        """Fills `view` with what has arrived, many records at once.

        Returns:
            How many bytes came; 0 after the peer's close_notify; `Want.READ` or `Want.WRITE` (a KeyUpdate that
            must be answered first) if none could.

        Raises:
            TlsFailed: the stream broke, or ended without a close_notify.
        """
        size = len(view)
        total = 0
        count: int = 0
        # Released before anything is raised: a traceback that kept it alive, with the export it holds on `view`, would
        # crash the garbage collector of CPython 3.11 if the exception were part of a cycle.
        with _ffi.from_buffer(view) as buffer:
            while total < size:
                count = _lib.SSL_read(self._ssl, buffer + total, size - total)
                if count <= 0:
                    break
                total += count
                self.records_read += 1
                # A record shorter than the largest is the sender's last for now, mostly; asking again costs a call.
                if count < RECORD_BYTES or size - total < RECORD_BYTES:
                    return total
        return self._stopped(total, count)

    def write(self, view: memoryview) -> int:
        """Encrypts and sends all of `view`, as many records as it takes.

        After `Want.WRITE` some of them may have left; the next call must be with the same bytes (SSL_write(3)).

        Returns:
            How many bytes left: all; `Want.WRITE` or `Want.READ` if not all could.

        Raises:
            TlsFailed: the stream is broken.
        """
        with _ffi.from_buffer(view) as buffer:
            count = _lib.SSL_write(self._ssl, buffer, len(view))
        if count <= 0:
            return self._complaint(count)
        self.records_written += -(-count // RECORD_BYTES)
        return int(count)

    def say_goodbye(self) -> None:
        """Sends close_notify if it fits; never waits for the peer's."""
        try:
            self._connection.shutdown()
        except (SSL.Error, OSError):
            _lib.ERR_clear_error()

    def negotiated(self, seconds: float) -> Negotiated:
        """What the finished handshake agreed on, after so many seconds."""
        return Negotiated(
            seconds=seconds,
            version=self._connection.get_protocol_version_name(),
            cipher=self._connection.get_cipher_name() or "",
            group=self._connection.get_group_name() or "",
            peer_chain=tuple(self._connection.get_verified_chain(as_cryptography=True) or ()),
        )

    def _stopped(self, total: int, returned: int) -> int:
        if total == 0:
            return self._complaint(returned)
        # A fatal error comes back at the next call; left in this thread's queue it would be taken for another's.
        _lib.ERR_clear_error()
        return total

    def _complaint(self, returned: int) -> int:
        code = _lib.SSL_get_error(self._ssl, returned)
        if code == _lib.SSL_ERROR_WANT_READ:
            return Want.READ
        if code == _lib.SSL_ERROR_WANT_WRITE:
            return Want.WRITE
        if code == _lib.SSL_ERROR_ZERO_RETURN:
            return 0
        reasons = []
        while error := _lib.ERR_get_error():
            text = _lib.ERR_reason_error_string(error)
            # For what the kernel said there is no string; the reason is its errno (ERR_raise(3), ERR_LIB_SYS).
            reasons.append(os.strerror(_lib.ERR_GET_REASON(error)) if text == _ffi.NULL else _ffi.string(text).decode())
        raise TlsFailed(reasons, 0)


def _reasons(error: BaseException) -> list[str]:
    """OpenSSL's reason strings out of pyOpenSSL's `Error([(library, function, reason), ...])`."""
    first = error.args[0] if error.args else None
    if isinstance(first, list):
        return [reason for _, _, reason in first]
    return [str(error.args[-1])] if error.args else []


def _words(error: BaseException) -> str:
    return "; ".join(_reasons(error)) or str(error)


def verify_error_text(code: int) -> str:
    """OpenSSL's sentence for an X509_V_ERR_* code, such as `certificate has expired`."""
    text: bytes = _ffi.string(_lib.X509_verify_cert_error_string(code))
    return text.decode()
