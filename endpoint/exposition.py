"""A registry as a scraper wants it, family by family, so that a large one does not hold up what the process is for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from endpoint.answers import Answer

_PIECE_BYTES = 16_384


class _Families(Collector):
    def __init__(self, *families: Metric) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def exposition(registry: CollectorRegistry, accept: str) -> Answer:
    """The registry in the format that a scraper accepts: OpenMetrics, or the plain format, which any can read."""
    try:
        encoder, content_type = choose_encoder(accept)
        encoder(_Families())
    except (TypeError, ValueError):
        # A version in the header that the library cannot read.
        encoder, content_type = choose_encoder("")
    return Answer(body=_pieces(registry, encoder), content_type=content_type)


def _pieces(registry: CollectorRegistry, encoder: Callable[[Collector], bytes]) -> Iterator[bytes]:
    end = encoder(_Families())
    gathered = b""
    for family in registry.collect():
        gathered += encoder(_Families(family)).removesuffix(end)
        if len(gathered) >= _PIECE_BYTES:
            yield gathered
            gathered = b""
    yield gathered + end
