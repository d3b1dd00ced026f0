"""A change is seen however it was made, and nothing is seen where nothing changed."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from endpoint.watch import signature_of


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """As Kubernetes mounts a secret: files are links into `..data`, which is a link to a folder with a date."""
    first = tmp_path / "..2026_01_01"
    first.mkdir()
    (first / "ca.crt").write_text("first")
    (tmp_path / "..data").symlink_to("..2026_01_01")
    (tmp_path / "ca.crt").symlink_to("..data/ca.crt")
    (tmp_path / "plain.crt").write_text("plain")
    (tmp_path / "crls").mkdir()
    (tmp_path / "crls" / "a.crl").write_text("a")
    (tmp_path / "crls" / "0123abcd.r0").symlink_to("a.crl")
    return tmp_path


def watched(folder: Path) -> list[Path]:
    return [folder / "plain.crt", folder / "ca.crt", folder / "crls", folder / "missing.crt"]


def swap_data(folder: Path) -> None:
    """The swap is one rename; what it leads to has the same size, and here the same time as well."""
    second = folder / "..2026_01_02"
    second.mkdir()
    (second / "ca.crt").write_text("other")
    status = (folder / "..2026_01_01" / "ca.crt").stat()
    os.utime(second / "ca.crt", ns=(status.st_atime_ns, status.st_mtime_ns))
    (folder / "..data_tmp").symlink_to("..2026_01_02")
    (folder / "..data_tmp").replace(folder / "..data")


def rename_over(folder: Path) -> None:
    status = (folder / "plain.crt").stat()
    new = folder / "new"
    new.write_text("PLAIN")
    os.utime(new, ns=(status.st_atime_ns, status.st_mtime_ns))
    new.replace(folder / "plain.crt")


def write_in_place(folder: Path) -> None:
    (folder / "plain.crt").write_text("longer than before")


def write_in_place_the_same_size(folder: Path) -> None:
    status = (folder / "plain.crt").stat()
    (folder / "plain.crt").write_text("PLAIN")
    os.utime(folder / "plain.crt", ns=(status.st_atime_ns, status.st_mtime_ns + 1))


def truncate(folder: Path) -> None:
    (folder / "plain.crt").write_text("")


def delete(folder: Path) -> None:
    (folder / "plain.crt").unlink()


def create(folder: Path) -> None:
    (folder / "missing.crt").write_text("")


def link_to_another(folder: Path) -> None:
    (folder / "ca.crt").unlink()
    (folder / "ca.crt").symlink_to("plain.crt")


def lead_nowhere(folder: Path) -> None:
    (folder / "..data").unlink()


def lead_in_a_circle(folder: Path) -> None:
    (folder / "ca.crt").unlink()
    (folder / "ca.crt").symlink_to("ca.crt")


def add_to_folder(folder: Path) -> None:
    (folder / "crls" / "b.crl").write_text("b")


def change_in_folder(folder: Path) -> None:
    (folder / "crls" / "a.crl").write_text("longer")


def remove_from_folder(folder: Path) -> None:
    (folder / "crls" / "0123abcd.r0").unlink()


def rename_in_folder(folder: Path) -> None:
    (folder / "crls" / "a.crl").rename(folder / "crls" / "c.crl")


def replace_folder(folder: Path) -> None:
    (folder / "crls").rename(folder / "old")
    (folder / "crls").mkdir()


CHANGES = (
    swap_data, rename_over, write_in_place, write_in_place_the_same_size, truncate, delete, create, link_to_another,
    lead_nowhere, lead_in_a_circle, add_to_folder, change_in_folder, remove_from_folder, rename_in_folder,
    replace_folder,
)  # fmt: skip


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_change_is_seen_and_then_stands(change: Callable[[Path], None], folder: Path) -> None:
    before = signature_of(watched(folder))
    change(folder)
    after = signature_of(watched(folder))
    assert after != before
    assert signature_of(watched(folder)) == after


def test_a_file_that_comes_back_after_it_was_deleted_is_seen(folder: Path) -> None:
    delete(folder)
    before = signature_of(watched(folder))
    (folder / "plain.crt").write_text("back")
    assert signature_of(watched(folder)) != before


def test_nothing_is_seen_where_nothing_changed(folder: Path) -> None:
    before = signature_of(watched(folder))
    (folder / "another.crt").write_text("not watched")
    (folder / "plain.crt").read_text()
    assert signature_of(watched(folder)) == before


def test_each_file_may_be_given_as_a_relative_path(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert signature_of([Path("plain.crt")]) == signature_of([folder / "plain.crt"])


def test_a_folder_that_links_to_itself_is_looked_at_once(folder: Path) -> None:
    (folder / "crls" / "again").symlink_to(".")
    assert len(signature_of([folder / "crls"])) < 100
