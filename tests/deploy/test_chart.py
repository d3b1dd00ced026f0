"""The Helm chart: rendered by Helm, judged by schemas of Kubernetes and of the operators, and by our own policies."""

from __future__ import annotations

import copy
import json
import shutil
import tarfile
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml

from proxy.configuration.config import load_config
from tests.deploy.helm import (
    CHART,
    CHARTS,
    MODELS,
    HelmError,
    complaints_of_models,
    one,
    rendered,
    run_helm,
    with_values,
)
from tests.deploy.policies import complaints, pods

ROOT = CHART.parents[2]
# The oldest that has sidecars by default, and the newest whose schemas there are.
KUBERNETES = ("1.29", kubernetes_validate.latest_version())
Values = dict[str, Any]
Object = dict[str, Any]


def merged(base: Values, more: Values) -> Values:
    result = copy.deepcopy(base)
    for key, value in more.items():
        result[key] = merged(result[key], value) if isinstance(value, dict) and key in result else value
    return result


PAIR: Values = {
    "proxy": {"allow": ["10.42.0.0/16"]},
    "certificates": {"issuerRef": {"name": "site"}},
    "source": {"enabled": True, "passwords": "given-passwords"},
    "replicas": {"enabled": True},
    "prometheus": {"podMonitors": True, "rules": True, "labels": {"release": "prometheus"}},
    "grafana": {"dashboards": True, "annotations": {"grafana_folder": "Binlock"}},
}
VALUES: dict[str, Values] = {
    "the monitor alone": {"certificates": {"issuerRef": {"name": "site"}}},
    "a pair": PAIR,
    "MariaDB": merged(PAIR, {"source": {"flavour": "mariadb", "image": "docker.io/library/mariadb:11.8.2"}}),
    "a certificate for each pod": merged(PAIR, {"certificates": {"mode": "csi", "crlConfigMap": "given-crl"}}),
    "secrets that exist": merged(
        PAIR,
        {
            "certificates": {
                "mode": "secret",
                "secrets": {"source": "s", "replica": "r", "monitor": "m", "scraper": "p"},
                "crlConfigMap": "given-crl",
            }
        },
    ),
    "loopback": merged(PAIR, {"admin": {"mode": "loopback"}, "monitor": {"admin": {"mode": "loopback"}}}),
    "everything else": merged(
        PAIR,
        {
            "fullnameOverride": "replication",
            "listenAddress": "[::]",
            "imagePullSecrets": [{"name": "pull"}],
            "images": {"proxy": {"digest": f"sha256:{'0' * 64}"}},
            "admin": {"mode": "unsafe"},
            "monitor": {
                "admin": {"mode": "unsafe"}, "mask": True, "ports": [3306, 3307], "nodeSelector": {"disk": "fast"},
            },
            "proxy": {
                "enforce": False,
                "limits": {"sessions": 50, "drain_seconds": 5},
                "roster": [
                    {"identity": "far.example", "accounts": ["repl"], "server_ids": [7], "addresses": ["10.9.0.0/16"]}
                ],
            },
            "source": {"extraArgs": ["--max-connections=50"], "storage": {"storageClassName": "fast"},
                       "tolerations": [{"operator": "Exists"}], "nodeSelector": {"disk": "fast"}},
            "replicas": {"count": 3, "updatePartition": 2, "podDisruptionBudget": False,
                         "tolerations": [{"operator": "Exists"}], "nodeSelector": {"disk": "fast"}},
            "networkPolicy": {
                "clients": [{"podSelector": {"matchLabels": {"app": "shop"}}}],
                "replicas": [{"ipBlock": {"cidr": "10.9.0.0/16"}}],
                "scrapers": [{"namespaceSelector": {"matchLabels": {"name": "monitoring"}}}],
            },
        },
    ),
}  # fmt: skip


