"""The process that fuzzes one target: atheris around ``run``, libFuzzer's words as arguments.

It is a process of its own because libFuzzer ends it, at the end of its time or with a finding.
"""

import sys

import atheris

from tests.fuzz.mutate import mutate
from tests.fuzz.targets import TARGETS


def main(name: str, words: list[str]) -> None:
    """Fuzz the target ``name``. Does not return."""
    target = TARGETS[name]
    with atheris.instrument_imports(include=["usertcp"]):
        run = target.run

    def bend(data: bytes, longest: int, seed: int) -> bytes:
        if seed & 1:
            return bytes(atheris.Mutate(data, longest))
        return mutate(data, longest, seed)

    more = {"custom_mutator": bend} if target.records else {}
    atheris.Setup(["fuzz", *words], run, internal_libfuzzer=True, **more)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
