"""One run: the processes it needs, in their namespaces and on their processors, and what they say.

The kernel's servers run all the time, one set on each of the two processors; the end that is measured is a process of
its own for each run. Whoever takes too long is ended, and the run has an error instead of a result.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final, Self

from benchmarks import speed_peers
from benchmarks.speed_job import (
    ACCEPT,
    ACCEPT_MANY,
    CONNECT,
    CONNECT_MANY,
    IDLE_IN,
    IDLE_PING,
    OUT,
    PING,
    PING_MANY,
    Job,
)
from benchmarks.speed_net import FAR, NEAR, TAP, VETHS, Net, pinned, processors
from benchmarks.speed_rows import Result, Run
from usertcp.errors import SetupError
from usertcp.link import netns as namespaces

ROOT: Final = Path(__file__).parents[1]
PATIENCE: Final = 30.0  # seconds beyond those that a run is to take
SERVERS: Final = (7000, 7100)  # the first port of the kernel's servers on the far processor, and on the near one
COMPILED: Final = "-hot"  # what the keys of columns end in whose core is compiled
RIVALS: Final = ("lwip", "gvisor", "pytcp")
ROAMING: Final = ("gvisor", "pytcp")  # work with many threads, and may use the far processor too where that is another
HERE: Final = 7200  # where a server that is measured listens
SERVICES: Final = {OUT: 0, PING: 3, IDLE_PING: 3, PING_MANY: 4, CONNECT: 5, CONNECT_MANY: 6, IDLE_IN: 1}
GREET: Final = {ACCEPT: 5, ACCEPT_MANY: 6}  # of the kernel's own, when it is what accepts


class Failed(Exception):
    """A run that came to nothing; the text says why."""


def started(
    space: str | None, cpus: set[int], command: Sequence[str | Path], tree: Path = ROOT
) -> subprocess.Popen[bytes]:
    """A process in a namespace, on these processors; ``tree``: the checkout whose modules it finds."""
    with namespaces.inside(space), pinned(cpus):
        return subprocess.Popen(
            [str(word) for word in command],
            cwd=tree,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(tree), "GOMAXPROCS": str(len(cpus))},
            start_new_session=True,  # Ctrl-C is for this process, which ends the others
        )


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process and those that it has started; one that has been waited for is no concern, nor is its number."""
    if process.returncode is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def finished(process: subprocess.Popen[bytes], seconds: float) -> Result:
    """The result that a process says within ``seconds``; Failed with its last words."""
    try:
        said, errors = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        end(process)
        raise Failed(f"nothing in {seconds:.0f} s") from None
    lines = said.decode(errors="replace").splitlines()
    if process.returncode or not lines:
        raise Failed(errors.decode(errors="replace").strip().rpartition("\n")[2] or f"status {process.returncode}")
    found: Result = json.loads(lines[-1])
    return found


def tree_of(column: str) -> Path:
    """Where the modules of a column's Python lie."""
    return speed_peers.hot_tree() if column.endswith(COMPILED) else ROOT


