"""Any table of paths, served to clients that are slow, broken, many or hostile; by bytes as they cross the wire."""

import json
from collections.abc import Iterator
from http import HTTPStatus

import pytest
import trio
import trio.testing

from endpoint.answers import Answer, Page, Request, alive, json_list_answer, text_answer
from endpoint.naming import is_loopback
from endpoint.serving import Endpoint
from tests.endpoint.client import no_defect, serving

ASK = b"GET /alive HTTP/1.1\r\nHost: x\r\n\r\n"
ASK_LIST = b"GET /list HTTP/1.1\r\nHost: x\r\n\r\n"


def pages(count: int = 3, **others: Page) -> dict[str, Page]:
    return {
        "/alive": alive,
        "/list": lambda _: json_list_answer({"number": number} for number in range(count)),
        "/asked": lambda request: text_answer(f"{request.query} {request.accept}"),
        **{f"/{name}": page for name, page in others.items()},
    }


async def test_a_page_is_told_query_and_accept_and_answers_as_it_likes() -> None:
    def teapot(_: Request) -> Answer:
        return Answer(
            body=b"short", content_type="text/html", status=HTTPStatus.IM_A_TEAPOT, headers=(("x-handle", "yes"),)
        )

    async with serving(pages(teapot=teapot)) as client:
        assert (await client.get("/asked?a=1?b", "Accept: this"))[2] == b"a=1?b this\n"
        status, headers, body = await client.get("/teapot")
        assert (status, body) == (418, b"short")
        assert headers == {
            "content-type": "text/html",
            "content-length": "5",
            "x-handle": "yes",
            "cache-control": "no-store",
        }


@pytest.mark.parametrize("count", [0, 1, 50, 51, 500])
async def test_a_list_is_one_however_many_there_are(count: int) -> None:
    async with serving(pages(count)) as client:
        status, headers, body = await client.get("/list")
        assert (status, headers["content-type"]) == (200, "application/json; charset=utf-8")
        assert json.loads(body) == [{"number": number} for number in range(count)]


@pytest.mark.parametrize("path", ["/", "/alive/", "/ALIVE", "/nothing?x", "/%61live", "/\xe9"])
async def test_another_path_is_told_the_way(path: str) -> None:
    async with serving(pages()) as client:
        answer = await client.exchange(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode("latin-1"))
        assert answer.startswith(b"HTTP/1.1 40")
        if path != "/\xe9":  # is no target at all (RFC 9112, 3.2)
            assert answer.endswith(b"try /alive, /list or /asked\n")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
