"""CRLs: how they are found and read, and every way in which one does not do its work, at loading or in a handshake."""

import errno
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from certs.profiles import Role
from proxy.configuration.config import ConfigError, TlsTable
from proxy.configuration.material import TlsMaterial, load_material, material_files
from proxy.openssl import Context, server_context
from proxy.outcomes import Reason
from tests.proxy.pki import EXPIRED, NOT_YET, Leaf, Pki, TestAuthority
from tests.proxy.stages.handshakes import as_server, replica

HOUR = timedelta(hours=1)
Crl = x509.CertificateRevocationList


class Site:
    """A folder with an authority, a deep one with an intermediate, and the leaves of both."""

    def __init__(self, pki: Pki, folder: Path) -> None:
        self.pki, self.folder = pki, folder
        self.root = TestAuthority(folder / "root", "Root", is_deep=True)
        self.intermediate = TestAuthority(folder / "intermediate", "Intermediate", parent=self.root)
        leaf = self.intermediate.issue(Role.REPLICA, "replica-1.example")
        self.leaf = self.intermediate.chained(leaf)

    def file(self, name: str, *contents: x509.Certificate | Crl) -> Path:
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"".join(content.public_bytes(Encoding.PEM) for content in contents))
        return path

    def load(self, *crl: Path, ca: Path | None = None) -> TlsMaterial:
        table = TlsTable(
            ca=str(ca or self.pki.authority.file),
            certificate=str(self.pki.proxy.certificate_file),
            key=str(self.pki.proxy.key_file),
            crl=tuple(map(str, crl)),
        )
        return load_material(table, self.folder)

    def context(self, *crl: Path, ca: Path | None = None) -> Context:
        return server_context(self.load(*crl, ca=ca))

    def refused(self, *crl: Path, ca: Path | None = None) -> str:
        with pytest.raises(ConfigError) as error:
            self.load(*crl, ca=ca)
        return str(error.value)


@pytest.fixture
def site(pki: Pki, tmp_path: Path) -> Site:
    return Site(pki, tmp_path)


async def met(context: Context, pki: Pki, leaf: Leaf) -> Reason | None:
    """What a handshake with that leaf came to; None if it succeeded."""
    outcome = await as_server(context, replica(pki, leaf))
    return None if outcome.negotiated is not None else outcome.reason


async def assert_revokes(context: Context, pki: Pki) -> None:
    assert await met(context, pki, pki.revoked_replica) is Reason.CERTIFICATE_REVOKED
    assert await met(context, pki, pki.replica) is None


# Where CRLs are.


async def test_a_file_with_a_crl_revokes(site: Site, pki: Pki) -> None:
    await assert_revokes(site.context(site.file("a.crl", pki.crl)), pki)


@pytest.mark.parametrize("name", ["a.crl", "a.pem", "0123abcd.r0", "0123abcd.r11"])
async def test_a_folder_of_crls_revokes(name: str, site: Site, pki: Pki) -> None:
    site.file(f"crls/{name}", pki.crl)
    await assert_revokes(site.context(site.folder / "crls"), pki)


async def test_a_folder_with_the_links_of_openssl_rehash_holds_each_crl_once(site: Site, pki: Pki) -> None:
    site.file("crls/ours.crl", pki.crl)
    (site.folder / "crls" / "0123abcd.r0").symlink_to("ours.crl")
    assert site.load(site.folder / "crls").crls == (pki.crl,)


async def test_a_folder_with_links_to_files_elsewhere_revokes(site: Site, pki: Pki) -> None:
    elsewhere = site.file("elsewhere/ours.crl", pki.crl)
    (site.folder / "crls").mkdir()
    (site.folder / "crls" / "0123abcd.r0").symlink_to(elsewhere)
    await assert_revokes(site.context(site.folder / "crls"), pki)


def test_what_is_no_crl_by_its_name_is_passed_over_in_a_folder(site: Site, pki: Pki) -> None:
    site.file("crls/ours.crl", pki.crl)
    (site.folder / "crls" / "README").write_text("not a CRL")
    (site.folder / "crls" / "ours.crl~").write_text("not a CRL")
    assert site.load(site.folder / "crls").crls == (pki.crl,)


