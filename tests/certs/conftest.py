import os
from pathlib import Path

import pytest

from certs.issuing.authority import Authority
from certs.keys import KeyType
from certs.profiles import Lifetime


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.create(
        tmp_path / "authority", name="Test CA", lifetime=Lifetime.days(3650), key_type=KeyType.ECDSA_P256
    )


@pytest.fixture(autouse=True)
def _without_power_cuts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes die here, machines do not: nothing needs to reach the disk, which takes half of the time."""
    monkeypatch.setattr(os, "fsync", lambda _descriptor: None)
