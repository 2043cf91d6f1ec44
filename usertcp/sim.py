"""A network for tests: real stacks on simulated wires, virtual time, and everything random from one seed.

Programs that were written for asyncio run in it as they stand, with the functions of ``asyncio`` itself; what they are
told is only on which host they run:

>>> import asyncio
>>> from usertcp import sim
>>> async def greet(reader, writer):
...     writer.write(b"hello, " + await reader.readline())
...     writer.close()
>>> async def ask(name):
...     reader, writer = await asyncio.open_connection("server", 7)
...     writer.write(name)
...     return await reader.readline()

>>> world = sim.World(seed=1)
>>> server = world.host("server")
>>> client = world.host("client", wire=sim.Wire(delay=25 * sim.MS, loss=sim.RandomLoss(0.2)))
>>> async def main():
...     await server.create_task(asyncio.start_server(greet, port=7))
...     return await client.create_task(ask(b"world\\n"))
>>> world.run_until_complete(main())
b'hello, world\\n'

On such a host ``asyncio.open_connection``, ``start_server``, ``loop.create_connection`` and ``create_server`` are the
host's (``usertcp.aio``), and hosts have their names. A wait of an hour takes no time, and whatever happens happens
again with the same seed: ``world.digest`` proves it, a hash over every frame and its time. Under TLS, whose keys are
random, ``world.timeline`` does: times, senders and lengths. (The signatures of ECDSA certificates differ in length;
those of RSA do not.) When all wait, and nothing is under way that could wake anybody, that is a :class:`Deadlock`.

Code takes no time, except when it waits by turning (``while not done: await asyncio.sleep(0)``): after a thousand turns
of the loop without a wait each takes 10 µs, and after 100,000 in which nothing happened time leaps to what comes next.
When nothing ever will, a million turns later, that is a ``Deadlock``, too (``usertcp.driver.virtual_loop``).

What goes wrong is said of a host's :class:`Wire` (rate, delay, queue, loss, reordering, rules), or happens: of a world
``partition`` and ``heal``, of a host ``unplug``, ``plug`` and ``close``. Times are nanoseconds (``sim.MS``,
``sim.SEC``). With pytest the fixture ``usertcp_world`` is such a world (``usertcp.pytest_plugin``).
"""

import asyncio
import errno
import socket
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from functools import cached_property
from typing import Any, Final, TypeVar

from usertcp import aio
from usertcp.driver import sim
from usertcp.driver.open import ipaddress_of
from usertcp.driver.sim import Wire
from usertcp.driver.virtual_loop import Deadlock, VirtualTimeLoop, run
from usertcp.errors import os_error
from usertcp.link.faults import Corrupt, Delay, Drop, Duplicate
from usertcp.link.loss import GilbertElliott, NoLoss, Outage, RandomLoss
from usertcp.link.path import PathConfig, Reorder
from usertcp.link.queue import DropTail
from usertcp.link.queue_codel import CoDel
from usertcp.link.queue_red import Red
from usertcp.tcp.config import TcpConfig
from usertcp.tcp.trace import Tracer
from usertcp.units import HOUR, KIB, MIB, MINUTE, MS, SEC, US

__all__ = [
    "HOUR",
    "KIB",
    "MIB",
    "MINUTE",
    "MS",
    "SEC",
    "US",
    "CoDel",
    "Corrupt",
    "Deadlock",
    "Delay",
    "Drop",
    "DropTail",
    "Duplicate",
    "GilbertElliott",
    "Host",
    "NoLoss",
    "Outage",
    "PathConfig",
    "RandomLoss",
    "Red",
    "Reorder",
    "TcpConfig",
    "Wire",
    "World",
]

T = TypeVar("T")

_here: Final[ContextVar["Host"]] = ContextVar("usertcp.sim.host")  # on which the code that runs is


