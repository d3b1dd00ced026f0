"""The images, built once: every test here that runs them shares their files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed.images import Images

ROOT = Path(__file__).parents[2]
DEFINITION = ROOT / "deploy" / "container" / "Containerfile"


@pytest.fixture(scope="session")
def roots(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    """The files of each image, as buildah makes them from the definition."""
    with Images(tmp_path_factory.mktemp("images") / "store") as images:
        yield images.build(DEFINITION, ["proxy", "monitor"], ROOT)
