"""Every configuration that cannot or must not be used is refused with file, key, reason, and what to do."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

from certs.profiles import Role
from proxy.configuration.config import DEFAULT_CIPHERS, DEFAULT_GROUPS, ConfigError, load_config
from proxy.site import load_site
from tests.proxy.pki import EXPIRED, Pki

PLAIN = """
[[route]]
name = "orders"
listen = "127.0.0.1:0"
allow = ["127.0.0.0/8"]
[route.source]
address = "unix:/run/mysqld/mysqld.sock"
[[route.replica]]
name = "one"
accounts = ["repl"]
"""

TLS = """
[[route]]
name = "orders"
listen = "0.0.0.0:3307"
allow = ["10.20.0.0/16", "2001:db8:20::/48", "192.0.2.1"]
[route.replica_tls]
certificate = "{certificate}"
key = "{key}"
ca = "{ca}"
[route.source]
address = "127.0.0.1:3306"
[[route.replica]]
identity = "replica-1.example"
accounts = ["repl"]
server_ids = [2]
"""

ROUTE = "route 'orders': "
# What is replaced in PLAIN, by what, and what the message must have.
BAD_PLAIN = {
    "an unknown key of a route": ('name = "orders"', 'name = "orders"\npolcy = "any"', ["'polcy'", "did you mean 'policy'?"]),  # noqa: E501
    "an unknown key of the source": ("[route.source]", "[route.source]\nadress = 'x'", ["'adress'", "did you mean 'address'?"]),  # noqa: E501
    "an unknown key of a replica": ('name = "one"', 'name = "one"\nacount = "x"', ["'acount'", "did you mean 'accounts'?"]),  # noqa: E501
    "an unknown table": ("\n[[route]]", "[admn]\n[[route]]", ["'admn'", "did you mean 'admin'?"]),
    "an unknown key of limits": ("\n[[route]]", "[limits]\nsession = 1\n[[route]]", ["'session'", "did you mean 'sessions'?"]),  # noqa: E501
    "a key like none": ('name = "orders"', 'name = "orders"\nzzz = 1', ["'zzz'", "known here: name, listen"]),
    "a number for a string": ('listen = "127.0.0.1:0"', "listen = 3307", ["listen", "Expected `str`, got `int`"]),
    "a string for a list": ('allow = ["127.0.0.0/8"]', 'allow = "127.0.0.0/8"', ["allow", "Expected `array`"]),
    "no source": ('[route.source]\naddress = "unix:/run/mysqld/mysqld.sock"\n', "", ["missing required field `source`"]),  # noqa: E501
    "an unknown policy": ('name = "orders"', 'name = "orders"\npolicy = "all"', ["policy", "'all'"]),
    "a pattern that is none": ('name = "orders"', 'name = "orders"\nqueries = ["SELECT ("]', [f"{ROUTE}queries: 'SELECT ('", "is no regular expression"]),  # noqa: E501
    "a pattern for everything": ('name = "orders"', "name = \"orders\"\nqueries = ['SELECT VERSION\\(\\)', '.*']", [f"{ROUTE}queries: '.*' matches", "unsafe_queries"]),  # noqa: E501
    "a pattern for changes": ('name = "orders"', 'name = "orders"\nqueries = ["(?:SET|SHOW) .*"]', [f"{ROUTE}queries", "matches 'SET GLOBAL x=1'", "make it narrower"]),  # noqa: E501
    "an unsafe pattern that is none": ('name = "orders"', 'name = "orders"\nunsafe_queries = ["["]', [f"{ROUTE}unsafe_queries", "is no regular expression"]),  # noqa: E501
    "patterns where all is admitted": ('name = "orders"', 'name = "orders"\npolicy = "any"\nqueries = ["SELECT 2"]', [f"{ROUTE}queries", "adds nothing to policy = 'any'"]),  # noqa: E501
    "a name with a space": ('name = "orders"', 'name = "the orders"', ["name"]),
    "an empty allowlist": ('allow = ["127.0.0.0/8"]', "allow = []", [f"{ROUTE}allow: is empty", "name networks such as"]),  # noqa: E501
    "host bits": ('allow = ["127.0.0.0/8"]', 'allow = ["10.20.0.1/16"]', [f"{ROUTE}allow", "has host bits set", "10.20.0.0/16"]),  # noqa: E501
    "a mapped network": (
        'allow = ["127.0.0.0/8"]',
        'allow = ["::ffff:10.20.0.0/112"]',
        [f"{ROUTE}allow", "write an IPv4 network as such"],
    ),
    "no network": ('allow = ["127.0.0.0/8"]', 'allow = ["db1"]', [f"{ROUTE}allow", "'db1'", "write a network such as"]),
    "an empty list of accounts": ('accounts = ["repl"]', "accounts = []", ["accounts", "length >= 1"]),
    "a plaintext listener for all": (
        "127.0.0.1:0",
        "0.0.0.0:3307",
        [f"{ROUTE}listen: 0.0.0.0:3307 is a plaintext leg that leaves the machine", "unsafe_plaintext_listen = true"],
    ),
    "a plaintext source elsewhere": (
        "unix:/run/mysqld/mysqld.sock",
        "db1.example:3306",
        [f"{ROUTE}source.address", "plaintext leg that leaves the machine", "source.unsafe_plaintext = true"],
    ),
    "a unix socket to listen on": ('"127.0.0.1:0"', '"unix:/x"', [f"{ROUTE}listen", "give host:port"]),
    "no port": ('"127.0.0.1:0"', '"127.0.0.1"', [f"{ROUTE}listen", "expected host:port"]),
    "an address without brackets": ('"127.0.0.1:0"', '"::1:3307"', [f"{ROUTE}listen", "needs brackets"]),
    "an identity in plaintext": ('name = "one"', 'identity = "a.example"', ["replica.identity", "cannot be verified on a plaintext leg"]),  # noqa: E501
    "no name in plaintext": ('name = "one"\n', "", ["replica.name", "it labels the metrics"]),
    "an admin address for all": ("\n[[route]]", '[admin]\nlisten = "0.0.0.0:9307"\n[[route]]', ["admin.listen", "admin.unsafe_listen = true"]),  # noqa: E501
    "a negative limit": ("\n[[route]]", "[limits]\ndrain_seconds = -1\n[[route]]", ["limits.drain_seconds"]),
    "a limit of zero": ("\n[[route]]", "[limits]\nsessions = 0\n[[route]]", ["limits.sessions"]),
    "an unknown log level": ("\n[[route]]", '[log]\nlevel = "loud"\n[[route]]', ["log.level", "'loud'"]),
    "not TOML": ("[[route]]", "[[route", ["not valid TOML"]),
    "host bits of a load balancer": ('name = "orders"', 'name = "orders"\nproxy_protocol_from = ["10.0.0.1/8"]', [f"{ROUTE}proxy_protocol_from", "has host bits set"]),  # noqa: E501
    "an unknown PROXY protocol": ("[route.source]", '[route.source]\nsend_proxy_protocol = "v3"', ["send_proxy_protocol", "'v3'"]),  # noqa: E501
    "no addresses of a replica": ('name = "one"', 'name = "one"\naddresses = []', ["replica.addresses: is empty", "leave it out for any"]),  # noqa: E501
    "host bits of a replica": ('name = "one"', 'name = "one"\naddresses = ["10.0.0.1/8"]', ["replica.addresses", "has host bits set"]),  # noqa: E501
    "a key that lasts too long": ("\n[[route]]", "[limits]\ntls_key_records = 16777217\n[[route]]", ["limits.tls_key_records"]),  # noqa: E501
    "a negative age": ("\n[[route]]", "[limits]\nsession_max_age_seconds = -1\n[[route]]", ["limits.session_max_age_seconds"]),  # noqa: E501
    "a server id of zero": ('name = "one"', 'name = "one"\nserver_ids = [0]', ["server_ids"]),
}  # fmt: skip


def written(folder: Path, text: str) -> Path:
    path = folder / "proxy.toml"
    path.write_text(text, encoding="utf-8")
    return path


def refused(path: Path, load: object = load_config) -> str:
    with pytest.raises(ConfigError) as error:
        load(path)  # type: ignore[operator]
    assert str(error.value).startswith(f"{path}: ")
    return str(error.value)


@pytest.mark.parametrize(("old", "new", "said"), BAD_PLAIN.values(), ids=BAD_PLAIN.keys())
def test_refuses(old: str, new: str, said: list[str], tmp_path: Path) -> None:
    assert PLAIN.count(old) == 1
    message = refused(written(tmp_path, PLAIN.replace(old, new)))
    assert all(text in message for text in said), message


def test_refuses_an_empty_roster(tmp_path: Path) -> None:
    text = PLAIN[: PLAIN.index("[[route.replica]]")].replace('name = "orders"', 'name = "orders"\nreplica = []')
    assert "the roster is empty" in refused(written(tmp_path, text))


def test_refuses_a_file_without_routes(tmp_path: Path) -> None:
    assert "route" in refused(written(tmp_path, ""))


def test_refuses_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert "cannot be read" in refused(tmp_path / "none.toml")


def test_refuses_a_file_that_is_not_utf_8(tmp_path: Path) -> None:
    (tmp_path / "proxy.toml").write_bytes(b"\xff\xfe")
    assert "cannot be read" in refused(tmp_path / "proxy.toml")


def test_refuses_two_routes_of_one_name(tmp_path: Path) -> None:
    assert "route.name: 'orders' is given more than once" in refused(written(tmp_path, PLAIN + PLAIN))


def test_refuses_two_routes_on_one_address(tmp_path: Path) -> None:
    one = PLAIN.replace("127.0.0.1:0", "127.0.0.1:3307")
    message = refused(written(tmp_path, one + one.replace('"orders"', '"others"')))
    assert "route.listen: '127.0.0.1:3307' is given more than once" in message


def test_refuses_two_replicas_of_one_name(tmp_path: Path) -> None:
    again = '[[route.replica]]\nname = "one"\naccounts = ["other"]\n'
    assert "replica.name: 'one' is given more than once" in refused(written(tmp_path, PLAIN + again))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('listen = "127.0.0.1:0"', 'listen = "0.0.0.0:3307"\nunsafe_plaintext_listen = true'),
        ('address = "unix:/run/mysqld/mysqld.sock"', 'address = "db1.example:3306"\nunsafe_plaintext = true'),
        ("\n[[route]]", '[admin]\nlisten = "0.0.0.0:9307"\nunsafe_listen = true\n[[route]]'),
    ],
)
def test_an_option_called_unsafe_admits_what_is_unsafe(old: str, new: str, tmp_path: Path) -> None:
    assert len(load_site(written(tmp_path, PLAIN.replace(old, new))).routes) == 1


# With certificates.


def tls_text(pki: Pki, **files: object) -> str:
    names = {"certificate": pki.proxy.certificate_file, "key": pki.proxy.key_file, "ca": pki.authority.file, **files}
    return TLS.format(**names)


def test_a_good_file_makes_a_site(pki: Pki, tmp_path: Path) -> None:
    [route] = load_site(written(tmp_path, tls_text(pki))).routes
    assert (route.name, str(route.listen), str(route.source)) == ("orders", "0.0.0.0:3307", "127.0.0.1:3306")
    assert route.replica_context is not None
    assert route.source_tls is None
    assert [entry.server_ids for entry in route.roster.entries] == [frozenset({2})]


def test_relative_paths_start_at_the_files_own_folder(pki: Pki, tmp_path: Path) -> None:
    for name, path in (
        ("p.crt", pki.proxy.certificate_file),
        ("p.key", pki.proxy.key_file),
        ("ca.crt", pki.authority.file),
    ):
        (tmp_path / name).write_bytes(path.read_bytes())
    assert load_site(written(tmp_path, TLS.format(certificate="p.crt", key="p.key", ca="ca.crt"))).routes


def test_the_defaults_are_aead_with_forward_secrecy_and_post_quantum_first(pki: Pki, tmp_path: Path) -> None:
    table = load_config(written(tmp_path, tls_text(pki))).route[0].replica_tls
    assert table is not None
    assert table.versions == ("TLSv1.2", "TLSv1.3")
    assert table.groups == DEFAULT_GROUPS
    assert DEFAULT_GROUPS[0] == "X25519MLKEM768"
    assert all(name.startswith("ECDHE-") and ("GCM" in name or "POLY1305" in name) for name in DEFAULT_CIPHERS)


BAD_TLS = {
    "no identity": ('identity = "replica-1.example"', 'name = "one"', ["replica.identity", "name the certificate's SAN"]),  # noqa: E501
    "no certificate": ('certificate = "', 'x = "', ["unknown key 'x'"]),
    "TLS 1.1": ("[route.source]", 'versions = ["TLSv1.1"]\n[route.source]', ["versions", "TLSv1.1"]),
    "no versions": ("[route.source]", "versions = []\n[route.source]", ["replica_tls.versions", "leave it out for the default"]),  # noqa: E501
    "no groups": ("[route.source]", "groups = []\n[route.source]", ["replica_tls.groups", "is empty"]),
    "no ciphers": ("[route.source]", "ciphers = []\n[route.source]", ["replica_tls.ciphers", "while TLSv1.2 is allowed"]),  # noqa: E501
    "no suites": ("[route.source]", "ciphersuites = []\n[route.source]", ["replica_tls.ciphersuites", "TLSv1.3"]),
    "an unknown cipher": ("[route.source]", 'ciphers = ["AES"]\n[route.source]'.replace("AES", "AES-9"), ["ciphers: 'AES-9'"]),  # noqa: E501
    "an unknown suite": ("[route.source]", 'ciphersuites = ["TLS_X"]\n[route.source]', ["ciphersuites: 'TLS_X'"]),
    "an unknown group": ("[route.source]", 'groups = ["X25520"]\n[route.source]', ["groups: 'X25520'"]),
    "a server name on the wrong leg": ("[route.source]", 'server_name = "x"\n[route.source]', ["replica_tls.server_name", "belongs to [route.source.tls]"]),  # noqa: E501
}  # fmt: skip


@pytest.mark.parametrize(("old", "new", "said"), BAD_TLS.values(), ids=BAD_TLS.keys())
def test_refuses_tls(old: str, new: str, said: list[str], pki: Pki, tmp_path: Path) -> None:
    message = refused(written(tmp_path, tls_text(pki).replace(old, new, 1)), load_site)
    assert all(text in message for text in said), message


@pytest.mark.parametrize(
    "identity",
    ["*", "*.example", "a.*.example", "*a.replicas.example", "**.replicas.example", "*.*.example", "spiffe://*/x"],
)
def test_refuses_a_wildcard_that_is_more_than_one_leading_label(identity: str, pki: Pki, tmp_path: Path) -> None:
    message = refused(written(tmp_path, tls_text(pki).replace("replica-1.example", identity)))
    assert "replica.identity" in message
    assert "one whole leading label" in message


def test_takes_a_wildcard_for_one_leading_label(pki: Pki, tmp_path: Path) -> None:
    [route] = load_site(written(tmp_path, tls_text(pki).replace("replica-1.example", "*.replicas.example"))).routes
    assert route.roster.entries[0].identity == "*.replicas.example"


def test_refuses_material_that_cannot_be_used_and_names_its_file(pki: Pki, tmp_path: Path) -> None:
    expired = pki.authority.issue(Role.PROXY, "proxy.example", **EXPIRED)
    empty = tmp_path / "empty.pem"
    empty.write_bytes(b"")
    secret = tmp_path / "secret.key"
    secret.write_bytes(pki.proxy.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")))
    table: list[tuple[dict[str, object], str, str]] = [
        ({"key": pki.replica.key_file}, f"{pki.replica.key_file}: key:", "does not belong to the certificate in"),
        ({"key": secret}, f"{secret}: key:", "a key without a passphrase"),
        ({"key": empty}, f"{empty}: key:", "holds no PEM"),
        ({"key": tmp_path / "none"}, f"{tmp_path / 'none'}: key:", "cannot be read: No such file"),
        ({"certificate": expired.certificate_file, "key": expired.key_file}, ": certificate:", "expired at"),
        ({"certificate": empty}, f"{empty}: certificate:", "holds no PEM"),
        ({"ca": empty}, f"{empty}: ca:", "holds no PEM"),
        ({"ca": expired.certificate_file}, ": ca:", "every certificate in it has expired"),
        ({"ca": tmp_path}, f"{tmp_path}: ca:", "cannot be read"),
    ]
    for files, where, why in table:
        message = refused(written(tmp_path, tls_text(pki, **files)), load_site)
        assert where in message, message
        assert why in message, message


@pytest.mark.parametrize(
    ("kind", "why"),
    [("theirs", "not issued by any authority in ca"), ("expired", "was due for renewal"), ("none", "holds no PEM")],
)
def test_refuses_a_crl_that_would_lock_everybody_out(kind: str, why: str, pki: Pki, tmp_path: Path) -> None:
    none = tmp_path / "none.crl"
    none.write_bytes(b"")
    files = {
        "theirs": pki.stranger.write_crl(pki.stranger.crl()),
        "expired": pki.authority.write_crl(pki.authority.crl(**EXPIRED)),
        "none": none,
    }
    text = tls_text(pki).replace("[route.source]", f'crl = ["{files[kind]}"]\n[route.source]')
    message = refused(written(tmp_path, text), load_site)
    assert f"{files[kind]}: crl: " in message
    assert why in message


def test_a_source_leg_wants_certificate_and_key_together(pki: Pki, tmp_path: Path) -> None:
    tls = f'[route.source.tls]\nca = "{pki.authority.file}"\nkey = "{pki.proxy.key_file}"\n[[route.replica]]'
    message = refused(written(tmp_path, tls_text(pki).replace("[[route.replica]]", tls)))
    assert "source.tls: certificate and key go together" in message


def test_tls_over_a_unix_socket_wants_a_name_to_verify(pki: Pki, tmp_path: Path) -> None:
    tls = f'[route.source.tls]\nca = "{pki.authority.file}"\n[[route.replica]]'
    text = PLAIN.replace("[[route.replica]]", tls)
    assert "source.tls.server_name: is needed" in refused(written(tmp_path, text))
    good = text.replace("[route.source.tls]", '[route.source.tls]\nserver_name = "db1.example"')
    source_tls = load_site(written(tmp_path, good)).routes[0].source_tls
    assert source_tls is not None
    assert source_tls.server_name == "db1.example"
