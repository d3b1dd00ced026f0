"""A session's two connections: bytes, packets and commands over non-blocking sockets, plaintext or TLS."""
