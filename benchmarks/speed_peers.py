"""The programs of the benchmark that are not Python: compiled when they are missing or older than their sources."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

from usertcp.errors import SetupError

SOURCES: Final = Path(__file__).with_name("peers")
BUILT: Final = Path(__file__).parents[1] / "build" / "peers"


def kernel_peer() -> Path:
    """The kernel's end."""
    return compiled("kernel_peer", ["gcc", "-O2", "-Wall", "-o", "{to}", "{from}/kernel_peer.c"])


def compiled(name: str, command: list[str], *, limit: float = 120.0) -> Path:
    """The program ``name``, made by ``command`` within ``limit`` seconds. SetupError with what the compiler said."""
    program = BUILT / name
    sources = [path for path in SOURCES.rglob("*") if path.is_file()]
    if program.exists() and program.stat().st_mtime >= max(path.stat().st_mtime for path in sources):
        return program
    if shutil.which(command[0]) is None:
        raise SetupError(f"{command[0]} is not installed", "make bench installs it; or: scripts/setup bench")
    BUILT.mkdir(parents=True, exist_ok=True)
    partial = program.with_name(f"{name}.{os.getpid()}")
    words = [word.replace("{to}", str(partial)).replace("{from}", str(SOURCES)) for word in command]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=limit, check=False)
    except subprocess.TimeoutExpired:
        raise SetupError(f"building {name} took more than {limit:g} s", "leave it out with --without") from None
    if done.returncode:
        raise SetupError(f"{name} does not compile: {done.stderr[-2000:]}", "leave it out with --without")
    partial.replace(program)
    return program
