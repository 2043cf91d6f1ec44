"""The console script: ready before anything else is, so that Ctrl-C and closed streams are no surprise to the rest.

Loading the subcommands takes a good part of a second; an interrupt in it ends the program as quietly as one later, and
so does one in Python's own end. A standard stream that the caller has closed becomes /dev/null: nothing comes from it,
and what goes there is lost. Children can be waited for, even if the caller has ignored SIGCHLD (wait(2), *Notes*).
"""

import os
import signal
import sys
from typing import Final

INTERRUPTED: Final = 130  # exit status: 128 + SIGINT

_STREAMS: Final = (("stdin", "r"), ("stdout", "w"), ("stderr", "w"))  # by descriptor


def main() -> None:
    """Run the command line of this process, and exit."""
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        _fill_closed_streams()
        from usertcp.cli.group import run

        status = run()
    except KeyboardInterrupt:
        status = INTERRUPTED
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.exit(status)


def _fill_closed_streams() -> None:
    """Python has None for a standard stream that was closed when it started."""
    for number, (name, mode) in enumerate(_STREAMS):
        if getattr(sys, name) is None:
            descriptor = os.open(os.devnull, os.O_RDWR)
            if descriptor != number:
                os.dup2(descriptor, number)
                os.close(descriptor)
            setattr(sys, name, open(number, mode, encoding="utf-8"))  # noqa: SIM115
