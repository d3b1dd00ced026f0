"""docs/alerts.md and the rules agree."""

import re

import yaml

from tests.grafana.alert_rules import ALERTS, GRAFANA

DOCUMENT = (GRAFANA.parent / "docs" / "alerts.md").read_text()


def test_the_table_is_that_of_the_rules() -> None:
    rows: dict[str, list[str]] = {}
    for alert in ALERTS:
        after = "at once" if alert.pending == "0s" else alert.pending
        link = f"[{alert.name}](../grafana/runbooks/{alert.name}.md)"
        severities = rows.get(alert.name, [link, ""])[1]
        rows[alert.name] = [link, ", ".join(filter(None, [severities, alert.severity])), after]
    shown = [
        [cell.strip() for cell in line.strip("|").split("|")][:3]
        for line in DOCUMENT.splitlines()
        if line.startswith("| [Binlock")
    ]
    assert shown == list(rows.values())


def test_the_example_of_prometheus_configuration_is_like_the_one_that_is_shipped() -> None:
    [example] = re.findall(r"^```yaml\n(.*?)^```$", DOCUMENT, flags=re.DOTALL | re.MULTILINE)
    shown, shipped = yaml.safe_load(example), yaml.safe_load((GRAFANA / "prometheus.yml").read_text())
    assert shown["scrape_configs"] == shipped["scrape_configs"]
    assert shown["alerting"]["alertmanagers"] == shipped["alerting"]["alertmanagers"]
    assert shown["global"]["scrape_interval"] == shipped["global"]["scrape_interval"] == "15s"
