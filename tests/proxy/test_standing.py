"""Every reason for which a session that is up has to end, and that nothing ends what may go on."""

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from cryptography import x509

from certs.profiles import Role
from proxy.configuration.addresses import UnixAddress
from proxy.configuration.config import LimitsTable
from proxy.configuration.material import TlsMaterial
from proxy.legs.leg import Leg
from proxy.openssl import Context, Negotiated, client_context
from proxy.outcomes import ERROR_NUMBERS, Reason
from proxy.sessions import SessionRecord, SessionRegistry
from proxy.site import Route
from proxy.stages.authentication import SourceTls
from proxy.standing import fallen, worn_out
from tests.proxy.bench import entry, make_route
from tests.proxy.pki import Leaf, Pki, TestAuthority

NOW = datetime.now(UTC)
SECOND = timedelta(seconds=1)
GCM, CHACHA = "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"


@dataclass
class Worn:
    """As much of a leg as is asked for its wear."""

    name: str
    key_records: int


def tls(*chain: x509.Certificate, cipher: str = GCM) -> Negotiated:
    return Negotiated(0.0, "TLSv1.3", cipher, "X25519MLKEM768", chain)


def legs(replica: int = 0, source: int = 0) -> list[Leg]:
    return cast("list[Leg]", [Worn("replica", replica), Worn("source", source)])


@dataclass
class Standing:
    """A session over TLS on both legs, and the route that admits it."""

    pki: Pki
    context: Context

    def chain(self, leaf: Leaf) -> Negotiated:
        return tls(leaf.certificate, self.pki.authority.certificate)

    def record(self, **changes: Any) -> SessionRecord:
        record = SessionRegistry().open(route=self.route(), peer=(ipaddress.ip_address("127.0.0.1"), 1))
        record.is_authenticated = True
        record.replica_tls = self.chain(self.pki.replica)
        record.source_tls = self.chain(self.pki.source)
        record.identity, record.account, record.server_id, record.entry = "replica-1.example", "repl", 2, entry()
        record.legs = legs()
        for name, value in changes.items():
            setattr(record, name, value)
        return record

    def route(self, *, replica: TlsMaterial | None = None, source: TlsMaterial | None = None, **changes: Any) -> Route:
        material = self.pki.material()
        options: dict[str, Any] = {
            "roster": (entry(server_ids=(2,)),),
            "replica_context": self.context,
            "source_tls": SourceTls(client_context(material), "localhost"),
            "materials": {"replica": replica or material, "source": source or material},
        }
        return make_route(**{**options, **changes})


@pytest.fixture
def standing(pki: Pki, replica_context: Context) -> Standing:
    return Standing(pki, replica_context)


def reason_of(record: SessionRecord, route: Route | None) -> Reason | None:
    ending = fallen(record, route)
    if ending is None:
        return None
    assert ending.detail
    assert ending.is_urgent
    return ending.reason


# What time and use do.


def test_a_session_that_is_fresh_goes_on(standing: Standing) -> None:
    assert worn_out(standing.record(), LimitsTable(), NOW) is None


@pytest.mark.parametrize(("leg", "reason"), [("replica_tls", Reason.EXPIRED), ("source_tls", Reason.SOURCE_EXPIRED)])
def test_a_leaf_that_has_expired_ends_the_session_at_that_second(
    leg: str, reason: Reason, standing: Standing, pki: Pki
) -> None:
    leaf = pki.authority.issue(Role.PROXY, "a.example", end=timedelta(seconds=60))
    record = standing.record(**{leg: standing.chain(leaf)})
    end = leaf.certificate.not_valid_after_utc
    assert worn_out(record, LimitsTable(), end - SECOND) is None
    ending = worn_out(record, LimitsTable(), end)
    assert ending is not None
    assert (ending.reason, ending.is_urgent) == (reason, True)
    assert end.isoformat() in ending.detail


@pytest.mark.parametrize(("leg", "reason"), [("replica_tls", Reason.EXPIRED), ("source_tls", Reason.SOURCE_EXPIRED)])
def test_an_issuer_that_has_expired_ends_the_session_as_well(
    leg: str, reason: Reason, standing: Standing, pki: Pki
) -> None:
    brief = pki.authority.issue(Role.PROXY, "brief.example", end=timedelta(seconds=60)).certificate
    long = pki.authority.issue(Role.PROXY, "long.example").certificate
    record = standing.record(**{leg: tls(long, brief, pki.authority.certificate)})
    assert worn_out(record, LimitsTable(), brief.not_valid_after_utc - SECOND) is None
    ending = worn_out(record, LimitsTable(), brief.not_valid_after_utc)
    assert ending is not None
    assert ending.reason is reason


