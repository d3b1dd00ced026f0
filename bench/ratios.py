"""Numbers of many rounds: medians, spreads, and ratios of what ran in the same round."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any


@dataclass(frozen=True, slots=True)
class Measure:
    """One thing that is measured.

    Attributes:
        more_is_better: whether a ratio above one is good.
        limit: the ratio of Binlock to the best peer, or to `limit_peer`, that DESIGN.md section 10 asks for.
    """

    key: str
    title: str
    more_is_better: bool = False
    limit: float | None = None
    limit_peer: str | None = None
    digits: int = 0


MEASURES = (
    Measure("bulk_mb_s", "bulk, MB/s", more_is_better=True, limit=1.0),
    Measure("bulk_cpu_s_gb", "CPU, s/GB", limit=1.0, digits=3),
    Measure("ping_p50_us", "ping p50, us", limit=1.15, limit_peer="stunnel", digits=1),
    Measure("ping_p99_us", "ping p99, us", digits=1),
    Measure("ping_cpu_us", "CPU, us/ping", digits=1),
    Measure("set_up_cpu_ms", "CPU, ms/session set-up", digits=2),
    Measure("idle_kib", "memory, KiB/idle session", digits=1),
)

# Of one competitor, by the key of the measure and in the order of the rounds.
Samples = dict[str, list[float]]


@dataclass(frozen=True, slots=True)
class Spread:
    """The middle of some numbers, and their ends."""

    middle: float
    least: float
    most: float

    @classmethod
    def of(cls, numbers: Sequence[float]) -> "Spread":
        """The spread of at least one number."""
        return cls(median(numbers), min(numbers), max(numbers))

    def as_json(self) -> dict[str, float]:
        """For `--json`."""
        return {"median": self.middle, "min": self.least, "max": self.most}


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> Spread | None:
    """Ours divided by theirs, round by round: what slowed the machine down in a round slowed both.

    None where theirs has no weight at all.
    """
    if not all(theirs):
        return None
    return Spread.of([one / other for one, other in zip(ours, theirs, strict=True)])


def best_peer(measure: Measure, samples: Mapping[str, Samples], peers: Sequence[str]) -> str:
    """The peer that is ahead of the others by its median."""
    choose = max if measure.more_is_better else min
    return choose(peers, key=lambda peer: median(samples[peer][measure.key]))


def as_json(samples: Mapping[str, Samples], ends: Mapping[str, dict[str, list[list[float]]]], *, subject: str,
            peers: Sequence[str]) -> dict[str, Any]:  # fmt: skip
    """One topology: each competitor's spreads, and the subject's ratios to each peer."""
    return {
        "competitors": {
            name: {
                **{key: Spread.of(numbers).as_json() for key, numbers in measures.items() if numbers},
                "by_end": {key: [median(numbers) for numbers in zip(*rounds, strict=True)]
                           for key, rounds in ends[name].items()},
            }
            for name, measures in samples.items()
        },
        "ratios": {
            peer: {
                key: spread.as_json()
                for key in samples[subject]
                if (spread := ratio(samples[subject][key], samples[peer][key])) is not None
            }
            for peer in peers
        },
    }  # fmt: skip
