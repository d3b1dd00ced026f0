"""The monitor's status page: what `/status` says, laid out for a person. Replication in the clear comes first."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from endpoint.page import NOTHING, Cell, Column, Document, Notice, Table, Tile, Tone
from endpoint.page.wording import shown_age, shown_bytes, shown_count, shown_duration, shown_number
from monitor.verdicts import Verdict

_Fields = dict[str, Any]

_MOST_NOTICES = 3
_MOST_EVIDENCE = 3
_TONES: dict[str, Tone] = {
    Verdict.PLAINTEXT_REPLICATION: "bad",
    Verdict.PLAINTEXT_CLIENT: "warn",
    Verdict.UNDECIDED: "warn",
    Verdict.TLS: "good",
    Verdict.NOT_MYSQL: "quiet",
}
_MARKS = {"mid_stream": "joined late", "incomplete": "packets lost", "compressed": "compressed"}


def monitor_page(facts: _Fields) -> Document:
    """The page that these facts make."""
    now = datetime.fromisoformat(facts["time"])
    ports = facts["ports"] if isinstance(facts["ports"], str) else ", ".join(map(str, facts["ports"]))
    plaintext = [flow for flow in facts["flows"] if flow["verdict"] == Verdict.PLAINTEXT_REPLICATION]
    others = [flow for flow in facts["flows"] if flow["verdict"] != Verdict.PLAINTEXT_REPLICATION]
    return Document(
        program="binlock-monitor",
        host=facts["host"],
        subtitle=(
            f"version {facts['version']}",
            f"up {shown_duration((now - datetime.fromisoformat(facts['started'])).total_seconds())}",
            f"ports of servers: {ports}",
        ),
        as_of=now,
        notices=tuple(_notices(facts, plaintext)),
        tiles=tuple(_tiles(facts, now)),
        tables=(
            _in_the_clear(plaintext, facts["plaintext_active"] - len(plaintext), now),
            _gone(facts, now),
            _others(others, facts["flows_left_out"] - (facts["plaintext_active"] - len(plaintext)), now),
            _verdicts(facts),
            _interfaces(facts),
        ),
        paths=("metrics", "flows", "status", "readyz"),
    )


def _notices(facts: _Fields, plaintext: list[_Fields]) -> list[Notice]:
    notices = [
        Notice(f"Replication in the clear: {flow['client']} reads from {flow['server']}, unencrypted.", "bad")
        for flow in plaintext[:_MOST_NOTICES]
    ]
    if facts["plaintext_active"] > len(notices):
        more = facts["plaintext_active"] - len(notices)
        notices.append(Notice(f"{shown_count(more, 'more replica reads', 'more replicas read')} in the clear.", "bad"))
    notices += [
        Notice(f"Interface {each['interface']} is down: nothing is seen there.", "bad")
        for each in facts["interfaces"]
        if not each["up"]
    ]
    dropping = [each["interface"] for each in facts["interfaces"] if each["dropped_recently"]]
    if dropping:
        notices.append(Notice(f"Packets of {', '.join(dropping)} were dropped within a minute: verdicts may be late."))
    if facts["flood"]:
        notices.append(Notice("A flood of openings is kept out: connections are seen from their first data on."))
    return notices


def _tiles(facts: _Fields, now: datetime) -> list[Tile]:
    active = {entry["verdict"]: entry["active"] for entry in facts["verdicts"]}
    interfaces = facts["interfaces"]
    up = sum(each["up"] for each in interfaces)
    dropped = sum(each["dropped"] for each in interfaces)
    is_dropping = any(each["dropped_recently"] for each in interfaces)
    return [
        _plaintext_tile(facts, now),
        Tile("Encrypted", shown_number(active[Verdict.TLS]), "connections in TLS, now", "good"),
        Tile(
            "Plaintext clients",
            shown_number(active[Verdict.PLAINTEXT_CLIENT]),
            "MySQL in the clear, no replication",
            "warn" if active[Verdict.PLAINTEXT_CLIENT] else "",
        ),
        Tile("Undecided", shown_number(active[Verdict.UNDECIDED]), "not enough seen yet"),
        Tile(
            "Interfaces",
            f"{up} of {len(interfaces)} up",
            ", ".join(each["interface"] for each in interfaces),
            "good" if up == len(interfaces) else "bad",
        ),
        Tile(
            "Packets dropped",
            shown_number(dropped),
            "within the last minute" if is_dropping else "since the start",
            "warn" if is_dropping else "good",
        ),
    ]


def _plaintext_tile(facts: _Fields, now: datetime) -> Tile:
    title, active = "Replication in the clear", facts["plaintext_active"]
    if active:
        return Tile(title, shown_number(active), "now", "bad")
    if facts["plaintext_gone"]:
        last = datetime.fromisoformat(facts["plaintext_gone"][0]["last_seen"])
        return Tile(title, "0", f"none now; last {shown_age(last, now)}", "warn")
    return Tile(title, "0", "none seen", "good")


_FLOW_COLUMNS = (
    Column("Verdict"),
    Column("Client"),
    Column("Server"),
    Column("Evidence"),
    Column("TLS"),
    Column("Seen", is_amount=True),
    Column("Last packet", is_amount=True),
)


def _in_the_clear(flows: list[_Fields], left_out: int, now: datetime) -> Table:
    return Table(
        key="in-the-clear",
        title="Replication in the clear, now",
        caption="Connections on which a replica reads a source's binlog unencrypted, the latest first.",
        columns=_FLOW_COLUMNS,
        rows=tuple(_flow(flow, now) for flow in flows),
        left_out=left_out,
        when_empty="None is seen.",
        is_loud=bool(flows),
    )


def _others(flows: list[_Fields], left_out: int, now: datetime) -> Table:
    return Table(
        key="flows",
        title="Other connections",
        caption="What wants attention first, and of that the latest.",
        columns=_FLOW_COLUMNS,
        rows=tuple(_flow(flow, now) for flow in flows),
        left_out=left_out,
        when_empty="No other connection is being watched.",
    )


def _flow(flow: _Fields, now: datetime) -> tuple[Cell, ...]:
    evidence = flow["evidence"]
    tls = flow.get("tls", {})
    first, last = (datetime.fromisoformat(flow[name]) for name in ("first_seen", "last_seen"))
    return (
        Cell(
            flow["verdict"],
            tuple(text for name, text in _MARKS.items() if flow[name]),
            _TONES[flow["verdict"]],
        ),
        Cell(flow["client"], is_code=True),
        Cell(flow["server"], is_code=True),
        _evidence(evidence),
        Cell(tls["version"], (tls.get("group", ""), tls.get("cipher", "").removeprefix("TLS_")))
        if "version" in tls
        else NOTHING,
        Cell(shown_bytes(flow["bytes"]), (shown_count(flow["packets"], "packet"),)),
        Cell(shown_age(last, now), (f"first {shown_age(first, now)}",), moment=last),
    )


def _evidence(evidence: list[str]) -> Cell:
    """What led to the verdict stands last."""
    if not evidence:
        return NOTHING
    *former, last = evidence[-_MOST_EVIDENCE:]
    return Cell(last, tuple(reversed(former)))


def _gone(facts: _Fields, now: datetime) -> Table:
    return Table(
        key="gone",
        title="Replication in the clear that is over",
        caption="Since the start, the latest first; one line for each replica's host and server.",
        columns=(
            Column("Client"),
            Column("Server"),
            Column("Evidence"),
            Column("First seen"),
            Column("Last seen"),
            Column("Connections", is_amount=True),
        ),
        rows=tuple(_gone_flow(flow, now) for flow in facts["plaintext_gone"]),
        when_empty="None was seen since the start.",
    )


def _gone_flow(flow: _Fields, now: datetime) -> tuple[Cell, ...]:
    first, last = (datetime.fromisoformat(flow[name]) for name in ("first_seen", "last_seen"))
    return (
        Cell(flow["client"], is_code=True),
        Cell(flow["server"], is_code=True),
        _evidence(flow["evidence"]),
        Cell(shown_age(first, now), moment=first),
        Cell(shown_age(last, now), moment=last),
        Cell(shown_number(flow["count"])),
    )


def _verdicts(facts: _Fields) -> Table:
    return Table(
        key="verdicts",
        title="Verdicts",
        caption="How many connections have which verdict, now and since the start, and how much they carried.",
        columns=(
            Column("Verdict"),
            Column("Now", is_amount=True),
            Column("Since the start", is_amount=True),
            Column("Payload", is_amount=True),
        ),
        rows=tuple(
            (
                Cell(entry["verdict"], tone=_TONES[entry["verdict"]] if entry["active"] else "quiet"),
                Cell(shown_number(entry["active"])),
                Cell(shown_number(entry["total"])),
                Cell(shown_bytes(entry["bytes"])),
            )
            for entry in facts["verdicts"]
        ),
    )


def _interfaces(facts: _Fields) -> Table:
    return Table(
        key="interfaces",
        title="Interfaces",
        caption="Where packets are captured. The kernel passes on what it takes to judge, not the bulk.",
        columns=(
            Column("Interface"),
            Column("State"),
            Column("Packets looked at", is_amount=True),
            Column("Dropped", is_amount=True),
        ),
        rows=tuple(
            (
                Cell(each["interface"], is_code=True),
                Cell("up", tone="good") if each["up"] else Cell("down", tone="bad"),
                Cell(shown_number(each["packets"])),
                Cell(
                    shown_number(each["dropped"]),
                    ("within the last minute" if each["dropped_recently"] else "",),
                    "warn" if each["dropped_recently"] else "",
                ),
            )
            for each in facts["interfaces"]
        ),
    )
