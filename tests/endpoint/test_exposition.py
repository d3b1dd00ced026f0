"""A registry, in the format that is asked for, in pieces."""

from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import choose_encoder
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_plain

from endpoint.answers import Answer
from endpoint.exposition import exposition
from tests.endpoint.client import serving


def registry(series: int = 3) -> CollectorRegistry:
    made = CollectorRegistry()
    counter = Counter("things", "Things.", ["number"], registry=made)
    for number in range(series):
        counter.labels(f'{number} "quoted"\n')
    for number in range(20):
        Gauge(f"gauge_{number}", "A gauge.", registry=made).set(number)
    Histogram("some_seconds", "Some.", registry=made).observe(1)
    return made


def pieces(answer: Answer) -> list[bytes]:
    assert isinstance(answer.body, Iterator)
    return list(answer.body)


@pytest.mark.parametrize(
    "accept",
    ["", "text/plain", "text/plain;version=1.0.0;escaping=allow-utf-8", "application/openmetrics-text; version=1.0.0",
     "application/openmetrics-text;version=1.0.0;escaping=underscores,text/plain;version=0.0.4;q=0.3,*/*;q=0.1"],
)  # fmt: skip
@pytest.mark.parametrize("series", [0, 1, 1000])
def test_the_pieces_are_what_the_library_makes_of_the_whole(accept: str, series: int) -> None:
    made = registry(series)
    encoder, content_type = choose_encoder(accept)
    answer = exposition(made, accept)
    assert answer.content_type == content_type
    assert b"".join(pieces(answer)) == encoder(made)


def test_a_large_registry_comes_in_more_pieces_than_one_and_a_small_one_in_one() -> None:
    assert len(pieces(exposition(registry(1000), ""))) > 1
    assert len(pieces(exposition(registry(), ""))) == 1


@pytest.mark.parametrize(
    "accept",
    ["text/plain;version=abc", "text/plain;version=1e5", "application/openmetrics-text;version=x",
     "application/openmetrics-text; version=1", "a" * 5000, ";;;,,,=", "text/plain;version=;escaping="],
)  # fmt: skip
async def test_no_accept_header_can_cost_more_than_the_plain_format(accept: str) -> None:
    defects: list[Exception] = []
    made = registry()
    async with serving({"/metrics": lambda request: exposition(made, request.accept)}, defects) as client:
        status, headers, body = await client.get("/metrics", f"Accept: {accept}")
    assert (status, defects) == (200, [])
    parse = parse_openmetrics if "openmetrics" in headers["content-type"] else parse_plain
    assert {family.name for family in parse(body.decode())} >= {"things", "gauge_7", "some_seconds"}
