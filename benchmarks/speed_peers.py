"""The peers of the benchmark of speed: compiled, or installed, when they are missing or older than their sources.

What is built lies in ``build/peers``. A program that cannot be had is a SetupError, and its column is left out.
"""

import os
import shutil
import subprocess
import venv
from pathlib import Path
from typing import Final

from usertcp.errors import SetupError

SOURCES: Final = Path(__file__).with_name("peers")
BUILT: Final = Path(__file__).parents[1] / "build" / "peers"
HOT: Final = Path(__file__).parents[1] / "build" / "hot"
GO: Final = Path("/usr/share/gocode")  # where Debian puts the sources of Go packages
GO_LIMIT: Final = 900.0  # seconds that building gVisor may take; the second time it is quick
PIP_LIMIT: Final = 120.0  # seconds that PyPI may take
PYTCP: Final = "PyTCP==2.7.6"  # the last release


def kernel_peer() -> Path:
    """The kernel's end."""
    return compiled("kernel_peer", ["gcc", "-O2", "-Wall", "-o", "{to}", "{from}/kernel_peer.c"])


def lwip_peer() -> Path:
    """lwIP. Position independent: only then does it reach the library's own table of pools."""
    command = ["gcc", "-O2", "-fPIC", "-I/usr/include/lwip", "-o", "{to}", "{from}/lwip_peer.c", "-llwip", "-lpthread"]
    return compiled("lwip_peer", command)


def gvisor_peer() -> Path:
    """gVisor's netstack."""
    settings = {"GO111MODULE": "off", "GOPATH": str(GO), "GOCACHE": str(BUILT / "go"), "GOFLAGS": "-buildvcs=false"}
    command = ["go", "build", "-o", "{to}", "{from}/gvisor_peer/main.go"]
    return compiled("gvisor_peer", command, limit=GO_LIMIT, settings=settings)


def pytcp_python() -> Path:
    """The Python of an environment in which PyTCP is installed."""
    home = BUILT / PYTCP
    python = home / "bin" / "python"
    if not (home / "ready").exists():
        try:
            venv.create(home, clear=True, with_pip=True)
            words: list[str | Path] = [
                python,
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
                "--no-deps",
                PYTCP,
            ]
            done = subprocess.run(words, capture_output=True, text=True, timeout=PIP_LIMIT, check=False)
        except (OSError, subprocess.SubprocessError) as error:
            raise SetupError(f"{PYTCP} cannot be installed: {error}", "leave it out with --without pytcp") from None
        if done.returncode:
            raise SetupError(f"pip cannot install {PYTCP}: {done.stderr.strip()[-300:]}", "is PyPI within reach?")
        (home / "ready").touch()
    return python


def command(column: str, tap: str, address: str) -> list[str | Path]:
    """How the program of a rival is called, up to the run's own words."""
    if column == "pytcp":
        return [pytcp_python(), "-O", SOURCES / "pytcp_peer.py", tap, address]
    return [{"lwip": lwip_peer, "gvisor": gvisor_peer}[column](), tap, address]


def hot_tree() -> Path:
    """The checkout whose core is compiled."""
    if not any(HOT.glob("usertcp/tcp/*.so")):
        raise SetupError("the compiled core is not built", "make hot builds it")
    return HOT


def compiled(name: str, command: list[str], *, limit: float = 120.0, settings: dict[str, str] | None = None) -> Path:
    """The program ``name``, made by ``command`` within ``limit`` seconds. SetupError with what the compiler said.

    ``settings`` go into its environment.
    """
    program = BUILT / name
    sources = [*SOURCES.glob("*.[ch]"), *SOURCES.glob("*/*.go")]
    if program.exists() and program.stat().st_mtime >= max(path.stat().st_mtime for path in sources):
        return program
    if shutil.which(command[0]) is None:
        raise SetupError(f"{command[0]} is not installed", "make bench installs it; or: scripts/setup bench")
    BUILT.mkdir(parents=True, exist_ok=True)
    partial = program.with_name(f"{name}.{os.getpid()}")
    words = [word.replace("{to}", str(partial)).replace("{from}", str(SOURCES)) for word in command]
    try:
        done = subprocess.run(
            words, capture_output=True, text=True, timeout=limit, check=False, env={**os.environ, **(settings or {})}
        )
    except subprocess.TimeoutExpired:
        raise SetupError(f"building {name} took more than {limit:g} s", "leave it out with --without") from None
    if done.returncode:
        raise SetupError(f"{name} does not compile: {done.stderr[-2000:]}", "leave it out with --without")
    partial.replace(program)
    return program
