"""Stage 7: what a replica may ask before its dump, and every trick that must not pass for it."""

import re
import resource
import subprocess
import sys

import pytest

from proxy.outcomes import Reason, SessionRefused, Stage
from proxy.policy import CommandDenied, Policy, authorise_server_id
from tests.proxy.bench import enforced, entry
from wire.capabilities import NO_CAPABILITIES, Capability
from wire.commands import (
    BinlogDump,
    BinlogDumpGtid,
    Command,
    OtherCommand,
    ParsedCommand,
    Query,
    RegisterReplica,
    parse_command,
)
from wire.errors import WireError

POLICIES = ("replication", "backup", "any")
ATTRIBUTES = Capability.CLIENT_QUERY_ATTRIBUTES

# What the I/O threads send, as the servers write it.
MYSQL_8_AND_9 = [
    "SELECT UNIX_TIMESTAMP()",
    "SELECT @@GLOBAL.SERVER_ID",
    "SET @master_heartbeat_period = 30000001024, @source_heartbeat_period = 30000001024",
    "SET @master_binlog_checksum = @@global.binlog_checksum, @source_binlog_checksum = @@global.binlog_checksum",
    "SELECT @source_binlog_checksum",
    "SELECT @@GLOBAL.GTID_MODE",
    "SELECT @@GLOBAL.SERVER_UUID",
    "SET @slave_uuid = '3e11fa47-71ca-11e1-9e33-c80aa9429562', @replica_uuid = '3e11fa47-71ca-11e1-9e33-c80aa9429562'",
    "SELECT @@global.rpl_semi_sync_master_enabled",
    "SELECT @@global.rpl_semi_sync_source_enabled",
    "SET @rpl_semi_sync_slave= 1",
    "SET @rpl_semi_sync_replica = 1, @rpl_semi_sync_slave = 1",
    "SET @rpl_semi_sync_replica = 1",
]
MYSQL_5 = [
    "SHOW VARIABLES LIKE 'SERVER_ID'",
    "SHOW VARIABLES LIKE 'SERVER_UUID'",
    "SET @master_heartbeat_period= 1799999979520",
    "SET @master_binlog_checksum= @@global.binlog_checksum",
    "SELECT @master_binlog_checksum",
    "SET @slave_uuid= '3e11fa47-71ca-11e1-9e33-c80aa9429562'",
]
MARIADB = [
    "SELECT UNIX_TIMESTAMP()",
    "SHOW VARIABLES LIKE 'SERVER_ID'",
    "SET @master_heartbeat_period= 30000001024",
    "SET @master_binlog_checksum= @@global.binlog_checksum",
    "SELECT @master_binlog_checksum",
    "SET skip_replication=1",
    "SET @mariadb_slave_capability=4",
    "SELECT @@GLOBAL.gtid_domain_id",
    "SET @slave_connect_state=''",
    "SET @slave_connect_state='0-1-3345,1-2-17'",
    "SET @slave_gtid_strict_mode=1",
    "SET @slave_gtid_ignore_duplicates=0",
    "SET @slave_until_gtid='0-1-3345'",
    "SELECT binlog_gtid_pos('mysql-bin.000003',1234)",
    "SHOW VARIABLES LIKE 'rpl_semi_sync_master_enabled'",
    "SET @rpl_semi_sync_slave= 1",
    "KILL 42",
]

