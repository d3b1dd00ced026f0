"""The status pages in real Chromium: what is there is shown, stays true, fits a phone, and runs nobody's script."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser

from testbed.browser import running_browser
from testbed.flavours import Flavour
from testbed.hosts import Network
from tests.integration.conftest import Pki
from tests.integration.lab import PASSWORD, Authority, Proxy, RouteConfig, replicating
from tests.integration.pages.tab import PHONE_WIDTH, TABLE_WIDTH, opened
from tests.integration.test_monitor import LISTEN_PORT, MonitorProgram
from tests.monitor.matrix.stand import Stand

COUNT_QUESTIONS = """() => {
  const fetch = window.fetch;
  window.questions = 0;
  window.fetch = (...what) => { window.questions += 1; return fetch(...what); };
}"""
IMAGE, TURNED, LONG = "<img src=x onerror=alert(1)>", "\u202egnp.exe", "w" * 90


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stand]:
    folder = tmp_path_factory.mktemp("seen")
    authority = Authority(folder / "authority")
    with Network() as network, Stand(Flavour.MYSQL_9_7, network.add_host("host"), folder, authority) as made:
        yield made


@pytest.fixture(scope="module")
def browser(stand: Stand) -> Iterator[Browser]:
    """On the stand's host, whose loopback the endpoints listen on."""
    with running_browser(stand.host) as running:
        yield running


@pytest.fixture
def proxy(stand: Stand, pki: Pki, tmp_path: Path) -> Iterator[Proxy]:
    roster: list[dict[str, Any]] = [
        {"identity": "replica-1.example", "accounts": ["repl"], "server_ids": [2]},
        {"identity": "replica-2.example", "accounts": ["repl"]},
    ]
    route = RouteConfig(f"unix:{stand.source.socket_path}", roster, name="orders", replica_tls=pki.replica_tls())
    with Proxy(tmp_path / "proxy", route, host=stand.host) as running:
        yield running


def log_in(stand: Stand, pki: Pki, proxy: Proxy, account: str) -> None:
    """With a certificate that the roster has, and an account that it has not."""
    leaf = pki.replica
    tls = ["--ssl-mode=REQUIRED", f"--ssl-cert={leaf.certificate}", f"--ssl-key={leaf.key}"]
    ends = ["--host=127.0.0.1", f"--port={proxy.port}", f"--user={account}", f"--password={PASSWORD}"]
    stand.run([*stand.flavour.client("mysql"), "--no-defaults", *ends, *tls, "--execute=DO 1"], may_fail=True)


def test_the_proxys_page_shows_what_goes_on_and_keeps_up(
    stand: Stand, pki: Pki, proxy: Proxy, browser: Browser
) -> None:
    for account in (IMAGE, TURNED, LONG):
        log_in(stand, pki, proxy, account)
    address = f"http://127.0.0.1:{proxy.admin_port}/"
    with opened(browser, address) as tab:
        assert tab.rows("sessions") == []
        assert len(tab.rows("last-refusals")) == 1, "one line for one address and reason"
        page = tab.page
        page.evaluate("window.isTheSamePage = true")
        with replicating(stand.replica, proxy.port, user="repl", tls=pki.authority.replica_tls(pki.replica)):
            stand.replica.wait_for_replication()
            stand.work()
            file, position = stand.source.binlog_position()
            tab.wait_for_text("#sessions tbody", f"{position:,}".replace(",", "\u202f"))
            [session] = tab.rows("sessions")
            shown = ("replica-1.example", "repl, server id 2", "streaming", "TLSv1.3", "X25519MLKEM768", file, "XID")
            assert [text for text in shown if text not in session] == []
            assert "1 of 2" in tab.rows("routes")[0]
            assert "absent: replica-2.example" in tab.rows("routes")[0]
            kinds = {"own certificate", "CRL", "authority"}
            assert {kind for row in tab.rows("certificates") for kind in kinds if kind in row} == kinds
            tab.wait_for_text("#pulse", "live")
            tab.assert_fits(TABLE_WIDTH, "light", "dark")
            tab.assert_fits(PHONE_WIDTH, "light")
        tab.ask_now()
        tab.wait_for_text("#sessions", "Nobody is connected.")
        proxy.routes[0].listen = "nowhere"
        proxy.write_config()
        assert proxy.reload()["event"] == "reload_failed"
        tab.ask_now()
        tab.wait_for_text(".notice.bad", "The last reload failed")
        assert page.evaluate("window.isTheSamePage"), "what is new is put into the page that was there"
        tab.assert_behaved()
        # What a browser says of a connection that is refused is its own complaint.
        proxy.stop()
        tab.ask_now()
        tab.wait_for_text("[role=status]", "No longer current: the endpoint does not answer.")
        assert page.locator("#pulse").get_attribute("data-state") == "stale"
        assert tab.rows("certificates"), "what was known last stays"
        tab.assert_fits(PHONE_WIDTH, "dark")


