"""Which lines of the package a set of inputs reaches, and the few of them that reach as much.

By tracing (``sys.settrace``), which stops in a function of which every line was seen. Lines are those that the compiled
code has; a module counts when it is loaded.
"""

import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Final

from tests.fuzz.targets import ROOT

PACKAGE: Final = str(ROOT / "usertcp") + "/"

Line = tuple[str, int]


class Lines:
    """The lines of the package that ran between ``start`` and ``stop``."""

    def __init__(self) -> None:
        self.seen: set[Line] = set()
        self._left: dict[CodeType, set[int]] = {}

    def start(self) -> None:
        sys.settrace(self._on_call)

    def stop(self) -> None:
        sys.settrace(None)

    def _on_call(self, frame: FrameType, event: str, arg: Any) -> Any:
        code = frame.f_code
        if not code.co_filename.startswith(PACKAGE):
            return None
        left = self._left.get(code)
        if left is None:
            left = self._left[code] = _lines(code)
        if code.co_firstlineno in left:  # of the line of `def` there is no event
            left.discard(code.co_firstlineno)
            self.seen.add((code.co_filename, code.co_firstlineno))
        return self._on_line if left else None

    def _on_line(self, frame: FrameType, event: str, arg: Any) -> Any:
        code = frame.f_code
        self._left[code].discard(frame.f_lineno)
        self.seen.add((code.co_filename, frame.f_lineno))
        return self._on_line


def _lines(code: CodeType) -> set[int]:
    return {line for _, _, line in code.co_lines() if line}


def _within(code: CodeType) -> set[int]:
    """The lines of the functions in a module's code."""
    found = set()
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            found |= _within(constant) | (_lines(constant) if constant.co_flags & 2 else set())
    return found


def measure(run: Callable[[bytes], None], inputs: Iterable[bytes], seconds: float) -> tuple[set[Line], int]:
    """What ``inputs`` reach, as many as can be played in ``seconds``; how many those were."""
    meter, end, count = Lines(), time.monotonic() + seconds, 0
    for data in inputs:
        if time.monotonic() > end:
            break
        count += 1
        _ = _play(run, data, meter)
    return meter.seen, count


def _play(run: Callable[[bytes], None], data: bytes, meter: Lines) -> bool:
    """Whether ``data`` played to its end; what it finds instead is told elsewhere."""
    meter.start()
    try:
        run(data)
    except Exception:
        return False
    finally:
        meter.stop()
    return True


def table(seen: set[Line]) -> list[tuple[str, int, int]]:
    """(layer, lines reached, lines there are) of the modules that are loaded."""
    reached, there = Counter[str](), Counter[str]()
    for module in list(sys.modules.values()):
        path = getattr(module, "__file__", None) or ""
        if not path.startswith(PACKAGE) or not path.endswith(".py"):
            continue
        lines = _within(compile(Path(path).read_text(), path, "exec"))
        layer = path.removeprefix(PACKAGE).partition("/")[0].removesuffix(".py")
        there[layer] += len(lines)
        reached[layer] += len(lines & {line for file, line in seen if file == path})
    return [(layer, reached[layer], there[layer]) for layer in sorted(there) if there[layer]]


def choose(run: Callable[[bytes], None], inputs: list[bytes], most: int) -> list[bytes]:
    """At most ``most`` of ``inputs`` that together reach nearly what all do: again and again the one that adds most,
    for its size. None that fails."""
    reach = []
    for data in inputs:
        meter = Lines()
        if _play(run, data, meter):
            reach.append((data, meter.seen))
    seen: set[Line] = set()
    chosen: list[bytes] = []
    while reach and len(chosen) < most:
        data, lines = max(reach, key=lambda pair: (len(pair[1] - seen) / (64 + len(pair[0])), -len(pair[0])))
        if not lines - seen:
            break
        seen |= lines
        chosen.append(data)
        reach.remove((data, lines))
    return chosen
