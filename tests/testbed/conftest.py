import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder for servers: their logs stay for whoever looks into a failure, their data goes."""
    yield tmp_path
    for data in tmp_path.glob("**/data"):
        shutil.rmtree(data)