def test_what_a_peer_calls_itself_is_text(stand: Stand, pki: Pki, proxy: Proxy, browser: Browser) -> None:
    address = f"http://127.0.0.1:{proxy.admin_port}/"
    for account, shown in ((IMAGE, IMAGE), (TURNED, "\\u202egnp.exe"), (LONG, LONG)):
        log_in(stand, pki, proxy, account)
        with opened(browser, address) as tab:
            tab.wait_for_text("#last-refusals tbody", shown)
            assert tab.page.locator("img").count() == 0
            for width in (TABLE_WIDTH, PHONE_WIDTH):
                tab.page.set_viewport_size({"width": width, "height": 800})
                assert tab.width_of_content() <= width
            tab.assert_behaved()


def test_without_scripts_it_is_a_page_of_tables_that_loads_itself_again(proxy: Proxy, browser: Browser) -> None:
    with opened(browser, f"http://127.0.0.1:{proxy.admin_port}/", java_script_enabled=False) as tab:
        assert "mutual TLS" in tab.rows("routes")[0]
        assert tab.page.locator("#pause").is_hidden()
        # With scripts the element stands in a <noscript>, where it is text.
        assert tab.page.locator("noscript meta[http-equiv=refresh]").get_attribute("content") == "10"


def test_it_is_used_by_keyboard(proxy: Proxy, browser: Browser) -> None:
    with opened(browser, f"http://127.0.0.1:{proxy.admin_port}/") as tab:
        page = tab.page
        focused = "document.activeElement.textContent.trim()"
        page.keyboard.press("Tab")
        assert page.evaluate(focused) == "Skip to the figures"
        page.keyboard.press("Tab")
        assert page.evaluate(focused) == "Pause"
        page.keyboard.press("Enter")
        assert page.locator("#pulse").inner_text() == "paused"
        page.evaluate(COUNT_QUESTIONS)
        assert page.evaluate("window.questions") == 0
        page.keyboard.press("Enter")
        assert page.evaluate("window.questions"), "who resumes wants to see it now"
        tab.wait_for_text("#pulse", "live")
        tab.assert_behaved()


def test_the_monitors_page_is_loud_about_replication_in_the_clear(
    stand: Stand, browser: Browser, tmp_path: Path
) -> None:
    with (
        MonitorProgram(stand.host, stand.source.port, tmp_path / "monitor.log") as monitor,
        opened(browser, f"http://127.0.0.1:{LISTEN_PORT}/") as tab,
    ):
        assert "None is seen." in tab.page.locator("#in-the-clear").inner_text()
        with stand.replicating():
            stand.work()
            tab.wait_for_text(".notice.bad", "Replication in the clear: 127.0.0.1:")
            [flow] = tab.rows("in-the-clear")
            assert [text for text in ("plaintext-replication", "COM_BINLOG_DUMP_GTID") if text not in flow] == []
            assert tab.page.locator(".tile.bad").inner_text().split("\n") == ["Replication in the clear", "1", "now"]
            assert "up" in tab.rows("interfaces")[0]
            tab.assert_fits(TABLE_WIDTH, "light", "dark")
            tab.assert_fits(PHONE_WIDTH, "light")
        stand.work()
        monitor.wait_for("flow_ended", matches=lambda event: event["verdict"] == "plaintext-replication")
        tab.ask_now()
        tab.wait_for_text("#gone tbody", f"127.0.0.1:{stand.source.port}")
        assert tab.rows("in-the-clear") == []
        assert tab.page.locator(".notice").count() == 0
        tab.assert_behaved()
        facts = json.loads(monitor.get("/status"))
        assert facts["plaintext_active"] == 0
        assert [pair["verdict"] for pair in facts["plaintext_gone"]] == ["plaintext-replication"]
        monitor.stop()
