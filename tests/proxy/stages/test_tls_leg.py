"""A leg after its handshake: bytes in both directions, ends, and a process that may not write what it executes."""

import contextlib
import socket
import ssl
import subprocess
import sys
from dataclasses import dataclass

import pytest
import trio
from OpenSSL import SSL

from proxy.legs.leg import TlsLeg
from proxy.openssl import (
    Context,
    TlsEngine,
    TlsFailed,
)
from proxy.outcomes import LegClosed
from tests.proxy.pki import Pki
from tests.proxy.stages.handshakes import (
    THIRTEEN,
    TWELVE,
    loopback_pair,
    replica,
    shake,
)


@dataclass
class Pair:
    """A `TlsLeg` of Binlock's, and the same connection's other end in Python's ssl."""

    leg: TlsLeg
    peer: ssl.SSLSocket


@contextlib.asynccontextmanager
async def connected_pair(  # type: ignore[no-untyped-def]
    pki: Pki, context: Context, *, version: ssl.TLSVersion | None = None, buffer_bytes: int | None = None
):
    # TCP over the loopback waits for delayed acknowledgements when its buffers are smaller than a segment.
    ours, theirs = loopback_pair() if buffer_bytes is None else socket.socketpair()
    if buffer_bytes is not None:
        for sock in (ours, theirs):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer_bytes)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
    ours.setblocking(False)
    theirs.settimeout(60)
    engine = TlsEngine.accepting(context, ours)
    peers: list[ssl.SSLSocket] = []

    def dial() -> None:
        peers.append(replica(pki, version=version).wrap_socket(theirs))

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, dial)
            await shake(engine, ours)
        async with TlsLeg(ours, "replica", engine) as leg:
            with peers[0]:
                yield Pair(leg, peers[0])


@pytest.mark.parametrize("version", [TWELVE, THIRTEEN])
async def test_bulk_crosses_both_ways_at_once_through_tiny_buffers(
    version: ssl.TLSVersion, pki: Pki, replica_context: Context
) -> None:
    data = bytes(range(256)) * 4096
    async with connected_pair(pki, replica_context, version=version, buffer_bytes=4096) as pair:
        pair.peer.settimeout(None)
        pair.peer.setblocking(False)
        got, ours = bytearray(), bytearray()

        async def peer_moves() -> None:
            sent = 0
            while sent < len(data) or len(got) < len(data):
                moved = False
                with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLWantWriteError):
                    if sent < len(data):
                        sent += pair.peer.send(data[sent : sent + 30_000])
                        moved = True
                with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLWantWriteError):
                    got.extend(pair.peer.recv(30_000))
                    moved = True
                await (trio.lowlevel.checkpoint() if moved else trio.sleep(0.0005))  # noqa: ASYNC105

        async def leg_receives() -> None:
            ours.extend(await pair.leg.receive_exactly(len(data)))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(peer_moves)
            nursery.start_soon(leg_receives)
            nursery.start_soon(pair.leg.send_all, data)
        assert bytes(got) == data
        assert bytes(ours) == data


async def test_reads_not_one_byte_more_than_it_was_asked_for(pki: Pki, replica_context: Context) -> None:
    async with connected_pair(pki, replica_context) as pair:
        pair.peer.send(b"one" + b"two")
        assert await pair.leg.receive_exactly(3) == b"one"
        # The rest is in the engine and not in the socket, where no poll would see it.
        view = memoryview(bytearray(100))
        assert pair.leg.try_receive(view) == 3
        assert bytes(view[:3]) == b"two"


async def test_the_end_of_a_stream_is_the_peers_close_notify(pki: Pki, replica_context: Context) -> None:
    async with connected_pair(pki, replica_context) as pair:
        pair.peer.setblocking(False)
        with contextlib.suppress(ssl.SSLWantReadError):
            pair.peer.unwrap()
        await pair.leg.wait(-1)
        assert pair.leg.try_receive(memoryview(bytearray(10))) == 0


@pytest.mark.parametrize("version", [TWELVE, THIRTEEN])
async def test_the_end_of_the_connection_without_close_notify_is_a_broken_leg(
    version: ssl.TLSVersion, pki: Pki, replica_context: Context
) -> None:
    async with connected_pair(pki, replica_context, version=version) as pair:
        socket.socket.shutdown(pair.peer, socket.SHUT_WR)
        with pytest.raises(LegClosed) as closed:
            await pair.leg.receive_exactly(1)
        assert closed.value.leg == "replica"


async def test_a_reset_is_a_broken_leg(pki: Pki, replica_context: Context) -> None:
    async with connected_pair(pki, replica_context) as pair:
        pair.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        socket.socket.close(pair.peer)
        with pytest.raises(LegClosed):
            await pair.leg.receive_exactly(1)


async def test_a_record_that_was_tampered_with_is_a_broken_leg(pki: Pki, replica_context: Context) -> None:
    async with connected_pair(pki, replica_context) as pair:
        raw = socket.socket(fileno=pair.peer.detach())
        with contextlib.closing(raw):
            raw.sendall(b"\x17\x03\x03\x00\x20" + bytes(32))
            with pytest.raises(LegClosed):
                await pair.leg.receive_exactly(1)


