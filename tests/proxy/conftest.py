"""What the tests of the proxy share."""

import logging
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import trio
from cryptography.hazmat.primitives.serialization import Encoding

from proxy import server as server_module
from proxy.openssl import Context, server_context
from proxy.outcomes import ENDINGS, OBJECTIONS, REFUSALS, Reason
from proxy.outcomes import Stage as Place
from proxy.reporting.logs import logger
from tests.proxy.bench import GIVE_UP_SECONDS, EventLog
from tests.proxy.conversations import EVENTS
from tests.proxy.fakes import FakeSource
from tests.proxy.pki import Pki
from tests.proxy.running import Running
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


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "_WATCH_SECONDS", 0.03)
    monkeypatch.setattr(server_module, "_SUPERVISION_SECONDS", 0.02)


@pytest.fixture
async def running(
    tmp_path: Path, log: EventLog, pki: Pki, quick: None, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Running]:
    """Files of a TLS route are there; nothing runs before `serving`."""
    for name, path in (
        ("p.crt", pki.proxy.certificate_file),
        ("p.key", pki.proxy.key_file),
        ("ca.crt", pki.authority.file),
    ):
        shutil.copy(path, tmp_path / name)
    (tmp_path / "ca.crl").write_bytes(pki.crl.public_bytes(Encoding.PEM))
    monkeypatch.setattr(server_module, "set_up_logging", lambda *_: None)  # the log goes to the test
    with trio.fail_after(GIVE_UP_SECONDS):
        source = FakeSource(stream=EVENTS)
        async with source.listening():
            yield Running(tmp_path, source, log)
