"""The status page behind mutual TLS, in real Chromium.

Apart from its kin: Playwright makes the handshakes with a client certificate itself, which a browser on another host
cannot reach, and it has one browser's driver at a time.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Error

from testbed.browser import running_browser
from tests.integration.conftest import Pki
from tests.integration.lab import Proxy, RouteConfig, toml
from tests.integration.pages.tab import opened


def test_behind_mutual_tls_it_opens_for_whom_the_authority_knows(pki: Pki, tmp_path: Path) -> None:
    route = RouteConfig("127.0.0.1:1", [{"name": "local", "accounts": ["repl"]}])
    files = {"certificate": pki.proxy.certificate, "key": pki.proxy.key, "ca": pki.authority.ca}
    tls = "\n".join(["[admin.tls]", *(f"{name} = {toml(path)}" for name, path in files.items())])
    with Proxy(tmp_path / "proxy", route, limits=tls) as proxy, running_browser() as browser:
        origin = f"https://127.0.0.1:{proxy.admin_port}"
        shown = {"origin": origin, "certPath": pki.replica.certificate, "keyPath": pki.replica.key}
        with opened(browser, f"{origin}/", ignore_https_errors=True, client_certificates=[shown]) as tab:
            own, authority = tab.rows("certificates")
            assert "admin endpoint" in own
            assert "admin endpoint" in authority
            first = tab.page.locator("#as-of").inner_text()
            tab.page.wait_for_function("(first) => document.getElementById('as-of').innerText !== first", arg=first)
            tab.assert_behaved()
        with pytest.raises(Error, match="ERR_"), opened(browser, f"{origin}/", ignore_https_errors=True):
            pass
