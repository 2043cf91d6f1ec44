"""Connections on asyncio: real streams, transports and servers, over our own stack. No threads.

    async with usertcp.aio.open(tap="tap0", address="10.9.0.2/24") as host:
        reader, writer = await host.open_connection("10.9.0.1", 80)

The functions of a :class:`Host` are asyncio's, with asyncio's arguments, results and exceptions; ``config`` comes on
top, the settings of the connection. What they give is an ``asyncio.Transport`` (``driver.transport``) and an asyncio
server (``driver.server``), so whatever is written to protocols or streams runs over them, TLS (``ssl=``,
``StreamWriter.start_tls``, ``loop.start_tls``) and ``loop.sendfile`` included.

The loop is whichever runs: asyncio's with a device (``driver.aio``), or a simulated world's (``usertcp.sim``), on which
``Host(sim_host)`` gives the same front end under virtual time. Cancelling an operation leaves nothing behind: a connect
that is cancelled or timed out aborts its connection.

Sockets, descriptors and ``loop.sock_*`` are not here; see ``usertcp.socket``.
"""

import asyncio
import errno
import time
from asyncio.staggered import staggered_race
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from socket import AF_INET, AF_UNSPEC, AI_PASSIVE, SOCK_STREAM
from ssl import SSLContext
from types import TracebackType
from typing import Any, Final, Self

from usertcp.driver import origin
from usertcp.driver.aio import AioDriver, Driver
from usertcp.driver.base import Pump
from usertcp.driver.open import OpenStack, ipaddress_of, open_stack, unresolved
from usertcp.driver.server import Server
from usertcp.driver.tls import of_client, of_server
from usertcp.driver.transport import Transport, transport_of
from usertcp.errors import StackError, os_error
from usertcp.net.flow import Binding
from usertcp.net.stack import Stack
from usertcp.tcp.config import TcpConfig
from usertcp.tcp.connection import Connection
from usertcp.tcp.state import CONNECTED, FAILED, GONE
from usertcp.tcp.trace import Tracer

LINGER: Final = 5.0  # seconds that a closing host waits for acknowledgments
POLITE: Final = 0.5  # seconds of those that it waits for FINs when its own was acknowledged
LOOK: Final = 0.005  # seconds between looks at whether the peers have acknowledged
LIMIT: Final = 64 << 10  # bytes; a StreamReader's, as asyncio's
ANY: Final = "0.0.0.0"  # all of our addresses

__all__ = ["Host", "Server", "Transport", "open", "open_connection", "start_server"]

Address = tuple[str, int]
ClientConnected = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None] | None]


@asynccontextmanager
async def open(
    *, tcp: TcpConfig | None = None, tracer: Tracer | None = None, linger: float = LINGER, **link: Any
) -> "AsyncIterator[Host]":
    """A stack on a device; ``link`` takes the words of :class:`usertcp.driver.open.LinkSpec`.

    Without any, the stack gets a network namespace and a TAP device of its own, which are removed with it.
    """
    opened = open_stack(tcp=tcp, tracer=tracer, **link)
    try:
        driver = AioDriver(Pump(opened.stack, opened.link, time.monotonic_ns), asyncio.get_running_loop())
        control = opened.serve_control(driver.engine, lambda: opened.stack.snapshot(time.monotonic_ns()))
        host = Host(driver, opened=opened)
        try:
            driver.kick()
            yield host
        finally:
            try:
                await host.close(linger)
            finally:
                if control is not None:
                    control.close()
                driver.close()
    finally:
        opened.close()


