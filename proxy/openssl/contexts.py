"""Contexts that are built whole: what one TLS leg presents, trusts and accepts."""

from __future__ import annotations

import re
from collections.abc import Sequence

from cryptography import x509
from OpenSSL import SSL, crypto

from proxy.configuration.material import TlsMaterial
from proxy.openssl.binding import LIB, words_of

Context = SSL.Context

# SSL_MODE_NO_AUTO_CHAIN: send the configured chain, not what the trust store happens to hold (SSL_CTX_set_mode(3)).
_MODE_NO_AUTO_CHAIN = 0x8
# SSL_MODE_RELEASE_BUFFERS: an idle connection keeps no record buffers (SSL_CTX_set_mode(3)).
_MODE_RELEASE_BUFFERS = 0x10


_VERSIONS = {"TLSv1.2": SSL.TLS1_2_VERSION, "TLSv1.3": SSL.TLS1_3_VERSION}
# Neither an operator of OpenSSL's cipher and group strings nor a separator of theirs.
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_-]+")


class TlsSettingsError(ValueError):
    """OpenSSL does not take a cipher, suite, group, certificate or key. The text names the setting."""


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
    LIB.SSL_CTX_clear_mode(context._context, LIB.SSL_MODE_ENABLE_PARTIAL_WRITE)
    _set_algorithms(context, material)
    if material.certificate is not None and material.key is not None:
        try:
            context.use_certificate(material.certificate)
            context.use_privatekey(material.key)  # type: ignore[arg-type]
            context.check_privatekey()
        except (SSL.Error, TypeError) as error:
            raise TlsSettingsError(f"certificate and key: OpenSSL does not take them: {words_of(error)}") from error
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
        if not is_plain or LIB.SSL_CTX_set1_curves_list(context._context, name.encode()) != 1:
            LIB.ERR_clear_error()
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
