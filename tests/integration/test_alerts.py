"""A replica in the clear is told to whoever is on call, and so is the end of it: real servers, real Prometheus."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.integration.observed import ObservedSite

# The product's contract: from the connection to the webhook.
TOLD_WITHIN_SECONDS = 30


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObservedSite]:
    with ObservedSite(tmp_path_factory.mktemp("observed") / "site") as made:
        yield made


def test_a_replica_in_the_clear_reaches_the_webhook_and_so_does_its_end(site: ObservedSite) -> None:
    connected_seconds = time.time()
    site.replicate_in_the_clear(site.moving)
    for watchers in site.watchers.values():
        alert = watchers.webhook.wait_for("BinlockPlaintextReplication", timeout=60)
        assert alert["received_seconds"] - connected_seconds < TOLD_WITHIN_SECONDS
    site.moving.reset_replication()
    site.replicate_through_proxy(site.moving)
    for watchers in site.watchers.values():
        watchers.webhook.wait_for("BinlockPlaintextReplication", "resolved", timeout=60)
