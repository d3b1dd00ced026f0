"""The fake source as a program: `python -m bench.source_end PORT`. A thread for each replica, until it is killed.

A process of its own, so that it shares neither a core's time slice nor an interpreter with the end that measures.
"""

import gc
import socket
import sys
import threading

from bench.conversation import ACKNOWLEDGEMENT, ConversationError, Order, events_chunk, ping_packet, serve_until_dump
from wire.errors import WireError

_BACKLOG = 512


def main() -> None:
    """Listens on the loopback and serves."""
    gc.disable()
    listener = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=_BACKLOG)
    print("source end: listening", flush=True)
    while True:
        sock, _ = listener.accept()
        threading.Thread(target=_serve, args=(sock,), daemon=True).start()


def _serve(sock: socket.socket) -> None:
    with sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            order = serve_until_dump(sock)
        except (ConversationError, WireError, OSError) as error:
            print(f"source end: {error}", file=sys.stderr, flush=True)
            return
        try:
            stream(sock, order)
        except OSError:
            # How every stream ends: the replica has seen enough.
            return


def stream(sock: socket.socket, order: Order) -> None:
    """Does what was ordered until the replica closes.

    Raises:
        OSError: it closed in the middle of something.
        ConversationError: something else than an acknowledgement came.
    """
    if order.kind == "bulk":
        chunk = memoryview(events_chunk(order.event_bytes))
        while True:
            sock.sendall(chunk)
    if order.kind == "ping":
        event = ping_packet()
        while True:
            sock.sendall(event)
            acknowledgement = sock.recv(len(ACKNOWLEDGEMENT), socket.MSG_WAITALL)
            if not acknowledgement:
                return
            if acknowledgement != ACKNOWLEDGEMENT:
                raise ConversationError(f"no acknowledgement, but {acknowledgement!r}")
    sock.recv(1)


if __name__ == "__main__":
    main()
