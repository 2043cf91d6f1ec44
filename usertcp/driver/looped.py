"""A socket engine on an asyncio loop: no thread. For programs that use the drop-in socket from asyncio alone.

The loop turns the engine, and calls into it must not wait for the loop: what a socket asks of its engine, and a
blocking connect, therefore turn it themselves (:func:`usertcp.driver.messages.wait`). What blocks in the kernel's own
code, a recv or an accept of a blocking socket, would block the loop, as with the kernel's sockets, and here the engine
with it.
"""

import asyncio
from collections.abc import Callable
from contextlib import closing
from typing import Final

from usertcp.driver import messages
from usertcp.driver.aio import AioDriver
from usertcp.driver.base import BUDGET
from usertcp.driver.broker import SocketEngine
from usertcp.driver.engine import Events
from usertcp.driver.local import LINGER, LocalEngine
from usertcp.driver.open import OpenStack
from usertcp.link.base import Link
from usertcp.net.stack import Stack
from usertcp.units import MS, SEC

STEP: Final = 5 * MS  # ns between two looks whether everything is acknowledged


class TurnedEngine(SocketEngine):
    """One that is turned now and then by a thread with other things to do."""

    turn: Callable[[], None]  # does what is to be done, and has the loop do the rest

    def handle(self, events: Events, budget: int = BUDGET) -> bool:
        with messages.turning():
            return super().handle(events, budget)


class LoopedEngine(LocalEngine[TurnedEngine]):
    """A stack on a link, run by the running loop, and the broker through which sockets reach it."""

    def __init__(self, stack: Stack, link: Link, opened: OpenStack | None = None) -> None:
        """Started at once. ``link`` is the caller's, unless it comes with ``opened``."""
        loop = asyncio.get_running_loop()
        super().__init__(stack, link, opened, TurnedEngine)
        self._driver = AioDriver(self._engine.pump, loop, self._engine)
        self._engine.turn = self._driver.step
        self._closed = False
        messages.turn_here(self._engine)

    @property
    def alive(self) -> bool:
        """Whether sockets can still use it."""
        return not self._closed and super().alive

    async def close(self, linger: float = LINGER) -> None:
        """Deliver what was sent, at most ``linger`` seconds long, and stop. Harmless when repeated.

        Sockets that are still open get ENETDOWN.
        """
        if self._closed:
            return
        self._closed = True
        self._hush()
        try:
            with closing(self._engine.lingering(self._engine.pump.clock() + round(linger * SEC))) as waits:
                for wait in waits:
                    self._driver.kick()
                    await asyncio.sleep(min(wait, STEP) / SEC)
        finally:
            messages.turn_no_more(self._engine)
            self._driver.close()
            self._let_go()
