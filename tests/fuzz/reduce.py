"""A crashing input made small: records or bytes leave, and others become zero, as long as the finding is the same."""

import traceback
from collections.abc import Callable

from tests.fuzz.feed import RECORD
from tests.fuzz.targets import Target

Place = tuple[str, str, int]  # kind of exception, file, line


def place(run: Callable[[bytes], None], data: bytes) -> Place | None:
    """Where ``data`` makes ``run`` fail; None: it does not."""
    try:
        run(data)
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        return type(error).__name__, frames[-1].filename, frames[-1].lineno or 0
    return None


def reduce(target: Target, data: bytes) -> bytes:
    """The smallest input like ``data`` that a simple search finds; ``data`` itself if it does not fail."""
    run = target.run
    wanted = place(run, data)
    if wanted is None:
        return data
    size = RECORD if target.records else 1
    before = None
    while before != data:
        before = data
        for step in (size * 8, size * 2, size):
            at = 0
            while at < len(data):
                shorter = data[:at] + data[at + step :]
                if place(run, shorter) == wanted:
                    data = shorter
                else:
                    at += step
        for at, byte in enumerate(data):
            zeroed = data[:at] + b"\0" + data[at + 1 :]
            if byte and place(run, zeroed) == wanted:
                data = zeroed
    return data.rstrip(b"\0") if place(run, data.rstrip(b"\0")) == wanted else data
