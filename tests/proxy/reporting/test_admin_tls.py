"""The admin endpoint of a whole `binlock-proxy run`: with mutual TLS, and beside a scraper that reads nothing."""

import http.client
import json
import shutil
import socket
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from prometheus_client.parser import text_string_to_metric_families

from certs.profiles import Role
from proxy.command_line import main
from proxy.configuration.config import ConfigError
from proxy.site import load_site
from tests.endpoint.promtool import complaints
from tests.endpoint.scrapers import clogged
from tests.proxy.configuration.test_config import PLAIN
from tests.proxy.pki import EXPIRED, Leaf, Pki
from tests.proxy.test_command_line import config, free_port, next_event, running

TABLE = '[admin.tls]\ncertificate = "admin.crt"\nkey = "admin.key"\nca = "scrapers.crt"\ncrl = ["scrapers.crl"]\n'


def put(folder: Path, pki: Pki, leaf: Leaf) -> None:
    for name, path in (
        ("admin.crt", leaf.certificate_file),
        ("admin.key", leaf.key_file),
        ("scrapers.crt", pki.authority.file),
        ("scrapers.crl", pki.authority.write_crl(pki.crl)),
    ):
        shutil.copy(path, folder / f"{name}.new")
        (folder / f"{name}.new").replace(folder / name)


def shown(leaf: Leaf, *more: str | Path) -> list[str]:
    return [*map(str, ("--certificate", leaf.certificate_file, "--key", leaf.key_file, *more))]


def samples(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_health_and_sessions_ask_with_a_certificate_and_changed_files_come_into_force(
    pki: Pki, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    port = free_port()
    put(tmp_path, pki, pki.proxy)
    # On every address of the machine, which only TLS allows.
    path = config(tmp_path, admin=f"0.0.0.0:{port}", more=TABLE)
    health, sessions = (["health", "--config", str(path)], ["sessions", "--json", "--config", str(path)])
    with running(path) as process:
        next_event(process, "listening")
        # Its own files will do, for `binlock-certs issue proxy` makes a certificate for both ends.
        assert main(health) == 0
        assert main([*sessions, *shown(pki.replica)]) == 0
        assert capsys.readouterr().out == "ready\n[]\n"
        for leaf, why in ((pki.foreign_replica, "unknown ca"), (pki.revoked_replica, "certificate revoked")):
            assert main([*health, *shown(leaf)]) == 1
            assert why in capsys.readouterr().err.replace("_", " ").lower()
        # Of several in a second the first is logged; all are counted.
        logged = next_event(process, "admin_refused")
        assert str(logged["peer"]).startswith("127.0.0.1:")
        assert "unable to get local issuer certificate" in str(logged["detail"])
        assert main([*health, *shown(pki.replica, "--ca", pki.stranger.file)]) == 1
        assert "see --certificate, --key, --ca and --server-name" in capsys.readouterr().err
        with pytest.raises((OSError, http.client.HTTPException)):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60)

        context = pki.client(pki.replica)
        with urllib.request.urlopen(f"https://127.0.0.1:{port}/metrics", context=context, timeout=60) as response:
            text = response.read().decode()
        assert complaints(text) == []
        shown_metrics = samples(text)
        of_admin = {"route": "[admin]"}
        for role, certificate in (("admin", pki.proxy.certificate), ("admin_ca", pki.authority.certificate)):
            labels = frozenset({**of_admin, "role": role}.items())
            not_after = shown_metrics["binlock_proxy_certificate_not_after_timestamp_seconds", labels]
            assert not_after == certificate.not_valid_after_utc.timestamp()
        of_crl = frozenset({**of_admin, "issuer": "CN=Ours"}.items())
        assert shown_metrics["binlock_proxy_crl_next_update_timestamp_seconds", of_crl] > 0
        assert shown_metrics["binlock_proxy_admin_tls_refusals_total", frozenset()] >= 3

        renewed = pki.authority.issue(Role.PROXY, "renewed.example")
        put(tmp_path, pki, renewed)
        next_event(process, "reloaded")
        with socket.create_connection(("127.0.0.1", port), timeout=60) as sock, context.wrap_socket(sock) as encrypted:
            assert encrypted.getpeercert(binary_form=True) == renewed.certificate.public_bytes(Encoding.DER)
        assert main(health) == 0
        (tmp_path / "admin.key").write_bytes(pki.source.key_file.read_bytes())
        failed = next_event(process, "reload_failed")
        assert f"{path}: admin.tls: {tmp_path}/admin.key: key: does not belong to the" in str(failed["detail"])
        capsys.readouterr()
        path.write_text(path.read_text().replace(TABLE, "").replace(f"0.0.0.0:{port}", f"127.0.0.1:{port}"))
        assert next_event(process, "restart_needed")["detail"] == "admin: a change takes effect at the next start"
        with pytest.raises((OSError, http.client.HTTPException)):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60)


