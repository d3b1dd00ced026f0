"""Common passwords are recognised in what servers store; the stored values are of the servers' own making."""

from __future__ import annotations

import pytest

from audit.guessing import guess


def test_native_passwords() -> None:
    # SELECT PASSWORD('password') in any MySQL before 8.0.
    stored = "*2470C0C06DEE42FD1618BB99005ADCA2EC9D1E19"
    assert guess("repl", "mysql_native_password", stored) == "password"
    assert guess("repl", "mysql_native_password", "*" + "0" * 40) == ""


@pytest.mark.parametrize(("plugin", "stored"), [("ed25519", "x" * 43), ("caching_sha2_password", "$A$zzz$"), ("", "")])
def test_what_is_not_known_is_not_judged(plugin: str, stored: str) -> None:
    assert guess("repl", plugin, stored) is None


def test_a_salt_of_another_password() -> None:
    assert guess("repl", "caching_sha2_password", "$A$005$" + "s" * 20 + "d" * 43) == ""
