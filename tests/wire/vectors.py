"""Packets as servers and replicas lay them out, with invented content, written out byte by byte."""

NONCE = b"Hq3\x1dk&;2\x05pT\x7f0iWz\x22e\x11V"
OTHER_NONCE = b"\x4a\x19b}2^o\x08Q.r?x\x02\x66Lg:\x5dc"

MYSQL_8_GREETING = (
    b"\x0a"
    b"8.4.6\x00"
    b"\x2a\x00\x00\x00"  # thread id 42
    b"Hq3\x1dk&;2"
    b"\x00"
    b"\xff\xff"  # capabilities, low half, TLS offered
    b"\xff"  # utf8mb4_0900_ai_ci
    b"\x02\x00"  # autocommit
    b"\xff\xdf"  # capabilities, high half
    b"\x15"  # 21 bytes of nonce with its NUL
    b"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
    b"\x05pT\x7f0iWz\x22e\x11V\x00"
    b"caching_sha2_password\x00"
)

MYSQL_9_GREETING_WITHOUT_TLS = (
    b"\x0a"
    b"9.7.0\x00"
    b"\x01\x02\x03\x04"
    b"Hq3\x1dk&;2"
    b"\x00"
    b"\xff\xf7"  # no CLIENT_SSL
    b"\xff"
    b"\x02\x00"
    b"\xff\xdf"
    b"\x15"
    b"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
    b"\x05pT\x7f0iWz\x22e\x11V\x00"
    b"caching_sha2_password\x00"
)

MARIADB_10_GREETING = (
    b"\x0a"
    b"5.5.5-10.11.14-MariaDB-0+deb12u2\x00"
    b"\x1f\x00\x00\x00"
    b"Hq3\x1dk&;2"
    b"\x00"
    b"\xfe\xf7"  # bit 0 clear: four more bytes of capabilities; TLS not offered
    b"\x2d"
    b"\x02\x00"
    b"\xff\x81"
    b"\x15"
    b"\x00\x00\x00\x00\x00\x00"
    b"\x1d\x00\x00\x00"  # progress, bulk operations, extended metadata, cached metadata
    b"\x05pT\x7f0iWz\x22e\x11V\x00"
    b"mysql_native_password\x00"
)

MARIADB_11_GREETING = (
    b"\x0a"
    b"11.8.3-MariaDB\x00"
    b"\x07\x00\x00\x00"
    b"Hq3\x1dk&;2"
    b"\x00"
    b"\xfe\xff"  # bit 0 clear, TLS offered
    b"\x2d"
    b"\x02\x00"
    b"\xff\x81"
    b"\x15"
    b"\x00\x00\x00\x00\x00\x00"
    b"\x3d\x00\x00\x00"
    b"\x05pT\x7f0iWz\x22e\x11V\x00"
    b"mysql_native_password\x00"
)

TOO_MANY_CONNECTIONS = b"\xff\x10\x04Too many connections"
ACCESS_DENIED = b"\xff\x15\x04#28000Access denied for user 'repl'@'10.20.0.7' (using password: YES)"
BINLOG_LOST = b"\xff\xd4\x04#HY000Could not find first log file name in binary log index file"

OK = b"\x00\x00\x00\x02\x00\x00\x00"
END = b"\xfe\x00\x00\x02\x00"

SCRAMBLE_32 = bytes(range(0x40, 0x60))
SCRAMBLE_20 = bytes(range(0x60, 0x74))

_MYSQL_LOGIN_FIELDS = (
    b"\x00\x00\x00\x40"  # 1 GiB
    b"\xff"
    b"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
)

MYSQL_SSL_REQUEST = b"\x85\xae\xff\x19" + _MYSQL_LOGIN_FIELDS

_MYSQL_LOGIN_BODY = (
    b"repl\x00"
    b"\x20" + SCRAMBLE_32 + b"caching_sha2_password\x00"
    b"\x72"  # 114 bytes of attributes
    b"\x0cprogram_name\x06mysqld"
    b"\x0c_client_role\x13binary_log_listener"
    b"\x20_client_replication_channel_name\x00"
    b"\x04_pid\x044242"
    b"\x09_platform\x06x86_64"
)

# Protocol 4.1, plugin authentication with a length-encoded response, connection attributes, no database.
MYSQL_LOGIN = b"\x85\xa6\xff\x19" + _MYSQL_LOGIN_FIELDS + _MYSQL_LOGIN_BODY
MYSQL_LOGIN_OVER_TLS = b"\x85\xae\xff\x19" + _MYSQL_LOGIN_FIELDS + _MYSQL_LOGIN_BODY

# MariaDB: bit 0 clear, extended capabilities, a response behind one byte of length, a database, attributes.
MARIADB_LOGIN = (
    b"\x8c\xa6\x1f\x00"
    b"\x00\x00\x00\x40"
    b"\x2d"
    b"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
    b"\x0c\x00\x00\x00"
    b"repl\x00"
    b"\x14" + SCRAMBLE_20 + b"orders\x00"
    b"mysql_native_password\x00"
    b"\x16"
    b"\x0c_client_name\x08libmysql"
)
