"""Ours and OpenSSL's `verify -crl_check_all` say the same of good and bad chains, and of every two faults at once."""

import itertools
import subprocess
from pathlib import Path

import pytest

from certs.pem import load_certificates, load_revocation_lists
from certs.profiles import Role, utc_now
from certs.verifying.findings import Check, Finding, Verdict
from certs.verifying.verification import Trust, Wanted, verify
from testbed.fetch import bundle
from tests.certs.worlds import VARIATIONS, World

GOOD = {
    "all good", "root sent too", "middle trusted too", "root allows one below", "middle allows none below",
    "older root beside", "namesake beside", "leaf has an unknown extension", "leaf for anything", "leaf without usage",
    "leaf for encipherment", "middle for servers", "leaf of RSA 2048", "leaf of Ed25519", "leaf of P-384",
    "middle speaks for example", "middle speaks for its own subject", "root speaks for mail alone",
    "leaf is constrained itself",
    "host of the wildcard", "host by address", "leaf by common name alone", "leaf by the root",
    "older list has the leaf", "lapsed list beside", "list of tomorrow beside", "leaf's revocation taken back",
}  # fmt: skip
# Bad under X509_STRICT alone.
NOT_STRICT = {
    "no identifiers in leaf", "no identifier in middle", "middle without usage", "constraints not critical",
    "leaf may sign certificates", "leaf without subject",
}  # fmt: skip
# What the bad ones are told to be at fault; others come along, such as the days left of what has ended.
REASONS = {
    Check.CHAIN: {"middle not sent", "middle alone trusted", "leaf signed itself", "leaf forged", "middle forged",
                  "leaf forged without identifier", "leaf names another issuer key", "leaf trusted alone"},
    Check.VALIDITY: {"leaf expired", "leaf not yet", "middle expired", "root expired"},
    Check.AUTHORITIES: {"middle is no authority", "middle without constraints", "middle may not sign certificates",
                        "root allows none below", "leaf has an unknown critical extension",
                        "middle speaks for others", "root speaks for another network",
                        "root speaks for other subjects", "middle does not speak for the host",
                        "middle does not speak for a wildcard", "middle does not speak for addresses"},
    Check.PURPOSE: {"leaf for clients", "leaf for lists alone", "middle for clients"},
    Check.ALGORITHMS: {"leaf of RSA 1024"},
    Check.NAME: {"another host", "host below the wildcard", "wildcard for all of example", "another address",
                 "leaf without names"},
    Check.REVOCATION: {"middle may not sign lists", "no list of middle", "no list of root", "leaf revoked",
                       "leaf revoked for its key", "middle revoked", "root revoked", "list of middle lapsed",
                       "list of root not yet", "list of middle forged", "list of middle in part",
                       "newer list has the leaf"},
    Check.STRICT: NOT_STRICT,
}  # fmt: skip


def ours(folder: Path, host: str) -> list[Finding]:
    trust = Trust(load_certificates(folder / "ca.pem"), load_revocation_lists(folder / "crl.pem"))
    return list(verify(load_certificates(folder / "sent.pem"), trust, Wanted(Role.SOURCE, host), now=utc_now()))


def faults(findings: list[Finding], *, strict: bool) -> list[Finding]:
    return [
        finding
        for finding in findings
        if finding.verdict is Verdict.FAIL and (strict or finding.check is not Check.STRICT)
    ]


def openssl(folder: Path, host: str, *, strict: bool) -> subprocess.CompletedProcess[str]:
    """OpenSSL's own words, at the security level that Debian's mysqld runs with."""
    sent = str(folder / "sent.pem")
    by_name = ("-verify_ip", host) if host[-1].isdigit() else ("-verify_hostname", host)
    command = [
        *bundle("openssl").command("openssl"), "verify", "-crl_check_all", "-auth_level", "2", "-purpose", "sslserver",
        "-CAfile", str(folder / "ca.pem"), "-CRLfile", str(folder / "crl.pem"), "-untrusted", sent, *by_name,
        *(["-x509_strict"] if strict else []), sent,
    ]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, check=False)


def judged(folder: Path, *labels: str) -> tuple[list[Finding], dict[bool, bool], str]:
    """Our findings, and whether OpenSSL takes it, by strictness."""
    world = World.good()
    for label in labels:
        VARIATIONS[label](world)
    if not world.lists:
        raise ValueError("without any list OpenSSL refuses, and we say that nothing was checked")
    world.write(folder)
    answers = {strict: openssl(folder, world.host, strict=strict) for strict in (False, True)}
    said = {strict: answer.returncode == 0 for strict, answer in answers.items()}
    return ours(folder, world.host), said, answers[True].stderr


@pytest.mark.parametrize("label", VARIATIONS)
def test_each_variation_is_judged_as_openssl_does(tmp_path: Path, label: str) -> None:
    findings, taken, words = judged(tmp_path, label)
    for strict in (False, True):
        assert (not faults(findings, strict=strict)) == taken[strict], (strict, words, findings)
    assert taken == {False: label in GOOD | NOT_STRICT, True: label in GOOD}, words
    told = {finding.check for finding in faults(findings, strict=True)}
    assert {check for check, labels in REASONS.items() if label in labels} <= told


def test_every_variation_is_good_or_has_its_reason() -> None:
    assert GOOD | set().union(*REASONS.values()) == VARIATIONS.keys()


@pytest.mark.parametrize("stride", [29, pytest.param(1, marks=pytest.mark.soak)])
def test_two_variations_at_once_are_judged_as_openssl_does(tmp_path: Path, stride: int) -> None:
    wrong, seen = [], 0
    for first, second in itertools.islice(itertools.combinations(VARIATIONS, 2), 0, None, stride):
        try:
            findings, taken, words = judged(tmp_path, first, second)
        except (LookupError, ValueError):  # the two cannot be had together
            continue
        seen += 1
        found = {strict: faults(findings, strict=strict) for strict in (False, True)}
        wrong += [(first, second, strict, words, found) for strict in found if (not found[strict]) != taken[strict]]
    assert not wrong, (len(wrong), wrong[:5])
    assert seen > 2400 / stride
