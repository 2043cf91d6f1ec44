"""A connection as an asyncio transport: protocols of every kind on top, the connection's own buffers below.

Backpressure is the connection's, both ways. What the send buffer does not take waits here and makes ``pause_writing``;
``set_write_buffer_limits`` says how much more may wait before that. What a paused reader leaves in the receive buffer
closes the window. A ``BufferedProtocol`` that has read everything has its memory offered to the connection, so that
what comes next lands there at once (``Connection.offer``).

The protocol is called from the loop and never within a turn of the pump; ``pause_writing`` comes within ``write``, as
asyncio's own does. TLS is asyncio's (``asyncio.sslproto``), a protocol like any other.

``get_extra_info`` has asyncio's names: "peername", "sockname", "socket" (``driver.socket_view``: options and names, no
descriptor) and, over TLS, "sslcontext", "ssl_object", "peercert", "cipher" and "compression". It also has "connection",
the core's.

One thing differs from asyncio over the kernel: ``abort`` is a reset, always, so that the peer never takes what it got
for the whole. There it is a FIN unless something is unread.
"""

import asyncio
from asyncio.constants import _SendfileMode
from asyncio.transports import _FlowControlMixin
from collections import deque
from collections.abc import Callable
from contextvars import copy_context
from typing import Any, Final

from usertcp.driver.aio import Driver
from usertcp.driver.base import PLENTY
from usertcp.driver.origin import Loose, described, warn_unclosed
from usertcp.driver.socket_view import SocketView
from usertcp.tcp.connection import Connection
from usertcp.tcp.state import FAILED, GONE, REPORTED

CHUNK: Final = 64 << 10  # bytes handed to a protocol at a time
TURN: Final = 1 << 20  # bytes handed to a protocol at a time, at most; more than a turn of the pump's brings, for else
# what has once heaped up would never be worked off


