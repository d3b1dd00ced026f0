"""The MySQL wire protocol, without I/O: bytes in, values out. Standard library only."""
