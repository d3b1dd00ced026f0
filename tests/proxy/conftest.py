"""What the tests of the proxy share."""

import logging
from collections.abc import Iterator

import pytest

from proxy.openssl import Context, server_context
from proxy.outcomes import ENDINGS, OBJECTIONS, REFUSALS, Reason
from proxy.outcomes import Stage as Place
from proxy.reporting.logs import logger
from tests.proxy.bench import EventLog
from tests.proxy.pki import Pki
from tests.proxy.stages.relaying import Stage


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
    assert_known(handler)
    logger.handlers[:] = handlers
    logger.setLevel(level)
    logger.propagate = propagate


def assert_known(log: EventLog) -> None:
    """The metrics begin with every label set that there can be: what was logged must be among them."""
    for name, known in (("session_refused", REFUSALS), ("would_refuse", OBJECTIONS)):
        for event in log.events(name):
            stage, reason = Place(str(event["stage"])), Reason(str(event["reason"]))
            assert reason in known[stage], f"{name} at {stage} for {reason}"
    for event in log.events("session_ended"):
        assert Reason(str(event["reason"])) in ENDINGS


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage()
    yield stage
    stage.close()
