"""What the tests of the proxy share. Hypothesis runs without its clock: a busy machine is no reason to fail."""

import logging
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from proxy.logs import logger
from proxy.openssl import Context, server_context
from tests.proxy.bench import EventLog
from tests.proxy.pki import Pki
from tests.proxy.relaying import Stage

settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="session")
def replica_context(pki: Pki) -> Context:
    """The proxy's side of a TLS replica leg, with a CRL."""
    return server_context(pki.material(pki.proxy, crls=(pki.crl,)))


@pytest.fixture
def log() -> Iterator[EventLog]:
    """Everything that the proxy logs, debug included; the logger is left as it was."""
    handlers, level, propagate = logger.handlers[:], logger.level, logger.propagate
    handler = EventLog()
    logger.handlers[:] = [handler]
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    yield handler
    logger.handlers[:] = handlers
    logger.setLevel(level)
    logger.propagate = propagate


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage()
    yield stage
    stage.close()