async def test_another_method_is_not_allowed(method: str) -> None:
    async with serving(pages()) as client:
        status, headers, _ = await client.get("/alive", method=method)
        assert (status, headers["allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize("path", ["/list", "/alive"])
async def test_head_has_the_headers_and_no_body(path: str) -> None:
    async with serving(pages()) as client:
        status, headers, body = await client.get(path, method="HEAD")
        assert (status, body) == (200, b"")
        assert headers.get("content-length") in {None, "3"}


async def test_head_keeps_the_connection() -> None:
    async with serving(pages()) as client:
        answer = await client.exchange(ASK_LIST.replace(b"GET", b"HEAD") * 2)
        assert answer.count(b"HTTP/1.1 200 OK") == 2


async def test_requests_in_one_segment_are_answered_in_order() -> None:
    async with serving(pages()) as client:
        answer = await client.exchange(ASK + ASK_LIST + ASK.replace(b"alive", b"nothing"))
        places = [answer.index(text) for text in (b"ok\n", b'"number"', b"try /alive")]
        assert places == sorted(places)
        assert answer.count(b"HTTP/1.1 ") == 3


async def test_a_connection_is_kept_open_for_the_next_request() -> None:
    async with serving(pages()) as client, await client.dial() as stream:
        for _ in range(3):
            await stream.send_all(ASK)
            assert b"ok\n" in await stream.receive_some(4096)


async def test_a_client_of_http_1_0_gets_a_list_until_the_end() -> None:
    async with serving(pages(0)) as client:
        head, _, body = (await client.exchange(b"GET /list HTTP/1.0\r\n\r\n")).partition(b"\r\n\r\n")
        assert b"chunked" not in head
        assert body == b"[]"


@pytest.mark.parametrize(
    "sent",
    [b"garbage\r\n\r\n", b"\x16\x03\x01\x00\x05hello\r\n\r\n", b"GET / HTTP/1.1\r\nno colon\r\n\r\n", b"GET /\r\n\r\n",
     b"GET /x HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n"],
)  # fmt: skip
async def test_a_request_that_is_none_is_refused_and_the_next_is_served(sent: bytes) -> None:
    async with serving(pages()) as client:
        assert (await client.exchange(sent)).startswith(b"HTTP/1.1 4")
        assert (await client.get("/alive"))[0] == 200


@pytest.mark.parametrize(
    "sent", [b"", b"G", b"GET / HTTP/1.1\r\nHost", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nx"]
)
async def test_a_client_that_leaves_half_way_through_harms_nobody(sent: bytes) -> None:
    async with serving(pages()) as client:
        async with await client.dial() as stream:
            await stream.send_all(sent)
        assert (await client.get("/alive"))[0] == 200


async def test_a_header_without_end_is_cut_off() -> None:
    async with serving(pages()) as client:
        assert (await client.exchange(b"GET / HTTP/1.1\r\nX: " + b"x" * 18_000)).startswith(b"HTTP/1.1 431")


async def test_a_slow_client_does_not_hold_the_others_up() -> None:
    async with serving(pages()) as client, await client.dial() as slow:
        await slow.send_all(b"GET /ali")
        assert (await client.get("/alive"))[0] == 200
        await slow.send_all(b"ve HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"ok\n" in await slow.receive_some(4096)


async def test_a_client_that_reads_nothing_does_not_hold_the_others_up() -> None:
    made = 0

    def endless(_: Request) -> Answer:
        def pieces() -> Iterator[bytes]:
            nonlocal made
            while True:
                made += 1
                yield b"x" * 65536

        return Answer(body=pieces())

    async with serving(pages(endless=endless)) as client, await client.dial() as idle:
        await idle.send_all(ASK.replace(b"alive", b"endless"))
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert made
        assert (await client.get("/alive"))[0] == 200
        before = made
        assert (await client.get("/list"))[0] == 200
        # Nothing is made for whoever does not read, so that no memory is spent either.
        assert made == before


async def test_who_is_too_slow_is_sent_away(autojump_clock: trio.testing.MockClock) -> None:
    near, far = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(Endpoint(pages(), on_defect=no_defect).serve, far)
        began = trio.current_time()
        await near.send_all(b"GET /alive HT")
        assert await near.receive_some() == b""
    assert trio.current_time() - began == pytest.approx(10)


async def test_more_connections_than_the_limit_are_closed_at_once() -> None:
    async with serving(pages()) as client, trio.open_nursery() as nursery:
        streams = [await client.dial() for _ in range(64)]
        for stream in streams:
            await stream.send_all(ASK)
            assert (await stream.receive_some()).startswith(b"HTTP/1.1 200")
        assert await client.exchange(ASK) == b""
        for stream in streams:
            nursery.start_soon(stream.aclose)
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert (await client.get("/alive"))[0] == 200


async def test_a_defect_costs_one_answer() -> None:
    defects: list[Exception] = []

    def broken(_: Request) -> Answer:
        raise KeyError("x")

    def breaking(_: Request) -> Answer:
        def pieces() -> Iterator[bytes]:
            yield b"half"
            raise KeyError("y")

        return Answer(body=pieces())

    async with serving(pages(broken=broken, breaking=breaking), defects) as client:
        assert await client.exchange(ASK.replace(b"alive", b"broken")) == b""
        half = await client.exchange(ASK.replace(b"alive", b"breaking"))
        assert b"half" in half
        assert not half.endswith(b"0\r\n\r\n")
        assert (await client.get("/alive"))[0] == 200
    assert [str(defect) for defect in defects] == ["'x'", "'y'"]


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:9307", "127.0.0.1.evil.example", "EVIL.example.", "1.2.3.4.5"]
)
async def test_a_page_from_elsewhere_reads_nothing_by_a_name_of_its_own(host: str) -> None:
    async with serving(pages()) as client:
        answer = await client.exchange(f"GET /alive HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        assert answer.startswith(b"HTTP/1.1 421 ")
        assert b"ask for localhost" in answer


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST:9307", "a.localhost:1", "127.0.0.1", "127.0.0.1:1", "[::1]:1", "[::1]", "db1:1", ""],
)
async def test_names_that_nobody_elsewhere_can_own_are_answered(host: str) -> None:
    async with serving(pages()) as client:
        answer = await client.exchange(f"GET /alive HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert (await client.exchange(b"GET /alive HTTP/1.0\r\n\r\n")).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        (("127.0.0.1", 1), True),
        (("::1", 1, 0, 0), True),
        (("10.0.0.1", 1), False),
        (("fe80::1%eth0", 1, 0, 2), False),
        ("/run/x", False),
    ],
)
def test_who_must_be_asked_by_such_a_name(address: object, expected: bool) -> None:
    assert is_loopback(address) is expected
