import os
import threading
from pathlib import Path

import pytest

from certs.errors import CertsError
from certs.storage import create_file, locked_folder, make_folder, read_file, replace_file, verify_secret_mode


def mode_of(path: Path) -> int:
    return path.stat().st_mode & 0o777


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
@pytest.mark.parametrize("mode", [0o400, 0o600, 0o644])
def test_a_file_has_its_mode_whatever_the_umask(tmp_path: Path, umask: int, mode: int) -> None:
    former = os.umask(umask)
    try:
        create_file(tmp_path / "created", b"content", mode=mode)
        replace_file(tmp_path / "replaced", b"content", mode=mode)
    finally:
        os.umask(former)
    assert mode_of(tmp_path / "created") == mode_of(tmp_path / "replaced") == mode


def test_a_file_has_its_mode_before_its_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, int]] = []
    change_mode = os.fchmod

    def watch(descriptor: int, mode: int) -> None:
        status = os.fstat(descriptor)
        seen.append((status.st_mode & 0o777, status.st_size))
        change_mode(descriptor, mode)

    monkeypatch.setattr(os, "fchmod", watch)
    create_file(tmp_path / "key", b"secret", mode=0o600)
    assert seen == [(0o600, 0)]


def test_creating_never_replaces(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"former")
    with pytest.raises(CertsError, match="is never overwritten: move it away"):
        create_file(path, b"new", mode=0o644)
    assert path.read_bytes() == b"former"
    assert list(tmp_path.iterdir()) == [path]


def test_creating_does_not_follow_a_dangling_link(tmp_path: Path) -> None:
    (tmp_path / "file").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CertsError, match="never overwritten"):
        create_file(tmp_path / "file", b"new", mode=0o644)
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("call", ["fchmod", "fsync", "replace"])
def test_an_interrupted_write_leaves_the_former_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    path = tmp_path / "index.json"
    replace_file(path, b"former", mode=0o644)

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path if call == "replace" else os, call, fail)
    with pytest.raises(CertsError, match="No space left on device; check that"):
        replace_file(path, b"new", mode=0o644)
    assert path.read_bytes() == b"former"
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(CertsError, match=r"cannot write .*absent/file: No such file or directory"):
        create_file(tmp_path / "absent" / "file", b"", mode=0o644)
    with pytest.raises(CertsError, match="cannot open the folder"), locked_folder(tmp_path / "absent"):
        pass


def test_a_folder_in_the_place_of_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(CertsError, match=r"cannot make the folder .*; choose another place"):
        make_folder(tmp_path / "file", mode=0o700)


def test_the_lock_excludes_and_sweeps_what_a_killed_process_left(tmp_path: Path) -> None:
    leftover = tmp_path / ".binlock-0123456789abcdef.tmp"
    leftover.write_bytes(b"half a key")
    entered = threading.Event()

    def enter() -> None:
        with locked_folder(tmp_path):
            entered.set()

    with locked_folder(tmp_path):
        assert not leftover.exists()
        other = threading.Thread(target=enter)
        other.start()
        assert not entered.wait(0.05)
    other.join(10)
    assert entered.is_set()


@pytest.mark.parametrize(("mode", "refused"), [(0o400, False), (0o600, False), (0o440, True), (0o644, True)])
def test_a_key_that_others_can_read_is_refused(tmp_path: Path, mode: int, refused: bool) -> None:
    path = tmp_path / "key"
    path.touch()
    path.chmod(mode)
    if refused:
        with pytest.raises(CertsError, match=f"mode {mode:04o}.*`chmod 0400` it"):
            verify_secret_mode(path)
    else:
        verify_secret_mode(path)


def test_a_file_without_an_end_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("certs.storage._MOST_BYTES", 1 << 20)
    with pytest.raises(CertsError, match="/dev/zero is longer than any"):
        read_file(Path("/dev/zero"))
