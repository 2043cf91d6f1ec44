"""Text that goes on: frames of a stream are foretold, and read without being looked at one by one.

From one frame of a burst to the next hardly anything changes, and what does follows from their sizes: IP's total
length, identification and checksum, and the sequence number. So all of a frame's headers, as one number, are known
before it comes (``frame.Run``)::

    ... | 45 tos | total | ident | frag | ttl TCP | check | addresses ports | seq | ack 80 1x wnd sum urg | ts ...
                   size    +k                       -k-size                   +text       PSH,   any

and a frame that has this number is in order, to the bit: its text lies where it belongs, and all that remains is to
count. Only PSH, TCP's checksum, which the device vouches for, and the urgent pointer without URG may be anything. What
a sender counts by its identification (k) is its own business: nothing, frames, or the segments that they are made of.

A frame that was not foretold, since the timestamps' clock has gone on or its size is a new one, is looked at field by
field; if it continues the text nevertheless, it tells what comes next. No number is foretold in which a field would
pass its end, since what is carried would change the field in front of it.
"""

from struct import Struct
from typing import Final, TypeAlias

from usertcp.frame import NO_MORE, NOT_ASKED, UNKNOWN, FrameMeta, Run, Source
from usertcp.net.stats import Stats
from usertcp.tcp.connection import Connection
from usertcp.tcp.predicted import take_burst
from usertcp.units import MASK32

Frame: TypeAlias = tuple[memoryview, FrameMeta]
Followed: TypeAlias = tuple[Frame | None, int, int, bool]  # what does not go on; frames that did, their bytes; dry

MAX_SIZES: Final = 16  # of frames that are remembered; there are two or three
_HALF: Final = 1 << 31
_MASK16: Final = 0xFFFF

# Where fields begin, in bits from the end of the headers: those of IP and TCP, with timestamps.
_ECHO: Final = 0
_STAMP: Final = 32
_URGENT: Final = 96
_FLAGS: Final = 144
_SEQ: Final = 192
_CHECK: Final = 320
_IDENT: Final = 368
_TOTAL: Final = 384

_PSH: Final = 0x08
_FREE: Final = MASK32 << _URGENT | _PSH << _FLAGS  # the checksum of TCP as well
_VARYING: Final = (
    _FREE | MASK32 << _ECHO | MASK32 << _STAMP | MASK32 << _SEQ | _MASK16 << _CHECK | MASK32 << _IDENT  # and the total
)
# What is counted by the identification.
NOTHING: Final = 0
FRAMES: Final = 1
SEGMENTS: Final = 2

_FIELDS: Final = "2x H H 4x H 12x I 16x I I"  # total, identification, checksum, number, timestamps