def test_a_plaintext_session_never_expires(standing: Standing) -> None:
    record = standing.record(replica_tls=None, source_tls=None)
    assert worn_out(record, LimitsTable(), NOW + timedelta(days=36500)) is None


@pytest.mark.parametrize("cipher", [GCM, "ECDHE-ECDSA-AES128-GCM-SHA256", "TLS_AES_128_GCM_SHA256"])
@pytest.mark.parametrize(("leg", "counts"), [("replica", (1000, 0)), ("source", (0, 1000))])
def test_a_worn_key_of_aes_gcm_ends_the_session_at_a_quiet_moment(
    cipher: str, leg: str, counts: tuple[int, int], standing: Standing, pki: Pki
) -> None:
    negotiated = tls(pki.replica.certificate, cipher=cipher)
    record = standing.record(replica_tls=negotiated, source_tls=negotiated, legs=legs(*counts))
    limits = LimitsTable(tls_key_records=1000)
    ending = worn_out(record, limits, NOW)
    assert ending is not None
    assert (ending.reason, ending.is_urgent) == (Reason.KEY_LIMIT, False)
    assert f"{leg} leg has protected 1000 records" in ending.detail
    record.legs = legs(*(count - 1 if count else 0 for count in counts))
    assert worn_out(record, limits, NOW) is None


@pytest.mark.parametrize("cipher", [CHACHA, "ECDHE-RSA-CHACHA20-POLY1305"])
def test_a_key_of_chacha20_poly1305_does_not_wear(cipher: str, standing: Standing, pki: Pki) -> None:
    negotiated = tls(pki.replica.certificate, cipher=cipher)
    record = standing.record(replica_tls=negotiated, source_tls=negotiated, legs=legs(1 << 40, 1 << 40))
    assert worn_out(record, LimitsTable(tls_key_records=1000), NOW) is None


def test_each_leg_is_judged_by_its_own_cipher(standing: Standing, pki: Pki) -> None:
    limits = LimitsTable(tls_key_records=1000)
    gcm, chacha = tls(pki.replica.certificate), tls(pki.replica.certificate, cipher=CHACHA)
    record = standing.record(replica_tls=chacha, source_tls=gcm, legs=legs(replica=1 << 40, source=999))
    assert worn_out(record, limits, NOW) is None
    record.legs = legs(replica=0, source=1000)
    assert worn_out(record, limits, NOW) is not None


def test_the_default_limit_leaves_room_below_the_bound_of_rfc_8446() -> None:
    assert LimitsTable().tls_key_records <= 2**24.5 / 2


def test_a_session_of_the_greatest_age_ends_at_a_quiet_moment(standing: Standing) -> None:
    record = standing.record()
    record.started_seconds -= 100
    assert worn_out(record, LimitsTable(session_max_age_seconds=1000), NOW) is None
    ending = worn_out(record, LimitsTable(session_max_age_seconds=100), NOW)
    assert ending is not None
    assert (ending.reason, ending.is_urgent) == (Reason.MAX_AGE, False)


def test_without_a_greatest_age_no_age_ends_a_session(standing: Standing) -> None:
    record = standing.record()
    record.started_seconds -= 10**9
    assert worn_out(record, LimitsTable(), NOW) is None


def test_what_must_end_at_once_goes_before_what_can_wait(standing: Standing, pki: Pki) -> None:
    record = standing.record(legs=legs(replica=1 << 40))
    record.started_seconds -= 100
    limits = LimitsTable(tls_key_records=1000, session_max_age_seconds=1)
    ending = worn_out(record, limits, pki.replica.certificate.not_valid_after_utc)
    assert ending is not None
    assert (ending.reason, ending.is_urgent) == (Reason.EXPIRED, True)


# What a new configuration does.


def test_a_session_that_is_still_admitted_goes_on(standing: Standing) -> None:
    assert fallen(standing.record(), standing.route()) is None


def test_a_route_that_is_gone_ends_its_sessions(standing: Standing) -> None:
    assert reason_of(standing.record(), None) is Reason.ROUTE_CHANGED


@pytest.mark.parametrize(
    ("record", "route"),
    [
        ({}, {"replica_context": None}),
        ({}, {"source_tls": None}),
        ({"replica_tls": None}, {}),
        ({"source_tls": None}, {}),
    ],
    ids=["replica leg no longer TLS", "source leg no longer TLS", "replica leg TLS now", "source leg TLS now"],
)
def test_a_change_of_encryption_ends_the_sessions(
    record: dict[str, Any], route: dict[str, Any], standing: Standing
) -> None:
    assert reason_of(standing.record(**record), standing.route(**route)) is Reason.ROUTE_CHANGED