def test_a_folder_without_a_crl_is_refused(site: Site) -> None:
    (site.folder / "crls").mkdir()
    message = site.refused(site.folder / "crls")
    assert message.startswith(f"{site.folder / 'crls'}: crl: no file in this folder ends in .crl, .pem or .rN")
    assert "put one there" in message


def test_a_link_that_leads_nowhere_is_refused(site: Site) -> None:
    (site.folder / "crls").mkdir()
    (site.folder / "crls" / "a.r0").symlink_to("gone")
    assert f"{site.folder / 'crls' / 'gone'}: crl: cannot be read" in site.refused(site.folder / "crls")


def test_a_link_that_leads_in_a_circle_is_refused(site: Site) -> None:
    (site.folder / "crls").mkdir()
    (site.folder / "crls" / "a.r0").symlink_to("a.r0")
    assert site.refused(site.folder / "crls").startswith(f"{site.folder / 'crls'}: crl: cannot be read: ")


async def test_several_crls_in_one_file_are_all_read(site: Site, pki: Pki) -> None:
    both = site.file("both.crl", pki.stranger.crl(pki.foreign_replica), pki.crl)
    ca = site.file("ca.crt", pki.authority.certificate, pki.stranger.certificate)
    context = site.context(both, ca=ca)
    await assert_revokes(context, pki)
    assert await met(context, pki, pki.foreign_replica) is Reason.CERTIFICATE_REVOKED


async def test_several_issuers_in_several_files_are_all_read(site: Site, pki: Pki) -> None:
    ours, theirs = site.file("ours.crl", pki.crl), site.file("theirs.crl", pki.stranger.crl(pki.foreign_replica))
    context = site.context(ours, theirs, ca=site.file("ca.crt", pki.authority.certificate, pki.stranger.certificate))
    await assert_revokes(context, pki)
    assert await met(context, pki, pki.foreign_replica) is Reason.CERTIFICATE_REVOKED


def test_text_around_the_pem_is_passed_over(site: Site, pki: Pki) -> None:
    path = site.file("a.crl", pki.crl)
    path.write_bytes(b"Certificate Revocation List (CRL):\n    Version 2\n" + path.read_bytes() + b"the end\n")
    assert site.load(path).crls == (pki.crl,)


def test_every_file_that_is_read_is_named_to_be_watched(site: Site, pki: Pki) -> None:
    table = TlsTable(ca="ca.crt", certificate="/etc/a.crt", key="a.key", crl=("crls", "b.crl"))
    folder = site.folder
    assert material_files(table, folder) == [
        folder / "ca.crt",
        Path("/etc/a.crt"),
        folder / "a.key",
        folder / "crls",
        folder / "b.crl",
    ]


# What a CRL may be wrong in: reference/libraries.md, section 1.3, row by row.


async def test_a_crl_brings_the_checking_of_crls_with_it(site: Site, pki: Pki) -> None:
    """Without the flags a CRL would be loaded and nobody refused."""
    assert await met(site.context(), pki, pki.revoked_replica) is None
    assert await met(site.context(site.file("a.crl", pki.crl)), pki, pki.revoked_replica) is Reason.CERTIFICATE_REVOKED


async def test_an_intermediate_is_checked_as_well_as_the_leaf(site: Site, pki: Pki) -> None:
    ca = site.file("ca.crt", site.root.certificate, site.intermediate.certificate)
    good = site.file("good.crl", site.root.crl(), site.intermediate.crl())
    assert await met(site.context(good, ca=ca), pki, site.leaf) is None
    revoked = site.file("revoked.crl", site.root.crl(site.intermediate), site.intermediate.crl())
    assert await met(site.context(revoked, ca=ca), pki, site.leaf) is Reason.CERTIFICATE_REVOKED


async def test_a_leaf_of_an_intermediate_is_revoked_by_the_intermediates_crl(site: Site, pki: Pki) -> None:
    ca = site.file("ca.crt", site.root.certificate, site.intermediate.certificate)
    crl = site.file("a.crl", site.root.crl(), site.intermediate.crl(site.leaf))
    assert await met(site.context(crl, ca=ca), pki, site.leaf) is Reason.CERTIFICATE_REVOKED