def test_by_its_address_it_is_asked_with_files_of_ones_own(
    pki: Pki, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    port = free_port()
    put(tmp_path, pki, pki.proxy)
    path = config(tmp_path, admin=f"0.0.0.0:{port}", more=TABLE)
    health = ["health", "--admin", f"127.0.0.1:{port}"]
    named, theirs = ["--server-name", "proxy.example"], ["--ca", str(pki.authority.file)]
    ours = [*shown(pki.replica), *theirs]
    with running(path) as process:
        next_event(process, "listening")
        (tmp_path / "admin.key").write_bytes(pki.source.key_file.read_bytes())
        next_event(process, "reload_failed")
        assert main(["health", "--config", str(path)]) == 2
        assert "admin.key: key: does not belong to the certificate" in capsys.readouterr().err
        assert main([*health, *ours, *named]) == 0
        assert capsys.readouterr().out.startswith("ready; the last reload failed: ")
        for refused, why in (
            (ours, "certificate is not valid for '127.0.0.1'"),
            ([*ours, "--server-name", "another.example"], "certificate is not valid for 'another.example'"),
            ([*shown(pki.replica, "--ca", pki.stranger.file), *named], "certificate verify failed"),
            ([*shown(pki.foreign_replica), *theirs, *named], "unknown ca"),
            ([], "If it has [admin.tls], say --certificate, --key and --ca"),
        ):
            assert main([*health, *refused]) == 1
            assert why in capsys.readouterr().err.replace("_", " ")


def test_a_scraper_that_reads_nothing_keeps_nobody_waiting(tmp_path: Path) -> None:
    port = free_port()
    with running(config(tmp_path, admin=f"127.0.0.1:{port}")) as process:
        next_event(process, "listening")
        with clogged(("127.0.0.1", port), "/metrics"):
            for path in ("/metrics", "/sessions", "/readyz"):
                with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=60) as response:
                    assert response.status == http.client.OK
                    assert response.read()


FAULTS: dict[str, tuple[str, dict[str, Any], str]] = {
    "a unix socket": ('"unix:/run/a.sock"', {}, "admin.tls: a unix socket is guarded by its mode"),
    "an unknown key": ('"0.0.0.0:1"', {"certificat": "x"}, "unknown key 'certificat' in admin.tls; did you mean"),
    "no ca": ('"0.0.0.0:1"', {"ca": None}, "missing required field `ca` - at `admin.tls`"),
    "another's key": ('"0.0.0.0:1"', {"key": "other.key"}, "admin.tls: {folder}/other.key: key: does not belong to"),
    "an expired certificate": ('"0.0.0.0:1"', {"certificate": "old.crt"}, "{folder}/old.crt: certificate: expired at"),
    "no such file": ('"0.0.0.0:1"', {"ca": "none.crt"}, "admin.tls: {folder}/none.crt: ca: cannot be read: No such"),
    "a CRL of nobody": ('"0.0.0.0:1"', {"crl": ["their.crl"]}, "{folder}/their.crl: crl: not issued by any authority"),
}


@pytest.mark.parametrize("case", FAULTS)
def test_a_fault_is_named_with_file_key_and_reason(case: str, pki: Pki, tmp_path: Path) -> None:
    listen, changed, said = FAULTS[case]
    put(tmp_path, pki, pki.proxy)
    shutil.copy(pki.source.key_file, tmp_path / "other.key")
    shutil.copy(pki.authority.issue(Role.PROXY, "old.example", **EXPIRED).certificate_file, tmp_path / "old.crt")
    shutil.copy(pki.stranger.write_crl(pki.stranger.crl()), tmp_path / "their.crl")
    table: dict[str, Any] = {"certificate": "admin.crt", "key": "admin.key", "ca": "scrapers.crt", **changed}
    lines = [f"{key} = {json.dumps(value)}" for key, value in table.items() if value is not None]
    path = tmp_path / "proxy.toml"
    path.write_text("\n".join(["[admin]", f"listen = {listen}", "[admin.tls]", *lines]) + PLAIN)
    with pytest.raises(ConfigError) as error:
        load_site(path)
    assert str(error.value).startswith(f"{path}: ")
    assert said.format(folder=tmp_path) in str(error.value)


def test_without_tls_there_is_nobody_to_show_a_certificate(
    pki: Pki, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["health", "--config", str(config(tmp_path)), *shown(pki.replica)]) == 2
    assert "admin.tls: is not there" in capsys.readouterr().err


def test_a_certificate_without_its_key_is_a_mistake(
    pki: Pki, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(tmp_path, pki, pki.proxy)
    path = config(tmp_path, admin="0.0.0.0:1", more=TABLE)
    assert main(["health", "--config", str(path), "--certificate", str(pki.replica.certificate_file)]) == 2
    assert "--certificate and --key go together" in capsys.readouterr().err