def test_a_route_that_leads_to_another_source_ends_its_sessions(standing: Standing) -> None:
    elsewhere = replace(standing.route(), source=UnixAddress("/run/another.sock"))
    assert reason_of(standing.record(), elsewhere) is Reason.ROUTE_CHANGED
    renamed = standing.route(source_tls=SourceTls(client_context(standing.pki.material()), "another.example"))
    assert reason_of(standing.record(), renamed) is Reason.ROUTE_CHANGED


def test_an_address_that_left_the_allowlist_ends_the_session(standing: Standing) -> None:
    route = standing.route(allow=("10.0.0.0/8",))
    assert reason_of(standing.record(), route) is Reason.NOT_ALLOWED


@pytest.mark.parametrize(
    ("leg", "leaf", "reason"),
    [("replica", "replica", Reason.REVOKED), ("source", "source", Reason.SOURCE_REVOKED)],
)
def test_a_certificate_that_was_revoked_ends_the_session(
    leg: str, leaf: str, reason: Reason, standing: Standing, pki: Pki
) -> None:
    material = pki.material(crls=(pki.authority.crl(getattr(pki, leaf)),))
    assert reason_of(standing.record(), standing.route(**{leg: material})) is reason


@pytest.mark.parametrize("leg", ["replica", "source"])
def test_a_crl_that_revokes_another_ends_nothing(leg: str, standing: Standing, pki: Pki) -> None:
    assert fallen(standing.record(), standing.route(**{leg: pki.material(crls=(pki.crl,))})) is None


@pytest.fixture
def deep(
    standing: Standing, tmp_path_factory: pytest.TempPathFactory
) -> tuple[TestAuthority, TestAuthority, Negotiated]:
    folder = tmp_path_factory.mktemp("deep")
    root = TestAuthority(folder / "root", "Root", is_deep=True)
    intermediate = TestAuthority(folder / "intermediate", "Intermediate", parent=root)
    leaf = intermediate.issue(Role.REPLICA, "replica-1.example")
    return root, intermediate, tls(leaf.certificate, intermediate.certificate, root.certificate)


def test_an_intermediate_that_was_revoked_ends_the_session(
    deep: tuple[TestAuthority, TestAuthority, Negotiated], standing: Standing, pki: Pki
) -> None:
    root, intermediate, negotiated = deep
    record = standing.record(replica_tls=negotiated)
    good = pki.material(anchors=(root.certificate,), crls=(root.crl(), intermediate.crl()))
    assert fallen(record, standing.route(replica=good)) is None
    revoked = pki.material(anchors=(root.certificate,), crls=(root.crl(intermediate), intermediate.crl()))
    assert reason_of(record, standing.route(replica=revoked)) is Reason.REVOKED


def test_a_chain_for_which_a_crl_is_missing_now_does_not_stand(
    deep: tuple[TestAuthority, TestAuthority, Negotiated], standing: Standing, pki: Pki
) -> None:
    root, _, negotiated = deep
    material = pki.material(anchors=(root.certificate,), crls=(root.crl(),))
    assert reason_of(standing.record(replica_tls=negotiated), standing.route(replica=material)) is Reason.UNTRUSTED


@pytest.mark.parametrize(("leg", "reason"), [("replica", Reason.UNTRUSTED), ("source", Reason.SOURCE_UNTRUSTED)])
def test_an_authority_that_was_removed_ends_the_session(leg: str, reason: Reason, standing: Standing, pki: Pki) -> None:
    material = pki.material(anchors=(pki.stranger.certificate,))
    assert reason_of(standing.record(), standing.route(**{leg: material})) is reason


@pytest.mark.parametrize("leg", ["replica", "source"])
def test_an_authority_that_was_added_ends_nothing(leg: str, standing: Standing, pki: Pki) -> None:
    material = pki.material(anchors=(pki.stranger.certificate, pki.authority.certificate))
    assert fallen(standing.record(), standing.route(**{leg: material})) is None


@pytest.mark.parametrize(("leg", "reason"), [("replica_tls", Reason.EXPIRED), ("source_tls", Reason.SOURCE_EXPIRED)])
def test_a_certificate_that_has_expired_by_the_reload_is_named_so(
    leg: str, reason: Reason, standing: Standing, pki: Pki
) -> None:
    record = standing.record(**{leg: standing.chain(pki.expired_replica)})
    assert reason_of(record, standing.route()) is reason


