"""Mutual TLS for the endpoint: the one place of proxy and monitor that knows the standard library's `ssl`.

The monitor has neither pyOpenSSL nor cryptography, and the endpoint needs no more than the standard library can.
Whoever connects must show a certificate of the authorities in `ca`; which of them it is does not matter here.

trio.SSLStream gives up a handshake without sending the alert that OpenSSL has made, so that a scraper would see a
connection that is closed, and no reason; `_Kept` keeps hold of it.
"""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import trio

# TLS 1.2 with forward secrecy and AEAD only (openssl-ciphers(1)); of TLS 1.3 every suite is such.
_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
# How long whoever was refused may take to read why.
_LINGER_SECONDS = 1
_LINGER_BYTES = 16_384
_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
# Where in OpenSSL or in Python it was raised: ` (_ssl.c:1006)`.
_PLACE = re.compile(r" \(_ssl\.c:\d+\)$|^\[[^]]*\] ")


class TlsFileError(Exception):
    """A file cannot be used for TLS. The text names it, what it was given as, and the reason."""


class TlsRefused(Exception):  # noqa: N818
    """A handshake failed; the text is OpenSSL's reason.

    Attributes:
        alert: what to send, so that the peer knows it too.
    """

    def __init__(self, why: str, alert: bytes) -> None:
        super().__init__(why)
        self.alert = alert


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """PEM files, of one end.

    Attributes:
        certificate: the leaf, and its issuers behind it.
        key: of the leaf, without a passphrase.
        ca: who issued the other end's certificate.
        crl: if any, every authority in the other end's chain must have a current one.
    """

    certificate: Path
    key: Path
    ca: Path
    crl: tuple[Path, ...] = ()


class ServerTls:
    """What the endpoint shows, and whom it trusts; read once, and never changed.

    Attributes:
        certificate_der: the leaf.
    """

    def __init__(self, files: TlsFiles) -> None:
        """Reads the files.

        Raises:
            TlsFileError: one cannot be used.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        # Whoever resumed a session would not have to show a certificate.
        context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION
        context.num_tickets = 0
        context.verify_mode = ssl.CERT_REQUIRED
        self.certificate_der = _load(context, files)
        self._context = context

    async def accept(self, transport: trio.abc.Stream) -> tuple[trio.SSLStream[trio.abc.Stream], float]:
        """Makes the handshake.

        Returns:
            The encrypted stream, and when the peer's certificate expires, in seconds since the epoch.

        Raises:
            TlsRefused: it failed; the transport is left open.
        """
        kept = _Kept(self._context)
        stream = trio.SSLStream(transport, cast("ssl.SSLContext", kept), server_side=True)
        try:
            await stream.do_handshake()
        except trio.BrokenResourceError as error:
            raise TlsRefused(_words_of(error.__cause__ or error), kept.outgoing.read()) from error
        return stream, ssl.cert_time_to_seconds(stream.getpeercert()["notAfter"])


class _Kept:
    """A context, as far as `trio.SSLStream` needs one, that keeps hold of what a connection wants to send."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        self.outgoing = ssl.MemoryBIO()

    def wrap_bio(
        self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, *, server_side: bool, server_hostname: None
    ) -> ssl.SSLObject:
        self.outgoing = outgoing
        return self._context.wrap_bio(incoming, outgoing, server_side=server_side, server_hostname=server_hostname)


class ClientTls:
    """What a client shows to an endpoint, and what that must show."""

    def __init__(self, files: TlsFiles, server_name: str | None) -> None:
        """Reads the files.

        Args:
            files: of the client's end.
            server_name: that the endpoint's certificate must have; None if any of the authority will do.

        Raises:
            TlsFileError: one cannot be used.
        """
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._context.check_hostname = server_name is not None
        self._server_name = server_name
        _load(self._context, files)

    def wrap(self, sock: socket.socket) -> socket.socket:
        """Makes the handshake on a connected socket, which the encrypted one replaces.

        Raises:
            OSError: it failed.
        """
        return self._context.wrap_socket(sock, server_hostname=self._server_name)


def _load(context: ssl.SSLContext, files: TlsFiles) -> bytes:
    """Loads all of it, and returns the leaf in DER."""
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    certificate = _CERTIFICATE.search(_text_of(files.certificate, "certificate", "CERTIFICATE"))
    if certificate is None:
        raise TlsFileError(f"{files.certificate}: certificate: holds no PEM that can be used: it is cut off")
    _text_of(files.key, "key", "PRIVATE KEY")
    with _naming(files.key, "key"):
        context.load_cert_chain(files.certificate, files.key, password=_refuse_passphrase)
    _text_of(files.ca, "ca", "CERTIFICATE")
    with _naming(files.ca, "ca"):
        context.load_verify_locations(files.ca)
    for path in files.crl:
        _load_crl(context, path)
    return ssl.PEM_cert_to_DER_cert(certificate[0])


def _load_crl(context: ssl.SSLContext, path: Path) -> None:
    _text_of(path, "crl", "X509 CRL")
    before = context.cert_store_stats()["x509"]
    with _naming(path, "crl"):
        context.load_verify_locations(path)
    # OpenSSL takes certificates from the same file, and whoever may write a CRL must not be able to add an authority.
    if context.cert_store_stats()["x509"] != before:
        raise TlsFileError(
            f"{path}: crl: holds a certificate, which would be trusted; leave only X509 CRL blocks in it"
        )
    context.verify_flags |= ssl.VERIFY_CRL_CHECK_CHAIN


def _text_of(path: Path, key: str, kind: str) -> str:
    try:
        text = path.read_text("latin-1")
    except OSError as error:
        raise TlsFileError(f"{path}: {key}: cannot be read: {error.strerror}") from error
    if f"{kind}-----" not in text:
        raise TlsFileError(f"{path}: {key}: holds no PEM that can be used: no {kind} block")
    return text


@contextmanager
def _naming(path: Path, key: str) -> Iterator[None]:
    try:
        yield
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise TlsFileError(f"{path}: {key}: does not belong to the certificate") from error
        raise TlsFileError(f"{path}: {key}: holds no PEM that can be used: {_words_of(error)}") from error
    except _PassphraseNeeded as error:
        raise TlsFileError(
            f"{path}: {key}: is encrypted; the endpoint needs a key without a passphrase, readable by its user only"
        ) from error


class _PassphraseNeeded(Exception):  # noqa: N818
    pass


def _refuse_passphrase() -> str:
    raise _PassphraseNeeded


async def say_why(transport: trio.abc.Stream, refused: TlsRefused) -> None:
    """Sends the alert, and reads what is still coming: to close a socket upon unread bytes takes the alert back."""
    with trio.move_on_after(_LINGER_SECONDS):
        try:
            await transport.send_all(refused.alert)
            if isinstance(transport, trio.abc.HalfCloseableStream):
                await transport.send_eof()
            while await transport.receive_some(_LINGER_BYTES):
                pass
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return


def _words_of(error: BaseException) -> str:
    """What OpenSSL says, without where in its code."""
    return _PLACE.sub("", _PLACE.sub("", str(error))) or repr(error)
