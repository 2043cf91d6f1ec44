"""A program in a process of its own for which this one stands: signals that are sent here go on to it.

Those of the terminal (Ctrl-C) reach it without our help, for it is in the same process group; they say of themselves
that they are the kernel's. How it ended is this process's end too: by the same status, or by the same signal.
"""

import os
import resource
import signal
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final, NoReturn

PASSED_ON: Final = frozenset(
    {signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH}
)
KERNEL: Final = 0x80  # si_code of a signal that nobody sent: SI_KERNEL
IGNORED_BY_PYTHON: Final = (signal.SIGPIPE, signal.SIGXFSZ)  # the program gets them as this one did


class Child:
    """Runs from the start. From then on this process is deaf to ``PASSED_ON``, until ``close``.

    ``on_end``  called, in another thread, when it has ended
    ``status``  how it did: the exit status, or the negative number of a signal; None while it runs
    """

    def __init__(self, command: list[str], environment: Mapping[str, str], on_end: Callable[[], object]) -> None:
        self.status: int | None = None
        self._on_end = on_end
        self._watched = PASSED_ON | {signal.SIGCHLD}
        self._former = signal.pthread_sigmask(signal.SIG_BLOCK, self._watched)
        try:
            self._pid = os.posix_spawn(
                command[0], command, environment, setsigmask=self._former, setsigdef=IGNORED_BY_PYTHON
            )
        except BaseException:
            signal.pthread_sigmask(signal.SIG_SETMASK, self._former)
            raise
        self._watcher = threading.Thread(target=self._watch, name="usertcp-child", daemon=True)
        self._watcher.start()

    def close(self) -> int:
        """End it if it still runs, and hear signals again; its status."""
        if self.status is None:
            with suppress(ProcessLookupError):  # it has just ended
                os.kill(self._pid, signal.SIGTERM)
        self._watcher.join()
        signal.pthread_sigmask(signal.SIG_SETMASK, self._former)
        assert self.status is not None
        return self.status

    def _watch(self) -> None:
        while self.status is None:
            heard = signal.sigwaitinfo(self._watched)
            if heard.si_signo == signal.SIGCHLD:
                pid, status = os.waitpid(self._pid, os.WNOHANG)
                if pid:
                    self.status = os.waitstatus_to_exitcode(status)
            elif heard.si_code != KERNEL:
                os.kill(self._pid, heard.si_signo)
        self._on_end()


def end_like(status: int) -> NoReturn:
    """End this process as a child did that has :attr:`Child.status` ``status``."""
    if status < 0:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # the core that matters is there
        if -status != signal.SIGKILL:
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    raise SystemExit(status if status >= 0 else 128 - status)
