"""Connections on asyncio: real streams, transports and servers, over our own stack. No threads.

    async with usertcp.aio.open(tap="tap0", address="10.9.0.2/24") as host:
        reader, writer = await host.open_connection("10.9.0.1", 80)

A :class:`Transport` is an ``asyncio.Transport``, so whatever is written to protocols or streams runs over it, TLS
(``StreamWriter.start_tls``) included. Backpressure is the connection's own, both ways: what the send buffer does not
take makes ``pause_writing``, and what a paused reader leaves in the receive buffer closes the window.

The loop is whichever runs: asyncio's with a device (``driver.aio``), or a simulated world's (``driver.virtual_loop``),
on which ``Host(sim_host)`` gives the same front end under virtual time. Cancelling an operation leaves nothing behind;
a connect that is cancelled or timed out aborts its connection.

Sockets, descriptors and ``loop.sock_*`` are not here; see ``usertcp.socket``.
"""

import asyncio
import errno
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from ssl import SSLContext
from types import TracebackType
from typing import Any, Final, Self

from usertcp.driver.aio import AioDriver, Driver
from usertcp.driver.base import Pump
from usertcp.driver.open import OpenStack, ipaddress_of, open_stack, resolve
from usertcp.errors import StackError, os_error
from usertcp.net.stack import Stack
from usertcp.tcp.config import TcpConfig
from usertcp.tcp.connection import Connection
from usertcp.tcp.listener import Listener
from usertcp.tcp.state import CONNECTED, FAILED, GONE
from usertcp.tcp.trace import Tracer

