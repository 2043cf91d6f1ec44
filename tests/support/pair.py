"""Two connections and the wire between them, which does with each segment what the test says.

Nothing moves by itself: segments lie on the wire until one is delivered, dropped or doubled; time passes when told.
:meth:`Pair.heal` is the exception: from then on the wire is good, both users read and have no more to say, and time
runs until both connections are gone. :meth:`Pair.check` says what must hold at any moment.
"""

from collections.abc import Callable

from tests.support.board import check_board
from tests.support.script import RecordingHost
from usertcp.tcp import timers as timer
from usertcp.tcp.accecn import Accurate
from usertcp.tcp.config import TcpConfig
from usertcp.tcp.connection import Connection
from usertcp.tcp.listener import Listener, closed_reply
from usertcp.tcp.state import ALONE, State
from usertcp.units import HOUR, MASK32, MS, NEVER, SEC
from usertcp.wire import ecn
from usertcp.wire import tcp as wire

START = 1_000 * SEC
TEXT = bytes((i * 167 + (i >> 8) * 31 + (i >> 16)) & 0xFF for i in range(1 << 18))  # what both ends say
HANDLES_TEXT = (
    State.ESTABLISHED,
    State.FIN_WAIT_1,
    State.FIN_WAIT_2,
    State.CLOSE_WAIT,
    State.CLOSING,
    State.LAST_ACK,
)


