"""The HTTP endpoint that proxy and monitor share: each gives it a table of paths, it does the serving.

Read-only, HTTP/1.1, on loopback, a unix socket, or any address. Nothing of MySQL is known here.
"""
