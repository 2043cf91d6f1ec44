"""A listening port, or several, as an asyncio server: each peer gets a protocol of its own.

Accepting happens in the loop, outside of the pump's turn. A peer or a protocol that fails ends its own connection, not
the server. Over TLS the handshake is asyncio's (``asyncio.sslproto``), and the protocol hears of its connection when it
is done; a peer that does not finish it in time is reset.

``close`` and ``wait_closed`` are those of the running Python: since 3.12 the latter waits for the connections, too.
"""

import asyncio
import sys
import weakref
from collections.abc import Callable, Sequence
from contextvars import copy_context
from typing import Final

from usertcp.driver.aio import Driver
from usertcp.driver.origin import here
from usertcp.driver.socket_view import Address, SocketView
from usertcp.driver.tls import Tls
from usertcp.driver.transport import Transport
from usertcp.errors import StackError
from usertcp.net.flow import Binding
from usertcp.tcp.config import TcpConfig
from usertcp.tcp.connection import Connection
from usertcp.tcp.listener import Listener

WAITS_FOR_CLIENTS: Final = sys.version_info >= (3, 12)  # ``wait_closed`` of asyncio's server


class Port:
    """One of a server's ports: bound, then listening."""

    def __init__(self, server: "Server", binding: Binding, config: TcpConfig) -> None:
        self.view = SocketView(server.driver.pump, None, binding.local, config)
        self._binding = binding
        self._server = server
        self._context = copy_context()  # of who began to listen: that of the protocols, too
        self._scheduled = False
        self._core: Listener | None = None

    def listen(self, backlog: int) -> None:
        """Let peers connect."""
        self.view.core = self._core = self._server.driver.pump.stack.listen(self._binding, backlog, self.view.config)
        self._core.user = self

    def close(self) -> None:
        """Give the port back; who waits to be accepted is reset."""
        core, self._core = self._core, None
        if core is None:
            self._binding.close()
        else:
            core.user = None
            core.close()

    def on_ready(self) -> None:
        """Somebody waits to be accepted: do so outside of the pump's turn."""
        if not self._scheduled:
            self._scheduled = True
            self._server.get_loop().call_soon(self._accept, context=self._context)

    def _accept(self) -> None:
        self._scheduled = False
        while self._core is not None and (peer := self._core.accept()) is not None:
            self._server.welcome(peer)
        failure = self._server.driver.pump.failure
        if failure is not None:
            self._server.close(failure)


class Server(asyncio.AbstractServer):
    """Accepts on ``bindings``, whose order is that of ``sockets``, until it is ``closed``."""

    def __init__(
        self,
        driver: Driver,
        bindings: Sequence[Binding],
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        *,
        backlog: int,
        config: TcpConfig,
        tls: Tls | None,
    ) -> None:
        self.driver = driver
        self._loop = asyncio.get_running_loop()
        self._ports = [Port(self, binding, config) for binding in bindings]
        self._factory = protocol_factory
        self._backlog = backlog
        self._tls = tls
        self._serving = False
        self.closed = False
        self._place = here()
        self._clients: weakref.WeakKeyDictionary[Transport, None] = weakref.WeakKeyDictionary()
        self._forever: asyncio.Future[None] | None = None  # of who is in ``serve_forever``
        self._gone: asyncio.Future[None] = self._loop.create_future()  # closed, and without connections

    @property
    def sockname(self) -> Address:
        """The address and port of the first."""
        return self._ports[0].view.getsockname()

    @property
    def sockets(self) -> tuple[SocketView, ...]:
        """What it listens on, names and options; nothing once it is closed."""
        return () if self.closed else tuple(port.view for port in self._ports)

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """The loop."""
        return self._loop

    def is_serving(self) -> bool:
        """Whether connections are accepted."""
        return self._serving and not self.closed

    def listen(self) -> None:
        """Accept connections from now on. RuntimeError when it is closed; EADDRINUSE when another listens there."""
        if self.closed:
            raise RuntimeError(f"{self!r} is closed")
        if not self._serving:
            self._serving = True
            for port in self._ports:
                port.listen(self._backlog)

    def welcome(self, core: Connection) -> None:
        """A peer has connected: give it a protocol."""
        transport = None
        core.flow.opened_by = self._place
        try:
            protocol = self._factory()
            if self._tls is not None:
                protocol = self._tls.protocol(protocol, server=True)
            transport = Transport(self.driver, core, protocol, self._part)
            self._clients[transport] = None
            transport.begin()
        except Exception as error:
            if transport is None:
                core.abort()
                self.driver.kick()
            context = {"message": "a new connection was not taken", "exception": error, "server": self}
            self._loop.call_exception_handler(context)

    def _part(self, transport: Transport | None) -> None:
        """A connection has ended; None: that of a transport that is gone already."""
        if transport is not None:
            del self._clients[transport]
        self._settle()

    def _settle(self) -> None:
        if self.closed and not self._clients and not self._gone.done():
            self._gone.set_result(None)

    def close(self, failure: OSError | None = None) -> None:
        """Stop accepting. What was accepted goes on; what was not is reset. Who serves forever is cancelled, or, when
        the device is gone, gets the StackError that says so."""
        if self.closed:
            return
        self.abandon()
        self.driver.kick()
        if self._forever is not None and not self._forever.done():
            if failure is None:
                self._forever.cancel()
            else:
                self._forever.set_exception(StackError(str(failure.strerror)))
        self._settle()

    def abandon(self) -> None:
        """Give the ports back, and tell nobody."""
        if not self.closed:
            self.closed = True
            for port in self._ports:
                port.close()

    def close_clients(self) -> None:
        """Close the connections that this server accepted."""
        for transport in list(self._clients):
            transport.finish()

    def abort_clients(self) -> None:
        """Reset the connections that this server accepted."""
        for transport in list(self._clients):
            transport.abort()

    async def start_serving(self) -> None:
        """Begin to accept, if it does not yet."""
        self.listen()

    async def serve_forever(self) -> None:
        """Accept until this is cancelled, which closes the server, or the server is closed, which cancels this."""
        if self._forever is not None:
            raise RuntimeError(f"{self!r} is already being awaited on serve_forever()")
        self.listen()
        self._forever = self._loop.create_future()
        try:
            await self._forever
        except asyncio.CancelledError:
            self.close()
            await self.wait_closed()
            raise
        finally:
            self._forever = None

    async def wait_closed(self) -> None:
        """Until it is closed and (since Python 3.12) the last of its connections has ended."""
        if self.closed and not WAITS_FOR_CLIENTS:
            return
        await asyncio.shield(self._gone)