ROSTERS_WITHOUT_IT = {
    "another identity": (entry(identity="other.example"),),
    "another account": (entry(accounts=("other",)),),
    "another server id": (entry(server_ids=(3,)),),
    "another address": (entry(addresses=("10.20.0.0/16",)),),
    "each on another line": (
        entry("a", accounts=("other",)),
        entry("b", server_ids=(3,)),
        entry("c", addresses=("10.20.0.0/16",)),
    ),
    "nobody": (),
    "a plaintext line": (entry(identity=None),),
}


@pytest.mark.parametrize("roster", ROSTERS_WITHOUT_IT.values(), ids=ROSTERS_WITHOUT_IT.keys())
def test_a_session_that_left_the_roster_ends(roster: Iterable[Any], standing: Standing) -> None:
    ending = fallen(standing.record(), standing.route(roster=tuple(roster)))
    assert ending is not None
    assert ending.reason is Reason.NOT_ON_ROSTER
    assert "replica-1.example as repl with server id 2" in ending.detail


ROSTERS_WITH_IT = {
    "as it was": (entry(server_ids=(2,)),),
    "under another name": (entry("renamed"),),
    "by a wildcard": (entry(identity="*.example"),),
    "with more accounts": (entry(accounts=("other", "repl")),),
    "with more server ids": (entry(server_ids=(1, 2, 3)),),
    "for any server id": (entry(),),
    "at its address": (entry(addresses=("127.0.0.1",)),),
    "on the second line": (entry("a", accounts=("other",)), entry("b")),
}


@pytest.mark.parametrize("roster", ROSTERS_WITH_IT.values(), ids=ROSTERS_WITH_IT.keys())
def test_a_session_that_is_still_on_the_roster_goes_on(roster: Iterable[Any], standing: Standing) -> None:
    assert fallen(standing.record(), standing.route(roster=tuple(roster))) is None


def test_a_session_without_a_server_id_yet_is_not_judged_by_one(standing: Standing) -> None:
    assert fallen(standing.record(server_id=None), standing.route()) is None


def test_any_of_the_certificates_names_may_keep_it_on_the_roster(standing: Standing, pki: Pki) -> None:
    leaf = pki.authority.issue(Role.REPLICA, "first.example", "second.example")
    record = standing.record(replica_tls=standing.chain(leaf), identity="first.example")
    assert fallen(record, standing.route(roster=(entry(identity="second.example"),))) is None


def test_a_plaintext_session_is_judged_by_the_lines_without_an_identity(standing: Standing) -> None:
    record = standing.record(replica_tls=None, identity=None)
    plain: dict[str, Any] = {"replica_context": None}
    assert fallen(record, standing.route(roster=(entry(identity=None),), **plain)) is None
    assert reason_of(record, standing.route(roster=(entry(),), **plain)) is Reason.NOT_ON_ROSTER


def test_in_observe_mode_the_roster_ends_nothing(standing: Standing) -> None:
    assert fallen(standing.record(), standing.route(roster=(), enforce=False)) is None


def test_in_observe_mode_revocation_and_allowlist_end_sessions(standing: Standing, pki: Pki) -> None:
    revoked = pki.material(crls=(pki.authority.crl(pki.replica),))
    assert reason_of(standing.record(), standing.route(replica=revoked, enforce=False)) is Reason.REVOKED
    assert reason_of(standing.record(), standing.route(allow=("::1",), enforce=False)) is Reason.NOT_ALLOWED


def test_another_policy_or_source_address_or_name_ends_nothing(standing: Standing) -> None:
    assert fallen(standing.record(), standing.route(policy="backup", send_proxy_protocol="v2")) is None


def test_every_reason_of_this_module_has_an_error_number_that_a_replica_takes_up_again() -> None:
    for reason in (
        Reason.EXPIRED, Reason.REVOKED, Reason.UNTRUSTED, Reason.SOURCE_EXPIRED, Reason.SOURCE_REVOKED,
        Reason.SOURCE_UNTRUSTED, Reason.NOT_ALLOWED, Reason.NOT_ON_ROSTER, Reason.ROUTE_CHANGED, Reason.KEY_LIMIT,
        Reason.MAX_AGE, Reason.DRAINED, Reason.TOO_MANY_SESSIONS,
    ):  # fmt: skip
        assert ERROR_NUMBERS[reason][0] != 1236
