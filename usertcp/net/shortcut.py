"""The short way in: the frames that nearly all of a stream's are, read at one glance.

A segment of a connection that stands has nothing to be told apart: Ethernet to us, IPv4 without options and in one
piece, TCP with the timestamps where everybody puts them (RFC 7323 Appendix A), ACK and perhaps PSH. All of its fields
lie at fixed places and are taken out in one step, in groups::

    head                            middle            key                  tail           options
    | to | from | 0800 | 45 | tos | . | frag ttl TCP | . | addresses ports | . | ack 80 1x wnd | . | 0101080a val ecr |
                                  len, ident         sum                   seq                 sum, urgent

``head`` and ``middle`` are the same for all that a peer sends: looked at once, they are then only compared. The
connection is found by its ``key`` and decides whether it is the segment that it expects (``tcp.predicted``). A test
that fails, here or there, changes nothing: the frame goes the general way, by ``wire`` and ``Stack``, which alone knows
what is wrong with it and counts it. What is looked at there and not here follows from there being a connection: its
addresses were checked when it was opened. A segment that it did not expect, as those that open and close it, is parsed
from the TCP header on: what is below has been looked at. Text that goes on is not even read that far (``net.burst``).
"""

from collections.abc import Callable
from struct import Struct
from typing import Final, TypeAlias

from usertcp.errors import WireError
from usertcp.frame import FrameMeta, Source
from usertcp.net.burst import Burst, Followed, is_whole
from usertcp.net.flow import Flow
from usertcp.net.interface import Interface
from usertcp.net.listening import Listening
from usertcp.net.stats import Stats
from usertcp.tcp.connection import Connection
from usertcp.tcp.control import take_ack_of_fin, take_fin
from usertcp.tcp.exchange import expect, take
from usertcp.tcp.opening import take_ack_of_syn, take_synack
from usertcp.tcp.predicted import room_in_burst, settle, take_answer, take_message, take_predicted
from usertcp.tcp.state import CONTROL, DOUBTED, URGENT
from usertcp.tcp.timewait import reusable_by
from usertcp.units import MASK32
from usertcp.wire import ethernet, ipv4, tcp
from usertcp.wire.ecn import CE, MASK

# Whose answer; its fields from the key to the window; its most text; segments that had come before.
Awaited: TypeAlias = tuple[Connection, bytes, int, int]

LEAST_OF_BURST: Final = 512  # bytes of text: what is less is a message, and the next one answers another question

_FIELDS: Final = "H H 4s H 12s I I H H 4x I I I"  # from the IPv4 header's third byte on
_ETHERNET: Final = Struct("! 16s" + _FIELDS)
_BARE: Final = Struct("! 2s" + _FIELDS)
_FRONT: Final = "H H 4s H 24s 4x I I 4x"  # the same for who knows all from the key to the window
_NUMBERS: Final = Struct("! I I H H")  # of a TCP header, from SEQ on
_WORDS: Final = Struct("! H H")
_IPV4: Final = b"\x45"  # version 4, five words: no options
_ONE_PIECE: Final = 0x3FFF  # more fragments, fragment offset
_EXPECTED: Final = tcp.HEADER_LEN + tcp.TIMESTAMPS_LEN << 10 | tcp.ACK  # data offset and flags
_ENDS: Final = _EXPECTED | tcp.FIN
_IGNORED: Final = 0xFFFF ^ tcp.PSH
_SYNACK: Final = tcp.HEADER_LEN + tcp.SYN_OPTIONS_LEN << 10 | tcp.SYN | tcp.ACK
_MORE: Final = tcp.SYN_OPTIONS_LEN - tcp.TIMESTAMPS_LEN  # bytes of options than a segment of an open connection has
_HEADERS: Final = ipv4.HEADER_LEN + tcp.HEADER_LEN + tcp.TIMESTAMPS_LEN


