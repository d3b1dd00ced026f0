"""What the Containerfile says of each image, as a container runtime would be told."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field

from tests.deploy.conftest import DEFINITION


@dataclass
class Stage:
    """One stage of the definition: its instructions in order, and what they leave in the image's configuration."""

    base: str
    instructions: list[tuple[str, str]] = field(default_factory=list)

    def last(self, instruction: str) -> str:
        """The argument of the last instruction of that name."""
        return [text for name, text in self.instructions if name == instruction][-1]

    @property
    def environment(self) -> dict[str, str]:
        pairs = [pair for name, text in self.instructions if name == "ENV" for pair in text.split()]
        return dict(pair.split("=", 1) for pair in pairs)

    @property
    def entrypoint(self) -> list[str]:
        return list(json.loads(self.last("ENTRYPOINT")))

    @property
    def command(self) -> list[str]:
        return list(json.loads(self.last("CMD")))

    @property
    def health(self) -> list[str]:
        """The command of the health check, which is not a shell's."""
        return list(json.loads(self.last("HEALTHCHECK").partition("CMD ")[2]))


def stages() -> dict[str, Stage]:
    """By the stages' names."""
    text = re.sub(r"^#.*\n", "", DEFINITION.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    found: dict[str, Stage] = {}
    for line in filter(None, text.splitlines()):
        name, _, argument = line.partition(" ")
        if name == "FROM":
            base, _, stage = argument.partition(" AS ")
            found[stage] = Stage(base)
        elif found:
            list(found.values())[-1].instructions.append((name, argument))
    return found
