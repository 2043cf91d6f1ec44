"""The two buffers of a connection: what the user wrote and the peer has not acknowledged, and what came and is unread.

Both are a :class:`Ring` and a few numbers on the sequence line::

      send       start             end                 receive    read_seq      nxt    [arrived)  [arr)  top
                 v                 v                              v             v                        v
             ----[=================)----free---)              ----[=============)-----[=======)--[=====)-----room---)
                 SND.UNA                       start+limit        unread       RCV.NXT                   read_seq+limit

A byte is copied once on the way in and, out of the receive buffer, once on the way to the user; sending hands out
views. Large ``bytes`` that the user writes are not even copied once: nobody can change them, so a reference will do
(``references``); and so for a small message that is alone in the buffer, which needs no ring. Nothing that was
accepted is thrown away again (no reneging, RFC 2018 §8). SYN and FIN have sequence numbers but no bytes, and are none
of the buffers' business; neither are windows.

Memory is taken at the first byte and given back as soon as a buffer is empty, so that an idle connection holds none.
How much there is for all is the budget's word (``memory``): ``limit`` is what a buffer may hold if there is enough.
"""

import errno
from typing import Final

from usertcp.errors import os_error
from usertcp.tcp.memory import Memory
from usertcp.tcp.ranges import RangeSet
from usertcp.tcp.references import References, keepable
from usertcp.tcp.ring import Buffer, Ring

CRUMB: Final = 8  # under pressure: what arrives behind a gap may make a ring so many times as large as all that is held


AHEAD: Final = 8  # segments as large as the last, for which a ring takes memory at once
SMALL: Final = 2048  # bytes of a message for which no ring is taken, at most: the smallest ring holds two of them
NOTHING: Final = memoryview(bytearray())  # offered by nobody


def bytewise(data: Buffer) -> memoryview:
    """``data`` as a view of single bytes, whatever its items were."""
    view = memoryview(data)
    return view if view.format == "B" and view.ndim == 1 else view.cast("B")