TRICKS = [
    "",
    " ",
    "\x00",
    "SELECT",
    "SET",
    "SELECT 1",
    "SELECT * FROM mysql.user",
    "SELECT UNIX_TIMESTAMP(); DROP TABLE t",
    "SELECT UNIX_TIMESTAMP();",
    "SELECT UNIX_TIMESTAMP() ;",
    "SELECT UNIX_TIMESTAMP(1)",
    "SELECT UNIX_TIMESTAMP(), user()",
    "SELECT UNIX_TIMESTAMP() FROM mysql.user",
    "SELECT UNIX_TIMESTAMP() INTO OUTFILE '/tmp/x'",
    "SELECT UNIX_TIMESTAMP() -- x",
    "SELECT UNIX_TIMESTAMP() # x",
    "SELECT UNIX_TIMESTAMP() /* x */",
    "SELECT UNIX_TIMESTAMP()/*!, (SELECT authentication_string FROM mysql.user LIMIT 1) */",
    "/* x */ SELECT UNIX_TIMESTAMP()",
    "/*!50000 DROP TABLE t */",
    "/*M!100000 DROP TABLE t */ SELECT UNIX_TIMESTAMP()",
    "SELECT/**/UNIX_TIMESTAMP()",
    "-- \nSELECT UNIX_TIMESTAMP()",
    "SELECT UNIX_TIMESTAMP()\x00",
    "\x00SELECT UNIX_TIMESTAMP()",
    "SELECT UNIX_TIMESTAMP()\x00; DROP TABLE t",
    "SELECT UNIX_TIMESTAMP()\nUNION SELECT 1",
    "SELECT UNIX_TIMESTAMP()\r\n; DROP TABLE t",
    "SELECT UNIX_TIMESTAMP()\x0b;x",
    "XSELECT UNIX_TIMESTAMP()",
    "SELECT UNIX_TIMESTAMP()X",
    "SELECT @@GLOBAL.SERVER_ID, @@GLOBAL.DATADIR",
    "SELECT @@GLOBAL.SERVER_IDX",
    "SELECT @@GLOBAL.DATADIR",
    "SELECT @@SESSION.SERVER_ID",
    "SELECT @@GLOBALxSERVER_ID",
    "SELECT @other",
    "SHOW VARIABLES",
    "SHOW VARIABLES LIKE '%'",
    "SHOW VARIABLES LIKE 'SERVER_I%'",
    "SHOW VARIABLES LIKE 'SERVER_ID' OR 1=1",
    "SHOW GRANTS",
    "SET @x=(select 1)",
    "SET @slave_uuid=(select authentication_string from mysql.user limit 1)",
    "SET @slave_uuid = '', @x = 1",
    "SET @slave_uuid = '' , GLOBAL read_only = 0",
    "SET @slave_uuid = '', @@GLOBAL.read_only = 0",
    "SET GLOBAL read_only = 0",
    "SET @@GLOBAL.read_only = 0",
    "SET GLOBAL skip_replication=1",
    "SET PERSIST wait_timeout=1",
    "SET PASSWORD = 'x'",
    "SET sql_log_bin=0",
    "SET @slave_uuid = 'a' 'b'",
    "SET @slave_uuid = 'a'; DROP TABLE t",
    "SET @slave_uuid = 'a;b'",
    "SET @slave_uuid = 'a\\'; DROP TABLE t; -- '",
    "SET @slave_uuid = 'a\\'",
    "SET @slave_uuid = 'a''b'",
    'SET @slave_uuid = "a"',
    "SET @slave_uuid = 'a",
    "SET @slave_uuid = a'",
    "SET @slave_uuid = `a`",
    "SET @slave_uuid = 'a' OR SLEEP(9)",
    "SET @slave_uuid = CONCAT('a')",
    "SET @slave_uuid := 'a'",
    "SET @slave_uuid = 0x41",
    "SET @slave_uuid = -1",
    "SET @slave_uuid = 1.5",
    "SET @slave_uuid = 1e9",
    "SET @slave_uuid = _utf8'a'",
    "SET @slave_uuid = N'a'",
    "SET @slave_uuid = @@global.datadir",
    "SET @slave_uuid = @@global.binlog_checksum.x",
    "SET @`slave_uuid` = 1",
    "SET @slave_uuidx = 1",
    "SET @slave_uuid = 1,",
    "SET @slave_uuid = 1, , @slave_uuid = 1",
    "SET @slave_uuid = 1 @slave_uuid = 1",
    "SET NAMES utf8mb4 COLLATE utf8mb4_bin",
    "SET NAMES 'utf8mb4'",
    "SET NAMES utf8mb4, @x = 1",
    "SET NAMES",
    "SELECT BINLOG_GTID_POS('a',(SELECT 1))",
    "SELECT BINLOG_GTID_POS((SELECT 1),1)",
    "SELECT BINLOG_GTID_POS('a\\',1), ('b',1)",
    "KILL",
    "KILL QUERY 42",
    "KILL USER root",
    "KILL (SELECT 1)",
    "KILL 42, 43",
    "KILL HARD 42",
    "KILL ID 42",
    "DO SLEEP(100)",
    "LOAD DATA INFILE '/etc/passwd' INTO TABLE t",
    "HANDLER t OPEN",
    "PREPARE s FROM 'SELECT 1'",
    "SELECT\xa0UNIX_TIMESTAMP()",
    "SELECT UNIX_TIMESTAMP\xef\xbc\x88)",
    "\ufeffSELECT UNIX_TIMESTAMP()",
    "ſELECT UNIX_TIMESTAMP()",  # noqa: RUF001
    "ſET @slave_uuid = '1'",  # noqa: RUF001
    "KILL ٤٢",
]


