"""An engine on an asyncio loop: no thread, the loop waits.

The loop watches the engine's descriptor and holds one timer at the engine's next deadline. Front ends call ``kick``
after they wrote, read or closed; the turn then happens once, in the next iteration of the loop, however many callbacks
asked for it, so that small writes leave together.

:class:`Driver` is what ``usertcp.aio`` asks of whoever turns the pump. A simulated host is one too, turned by its
world; then nothing of this module runs.
"""

import asyncio
import errno
from typing import Protocol

from usertcp.driver.base import Pump
from usertcp.driver.engine import Engine
from usertcp.units import NEVER, SEC


class Driver(Protocol):
    """Whoever turns the pump on an asyncio loop."""

    @property
    def pump(self) -> Pump:
        """The pump that is turned."""
        ...

    def kick(self) -> None:
        """Turn soon, after the callbacks that run now."""
        ...


class AioDriver:
    """Turns ``pump``, or the ``engine`` that has it, on ``loop`` until it is closed; the link stays its owner's."""

    def __init__(self, pump: Pump, loop: asyncio.AbstractEventLoop, engine: Engine | None = None) -> None:
        self.pump = pump
        self.engine = engine or Engine(pump)
        self._loop = loop
        self._soon: asyncio.Handle | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        loop.add_reader(self.engine.fileno(), self.step)

    def kick(self) -> None:
        """Turn in the next iteration of the loop."""
        if self._soon is None and not self._closed:
            self._soon = self._loop.call_soon(self.step)

    def close(self) -> None:
        """Stop turning. Closing twice is harmless."""
        if self._closed:
            return
        self._closed = True
        if (descriptor := self.engine.fileno()) >= 0:
            self._loop.remove_reader(descriptor)
        for handle in (self._soon, self._timer):
            if handle is not None:
                handle.cancel()
        self._soon = self._timer = None
        self.engine.close()

    def step(self) -> None:
        """Turn now."""
        if self._soon is not None:
            self._soon.cancel()
            self._soon = None
        if self._closed:
            return
        try:
            more = self.engine.step()
        except Exception as error:  # a bug; nobody must wait for a stack that does not go on
            self.pump.fail(OSError(errno.ENETDOWN, f"the stack crashed: {error!r}"))
            raise
        except BaseException:  # Ctrl-C
            self.kick()
            raise
        if more:
            self.kick()
            return
        timeout = self.engine.timeout_ns()
        if timeout < NEVER:
            self._arm(self._loop.time() + timeout / SEC)

    def _arm(self, when: float) -> None:
        """Set the timer. One that fires too early is left: it costs a turn, and cancelling costs the loop more."""
        timer = self._timer
        if timer is not None:
            if timer.when() <= when:
                return
            timer.cancel()
        self._timer = self._loop.call_at(when, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        self.step()
