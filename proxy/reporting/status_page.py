"""The proxy's status page: what `/status` says, laid out for a person."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from endpoint.page import NOTHING, Cell, Column, Document, Notice, Table, Tile, Tone
from endpoint.page.wording import (
    shown_age,
    shown_bytes,
    shown_count,
    shown_duration,
    shown_moment,
    shown_number,
)

_Fields = dict[str, Any]

# The days at which the alerts begin. A CRL is renewed every few weeks, so that a month would always be near.
_SOON_DAYS = {"crl": 7}
_URGENT_DAYS = {"crl": 1}
_SOON_DAYS_OTHERWISE, _URGENT_DAYS_OTHERWISE = 30, 7
# A refusal is news for so long.
_NEWS_SECONDS = 600
_PROTECTIONS: dict[str, tuple[str, Tone]] = {
    "mutual-tls": ("mutual TLS", "good"),
    "unix-socket": ("unix socket", "good"),
    "loopback": ("plaintext on loopback", ""),
    "unsafe-plaintext": ("unsafe: plaintext", "bad"),
}
_OUTCOMES: dict[str, tuple[str, Tone]] = {
    "refused": ("refused", "bad"),
    "ended": ("session ended", "bad"),
    "command_refused": ("command refused", "warn"),
    "would_refuse": ("let pass: observed only", "warn"),
}
_KINDS = {"crl": "CRL", "certificate": "own certificate", "intermediate": "intermediate", "authority": "authority"}


def proxy_page(facts: _Fields) -> Document:
    """The page that these facts make."""
    now = datetime.fromisoformat(facts["time"])
    return Document(
        program="binlock-proxy",
        host=facts["host"],
        subtitle=(
            f"version {facts['version']}",
            facts["openssl"],
            f"up {shown_duration((now - datetime.fromisoformat(facts['started'])).total_seconds())}",
        ),
        as_of=now,
        notices=tuple(_notices(facts)),
        tiles=tuple(_tiles(facts, now)),
        tables=(
            _sessions(facts, now),
            _routes(facts),
            _certificates(facts),
            _last_refusals(facts, now),
            _refusals(facts),
        ),
        paths=("metrics", "sessions", "status", "readyz"),
    )


def _notices(facts: _Fields) -> list[Notice]:
    notices: list[Notice] = []
    if facts["state"] != "serving":
        notices.append(Notice(f"No replica is accepted: the proxy is {facts['state']}."))
    if error := facts["configuration"]["reload_error"]:
        since = datetime.fromisoformat(facts["configuration"]["in_force_since"])
        notices.append(
            Notice(f"The last reload failed, and the configuration of {shown_moment(since)} goes on: {error}", "bad")
        )
    observing = [route["route"] for route in facts["routes"] if not route["enforce"]]
    if observing:
        notices.append(
            Notice(f"{_listed(observing)}: observed only. Roster, account, server id and policy refuse nothing there.")
        )
    return notices


def _listed(names: list[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _tiles(facts: _Fields, now: datetime) -> list[Tile]:
    routes = facts["routes"]
    known = sum(route["replicas"] for route in routes)
    streaming = sum(route["replicas_streaming"] for route in routes)
    absent = [name for route in routes for name in route["replicas_absent"]]
    sessions = len(facts["sessions"]) + facts["sessions_left_out"]
    error = facts["configuration"]["reload_error"]
    in_force = datetime.fromisoformat(facts["configuration"]["in_force_since"])
    return [
        Tile(
            "Replicas that stream",
            f"{shown_number(streaming)} of {shown_number(known)}",
            f"absent: {_listed(absent, 3)}" if absent else "all of the roster",
            "warn" if absent else "good",
        ),
        Tile("Open sessions", shown_number(sessions), shown_count(len(routes) + facts["routes_left_out"], "route")),
        _refusals_tile(facts, now),
        _expiry_tile(facts),
        Tile(
            "Configuration",
            "reload failed" if error else "in force",
            f"since {shown_moment(in_force)}",
            "bad" if error else "good",
        ),
    ]


def _refusals_tile(facts: _Fields, now: datetime) -> Tile:
    title = "Refused since the start"
    count = sum(entry["count"] for entry in facts["refusals"] if entry["outcome"] != "would_refuse")
    last = [entry for entry in facts["last_refusals"] if entry["outcome"] != "would_refuse"]
    if not last:
        return Tile(title, shown_number(count), "nothing to tell of" if count else "none yet", "good")
    moment = datetime.fromisoformat(last[0]["last"])
    is_news = (now - moment).total_seconds() < _NEWS_SECONDS
    return Tile(title, shown_number(count), f"last {shown_age(moment, now)}", "warn" if is_news else "")


def _expiry_tile(facts: _Fields) -> Tile:
    title = "Next expiry"
    dated = [entry for entry in facts["certificates"] if "days_left" in entry]
    if not dated:
        return Tile(title, "none", "no certificate is configured")
    # The worst is not always the nearest: a CRL may be renewed more often than a certificate.
    worst = max(dated, key=lambda entry: (("good", "warn", "bad").index(_expiry_tone(entry)), -entry["days_left"]))
    return Tile(title, _days(worst["days_left"]), f"{_KINDS[worst['kind']]} {worst['name']}", _expiry_tone(worst))


def _expiry_tone(entry: _Fields) -> Tone:
    days = entry["days_left"]
    if days < _URGENT_DAYS.get(entry["kind"], _URGENT_DAYS_OTHERWISE):
        return "bad"
    return "warn" if days < _SOON_DAYS.get(entry["kind"], _SOON_DAYS_OTHERWISE) else "good"


def _days(days: float) -> str:
    if days < 0:
        return "expired"
    return shown_count(int(days), "day") if days >= 1 else f"{days * 24:.0f} h"


def _sessions(facts: _Fields, now: datetime) -> Table:
    routes = {route["route"]: route for route in facts["routes"]}
    return Table(
        key="sessions",
        title="Sessions",
        caption="Each connection of a replica: who it is, how each leg is encrypted, and how far its stream has come.",
        columns=(
            Column("Replica"),
            Column("Peer"),
            Column("Stage"),
            Column("Replica leg"),
            Column("Source leg"),
            Column("Binlog position"),
            Column("Last event"),
            Column("Sent", is_amount=True),
            Column("Open for", is_amount=True),
        ),
        rows=tuple(_session(session, routes, now) for session in facts["sessions"]),
        left_out=facts["sessions_left_out"],
        when_empty="Nobody is connected.",
    )


def _session(session: _Fields, routes: dict[str, _Fields], now: datetime) -> tuple[Cell, ...]:
    replica, identity = session.get("replica", ""), session.get("identity", "")
    account = f"{session['account']}" if "account" in session else ""
    server_id = f"server id {session['server_id']}" if "server_id" in session else ""
    objections = [f"observed: {reason.replace('_', ' ')}" for reason in session.get("would_refuse", ())]
    stage, route = session["stage"], routes.get(session["route"], {})
    return (
        Cell(
            replica or identity or "not known yet",
            (identity if identity != replica else "", ", ".join(filter(None, (account, server_id)))),
        ),
        Cell(session["peer"], (f"route {session['route']}", f"via {session['via']}" if "via" in session else "")),
        Cell(
            "streaming" if stage == "relay" else stage,
            tuple(objections),
            "warn" if objections else "good" if stage == "relay" else "quiet",
        ),
        _leg(session, "replica", route),
        _leg(session, "source", route),
        _position(session),
        _last_event(session, now),
        Cell(shown_bytes(session["bytes_to_replica"]), (session.get("compression", ""),)),
        Cell(
            shown_duration(session["age_seconds"]),
            (f"since {datetime.fromisoformat(session['started']):%d %b %H:%M}",),
            moment=datetime.fromisoformat(session["started"]),
        ),
    )


def _leg(session: _Fields, leg: str, route: _Fields) -> Cell:
    version = session.get(f"{leg}_tls_version")
    if version is None:
        # Before the handshake nothing can be said.
        if session["stage"] != "relay":
            return NOTHING
        # The route may be gone, or another one by now.
        protection = route.get(f"{leg}_leg", "mutual-tls")
        if protection == "mutual-tls":
            return Cell("plaintext", tone="warn")
        text, tone = _PROTECTIONS[protection]
        return Cell(text, tone="" if tone == "good" else tone)
    return Cell(
        version, (session.get(f"{leg}_tls_group", ""), session.get(f"{leg}_tls_cipher", "").removeprefix("TLS_"))
    )


def _position(session: _Fields) -> Cell:
    if "binlog_file" not in session:
        return NOTHING
    position = shown_number(session["binlog_position"])
    return Cell(session["binlog_file"], (f"at {position}", f"{session['events_per_second']:g} events/s"), is_code=True)


def _last_event(session: _Fields, now: datetime) -> Cell:
    if "last_active" not in session:
        return NOTHING
    kind = session.get("last_event_type", "")
    active = datetime.fromisoformat(session["last_active"])
    if "last_event" not in session:
        return Cell(shown_age(active, now), (kind,), moment=active)
    made = datetime.fromisoformat(session["last_event"])
    return Cell(shown_age(active, now), (kind, f"made {shown_age(made, now)}"), moment=active)


def _routes(facts: _Fields) -> Table:
    return Table(
        key="routes",
        title="Routes",
        caption="Where replicas connect, the source behind, what is enforced, and what protects each leg.",
        columns=(
            Column("Route"),
            Column("Listens on"),
            Column("Replica leg"),
            Column("Source"),
            Column("Source leg"),
            Column("Policy"),
            Column("Mode"),
            Column("Replicas", is_amount=True),
        ),
        rows=tuple(_route(route) for route in facts["routes"]),
        left_out=facts["routes_left_out"],
    )


def _route(route: _Fields) -> tuple[Cell, ...]:
    absent = route["replicas_absent"]
    return (
        Cell(route["route"]),
        Cell(route["listen"], is_code=True),
        _protection(route, "replica"),
        Cell(route["source"], is_code=True),
        _protection(route, "source"),
        Cell(route["policy"]),
        Cell("enforce", tone="good") if route["enforce"] else Cell("observe only", tone="warn"),
        Cell(
            f"{route['replicas_streaming']} of {route['replicas']}",
            (f"absent: {_listed(absent)}" if absent else "", shown_count(route["sessions"], "session")),
        ),
    )


def _protection(route: _Fields, leg: str) -> Cell:
    text, tone = _PROTECTIONS[route[f"{leg}_leg"]]
    notes = {None: "", True: "with CRLs", False: "without CRLs"}
    return Cell(text, (notes[route[f"{leg}_leg_crl"]],), tone)


def _certificates(facts: _Fields) -> Table:
    return Table(
        key="certificates",
        title="Certificates and CRLs",
        caption="Everything configured that expires, the first to expire first.",
        columns=(Column("Name"), Column("Kind"), Column("Used by"), Column("Until"), Column("Left", is_amount=True)),
        rows=tuple(_certificate(entry) for entry in facts["certificates"]),
        left_out=facts["certificates_left_out"],
        when_empty="No leg has TLS.",
    )


def _certificate(entry: _Fields) -> tuple[Cell, ...]:
    used_by = tuple(entry["used_by"])
    name = Cell(entry["name"])
    kind = Cell(_KINDS[entry["kind"]])
    users = Cell(used_by[0], used_by[1:4] + ((f"and {len(used_by) - 4} more",) if len(used_by) > 4 else ()))
    if "until" not in entry:
        return name, kind, users, Cell("no date"), NOTHING
    until = datetime.fromisoformat(entry["until"])
    return (
        name,
        kind,
        users,
        Cell(shown_moment(until), moment=until),
        Cell(_days(entry["days_left"]), tone=_expiry_tone(entry)),
    )


def _last_refusals(facts: _Fields, now: datetime) -> Table:
    return Table(
        key="last-refusals",
        title="Last refused",
        caption="The latest first; the same objection to the same address is one line. The log has each.",
        columns=(
            Column("When"),
            Column("Peer"),
            Column("Outcome"),
            Column("Stage and reason"),
            Column("Detail"),
            Column("Times", is_amount=True),
        ),
        rows=tuple(_refusal(entry, now) for entry in facts["last_refusals"]),
        when_empty="Nobody was refused.",
    )


def _refusal(entry: _Fields, now: datetime) -> tuple[Cell, ...]:
    outcome, tone = _OUTCOMES[entry["outcome"]]
    last = datetime.fromisoformat(entry["last"])
    who = (entry.get("replica") or entry.get("identity", ""), entry.get("account", ""))
    return (
        Cell(shown_age(last, now), (f"{last:%H:%M:%S} UTC",), moment=last),
        Cell(entry["peer"], (f"route {entry['route']}", ", ".join(filter(None, who)))),
        Cell(outcome, tone=tone),
        Cell(entry["reason"].replace("_", " "), (entry["stage"],)),
        Cell(entry.get("detail", "")),
        Cell(shown_number(entry["count"])),
    )


def _refusals(facts: _Fields) -> Table:
    return Table(
        key="refusals",
        title="Refused since the start",
        caption="By stage and reason, the most frequent first.",
        columns=(
            Column("Reason"),
            Column("Stage"),
            Column("Route"),
            Column("Outcome"),
            Column("Times", is_amount=True),
        ),
        rows=tuple(
            (
                Cell(entry["reason"].replace("_", " ")),
                Cell(entry["stage"]),
                Cell(entry["route"]),
                Cell(_OUTCOMES[entry["outcome"]][0]),
                Cell(shown_number(entry["count"])),
            )
            for entry in facts["refusals"]
        ),
        left_out=facts["refusals_left_out"],
        when_empty="Nothing was refused.",
    )
