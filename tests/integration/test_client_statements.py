"""What other people's clients send of themselves, what Binlock admits of it, and how they show a refusal."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from proxy.stages.policy import CommandDenied, Policy
from testbed.flavours import Flavour
from tests.integration.clients.facts import QUERIES, QUERY_CLIENTS, READERS, SENDS, Client
from tests.integration.clients.programs import ClientError, ClientPrograms
from tests.integration.clients.stand import Stand
from wire.commands import BinlogDump, BinlogDumpGtid, Command, OtherCommand, ParsedCommand, Query, RegisterReplica

StartStand = Callable[[Flavour], Stand]
REFUSED = "Binlock: this route admits only what a replica's I/O thread asks"
QUERY = "SELECT 'what the client was told to ask' AS question"

for_each_reader = pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)
for_each_flavour = pytest.mark.parametrize(
    "client_stand", list(Flavour), indirect=True, ids=lambda flavour: flavour.value
)


def asked_by(stand: Stand, clients: ClientPrograms, client: Client) -> list[ParsedCommand]:
    """What a query client sends for one query."""
    mark = stand.proxy.mark()
    clients.query(client, stand.target("recorded"), QUERY)
    stand.end_of("recorded", mark)
    return stand.recorder.commands()


def read_by(stand: Stand, clients: ClientPrograms, reader: Client, mode: str) -> list[ParsedCommand]:
    """What a reader sends, on both its connections, from its start to its end."""
    table, mark = stand.table(), stand.proxy.mark()
    options = stand.from_here(reader, "end" if mode == "announced" else mode)
    if mode == "announced":
        uuid = "a0a0a0a0-0000-4000-8000-000000000001"
        options |= {"slave_uuid": uuid, "slave_heartbeat": 10, "report_slave": "reader.example"}
    with clients.reading(reader, stand.target("recorded"), table.schema, rows=3, **options) as stream:
        started = stand.proxy.wait_for_event("stream_started", after=mark)
        table.insert()
        table.assert_are(stream.rows(3))
    stand.proxy.wait_for_end(started["session"])
    return stand.recorder.commands()


def named(command: ParsedCommand) -> str:
    """The text of a query; the name of any other command."""
    if isinstance(command, Query):
        return command.text.decode()
    return command.command.name if isinstance(command, OtherCommand) else Command.COM_REGISTER_SLAVE.name


def of_itself(commands: list[ParsedCommand]) -> list[ParsedCommand]:
    """Without what the client is there for, and without its goodbye."""
    return [
        command
        for command in commands
        if not isinstance(command, BinlogDump | BinlogDumpGtid) and named(command) not in {QUERY, "COM_QUIT"}
    ]


def assert_just(sent: set[str], patterns: tuple[str, ...]) -> None:
    """Everything that was sent is among the patterns, and each of those was seen."""
    assert [text for text in sent if not any(re.fullmatch(pattern, text) for pattern in patterns)] == []
    assert [pattern for pattern in patterns if not any(re.fullmatch(pattern, text) for text in sent)] == []


@pytest.mark.parametrize("client", QUERY_CLIENTS, ids=lambda client: client.name)
def test_a_client_sends_just_this_before_its_query(
    start_stand: StartStand, clients: ClientPrograms, client: Client
) -> None:
    sent = [asked_by(start_stand(flavour), clients, client) for flavour in Flavour]
    assert all(named(command) in {QUERY, "COM_QUIT"} for commands in sent for command in commands[-2:])
    assert_just({named(command) for commands in sent for command in of_itself(commands)}, SENDS[client])


@for_each_reader
def test_a_reader_sends_just_this_before_its_dump_and_needs_just_these_queries(
    start_stand: StartStand, clients: ClientPrograms, reader: Client
) -> None:
    modes = ["gtid", "file", "end", *(["announced"] if reader is Client.PYTHON_MYSQL_REPLICATION else [])]
    commands = [
        command
        for flavour in Flavour
        for mode in modes
        for command in of_itself(read_by(start_stand(flavour), clients, reader, mode))
    ]
    assert_just({named(command) for command in commands}, SENDS[reader])
    refused = {named(command) for command in commands if not is_admitted(command)}
    assert [text for text in refused if not matches(text, QUERIES[reader])] == []
    assert [query for query in QUERIES[reader] if not any(matches(text, (query,)) for text in refused)] == []


def is_admitted(command: ParsedCommand) -> bool:
    """By the policy `replication` alone."""
    try:
        Policy("replication").begin(may_kill=lambda _: True).judge(command)
    except CommandDenied:
        return isinstance(command, RegisterReplica)
    return True


def matches(text: str, queries: tuple[str, ...]) -> bool:
    """As the key `queries` does it."""
    return any(re.fullmatch(query, text, re.IGNORECASE) for query in queries)


@pytest.mark.parametrize("client", QUERY_CLIENTS, ids=lambda client: client.name)
@for_each_flavour
def test_a_query_that_is_not_a_replicas_is_refused_in_words_that_the_client_shows(
    client_stand: Stand, clients: ClientPrograms, client: Client
) -> None:
    mark = client_stand.proxy.mark()
    with pytest.raises(ClientError, match=REFUSED) as raised:
        clients.query(client, client_stand.target("strict"), QUERY)
    assert raised.value.code == 1227
    # The session goes on; it is the client that leaves.
    refused = client_stand.proxy.wait_for_event("command_refused", after=mark)
    assert client_stand.proxy.wait_for_end(refused["session"])["route"] == "strict"


@for_each_reader
@for_each_flavour
def test_a_reader_without_its_queries_is_refused_in_words_that_it_shows(
    client_stand: Stand, clients: ClientPrograms, reader: Client
) -> None:
    options = client_stand.from_here(reader, "file")
    with clients.reading(reader, client_stand.target("strict"), "none", rows=1, **options) as stream:
        with pytest.raises(ClientError, match=REFUSED) as raised:
            stream.rows(1)
        assert raised.value.code == 1227


@for_each_flavour
def test_without_full_row_metadata_zongji_prepares_a_statement_which_only_any_admits(
    client_stand: Stand, clients: ClientPrograms
) -> None:
    table = client_stand.table()
    # The route of the query clients has the policy `backup`.
    target, options = client_stand.target("source-side-unix"), client_stand.from_here(Client.ZONGJI, "file")
    client_stand.source.sql("SET GLOBAL binlog_row_metadata = MINIMAL")
    try:
        table.insert()
    finally:
        client_stand.source.sql("SET GLOBAL binlog_row_metadata = FULL")
    with clients.reading(Client.ZONGJI, target, table.schema, rows=3, **options) as stream:
        with pytest.raises(ClientError, match="Binlock: COM_STMT_PREPARE is not part of the policy 'backup'") as raised:
            stream.rows(3)
        assert raised.value.code == 1227