@pytest.fixture(scope="session")
def charts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Object]]:
    """What comes of each set of values, and of a chart with pods of its own."""
    objects: dict[str, list[Object]] = {name: rendered(values) for name, values in VALUES.items()}
    own = tmp_path_factory.mktemp("own") / "own"
    shutil.copytree(CHARTS / "own", own)
    shutil.copytree(CHART, own / "charts" / "binlock")
    objects["pods of one's own"] = rendered({}, own)
    return objects


EACH = pytest.mark.parametrize("name", [*VALUES, "pods of one's own"])


@EACH
def test_kubernetes_takes_it(charts: dict[str, list[Object]], name: str) -> None:
    assert charts[name]
    for each in charts[name]:
        if each["kind"] not in MODELS:
            for version in KUBERNETES:
                kubernetes_validate.validate(each, version, strict=True)


def test_the_operators_take_it(charts: dict[str, list[Object]], tmp_path: Path) -> None:
    objects = [each for found in charts.values() for each in found if each["kind"] in MODELS]
    assert {each["kind"] for each in objects} == set(MODELS)
    # The rules are the same everywhere, and long.
    distinct = {json.dumps(each, sort_keys=True): each for each in objects}
    assert complaints_of_models(list(distinct.values()), tmp_path) == []


def test_the_operators_would_say_what_is_wrong(charts: dict[str, list[Object]], tmp_path: Path) -> None:
    spoilt = copy.deepcopy([each for each in charts["a pair"] if each["kind"] in {"Certificate", "PodMonitor"}])
    spoilt[0]["spec"]["dnsName"] = ["db"]
    del spoilt[-1]["spec"]["selector"]
    said = "\n".join(complaints_of_models(spoilt, tmp_path))
    assert "'\"dnsName\"' does not exist" in said
    assert "selector" in said


@EACH
def test_policies_are_kept(charts: dict[str, list[Object]], name: str) -> None:
    assert complaints(charts[name]) == []


def proxy_of(objects: list[Object]) -> Any:
    return one(objects, "StatefulSet", "db-binlock-source")["spec"]["template"]["spec"]["initContainers"][0]


