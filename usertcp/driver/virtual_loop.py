"""An asyncio loop whose clock is a simulated world's.

asyncio asks its selector to wait for events no longer than until its next timer. Here the selector does not wait: it
lets the world run until something becomes ready for the loop or that time is reached, and the loop's ``time()`` is the
world's. So the real front end (``usertcp.aio``), with real tasks, streams and time-outs, runs over simulated networks
deterministically and as fast as the processor can.

Callbacks take no time, which a program that waits by turning (``while not done: await asyncio.sleep(0)``) would never
notice: so a loop that has turned ``BUSY`` times and never waited takes ``TURN`` ns for each further turn, about as a
real one does. When ``IDLE`` of them have passed without any event it leaps, to the next event or timer and at most
``LEAP`` ns a turn. When nothing at all is scheduled, ``LOST`` turns are taken for a :class:`Deadlock`. All of that is
counted, not measured, and so the same each time.

When no timer is set and the world has no event left, nothing can ever happen again; that is a :class:`Deadlock`, raised
out of ``run_until_complete`` at once where a real loop would hang. What a program gives to an executor
(``asyncio.to_thread``, ``loop.sendfile``) is called at once and takes no time. Descriptors, signals and threads belong
to the real world and are not here.
"""

import asyncio
import math
from collections.abc import Callable, Coroutine
from itertools import count
from typing import Any, Final, TypeVar, TypeVarTuple
from weakref import WeakValueDictionary

from usertcp.driver.sim import World
from usertcp.units import NEVER, SEC, US, to_seconds

BUSY: Final = 1_000  # turns without a wait, after which a turn takes time
TURN: Final = 10 * US  # what it then takes, ns
IDLE: Final = 100_000  # such turns without an event, after which time leaps
LEAP: Final = SEC  # ns in a turn
LOST: Final = 1_000_000  # such turns without an event and with none to come

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Deadlock(RuntimeError):
    """Tasks wait, and neither a timer nor a packet is under way that could help them."""


class _WorldSelector:
    """Stands where ``asyncio`` has its selector; no descriptor is ever ready."""

    def __init__(self, loop: "VirtualTimeLoop", world: World) -> None:
        self._loop = loop
        self._world = world
        self._turns = 0  # since the loop waited
        self._quiet = 0  # of these, how many since anything happened

    def select(self, timeout: float | None) -> list[object]:
        """Let the world run for at most ``timeout`` seconds, or until the loop has something to do."""
        world, ready = self._world, self._loop.ready
        if timeout == 0:
            self._turn()
            return []
        self._turns = self._quiet = 0
        if timeout is None:
            while not ready:
                if not world.step():
                    raise Deadlock(f"nothing is scheduled at {to_seconds(world.now)} s, and {self._loop.waiting()}")
            return []
        end = min(world.now + max(0, math.ceil(timeout * SEC)), NEVER - 1)
        while not ready:
            if not world.step(end):
                world.now = end
                break
        return []

    def _turn(self) -> None:
        """The loop has something to do already: let happen what happens meanwhile."""
        world = self._world
        self._turns += 1
        end = world.now
        if self._turns > BUSY:
            coming = min(world.next_event(), self._loop.next_timer())
            end = self._end_of_turn(coming)
            self._quiet = 0 if coming <= end else self._quiet + 1
        while world.step(end):
            pass
        world.now = end

    def _end_of_turn(self, coming: int) -> int:
        """When a turn that takes time is over; something happens next at ``coming``."""
        now = self._world.now
        if self._quiet < IDLE:
            return now + TURN
        if coming == NEVER and self._quiet >= LOST:
            self._turns = self._quiet = 0  # the tasks are to be cancelled yet
            raise Deadlock(
                f"the loop has turned {LOST} times and nothing is scheduled at {to_seconds(now)} s: a task waits for it"
                " by `await asyncio.sleep(0)` or the like. Wait for an asyncio.Event, or sleep for longer than 0;"
                f" {self._loop.waiting()}"
            )
        return max(now, min(coming, now + LEAP))

    def close(self) -> None:
        """Nothing is held."""


class VirtualTimeLoop(asyncio.BaseEventLoop):
    """An event loop over ``world``; see :func:`run`."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world
        self.ready: Any = self._ready  # type: ignore[attr-defined]  # asyncio's queue of callbacks that are due
        self._selector = _WorldSelector(self, world)
        self._clock_resolution = 1 / SEC
        self.born: WeakValueDictionary[int, asyncio.Task[Any]] = WeakValueDictionary()  # its tasks, by their order
        self._births = count()

    def create_task(self, coro: Any, **options: Any) -> asyncio.Task[Any]:
        """A task of this loop."""
        task: asyncio.Task[Any] = super().create_task(coro, **options)
        self.born[next(self._births)] = task
        return task

    def time(self) -> float:
        """The world's time, in seconds."""
        return self.world.now / SEC

    def next_timer(self) -> int:
        """When the next timer is due (ns); NEVER: there is none."""
        timers: list[asyncio.TimerHandle] = self._scheduled  # type: ignore[attr-defined]  # asyncio's heap of them
        return math.ceil(timers[0].when() * SEC) if timers else NEVER

    def waiting(self) -> str:
        """Which tasks wait, for a message."""
        names = [f"{task.get_name()} ({task.get_coro()!r})" for task in self.born.values() if not task.done()]
        return f"these tasks wait: {', '.join(names)}" if names else "nobody waits"

    def run_in_executor(self, executor: Any, func: Callable[[*Ts], T], *args: *Ts) -> asyncio.Future[T]:
        """Call ``func(*args)`` now: in a thread it would take real time, of which there is none here."""
        done = self.create_future()
        try:
            done.set_result(func(*args))
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            done.set_exception(error)
        return done

    def _process_events(self, event_list: list[object]) -> None:
        """No descriptor has events here."""

    def _write_to_self(self) -> None:
        """No other thread wakes this loop."""


def run(
    world: World, main: Coroutine[Any, Any, T], loop_factory: Callable[[World], VirtualTimeLoop] = VirtualTimeLoop
) -> T:
    """``asyncio.run`` over the world: run ``main`` to its end, cancel what it left behind, and give its result."""
    world.kick()
    with asyncio.Runner(loop_factory=lambda: loop_factory(world)) as runner:
        return runner.run(_and_cancel_the_rest(main))


async def _and_cancel_the_rest(main: Coroutine[Any, Any, T]) -> T:
    """``main``, and then what ``asyncio.run`` does as well, but in the order of birth: the same each time."""
    try:
        return await main
    finally:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualTimeLoop)
        rest = [task for task in loop.born.values() if task is not asyncio.current_task() and not task.done()]
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)
