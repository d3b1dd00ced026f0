"""The documents stay true.

docs/refusals.md has every reason that there is, and for each there is a test, named here. The tables of
docs/authentication.md are those that tests/integration/test_authentication_table.py runs. docs/replication.md names its
tests itself.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from proxy.outcomes import ENDINGS, ERROR_NUMBERS, Reason, Stage
from proxy.outcomes import REFUSALS as KNOWN_REFUSALS
from tests.integration.authentication_table import ROWS, table_of_legs, table_of_peers

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "refusals.md"
LOGINS = ROOT / "docs" / "authentication.md"
REFUSALS, TRUST = "integration/test_refusals.py", "integration/test_trust.py"
BY_PEERS = "integration/test_refusals_by_peers.py"
SESSION_COMMANDS = "proxy/test_session_commands.py"
SESSION_REFUSALS = "proxy/test_session_refusals.py"
SESSION_SILENCE = "proxy/test_session_silence.py"
SESSION_STREAM = "proxy/test_session_stream.py"
_FALLS = (TRUST, "test_what_a_reload_drops_ends_and_what_it_brings_back_returns")
_SOURCE_FALLS = (TRUST, "test_the_sources_certificate_is_judged_while_the_stream_runs_too")

REFUSED = {
    Reason.ADDRESS_NOT_ALLOWED: (REFUSALS, "test_an_address_outside_the_allowlist"),
    Reason.TOO_MANY_SESSIONS: (
        "integration/test_admission.py",
        "test_a_flood_of_connections_that_trickle_keeps_no_replica_out",
    ),
    Reason.SOURCE_UNREACHABLE: (REFUSALS, "test_a_source_that_is_down"),
    Reason.SOURCE_REFUSED: (BY_PEERS, "test_a_source_that_turns_the_connection_away"),
    Reason.SOURCE_WITHOUT_TLS: (BY_PEERS, "test_a_source_whose_tls_is_off"),
    Reason.SOURCE_NAME_MISMATCH: (REFUSALS, "test_a_source_whose_certificate_has_another_name"),
    Reason.SOURCE_TLS_FAILED: _SOURCE_FALLS,
    Reason.PLAINTEXT_REFUSED: (REFUSALS, "test_a_replica_that_stays_in_plaintext"),
    Reason.CERTIFICATE_MISSING: (REFUSALS, "test_no_certificate"),
    Reason.CERTIFICATE_UNTRUSTED: (REFUSALS, "test_a_certificate_of_another_authority"),
    Reason.CERTIFICATE_REFUSED: (BY_PEERS, "test_a_certificate_that_is_not_for_clients"),
    Reason.CERTIFICATE_EXPIRED: (TRUST, "test_a_session_ends_when_its_certificate_expires"),
    Reason.CERTIFICATE_REVOKED: (TRUST, "test_a_revoked_replica_is_gone_within_a_second_and_cannot_return"),
    Reason.CRL_UNUSABLE: (BY_PEERS, "test_a_crl_that_lapses_while_binlock_runs"),
    Reason.TLS_VERSION_REFUSED: (REFUSALS, "test_a_tls_version_that_is_not_on_the_list"),
    Reason.NO_SHARED_CIPHER: (REFUSALS, "test_a_cipher_that_is_not_on_the_list"),
    Reason.NO_SHARED_GROUP: (BY_PEERS, "test_a_group_that_the_replica_does_not_offer"),
    Reason.NOT_TLS: (REFUSALS, "test_plaintext_smuggled_in_behind_the_ssl_request"),
    Reason.REPLICA_REJECTED_CERTIFICATE: (BY_PEERS, "test_a_replica_that_finds_another_name_in_binlocks_certificate"),
    Reason.TLS_HANDSHAKE_FAILED: (BY_PEERS, "test_a_peer_without_a_signature_that_fits_the_certificate"),
    Reason.IDENTITY_NOT_ON_ROSTER: _FALLS,
    Reason.ADDRESS_NOT_ON_ROSTER: _FALLS,
    Reason.ACCOUNT_NOT_ALLOWED: _FALLS,
    Reason.SERVER_ID_NOT_ALLOWED: _FALLS,
    Reason.AUTHENTICATION_NOT_BRIDGEABLE: (
        "integration/test_authentication.py",
        "test_a_replica_that_holds_the_sources_own_key_is_told_so",
    ),
    Reason.REPLICA_LEFT_AFTER_LOGIN: (
        "integration/test_departures.py",
        "test_a_replica_that_has_no_ca_leaves_when_it_is_accepted",
    ),
    Reason.AUTHENTICATION_REJECTED: (REFUSALS, "test_a_wrong_password_is_the_sources_own_refusal"),
    Reason.COMMAND_REFUSED: (SESSION_COMMANDS, "test_a_refused_command_is_answered_in_place_and_the_session_goes_on"),
    Reason.PROTOCOL_ERROR: (REFUSALS, "test_garbage_ends_its_own_session_only"),
    Reason.TIMEOUT: (REFUSALS, "test_silent_peers_are_sent_away_and_do_not_keep_others_out"),
    Reason.DISCONNECTED: (SESSION_SILENCE, "test_a_replica_that_connects_and_leaves_is_a_matter_of_debug"),
    Reason.SOURCE_DISCONNECTED: (BY_PEERS, "test_a_source_that_dies_during_the_login"),
    Reason.INTERNAL_ERROR: ("proxy/test_any_bytes.py", "test_any_bytes_of_a_source_end_the_session_in_a_known_way"),
}
ENDED = {
    Reason.REVOKED: (TRUST, "test_a_revoked_replica_is_gone_within_a_second_and_cannot_return"),
    Reason.EXPIRED: (TRUST, "test_a_session_ends_when_its_certificate_expires"),
    Reason.UNTRUSTED: (TRUST, "test_an_authority_that_is_trusted_no_more_takes_its_sessions_along"),
    Reason.NOT_ON_ROSTER: _FALLS,
    Reason.NOT_ALLOWED: _FALLS,
    Reason.SOURCE_REVOKED: _SOURCE_FALLS,
    Reason.SOURCE_EXPIRED: _SOURCE_FALLS,
    Reason.SOURCE_UNTRUSTED: (TRUST, "test_the_sources_authority_that_is_trusted_no_more_takes_its_session_along"),
    Reason.ROUTE_CHANGED: (TRUST, "test_a_route_that_changes_its_encryption_ends_its_sessions_and_they_come_back"),
    Reason.KEY_LIMIT: (
        "integration/test_recycling.py",
        "test_keys_are_renewed_between_commits_side_by_side_and_none_waits_until_it_times_out",
    ),
    Reason.MAX_AGE: ("integration/test_recycling.py", "test_a_session_of_age_begins_again_and_no_row_is_lost"),
    Reason.DRAINED: (
        "integration/test_replication.py",
        "test_on_sigterm_the_stream_ends_and_the_replica_resumes_at_the_next_proxy",
    ),
    Reason.CLOSED: ("integration/test_sessions.py", "test_who_ended_a_session_is_told_apart"),
    Reason.DISCONNECTED: ("integration/test_sessions.py", "test_who_ended_a_session_is_told_apart"),
    Reason.SOURCE_DISCONNECTED: (SESSION_STREAM, "test_a_source_that_resets_the_stream_is_named_as_the_one"),
}


def test_the_tables_of_logins_are_those_that_the_tests_run() -> None:
    lines = LOGINS.read_text().splitlines()
    for table in (table_of_legs(), table_of_peers()):
        start = lines.index(table[0])
        behind = next(index for index in range(start, len(lines)) if not lines[index].startswith("|"))
        assert lines[start:behind] == table
    notes = {note for row in ROWS for note in re.findall(r"\((\d)\)", row.note)}
    assert notes == {line[0] for line in lines if re.match(r"\d\. ", line)}


def tables() -> tuple[list[list[str]], list[list[str]]]:
    """The cells of both tables, without their headers."""
    refused, ended = DOCUMENT.read_text().split("## How a session that is up ends")
    rows = [
        [[cell.strip() for cell in line.strip("|").split("|")] for line in part.splitlines() if line.startswith("|")]
        for part in (refused, ended)
    ]
    return rows[0][2:], rows[1][2:]


def named(cell: str) -> list[Reason]:
    return [Reason(name) for name in re.findall(r"`([a-z_]+)`", cell) if not name.startswith("binlock_")]


def test_the_first_table_has_each_reason_for_a_refusal_once() -> None:
    documented = [reason for row in tables()[0] for reason in named(row[2])]
    assert sorted(documented) == sorted(REFUSED)


def test_the_second_table_has_each_end_of_a_session_once() -> None:
    documented = [reason for row in tables()[1] for reason in named(row[0])]
    assert sorted(documented) == sorted(ENDED)


def test_no_reason_is_left_out() -> None:
    assert REFUSED.keys() | ENDED.keys() == set(Reason)


def test_the_metrics_begin_with_the_reasons_of_the_document() -> None:
    by_stage = {reason for reasons in KNOWN_REFUSALS.values() for reason in reasons}
    # A refused command is counted among the commands. A drain ends a login, too.
    assert by_stage | {Reason.COMMAND_REFUSED} == REFUSED.keys() | {Reason.DRAINED}
    assert set(ENDINGS) == ENDED.keys()
    for row in tables()[0]:
        if row[1] != "any":
            counted = set(named(row[2])) - {Reason.COMMAND_REFUSED}
            assert counted <= set(KNOWN_REFUSALS[Stage(row[1])]), row


@pytest.mark.parametrize(("file", "test"), sorted({*REFUSED.values(), *ENDED.values()}))
def test_the_tests_that_keep_it_true_are_there(file: str, test: str) -> None:
    tree = ast.parse((ROOT / "tests" / file).read_text())
    assert test in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def test_what_is_said_to_pass_has_its_test() -> None:
    said = re.findall(r"`(test_\w+)`", (ROOT / "docs" / "replication.md").read_text())
    modules = (ROOT / "tests" / "integration").glob("test_*.py")
    functions = {
        node.name
        for module in modules
        for node in ast.parse(module.read_text()).body
        if isinstance(node, ast.FunctionDef)
    }
    assert len(said) == len(set(said)) > 20
    assert set(said) <= functions


def test_the_error_numbers_are_those_that_are_sent() -> None:
    refused, ended = tables()
    for reason_cell, shown in [(row[2], row[3]) for row in refused] + [(row[0], row[2]) for row in ended]:
        numbers = {ERROR_NUMBERS[reason][0] for reason in named(reason_cell) if reason in ERROR_NUMBERS}
        if "Binlock:" in shown or reason_cell in {f"`{reason}`" for reason in ENDED if reason in ERROR_NUMBERS}:
            assert numbers, shown
            assert all(re.search(rf"\b{number}\b", shown) for number in numbers), shown
