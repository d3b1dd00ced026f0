"""Which server, and how to get in; never a password in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from audit.dsn import Target, parse_dsn
from audit.errors import AuditError
from audit.passwords import password_of


def test_a_dsn_is_read() -> None:
    target = parse_dsn("mysql://au%40ditor@[2001:db8::1]:3307/?ssl-ca=/ca&ssl-cert=/c&ssl-key=/k&password-env=PW")
    assert (target.host, target.port, target.user) == ("2001:db8::1", 3307, "au@ditor")
    assert (target.ca, target.certificate, target.key) == (Path("/ca"), Path("/c"), Path("/k"))
    assert target.name == "[2001:db8::1]:3307"
    assert not target.is_plaintext
    assert not target.is_unverified


def test_the_unsafe_is_asked_for_by_name() -> None:
    assert parse_dsn("mysql://a@b/?unsafe-plaintext=1").is_plaintext
    assert parse_dsn("mysql://a@b/?unsafe-unverified-tls=1").is_unverified
    assert not parse_dsn("mysql://a@b/?unsafe-plaintext=0").is_plaintext
    with pytest.raises(AuditError, match="0 or 1"):
        parse_dsn("mysql://a@b/?unsafe-plaintext=perhaps")


@pytest.mark.parametrize(
    ("dsn", "complaint"),
    [
        ("mysql://root:hunter2@db/", "must have no password"),
        ("mysql://root:hunter2@db:port/", "cannot be read"),
        ("mysql://root:@db/", "must have no password"),
        ("mysql://db/", "no user"),
        ("mysql://a@db/shop", "names no database"),
        ("mysql://a@db/?password=hunter2", "no option 'password'"),
        ("mysql://a@db/?ssl_ca=x", "did you mean ssl-ca"),
        ("db.example", "given as mysql://"),
    ],
)
def test_what_cannot_be_used_is_refused_without_repeating_a_secret(dsn: str, complaint: str) -> None:
    with pytest.raises(AuditError, match=complaint) as refused:
        parse_dsn(dsn)
    assert "hunter2" not in str(refused.value)


def test_an_option_file_fills_in_what_the_dsn_leaves_out(tmp_path: Path) -> None:
    (tmp_path / "my.cnf").write_text(
        "!includedir /nowhere\n[mysqld]\nport=1\n[client]\nuser = 'auditor'\npassword=\"s%cret\"\nhost=db1\nport=3310\n"
        "ssl_ca=/ca.pem\nskip-ssl\n"
    )
    target = parse_dsn(f"mysql:///?defaults-file={tmp_path}/my.cnf")
    assert (target.user, target.host, target.port, target.ca) == ("auditor", "db1", 3310, Path("/ca.pem"))
    assert password_of(target, ask=None) == "s%cret"
    assert "s%cret" not in repr(target)
    # What the DSN says wins.
    target = parse_dsn("mysql://me@db2/", defaults_file=tmp_path / "my.cnf")
    assert (target.user, target.host, target.port) == ("me", "db2", 3306)


def test_an_option_file_that_is_none_is_refused(tmp_path: Path) -> None:
    for name, content in (("a", b"user=x"), ("b", b"\xff\xfe")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(AuditError, match=str(tmp_path / name)):
            parse_dsn("mysql://a@b/", defaults_file=tmp_path / name)
    with pytest.raises(AuditError, match="No such file"):
        parse_dsn("mysql://a@b/", defaults_file=tmp_path / "missing")


def test_passwords_come_from_a_file_the_environment_or_a_person(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pw").write_text("from a file \n")
    monkeypatch.setenv("AUDIT_PW", "from the environment")
    assert password_of(Target(password_file=tmp_path / "pw"), ask=None) == "from a file "
    assert password_of(Target(password_env="AUDIT_PW"), ask=None) == "from the environment"
    assert password_of(Target(user="u"), ask=lambda prompt: prompt) == "Password of u at localhost:3306: "
    assert password_of(Target(), ask=None) == ""
    with pytest.raises(AuditError, match="AUDIT_NONE is not set"):
        password_of(Target(password_env="AUDIT_NONE"), ask=None)
    with pytest.raises(AuditError, match="too long"):
        password_of(Target(password_file=Path("/dev/zero")), ask=None)