class End:
    """One of the two: a connection, its user and its sink. ``wire`` holds what it sent and nobody has got yet."""

    def __init__(self, pair: "Pair", name: str, config: TcpConfig, iss: int, mss: int, max_burst: int) -> None:
        self.pair = pair
        self.name = name
        self.config = config
        self.iss = iss
        self.host = RecordingHost()
        self.conn = Connection(self.host, config, 1, 1, mss=mss, iss=iss, ts_offset=MASK32 - 1500, max_burst=max_burst)
        self.opened = False
        self.full = False
        self.budget = 64
        self.more = False
        self.wire: list[tuple[bytes, int, int]] = []  # bytes, gso_size, code point
        self.written = 0
        self.got = bytearray()
        self.ended = False  # its user was told that nothing more will come
        self.shut = False
        self.edge = 0  # the furthest that it was ever allowed to send
        self.told = 0  # the furthest right edge it ever told
        self.peer: End

    # --- the sink and the wire ----------------------------------------------------------------------------------------

    def send(
        self, conn: Connection, header: bytearray, payload: list[memoryview], length: int, gso_size: int, ecn: int
    ) -> bool:
        assert sum(map(len, payload)) == length
        assert length <= max(conn.max_burst, conn.snd.mss)
        if self.full:
            return False
        ack, window = int.from_bytes(header[8:12]), int.from_bytes(header[14:16])
        if header[13] & (wire.ACK | wire.SYN | wire.RST) == wire.ACK:
            told = conn.rcv.absolute(ack) + (window << conn.rcv.shift)
            assert told > self.told - (1 << conn.rcv.shift), "the right edge moved left"
            assert conn.rcv.edge - (1 << conn.rcv.shift) < told <= conn.rcv.edge
            self.told = max(self.told, told)
        text = b"".join(payload)
        if gso_size and not self.pair.whole_bursts:
            for offset in range(0, length, gso_size):
                seq = int.from_bytes(header[4:8]) + offset & MASK32
                piece = bytearray(header)
                piece[4:8] = seq.to_bytes(4)
                if offset + gso_size < length:
                    piece[13] &= ~(wire.FIN | wire.PSH)
                if offset and not conn.ecn.accurate:
                    piece[13] &= ~wire.CWR
                self.wire.append((bytes(piece) + text[offset : offset + gso_size], 0, ecn))
        else:
            self.wire.append((bytes(header) + text, gso_size, ecn))
        assert not header[13] & wire.RST or self.pair.violent, "a reset without cause"
        return True

    def poll(self) -> None:
        if self.opened:
            self.more = self.conn.poll(self.pair.now, self, self.budget)

    def receive(self, frame: bytes, gso_size: int, code: int) -> None:
        seg = wire.parse(memoryview(frame), gso_size)
        seg.ecn = code
        pair, conn = self.pair, self.conn
        if not self.opened:
            if seg.flags & (wire.SYN | wire.ACK | wire.RST) == wire.SYN:
                self.opened = True
                conn.accept_syn(seg, pair.now, Listener(self.host, self.config, 1, 8))
        elif conn in self.host.forgotten:
            reply = closed_reply(seg)
            if reply is not None:
                seq, ack, flags = reply
                self.wire.append((bytes(wire.header(1, 1, seq, ack, flags, 0)), 0, ecn.NOT_ECT))
        else:
            conn.on_segment(seg, pair.now)
        self.edge = max(self.edge, conn.snd.una + conn.snd.wnd)
        self.poll()

    # --- the user -----------------------------------------------------------------------------------------------------

    def open(self) -> None:
        self.opened = True
        self.conn.open(self.pair.now)
        self.poll()

    def write(self, count: int) -> None:
        try:
            taken = self.conn.write(TEXT[self.written : self.written + count])
        except BlockingIOError:
            taken = 0
        except (BrokenPipeError, ConnectionError):
            assert self.shut or self.pair.violent or not self.opened
            taken = 0
        self.written += taken
        self.poll()

    def read(self, count: int) -> None:
        try:
            data = self.conn.read(count)
        except BlockingIOError:
            return
        except ConnectionError:
            assert self.pair.violent
            return
        self.ended = self.ended or not data
        assert not (self.ended and data)
        self.got += data
        self.poll()

    def shutdown(self) -> None:
        if self.opened:
            self.shut = True
            self.conn.shutdown_write()
            self.poll()

    def on_timers(self) -> None:
        self.conn.on_timers(self.pair.now)
        self.poll()

    # --- what must hold -----------------------------------------------------------------------------------------------

    def check(self) -> None:
        conn, peer = self.conn, self.peer.conn
        snd, rcv = conn.snd, conn.rcv
        assert TEXT.startswith(self.got)
        assert len(self.got) <= self.peer.written
        assert snd.pipe >= 0
        assert snd.dup_credit >= 0
        assert snd.cc.cwnd >= min(snd.cc.mss, 1)
        assert snd.nxt <= max(self.edge, self.iss) + 1  # a probe, or the SYN
        check_board(snd)
        if conn.state is State.CLOSED:
            assert conn.next_deadline() == NEVER
            assert len(snd.buffer) == snd.outstanding == 0
        if rcv.irs:
            assert rcv.nxt <= rcv.edge
            assert rcv.edge >= self.told
            assert rcv.buffer.read_seq == rcv.irs + 1 + len(self.got) or self.pair.violent
            assert rcv.buffer.read_seq <= rcv.buffer.nxt <= rcv.buffer.top <= rcv.edge
            assert rcv.nxt - rcv.buffer.nxt in (0, 1)
            assert rcv.nxt - rcv.irs <= peer.snd.nxt - peer.snd.iss
            if conn.state is not State.CLOSED and peer.state is not State.CLOSED:
                assert peer.snd.una - peer.snd.iss <= rcv.nxt - rcv.irs
        mine, theirs = conn.ecn, peer.ecn
        if isinstance(mine, Accurate) and isinstance(theirs, Accurate):  # what it knows of marks is never too much
            pairs = zip(mine.reported.counters, theirs.received.counters, strict=True)
            assert all(reported <= received for reported, received in pairs)
        if conn.state in HANDLES_TEXT and not self.more:  # something will happen, whatever the wire does
            waits = snd.outstanding or snd.unsent > 0 or (snd.fin_queued and not snd.fin_sent)
            runs = [timer.RETRANSMIT, timer.PERSIST, timer.SWS_OVERRIDE, timer.PACING]
            waits = waits and conn.calm != ALONE  # whose timer is set when somebody asks (``tcp.message``)
            assert not waits or any(conn.timers.is_set(which) for which in runs)
            assert not conn.reset_due
            assert rcv.ack == 0 or conn.timers.is_set(timer.DELAYED_ACK)