class Host:
    """A stack whose pump ``driver`` turns. Over a device see :func:`open`; over a simulated host ``Host(sim_host)``."""

    def __init__(self, driver: Driver, *, opened: OpenStack | None = None) -> None:
        self.driver = driver
        self.opened = opened
        self._closed = False
        self._servers: list[Server] = []

    @property
    def stack(self) -> Stack:
        """The stack."""
        return self.driver.pump.stack

    def now(self) -> int:
        """The stack's time, ns."""
        return self.driver.pump.clock()

    def check(self) -> None:
        """Raise when nothing can be opened any more: EBADF after ``close``, StackError when the device is gone."""
        if self._closed:
            raise os_error(errno.EBADF)
        failure = self.driver.pump.failure
        if failure is not None:
            raise StackError(str(failure.strerror))

    # -- transports ----------------------------------------------------------------------------------------------------

    async def create_connection(
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        host: str,
        port: int | str,
        *,
        ssl: SSLContext | bool | None = None,
        family: int = 0,
        flags: int = 0,
        local_addr: tuple[str | None, int] | None = None,
        server_hostname: str | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
        happy_eyeballs_delay: float | None = None,
        all_errors: bool = False,
        config: TcpConfig | None = None,
    ) -> tuple[asyncio.Transport, asyncio.BaseProtocol]:
        """Connect, and give the connection to a protocol (``loop.create_connection``).

        The addresses of ``host`` are tried one after another, with ``happy_eyeballs_delay`` (seconds) the next one also
        while those before it have not answered. A :class:`Transport`, or with ``ssl`` asyncio's transport of TLS.
        """
        tls = of_client(ssl, host, server_hostname, ssl_handshake_timeout, ssl_shutdown_timeout)
        there = await _addresses(host, port, family, flags)
        here = None if local_addr is None else (await _addresses(local_addr[0] or ANY, local_addr[1], family, 0))[0]
        self.check()
        core = await self._connect_any(there, here, config, happy_eyeballs_delay, all_errors)
        core.flow.opened_by = origin.here()
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()
        try:
            protocol = protocol_factory()
            below: Any = protocol if tls is None else tls.protocol(protocol, server=False, waiter=waiter)
            transport = Transport(self.driver, core, below)
        except BaseException:
            self._drop(core)
            raise
        if tls is None:
            transport.begin()
            return transport, protocol
        secure = below._app_transport
        transport.begin()
        try:
            await waiter
        except BaseException:
            transport.abort()
            raise
        return secure, protocol

    async def create_server(
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        host: str | Sequence[str] | None = None,
        port: int | str = 0,
        *,
        family: int = 0,
        flags: int = AI_PASSIVE,
        backlog: int = 100,
        ssl: SSLContext | None = None,
        reuse_address: bool | None = None,
        reuse_port: bool | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
        start_serving: bool = True,
        config: TcpConfig | None = None,
    ) -> Server:
        """Listen on ``host`` (None or "": all of our addresses; or several), a protocol for each peer
        (``loop.create_server``)."""
        tls = of_server(ssl, ssl_handshake_timeout, ssl_shutdown_timeout)
        hosts = [host] if host is None or isinstance(host, str) else list(host)
        places = [place for name in hosts for place in await _addresses(name or ANY, port, family, flags)]
        self.check()
        bindings: list[Binding] = []
        try:
            for place in dict.fromkeys(places):
                bindings.append(self._bind(place, reuse_address is not False, bool(reuse_port)))
            server = Server(
                self.driver,
                bindings,
                protocol_factory,
                backlog=backlog,
                config=config or self.stack.config.tcp,
                tls=tls,
            )
            if start_serving:
                server.listen()
        except BaseException:
            for binding in bindings:
                binding.close()
            raise
        self._servers = [other for other in self._servers if not other.closed] + [server]
        return server

    def _bind(self, place: Address, reuse_address: bool, reuse_port: bool) -> Binding:
        try:
            return self.stack.bind(place, reuse_address=reuse_address, reuse_port=reuse_port)
        except OSError as error:
            text = f"error while attempting to bind on address {place!r}: {error.strerror}"
            raise OSError(error.errno, text) from None

    async def _connect_any(
        self,
        there: Sequence[Address],
        here: Address | None,
        config: TcpConfig | None,
        delay: float | None,
        all_errors: bool,
    ) -> Connection:
        """A connection to the first of the addresses that takes it."""
        errors: list[OSError] = []
        if delay is None:
            for address in there:
                try:
                    return await self._connect(address, here, config)
                except OSError as error:
                    errors.append(error)
        else:
            attempts = [partial(self._connect, address, here, config) for address in there]
            core: Connection | None
            core, _, failures = await staggered_race(attempts, delay, loop=asyncio.get_running_loop())
            if core is not None:
                return core
            for failure in failures:
                if not isinstance(failure, OSError):
                    raise failure or AssertionError("who did not win has failed")
                errors.append(failure)
        if all_errors:
            raise ExceptionGroup("create_connection failed", errors)
        if len({str(error) for error in errors}) == 1:
            raise errors[0]
        raise OSError(f"Multiple exceptions: {', '.join(map(str, errors))}")

    async def _connect(self, there: Address, here: Address | None, config: TcpConfig | None) -> Connection:
        """A core connection whose handshake is done, with nobody in its ``user`` slot."""
        core = self.stack.connect(there, self.now(), here, config)
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        core.user = _Waiter(done, lambda: bool(core.ready & (CONNECTED | FAILED | GONE)))
        self.driver.kick()
        try:
            core.user.on_ready()
            await done
            error = core.take_error()
            if error is not None:
                raise error
            if not core.ready & CONNECTED:
                raise os_error(errno.ECONNABORTED)
        except BaseException:
            core.user = None
            self._drop(core)
            raise
        core.user = None
        return core

    def _drop(self, core: Connection) -> None:
        """Abort a connection that nobody has yet. One of which the peer need not be told frees its port at once."""
        core.abort()
        if core.reset_due is None:
            self.stack.forget(core)
        self.driver.kick()

    # -- streams -------------------------------------------------------------------------------------------------------

    async def open_connection(
        self, host: str, port: int | str, *, limit: int = LIMIT, **options: Any
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection as a pair of asyncio streams (``asyncio.open_connection``); ``options`` are those of
        :meth:`create_connection`."""
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit, loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        transport, _ = await self.create_connection(lambda: protocol, host, port, **options)
        return reader, asyncio.StreamWriter(transport, protocol, reader, loop)

    async def start_server(
        self,
        client_connected: ClientConnected,
        host: str | Sequence[str] | None = None,
        port: int | str = 0,
        *,
        limit: int = LIMIT,
        **options: Any,
    ) -> Server:
        """Call ``client_connected(reader, writer)`` for each peer (``asyncio.start_server``); ``options`` are those of
        :meth:`create_server`."""
        loop = asyncio.get_running_loop()

        def protocol() -> asyncio.StreamReaderProtocol:
            return asyncio.StreamReaderProtocol(asyncio.StreamReader(limit, loop), client_connected, loop)

        return await self.create_server(protocol, host, port, **options)

    # -- the rest ------------------------------------------------------------------------------------------------------

    async def ping(self, remote: str, *, size: int = 56, ttl: int = 64, timeout: float = 1.0) -> Any:
        """One echo request; the reply (net's ``PingReply``). TimeoutError when none comes in ``timeout`` seconds."""
        address = (await _addresses(remote, 0, AF_INET, 0))[0][0]
        self.check()
        pinger = self.stack.pinger(address, ttl=ttl)
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        pinger.user = _Waiter(done, lambda: bool(pinger.replies))
        try:
            pinger.send(self.now(), size)
            self.driver.kick()
            async with asyncio.timeout(timeout):
                await done
            return pinger.replies.popleft()
        finally:
            pinger.close()

    async def close(self, linger: float = LINGER) -> None:
        """Close everything, and deliver what was written, for up to ``linger`` seconds; then reset what is left.

        A connection that is reset so ends with ECONNABORTED; its peer never takes what it got for the whole.
        """
        if self._closed:
            return
        self._closed = True
        loop, pump = asyncio.get_running_loop(), self.driver.pump
        start = loop.time()
        try:
            for server in self._servers:
                server.close()
            pump.close_all(_finish)
            self.driver.kick()
            while pump.lingers(polite=loop.time() - start < POLITE) and loop.time() - start < linger:
                await asyncio.sleep(LOOK)
        finally:
            for conn in list(self.stack.connections()):
                transport = transport_of(conn)
                if transport is not None:
                    transport.give_up(os_error(errno.ECONNABORTED))
            pump.abort_all()
            self.driver.kick()
            await asyncio.sleep(0)

    def abandon(self) -> None:
        """The loop is gone: close what is left open as the kernel does when a process ends, and tell nobody."""
        for server in self._servers:
            server.abandon()
        for conn in list(self.stack.connections()):
            if isinstance(conn.user, Transport | origin.Loose | _Waiter):
                conn.user = None
                conn.close()
        self.driver.kick()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


async def open_connection(
    host: str, port: int, *, stack: Host, **options: Any
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """:meth:`Host.open_connection`, in the shape of asyncio's."""
    return await stack.open_connection(host, port, **options)


async def start_server(
    client_connected: ClientConnected, host: str | None, port: int, *, stack: Host, **options: Any
) -> Server:
    """:meth:`Host.start_server`, in the shape of asyncio's."""
    return await stack.start_server(client_connected, host, port, **options)


def _finish(core: Connection) -> None:
    """Close a connection of a host that goes away."""
    transport = transport_of(core)
    if transport is not None:
        transport.finish()
    else:
        core.close()


class _Waiter:
    """A future that is done when ``ready()`` holds."""

    def __init__(self, future: asyncio.Future[None], ready: Callable[[], bool]) -> None:
        self._future = future
        self._ready = ready

    def on_ready(self) -> None:
        if not self._future.done() and self._ready():
            self._future.set_result(None)


async def _addresses(host: str, port: int | str, family: int, flags: int) -> list[Address]:
    """Where ``host`` is, a name or an address: at least one. Names are the loop's resolver's, as for asyncio.

    socket.gaierror, an OSError, when it does not resolve; EAFNOSUPPORT for IPv6.
    """
    if family not in (AF_UNSPEC, AF_INET) or ":" in host:
        raise os_error(errno.EAFNOSUPPORT)
    if isinstance(port, int) and ipaddress_of(host) is not None:
        return [(host, port)]
    try:
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, port, family=AF_INET, type=SOCK_STREAM, flags=flags)
    except (OSError, UnicodeError) as error:
        raise unresolved(host, error) from None
    return [(str(place[0]), int(place[1])) for _, _, _, _, place in found]