class Shortcut:
    """Where ``Stack.receive`` tries first. ``flows``: the stack's connections by key.

    ``_head``, ``_middle``  of the last frame that was looked at and found in order; ``_sum``: of their words
    ``burst``               the text that was last taken, if it may go on
    """

    __slots__ = (
        "_fields",
        "_flows",
        "_front_fields",
        "_head",
        "_interface",
        "_ip",
        "_least",
        "_listening",
        "_mac",
        "_middle",
        "_start",
        "_stats",
        "_sum",
        "burst",
    )

    def __init__(
        self, interface: Interface, flows: dict[bytes, Connection], listening: Listening | None, stats: Stats
    ) -> None:
        """``listening``: for segments without a connection; None: those may be another stack's."""
        mac = interface.mac  # b"": frames are bare IP packets
        fields = _ETHERNET if mac else _BARE
        self._interface = interface
        self._listening = listening
        self._mac = mac
        self._start = ethernet.IPV4.to_bytes(2, "big") + _IPV4 if mac else _IPV4
        self._fields = fields.unpack_from
        self._front_fields = Struct(f"! {16 if mac else 2}s {_FRONT}").unpack_from
        self._least = fields.size
        self._ip = fields.size - _HEADERS
        self._flows = flows
        self._stats = stats
        self._head = self._middle = b""
        self._sum = 0
        self.burst = Burst(self._ip, fields.size, stats)

    def take(self, frame: bytes | bytearray | memoryview, now: int, meta: FrameMeta) -> bool:
        """True: a connection has taken the segment in ``frame``. False: nothing has changed."""
        size, least = len(frame), self._least
        if size < least:
            return False
        head, total, ident, middle, check, key, seq, ack, word, wnd, kind, tsval, tsecr = self._fields(frame)
        conn = self._flows.get(key)
        end = self._ip + total
        if conn is None:
            sound = self.is_ours(head, middle)
            sound = sound and not (self._sum + int.from_bytes(key[:8], "big") + total + ident + check) % 0xFFFF
            return self._take_strange(frame, sound, key, end, now, meta)
        if not least <= end <= size or (
            (head != self._head or middle != self._middle) and not self.is_ours(head, middle)
        ):
            return False
        flow = conn.flow
        if (self._sum + flow.address_sum + total + ident + check) % 0xFFFF or not flow.next_hop:
            return False
        view = memoryview(frame)
        if not meta.csum_valid and not self._sums_up(flow, view[:end]):
            return False
        if word & _IGNORED != _EXPECTED or kind != tcp.NOP_NOP_TS:
            if (
                end == least
                and word & _IGNORED == _ENDS
                and kind == tcp.NOP_NOP_TS
                and conn.calm > DOUBTED
                and take_fin(conn, seq, ack, wnd, tsval, now)
            ):
                self._stats.segments_in += 1
                return True
            if word == _SYNACK and end == least + _MORE and conn.calm == CONTROL:
                options = tcp.usual_syn(view[end - tcp.SYN_OPTIONS_LEN : end])
                if options is not None and take_synack(conn, seq, ack, wnd, *options, now):
                    self._stats.segments_in += 1
                    return True
            return self._take_other(conn, view[:end], now, meta)
        text, stats = view[least:end], self._stats
        if (
            end - least < LEAST_OF_BURST
            and conn.calm > DOUBTED
            and not flow.queued
            and (
                take_message(conn, seq, ack, wnd, tsval, tsecr, text, flow.wake, now)
                or (not text and take_answer(conn, seq, ack, wnd, tsval, flow.wake, now))
            )
        ):
            stats.segments_in += 1
            return True
        if (
            end == least
            and conn.calm == CONTROL
            and (
                take_ack_of_fin(conn, seq, ack, wnd, tsval, now)
                or (not flow.queued and take_ack_of_syn(conn, seq, ack, wnd, tsval, now))
            )
        ):
            stats.segments_in += 1
            return True
        if not take_predicted(conn, seq, ack, wnd, tsval, tsecr, text, meta.gso_size, now):
            return self._take_other(conn, view[:end], now, meta)
        if not flow.queued and not settle(conn, flow.wake, now):
            conn.host.dirty(conn)
        stats.segments_in += 1
        if end - least < LEAST_OF_BURST:
            self.burst.conn = None
        elif is_whole(meta, end - least, conn.rcv.mss):
            self.burst.begin(conn, view[:least], self._sum + flow.address_sum, ident, end - least, meta)
        return True

    def _take_strange(
        self, frame: bytes | bytearray | memoryview, sound: bool, key: bytes, end: int, now: int, meta: FrameMeta
    ) -> bool:
        """A segment up to ``end`` of nobody who is known, whose IP header has the right sum, if it is ``sound``."""
        there, here, interface = key[:4], key[4:8], self._interface
        segment = memoryview(frame)[self._ip + ipv4.HEADER_LEN : end]
        if (
            not sound
            or self._listening is None
            or end > len(frame)
            or here not in interface.own
            or not interface.is_foreign(there)
            or not (meta.csum_valid or tcp.verify(there, here, segment))
        ):
            return False
        try:
            seg = tcp.parse(segment, meta.gso_size)
        except WireError:
            return False
        seg.ecn = self._head[-1] & MASK
        self._stats.segments_in += 1
        self._listening.on_segment(seg, key, now)
        return True

    def expect(self, conn: Connection) -> Awaited | None:
        """The answer that the reader of ``conn`` waits for, for :meth:`hear`; None: that would not take it."""
        snd, most = conn.snd, expect(conn)
        window = snd.wnd >> snd.shift
        if most <= 0 or window << snd.shift != snd.wnd or conn.flow.queued or not conn.flow.next_hop:
            return None
        fields = conn.rcv.nxt & MASK32, snd.nxt & MASK32, _EXPECTED | tcp.PSH, window
        return conn, conn.flow.key + _NUMBERS.pack(*fields), most, conn.segments_in

    def hear(self, awaited: Awaited, frame: memoryview, now: int, meta: FrameMeta) -> bool:
        """:meth:`take` for the answer that is awaited, if no other segment has come for its connection since."""
        size, least, (conn, expected, most, count) = len(frame), self._least, awaited
        if not least < size <= least + most or conn.segments_in != count:
            return False
        head, total, ident, middle, check, front, kind, tsval = self._front_fields(frame)
        if (
            front != expected
            or kind != tcp.NOP_NOP_TS
            or middle != self._middle
            or head != self._head
            or self._ip + total != size
            or (self._sum + conn.flow.address_sum + total + ident + check) % 0xFFFF
            or not meta.csum_valid
            or not take(conn, frame[least:], tsval, now)
        ):
            return False
        stats = self._stats
        stats.frames_in += 1
        stats.bytes_in += size
        stats.segments_in += 1
        self.forget()
        return True

    def _sums_up(self, flow: Flow, frame: memoryview) -> bool:
        """Whether the checksum of the TCP segment in ``frame`` is right."""
        return tcp.verify(flow.remote_ip, flow.local_ip, frame[self._ip + ipv4.HEADER_LEN :])

    def forget(self) -> None:
        """What came last says nothing about what comes next."""
        self.burst.conn = None

    def is_ours(self, head: bytes, middle: bytes) -> bool:
        """Whether there is nothing about ``head`` and ``middle`` that the general way should see; they are then
        the last that were looked at."""
        if head == self._head and middle == self._middle:
            return True
        fragment, kind = _WORDS.unpack(middle)
        if (
            head[: len(self._mac)] != self._mac
            or head[-4:-1] != self._start
            or head[-1] & CE == CE
            or fragment & _ONE_PIECE
            or kind & 0xFF != ipv4.TCP
        ):
            return False
        self._head, self._middle = head, middle
        self._sum = int.from_bytes(head[-2:], "big") + fragment + kind
        return True

    def _take_other(self, conn: Connection, frame: memoryview, now: int, meta: FrameMeta) -> bool:
        """The segment in ``frame``, whose checksum is right, is not the one that ``conn`` expects."""
        try:
            seg = tcp.parse(frame[self._ip + ipv4.HEADER_LEN :], meta.gso_size)
        except WireError:
            return False
        if seg.flags & tcp.SYN and reusable_by(conn, seg):
            return False
        seg.ecn = self._head[-1] & MASK
        self._stats.segments_in += 1
        conn.on_segment(seg, now)
        return True

    def follow(self, source: Source, clock: Callable[[], int], frames: int, size: int) -> Followed:
        """Read on while frames continue the text that was last taken: up to ``frames`` of them, and until they have
        ``size`` bytes. Their text is in its place already when they are looked at."""
        burst = self.burst
        conn = burst.conn
        if conn is None or conn.segments_in != burst.count or (room := room_in_burst(conn)) <= 0:
            return unlooked_at(source)
        buffer, before = conn.rcv.buffer, conn.rcv.nxt
        try:
            place = buffer.place(room, burst.most)
            if len(place) < burst.most:
                return unlooked_at(source)
            return burst.read_on(source, place, len(place), frames, size, clock(), read=False)
        finally:
            if conn.rcv.nxt == before:
                buffer.filled(0)

    def pull(
        self, conn: Connection, target: memoryview, source: Source, frames: int, size: int, now: int
    ) -> Followed | None:
        """The same with ``target``, memory of the reader of ``conn``, for its place. None: it is not so simple, since
        something else came last, or something has still to be read."""
        burst, buffer = self.burst, conn.rcv.buffer
        if (
            burst.conn is not conn
            or conn.segments_in != burst.count
            or buffer.read_seq != buffer.nxt
            or buffer.wanted
            or buffer.landed
            or conn.read_shut
            or conn.ready & URGENT
        ):
            return None
        limit, room = len(target), room_in_burst(conn)
        if limit > room:
            limit = room
        if limit < burst.most:
            return None
        return burst.read_on(source, target, limit, frames, size, now, read=True)


def unlooked_at(source: Source) -> Followed:
    """What comes next, of which it is not known whether it continues anything."""
    got = source.read()
    return got, 0, 0, got is None
