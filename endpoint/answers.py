"""What a path is asked and what it answers: the vocabulary between the endpoint and whoever knows the facts."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

JSON = "application/json; charset=utf-8"
TEXT = "text/plain; charset=utf-8"
# Others have their turn between two pieces of a long answer.
_OBJECTS_A_PIECE = 50


@dataclass(frozen=True, slots=True)
class Request:
    """A GET, or a HEAD, for which the same is answered.

    Attributes:
        path: without the query.
        query: what stands behind the first `?`.
        accept: the header of that name; empty if there is none.
    """

    path: str
    query: str = ""
    accept: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An answer of known length, or one that is made while it is sent.

    Attributes:
        body: bytes; or pieces, between which other connections and the rest of the process have their turn.
        headers: besides content-type, content-length and cache-control; names in lower case.
    """

    body: bytes | Iterator[bytes]
    content_type: str = TEXT
    status: HTTPStatus = HTTPStatus.OK
    headers: tuple[tuple[str, str], ...] = ()


Page = Callable[[Request], Answer]


def text_answer(text: str, status: HTTPStatus = HTTPStatus.OK) -> Answer:
    """One line of text."""
    return Answer(body=f"{text}\n".encode(), status=status)


def json_list_answer(objects: Iterator[dict[str, Any]]) -> Answer:
    """A JSON list of however many objects; they are consumed while it is sent."""
    return Answer(body=_json_list(objects), content_type=JSON)


def alive(_: Request) -> Answer:
    """For `/healthz`: whoever can answer is alive."""
    return text_answer("ok")


def _json_list(objects: Iterator[dict[str, Any]]) -> Iterator[bytes]:
    lead = "["
    while piece := list(itertools.islice(objects, _OBJECTS_A_PIECE)):
        yield (lead + ",".join(map(json.dumps, piece))).encode()
        lead = ","
    yield b"[]" if lead == "[" else b"]"