class Pair:
    """Both ends. ``violent``: resets are to be expected, since a user closes with data unread, or aborts."""

    def __init__(
        self,
        configs: tuple[TcpConfig, TcpConfig],
        *,
        mss: int = 1460,
        max_burst: int = 65_000,
        whole_bursts: bool = False,
        simultaneous: bool = False,
    ) -> None:
        self.now = START
        self.violent = False
        self.whole_bursts = whole_bursts
        a = End(self, "a", configs[0], 0xFFFF_F800, mss, max_burst)
        b = End(self, "b", configs[1], 0x7FFF_F000, mss, max_burst)
        a.peer, b.peer = b, a
        self.ends = (a, b)
        a.open()
        if simultaneous:
            b.open()

    def deliver(self, end: End, index: int = 0, *, keep: bool = False) -> None:
        """What ``end`` sent, the ``index``-th on the wire, arrives; ``keep``: and stays on the wire."""
        if index < len(end.wire):
            frame = end.wire[index] if keep else end.wire.pop(index)
            end.peer.receive(*frame)

    def mark(self, end: End, index: int = 0) -> None:
        """A router marks what ``end`` sent, the ``index``-th on the wire, if that is allowed."""
        if index < len(end.wire) and end.wire[index][2]:
            end.wire[index] = (*end.wire[index][:2], ecn.CE)

    def deliver_all(self, end: End) -> None:
        """All that is on the wire now, in order."""
        for _ in range(len(end.wire)):
            self.deliver(end)

    def next_deadline(self) -> int:
        return min(end.conn.next_deadline() for end in self.ends)

    def advance(self, duration: int) -> None:
        """Time passes, every timer in its turn."""
        until = self.now + duration
        while (deadline := self.next_deadline()) <= until:
            self.now = max(self.now, deadline)
            for end in self.ends:
                if end.conn.next_deadline() <= self.now:
                    end.on_timers()
        self.now = until

    def check(self) -> None:
        for end in self.ends:
            end.check()

    def heal(self) -> None:
        """The wire is good and both users read: what was written arrives; then they have no more to say, and both
        connections come to their end."""
        for end in self.ends:
            end.full = False
            end.budget = 64
            end.poll()
        self._run(lambda end: end.conn.snd.outstanding == 0 and end.conn.snd.unsent <= 0)
        for end in self.ends:
            end.shutdown()
            if self.violent and end.opened:  # the other may be gone, its reset lost: nobody waits for ever
                end.conn.close()
                end.poll()
        self._run(lambda end: end.conn in end.host.forgotten)

    def _run(self, done: Callable[[End], bool], limit: int = 24 * HOUR) -> None:
        until = self.now + limit
        while not all(done(end) or not end.opened or end.conn in end.host.forgotten for end in self.ends):
            if not any(end.wire for end in self.ends):
                deadline = self.next_deadline()
                assert deadline < until, [(str(end.conn.state), end.conn.info()) for end in self.ends]
                self.advance(max(deadline - self.now, 0))
            self.advance(5 * MS)
            for end in self.ends:
                self.deliver_all(end)
            for end in self.ends:
                if end.conn.readable or end.conn.at_eof:
                    end.read(1 << 20)
                while end.more:
                    end.poll()
            self.check()

    def finish(self) -> None:
        """Heal, and nothing is left over and nothing was lost."""
        self.heal()
        for end in self.ends:
            if not end.opened:
                continue  # nobody ever got through to it
            conn = end.conn
            end.read(1 << 20)
            end.read(1)
            assert conn.state is State.CLOSED
            assert conn.next_deadline() == NEVER
            assert conn in end.host.forgotten
            assert not conn.snd.buffer
            assert not conn.rcv.buffer.arrived
            if not self.violent:
                assert conn.error is None, conn.error
                assert len(end.got) == end.peer.written
                assert end.ended
