"""What a scenario is, and what one run of it gives: a ladder and a list of statements with verdicts."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from usertcp.lab.ladder import Ladder

BOTH: Final = "both"  # the role of a scenario in which the two ends do the same


@dataclass(frozen=True, slots=True)
class Check:
    """One statement, whether it holds, and what was seen."""

    statement: str
    holds: bool
    seen: str = ""


@dataclass(slots=True)
class Result:
    """One run: the ladder, and every statement of the scenario with its verdict.

    ``held_up``  nanoseconds that the machine ran others meanwhile: what was to come at once may have come that late
    """

    ladder: Ladder
    checks: list[Check] = field(default_factory=list)
    held_up: int = 0

    @property
    def holds(self) -> bool:
        """Whether there was something to check and all of it holds."""
        return bool(self.checks) and all(check.holds for check in self.checks)


@dataclass(frozen=True, slots=True)
class Scenario:
    """A scenario: its name, the roles usertcp can play in it, one sentence, and how to run it.

    ``play(role, pcap)`` runs it once in namespaces of its own and removes them; ``pcap`` names a file to record to.
    """

    name: str
    roles: tuple[str, ...]
    summary: str
    play: Callable[[str, Path | None], Result]

    def run(self, role: str = "", pcap: Path | None = None) -> Result:
        """Run in ``role`` (the first one by default)."""
        role = role or self.roles[0]
        if role not in self.roles:
            raise ValueError(f"{self.name} has no role {role!r}; it has {', '.join(self.roles)}")
        return self.play(role, pcap)
