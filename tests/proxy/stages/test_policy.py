"""Stage 7: what a replica may ask before its dump, and every trick that must not pass for it."""

import re
import subprocess
import sys

import pytest

from proxy.configuration.config import PolicyName
from proxy.outcomes import Reason, SessionRefused, Stage
from proxy.stages.policy import CommandDenied, Policy, authorise_server_id, shape_of
from tests.proxy.bench import enforced, entry
from tests.proxy.stages.query_lists import REPLICAS, TRICKS
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


def authorise(
    policy: str, payload: bytes, capabilities: Capability = NO_CAPABILITIES, *, server_ids: tuple[int, ...] = ()
) -> ParsedCommand:
    command = parse_command(payload, capabilities)
    Policy(policy).begin().judge(command)  # type: ignore[arg-type]
    if isinstance(command, RegisterReplica | BinlogDump | BinlogDumpGtid):
        authorise_server_id(
            command.server_id, entry=entry(server_ids=server_ids), registered=None, objections=enforced()
        )
    return command


def query(text: str | bytes) -> bytes:
    return b"\x03" + (text if isinstance(text, bytes) else text.encode())


@pytest.mark.parametrize("text", REPLICAS)
@pytest.mark.parametrize("policy", POLICIES)
def test_admits_what_a_replicas_io_thread_asks(policy: str, text: str) -> None:
    assert authorise(policy, query(text)) == Query(text.encode())


@pytest.mark.parametrize("text", REPLICAS)
def test_keywords_and_variables_are_read_without_case(text: str) -> None:
    authorise("replication", query(text.lower()))
    authorise("replication", query(text.upper()))


@pytest.mark.parametrize("text", TRICKS)
def test_refuses_everything_else(text: str) -> None:
    with pytest.raises(CommandDenied, match="I/O thread"):
        authorise("replication", query(text))


@pytest.mark.parametrize("text", REPLICAS)
@pytest.mark.parametrize(
    "tail", [b";", b"; DROP TABLE t", b" -- x", b"#", b"/*", b"\x00", b",1", b" UNION SELECT 1", b")"]
)
def test_nothing_may_follow_an_admitted_query(text: str, tail: bytes) -> None:
    with pytest.raises(CommandDenied):
        authorise("replication", query(text.encode() + tail))