class Transport(_FlowControlMixin, asyncio.Transport):
    """A connection as an asyncio transport. ``core`` is the connection itself.

    The write buffer that asyncio speaks of is what the send buffer did not take; by default any of it pauses the
    protocol. ``on_end`` is called when the protocol has been told of the end.
    """

    _extra: dict[str, Any]  # these are asyncio's, of which its stubs do not tell
    _set_write_buffer_limits: Callable[[int], None]
    _maybe_pause_protocol: Callable[[], None]
    _maybe_resume_protocol: Callable[[], None]
    _start_tls_compatible = True  # what loop.start_tls asks
    _sendfile_compatible = _SendfileMode.FALLBACK  # what loop.sendfile asks
    _lost = True  # until it is made

    def __init__(
        self,
        driver: Driver,
        core: Connection,
        protocol: asyncio.BaseProtocol,
        on_end: "Callable[[Transport | None], object] | None" = None,
    ) -> None:
        loop = asyncio.get_running_loop()
        super().__init__({"peername": core.flow.remote, "sockname": core.flow.local, "connection": core}, loop)
        self._set_write_buffer_limits(0)
        self.core = core
        self._driver = driver
        self._loop = loop
        self._context = copy_context()  # in which the protocol is called, as asyncio does with that of add_reader
        self._on_end = on_end
        self._protocol = protocol
        self._offered: memoryview | None = None  # the protocol's memory, into which what arrives goes
        self._held = b""  # what has landed there when it was taken back
        self._waiting: deque[memoryview] = deque()
        self._waiting_size = 0
        self._reading_paused = False
        self._eof_asked = False  # by the user: a FIN follows what waits
        self._eof_seen = False  # from the peer
        self._closing = False
        self._lost = False
        self._scheduled = False

    def __repr__(self) -> str:
        return f"<usertcp transport {described(self.core)}>"

    def __del__(self) -> None:
        if not self._lost:
            warn_unclosed(self)
            if not self._loop.is_closed():
                self._loop.call_soon_threadsafe(_close_forgotten, self.core, self._driver, self._on_end)

    def begin(self) -> None:
        """Tell the protocol, then let events come. What it raises is raised here, and ends the connection."""
        self.core.user = self
        try:
            self._protocol.connection_made(self)
        except BaseException:
            self.abort()
            raise
        self.on_ready()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """What is known by ``name``: see the module's text."""
        if name == "socket" and name not in self._extra:
            core = self.core
            self._extra[name] = SocketView(self._driver.pump, core, core.flow.local, core.config)
        return super().get_extra_info(name, default)

    def on_ready(self) -> None:
        """The connection changed: look at it in the next iteration, outside of the pump's turn."""
        if not self._scheduled and not self._lost:
            self._scheduled = True
            self._loop.call_soon(self._look, context=self._context)

    def _look(self) -> None:
        self._scheduled = False
        if self._lost:
            return
        try:
            if self.core.ready & REPORTED:
                self._tell()
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

    def _tell(self) -> None:
        """Trouble that ends nothing goes to the protocol's ``error_received``, if it has one (RFC 9293 §3.9.1.8)."""
        told, receive = self.core.take_report(), getattr(self._protocol, "error_received", None)
        if told is not None and receive is not None:
            receive(told)

    def _blame(self, error: BaseException) -> None:
        """The protocol raised: say so and end this connection only."""
        self._loop.call_exception_handler(
            {"message": "a protocol failed", "exception": error, "transport": self, "protocol": self._protocol}
        )
        self.core.abort()
        self._end(error)

    def _end(self, error: BaseException | None) -> None:
        """The connection is over for the protocol; it is told from the loop. What still waits makes it a reset."""
        if self._lost:
            return
        self._lost = self._closing = True
        self.core.user = None
        self._withdraw()
        view: SocketView | None = self._extra.get("socket")
        if self._waiting or self._held or (view is not None and view.resets):
            self.core.abort()
        else:
            self.core.close()
        self._waiting.clear()
        self._waiting_size = 0
        self._driver.kick()
        self._loop.call_soon(self._tell_end, error, context=self._context)

    def _tell_end(self, error: BaseException | None) -> None:
        try:
            self._protocol.connection_lost(error)  # type: ignore[arg-type]  # asyncio, too, gives whatever was raised
        finally:
            if self._on_end is not None:
                self._on_end(self)

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
                count = core.read_into(_memory_of(protocol))
                protocol.buffer_updated(count)
            else:
                data = core.read(CHUNK)
                count = len(data)
                protocol.data_received(data)  # type: ignore[attr-defined]
            given += count
        if given:
            self._gulp(given)
            self._driver.kick()
        if core.at_eof and not (self._eof_seen or self._reading_paused or self._closing):
            if core.ready & FAILED:
                return
            self._eof_seen = True
            if not self._protocol.eof_received():  # type: ignore[attr-defined]
                self.close()
            self._hold()
        self._offer()

    def _gulp(self, given: int) -> None:
        """Bulk of which ``given`` bytes were handed to a protocol with a buffer of its own: go on at once with what the
        device has, and spare each piece two rounds of the loop."""
        core, protocol, pump, landed = self.core, self._protocol, self._driver.pump, given
        while landed >= PLENTY and given < TURN and not (self._reading_paused or self._closing or core.readable):
            if not isinstance(protocol, asyncio.BufferedProtocol) or protocol is not self._protocol:
                return
            try:
                target = _memory_of(protocol)
            except Exception:  # as in ``_offer``
                return
            landed = pump.gulp(core, target)
            given += landed
            if landed:
                protocol.buffer_updated(landed)

    def _hold(self) -> None:
        """The peer has closed. Who has nothing more to send is kept by the program alone, so that one who is forgotten
        is found by the garbage collector, as asyncio's own."""
        if self._eof_seen and not self._lost:
            self.core.user = self if self._waiting else Loose(self)

    def _offer(self) -> None:
        """Nothing is left: let what comes next go where a protocol with a buffer of its own will want it."""
        protocol = self._protocol
        if not isinstance(protocol, asyncio.BufferedProtocol) or self._reading_paused or self._closing:
            return
        if self.core.readable or self.core.at_eof or self._offered is not None:
            return
        try:
            target = _memory_of(protocol)
        except Exception:  # asyncio would not have asked before something is there: then it counts
            return
        if self._driver.pump.offer(self.core, target):
            self._offered = target

    def _feed_landed(self) -> int:
        """Hand over what came while the protocol's memory was offered; how much that was."""
        if self._held:
            return self._feed_held()
        if self._offered is None:
            return 0
        self._offered = None
        landed = self._driver.pump.take_back(self.core)
        if landed:
            self._protocol.buffer_updated(landed)  # type: ignore[attr-defined]
        return landed

    def _feed_held(self) -> int:
        """The same for what had been taken back by then."""
        given = 0
        while self._held and not (self._reading_paused or self._closing):
            protocol, data = self._protocol, self._held
            if isinstance(protocol, asyncio.BufferedProtocol):
                target = _memory_of(protocol)
                count = min(len(target), len(data))
                target[:count] = data[:count]
                self._held = data[count:]
                protocol.buffer_updated(count)
            else:
                self._held = b""
                count = len(data)
                protocol.data_received(data)  # type: ignore[attr-defined]
            given += count
        return given

    def _withdraw(self) -> None:
        """Take the protocol's memory back, before it is to be told of what is in it."""
        target, self._offered = self._offered, None
        if target is not None:
            landed = self._driver.pump.take_back(self.core)
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
                view = view[self.core.put(view) :]
            except OSError as error:
                self._end(error)
                return
            self._driver.kick()
        if len(view):
            self._waiting.append(view if type(data) is bytes else memoryview(bytes(view)))  # bytes cannot change
            self._waiting_size += len(view)
            self._hold()
            self._maybe_pause_protocol()

    def writelines(self, list_of_data: Any) -> None:
        """``write`` of the concatenation."""
        self.write(b"".join(list_of_data))

    def _drain(self) -> None:
        """Hand in what waits, as far as there is room; then what was to follow it."""
        if not self._waiting:
            return
        while self._waiting:
            view = self._waiting[0]
            count = self.core.put(view)
            self._waiting_size -= count
            if count < len(view):
                self._waiting[0] = view[count:]
                break
            self._waiting.popleft()
        self._hold()
        self._driver.kick()
        self._maybe_resume_protocol()
        if not self._waiting:
            if self._closing:
                self._end(None)
            elif self._eof_asked:
                self.core.shutdown_write()

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
            self._driver.kick()

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


def transport_of(core: Connection) -> Transport | None:
    """The transport of a connection that has one."""
    user = core.user() if isinstance(core.user, Loose) else core.user
    return user if isinstance(user, Transport) else None


def _close_forgotten(core: Connection, driver: Driver, on_end: Callable[[None], object] | None) -> None:
    """Close the connection of a transport that is gone."""
    core.close()
    driver.kick()
    if on_end is not None:
        on_end(None)


def _memory_of(protocol: asyncio.BufferedProtocol) -> memoryview:
    """Where the protocol wants what comes next. What is of no use is an error, as for asyncio."""
    given: Any = protocol.get_buffer(-1)
    if not len(given):
        raise RuntimeError("get_buffer() returned an empty buffer")
    memory = memoryview(given).cast("B")
    if memory.readonly:
        raise TypeError(f"get_buffer() returned a {type(given).__name__} that cannot be written to")
    return memory
