"""The engine's end of one socket: bytes between an AF_UNIX stream and the rings of a connection.

::

    program                 kernel                engine                  network
    a.send  ------> b's receive queue ------> send ring   ------> segments
    a.recv  <------ a's receive queue <------ receive ring <------ segments
    a.shutdown(WR)  end of file at b          shutdown_write      FIN
    a.close         hang-up at b              close               FIN, or RST if something was unread

Urgent data (RFC 9293 §3.8.5) is AF_UNIX's out-of-band byte on both sides: the last byte before the urgent pointer, as
Linux reads it. The program says that it will send one, so that the mark is looked for only then.

Nothing is kept here: ``b`` is read only as far as the send ring has room, the receive ring is emptied only as far as
the kernel takes it, so that each side's backpressure is the other's. ``b`` is registered edge-triggered, for room only
while it has none: the kernel would wake the engine for every piece that the program takes.

What the kernel tells about ``a``, and what it does not:

- ``a`` closed with unread bytes: ``b`` gets an error besides the hang-up, which makes the close a reset.
- ``a`` shut for writing and ``b`` shut for writing (the peer's FIN was passed on) look to ``b`` as if ``a`` were
  closed. By then both FINs are on their way and nothing depends on it.
- The same after shutdown(SHUT_RD) and shutdown(SHUT_WR) of ``a``. The connection is then kept, its incoming bytes
  thrown away, until the peer's FIN, the program's word, or ``GRACE``.
"""

import _socket
import contextlib
import errno
import fcntl
import os
import select
from typing import TYPE_CHECKING, Final

from usertcp.driver import diag
from usertcp.driver.options import Options
from usertcp.tcp.connection import Connection
from usertcp.tcp.state import CONNECTED, EOF, FAILED, GONE, URGENT
from usertcp.units import SEC

if TYPE_CHECKING:
    from usertcp.driver.broker import Broker

EVENTS: Final = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLET
WITH_ROOM: Final = EVENTS | select.EPOLLOUT  # only while ``b`` is full: each piece that the program takes makes room
ENDS: Final = select.EPOLLRDHUP | select.EPOLLHUP
INPUT: Final = select.EPOLLIN | select.EPOLLERR | ENDS
SMALL: Final = 16 << 10  # bytes that are read from a program first, by way of a buffer: mostly that is all
CHUNK: Final = 256 << 10  # bytes moved at a time otherwise, between ``b`` and a ring, by no other way
SIOCATMARK: Final = 0x8905  # Linux
GRACE: Final = 60 * SEC  # ns that a connection shut both ways by its program waits for the peer's FIN (tcp_fin_timeout)

# When a connection failed: a letter's second half.
AT_ONCE: Final = 0  # connect() itself says so
OPENING: Final = 1  # during the handshake
WHILE_OPEN: Final = 2


