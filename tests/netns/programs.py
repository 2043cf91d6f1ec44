"""Programs of the kernel's side, run inside a network namespace: the peer of :mod:`tests.netns.peer`, nginx, curl, nc.

Every program is a context manager that ends what it started and waits for it. Time is bounded everywhere; what a
program said on stderr is part of the failure.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, Self

from tests.netns.peer import blocks
from usertcp.driver import control
from usertcp.link import netns

ROOT: Final = Path(__file__).parents[2]
PEER: Final = Path(__file__).with_name("peer.py")
PATIENCE: Final = 120.0  # seconds: no program here takes as long, but a loaded machine may

# A prefix that takes every capability away. The user stays root, who may read the checkout wherever it lies (/root).
POWERLESS: Final = ("setpriv", "--bounding-set=-all", "--inh-caps=-all")


def which(*names: str) -> str:
    """The first of ``names`` that is installed."""
    path = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"
    for name in names:
        if found := shutil.which(name, path=path):
            return found
    raise FileNotFoundError(f"{' or '.join(names)} is not installed: scripts/setup tools installs it")


class Program:
    """A child process in the namespace ``space`` (None: here). Its stderr is kept."""

    def __init__(
        self,
        space: str | None,
        command: Sequence[str | Path],
        *,
        environment: Mapping[str, str] | None = None,
        stdout: int = subprocess.PIPE,
    ) -> None:
        self.command = [str(part) for part in command]
        self.errors = ""  # what it said on stderr, when it has finished
        with netns.inside(space):
            self.process = subprocess.Popen(
                self.command,
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=stdout,
                stderr=subprocess.PIPE,
                env={**os.environ, **(environment or {})},
                start_new_session=True,
            )

    def line(self) -> bytes:
        """The next line of its stdout."""
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def remark(self) -> bytes:
        """The next line of its stderr."""
        assert self.process.stderr is not None
        return self.process.stderr.readline()

    def finish(self, data: bytes | None = None, *, code: int | None = 0, timeout: float = PATIENCE) -> bytes:
        """Give it ``data``, end its stdin, wait for it; the rest of its stdout. ``code`` None: any exit status."""
        try:
            out, err = self.process.communicate(data, timeout=timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            out, err = self.process.communicate()
            raise AssertionError(f"{self.command} did not end in {timeout:.0f} s: {out[-500:]!r} {err!r}") from None
        self.errors = err.decode()
        if code is not None:
            assert self.process.returncode == code, f"{self.command} exited {self.process.returncode}: {self.errors}"
        return out

    def interrupt(self) -> None:
        """What Ctrl-C does."""
        self.process.send_signal(signal.SIGINT)

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)  # its own children, too, which hold its pipes open
        self.process.communicate()


class Peer(Program):
    """:mod:`tests.netns.peer` in ``space``; returns from the constructor when it listens or has connected."""

    def __init__(self, space: str | None, what: str, host: str, port: int, *options: str | int) -> None:
        super().__init__(space, [sys.executable, PEER, what, host, str(port), *map(str, options)])
        self.port = 0

    def ready(self) -> Self:
        """Wait until it listens or has connected."""
        line = self.line()
        if not line:
            self.finish()
            raise AssertionError(f"{self.command} ended without a word")
        self.port = json.loads(line)["ready"]
        return self

    def report(self, timeout: float = PATIENCE) -> dict[str, Any]:
        """What it counted, when it has ended by itself or through the end of its stdin."""
        report: dict[str, Any] = json.loads(self.finish(timeout=timeout).splitlines()[-1])
        return report


def traces(pid: int) -> list[str]:
    """What a subcommand made that is still there: its namespaces and control sockets."""
    spaces = [name for name in netns.names() if name.startswith(f"usertcp-{pid}-")]
    sockets = [path.name for path in control.RUN_DIR.glob(f"*usertcp-{pid}*")]
    return spaces + [name for name in sockets if re.search(rf"-{pid}\b", name)]  # and not of 1234 for 123


def usertcp(*arguments: str | int | Path) -> list[str]:
    """The command line of this checkout's usertcp."""
    return [sys.executable, "-c", "from usertcp.cli.main import main; main()", *map(str, arguments)]


def folder_of(folder: Path, size: int, seed: int) -> Path:
    """``folder``, made, with one file ``data`` of ``size`` bytes (``blocks`` of ``seed``)."""
    folder.mkdir()
    with (folder / "data").open("wb") as file:
        file.writelines(blocks(size, seed))
    return folder


@contextmanager
def nginx(space: str | None, folder: Path, files: Path, host: str, port: int) -> Iterator[Program]:
    """nginx in the foreground, its own configuration and files in ``folder``, serving ``files``."""
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "nginx.conf"
    temporary = "\n".join(f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi"))
    config.write_text(
        f"""daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log;
        events {{ worker_connections 256; }}
        http {{ access_log off; {temporary} uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
          sendfile on; server {{ listen {host}:{port}; root {files}; }} }}"""
    )
    command: list[str | Path] = [which("nginx"), "-e", folder / "error.log", "-c", config]
    with Program(space, command, stdout=subprocess.DEVNULL) as program:
        wait_for_listener(space, host, port, program)
        yield program


def wait_for_listener(space: str | None, host: str, port: int, program: Program) -> None:
    """Until something listens on ``host:port`` in ``space``; fails when the program ends before."""
    wanted = f":{port:04X}"
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        if program.process.poll() is not None:
            program.finish()
        with netns.inside(space):
            table = Path("/proc/thread-self/net/tcp").read_text().splitlines()[1:]
        if any(line.split()[1].endswith(wanted) and line.split()[3] == "0A" for line in table):
            return
        time.sleep(0.02)
    raise AssertionError(f"{program.command} does not listen on {host}:{port}")
