"""What commands did, as lines for people and as values for `--json`."""

from collections.abc import Iterator, Sequence
from datetime import datetime

from certs.hints import hint_lines
from certs.inventory import Record, moment, table
from certs.issuing.authority import Authority
from certs.issuing.index import serial_text
from certs.issuing.leaves import IssuedLeaf
from certs.issuing.revocation import RevokedLeaf, SignedRevocationList
from certs.verifying.findings import Finding, Verdict, is_good

_COLOURS = {Verdict.PASS: "32", Verdict.WARN: "33", Verdict.FAIL: "31"}
_STATE_COLOURS = {"valid": "32", "ending": "33", "expired": "31", "revoked": "31"}


def leaf_record(leaf: IssuedLeaf, authority: Authority) -> Record:
    """An issued or renewed certificate."""
    record: Record = {
        "role": str(leaf.role),
        "names": leaf.subject.describe(),
        "certificate": str(leaf.certificate_file),
        "key": None if leaf.key_file is None else str(leaf.key_file),
        "ca": str(authority.files.certificate),
        "crl": str(authority.files.revocation_list),
        "serial": serial_text(leaf.certificate.serial_number),
        "not_before": moment(leaf.certificate.not_valid_before_utc),
        "not_after": moment(leaf.certificate.not_valid_after_utc),
    }
    return {**record, "kept": [str(path) for path in leaf.kept]} if leaf.kept else record


def leaf_lines(leaf: IssuedLeaf, authority: Authority, *, verb: str) -> Iterator[str]:
    """The same for people, with what to paste where."""
    certificate = leaf.certificate
    yield f"{verb} a {leaf.role} certificate for {', '.join(leaf.subject.describe())},"
    serial = serial_text(certificate.serial_number)
    yield f"good until {moment(certificate.not_valid_after_utc)}, serial {serial}:"
    yield f"  {leaf.certificate_file}"
    if leaf.key_file is not None:
        yield f"  {leaf.key_file}  to be moved to its host, for its owner alone to read"
    for path in leaf.kept:
        yield f"  {path}  the former one, which still counts"
    if verb == "Issued":
        yield from hint_lines(leaf, authority.files)


def list_record(signed: SignedRevocationList, authority: Authority) -> Record:
    """A signed revocation list."""
    record: Record = {
        "crl": str(authority.files.revocation_list),
        "number": signed.number,
        "this_update": moment(signed.validity.not_before),
        "next_update": moment(signed.validity.not_after),
    }
    return record if signed.parent_due is None else {**record, "parent_next_update": moment(signed.parent_due)}


def list_lines(signed: SignedRevocationList, authority: Authority) -> Iterator[str]:
    """The same for people."""
    yield f"Signed revocation list {signed.number} with {len(signed.serials)} on it, the next due by"
    yield f"{moment(signed.validity.not_after)}:"
    yield f"  {authority.files.revocation_list}  to go wherever the former one went"
    if signed.parent_due is not None:
        yield f"It has the list of the authority above too, the next due by {moment(signed.parent_due)}."


def revoked_record(revoked: RevokedLeaf, authority: Authority) -> Record:
    """A revocation and the list that says so."""
    entry = revoked.entry
    names: Record = {"role": str(entry.role), "names": entry.names, "serial": entry.serial}
    when: Record = {"revoked": None if entry.revoked is None else moment(entry.revoked)}
    return {**names, **when, **list_record(revoked.revocation_list, authority)}


def findings_record(findings: Sequence[Finding]) -> Record:
    """What `verify` came to."""
    return {
        "good": is_good(findings),
        "checks": [
            {"check": str(finding.check), "verdict": str(finding.verdict), "detail": finding.detail}
            for finding in findings
        ],
    }


def findings_lines(findings: Sequence[Finding], *, colours: bool) -> Iterator[str]:
    """The same for people: a line each."""
    rows = [(str(finding.verdict), str(finding.check), finding.detail) for finding in findings]
    for line, finding in zip(table(rows), findings, strict=True):
        yield _coloured(line, str(finding.verdict), _COLOURS[finding.verdict], colours=colours)


def authority_lines(record: Record, *, colours: bool) -> Iterator[str]:
    """What `show --dir` prints."""
    above = "".join(f" < {parent}" for parent in _texts(record["parents"]))
    yield f"{record['authority']}{above} ({record['key_type']}), until {record['not_after']}"
    due = record["crl_next_update"]
    yield f"revocation list {record['crl_number']}, " + (
        f"the next due by {due}" if due else "missing or damaged: sign it"
    )
    rows = [("STATE", "DAYS", "ROLE", "NAMES", "SERIAL")]
    for entry in _records(record["certificates"]):
        names = ", ".join(_texts(entry["names"])) or str(entry["label"])
        days = str(entry["days_left"]) if entry["state"] in {"valid", "ending"} else "-"
        rows.append((str(entry["state"]), days, str(entry["role"]), names, str(entry["serial"])))
    yield ""
    for line, row in zip(table(rows), rows, strict=True):
        yield _coloured(line, row[0], _STATE_COLOURS.get(row[0], "0"), colours=colours)


def file_lines(record: Record) -> Iterator[str]:
    """What `show FILE` prints for one thing in it."""
    yield f"{record['file']}: {record['kind']}"
    for key, value in record.items():
        if key in {"file", "kind"} or value in ([], None):
            continue
        yield f"  {key.replace('_', ' ')}: {', '.join(_texts(value)) if isinstance(value, list) else value}"


def due_line(due: datetime) -> str:
    """What `crl --if-due` says when there is nothing to do."""
    return f"Nothing to do: the first list is due by {moment(due)}."


def _coloured(line: str, word: str, colour: str, *, colours: bool) -> str:
    return line.replace(word, f"\033[{colour}m{word}\033[0m", 1) if colours else line


def _texts(value: object) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list) else []


def _records(value: object) -> list[Record]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
