"""What a rule does when it objects: refuse, or in observe mode only say what it would refuse.

A site starts in observe mode (`enforce = false`): roster, account, server id and policy are judged as ever, and what
they would refuse is only said. Address and encryption are never left to it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from proxy.outcomes import SessionRefused


@dataclass(frozen=True, slots=True)
class Objections:
    """Where rules bring their objections.

    Attributes:
        enforce: whether an objection refuses.
        note: told of each objection that does not.
    """

    enforce: bool
    note: Callable[[SessionRefused], None]

    def raise_or_note(self, refusal: SessionRefused) -> None:
        """Refuses, or notes.

        Raises:
            SessionRefused: the one given, where the route enforces.
        """
        if self.enforce:
            raise refusal
        self.note(refusal)
