"""Handshakes and ends: what they remember, and how much of it."""

from __future__ import annotations

from monitor.segments import ACK, SYN, Segment
from monitor.tracking.openings import Endings, Openings
from tests.monitor.segmenting import CLIENT_KEY, Conversation


def test_a_handshake_is_known_by_both_sides() -> None:
    openings = Openings(10)
    for segment in Conversation(first=(1000, 2000)).open()[:2]:
        openings.take(segment)
    opening = openings.pop(CLIENT_KEY)
    assert opening is not None
    assert (opening.client_sequence, opening.server_sequence, opening.packets) == (1000, 2000, 2)
    assert openings.pop(CLIENT_KEY) is None
    assert openings.total == 1


def test_an_answer_alone_tells_where_the_client_begins() -> None:
    openings = Openings(10)
    openings.take(Conversation(first=(1000, 2000)).open()[1])
    opening = openings.pop(CLIENT_KEY)
    assert opening is not None
    assert (opening.client_sequence, opening.server_sequence) == (1000, 2000)


def test_another_syn_between_the_same_ports_is_another_handshake() -> None:
    openings = Openings(10)
    for sequence in (5, 5, 9_000_000):
        openings.take(Segment(CLIENT_KEY, sequence, 0, SYN, b"", 0, 0.0))
    opening = openings.pop(CLIENT_KEY)
    assert opening is not None
    assert (opening.client_sequence, opening.packets, openings.total) == (9_000_000, 1, 2)


def test_segments_near_the_beginning_belong_to_it() -> None:
    openings = Openings(10)
    openings.take(Segment(CLIENT_KEY, (1 << 32) - 5, 0, SYN, b"", 0, 0.0))
    opening = openings.pop(CLIENT_KEY)
    assert opening is not None
    near = Segment(CLIENT_KEY, 20, 0, ACK, b"x", 1, 0.0)
    far = Segment(CLIENT_KEY, 1 << 30, 0, ACK, b"x", 1, 0.0)
    assert opening.holds(near, is_client=True)
    assert not opening.holds(far, is_client=True)
    assert opening.holds(far, is_client=False)  # whose SYN was not seen


def test_an_ending_is_remembered_for_some_seconds_and_for_what_it_sent() -> None:
    endings = Endings(10)
    endings.add(CLIENT_KEY, 1000, 50.0)
    assert endings.has_sent(Segment(CLIENT_KEY, 900, 0, ACK, b"", 100, 51.0))
    assert not endings.has_sent(Segment(CLIENT_KEY, 900, 0, ACK, b"", 101, 51.0))
    assert not endings.has_sent(Segment(CLIENT_KEY, 900, 0, ACK, b"", 100, 56.0))
    endings.forget(56.0)
    assert not endings.has_sent(Segment(CLIENT_KEY, 900, 0, ACK, b"", 100, 51.0))


def test_both_are_bounded() -> None:
    openings, endings = Openings(3), Endings(3)
    for number in range(10):
        key = CLIENT_KEY[:-4] + number.to_bytes(2) + CLIENT_KEY[-2:]
        openings.take(Segment(key, 1, 0, SYN, b"", 0, 0.0))
        endings.add(key, 10, 0.0)
    assert len(list(openings)) == 3
    assert openings.forgotten == 7
    assert not endings.has_sent(Segment(CLIENT_KEY[:-4] + bytes(2) + CLIENT_KEY[-2:], 1, 0, ACK, b"", 1, 0.0))
