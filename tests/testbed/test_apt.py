from pathlib import Path

import pytest

from testbed.apt import FetchError, Source, debian_source, parse_deb822, parse_one_line

DEB822 = """\
Types: deb deb-src
# a remark in the middle of a stanza
URIs: http://mirror.example/debian
Suites: bookworm
 bookworm-updates
Components: main contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://disabled.example/debian
Suites: bookworm
Components: main
Enabled: no

Types: deb
URIs: http://inline.example/tools
Suites: stable
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 abc
 -----END PGP PUBLIC KEY BLOCK-----
"""
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


def test_deb822_sources_are_read_without_the_disabled() -> None:
    mirror, inline = parse_deb822(DEB822)
    assert mirror == Source(
        "http://mirror.example/debian", ("bookworm", "bookworm-updates"), ("main", "contrib"), KEYRING
    )
    assert inline.uri == "http://inline.example/tools"


def test_an_inline_key_survives_the_change_of_suite() -> None:
    _, inline = parse_deb822(DEB822)
    (again,) = parse_deb822(inline.in_suite("sid"))
    assert again.signed_by == inline.signed_by
    assert "\n -----BEGIN PGP" in inline.in_suite("sid")


@pytest.mark.parametrize(
    ("line", "signed_by"),
    [
        ("deb http://mirror.example/debian bookworm main contrib", None),
        (f"deb [arch=amd64 signed-by={KEYRING}] http://mirror.example/debian bookworm main contrib", KEYRING),
        ("deb http://mirror.example/debian bookworm main contrib # a remark", None),
    ],
)
def test_one_line_sources_are_read(line: str, signed_by: str | None) -> None:
    remark_and_sources = f"# {line}\ndeb-src http://mirror.example/debian bookworm main\n{line}\n"
    assert list(parse_one_line(remark_and_sources)) == [
        Source("http://mirror.example/debian", ("bookworm",), ("main", "contrib"), signed_by)
    ]


def test_a_third_party_is_not_taken_for_debian(tmp_path: Path) -> None:
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list.d" / "a.list").write_text("deb http://vendor.example/apt bookworm main\n")
    (tmp_path / "sources.list.d" / "b.list").write_text("deb http://other.example bookworm-tools main\n")
    (tmp_path / "sources.list").write_text("deb http://mirror.example/debian/ bookworm main\n")
    assert debian_source(tmp_path).uri == "http://mirror.example/debian/"


def test_a_machine_without_debian_sources_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="run this on Debian"):
        debian_source(tmp_path)