async def test_an_intermediate_without_a_crl_fails_closed(site: Site, pki: Pki) -> None:
    """The replica sends it, so that it need not be in `ca` and loading cannot know of it."""
    ca = site.file("ca.crt", site.root.certificate)
    context = site.context(site.file("root.crl", site.root.crl()), ca=ca)
    assert await met(context, pki, site.leaf) is Reason.CRL_UNUSABLE


def test_an_intermediate_in_ca_without_a_crl_is_refused(site: Site) -> None:
    ca = site.file("ca.crt", site.root.certificate, site.intermediate.certificate)
    message = site.refused(site.file("root.crl", site.root.crl()), ca=ca)
    assert message.startswith(f"{ca}: crl: there is none of the authority CN=Intermediate")
    assert "add one" in message


def test_a_crl_that_is_not_there_is_refused(site: Site) -> None:
    assert (
        site.refused(site.folder / "no.crl")
        == f"{site.folder / 'no.crl'}: crl: cannot be read: No such file or directory"
    )


def test_a_crl_that_may_not_be_read_is_refused(site: Site, pki: Pki, monkeypatch: pytest.MonkeyPatch) -> None:
    path, read = site.file("a.crl", pki.crl), Path.read_bytes

    def deny(file: Path) -> bytes:
        # Root, as which tests may run, is denied nothing.
        if file == path:
            raise PermissionError(errno.EACCES, "Permission denied")
        return read(file)

    monkeypatch.setattr(Path, "read_bytes", deny)
    assert site.refused(path) == f"{path}: crl: cannot be read: Permission denied"


def test_an_expired_crl_is_refused(site: Site, pki: Pki) -> None:
    path = site.file("a.crl", pki.authority.crl(**EXPIRED))
    message = site.refused(path)
    assert re.match(rf"{re.escape(str(path))}: crl: was due for renewal at \d{{4}}-", message)
    assert "issue a new one" in message


def test_a_crl_of_the_future_is_refused(site: Site, pki: Pki) -> None:
    path = site.file("a.crl", pki.authority.crl(**NOT_YET))
    message = site.refused(path)
    assert message.startswith(f"{path}: crl: is not valid before ")
    assert "set the clock" in message


def test_a_foreign_crl_is_refused(site: Site, pki: Pki) -> None:
    path = site.file("a.crl", pki.stranger.crl())
    message = site.refused(path)
    assert message.startswith(f"{path}: crl: not issued by any authority in ca, but by CN=Theirs; ")
    assert "add its certificate to ca" in message


def test_a_crl_of_the_same_name_and_another_key_is_refused(site: Site, pki: Pki) -> None:
    impostor = TestAuthority(site.folder / "impostor", pki.authority.name)
    path = site.file("a.crl", impostor.crl())
    message = site.refused(path)
    assert message.startswith(f"{path}: crl: names CN=Ours as its issuer, and is not signed by that authority's key")
    assert "fetch the genuine one" in message


def test_a_crl_of_another_key_beside_a_genuine_one_is_refused(site: Site, pki: Pki) -> None:
    impostor = TestAuthority(site.folder / "impostor", pki.authority.name)
    path = site.file("b.crl", impostor.crl())
    assert site.refused(site.file("a.crl", pki.crl), path).startswith(f"{path}: crl: ")


async def test_two_authorities_of_one_name_may_have_a_crl_each(site: Site, pki: Pki) -> None:
    """As after a renewal of the authority's key under its old name."""
    renewed = TestAuthority(site.folder / "renewed", pki.authority.name)
    revoked, good = renewed.issue(Role.REPLICA, "replica-1.example"), renewed.issue(Role.REPLICA, "replica-1.example")
    ca = site.file("ca.crt", pki.authority.certificate, renewed.certificate)
    context = site.context(site.file("a.crl", pki.crl, renewed.crl(revoked)), ca=ca)
    await assert_revokes(context, pki)
    assert await met(context, pki, revoked) is Reason.CERTIFICATE_REVOKED
    assert await met(context, pki, good) is None