CHUNK: Final = 64 << 10  # bytes handed to a protocol at a time
TURN: Final = 256 << 10  # bytes handed to a protocol before others have their turn
LINGER: Final = 5.0  # seconds that a closing host waits for acknowledgments
POLITE: Final = 0.5  # seconds of those that it waits for FINs when its own was acknowledged
LOOK: Final = 0.005  # seconds between looks at whether the peers have acknowledged
LIMIT: Final = 64 << 10  # bytes; a StreamReader's, as asyncio's

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

    async def connect(self, host: str, port: int, *, local: Address | None, config: TcpConfig | None) -> Connection:
        """A core connection whose handshake is done, with nobody in its ``user`` slot."""
        address = await _resolve(host)
        self.check()
        core = self.stack.connect((address, port), self.now(), local, config)
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
            core.abort()
            self.driver.kick()
            raise
        core.user = None
        return core

    async def create_connection(
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        host: str,
        port: int,
        *,
        local: Address | None = None,
        config: TcpConfig | None = None,
    ) -> "tuple[Transport, asyncio.BaseProtocol]":
        """Connect, and give the connection to a protocol (``loop.create_connection``)."""
        core = await self.connect(host, port, local=local, config=config)
        transport = Transport(self, core, protocol_factory())
        transport.begin()
        return transport, transport.get_protocol()

    async def create_server(
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        host: str | None,
        port: int,
        *,
        backlog: int = 128,
        config: TcpConfig | None = None,
    ) -> "Server":
        """Listen on ``host`` (None or "": all of our addresses), a protocol for each peer (``loop.create_server``)."""
        self.check()
        address = await _resolve(host) if host else "0.0.0.0"
        return Server(self, self.stack.listen((address, port), backlog, config), protocol_factory)

    # -- streams -------------------------------------------------------------------------------------------------------

    async def open_connection(
        self,
        host: str,
        port: int,
        *,
        limit: int = LIMIT,
        local: Address | None = None,
        config: TcpConfig | None = None,
        ssl: SSLContext | None = None,
        server_hostname: str | None = None,
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection as a pair of asyncio streams (``asyncio.open_connection``), over TLS with ``ssl``."""
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit, loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        transport, _ = await self.create_connection(lambda: protocol, host, port, local=local, config=config)
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        if ssl is not None:
            try:
                await writer.start_tls(ssl, server_hostname=server_hostname or host)
            except BaseException:
                transport.abort()
                raise
        return reader, writer

    async def start_server(
        self,
        client_connected: ClientConnected,
        host: str | None,
        port: int,
        *,
        limit: int = LIMIT,
        backlog: int = 128,
        config: TcpConfig | None = None,
    ) -> "Server":
        """Call ``client_connected(reader, writer)`` for each peer (``asyncio.start_server``)."""
        loop = asyncio.get_running_loop()

        def protocol() -> asyncio.StreamReaderProtocol:
            return asyncio.StreamReaderProtocol(asyncio.StreamReader(limit, loop), client_connected, loop)

        return await self.create_server(protocol, host, port, backlog=backlog, config=config)

    # -- the rest ------------------------------------------------------------------------------------------------------

    async def ping(self, remote: str, *, size: int = 56, ttl: int = 64, timeout: float = 1.0) -> Any:
        """One echo request; the reply (net's ``PingReply``). TimeoutError when none comes in ``timeout`` seconds."""
        address = await _resolve(remote)
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
            for listener in list(self.stack.listeners()):
                if isinstance(listener.user, Server):
                    listener.user.close()
            pump.close_all(_finish)
            self.driver.kick()
            while pump.lingers(polite=loop.time() - start < POLITE) and loop.time() - start < linger:
                await asyncio.sleep(LOOK)
        finally:
            for conn in list(self.stack.connections()):
                if isinstance(conn.user, Transport):
                    conn.user.give_up(os_error(errno.ECONNABORTED))
            pump.abort_all()
            self.driver.kick()
            await asyncio.sleep(0)

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
) -> "Server":
    """:meth:`Host.start_server`, in the shape of asyncio's."""
    return await stack.start_server(client_connected, host, port, **options)


def _finish(core: Connection) -> None:
    """Close a connection of a host that goes away."""
    if isinstance(core.user, Transport):
        core.user.finish()
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


class Transport(asyncio.Transport):
    """A connection as an asyncio transport. ``core`` is the connection itself.

    The write buffer that asyncio speaks of is what the send buffer did not take; by default any of it pauses the
    protocol.
    """

    _start_tls_compatible = True  # what loop.start_tls asks

    def __init__(self, host: Host, core: Connection, protocol: asyncio.BaseProtocol) -> None:
        super().__init__({"peername": core.flow.remote, "sockname": core.flow.local, "connection": core})
        self.core = core
        self._host = host
        self._loop = asyncio.get_running_loop()
        self._protocol = protocol
        self._offered: memoryview | None = None  # the protocol's memory, into which what arrives goes
        self._held = b""  # what has landed there when it was taken back
        self._waiting: deque[memoryview] = deque()
        self._waiting_size = 0
        self._high = self._low = 0
        self._writing_paused = False
        self._reading_paused = False
        self._eof_asked = False  # by the user: a FIN follows what waits
        self._eof_seen = False  # from the peer
        self._closing = False
        self._lost = False
        self._scheduled = False

    def begin(self) -> None:
        """Tell the protocol, then let events come."""
        self.core.user = self
        self._protocol.connection_made(self)
        self.on_ready()

    def on_ready(self) -> None:
        """The connection changed: look at it in the next iteration, outside of the pump's turn."""
        if not self._scheduled and not self._lost:
            self._scheduled = True
            self._loop.call_soon(self._look)

    def _look(self) -> None:
        self._scheduled = False
        if self._lost:
            return
        try:
            self._drain()
            if not (self._reading_paused or self._closing):
                self._feed()
        except OSError as error:
            self._end(error)
            return
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self._blame(error)
            return
        if self.core.ready & (FAILED | GONE) and not (self.core.readable or self._held or self._lost):
            failure = self.core.take_error()
            self._end(None if self._eof_seen else failure)  # a reset after the FIN takes nothing from the reader

    def _blame(self, error: BaseException) -> None:
        """The protocol raised: say so and end this connection only."""
        self._loop.call_exception_handler(
            {"message": "a protocol failed", "exception": error, "transport": self, "protocol": self._protocol}
        )
        self.core.abort()
        self._end(error if isinstance(error, Exception) else None)

    def _end(self, error: Exception | None) -> None:
        """The connection is over for the protocol; it is told from the loop. What still waits makes it a reset."""
        if self._lost:
            return
        self._lost = self._closing = True
        self.core.user = None
        self._withdraw()
        if self._waiting or self._held:
            self.core.abort()
        else:
            self.core.close()
        self._waiting.clear()
        self._waiting_size = 0
        self._host.driver.kick()
        self._loop.call_soon(self._protocol.connection_lost, error)

    # -- reading -------------------------------------------------------------------------------------------------------

    def _feed(self) -> None:
        """Hand what has arrived to the protocol, up to a turn's worth."""
        core, given = self.core, self._feed_landed()
        while core.readable and not (self._reading_paused or self._closing):
            if given >= TURN:
                self.on_ready()
                break
            protocol = self._protocol
            if isinstance(protocol, asyncio.BufferedProtocol):
                count = core.read_into(memoryview(protocol.get_buffer(-1)))
                protocol.buffer_updated(count)
            else:
                data = core.read(CHUNK)
                count = len(data)
                protocol.data_received(data)  # type: ignore[attr-defined]
            given += count
        if given:
            self._host.driver.kick()
        if core.at_eof and not (self._eof_seen or self._reading_paused or self._closing):
            if core.ready & FAILED:
                return
            self._eof_seen = True
            if not self._protocol.eof_received():  # type: ignore[attr-defined]
                self.close()
        self._offer()

    def _offer(self) -> None:
        """Nothing is left: let what comes next go where a protocol with a buffer of its own will want it."""
        protocol = self._protocol
        if not isinstance(protocol, asyncio.BufferedProtocol) or self._reading_paused or self._closing:
            return
        if self.core.readable or self.core.at_eof or self._offered is not None:
            return
        target = memoryview(protocol.get_buffer(-1)).cast("B")
        if len(target) and self._host.driver.pump.offer(self.core, target):
            self._offered = target

    def _feed_landed(self) -> int:
        """Hand over what came while the protocol's memory was offered; how much that was."""
        if self._held:
            return self._feed_held()
        if self._offered is None:
            return 0
        self._offered = None
        landed = self._host.driver.pump.take_back(self.core)
        if landed:
            self._protocol.buffer_updated(landed)  # type: ignore[attr-defined]
        return landed

    def _feed_held(self) -> int:
        """The same for what had been taken back by then."""
        given = 0
        while self._held and not (self._reading_paused or self._closing):
            protocol, data = self._protocol, self._held
            self._held = b""
            if isinstance(protocol, asyncio.BufferedProtocol):
                target = memoryview(protocol.get_buffer(-1)).cast("B")
                count = min(len(target), len(data))
                target[:count] = data[:count]
                self._held = data[count:]
                protocol.buffer_updated(count)
            else:
                count = len(data)
                protocol.data_received(data)  # type: ignore[attr-defined]
            given += count
        return given

    def _withdraw(self) -> None:
        """Take the protocol's memory back, before it is to be told of what is in it."""
        target, self._offered = self._offered, None
        if target is not None:
            landed = self._host.driver.pump.take_back(self.core)
            self._held = bytes(target[:landed])

    def pause_reading(self) -> None:
        """Leave what arrives in the receive buffer, whose filling closes the window."""
        self._withdraw()
        self._reading_paused = True

    def resume_reading(self) -> None:
        """Hand on what arrives again."""
        if self._reading_paused:
            self._reading_paused = False
            self.on_ready()

    def is_reading(self) -> bool:
        """Whether the protocol is handed what arrives."""
        return not (self._reading_paused or self._closing)

    # -- writing -------------------------------------------------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send ``data``; what the send buffer does not take waits, and pauses the protocol."""
        if self._eof_asked:
            raise RuntimeError("Cannot call write() after write_eof()")
        if self._closing or not len(data):
            return
        view = memoryview(data).cast("B")
        if not self._waiting:
            try:
                view = view[self.core.write(view) :]
                self._host.driver.kick()
            except BlockingIOError:
                pass
            except OSError as error:
                self._end(error)
                return
        if len(view):
            self._waiting.append(memoryview(bytes(view)))
            self._waiting_size += len(view)
            self._pause_writing()

    def writelines(self, list_of_data: Any) -> None:
        """``write`` of the concatenation."""
        self.write(b"".join(list_of_data))

    def _drain(self) -> None:
        """Hand in what waits, as far as there is room; then what was to follow it."""
        if not self._waiting:
            return
        try:
            while self._waiting:
                view = self._waiting[0]
                count = self.core.write(view)
                self._waiting_size -= count
                if count == len(view):
                    self._waiting.popleft()
                else:
                    self._waiting[0] = view[count:]
        except BlockingIOError:
            pass
        self._host.driver.kick()
        if self._writing_paused and self._waiting_size <= self._low:
            self._writing_paused = False
            self._protocol.resume_writing()
        if not self._waiting:
            if self._closing:
                self._end(None)
            elif self._eof_asked:
                self.core.shutdown_write()

    def _pause_writing(self) -> None:
        if not self._writing_paused and self._waiting_size > self._high:
            self._writing_paused = True
            self._protocol.pause_writing()

    def can_write_eof(self) -> bool:
        """Yes: a half-close."""
        return True

    def write_eof(self) -> None:
        """A FIN follows what was written; reading goes on."""
        if self._eof_asked or self._closing:
            return
        self._eof_asked = True
        if not self._waiting:
            self.core.shutdown_write()
            self._host.driver.kick()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """How many bytes beyond the send buffer may wait before the protocol is paused, and resumed."""
        if high is None:
            high = 0 if low is None else 4 * low
        if low is None:
            low = high // 4
        if not high >= low >= 0:
            raise ValueError(f"high ({high!r}) must be >= low ({low!r}) must be >= 0")
        self._high, self._low = high, low
        self._pause_writing()

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """(low, high), bytes."""
        return self._low, self._high

    def get_write_buffer_size(self) -> int:
        """Bytes that the send buffer has not taken yet."""
        return self._waiting_size

    # -- ending --------------------------------------------------------------------------------------------------------

    def is_closing(self) -> bool:
        """Whether ``close`` was called or the connection has ended."""
        return self._closing

    def close(self) -> None:
        """Stop reading, deliver what was written, and end."""
        if not self._closing:
            self._closing = True
            if not self._waiting:
                self._end(None)

    def finish(self) -> None:
        """``close``, but of TLS first if it is above this: what it holds has not been handed down yet."""
        above = getattr(self._protocol, "_app_transport", None)
        if not isinstance(above, asyncio.Transport):
            self.close()
        elif not above.is_closing():
            above.close()

    def abort(self) -> None:
        """Reset the connection; nothing more is delivered."""
        self.give_up(None)

    def give_up(self, error: Exception | None) -> None:
        """``abort``, of which the protocol is told with ``error``."""
        if not self._lost:
            self.core.abort()
            self._end(error)

    _force_close = give_up  # what asyncio's TLS calls after a failure

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Hand what follows to another protocol."""
        self._withdraw()
        self._protocol = protocol
        if self._held:
            self.on_ready()

    def get_protocol(self) -> asyncio.BaseProtocol:
        """The protocol."""
        return self._protocol


class Server(asyncio.AbstractServer):
    """Accepts connections until it is closed. A peer or a protocol that fails ends its own connection, not this."""

    sockets: tuple[()] = ()

    def __init__(self, host: Host, core: Listener, protocol_factory: Callable[[], asyncio.BaseProtocol]) -> None:
        self.core = core
        self._host = host
        self._loop = asyncio.get_running_loop()
        self._factory = protocol_factory
        self._scheduled = False
        self._ended: asyncio.Future[None] = self._loop.create_future()
        core.user = self
        self.on_ready()

    @property
    def sockname(self) -> Address:
        """The address and port that it listens on."""
        address: Address = self.core.flow.local
        return address

    def on_ready(self) -> None:
        """Somebody waits to be accepted: do so outside of the pump's turn."""
        if not self._scheduled and not self._ended.done():
            self._scheduled = True
            self._loop.call_soon(self._accept)

    def _accept(self) -> None:
        self._scheduled = False
        while not self._ended.done() and (core := self.core.accept()) is not None:
            try:
                Transport(self._host, core, self._factory()).begin()
            except Exception as error:
                core.abort()
                self._host.driver.kick()
                context = {"message": "a new connection was not taken", "exception": error, "server": self}
                self._loop.call_exception_handler(context)
        if self._host.driver.pump.failure is not None:
            self.close()

    def is_serving(self) -> bool:
        """Whether connections are accepted."""
        return not self._ended.done()

    def close(self) -> None:
        """Stop accepting. What was accepted goes on; what was not is reset."""
        if not self._ended.done():
            self._ended.set_result(None)
            self.core.user = None
            self.core.close()
            self._host.driver.kick()

    def close_clients(self) -> None:
        """Close the connections that this server accepted."""
        for conn in list(self._host.stack.connections()):
            if conn.listener is self.core and isinstance(conn.user, Transport):
                conn.user.close()

    def abort_clients(self) -> None:
        """Reset the connections that this server accepted."""
        for conn in list(self._host.stack.connections()):
            if conn.listener is self.core and isinstance(conn.user, Transport):
                conn.user.abort()

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """The loop."""
        return self._loop

    async def start_serving(self) -> None:
        """It does already."""

    async def serve_forever(self) -> None:
        """Until it is closed or this is cancelled, which closes it."""
        try:
            await asyncio.shield(self._ended)
        finally:
            self.close()

    async def wait_closed(self) -> None:
        """Until ``close`` was called."""
        await asyncio.shield(self._ended)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()


async def _resolve(host: str) -> str:
    """An address as it is; a name by the system's resolver, in the loop's executor."""
    if ipaddress_of(host) is not None or ":" in host:
        return resolve(host)
    return await asyncio.get_running_loop().run_in_executor(None, resolve, host)