class Bridge:
    """A connection and ``b``. ``ident`` is the socket's identity.

    ``fill``       bytes of connect request and padding that lie unread in ``b`` until the handshake is done; 0 after
    ``error``      the errno that the program is to see, 0: none
    ``eof_in``     the program has shut its sending side and everything before that was read from ``b``
    ``eof_out``    ``b`` is shut for writing: the program reads the end of the stream
    ``discard``    the program reads no more, but has not closed
    ``hung_up``    the kernel says so, see above
    ``urgent``     urgent bytes that the program has announced and that were not read from ``b`` as such: those that
                   are to come, and those that a later one overtook
    ``released``   the program says that it closed, which the kernel cannot tell when both directions were shut before
    """

    __slots__ = (
        "_can_send",
        "_ends",
        "_error_at_b",
        "_may_read",
        "_resets",
        "_shut",
        "broker",
        "conn",
        "discard",
        "eof_in",
        "eof_out",
        "error",
        "fill",
        "hung_up",
        "ident",
        "options",
        "released",
        "sock",
        "urgent",
    )

    def __init__(
        self, broker: "Broker", ident: str, sock: _socket.socket, conn: Connection, options: Options, fill: int = 0
    ) -> None:
        self.broker = broker
        self.ident = ident
        self.sock = sock
        self.conn = conn
        self.options = options
        self.fill = fill
        self.error = 0
        self.eof_in = self.eof_out = self.discard = self.hung_up = self.released = False
        self._can_send = self._may_read = True
        self._ends = self._error_at_b = self._resets = self._shut = False
        self.urgent = 0
        conn.user = self

    @property
    def connected(self) -> bool:
        """Whether the handshake is done, as far as the program can know."""
        return self.fill == 0

    @property
    def drained(self) -> bool:
        """Whether everything that the program has sent, and will have, is in the send ring, or can never be."""
        return self.eof_in or self._shut

    # -- what happens ------------------------------------------------------------------------------------------------

    def on_ready(self) -> None:
        """The connection changed."""
        self.advance()

    def on_event(self, mask: int) -> None:
        """The kernel reports ``mask`` of ``b``."""
        if mask & select.EPOLLOUT and not self._can_send:
            self._can_send = True
            self.broker.engine.modify(self.sock.fileno(), EVENTS)
        if mask & INPUT:
            self._may_read = True
            if mask & ENDS:
                self._ends = True
            if mask & select.EPOLLERR:
                self._error_at_b = True
            if mask & select.EPOLLHUP and not self.hung_up:
                self.hung_up = True
                if self.discard:
                    self.broker.call_at(self, self.broker.now() + GRACE)
        self.advance()

    def look(self) -> None:
        """Ask the kernel now, ahead of its event."""
        poll = select.poll()
        poll.register(self.sock.fileno(), select.POLLIN | select.POLLOUT | select.POLLRDHUP)
        for _, mask in poll.poll(0):
            self.on_event(mask)

    def on_due(self, now: int) -> None:
        """``GRACE`` is over: the connection goes as soon as everything that the program sent is in the send ring.
        Or what was sent before a reset has had its turn."""
        if self._resets:
            self.reset()
        else:
            self.release()

    def release(self) -> None:
        """The program has closed, as far as that can be known: do not wait for the peer's FIN."""
        self.released = True
        self.advance()

    def seal(self) -> None:
        """Let the program send nothing more; what it has sent comes, and then the end."""
        with contextlib.suppress(OSError):  # closed meanwhile
            self.sock.shutdown(_socket.SHUT_RD)
        self.on_event(select.EPOLLIN | select.EPOLLRDHUP)

    def shut_read(self) -> None:
        """The program called shutdown(SHUT_RD): it reads what it has, then the end. A connect that is under way is
        given up, with Linux's errno."""
        if self.fill:
            self.conn.fail(errno.ECONNRESET)
        else:
            self.discard = True
            self._end_of_stream()
        self.advance()

    def expect_urgent(self) -> None:
        """The program is about to send a byte out of band. It is read in line here, but by itself."""
        self.sock.setsockopt(_socket.SOL_SOCKET, _socket.SO_OOBINLINE, 1)
        self.urgent += 1

    def advance(self) -> None:
        """Move what can be moved and act on what was learned. Harmless when nothing changed."""
        conn = self.conn
        if self._error_at_b:  # closed with unread bytes in the kernel
            self.reset()
            return
        if self.fill and not self._opened():
            return
        if conn.ready & FAILED:
            self._failed()
        if self.hung_up and not self.eof_out:
            if conn.ready & GONE:
                self.drop()
                return
            if self.options.linger == (1, 0):
                self._reset_behind()
                return
            if conn.readable:
                self.reset()
                return
        elif not self._to_program():
            return
        if not self._shut and not self._to_peer():
            return
        if not self.eof_in:
            return
        if self.hung_up and self.options.linger == (1, 0) and not self._program_lives():
            self._reset_behind()
        elif (self.hung_up and not self.eof_out) or (
            self.eof_out and (self.released or not self.discard or conn.ready & EOF)
        ):
            self.finish()
        else:
            conn.shutdown_write()

    def _program_lives(self) -> bool:
        """Whether ``a`` is open, however it is shut."""
        return diag.other_end_lives(os.fstat(self.sock.fileno()).st_ino)

    # -- opening and failing -----------------------------------------------------------------------------------------

    def _opened(self) -> bool:
        """Whether the handshake is done; then the padding goes, and the program's end becomes writable."""
        conn = self.conn
        if self.hung_up:
            self.finish()
            return False
        if conn.ready & CONNECTED:
            try:
                while self.fill:
                    self.fill -= len(self.sock.recv(self.fill)) or self.fill
            except BlockingIOError:  # less than was announced: not a program of ours
                self.fill = 0
            return True
        if conn.ready & (FAILED | GONE):
            error = conn.take_error()
            self.broker.leave_letter(self.ident, (error.errno if error else 0) or errno.ECONNABORTED, OPENING)
            self.drop()
        return False

    def _failed(self) -> None:
        """The connection is dead. What arrived before is still delivered; sending fails from now on."""
        error = self.conn.take_error()
        self.error = (error.errno if error else 0) or errno.ECONNRESET
        self._shut = True
        with contextlib.suppress(OSError):  # closed meanwhile
            self.sock.shutdown(_socket.SHUT_RD)

    # -- moving ------------------------------------------------------------------------------------------------------

    def _to_program(self) -> bool:
        """Receive ring to ``b``. False: the bridge is gone."""
        conn = self.conn
        if self.discard:
            while conn.readable:
                conn.consume(min(conn.readable, CHUNK))
        elif self._can_send:
            try:
                if conn.ready & URGENT:
                    self._urgent_to_program()
                while wanted := min(conn.readable, CHUNK):
                    sent = self.sock.sendmsg(conn.peek(wanted))
                    conn.consume(sent)
                    if sent < wanted:
                        self._wait_for_room()
                        break
            except BlockingIOError:
                self._wait_for_room()
            except OSError:  # shut for reading behind our back, or closed: the kernel's event says which
                self.discard = True
        if conn.readable:
            return True
        if self._shut:
            self._dead()
            return False
        if conn.at_eof and not self.eof_out:
            self._end_of_stream()
        if conn.ready & GONE:
            self.drop()
            return False
        return True

    def _wait_for_room(self) -> None:
        """``b`` is full: have the kernel tell when it is no more."""
        self._can_send = False
        self.broker.engine.modify(self.sock.fileno(), WITH_ROOM)

    def _urgent_to_program(self) -> None:
        """What lies before the urgent byte, then that byte out of band. BlockingIOError when ``b`` is full."""
        conn = self.conn
        while conn.readable and (ahead := conn.urgent_mark) is not None:
            if ahead > 1:
                conn.consume(self.sock.sendmsg(conn.peek(min(ahead - 1, CHUNK))))
            else:
                conn.consume(self.sock.sendmsg(conn.peek(1), (), _socket.MSG_OOB))

    def _dead(self) -> None:
        """Everything was delivered: the end follows, and the errno waits for whoever asks."""
        if self.error:
            self.broker.leave_letter(self.ident, self.error, WHILE_OPEN)
        self.drop()

    def _end_of_stream(self) -> None:
        self.eof_out = True
        with contextlib.suppress(OSError):  # closed meanwhile
            self.sock.shutdown(_socket.SHUT_WR)

    def _to_peer(self) -> bool:
        """``b`` to the send ring. False: the bridge is gone.

        A ring takes memory for what it is to receive, so that is not asked for before much is known to come. Less than
        was asked for is all there is, but for an end that was announced: the kernel tells of what comes later.
        """
        conn = self.conn
        if self.eof_in or not self._may_read:
            return True
        try:
            if self.urgent:
                self._urgent_to_peer()
            buffer, wanted = self.broker.buffer, SMALL
            while room := conn.writable:
                wanted = min(room, wanted)
                if wanted > SMALL:
                    count = conn.write_from(self._read_into, wanted)
                else:
                    count = self.sock.recv_into(buffer, wanted)
                    if count:
                        conn.write(buffer[:count])
                self.eof_in = not count
                if self.eof_in or (count < wanted and not self._ends):
                    break
                wanted = CHUNK
        except BlockingIOError:
            self._may_read = False
        except ConnectionResetError:  # closed with unread bytes in the kernel
            self.reset()
            return False
        except OSError as error:  # no memory for what may have been read
            self.broker.leave_letter(self.ident, error.errno or errno.ENOBUFS, WHILE_OPEN)
            self.reset()
            return False
        return True

    def _read_into(self, places: list[memoryview]) -> int:
        return self.sock.recvmsg_into(places)[0]

    def _urgent_to_peer(self) -> None:
        """What was sent before the urgent byte, then that byte, which the kernel does not read together with others.
        BlockingIOError when ``b`` is empty."""
        conn, buffer = self.conn, self.broker.buffer
        while self.urgent and (room := conn.writable):
            mark = _at_mark(self.sock)
            count = self.sock.recv_into(buffer, 1 if mark else min(room, len(buffer)))
            if not count:
                return
            conn.write(buffer[:count], urgent=mark)
            self.urgent -= mark

    # -- ends --------------------------------------------------------------------------------------------------------

    def finish(self) -> None:
        """The program is done: FIN after what is queued, and the stack sees to the rest."""
        self.conn.close()
        self.drop()

    def reset(self) -> None:
        """The program closed with unread bytes, or asked for it: RST."""
        self.conn.abort()
        self.drop()

    def _reset_behind(self) -> None:
        """SO_LINGER says reset: what was sent before leaves in this turn as far as the windows let it, then RST."""
        if not self._shut and not self._to_peer():
            return
        if self.conn.snd.unsent and not self._resets:
            self._resets = True
            self.broker.call_at(self, self.broker.now())
        elif not self._resets:
            self.reset()

    def drop(self) -> None:
        """Let ``b`` go: the program's end hangs up."""
        self.conn.user = None
        self.broker.forget(self, self.sock)


def _at_mark(sock: _socket.socket) -> bool:
    """Whether the next byte is the one that was sent out of band."""
    return any(fcntl.ioctl(sock.fileno(), SIOCATMARK, bytes(4)))