class SendBuffer:
    """Bytes ``[start, end)``: written by the user, not yet acknowledged. At most ``limit`` bytes, which may change, and
    by itself grows up to ``maximum`` (:meth:`follow`). ``alone``: a small message, all that was written since the
    buffer was last empty. Else what is not in ``_kept`` is in the ring."""

    __slots__ = ("_kept", "_ring", "_spare", "alone", "end", "limit", "maximum", "start")

    def __init__(self, limit: int, maximum: int = 0, memory: Memory | None = None) -> None:
        self.limit = limit
        self.maximum = maximum
        self._ring = Ring(memory)
        self._kept: References | None = None
        self.alone: bytes | None = None
        self._spare = NOTHING  # offered while what is written goes behind references
        self.start = self.end = 0

    def __len__(self) -> int:
        return self.end - self.start

    @property
    def free(self) -> int:
        """Bytes that ``write`` would take now."""
        ring = self._ring
        memory = ring.memory
        limit = self.limit
        if memory.pressed or limit + limit > memory.limit - memory.used:
            kept = self._kept
            granted = (
                memory.allowance(ring.capacity)
                if kept is None
                else self.end - self.start + kept.allowance(ring.capacity)
            )
            limit = min(limit, granted)
        free = limit - self.end + self.start
        return free if free > 0 else 0

    def inviting(self, aside: int = 0) -> bool:
        """Whether a third of what it may hold is free: time to tell a user who was turned away. The ``aside`` bytes
        that are held without being in the network do not count."""
        free = self.free
        return free > 0 and free * 3 >= free + self.end - self.start - aside

    def follow(self, window: int, aside: int = 0) -> None:
        """Let the limit grow to twice the ``window`` that is of use (``Sender.useful``): once for what is in the
        network and once for what the user writes meanwhile, so that the window is the bound and not the buffer (as
        Linux); ``aside`` bytes wait for a retransmission to arrive, or to leave."""
        wanted = min(2 * window + aside, self.maximum)
        if wanted > self.limit:
            memory = self._ring.memory
            if not memory.pressed:
                self.limit = max(self.limit, min(wanted, memory.largest))

    def reset(self, seq: int) -> None:
        """Empty; the first byte written will be number ``seq`` (ISS + 1)."""
        self._ring.release()
        self._kept = None
        self._let_go()
        self.start = self.end = seq

    def _let_go(self) -> None:
        """Of the message alone."""
        if self.alone is not None:
            self._ring.memory.credit(len(self.alone))
            self.alone = None

    def _spill(self) -> None:
        """Into the ring with it: more follows."""
        message = self.alone
        if message is not None:
            self._grow(self.end)
            self._let_go()
            self._ring.write(self.start, message[len(message) - self.end + self.start :])

    def keep(self, message: bytes) -> bool:
        """Take a small message, the buffer being empty. False: there is no memory for it but in the ring."""
        n = len(message)
        if not 0 < n < self.limit or not self._ring.memory.lend(n):
            return False
        self.alone = message
        self.end += n
        return True

    def _grow(self, end: int) -> None:
        """Have room up to ``end``, for which the budget has memory. OSError(ENOBUFS): the machine has none."""
        if not self._ring.reserve(self.start, end):
            raise os_error(errno.ENOBUFS)

    def write(self, data: Buffer) -> int:
        """Take as much of ``data`` as fits; return how many bytes that was, 0 when full. OSError(ENOBUFS): the machine
        has no memory for it, and nothing was taken."""
        if self.start == self.end and len(data) <= SMALL:
            message = data if type(data) is bytes else bytes(data)
            if len(message) <= SMALL and self.keep(message):
                return len(message)
        view = bytewise(data)
        n = min(len(view), self.free)
        return self.append(view[:n], n) if n else 0

    def append(self, data: Buffer, n: int) -> int:
        """Take ``data``, bytes or a view of single ones, ``n`` of them, for which there is room as ``free`` has it;
        errors as of :meth:`write`. Fewer are taken only when the machine has no memory for more."""
        if self.alone is not None:
            self._spill()
        kept, ring, keeps = self._kept, self._ring, keepable(data, n)
        if kept is None and keeps and ring.memory.has(n):
            kept = self._kept = References(ring.memory, self.end)
        if kept is not None:
            if not keeps:
                return self._copy(kept, memoryview(data))
            kept.keep(memoryview(data))
            self.end += n
            return n
        start, end = self.start, self.end
        if end + n - start > ring.capacity:
            self._grow(end + n)
        ring.write(end, data)
        self.end = end + n
        return n

    def _copy(self, kept: References, view: memoryview) -> int:
        """Take a copy of ``view``, which comes after references; the ring is used again when all of those are
        acknowledged."""
        taken = kept.copy(view)
        self.end += taken
        if not taken:
            raise os_error(errno.ENOBUFS)
        return taken

    def offer(self, n: int) -> list[memoryview]:
        """The places of the next ``n`` bytes, or as many as are free, to be written to before anything else happens
        here; :meth:`filled` tells how many were."""
        self._spill()
        n = min(n, self.free)
        if n <= 0:
            return []
        if self._kept is not None:
            try:
                self._spare = memoryview(bytearray(n))
            except MemoryError:
                raise os_error(errno.ENOBUFS) from None
            return [self._spare]
        self._grow(self.end + n)
        return self._ring.views(self.end, n)

    def filled(self, n: int) -> None:
        """The first ``n`` bytes of what :meth:`offer` gave are written."""
        if self._kept is None:
            self.end += n
            return
        _ = self._copy(self._kept, self._spare[:n])
        self._spare = NOTHING

    def views(self, seq: int, n: int) -> list[memoryview]:
        """The bytes ``[seq, seq + n)``, which must be held, uncopied, in one piece or more (none when ``n`` is 0).

        They are good until acknowledged and written over: the caller sends or copies them before it returns.
        """
        kept = self._kept
        if kept is not None and seq >= kept.start:
            return kept.views(seq, n)
        if n <= 0:
            return []
        assert self.start <= seq <= self.end - n
        message = self.alone
        if message is not None:
            at = seq - self.end + len(message)
            return [memoryview(message)[at : at + n]]
        if kept is None:
            return self._ring.views(seq, n)
        copied = min(n, kept.start - seq)
        return self._ring.views(seq, copied) + kept.views(kept.start, n - copied)

    def ack(self, una: int) -> None:
        """Let go of the bytes below ``una``; numbers outside the buffer (an old ACK, that of a FIN) do no harm."""
        if una > self.start:
            if una < self.end:
                self.start = una
                if self._kept is not None and una >= self._kept.start:
                    self._ring.release()
                    self._kept.release(una)
            elif self.alone is not None:
                self.start = self.end
                self._let_go()
            else:
                self.start = self.end
                self._ring.release()
                self._kept = None

    def clear(self) -> None:
        """Let go of everything, which is text and acknowledged."""
        message = self.alone
        if message is None:
            self.ack(self.end)
        else:
            self._ring.memory.credit(len(message))
            self.alone = None
            self.start = self.end

    def fit(self) -> None:
        """Memory is scarce: give back what is not needed for what is held."""
        self._ring.fit(self.start, self.end if self._kept is None else max(self.start, self._kept.start))