class Bench:
    """The network and the kernel's servers; ended with the ``with`` block."""

    def __init__(self, seconds: float, warm: float, idle: int = 0) -> None:
        """``idle``: connections of the runs among idle ones, 0: as the run says."""
        self.seconds = seconds
        self.warm = warm
        self.idle = idle
        self.peer = speed_peers.kernel_peer()
        self.near_cpu, self.far_cpu = processors()
        with ExitStack() as undo:
            self.net = undo.enter_context(Net.build())
            for port, cpu in zip(SERVERS, (self.far_cpu, self.near_cpu), strict=True):
                undo.enter_context(self._servers(self.net.far, {cpu}, port))
            self._undo = undo.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()

    @contextmanager
    def _servers(self, space: str, cpus: set[int], port: int) -> Iterator[None]:
        process = started(space, cpus, [self.peer, "serve", str(port)])
        try:
            assert process.stdout is not None
            if not process.stdout.readline():
                _, errors = process.communicate(timeout=PATIENCE)
                raise SetupError(
                    f"the kernel's servers did not start: {errors.decode()}", f"try {self.peer} serve {port}"
                )
            yield
        finally:
            end(process)

    def prepare(self, column: str) -> None:
        """Make what a column's runs need. SetupError if it cannot be had."""
        if column in RIVALS:
            speed_peers.command(column, TAP, NEAR)
        elif column.endswith(COMPILED):
            speed_peers.hot_tree()

    def measure(self, column: str, run: Run) -> Result:
        """One run of one column. Failed when it comes to nothing."""
        if run.kind == "import":
            return self._import()
        if column.startswith("veth"):
            return self._kernel("v1" if column == "veth" else "v2", run)
        with self.net.tap():
            space = self.net.far if column in RIVALS else None
            cpus = {self.near_cpu, self.far_cpu} if column in ROAMING and not run.alone else {self.near_cpu}
            return self._near(started(space, cpus, self.command(column, self.job(run, FAR)), tree_of(column)), run)

    def _port(self, run: Run) -> int:
        if run.kind in GREET:
            return HERE
        base = SERVERS[1 if run.alone else 0]
        return base + (2 if run.bbr else SERVICES.get(run.kind, 1))

    def job(self, run: Run, host: str) -> Job:
        """The run, as a program is told of it."""
        return Job(
            run.kind,
            host,
            self._port(run),
            self.seconds,
            self.warm,
            self.idle if self.idle and run.kind in (IDLE_IN, IDLE_PING) else run.count,
            run.offload,
            run.reference,
            run.spin,
        )

    def command(self, column: str, job: Job) -> list[str | Path]:
        """The program that makes a run of a column on the TAP."""
        if column in RIVALS:
            words = (job.kind, job.host, job.port, job.seconds, job.warm, job.count)
            return [*speed_peers.command(column, TAP, NEAR), *map(str, words)]
        road = column.removesuffix(COMPILED)
        return [sys.executable, "-m", "benchmarks.speed_usertcp", road, self.net.far, job.as_json()]

    def _kernel(self, device: str, run: Run) -> Result:
        space, host = self.net.near[device], f"{VETHS[device]}.1"
        if run.kind in GREET:
            port = HERE - GREET[run.kind]
            with self._servers(space, {self.near_cpu}, port):
                return self._load(f"{VETHS[device]}.2", run)
        return self._near(started(space, {self.near_cpu}, self._client(self.job(run, host), run)), run)

    def _client(self, job: Job, run: Run) -> list[str | Path]:
        words = (job.port, job.seconds, job.warm, job.count, "bbr" if run.bbr else "cubic")
        return [self.peer, job.kind, job.host, *map(str, words)]

    def _near(self, process: subprocess.Popen[bytes], run: Run) -> Result:
        try:
            if run.kind not in GREET:
                return finished(process, 2 * (self.warm + self.seconds) + PATIENCE)
            assert process.stdout is not None
            if not process.stdout.readline():
                return finished(process, PATIENCE)
            return self._load(NEAR, run)
        finally:
            end(process)

    def _load(self, host: str, run: Run) -> Result:
        """What the kernel's clients get from a server that is measured."""
        job = Job("calls", host, HERE, self.seconds, self.warm, run.count)
        process = started(self.net.far, {self.far_cpu}, self._client(job, run))
        try:
            return finished(process, job.warm + job.seconds + PATIENCE)
        finally:
            end(process)

    def _import(self) -> Result:
        """As from an installed package, which has been imported before: its bytecode is kept, whatever is customary
        here."""
        text = (
            "import time; at = time.perf_counter(); import usertcp.blocking; print(1000 * (time.perf_counter() - at))"
        )
        kept = f"pycache_prefix={speed_peers.BUILT / 'bytecode'}"
        command = ["env", "-u", "PYTHONDONTWRITEBYTECODE", sys.executable, "-X", kept, "-c", text]
        for _ in range(2):
            said = started(None, {self.near_cpu}, command).communicate(timeout=PATIENCE)[0]
        return {"amount": float(said), "seconds": 1.0, "cpu": 0.0}
