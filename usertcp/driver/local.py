"""A socket engine in this process, whoever turns it (``threaded``: a thread, ``looped``: an asyncio loop)."""

import time
from typing import Final, Generic, TypeVar

from usertcp.driver.base import Pump
from usertcp.driver.broker import Broker, SocketEngine
from usertcp.driver.open import OpenStack
from usertcp.link.base import Link
from usertcp.net.stack import Stack

LINGER: Final = 5.0  # s that a closing engine waits for acknowledgments

E = TypeVar("E", bound=SocketEngine)


class LocalEngine(Generic[E]):
    """A stack on a link, and the broker through which sockets reach it.

    ``token``  its name among all engines
    """

    def __init__(self, stack: Stack, link: Link, opened: OpenStack | None, kind: type[E]) -> None:
        """``link`` is the caller's, unless it comes with ``opened``."""
        self.stack = stack
        self._opened = opened
        self._engine: E = kind(Pump(stack, link, time.monotonic_ns))
        self._control = None
        if opened is not None:
            self._control = opened.serve_control(self._engine, lambda: stack.snapshot(time.monotonic_ns()))
        self.token = self._engine.broker.token

    @property
    def broker(self) -> Broker:
        """Where sockets reach it."""
        return self._engine.broker

    @property
    def alive(self) -> bool:
        """Whether sockets can still use it."""
        return self._engine.pump.failure is None

    @property
    def address(self) -> str:
        """The first address of the stack."""
        return self.stack.config.addresses[0].partition("/")[0]

    @property
    def kernel_address(self) -> str | None:
        """The address of the kernel's side of the device, where there is one."""
        return self._opened.kernel_address if self._opened is not None else None

    @property
    def netns(self) -> str | None:
        """The network namespace of the device."""
        return self._opened.netns if self._opened is not None else None

    def _hush(self) -> None:
        """Answer ``usertcp ss`` no more."""
        if self._control is not None:
            self._control.close()
            self._control = None

    def _let_go(self) -> None:
        """Nobody turns it any more: give up all descriptors."""
        self._engine.close()
        if self._opened is not None:
            self._opened.close()
