"""Somebody who undoes what was made when the process that made it cannot: it was killed, or has given up its rights.

A *janitor* is a process that is forked when everything is made, keeps the rights that we have then, waits until we
have ended, however that was, and undoes it. It is told nothing and reads nothing but the end of a pipe, so whoever
takes over a process that gave up its rights can have the janitor do one thing only, and that early.

::

    this process                             janitor
    makes devices, files, rules
    entrust()  ------------ fork -------->   knows how all that is undone
    gives up its rights, works
    ends, or is killed  -- end of file -->   undoes it, and ends

Only who kills the janitor too (SIGKILL; nothing else ends it) has something left, which is then recognised by its name
(:mod:`usertcp.link.marks`).
"""

import os
from contextlib import suppress
from typing import Final

from usertcp.errors import SetupError
from usertcp.link import undo
from usertcp.link.forked import forked
from usertcp.link.undo import Made

_channels: Final[set[int]] = set()  # that keep a janitor of this process waiting


def entrust() -> Made | None:
    """Let a janitor undo all that this process has made so far and would have to undo itself.

    What it was to be undone by (a ``with`` block, ``Made.remove``) has no effect any more; it happens, and is waited
    for, when what is given back is removed, at the end of this process at the latest. Without anything made: None.
    """
    with undo.deferred():  # a signal finds either us or the janitor in charge
        items = undo.take_over()
        if not items:
            return None
        ours, theirs = os.pipe()
        try:
            janitor = forked(lambda: _clean(items), ours)
        except BaseException:
            os.close(theirs)
            undo.give_back(items)
            raise
        finally:
            os.close(ours)
        _channels.add(theirs)
        return Made("what a janitor looks after", None, lambda: _dismiss(janitor, theirs))


def _clean(items: list[Made]) -> None:
    """The janitor's life. The channel is its standard input."""
    while os.read(0, 1):
        pass
    undo.give_back(items)
    undo.undo_all()


def _dismiss(janitor: int, channel: int) -> None:
    """This process ends: the janitor is to do its work now."""
    _channels.discard(channel)
    os.close(channel)
    _, status = os.waitpid(janitor, 0)
    if status:
        raise SetupError("not everything that was made could be removed", "look at: ip link, ip netns; usertcp down")


def _after_fork_in_child() -> None:
    """The parent's end is the end, not its children's."""
    for channel in _channels:
        with suppress(OSError):
            os.close(channel)
    _channels.clear()


os.register_at_fork(after_in_child=_after_fork_in_child)
