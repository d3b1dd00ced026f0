"""The watcher: which connections on the wire replicate in the clear, and which are encrypted."""