def authorise(
    policy: str, payload: bytes, capabilities: Capability = NO_CAPABILITIES, *, server_ids: tuple[int, ...] = ()
) -> ParsedCommand:
    command = parse_command(payload, capabilities)
    Policy(policy).judge(command)  # type: ignore[arg-type]
    if isinstance(command, RegisterReplica | BinlogDump | BinlogDumpGtid):
        authorise_server_id(
            command.server_id, entry=entry(server_ids=server_ids), registered=None, objections=enforced()
        )
    return command


def query(text: str | bytes) -> bytes:
    return b"\x03" + (text if isinstance(text, bytes) else text.encode())


@pytest.mark.parametrize("text", [*MYSQL_8_AND_9, *MYSQL_5, *MARIADB])
@pytest.mark.parametrize("policy", POLICIES)
def test_admits_what_a_replicas_io_thread_asks(policy: str, text: str) -> None:
    assert authorise(policy, query(text)) == Query(text.encode())


@pytest.mark.parametrize("text", [*MYSQL_8_AND_9, *MYSQL_5, *MARIADB])
def test_keywords_and_variables_are_read_without_case(text: str) -> None:
    authorise("replication", query(text.lower()))
    authorise("replication", query(text.upper()))


@pytest.mark.parametrize("text", TRICKS)
def test_refuses_everything_else(text: str) -> None:
    with pytest.raises(CommandDenied, match="I/O thread"):
        authorise("replication", query(text))


@pytest.mark.parametrize("text", [*MYSQL_8_AND_9, *MYSQL_5, *MARIADB])
@pytest.mark.parametrize(
    "tail", [b";", b"; DROP TABLE t", b" -- x", b"#", b"/*", b"\x00", b",1", b" UNION SELECT 1", b")"]
)
def test_nothing_may_follow_an_admitted_query(text: str, tail: bytes) -> None:
    with pytest.raises(CommandDenied):
        authorise("replication", query(text.encode() + tail))


@pytest.mark.parametrize("text", [*MYSQL_8_AND_9, *MYSQL_5, *MARIADB])
@pytest.mark.parametrize("head", [b";", b"EXPLAIN ", b"/**/", b"\x00", b"-- \n", b"x", b"("])
def test_nothing_may_precede_an_admitted_query(text: str, head: bytes) -> None:
    with pytest.raises(CommandDenied):
        authorise("replication", query(head + text.encode()))


@pytest.mark.parametrize("lead", [bytes([byte]) for byte in range(0x80, 0x100)])
def test_no_multibyte_character_can_hide_the_end_of_a_string(lead: bytes) -> None:
    """In GBK, Big5 and Shift-JIS 0x5C ends characters: no backslash is admitted whatever comes before it."""
    for inside in (lead + b"\\", lead + b"\\' OR 1", lead + b"';x"):
        with pytest.raises(CommandDenied):
            authorise("replication", query(b"SET @slave_uuid = '" + inside + b"'"))


def test_query_attributes_are_not_taken_for_the_text() -> None:
    payload = Query(b"SELECT UNIX_TIMESTAMP()", {b"a": b"x", b"b": None}).serialize(ATTRIBUTES)
    assert authorise("replication", payload, ATTRIBUTES) == Query(b"SELECT UNIX_TIMESTAMP()", {b"a": b"x", b"b": None})


def test_a_forbidden_text_behind_query_attributes_is_found() -> None:
    with pytest.raises(CommandDenied):
        authorise(
            "replication", Query(b"DROP TABLE t", {b"a": b"SELECT UNIX_TIMESTAMP()"}).serialize(ATTRIBUTES), ATTRIBUTES
        )


def test_an_admitted_text_is_refused_where_the_source_would_read_attributes_in_it() -> None:
    with pytest.raises((CommandDenied, WireError)):
        authorise("replication", query("SELECT UNIX_TIMESTAMP()"), ATTRIBUTES)


