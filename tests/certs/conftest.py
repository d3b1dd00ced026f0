from pathlib import Path

import pytest

from certs.authority import Authority
from certs.keys import KeyType
from certs.profiles import Lifetime


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.create(
        tmp_path / "authority", name="Test CA", lifetime=Lifetime.days(3650), key_type=KeyType.ECDSA_P256
    )
