"""What must hold at the end, check by check, from what was observed; no I/O."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

from testbed.demo.findings import Findings
from testbed.demo.links import LinkState
from testbed.demo.watch import PLAINTEXT, TLS, Seen

TLS_VERSIONS = frozenset({"TLSv1.2", "TLSv1.3"})


@dataclasses.dataclass(frozen=True)
class Check:
    """One thing that must hold."""

    name: str
    passed: bool
    detail: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReplicaEvidence:
    """What one replica had at the end.

    Attributes:
        state: its last state before anything was stopped.
        identity: whom the certificate must name.
        address: of its host on the network.
        rows: None when it could not be asked, as for `checksum`.
    """

    state: LinkState
    identity: str
    address: str
    rows: int | None
    checksum: int | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evidence:
    """All that was observed.

    Attributes:
        committed: rows that the load committed.
        load_error: what ended the load early; empty otherwise.
        source_rows: rows in the source's table.
        network: what crossed the network.
        network_error: what ended the capture early; empty otherwise.
        control: what the same look found on a loopback with plaintext.
        needles: the names of all that was searched for on the network.
        control_needles: those of them that the plaintext must contain.
        watch: what the monitor said of the network.
        control_watch: what another one said of the loopback with plaintext.
        defects: lines of the proxies' logs that must not be there.
        exit_statuses: of the proxies, by name, asked to stop.
    """

    committed: int
    load_error: str
    source_address: str
    source_rows: int
    source_checksum: int | None
    replicas: Sequence[ReplicaEvidence]
    network: Findings
    network_error: str
    control: Findings
    needles: Sequence[str]
    control_needles: Sequence[str]
    defects: Sequence[str]
    exit_statuses: Mapping[str, int | None]
    watch: Seen = dataclasses.field(default_factory=Seen)
    control_watch: Seen = dataclasses.field(default_factory=Seen)


def judge(evidence: Evidence) -> list[Check]:
    """Every check, in the order in which a person would ask."""
    return [
        _load(evidence),
        _replication(evidence),
        _identities(evidence),
        _rows(evidence),
        _checksums(evidence),
        _encrypted(evidence),
        _clear_bytes(evidence),
        _readable(evidence),
        _complete(evidence),
        _control(evidence),
        _monitor(evidence),
        _monitor_control(evidence),
        _proxies(evidence),
    ]


def _load(evidence: Evidence) -> Check:
    detail = f"{evidence.committed:,} rows committed, {evidence.source_rows:,} on the source"
    if evidence.load_error:
        detail += f"; ended early: {evidence.load_error}"
    passed = 0 < evidence.committed == evidence.source_rows and not evidence.load_error
    return Check("the source was written to", passed, detail)


def _replication(evidence: Evidence) -> Check:
    return _of_replicas(
        "replication runs on every replica",
        evidence,
        "Replica_IO_Running: Yes, Replica_SQL_Running: Yes",
        lambda replica: (
            ""
            if (replica.state.io_running, replica.state.sql_running) == ("Yes", "Yes")
            else f"Replica_IO_Running: {replica.state.io_running or '?'}, Replica_SQL_Running: "
            f"{replica.state.sql_running or '?'} {replica.state.errors}".rstrip()
        ),
    )


def _identities(evidence: Evidence) -> Check:
    def fault(replica: ReplicaEvidence) -> str:
        state = replica.state
        if state.identity != replica.identity:
            return f"seen as {state.identity or 'nobody'}, not as {replica.identity}"
        return "" if state.tls_version in TLS_VERSIONS else f"TLS version {state.tls_version or 'unknown'}"

    versions = sorted({f"{replica.state.tls_version} {replica.state.group}" for replica in evidence.replicas})
    return _of_replicas(
        "every replica is known by its certificate", evidence, f"mutual TLS, {', '.join(versions)}", fault
    )


def _rows(evidence: Evidence) -> Check:
    return _of_replicas(
        "no row is missing",
        evidence,
        f"{evidence.source_rows:,} on each replica",
        lambda replica: (
            "" if replica.rows == evidence.source_rows else f"{_number(replica.rows)} of {evidence.source_rows:,} rows"
        ),
    )


def _checksums(evidence: Evidence) -> Check:
    expected = evidence.source_checksum
    return _of_replicas(
        "checksums agree",
        evidence,
        f"CHECKSUM TABLE {expected} everywhere",
        lambda replica: (
            "" if expected is not None and replica.checksum == expected else f"{replica.checksum}, not {expected}"
        ),
    )


def _encrypted(evidence: Evidence) -> Check:
    def sent(replica: ReplicaEvidence) -> int:
        return evidence.network.encrypted.get((evidence.source_address, replica.address), 0)

    total = sum(map(sent, evidence.replicas))
    return _of_replicas(
        "encrypted replication crossed the network",
        evidence,
        f"{total:,} bytes of TLS application data from the source to the replicas",
        lambda replica: "" if sent(replica) else "no TLS application data from the source",
    )


def _clear_bytes(evidence: Evidence) -> Check:
    found = evidence.network
    detail = (
        f"{found.clear:,} of {found.payload:,} bytes of TCP payload in the clear, beside {found.before_tls:,} of "
        "greetings and SSLRequests, which MySQL sends before TLS"
    )
    return Check("no byte crossed in the clear", found.payload > 0 and found.clear == 0, detail)


def _readable(evidence: Evidence) -> Check:
    found = evidence.network.readable
    where = "".join(f"; {name}: {place}" for name, place in found.items())
    detail = f"{len(found)} of {len(evidence.needles)} known texts found{where or ' (' + _list(evidence.needles) + ')'}"
    return Check("nothing can be read in the packets", not found and bool(evidence.needles), detail)


def _complete(evidence: Evidence) -> Check:
    found = evidence.network
    detail = f"{found.packets:,} packets, {found.dropped:,} lost by the capture"
    if evidence.network_error:
        detail += f"; ended early: {evidence.network_error}"
    passed = found.packets > 0 and found.dropped == 0 and not evidence.network_error
    return Check("every packet was looked at", passed, detail)


def _control(evidence: Evidence) -> Check:
    """The same look must find everything where there is plaintext, or it proves nothing."""
    missed = [name for name in evidence.control_needles if name not in evidence.control.readable]
    seen = len(evidence.control_needles) - len(missed)
    detail = (
        f"on a replica's own loopback, in front of its proxy: {seen} of {len(evidence.control_needles)} texts found, "
        f"{evidence.control.clear:,} of {evidence.control.payload:,} bytes in the clear"
    )
    if missed:
        detail += f"; not found: {_list(missed)}"
    passed = bool(evidence.control_needles) and not missed and evidence.control.clear > 0
    return Check("the same look finds plaintext where it is", passed, detail)


def _monitor(evidence: Evidence) -> Check:
    seen = evidence.watch
    encrypted, others = seen.clients(TLS), {said for said in seen.verdicts.values() if said != TLS}
    missed = [replica.state.name for replica in evidence.replicas if replica.address not in encrypted]
    detail = f"{len(seen.verdicts)} flows, all {TLS}" if not others else f"flows that are {_list(sorted(others))}"
    if missed:
        detail += f"; none of {_list(missed)}"
    detail += f"; {seen.dropped:,} packets dropped{_complaints(seen)}"
    passed = bool(evidence.replicas) and not (missed or others or seen.dropped or _complaints(seen))
    return Check("the monitor finds every replica encrypted", passed, detail)


def _monitor_control(evidence: Evidence) -> Check:
    seen = evidence.control_watch
    found = seen.clients(PLAINTEXT)
    detail = (
        f"on a replica's own loopback, in front of its proxy: {len(found)} client of {len(seen.verdicts)} flows "
        f"replicates in the clear{_complaints(seen)}"
    )
    return Check("the monitor finds plaintext where it is", bool(found) and not _complaints(seen), detail)


def _complaints(seen: Seen) -> str:
    faults = [] if seen.exit_status == 0 else [f"ended with status {seen.exit_status}"]
    faults += [f"defect: {line[:300]}" for line in seen.defects[:3]]
    return "".join(f"; {fault}" for fault in faults)


def _proxies(evidence: Evidence) -> Check:
    faults = [f"{name} ended with status {status}" for name, status in evidence.exit_statuses.items() if status != 0]
    faults += [f"defect: {line[:300]}" for line in evidence.defects[:3]]
    detail = "; ".join(faults) or f"{len(evidence.exit_statuses)} proxies, no defect logged, stopped in order"
    return Check("the proxies had no defect", bool(evidence.exit_statuses) and not faults, detail)


def _of_replicas(name: str, evidence: Evidence, fine: str, fault: Callable[[ReplicaEvidence], str]) -> Check:
    """A check of every replica: `fault` says what is wrong with one, the empty text for nothing."""
    faults = [f"{replica.state.name}: {said}" for replica in evidence.replicas if (said := fault(replica))]
    return Check(name, bool(evidence.replicas) and not faults, "; ".join(faults) or fine)


def _number(value: int | None) -> str:
    return "?" if value is None else f"{value:,}"


def _list(names: Sequence[str]) -> str:
    return ", ".join(names)
