"""What is shown of a flow, and the table."""

import json
from datetime import UTC, datetime

from monitor.reporting.masking import Masking
from monitor.reporting.report import ORDER, Report, flow_fields, printable
from monitor.verdicts import Flow, TlsFacts, Verdict

PLAIN = Flow(
    1,
    "10.0.0.2:40000",
    "10.0.0.1:3306",
    Verdict.PLAINTEXT_REPLICATION,
    ["COM_BINLOG_DUMP_GTID"],
    mid_stream=False,
    is_compressed=True,
    packets=7,
    bytes=1234,
    first_seconds=1.5,
    last_seconds=2.25,
)
ENCRYPTED = Flow(
    2,
    "[2001:db8::2]:40001",
    "[2001:db8::1]:3306",
    Verdict.TLS,
    ["SSLRequest"],
    is_incomplete=True,
    tls=TlsFacts("TLSv1.2", "ECDHE", "", datetime(2031, 1, 1, tzinfo=UTC)),
)


def test_the_fields_are_those_of_the_contract() -> None:
    assert flow_fields(PLAIN, Masking()) == {
        "client": "10.0.0.2:40000",
        "server": "10.0.0.1:3306",
        "verdict": "plaintext-replication",
        "evidence": ["COM_BINLOG_DUMP_GTID"],
        "mid_stream": False,
        "incomplete": False,
        "compressed": True,
        "packets": 7,
        "bytes": 1234,
        "first_seen": "1970-01-01T00:00:01.500+00:00",
        "last_seen": "1970-01-01T00:00:02.250+00:00",
    }


def test_of_tls_only_what_was_seen_is_said() -> None:
    assert flow_fields(ENCRYPTED, Masking())["tls"] == {
        "version": "TLSv1.2",
        "cipher": "ECDHE",
        "certificate_not_after": "2031-01-01T00:00:00+00:00",
    }


def test_every_verdict_has_its_place() -> None:
    assert sorted(ORDER) == sorted(Verdict)


def table(*flows: Flow, is_coloured: bool = False, masking: Masking | None = None) -> list[str]:
    report = Report(masking or Masking())
    for flow in flows:
        report.add("one.pcap", flow)
    return list(report.lines(is_coloured=is_coloured, has_file_column=True))


def test_the_worst_comes_first_with_its_evidence_and_every_verdict_is_counted() -> None:
    lines = table(ENCRYPTED, PLAIN)
    assert " ".join(lines[0].split()) == "verdict client server TLS seen packets bytes first seen file"
    assert lines[1].startswith("plaintext-replication  10.0.0.2:40000")
    assert lines[2] == "    COM_BINLOG_DUMP_GTID"
    assert "joined late, packets lost" in lines[3]
    assert "TLSv1.2 ECDHE" in lines[3]
    assert [line.split() for line in lines[-5:]] == [
        ["1", "plaintext-replication"],
        ["0", "undecided"],
        ["0", "plaintext-client"],
        ["1", "tls"],
        ["0", "not-mysql"],
    ]


def test_nothing_is_coloured_unless_it_is_asked_for() -> None:
    assert "\x1b" not in "".join(table(PLAIN))
    coloured = table(PLAIN, is_coloured=True)
    assert coloured[1].startswith("\x1b[1;31mplaintext-replication")
    assert coloured[1].endswith("\x1b[0m")


def test_masking_reaches_fields_and_table() -> None:
    masking = Masking.fresh()
    said = json.dumps(flow_fields(PLAIN, masking)) + "".join(table(PLAIN, ENCRYPTED, masking=masking))
    assert "10.0.0" not in said
    assert "2001:db8" not in said
    assert masking.endpoint(PLAIN.client) in said


def test_rows_are_bounded_and_counts_are_not() -> None:
    report = Report(Masking())
    for _ in range(10_003):
        report.add("f", PLAIN)
    lines = list(report.lines(is_coloured=False, has_file_column=False))
    assert "... and 3 more: plaintext-replication" in lines
    assert lines[-5].split() == ["10003", "plaintext-replication"]


def test_no_file_name_moves_the_cursor() -> None:
    assert printable("a\x1b[2Jb") == r"a\x1b[2Jb"
    assert printable("grün.pcap") == "grün.pcap"
