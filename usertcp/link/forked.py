"""A process that stays beside this one for a single piece of work, which was given to it with its memory.

It is forked and nothing is executed, because it may have to be started when this process has given up its rights
(:mod:`usertcp.driver.privilege`) and may no longer be able to read the interpreter. Of our descriptors it has one, the
*channel*, whose end of file tells that we have ended, however we did.
"""

import gc
import os
import signal
import traceback
from collections.abc import Callable
from typing import NoReturn

from usertcp.link.undo import SIGNALS


def forked(work: Callable[[], object], channel: int) -> int:
    """The number of a process that does ``work()`` and ends; status 1 if that raised, which is told on stderr.

    ``channel`` is its standard input. It has a session of its own, no terminal's signals reach it, and those that end
    us in order it does not hear.
    """
    former = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    try:
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # until it ignores them it has our handlers
        process = os.fork()
        if process == 0:
            _live(work, channel, former)
        return process
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, former)


def _live(work: Callable[[], object], channel: int, mask: set[int | signal.Signals]) -> NoReturn:
    """The whole life of the process."""
    status = 1
    try:
        _be_apart(channel)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        work()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def _be_apart(channel: int) -> None:
    """Let go of what is our parent's: its session, its descriptors, its handlers of signals."""
    os.setsid()
    signal.set_wakeup_fd(-1)
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    gc.disable()  # what it would find are our parent's objects, whose descriptors have become others
    os.dup2(channel, 0)
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    os.chdir("/")