def test_a_hostile_text_of_a_mebibyte_costs_bounded_work() -> None:
    """CPU time, not the clock: each of these would take hours if the pattern could backtrack over its repetitions."""
    program = """
import resource
resource.setrlimit(resource.RLIMIT_CPU, (20, 20))
from proxy.policy import CommandDenied, Policy
from wire.commands import Query
n = 1 << 20
one = b", @slave_uuid = 1"
for text in (b" " * n, b"\\n" * n + b"x", b"SELECT" + b" " * n, b"SET @slave_uuid" + b" " * n + b"x",
             b"SET @slave_uuid = 1" + b" " * n + b"x", b"SET @slave_uuid = " + b"1" * n + b"x",
             b"SET @slave_uuid = '" + b"a" * n, b"SET @slave_uuid = 1" + one * (n // len(one)) + b"x",
             b"SET @slave_uuid = 1" + b" , @slave_uuid = ''" * (n // 20) + b" ,",
             b"SELECT BINLOG_GTID_POS('" + b"a" * n + b"'" + b" " * n, b"SET NAMES " + b"a" * n + b"'"):
    try:
        Policy("replication").judge(Query(text))
    except CommandDenied:
        continue
    raise SystemExit(f"admitted {text[:40]!r}")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime < 600


def test_a_long_list_of_gtids_is_admitted() -> None:
    state = ",".join(f"{domain}-1-{domain * 7}" for domain in range(20_000))
    authorise("replication", query(f"SET @slave_connect_state='{state}'"))
    assert len(state) < Policy("replication").command_limit_bytes


@pytest.mark.parametrize("text", ["SELECT * FROM t", "LOCK TABLES t READ", "SHOW MASTER STATUS", "DROP TABLE t"])
@pytest.mark.parametrize("policy", ["backup", "any"])
def test_other_policies_leave_queries_to_the_sources_grants(policy: str, text: str) -> None:
    assert authorise(policy, query(text)) == Query(text.encode())


@pytest.mark.parametrize("policy", POLICIES)
def test_a_change_of_user_is_refused_under_every_policy(policy: str) -> None:
    with pytest.raises(CommandDenied, match="COM_CHANGE_USER is refused on every route"):
        authorise(policy, bytes([Command.COM_CHANGE_USER]) + b"root\x00")


SPECIAL = {
    Command.COM_QUERY,
    Command.COM_CHANGE_USER,
    Command.COM_REGISTER_SLAVE,
    Command.COM_BINLOG_DUMP,
    Command.COM_BINLOG_DUMP_GTID,
}
BACKUP = {"COM_PING", "COM_QUIT", "COM_INIT_DB", "COM_FIELD_LIST", "COM_STATISTICS", "COM_CLONE", "COM_SET_OPTION"}


@pytest.mark.parametrize("command", [command for command in Command if command not in SPECIAL])
@pytest.mark.parametrize("policy", POLICIES)
def test_each_other_command_is_admitted_by_the_policies_that_name_it(policy: str, command: Command) -> None:
    admitted = policy == "any" or command.name in (BACKUP if policy == "backup" else {"COM_PING", "COM_QUIT"})
    if admitted:
        assert authorise(policy, bytes([command])) == OtherCommand(command)
    else:
        with pytest.raises(CommandDenied, match=re.escape(f"{command.name} is not part of the policy '{policy}'")):
            authorise(policy, bytes([command]))


@pytest.mark.parametrize("byte", [0x22, 0x80, 0xEF, 0xFE, 0xFF])
@pytest.mark.parametrize("policy", POLICIES)
def test_a_byte_that_begins_no_command_is_an_error_of_the_wire(policy: str, byte: int) -> None:
    with pytest.raises(WireError):
        authorise(policy, bytes([byte]))


ANNOUNCEMENTS = [RegisterReplica(server_id=7), BinlogDump(server_id=7), BinlogDumpGtid(server_id=7)]


@pytest.mark.parametrize("command", ANNOUNCEMENTS)
@pytest.mark.parametrize("policy", POLICIES)
def test_another_server_id_than_the_rosters_ends_the_session(policy: str, command: BinlogDump) -> None:
    with pytest.raises(SessionRefused) as refused:
        authorise(policy, command.serialize(), server_ids=(2, 3))
    assert (refused.value.stage, refused.value.reason) == (Stage.POLICY, Reason.SERVER_ID_NOT_ALLOWED)
    assert "2, 3, not 7" in refused.value.detail
    assert refused.value.answer is not None
    assert refused.value.answer.code == 1227


@pytest.mark.parametrize("command", ANNOUNCEMENTS)
@pytest.mark.parametrize("server_ids", [(7,), (1, 7), ()])
def test_a_server_id_of_the_roster_or_any_without_a_list_is_admitted(
    command: BinlogDump, server_ids: tuple[int, ...]
) -> None:
    assert authorise("replication", command.serialize(), server_ids=server_ids) == command


def test_a_denial_does_not_quote_the_query() -> None:
    with pytest.raises(CommandDenied) as denied:
        authorise("replication", query("SELECT 'hunter2'"))
    assert "hunter2" not in str(denied.value)