class Burst:
    """The text that was last taken. ``conn``: whose it is, None: none may go on; ``count``: segments that it had got
    by then: if there are more, something else has come in between; ``most``: bytes of text in its largest frame.

    ``_same``      the front of its frames as a number, all that varies set
    ``_constant``  the sum of their IP header, but for what varies
    ``_stamps``, ``_ident``, ``_segments``  timestamps, identification and segments of the last frame that was looked
                   at; ``_nxt``: RCV.NXT after it
    ``_counted``   what is counted by the identification
    ``_base``      the identification to which the checksums in ``_run.sizes`` belong; ``_least``: the lowest of these
    ``_steepest``  the most that one of these sizes adds to the identification
    ``_left``      frames that may be foretold before a field passes its end
    """

    __slots__ = (
        "_base",
        "_bits",
        "_constant",
        "_counted",
        "_ident",
        "_ip",
        "_least",
        "_left",
        "_nxt",
        "_run",
        "_same",
        "_segments",
        "_stamps",
        "_stats",
        "_steepest",
        "_unpack",
        "conn",
        "count",
        "most",
    )

    def __init__(self, ip: int, front: int, stats: Stats) -> None:
        """``ip``: where IP begins in a frame, ``front``: where its text does."""
        self._ip = ip
        self._unpack = Struct(f"! {ip}x {_FIELDS}").unpack
        self._run = Run(front, _FREE)
        self._bits = 8 * front
        self._stats = stats
        self._counted = SEGMENTS
        self._same = self._constant = self._ident = self._segments = self._nxt = 0
        self._stamps = 0, 0
        self._base = self._least = self._steepest = 0
        self._left = 1
        self.conn: Connection | None = None
        self.count = self.most = 0

    def begin(self, conn: Connection, front: memoryview, constant: int, ident: int, text: int, meta: FrameMeta) -> None:
        """A frame of ``conn`` was taken that has ``text`` bytes of text behind ``front``. ``constant``: the sum of its
        IP header but for the fields that vary."""
        self.conn = conn
        self.count = conn.segments_in
        self.most = text
        self._same = int.from_bytes(front) | _VARYING
        self._constant = constant
        self._ident, self._segments, self._nxt = ident, segments_of(meta, text), conn.rcv.nxt
        self._forget()

    def read_on(
        self, source: Source, place: memoryview, limit: int, frames: int, size: int, now: int, *, read: bool
    ) -> Followed:
        """Put the text of frames that go on into ``place``, of which ``limit`` bytes may be used, and count them: up to
        ``frames``, and until they have ``size`` bytes. ``read``: that is where the user wants it; else it is where the
        receive buffer said."""
        conn, run = self.conn, self._run
        assert conn is not None
        rcv = conn.rcv
        tuner, least = rcv.tuner, len(run.front)
        taken = octets = 0
        while limit >= self.most and size > 0 and frames > 0:
            until = limit - self.most
            if until >= size:
                until = size - 1
            if now >= tuner.due and tuner.bar - rcv.nxt < until:
                until = max(tuner.bar - rcv.nxt, 0)
            run.count = 0  # an interrupt may come before the link has begun
            try:
                source.read_run(run, place, frames if frames < self._left else self._left, until)
            finally:
                count, text = run.count, run.at
                if count:
                    self._take(conn, text, run.last, count, now, read)
                    self._left -= count
                    if self._left <= 0:
                        self._forget()
            taken += count
            octets += text + count * least
            if run.odd == NO_MORE:
                return None, taken, octets, True
            if run.odd != NOT_ASKED:
                more = self._goes_on(conn, limit - text)
                if not more:
                    return (source.rejoin(run, place), run.its), taken, octets, False
                self._take(conn, more, more, 1, now, read)
                text += more
                count += 1
                taken += 1
                octets += more + least
            place = place[text:]
            limit -= text
            size -= text
            frames -= count
        return None, taken, octets, False

    def _take(self, conn: Connection, size: int, last: int, frames: int, now: int, read: bool) -> None:
        """``size`` bytes of text have come in ``frames``, ``last`` of them in the last one."""
        stamp, echo = self._stamps
        take_burst(conn, size, last, frames, stamp, echo, now, read=read)
        self.count += frames
        stats = self._stats
        stats.frames_in += frames
        stats.segments_in += frames
        stats.bytes_in += size + frames * len(self._run.front)

    def _goes_on(self, conn: Connection, limit: int) -> int:
        """Whether the frame that was not as foretold continues the text all the same: bytes of it, ``limit`` at most;
        0: no. What comes next follows from it."""
        run, rcv = self._run, conn.rcv
        total: int
        total, ident, check, seq, stamp, echo = self._unpack(run.front)
        text = self._ip + total - len(run.front)
        number = int.from_bytes(run.front)
        if (
            run.odd < self._ip + total
            or number | _VARYING != self._same
            or seq != rcv.nxt & MASK32
            or not 0 < text <= limit
            or not is_whole(run.its, text, rcv.mss)
            or (self._constant + total + ident + check) % _MASK16
            or (stamp - rcv.ts_recent) & MASK32 >= _HALF
        ):
            return 0
        if self._nxt == rcv.nxt:  # the one before it was looked at as well
            self._see(ident - self._ident & _MASK16)
        self._stamps = stamp, echo
        self._ident, self._segments, self._nxt = ident, segments_of(run.its, text), rcv.nxt + text
        self.most = max(self.most, text)
        self._foretell(number | _FREE, text, total, check)
        return text

    def _see(self, step: int) -> None:
        """The identification is ``step`` more than that of the frame before."""
        if step != self._step(self._segments):
            self._counted = SEGMENTS if step == self._segments else FRAMES if step == 1 else NOTHING
            self._forget()

    def _step(self, segments: int) -> int:
        """What a frame of ``segments`` adds to the identification."""
        return segments if self._counted == SEGMENTS else self._counted

    def _foretell(self, number: int, text: int, total: int, check: int) -> None:
        """What follows from the frame just looked at, whose front is ``number``, for those to come."""
        run, ident = self._run, self._ident
        sizes = run.sizes
        beyond = ident - self._base
        if not 0 <= beyond <= self._least or len(sizes) >= MAX_SIZES:
            self._forget()
        if not sizes:
            self._base, beyond, self._least, self._steepest = ident, 0, check, 0
        step = self._step(self._segments)
        more = (run.lead << self._bits) + (total << _TOTAL) + (check + beyond << _CHECK)
        ahead = (text << _SEQ) + (step << _IDENT) - (step << _CHECK)
        sizes[run.odd] = text, more, ahead
        self._least = min(self._least, check + beyond)
        self._steepest = max(self._steepest, step)
        left = MASK32 - (self._nxt - text & MASK32) >> 16
        if self._steepest:
            left = min(left, min(_MASK16 - ident, self._least - beyond) // self._steepest)
        if left > 0:
            run.head = number + (run.lead << self._bits) - more + ahead
            self._left = left
        else:
            self._forget()

    def _forget(self) -> None:
        """Nobody knows what comes next."""
        self._run.head = UNKNOWN
        self._run.sizes.clear()
        self._left = 1


def is_whole(meta: FrameMeta, size: int, mss: int) -> bool:
    """Whether a frame with ``size`` bytes of text needs no summing and has no larger segments than ``mss``."""
    return meta.csum_valid and (meta.gso_size or size) <= mss


def segments_of(meta: FrameMeta, size: int) -> int:
    """How many segments a frame with ``size`` bytes of text is made of."""
    return -(-size // meta.gso_size) if meta.gso_size else 1
