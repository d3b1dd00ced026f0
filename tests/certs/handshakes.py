"""Mutual TLS in memory from the files as issued: by Python's ssl (system OpenSSL) and by pyOpenSSL."""

import ssl
from collections.abc import Callable

from cryptography import x509
from OpenSSL import SSL, crypto

from certs.issuing.authority import Authority
from certs.issuing.leaves import IssuedLeaf

_ROUNDS = 10  # more flights than any handshake has


def shake_hands(
    authority: Authority, *, server: IssuedLeaf, client: IssuedLeaf, dialled: str, version: ssl.TLSVersion
) -> None:
    """Complete a handshake with each end verifying the other strictly and its revocation; raises SSLError."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    answering = _context(ssl.PROTOCOL_TLS_SERVER, authority, server, version)
    dialling = _context(ssl.PROTOCOL_TLS_CLIENT, authority, client, version)
    ends = (
        dialling.wrap_bio(to_client, to_server, server_hostname=dialled),
        answering.wrap_bio(to_server, to_client, server_side=True),
    )
    _until_done([end.do_handshake for end in ends], ssl.SSLWantReadError)


def shake_hands_with_pyopenssl(authority: Authority, *, server: IssuedLeaf, client: IssuedLeaf) -> None:
    """The same by the library that the proxy uses; raises SSL.Error. It does not look at the dialled name."""
    dialling = SSL.Connection(_pyopenssl_context(SSL.TLS_CLIENT_METHOD, authority, client), None)
    answering = SSL.Connection(_pyopenssl_context(SSL.TLS_SERVER_METHOD, authority, server), None)
    dialling.set_connect_state()
    answering.set_accept_state()

    def step(end: SSL.Connection, peer: SSL.Connection) -> None:
        try:
            end.do_handshake()
        finally:
            while True:
                try:
                    peer.bio_write(end.bio_read(65536))
                except SSL.WantReadError:
                    break

    _until_done([lambda: step(dialling, answering), lambda: step(answering, dialling)], SSL.WantReadError)


def _until_done(steps: list[Callable[[], None]], wants_more: type[Exception]) -> None:
    for _ in range(_ROUNDS):
        waiting = 0
        for step in steps:
            try:
                step()
            except wants_more:
                waiting += 1
        if not waiting:
            return
    raise AssertionError("the handshake does not end")


def _context(
    protocol: "ssl._SSLMethod", authority: Authority, leaf: IssuedLeaf, version: ssl.TLSVersion
) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = context.maximum_version = version
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_CRL_CHECK_CHAIN
    context.load_verify_locations(authority.files.certificate)
    context.load_verify_locations(authority.files.revocation_list)
    context.load_cert_chain(leaf.certificate_file, leaf.key_file)
    return context


def _pyopenssl_context(method: int, authority: Authority, leaf: IssuedLeaf) -> SSL.Context:
    context = SSL.Context(method)
    context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT)
    context.load_verify_locations(str(authority.files.certificate))
    context.use_certificate_chain_file(str(leaf.certificate_file))
    context.use_privatekey_file(str(leaf.key_file))
    store = context.get_cert_store()
    assert store is not None
    store.add_crl(x509.load_pem_x509_crl(authority.files.revocation_list.read_bytes()))
    flags = crypto.X509StoreFlags
    store.set_flags(flags.CRL_CHECK | flags.CRL_CHECK_ALL | flags.X509_STRICT)
    return context
