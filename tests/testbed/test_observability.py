import http.client
import json
from pathlib import Path

import pytest

from testbed.observability import Alertmanager, Prometheus, Webhook
from testbed.programs import ProgramError

MINIMAL = "route: {receiver: nobody}\nreceivers: [{name: nobody}]\n"


def test_prometheus_answers_and_says_what_is_wrong_with_a_query(tmp_path: Path) -> None:
    with Prometheus(tmp_path / "prometheus", {"global": {"scrape_interval": "1s"}}) as prometheus:
        assert prometheus.value("vector(1) + 1") == 2
        assert prometheus.value("vector(1) > 1") is None
        assert [point[1] for point in prometheus.query_range("time()", 60, 62, 1)[0]["values"]] == ["60", "61", "62"]
        with pytest.raises(ProgramError, match=r"vector\(: .*parse error"):
            prometheus.query("vector(")
        with pytest.raises(ProgramError, match="2 results"):
            prometheus.value('label_replace(vector(1), "a", "b", "", "") or vector(2)')
        assert (prometheus.alerts(), prometheus.rules(), prometheus.targets()) == ([], [], [])
        # The connection that was kept is closed by the other end, and another one is opened.
        assert prometheus.stop() == 0
        assert prometheus.start().value("vector(3)") == 3


def test_alertmanager_runs_without_a_host_and_a_configuration_that_is_wrong_is_told(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.yml", tmp_path / "bad.yml"
    good.write_text(MINIMAL)
    bad.write_text(MINIMAL.replace("receiver: nobody", "receiver: somebody"))
    with Alertmanager(tmp_path / "good", good) as alertmanager:
        assert alertmanager.alerts() == []
    with pytest.raises(ProgramError, match="somebody"):
        Alertmanager(tmp_path / "bad", bad).start()


def test_the_webhook_keeps_what_comes(tmp_path: Path) -> None:
    sent = {"alerts": [{"labels": {"alertname": "One"}, "status": "firing"}]}
    with Webhook(tmp_path) as webhook:
        assert webhook.notifications() == []
        connection = http.client.HTTPConnection("127.0.0.1", webhook.port, timeout=10)
        connection.request("POST", "/page", json.dumps(sent))
        assert connection.getresponse().status == 200
        connection.close()
        assert webhook.wait_for("One")["path"] == "/page"
        assert webhook.alerts("One", "resolved") == []
