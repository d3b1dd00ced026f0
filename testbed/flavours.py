"""The kinds of server, what each is started with, and the data directory that new servers copy."""

import enum
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from testbed.fetch import Bundle, bundle
from testbed.folders import locked, private_folder
from testbed.programs import ProgramError, popen

# Raised when what goes into a template changes, so that old ones are not used.
TEMPLATE_VERSION = 1
INITIALISE_SECONDS = 180

COMMON_OPTIONS = (
    # Nothing here must survive a power cut, and a small server starts fast.
    "--innodb-buffer-pool-size=32M",
    "--innodb-flush-log-at-trx-commit=2",
    "--innodb-doublewrite=OFF",
    "--innodb-flush-method=nosync",
    "--innodb-autoextend-increment=1",
    "--innodb-use-native-aio=OFF",  # the kernel's limit on asynchronous I/O is shared by every server here
    "--sync-binlog=0",
    "--log-bin=binlog",
    "--relay-log=relay",
    "--max-allowed-packet=64M",
)
MYSQL_OPTIONS = (
    "--innodb-redo-log-capacity=32M",
    # Together 140 MB less of memory.
    "--innodb-log-buffer-size=4M",
    "--performance-schema-digests-size=200",
    "--performance-schema-error-size=50",
    "--gtid-mode=ON",
    "--enforce-gtid-consistency=ON",
    "--log-replica-updates=ON",
    "--performance-schema=ON",
    "--mysqlx=OFF",
    "--secure-file-priv=NULL",
    "--table-open-cache=400",
)
MARIADB_OPTIONS = (
    "--binlog-format=ROW",
    "--innodb-log-file-size=32M",
    "--log-slave-updates=ON",
    "--gtid-strict-mode=ON",
    "--table-open-cache=400",
)


class Flavour(enum.Enum):
    """A server product and its release series; the value is its bundle's name."""

    MYSQL_9_7 = "mysql-9.7"
    MARIADB_10_11 = "mariadb-10.11"
    MARIADB_11_8 = "mariadb-11.8"

    @property
    def is_mariadb(self) -> bool:
        """Whether it speaks MariaDB's dialect, not MySQL's."""
        return self is not Flavour.MYSQL_9_7

    def bundle(self) -> Bundle:
        """Its programs, fetched now if they are not there yet."""
        return bundle(self.value)

    def client(self, name: str) -> list[str]:
        """The first words of a command for a client program by its MySQL name, such as `mysqldump`."""
        if self.is_mariadb:
            name = {"mysql": "mariadb", "mysqld": "mariadbd"}.get(name) or name.replace("mysql", "mariadb-")
        return self.bundle().command(name)

    def server_command(
        self, data: Path, options: Sequence[str], *, program: Path | None = None, option_file: Path | None = None
    ) -> list[str]:
        """The command of a server on a data directory; `options` win over the defaults here.

        `program` is another path to the bundle's own, for what a server looks for beside its program. Without an
        `option_file` none is read, whatever the machine has.
        """
        programs = self.bundle()
        messages = programs.path("usr/share/mysql", "usr/share/mariadb")
        own = MARIADB_OPTIONS if self.is_mariadb else MYSQL_OPTIONS
        command = self.client("mysqld")
        if program is not None:
            command[-1] = str(program)
        return [
            *command,
            "--no-defaults" if option_file is None else f"--defaults-file={option_file}",
            f"--datadir={data}",
            f"--lc-messages-dir={messages}",
            f"--character-sets-dir={messages / 'charsets'}",
            f"--plugin-dir={programs.path('usr/lib/mysql/plugin')}",
            "--user=root",  # allows root, a user namespace's too; for others it only writes a warning
            *COMMON_OPTIONS,
            *own,
            *options,
        ]

    def make_data(self, data: Path) -> None:
        """Make a new server's data directory, a copy of the flavour's template.

        Raises:
            ProgramError: the template cannot be made.
        """
        template = self._template()
        growing = data.with_name(f"{data.name}.incomplete")
        if growing.exists():
            shutil.rmtree(growing)  # an interrupted one's
        data.parent.mkdir(parents=True, exist_ok=True)
        # cp, not shutil: it copies no block that the file system can share and no hole.
        options = ["--recursive", "--preserve=mode", "--reflink=auto", "--sparse=always"]
        subprocess.run(["cp", *options, template, growing], check=True)
        growing.rename(data)

    def _template(self) -> Path:
        folder = private_folder() / "templates"
        template = folder / f"{self.value}-{self.bundle().fingerprint()}-{TEMPLATE_VERSION}"
        with locked(folder / f"{self.value}.lock"):
            if not template.exists():
                growing = folder / f"{self.value}.incomplete"
                if growing.exists():
                    shutil.rmtree(growing)  # an interrupted one's
                growing.mkdir()
                self._initialise(growing / "data", growing / "log")
                (growing / "data").rename(template)
                shutil.rmtree(growing)
        return template

    def _initialise(self, data: Path, log: Path) -> None:
        if self.is_mariadb:
            data.mkdir()
            command = self.server_command(data, ["--bootstrap", "--skip-log-bin", "--enforce-storage-engine="])
            script = self._bootstrap_script()
        else:
            command = self.server_command(data, ["--initialize-insecure", "--disable-log-bin", "--gtid-mode=OFF"])
            script = b""
        with log.open("wb") as output, tempfile.TemporaryFile() as statements:
            statements.write(script)
            statements.seek(0)
            status = popen(command, stdin=statements, stdout=output, stderr=output).wait(INITIALISE_SECONDS)
        if status:
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-25:])
            raise ProgramError(f"{self.value} could not initialise a data directory, exit status {status}:\n{tail}")
        # Each server makes its own identity when it finds none.
        (data / "auto.cnf").unlink(missing_ok=True)

    def _bootstrap_script(self) -> bytes:
        """What mariadb-install-db feeds to the server; without the help texts, which take the longest."""
        folder = self.bundle().path("usr/share/mysql", "usr/share/mariadb")
        # 10.11 names them mysql_*, 11.8 mariadb_*.
        prefix = "mariadb" if (folder / "mariadb_system_tables.sql").exists() else "mysql"
        names = [f"{prefix}_{part}.sql" for part in ("system_tables", "performance_tables", "system_tables_data")]
        names += ["maria_add_gis_sp_bootstrap.sql", f"{prefix}_sys_schema.sql"]
        # No unix_socket authentication: root has no password, whoever runs the test bed.
        parts = [b"CREATE DATABASE mysql;\nUSE mysql;\nSET @auth_root_socket = NULL, @skip_auth_anonymous = 1;\n"]
        parts += [(folder / name).read_bytes() for name in names]
        # No other roots: MySQL has none either.
        parts.append(b"USE mysql;\nDELETE FROM global_priv WHERE Host <> 'localhost';\n")
        return b"\n".join(parts)