@pytest.mark.parametrize("text", REPLICAS)
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
from proxy.stages.policy import CommandDenied, Policy
from wire.commands import Query
n = 1 << 20
one = b", @slave_uuid = 1"
for text in (b" " * n, b"\\n" * n + b"x", b"SELECT" + b" " * n, b"SET @slave_uuid" + b" " * n + b"x",
             b"SET @slave_uuid = 1" + b" " * n + b"x", b"SET @slave_uuid = " + b"1" * n + b"x",
             b"SET @slave_uuid = '" + b"a" * n, b"SET @slave_uuid = 1" + one * (n // len(one)) + b"x",
             b"SET @slave_uuid = 1" + b" , @slave_uuid = ''" * (n // 20) + b" ,",
             b"SELECT BINLOG_GTID_POS('" + b"a" * n + b"'" + b" " * n, b"SET NAMES " + b"a" * n + b"'"):
    try:
        Policy("replication").begin().judge(Query(text))
    except CommandDenied:
        continue
    raise SystemExit(f"admitted {text[:40]!r}")
"""
    # Beyond its twenty seconds the kernel ends it.
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr


def test_a_long_list_of_gtids_is_admitted() -> None:
    state = ",".join(f"{domain}-1-{domain * 7}" for domain in range(20_000))
    authorise("replication", query(f"SET @slave_connect_state='{state}'"))
    assert len(state) < Policy("replication").begin().command_limit_bytes


@pytest.mark.parametrize("text", ["SELECT * FROM t", "LOCK TABLES t READ", "SHOW MASTER STATUS", "SET NAMES utf8mb4"])
@pytest.mark.parametrize("policy", ["backup", "any"])
def test_reading_rows_is_for_other_policies(policy: str, text: str) -> None:
    assert authorise(policy, query(text)) == Query(text.encode())
    if text != "SET NAMES utf8mb4":
        with pytest.raises(CommandDenied):
            authorise("replication", query(text))


@pytest.mark.parametrize("text", ["DROP TABLE t", "", "SELECT 1; DROP TABLE t", "KILL 7", "\xff"])
def test_any_leaves_queries_to_the_sources_grants(text: str) -> None:
    assert authorise("any", query(text)) == Query(text.encode())


@pytest.mark.parametrize("policy", ["replication", "backup"])
@pytest.mark.parametrize("text", ["KILL 42", "kill connection 42", " KILL\t42 ", "KILL 00042"])
def test_a_replica_may_kill_its_own_thread_alone(policy: PolicyName, text: str) -> None:
    asked: list[int] = []

    def may_kill(thread_id: int) -> bool:
        asked.append(thread_id)
        return thread_id == 42

    Policy(policy).begin(may_kill=may_kill).judge(Query(text.encode()))
    with pytest.raises(CommandDenied, match="KILL is for the threads of the same roster entry's own sessions"):
        Policy(policy).begin(may_kill=may_kill).judge(Query(text.replace("42", "43").encode()))
    assert asked == [42, 43]


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
BACKUP = {
    "COM_PING",
    "COM_QUIT",
    "COM_INIT_DB",
    "COM_FIELD_LIST",
    "COM_STATISTICS",
    "COM_CLONE",
    "COM_RESET_CONNECTION",
}


@pytest.mark.parametrize("command", [command for command in Command if command not in SPECIAL])
@pytest.mark.parametrize("policy", POLICIES)
def test_each_other_command_is_admitted_by_the_policies_that_name_it(policy: str, command: Command) -> None:
    admitted = policy == "any" or command.name in (BACKUP if policy == "backup" else {"COM_PING", "COM_QUIT"})
    if admitted:
        assert authorise(policy, bytes([command])) == OtherCommand(command)
    else:
        with pytest.raises(CommandDenied, match=re.escape(f"{command.name} is not part of the policy '{policy}'")):
            authorise(policy, bytes([command]))


@pytest.mark.parametrize("argument", [b"", b"\x01", b"\x03", b"\x02\x00", b"\xff"])
def test_refresh_is_for_the_logs_alone(argument: bytes) -> None:
    assert authorise("backup", b"\x07\x02") == OtherCommand(Command.COM_REFRESH, b"\x02")
    with pytest.raises(CommandDenied, match="COM_REFRESH"):
        authorise("backup", b"\x07" + argument)


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


SECRETS = [
    "SET PASSWORD = 'hunter2'", "hunter2", "SELECT hunter2()", "SET hunter2 = 1", "SET NAMES 'hunter2'", "/*hunter2",
    "hunter2 hunter2", "SELECT 'hunter2", "DROP USER hunter2", "SELECT 1; hunter2", "SELECT 1 INTO OUTFILE 'hunter2'",
]  # fmt: skip


@pytest.mark.parametrize("policy", ["replication", "backup"])
@pytest.mark.parametrize("text", SECRETS)
def test_neither_a_denial_nor_its_shape_quotes_the_query(policy: str, text: str) -> None:
    with pytest.raises(CommandDenied) as denied:
        authorise(policy, query(text))
    assert "hunter2" not in str(denied.value).lower()
    assert "hunter2" not in shape_of(text.encode()).lower()


@pytest.mark.parametrize(
    ("text", "shape"),
    [
        ("DROP DATABASE secret", "DROP DATABASE"),
        ("set\n global x=1", "SET GLOBAL"),
        ("SHOW FULL PROCESSLIST", "SHOW FULL PROCESSLIST"),
        ("LOAD DATA LOCAL INFILE 'x'", "LOAD DATA LOCAL"),
        ("DROP" + " " * 100 + "DATABASE", "DROP"),
        ("/*!50000 DROP", "other"),
        ("SELECT(1)", "other"),
        ("\xff", "other"),
        ("", "other"),
    ],
)
def test_the_shape_of_a_query_is_its_first_words(text: str, shape: str) -> None:
    assert shape_of(text.encode()) == shape
