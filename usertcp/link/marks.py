"""By what a later run knows that something was left behind.

A mark is ``usertcp-<pid>-<when that process started>``: the name of a namespace begins with it, the alias of a device
is it. Process numbers come again, but not with the same start, so a mark whose process is gone is an orphan's.
"""

import os
from typing import Final

PREFIX: Final = "usertcp-"
UP: Final = "usertcp up"  # what ``usertcp up`` made: it stays without a process, until ``down``


def _started(pid: int) -> str:
    """When a process started, clock ticks since boot; empty if there is none."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def mark() -> str:
    """This process's mark."""
    return f"{PREFIX}{os.getpid()}-{_started(os.getpid())}"


def is_living(text: str) -> bool:
    """Whether ``text`` is the mark of a process that runs, or of ``usertcp up``."""
    return text == UP or (text.startswith(PREFIX) and not is_orphan(text))


def is_orphan(text: str) -> bool:
    """Whether ``text`` begins with the mark of a process that is no more."""
    pid, _, rest = text.removeprefix(PREFIX).partition("-")
    started = rest.partition("-")[0]
    return text.startswith(PREFIX) and pid.isdigit() and started.isdigit() and _started(int(pid)) != started
