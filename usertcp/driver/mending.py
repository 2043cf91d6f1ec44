"""What becomes of a turn that an exception broke off.

Nothing that a peer sends makes the core raise. But in the main thread the handler of a signal may, anywhere (Ctrl-C),
what users plug in may (a tracer, a congestion control), and so may the interpreter when the machine has no memory. The
connection in hand is then perhaps half changed: it is ended, with ECONNABORTED, and its peer told by a reset when it
says something. All others are looked at anew, for what was due of theirs may have been lost with the turn.

In hand is what the innermost calls that were broken off name among their variables, by itself or by its congestion
control. The compiled core's calls name none. There it is known of what users plug in, which is interpreted; of the rest
it is not, and nobody is ended.
"""

import errno
import logging
import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final

from usertcp.net.stack import Stack
from usertcp.tcp.cc.base import CongestionControl
from usertcp.tcp.connection import Connection
from usertcp.tcp.state import FAILED, GONE, State

OURS: Final = str(Path(__file__).parents[1])  # where the package lies

_log: Final = logging.getLogger("usertcp")


def mend(stack: Stack, error: BaseException, *, yields: bool) -> bool:
    """See to it that ``stack`` goes on after ``error`` broke a turn off. False: it must be raised all the same, since
    it is no connection's, or may be for whoever waits.

    ``yields``: in the main thread that is so with whatever comes from outside of the package.
    """
    trace = error.__traceback__
    hurt, last = _in_hand(stack, trace.tb_next if trace is not None else None)
    for conn in hurt:
        _give_up(stack, conn)
    stack.look_again()
    if not hurt or not isinstance(error, Exception):
        return False
    if yields and not last.startswith(OURS) and threading.current_thread() is threading.main_thread():
        return False
    with suppress(Exception):  # a handler of logs may fail as well
        _log.error("a connection has failed, and was ended; the others go on", exc_info=error)
    return True


def _in_hand(stack: Stack, trace: TracebackType | None) -> tuple[list[Connection], str]:
    """The connections that the innermost of the calls of ``trace`` names that names any (one for whom the turn was made
    may be named further out), and the file in which ``trace`` ends."""
    found: list[Connection] = []
    last = ""
    while trace is not None:
        frame, trace = trace.tb_frame, trace.tb_next
        named = {id(conn): conn for value in frame.f_locals.values() for conn in _meant(stack, value)}
        found = list(named.values()) or found
        last = frame.f_code.co_filename
    return found, last


def _meant(stack: Stack, value: object) -> list[Connection]:
    """The connection that ``value`` is, or whose congestion control."""
    if isinstance(value, Connection):
        return [value]
    if isinstance(value, CongestionControl):
        return [conn for conn in stack.connections() if conn.snd.cc is value]
    return []


def _give_up(stack: Stack, conn: Connection) -> None:
    """End ``conn``, in whatever state it is."""
    try:
        if conn.state is not State.CLOSED:
            conn.fail(errno.ECONNABORTED)
    except Exception:
        conn.state = State.CLOSED
        conn.ready |= FAILED | GONE
        with suppress(Exception):
            conn.timers.stop_all()
    with suppress(Exception):  # it may not even be made yet
        stack.forget(conn)
        stack.notify(conn)
