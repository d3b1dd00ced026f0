import os
import subprocess
import sys
from pathlib import Path

import pytest

from testbed.fetch import FetchError, bundle, fetch


@pytest.mark.parametrize(
    ("name", "program", "says"),
    [
        ("mysql-9.7", "mysqld", "9.7"),
        ("mysql-9.7", "mysqlbinlog", "9.7"),
        ("mysql-9.7", "mysqldump", "9.7"),
        ("mariadb-10.11", "mariadbd", "10.11"),
        ("mariadb-11.8", "mariadbd", "11.8"),
        ("mariadb-11.8", "mariadb-binlog", "11.8"),
    ],
)
def test_a_program_runs_with_the_libraries_that_came_with_it(name: str, program: str, says: str) -> None:
    command = [*bundle(name).command(program), "--no-defaults", "--version"]
    assert says in subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_a_complete_bundle_is_not_fetched_again() -> None:
    bundle("mysql-9.7")
    said: list[str] = []
    fetch(["mysql-9.7"], said.append)
    assert said == ["mysql-9.7: complete"]


def test_an_unknown_bundle_names_the_known() -> None:
    with pytest.raises(FetchError, match=r"oracle.*mariadb-11\.8"):
        bundle("oracle")
    with pytest.raises(FetchError, match="no usr/sbin/oracle"):
        bundle("mysql-9.7").command("oracle")


def test_a_machine_without_apt_is_told_so(tmp_path: Path) -> None:
    environment = {**os.environ, "BINLOCK_TESTBED_DIR": str(tmp_path), "PATH": str(tmp_path)}
    command = [sys.executable, "-m", "testbed", "fetch", "stunnel"]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "is not installed: the servers come from Debian packages" in result.stderr
    assert "Traceback" not in result.stderr
