"""Pseudonyms: stable under one key, telling nothing, and ports as they were."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.reporting.masking import Masking, MaskKeyError, host_of


def test_without_a_key_addresses_stay() -> None:
    assert Masking().endpoint("[2001:db8::1]:3306") == "[2001:db8::1]:3306"
    assert Masking().address("10.0.0.1") == "10.0.0.1"


@given(st.ip_addresses(), st.integers(1, 65535))
def test_a_pseudonym_keeps_the_port_and_none_of_the_address(address: object, port: int) -> None:
    text = f"[{address}]" if ":" in str(address) else str(address)
    shown = Masking(b"k" * 16).endpoint(f"{text}:{port}")
    assert re.fullmatch(rf"host-[0-9a-f]{{10}}:{port}", shown)
    assert host_of(f"{text}:{port}") == str(address)


def test_one_key_gives_one_name_and_two_keys_give_two() -> None:
    assert Masking(b"a" * 16).address("10.0.0.1") == Masking(b"a" * 16).address("10.0.0.1")
    assert Masking(b"a" * 16).address("10.0.0.1") != Masking(b"b" * 16).address("10.0.0.1")
    assert Masking(b"a" * 16).address("10.0.0.1") != Masking(b"a" * 16).address("10.0.0.2")
    assert Masking.fresh().address("10.0.0.1") != Masking.fresh().address("10.0.0.1")


def test_one_address_has_one_name_however_it_is_written() -> None:
    masking = Masking.fresh()
    assert masking.address("2001:db8::1") == masking.address("2001:0DB8:0:0::1")


def test_a_key_from_a_file_holds_wherever_the_file_is_and_the_newline_does_not_count(tmp_path: Path) -> None:
    (tmp_path / "one").write_text("correct horse battery\n")
    (tmp_path / "two").write_text("correct horse battery")
    one, two = (Masking.from_file(tmp_path / name).address("10.0.0.1") for name in ("one", "two"))
    assert one == two


def test_a_key_that_is_no_secret_is_refused(tmp_path: Path) -> None:
    (tmp_path / "short").write_text("short\n")
    with pytest.raises(MaskKeyError, match="short: holds 5 bytes; a key has 16 or more"):
        Masking.from_file(tmp_path / "short")
    with pytest.raises(MaskKeyError, match="absent: No such file"):
        Masking.from_file(tmp_path / "absent")