async def test_the_peer_sees_an_end_and_may_still_send_after_a_half_close(pki: Pki, replica_context: Context) -> None:
    async with connected_pair(pki, replica_context) as pair:
        pair.leg.end_sending()
        assert await trio.to_thread.run_sync(pair.peer.recv, 1) == b""
        pair.peer.send(b"late")
        assert await pair.leg.receive_exactly(4) == b"late"


async def test_a_second_close_does_nothing(pki: Pki, replica_context: Context) -> None:
    async with connected_pair(pki, replica_context) as pair:
        pair.leg.close()
        pair.leg.close()


async def test_renegotiation_is_refused(pki: Pki, replica_context: Context) -> None:
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_max_proto_version(SSL.TLS1_2_VERSION)
    context.use_certificate_file(str(pki.replica.certificate_file))
    context.use_privatekey_file(str(pki.replica.key_file))
    ours, theirs = loopback_pair()
    with contextlib.closing(ours), contextlib.closing(theirs):
        for sock in (ours, theirs):
            sock.setblocking(False)
        peer = SSL.Connection(context, theirs)
        peer.set_connect_state()
        engine = TlsEngine.accepting(replica_context, ours)
        for _ in range(20):
            with contextlib.suppress(SSL.WantReadError):
                peer.do_handshake()
            engine.shake_hands()
        assert peer.renegotiate()
        errors: list[SSL.Error] = []
        for _ in range(20):
            try:
                peer.do_handshake()
            except SSL.WantReadError:
                pass
            except SSL.Error as error:
                errors.append(error)
                break
            with contextlib.suppress(TlsFailed):
                engine.read_into(memoryview(bytearray(100)))
        assert "no renegotiation" in str(errors)
        assert peer.total_renegotiations() <= 1


async def test_an_error_of_one_connection_is_not_taken_for_anothers(pki: Pki, replica_context: Context) -> None:
    async with connected_pair(pki, replica_context) as broken, connected_pair(pki, replica_context) as sound:
        raw = socket.socket(fileno=broken.peer.detach())
        with contextlib.closing(raw):
            raw.sendall(b"\x17\x03\x03\x00\x20" + bytes(32))
            sound.peer.send(b"fine")
            with pytest.raises(LegClosed):
                await broken.leg.receive_exactly(1)
            assert await sound.leg.receive_exactly(4) == b"fine"
            assert sound.leg.try_receive(memoryview(bytearray(1))) < 0


def test_a_full_mutual_handshake_needs_no_memory_that_is_writable_and_executable(pki: Pki) -> None:
    program = f"""
import ctypes, socket
libc = ctypes.CDLL(None, use_errno=True)
PR_SET_MDWE, REFUSE_EXEC_GAIN = 65, 1
if libc.prctl(PR_SET_MDWE, REFUSE_EXEC_GAIN, 0, 0, 0) != 0:
    raise SystemExit("PR_SET_MDWE: errno %d; the test needs Linux 6.3" % ctypes.get_errno())
import mmap
try:
    mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
except PermissionError:
    pass
else:
    raise SystemExit("the kernel did not refuse")
from pathlib import Path
from proxy.configuration.config import TlsTable
from proxy.configuration.material import load_material
from proxy.openssl import TlsEngine, client_context, server_context
def material(certificate, key):
    return load_material(TlsTable(ca={str(pki.authority.file)!r}, certificate=certificate, key=key,
                                  crl=({str(pki.authority.write_crl(pki.crl))!r},)), Path("/"))
ends = socket.socketpair()
for end in ends:
    end.setblocking(False)
server = TlsEngine.accepting(server_context(material({str(pki.proxy.certificate_file)!r}, {str(pki.proxy.key_file)!r})), ends[0])
client = TlsEngine.connecting(
    client_context(material({str(pki.proxy.certificate_file)!r}, {str(pki.proxy.key_file)!r})), ends[1], "proxy.example")
for _ in range(20):
    waiting = [engine.shake_hands() for engine in (client, server)]
client.write(memoryview(b"hello"))
view = memoryview(bytearray(5))
server.read_into(view)
print(waiting, server.negotiated(0).peer_leaf is not None, bytes(view))
"""  # noqa: E501
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[None, None] True b'hello'\n"


@pytest.mark.parametrize("operation", ["read_into", "write"])
def test_a_failure_that_ends_up_in_a_reference_cycle_does_not_crash_the_process(operation: str, pki: Pki) -> None:
    """The traceback of `TlsFailed` keeps the frame alive, the frame its cffi buffer, and the buffer its view."""
    program = f"""
import gc, socket
from pathlib import Path
from proxy.configuration.config import TlsTable
from proxy.configuration.material import load_material
from proxy.openssl import TlsEngine, TlsFailed, client_context
context = client_context(load_material(TlsTable(ca={str(pki.authority.file)!r}), Path("/")))
gc.disable()
class Other(Exception):
    pass
def receive(engine):
    view = memoryview(bytearray(100))
    try:
        engine.{operation}(view[5:])
    except TlsFailed as error:
        raise Other from error
for _ in range(300):
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.close()
    try:
        receive(TlsEngine.connecting(context, ours, "localhost"))
    except Other as error:
        error.itself = error
    ours.close()
    gc.collect()
print("alive")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "alive\n"
    assert "BufferError" not in done.stderr