def test_two_authorities_of_one_name_with_a_crl_for_one_only_are_refused(site: Site, pki: Pki) -> None:
    renewed = TestAuthority(site.folder / "renewed", pki.authority.name)
    ca = site.file("ca.crt", pki.authority.certificate, renewed.certificate)
    assert site.refused(site.file("a.crl", pki.crl), ca=ca).startswith(f"{ca}: crl: there is none of the authority")


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
async def test_of_an_old_and_a_new_crl_the_new_one_counts(order: tuple[int, int], site: Site, pki: Pki) -> None:
    old = pki.authority.crl(begin=-2 * HOUR)
    files = [site.file("old.crl", old), site.file("new.crl", pki.crl)]
    await assert_revokes(site.context(*(files[number] for number in order)), pki)


async def test_the_same_crl_twice_is_no_error(site: Site, pki: Pki) -> None:
    await assert_revokes(site.context(site.file("a.crl", pki.crl, pki.crl), site.file("b.crl", pki.crl)), pki)


def test_a_crl_of_an_authority_that_may_sign_none_is_refused(site: Site) -> None:
    authority = TestAuthority(site.folder / "mute", "Mute", signs_crls=False)
    path = site.file("a.crl", authority.crl())
    message = site.refused(path, ca=authority.file)
    assert message.startswith(f"{path}: crl: the key usage of CN=Mute lacks cRLSign")
    assert "renew that authority's certificate" in message


async def test_openssl_refuses_everybody_where_the_authority_may_sign_no_crl(site: Site, pki: Pki) -> None:
    authority = TestAuthority(site.folder / "mute", "Mute", signs_crls=False)
    leaf = authority.issue(Role.REPLICA, "replica-1.example")
    context = server_context(pki.material(pki.proxy, anchors=(authority.certificate,), crls=(authority.crl(),)))
    assert await met(context, pki, leaf) is Reason.CRL_UNUSABLE


def test_two_roots_with_a_crl_for_one_only_are_refused(site: Site, pki: Pki) -> None:
    ca = site.file("ca.crt", pki.authority.certificate, pki.stranger.certificate)
    message = site.refused(site.file("a.crl", pki.crl), ca=ca)
    assert message.startswith(f"{ca}: crl: there is none of the authority CN=Theirs")
    assert "add one" in message


def crl_with(authority: TestAuthority, extension: x509.ExtensionType) -> Crl:
    now = datetime.now(UTC).replace(microsecond=0)
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(authority.certificate.subject)
        .last_update(now - HOUR)
        .next_update(now + HOUR)
        .add_extension(x509.CRLNumber(2), critical=False)
        .add_extension(extension, critical=True)
    )
    return builder.sign(authority.key, hashes.SHA256())


ONLY_AUTHORITIES = x509.IssuingDistributionPoint(
    full_name=None,
    relative_name=None,
    only_contains_user_certs=False,
    only_contains_ca_certs=True,
    only_some_reasons=None,
    indirect_crl=False,
    only_contains_attribute_certs=False,
)


@pytest.mark.parametrize(
    "extension", [x509.DeltaCRLIndicator(1), ONLY_AUTHORITIES], ids=["a delta", "for authorities only"]
)
async def test_a_crl_that_does_not_say_enough_fails_closed(extension: x509.ExtensionType, site: Site, pki: Pki) -> None:
    context = site.context(site.file("a.crl", crl_with(pki.authority, extension)))
    assert await met(context, pki, pki.replica) is Reason.CRL_UNUSABLE


@pytest.mark.parametrize(
    "content",
    [b"", b"\x30\x82\x01\x00", b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n",
     b"-----BEGIN X509 CRL-----\nnot base64!\n-----END X509 CRL-----\n", b"-----BEGIN X509 CRL-----\nMIIB"],
    ids=["empty", "DER", "not a CRL", "not base64", "half written"],
)  # fmt: skip
def test_a_crl_that_cannot_be_read_is_refused(content: bytes, site: Site) -> None:
    path = site.folder / "a.crl"
    path.write_bytes(content)
    assert site.refused(path).startswith(f"{path}: crl: holds no PEM that can be used: ")


def test_a_good_crl_does_not_hide_a_bad_one_in_the_same_file(site: Site, pki: Pki) -> None:
    path = site.file("a.crl", pki.crl, pki.stranger.crl())
    assert site.refused(path).startswith(f"{path}: crl: not issued by any authority in ca")


def test_a_certificate_in_place_of_a_crl_is_refused(site: Site, pki: Pki) -> None:
    assert site.refused(pki.authority.file).startswith(f"{pki.authority.file}: crl: holds no PEM that can be used")
