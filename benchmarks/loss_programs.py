"""The four programs of the benchmark, each a process in its namespace, talked to by lines of JSON.

They end when their stdin does: at the latest when this process is gone, however that came about.
"""

import json
import selectors
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Final, Self

from benchmarks.loss_ends import Orders
from benchmarks.loss_net import PEER, Net
from usertcp.errors import SetupError
from usertcp.link import netns as namespaces

ROOT: Final = Path(__file__).parents[1]
PATIENCE: Final = 30.0  # seconds that a program may take to start, or to end
RELAY, OURS, KERNEL, FAR = "relay", "ours", "kernel", "peer"

Event = tuple[str, dict[str, Any]]  # which program said what


class Child:
    """One program. ``errors``: what it said on stderr."""

    def __init__(self, name: str, space: str | None, module: str, *arguments: str) -> None:
        self.name = name
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115  (closed by ``end``)
        with namespaces.inside(space):
            self.process = subprocess.Popen(
                [sys.executable, "-m", f"benchmarks.{module}", *arguments],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
                start_new_session=True,  # Ctrl-C is for this process, which ends the others
            )
        assert self.process.stdout is not None
        self.orders = Orders(self.process.stdout.fileno())

    def tell(self, **words: Any) -> None:
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):  # it is dead, which its stdout will tell
            self.process.stdin.write(json.dumps(words).encode() + b"\n")
            self.process.stdin.flush()

    @property
    def errors(self) -> str:
        self._stderr.seek(0)
        return self._stderr.read().decode(errors="replace").strip()

    def end(self) -> None:
        """End its stdin, and wait for it."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self._stderr.close()


class Programs:
    """All of them, running; ended with the ``with`` block."""

    def __init__(self, net: Net, *, offload: bool = False, samples: bool = False, captures: Path | None = None) -> None:
        with ExitStack() as undo:
            self._selector = undo.enter_context(selectors.DefaultSelector())
            self._children: dict[str, Child] = {}
            more = ["--samples"] if samples else []
            relay = [
                net.near,
                net.far,
                *(["--offload"] if offload else []),
                *(["--pcap", str(captures.resolve())] if captures else []),
            ]
            plans: list[tuple[str, str | None, str, list[str]]] = [
                (RELAY, None, "loss_relay", relay),
                (KERNEL, net.near, "loss_ends", [PEER, *more]),
                (FAR, net.far, "loss_ends", [PEER, *more]),
            ]
            if net.other:
                plans.append((OURS, net.other, "loss_ends", [PEER, *more]))
            else:
                plans.append((OURS, None, "loss_usertcp", [net.near, PEER, *more]))
            for name, space, module, arguments in plans:
                child = Child(name, space, module, *arguments)
                undo.callback(child.end)
                self._children[name] = child
                self._selector.register(child.process.stdout, selectors.EVENT_READ, child)  # type: ignore[arg-type]
            waiting, limit = set(self._children), time.monotonic() + PATIENCE
            while waiting:
                if time.monotonic() > limit:
                    late = ", ".join(sorted(waiting))
                    raise SetupError(f"{late} did not start in {PATIENCE:g} s", "is the machine too busy?")
                waiting -= {name for name, words in self.events(1.0) if words.get("did") == "start"}
            self._undo = undo.pop_all()

    def tell(self, name: str, **words: Any) -> None:
        """An order for one of them."""
        self._children[name].tell(**words)

    def events(self, timeout: float) -> list[Event]:
        """What they have said; waits up to ``timeout`` seconds for something. SetupError when one has died."""
        found: list[Event] = []
        for key, _ in self._selector.select(timeout):
            child: Child = key.data
            found += [(child.name, words) for words in child.orders.read()]
            if child.orders.ended:
                with suppress(subprocess.TimeoutExpired):
                    child.process.wait(PATIENCE)
                raise SetupError(f"the program {child.name!r} has ended: {child.errors[-2000:]}", "this is a bug")
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()
