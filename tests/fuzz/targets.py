"""What there is to fuzz: a target is a module with ``run(data)``, which ends in silence, or raises: a finding."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
CORPUS: Final = Path(__file__).parent / "corpus"  # one directory a target; what ordinary pytest replays


@dataclass(frozen=True, slots=True)
class Target:
    """``longest``: bytes of an input that still mean something; ``records``: it is made of records (``feed``)."""

    name: str
    longest: int
    records: bool

    @property
    def run(self) -> Callable[[bytes], None]:
        """Plays one input. Imported when it is asked for, so that the fuzzer can instrument what that loads."""
        found: Callable[[bytes], None] = importlib.import_module(f"tests.fuzz.target_{self.name}").run
        return found

    @property
    def corpus(self) -> Path:
        """The inputs that are kept."""
        return CORPUS / self.name


TARGETS: Final = {
    target.name: target
    for target in (
        Target("stack", 49 * 16, records=True),
        Target("parsers", 2048, records=False),
        Target("api", 65 * 16, records=True),
        Target("engine", 4096, records=False),
    )
}


def target_of(path: Path) -> Target:
    """The target whose input lies at ``path``, by the directory that it lies in; ValueError if that is none's."""
    for part in reversed(path.resolve().parts[:-1]):
        if part in TARGETS:
            return TARGETS[part]
    raise ValueError(f"{path} lies in no target's directory ({', '.join(TARGETS)})")
