"""What every dashboard has around its panels: variables, links, annotations, and the grid."""

from collections.abc import Iterator, Sequence

from grafana.panels import DATA_SOURCE
from grafana.style import PURPLE, Json

# As Grafana 12.4 writes; an older one that meets a newer number still loads the dashboard.
SCHEMA_VERSION = 42
TAG = "binlock"
_PAGE_WIDTH = 24


def dashboard(
    uid: str,
    title: str,
    description: str,
    panels: Sequence[Json],
    *,
    known_by: str,
    has_routes: bool,
    since: str = "now-6h",
) -> Json:
    """A whole dashboard.

    Args:
        uid: stays the same for ever: links and bookmarks have it.
        title: as it stands in Grafana's list.
        description: what it answers.
        panels: in order; each that does not fit beside the one before it begins a new line.
        known_by: a selector, without matchers of variables, of a metric that each process to choose from has.
        has_routes: whether one can choose routes of proxies.
        since: the time that it shows at first.
    """
    variables = [_data_source(), _job(known_by), _instance(known_by)]
    if has_routes:
        variables.append(_route())
    return {
        "uid": uid,
        "title": title,
        "description": description,
        "tags": [TAG],
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": False,
        "fiscalYearStartMonth": 0,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": since, "to": "now"},
        "timepicker": {},
        "timezone": "browser",
        "weekStart": "",
        "links": [_links()],
        "templating": {"list": variables},
        "annotations": {"list": [_reloads()] if has_routes else []},
        "panels": list(_laid_out(panels)),
    }


def _laid_out(panels: Sequence[Json]) -> Iterator[Json]:
    x = y = height = 0
    for number, panel in enumerate(panels, start=1):
        if panel["type"] == "row":
            y, x, height = y + height, 0, 1
            yield {"id": number, **panel, "gridPos": {"x": 0, "y": y, "w": _PAGE_WIDTH, "h": 1}}
            y, height = y + 1, 0
            continue
        size = panel["gridPos"]
        if x + size["w"] > _PAGE_WIDTH:
            y, x, height = y + height, 0, 0
        yield {"id": number, **panel, "gridPos": {"x": x, "y": y, **size}}
        x, height = x + size["w"], max(height, size["h"])


def _data_source() -> Json:
    return {
        "type": "datasource",
        "name": "datasource",
        "label": "Data source",
        "query": "prometheus",
        "refresh": 1,
        "regex": "",
        "hide": 0,
        "includeAll": False,
        "multi": False,
        "current": {"text": "default", "value": "default"},
        "options": [],
    }


def _job(known_by: str) -> Json:
    return _choice("job", "Job", f"label_values({known_by}, job)")


def _instance(known_by: str) -> Json:
    narrowed = known_by.removesuffix("}") + "," if known_by.endswith("}") else known_by + "{"
    return _choice("instance", "Instance", f'label_values({narrowed}job=~"$job"}}, instance)')


def _route() -> Json:
    selector = 'binlock_proxy_sessions_active{job=~"$job",instance=~"$instance"}'
    return _choice("route", "Route", f"label_values({selector}, route)")


def _choice(name: str, label: str, query: str) -> Json:
    return {
        "type": "query",
        "name": name,
        "label": label,
        "datasource": DATA_SOURCE,
        "query": {"query": query, "refId": f"{name}-variable"},
        "refresh": 2,
        "regex": "",
        "sort": 1,
        "hide": 0,
        "includeAll": True,
        "allValue": ".+",
        "multi": True,
        "current": {"text": ["All"], "value": ["$__all"]},
        "options": [],
    }


def _links() -> Json:
    return {
        "type": "dashboards",
        "title": "Binlock",
        "tags": [TAG],
        "asDropdown": False,
        "icon": "external link",
        "includeVars": True,
        "keepTime": True,
        "targetBlank": False,
        "tooltip": "",
        "url": "",
    }


def _reloads() -> Json:
    expression = 'binlock_proxy_config_last_reload_success_timestamp_seconds{job=~"$job", instance=~"$instance"} * 1000'
    return {
        "name": "Configuration read",
        "datasource": DATA_SOURCE,
        "enable": True,
        "hide": False,
        "iconColor": PURPLE,
        "target": {"refId": "Anno", "expr": expression},
        "titleFormat": "{{instance}} read its configuration",
        "textFormat": "",
        "tagKeys": "",
        "useValueForTime": "on",
    }