SPOILT: dict[str, tuple[Callable[[list[Object]], object], str]] = {
    "root": (lambda objects: proxy_of(objects)["securityContext"].update(runAsUser=0), "other than root's"),
    "may be root": (lambda objects: proxy_of(objects)["securityContext"].pop("runAsNonRoot"), "runAsNonRoot is None"),
    "gains": (
        lambda objects: proxy_of(objects)["securityContext"].update(allowPrivilegeEscalation=True),
        "allowPrivilegeEscalation is True",
    ),
    "writes": (lambda objects: proxy_of(objects)["securityContext"].pop("readOnlyRootFilesystem"), "readOnly"),
    "a capability": (
        lambda objects: proxy_of(objects)["securityContext"]["capabilities"].update(add=["NET_RAW"]), "NET_RAW",
    ),
    "latest": (lambda objects: proxy_of(objects).update(image="binlock-proxy:latest"), "another one tomorrow"),
    "no tag": (lambda objects: proxy_of(objects).update(image="a.example:5000/binlock-proxy"), "another one tomorrow"),
    "no limit": (lambda objects: proxy_of(objects)["resources"].pop("limits"), "how much memory"),
    "no probe": (lambda objects: proxy_of(objects).pop("livenessProbe"), "has no livenessProbe"),
    "no sidecar": (lambda objects: proxy_of(objects).pop("restartPolicy"), "is no sidecar"),
    "a volume": (lambda objects: proxy_of(objects)["volumeMounts"][0].update(name="other"), "no volume other"),
    "a map": (
        lambda objects: objects.remove(one(objects, "ConfigMap", "db-binlock-source")), "no ConfigMap db-binlock-so",
    ),
    "a selector": (
        lambda objects: one(objects, "Service", "db-binlock-source")["spec"]["selector"].update(x="y"), "selects no",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SPOILT)
def test_a_policy_that_is_not_kept_is_found(charts: dict[str, list[Object]], name: str) -> None:
    spoil, said = SPOILT[name]
    objects = copy.deepcopy(charts["a pair"])
    spoil(objects)
    assert said in "\n".join(complaints(objects))


@EACH
def test_the_proxy_takes_its_configuration(charts: dict[str, list[Object]], name: str, tmp_path: Path) -> None:
    for each in charts[name]:
        text = each.get("data", {}).get("proxy.toml")
        if text is not None:
            (tmp_path / "proxy.toml").write_text(text)
            load_config(tmp_path / "proxy.toml")


@EACH
def test_a_probe_of_a_proxy_that_runs_reads_no_files(charts: dict[str, list[Object]], name: str) -> None:
    """They may hold what a reload refused to take, and nobody must end a proxy that runs well for that."""
    proxies = [container for _, pod in pods(charts[name]) for container in pod.get("initContainers", [])]
    assert len(proxies) == (0 if name == "the monitor alone" else 2)
    commands = [
        proxy[probe]["exec"]["command"]
        for proxy in proxies
        for probe in ("readinessProbe", "livenessProbe")
        if "exec" in proxy[probe]
    ]
    assert bool(commands) is (name == "loopback")
    assert all("--admin" in command for command in commands)


def test_on_loopback_probes_ask_where_the_proxy_listens(charts: dict[str, list[Object]]) -> None:
    objects = charts["loopback"]
    configuration = tomllib.loads(one(objects, "ConfigMap", "db-binlock-source")["data"]["proxy.toml"])
    health = ["/opt/binlock/bin/binlock-proxy", "health", "--admin", configuration["admin"]["listen"]]
    probes = {"startupProbe": health, "readinessProbe": health, "livenessProbe": [*health, "--live"]}
    assert {name: proxy_of(objects)[name]["exec"]["command"] for name in probes} == probes


def test_each_pod_has_a_name_and_a_server_id_of_its_own(charts: dict[str, list[Object]]) -> None:
    objects = charts["a certificate for each pod"]
    roster = tomllib.loads(one(objects, "ConfigMap", "db-binlock-source")["data"]["proxy.toml"])["route"][0]["replica"]
    domain = "db-binlock-replica.shop.svc.cluster.local"
    assert [(entry["identity"], entry["server_ids"]) for entry in roster] == [
        (f"db-binlock-replica-0.{domain}", [100]),
        (f"db-binlock-replica-1.{domain}", [101]),
    ]
    pod = one(objects, "StatefulSet", "db-binlock-replica")["spec"]["template"]["spec"]
    (volume,) = [volume for volume in pod["volumes"] if volume["name"] == "binlock-tls"]
    assert volume["csi"]["volumeAttributes"]["csi.cert-manager.io/dns-names"] == f"${{POD_NAME}}.{domain},{domain}"
    assert "--server-id=10$(POD_INDEX)" in pod["containers"][0]["args"]


def test_the_names_that_are_dialled_are_those_that_are_certified(charts: dict[str, list[Object]]) -> None:
    objects = charts["a pair"]
    route = tomllib.loads(one(objects, "ConfigMap", "db-binlock-replica")["data"]["proxy.toml"])["route"][0]
    host = route["source"]["address"].removesuffix(":3307")
    assert one(objects, "Certificate", "db-binlock-source")["spec"]["dnsNames"] == [host]
    assert host.startswith("db-binlock-source.shop.svc.")
    assert one(objects, "Service", "db-binlock-source")["spec"]["ports"][-1]["port"] == 3307
    for side in ("source", "replica", "monitor"):
        (endpoint,) = one(objects, "PodMonitor", f"db-binlock-{side}")["spec"]["podMetricsEndpoints"]
        certificate = one(objects, "Certificate", f"db-binlock-{side}")
        assert endpoint["tlsConfig"]["serverName"] in certificate["spec"]["dnsNames"]


def test_rules_and_dashboards_are_those_of_the_repository(charts: dict[str, list[Object]]) -> None:
    rules = [each["spec"] for each in charts["a pair"] if each["kind"] == "PrometheusRule"]
    assert rules == [yaml.safe_load(path.read_text()) for path in sorted((ROOT / "grafana/rules").glob("*.yaml"))]
    assert rules
    files = {
        name: text
        for each in charts["a pair"]
        if each["kind"] == "ConfigMap" and each["metadata"]["labels"].get("grafana_dashboard") == "1"
        for name, text in each["data"].items()
    }
    committed = {path.name: path.read_text() for path in (ROOT / "grafana/dashboards").glob("*.json")}
    assert {name: json.loads(text) for name, text in files.items()} == {
        name: json.loads(text) for name, text in committed.items()
    }
    assert files


def test_the_packed_chart_has_what_its_links_lead_to(charts: dict[str, list[Object]], tmp_path: Path) -> None:
    run_helm("package", CHART, "--destination", tmp_path)
    (archive,) = tmp_path.glob("*.tgz")
    with tarfile.open(archive) as packed:
        assert not [member.name for member in packed.getmembers() if member.issym()]
    assert rendered(PAIR, archive) == charts["a pair"]


@pytest.mark.parametrize("name", ["the monitor alone", "a pair"])
def test_lint(name: str, tmp_path: Path) -> None:
    run_helm("lint", "--strict", CHART, *with_values(VALUES[name], tmp_path))


REFUSED: dict[str, tuple[Values, str]] = {
    "no allowlist": (merged(PAIR, {"proxy": {"allow": []}}), "proxy.allow: the networks that replicas connect from"),
    "no roster": (merged(PAIR, {"replicas": {"enabled": False}}), "proxy.roster: who may replicate"),
    "no issuer": (merged(PAIR, {"certificates": {"issuerRef": {"name": ""}}}), "certificates.issuerRef.name"),
    "no passwords": (merged(PAIR, {"source": {"passwords": ""}}), "source.passwords"),
    "no secret": (merged(PAIR, {"certificates": {"mode": "secret"}}), "certificates.secrets."),
    "an unknown key": (merged(PAIR, {"proxy": {"alow": []}}), "additional properties 'alow' not allowed"),
    "an unknown mode": (merged(PAIR, {"admin": {"mode": "open"}}), "/admin/mode"),
    "the newest image": (merged(PAIR, {"source": {"image": "docker.io/library/mysql:latest"}}), "/source/image"),
    "an image without a tag": (merged(PAIR, {"source": {"image": "docker.io/library/mysql"}}), "/source/image"),
    "root": (merged(PAIR, {"proxy": {"uid": 0}}), "/proxy/uid"),
    "an account that is SQL": (merged(PAIR, {"proxy": {"accounts": ["a'; DROP"]}}), "/proxy/accounts"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_values_that_cannot_be_meant_are_refused(name: str) -> None:
    values, said = REFUSED[name]
    with pytest.raises(HelmError, match=said):
        rendered(values)


def test_every_value_is_described_in_the_schema() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())

    def undescribed(values: Any, node: Any, where: str) -> list[str]:
        node = schema["definitions"][node["$ref"].rpartition("/")[2]] if "$ref" in node else node
        if not isinstance(values, dict) or "properties" not in node:
            return []
        found = [f"{where}.{key}" for key in values if key not in node["properties"]]
        for key in values.keys() & node["properties"].keys():
            found += undescribed(values[key], node["properties"][key], f"{where}.{key}")
        return found

    assert undescribed(yaml.safe_load((CHART / "values.yaml").read_text()), schema, "") == []


def test_the_notes_warn() -> None:
    notes = rendered(VALUES["everything else"], notes=True)
    assert "UNSAFE" in notes
    assert "OBSERVING" in notes
    assert "binlock-proxy sessions" in notes
    assert "UNSAFE" not in rendered(PAIR, notes=True)


def test_versions_are_one() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    assert {chart["version"], chart["appVersion"]} == {project}
    assert {image["tag"] for image in values["images"].values()} == {project}


def test_links_lead_nowhere_else() -> None:
    links = {path.name: str(path.readlink()) for path in (CHART / "files").iterdir()}
    assert links == {"rules": "../../../../grafana/rules", "dashboards": "../../../../grafana/dashboards"}
