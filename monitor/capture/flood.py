"""When openings flood in, they are kept out for a while, so that what matters is still looked at."""

# A server whose clients connect for each statement sees some thousands a second; each opening costs some 20 us here.
_MOST_OPENINGS_A_SECOND = 30_000
_FIRST_PAUSE_SECONDS = 5
_LONGEST_PAUSE_SECONDS = 60


class FloodGate:
    """Decides whether openings are let in, from how many came in.

    While they are kept out nobody can tell whether the flood goes on. So they are let in again after a pause, which
    doubles as long as the flood is found to be still there.

    Attributes:
        is_closed: whether openings are kept out.
        floods: how often a flood began.
    """

    def __init__(self) -> None:
        self.is_closed = False
        self.floods = 0
        self._pause_seconds = _FIRST_PAUSE_SECONDS
        self._reopens_seconds = 0.0
        self._seen = 0
        self._seen_seconds = 0.0

    def judge(self, openings: int, now_seconds: float) -> bool:
        """Takes how many openings came in since the start; returns whether the gate has moved."""
        elapsed = now_seconds - self._seen_seconds
        rate = (openings - self._seen) / elapsed if elapsed > 0 and self._seen_seconds else 0.0
        self._seen, self._seen_seconds = openings, now_seconds
        if self.is_closed:
            if now_seconds < self._reopens_seconds:
                return False
            self.is_closed = False
            return True
        if rate <= _MOST_OPENINGS_A_SECOND:
            return False
        self._close(now_seconds)
        return True

    def _close(self, now_seconds: float) -> None:
        if now_seconds > self._reopens_seconds + self._pause_seconds:
            self._pause_seconds = _FIRST_PAUSE_SECONDS
            self.floods += 1
        else:
            self._pause_seconds = min(2 * self._pause_seconds, _LONGEST_PAUSE_SECONDS)
        self.is_closed = True
        self._reopens_seconds = now_seconds + self._pause_seconds
