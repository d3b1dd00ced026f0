"""Prometheus' own judgement of what is served: `promtool check metrics`, of bookworm's Prometheus and of sid's."""

import subprocess

from testbed.fetch import bundle

VERSIONS = ("prometheus", "prometheus-sid")


def complaints(text: str) -> list[str]:
    """What either finds wrong with metrics in the plain format."""
    found: list[str] = []
    for version in VERSIONS:
        command = [*bundle(version).command("promtool"), "check", "metrics"]
        done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=60, check=False)
        said = (done.stdout + done.stderr).split("\n")
        found.extend(f"{version}: {line}" for line in said if line)
        if done.returncode and not found:
            found.append(f"{version}: exit status {done.returncode}")
    return found