class Host(sim.SimHost):
    """A host in a :class:`World`, on which programs run."""

    @cached_property
    def net(self) -> aio.Host:
        """Its stack as asyncio's functions, and more (``ping``, ``stack``, a ``config`` for each connection)."""
        return aio.Host(self)

    def create_task(self, coro: Coroutine[Any, Any, T], *, name: str | None = None) -> "asyncio.Task[T]":
        """Run ``coro`` as a program of this host, and so all tasks and callbacks that come of it."""
        context = copy_context()
        context.run(_here.set, self)
        return asyncio.get_running_loop().create_task(coro, name=name, context=context)

    @contextmanager
    def here(self) -> Iterator[None]:
        """What is called or started within the block is of this host."""
        token = _here.set(self)
        try:
            yield
        finally:
            _here.reset(token)


class World(sim.World):
    """A switched network of hosts under virtual time; see ``usertcp.driver.sim`` for what it does by itself.

    ``seed``       of everything random
    ``pcap_file``  gets every frame that a host sent
    """

    host_type = Host

    def host(
        self,
        name: str,
        address: str | None = None,
        *,
        wire: Wire | None = None,
        config: TcpConfig | None = None,
        gateway: str | None = None,
        tracer: Tracer | None = None,
    ) -> Host:
        """A new host with ``address`` ("10.0.0.1/24"; None: the next one) at the end of ``wire``."""
        if any(host.name == name for host in self.hosts):
            raise ValueError(f"there is a host {name!r} already")
        there = address or f"10.0.0.{len(self.hosts) + 1}/24"
        host = super().host(name, there, wire=wire, config=config, gateway=gateway, tracer=tracer)
        assert isinstance(host, Host)
        return host

    def run_until_complete(self, main: Coroutine[Any, Any, T]) -> T:
        """``asyncio.run`` in this world: run ``main`` to its end, cancel what it left behind, and give its result.

        Time goes on from where it is. What the programs leave open is closed, as by the kernel when a process ends; the
        packets of that are sent when the world runs on. :class:`Deadlock` when nothing can happen any more.
        """
        try:
            return run(self, main, _Loop)
        finally:
            for host in self.hosts:
                assert isinstance(host, Host)
                host.net.abandon()


class _Loop(VirtualTimeLoop):
    """The loop of a world in which asyncio's functions are those of the host that calls."""

    async def create_connection(self, protocol_factory: Any, host: Any = None, port: Any = None, **words: Any) -> Any:
        return await _net(words).create_connection(protocol_factory, host or "localhost", port, **words)

    async def create_server(self, protocol_factory: Any, host: Any = None, port: Any = 0, **words: Any) -> Any:
        return await _net(words).create_server(protocol_factory, host, port or 0, **words)

    async def getaddrinfo(
        self, host: Any, port: Any, *, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0
    ) -> list[Any]:
        """Addresses as they are, and the names of the world's hosts."""
        if isinstance(host, bytes):
            host = host.decode("ascii")
        names = {known.name: known.address for known in self.world.hosts} | {"localhost": "127.0.0.1"}
        address = names.get(host, host) or ("0.0.0.0" if flags & socket.AI_PASSIVE else "127.0.0.1")
        if family not in (socket.AF_UNSPEC, socket.AF_INET) or ipaddress_of(address) is None:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, _port_of(port)))]


def _net(words: dict[str, Any]) -> aio.Host:
    """The stack of the host that calls; ``words`` are asyncio's, and become those of ``aio.Host``."""
    if words.pop("sock", None) is not None:
        raise ValueError("a simulated host has no sockets: give a host and a port")
    if words.pop("proto", 0) not in (0, socket.IPPROTO_TCP):
        raise os_error(errno.EPROTONOSUPPORT)
    words.pop("interleave", None)  # of one family there is nothing to interleave
    try:
        return _here.get().net
    except LookupError:
        raise RuntimeError("no host: use host.create_task(...) or `with host.here():`") from None


def _port_of(port: Any) -> int:
    """A port from its number or the name of its service."""
    try:
        return int(port or 0)
    except ValueError:
        pass
    try:
        return socket.getservbyname(port, "tcp")
    except OSError:
        raise socket.gaierror(socket.EAI_SERVICE, "Servname not supported for ai_socktype") from None
