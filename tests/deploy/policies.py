"""What every pod of the chart keeps, as checks that say what is wrong.

Kubernetes' standard `restricted` is among them; the monitor, which needs the node's network, cannot keep all of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

Object = dict[str, Any]
WORKLOADS = {"StatefulSet", "DaemonSet", "Deployment", "Job"}
SAFE_VOLUMES = {"configMap", "csi", "emptyDir", "persistentVolumeClaim", "projected", "secret"}


def pods(objects: Sequence[Object]) -> Iterator[tuple[str, Object]]:
    """The name of each workload, and its pods' specification."""
    for each in objects:
        if each["kind"] in WORKLOADS:
            yield each["metadata"]["name"], each["spec"]["template"]["spec"]


def complaints(objects: Sequence[Object]) -> list[str]:
    """What pods and containers do not keep; the monitor alone may use the node's network and CAP_NET_RAW."""
    found: list[str] = []
    for name, pod in pods(objects):
        is_monitor = name.endswith("-monitor")
        found += [f"{name}: {text}" for text in _of_pod(pod, is_monitor=is_monitor)]
        for container in pod.get("initContainers", []) + pod["containers"]:
            found += [f"{name}/{container['name']}: {text}" for text in _of_container(container, is_monitor=is_monitor)]
    return found + list(_of_references(objects))


def _of_pod(pod: Object, *, is_monitor: bool) -> Iterator[str]:
    if pod.get("automountServiceAccountToken") is not False:
        yield "has a token of Kubernetes that it does not need"
    if pod.get("hostNetwork", False) is not is_monitor or pod.get("hostPID") or pod.get("hostIPC"):
        yield "shares what is the node's"
    for volume in pod.get("volumes", []):
        if not SAFE_VOLUMES.intersection(volume):
            yield f"the volume {volume['name']} is of a kind that is not allowed"


def _of_container(container: Object, *, is_monitor: bool) -> Iterator[str]:
    security = container.get("securityContext", {})
    wanted = {
        "runAsNonRoot": True,
        "allowPrivilegeEscalation": False,
        "privileged": False,
        "readOnlyRootFilesystem": True,
        "seccompProfile": {"type": "RuntimeDefault"},
        "capabilities": {"drop": ["ALL"], **({"add": ["NET_RAW"]} if is_monitor else {})},
    }
    yield from (f"{key} is {security.get(key)}" for key, value in wanted.items() if security.get(key) != value)
    if not isinstance(security.get("runAsUser"), int) or security["runAsUser"] < 1:
        yield "the user is not a number other than root's"
    image = container["image"]
    if "@sha256:" not in image and (":" not in image.rpartition("/")[2] or image.endswith(":latest")):
        yield f"the image {image} may be another one tomorrow"
    resources = container.get("resources", {})
    if not {"cpu", "memory"} <= resources.get("requests", {}).keys() or "memory" not in resources.get("limits", {}):
        yield "does not say what it needs, or how much memory it may use"
    yield from (
        f"has no {probe}" for probe in ("startupProbe", "readinessProbe", "livenessProbe") if probe not in container
    )
    if container["name"] == "binlock" and container.get("restartPolicy") != "Always":
        yield "is no sidecar: it would have to end before the server begins"


def _of_references(objects: Sequence[Object]) -> Iterator[str]:
    """Whether each ConfigMap that is mounted exists, each mount has a volume, and each selector finds its pods."""
    there = {each["metadata"]["name"] for each in objects if each["kind"] == "ConfigMap"}
    labels = [each["spec"]["template"]["metadata"]["labels"] for each in objects if each["kind"] in WORKLOADS]
    for name, pod in pods(objects):
        claims = [
            claim["metadata"]["name"]
            for each in objects
            if each["metadata"]["name"] == name and each["kind"] == "StatefulSet"
            for claim in each["spec"].get("volumeClaimTemplates", [])
        ]
        volumes = {volume["name"] for volume in pod.get("volumes", [])} | set(claims)
        for container in pod.get("initContainers", []) + pod["containers"]:
            for mount in container.get("volumeMounts", []):
                if mount["name"] not in volumes:
                    yield f"{name}/{container['name']}: there is no volume {mount['name']}"
        for volume in pod.get("volumes", []):
            sources = [*volume.get("projected", {}).get("sources", []), volume]
            for source in sources:
                wanted = source.get("configMap", {}).get("name")
                if wanted is not None and wanted not in there and not wanted.startswith("given-"):
                    yield f"{name}: there is no ConfigMap {wanted}"
    for each in objects:
        spec = each.get("spec", {})
        selectors = {
            "Service": spec.get("selector"),
            "NetworkPolicy": spec.get("podSelector", {}).get("matchLabels"),
            "PodMonitor": spec.get("selector", {}).get("matchLabels"),
            "PodDisruptionBudget": spec.get("selector", {}).get("matchLabels"),
        }
        selector = selectors.get(each["kind"])
        if selector is not None and not any(selector.items() <= pod.items() for pod in labels):
            yield f"{each['kind']} {each['metadata']['name']} selects no pod"