class ReceiveBuffer:
    """Bytes ``[read_seq, nxt)`` in order and unread, and beyond ``nxt`` those of ``arrived``, out of order.

    ``nxt`` is RCV.NXT as far as data goes, ``top`` the end of the highest byte held; they are equal when there is no
    gap. ``limit`` bytes are promised to the peer at most; lowering it throws nothing away.

    A reader who waits may :meth:`offer` its own memory: what comes next in order is then copied there, once, instead of
    into the ring and out of it again, and counts as read. Of that memory, ``target``, ``landed`` bytes are filled and
    ``wanted`` are not.
    """

    __slots__ = ("_ring", "arrived", "landed", "limit", "memory", "nxt", "read_seq", "target", "top", "wanted")

    def __init__(self, limit: int, memory: Memory | None = None) -> None:
        self.limit = limit
        self._ring = Ring(memory)
        self.memory = self._ring.memory
        self.arrived = RangeSet()
        self.read_seq = self.nxt = self.top = 0
        self.target = NOTHING
        self.wanted = self.landed = 0

    @property
    def readable(self) -> int:
        """Bytes that ``read`` would give now."""
        return self.nxt - self.read_seq

    @property
    def room(self) -> int:
        """Bytes from ``nxt`` on that may still come: the most that the window may be."""
        limit = self.limit
        if self.memory.pressed:
            limit = min(limit, self.memory.allowance(self._ring.capacity))
        return max(0, limit - self.nxt + self.read_seq)

    def reset(self, seq: int) -> None:
        """Empty; the first byte will be number ``seq`` (IRS + 1)."""
        self._ring.release()
        self.arrived.clear()
        self.read_seq = self.nxt = self.top = seq

    def clear(self) -> None:
        """Forget what is unread and what is out of order; ``nxt`` stays."""
        self.reset(self.nxt)

    def forget_gaps(self) -> None:
        """Forget what is out of order: the bytes in front of it will not come any more."""
        self.arrived.clear()
        self.top = self.nxt
        if self.read_seq == self.top:
            self._ring.release()

    def insert(self, seq: int, data: Buffer) -> int:
        """Copy ``data`` to the numbers from ``seq`` on; return by how many bytes ``nxt`` went on.

        The caller has cut it to ``[nxt, read_seq + limit)``. Bytes that come twice while out of order are written
        twice: of a sender that contradicts itself the latest word counts. What finds no memory is not taken, from its
        end on.
        """
        nxt = self.nxt
        if self.wanted and seq == nxt == self.top == self.read_seq:
            wanted = self.wanted
            if len(data) <= wanted:
                self._land(data)
                return len(data)
            self._land(data[:wanted])
            return wanted + self.insert(seq + wanted, data[wanted:])
        end = seq + len(data)
        ring = self._ring
        if end - self.read_seq > ring.capacity and end > seq:
            if self._is_crumb(seq, end):
                data = data[: max(0, self.read_seq + ring.capacity - seq)]
            elif not ring.reserve(self.read_seq, end):
                data = self._squeeze(seq, data)
            end = seq + len(data)
        if seq == nxt == self.top:  # in order and no gap anywhere: nearly always
            ring.write(seq, data)
            self.nxt = self.top = end
            return end - nxt
        assert seq >= nxt
        if end == seq:
            return 0
        self.top = max(self.top, end)
        ring.write(seq, data)
        arrived = self.arrived
        arrived.add(seq, end)
        first = arrived.first
        if first is None or first[0] > nxt:
            return 0
        self.nxt = first[1]
        arrived.remove_below(first[1])
        return first[1] - nxt

    def _land(self, data: Buffer) -> None:
        """Copy ``data``, which is next in order with nothing in front of it and no more than ``wanted``, to the waiting
        reader."""
        size, at = len(data), self.landed
        self.target[at : at + size] = data
        self.filled(size)

    def place(self, room: int, least: int) -> memoryview:
        """Where text goes that comes next, while nothing has come out of order: up to ``room`` bytes in one piece, for
        which :meth:`filled` is to be told, also if nothing comes. A ring without room for ``least`` bytes grows, if
        memory is not scarce, so far that it is not soon to grow again, and little comes to lie across its end."""
        nxt = self.nxt
        if self.wanted and self.read_seq == nxt:
            return self.target[self.landed : self.landed + min(self.wanted, room)]
        ring, unread, end = self._ring, nxt - self.read_seq, nxt + min(room, least)
        if end - self.read_seq > ring.capacity and (
            self.memory.pressed or not ring.reserve(self.read_seq, max(end, self.read_seq + min(room, AHEAD * least)))
        ):
            return NOTHING
        return ring.views(nxt, min(room, ring.capacity - unread))[0]

    def filled(self, size: int) -> None:
        """``size`` bytes, next in order, were put where :meth:`place` said."""
        if self.wanted and self.read_seq == self.nxt:
            self.landed += size
            self.wanted -= size
            self.read_seq += size
        self.nxt = self.top = self.nxt + size
        if self.read_seq == self.nxt:
            self._ring.release()

    def offer(self, target: memoryview) -> None:
        """Let what comes next go to ``target``, bytes, until :meth:`take_back`; one reader at a time."""
        assert self.landed == self.wanted == 0
        self.target = target
        self.wanted = len(target)

    def take_back(self) -> int:
        """End the offer; how many bytes have landed."""
        landed = self.landed
        self.target = NOTHING
        self.landed = self.wanted = 0
        return landed

    def _is_crumb(self, seq: int, end: int) -> bool:
        """Whether memory is scarce and ``[seq, end)`` would take much of it for little: far behind a gap."""
        held = self.nxt - self.read_seq + self.arrived.total + end - seq
        return self.memory.pressed and seq > self.nxt and end - self.read_seq > CRUMB * held

    def fit(self, edge: int) -> None:
        """Memory is scarce: give back what is not needed for what is held, or promised up to the number ``edge``."""
        self._ring.fit(self.read_seq, max(self.top, edge))

    def _squeeze(self, seq: int, data: Buffer) -> Buffer:
        """The part of ``data`` for which the budget has memory."""
        ring, memory = self._ring, self.memory
        memory.refused += 1
        ring.reserve(self.read_seq, self.read_seq + memory.ceiling(ring.capacity))
        return data[: max(0, self.read_seq + ring.capacity - seq)]

    def peek(self, n: int) -> list[memoryview]:
        """At most ``n`` unread bytes, uncopied, in one piece or two (none when nothing is readable).

        They are good until ``consume``, ``read`` or ``read_into``.
        """
        n = min(n, self.nxt - self.read_seq)
        return self._ring.views(self.read_seq, n) if n > 0 else []

    def read(self, n: int) -> bytes:
        """At most ``n`` bytes, and let go of them; empty when nothing is readable."""
        n = min(n, self.nxt - self.read_seq)
        if n <= 0:
            return b""
        data = self._ring.copy(self.read_seq, n)
        self.consume(n)
        return data

    def read_into(self, target: bytearray | memoryview) -> int:
        """Fill ``target`` as far as there are bytes, and let go of them; return how many."""
        view = bytewise(target)
        n = self.nxt - self.read_seq
        if n < len(view):
            view = view[:n]
        else:
            n = len(view)
        if n:
            self._ring.read_into(self.read_seq, view)
            self.consume(n)
        return n

    def consume(self, n: int) -> None:
        """Let go of the first ``n`` unread bytes (after ``peek``); there must be as many."""
        self.read_seq += n
        assert self.read_seq <= self.nxt
        if self.read_seq == self.top:
            self._ring.release()
