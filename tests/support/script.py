"""One connection, its peer written by hand in packetdrill's notation, and a clock that moves only when told.

Numbers in the lines are relative: the peer's ``seq`` to its own IRS, ``ack`` to our ISS, and the other way round in
what we send. Both initial numbers stand just before 2^32 (``numbering``), so that every script crosses the wrap::

    s = Script.established()
    s.user.write(b"x" * 100)
    s.expect("P. 1:101(100) ack 1 win 65535")
    s.peer(". 1:1(0) ack 101 win 1000")
    s.expect_nothing()

In ``expect``, what a line leaves out (``ack``, ``win``, ``<options>``) is not compared. The IP header's code point
stands in front when it is not Not-ECT, and with AccECN the ACE field is a digit: ``[ect0] P.5 1:101(100) ack 1``.
"""

from dataclasses import replace
from typing import Any

from tests.support.numbering import chosen, short_ways
from usertcp.pkt import text
from usertcp.tcp.config import TcpConfig
from usertcp.tcp.connection import Connection
from usertcp.tcp.listener import Listener
from usertcp.tcp.memory import Memory
from usertcp.tcp.predicted import take_predicted
from usertcp.tcp.state import State
from usertcp.units import MASK32, MS, NEVER, SEC
from usertcp.wire import tcp as wire
from usertcp.wire.ecn import CE

ISS, IRS, TS_BASE, PEER_TS_BASE = chosen()  # the timestamp clocks' at START
START = 1_000 * SEC
# No options but MSS, and buffers that keep their size: sequence arithmetic in the open. Scripts about options, or about
# tuning, switch them on.
PLAIN = TcpConfig(
    timestamps=False,
    sack=False,
    window_scaling=False,
    receive_buffer=65535,
    receive_buffer_max=0,
    send_buffer=1 << 20,
    send_buffer_max=0,
    congestion="reno",
)


class RecordingHost:
    """A stack that only writes down what a connection asks of it."""

    def __init__(self) -> None:
        self.notified: list[object] = []
        self.forgotten: list[Connection] = []
        self.suspected: list[Connection] = []

    def dirty(self, conn: Connection) -> None:
        pass

    def owes(self, conn: Connection) -> None:
        pass

    def wake(self, conn: Connection, at: int) -> None:
        pass

    def notify(self, item: object) -> None:
        self.notified.append(item)

    def forget(self, item: Connection | Listener) -> None:
        if isinstance(item, Connection) and item not in self.forgotten:
            self.forgotten.append(item)

    def waits(self, conn: Connection) -> None:
        pass

    def suspect(self, conn: Connection) -> None:
        self.suspected.append(conn)


class RecordingTracer:
    """The states a connection went through, and its segments."""

    def __init__(self) -> None:
        self.states: list[State] = []

    def on_state(self, conn: Connection, old: State, new: State) -> None:
        self.states.append(new)

    def on_segment(self, conn: Connection, outgoing: bool, seg: wire.Segment, now: int) -> None:
        pass


class Script:
    """See the module's text. ``user`` is the connection, ``now`` the clock (ns)."""

    def __init__(
        self,
        config: TcpConfig = PLAIN,
        *,
        mss: int = 1460,
        max_burst: int = 65_000,
        memory: Memory | None = None,
        traced: bool = not short_ways(),  # who is looked at goes the general way
    ) -> None:
        self.now = START
        self.host = RecordingHost()
        self.tracer = RecordingTracer()
        self.listener: Listener | None = None
        self.sent: list[wire.Segment] = []
        self.sent_at: list[int] = []
        self.sink_full = False
        self.refused = 0
        self.bursts = 0  # calls that the sink took
        self.user = Connection(
            self.host,
            config,
            1000,
            80,
            mss=mss,
            iss=ISS,
            ts_offset=(TS_BASE - START // MS) & MASK32,
            max_burst=max_burst,
            tracer=self.tracer if traced else None,
            memory=memory,
        )

    # --- ways to begin ------------------------------------------------------------------------------------------------

    @classmethod
    def opening(cls, config: TcpConfig = PLAIN, **kwargs: Any) -> "Script":
        """SYN-SENT, the SYN not yet looked at."""
        script = cls(config, **kwargs)
        script.user.open(script.now)
        script.poll()
        return script

    @classmethod
    def listening(cls, syn: str, config: TcpConfig = PLAIN, *, backlog: int = 8, **kwargs: Any) -> "Script":
        """SYN-RECEIVED by a passive open for the peer's ``syn``, the answer not yet looked at."""
        script = cls(config, **kwargs)
        script.listener = Listener(script.host, config, 1000, backlog)
        assert script.listener.has_room()
        script.user.accept_syn(script.segment(syn), script.now, script.listener)
        script.poll()
        return script

    @classmethod
    def established(
        cls,
        config: TcpConfig = PLAIN,
        *,
        win: int = 65535,
        options: str = "mss 1460",
        passive: bool = False,
        quick: bool = False,
        **kwargs: Any,
    ) -> "Script":
        """ESTABLISHED, nothing outstanding. ``quick``: leave the quick ACKs of the beginning on."""
        if passive:
            script = cls.listening(f"S 0:0(0) win {win} <{options}>", config, **kwargs)
            script.sent.clear()
            script.peer(f". 1:1(0) ack 1 win {win}" + script.echo())
        else:
            script = cls.opening(config, **kwargs)
            script.sent.clear()
            script.peer(f"S. 0:0(0) ack 1 win {win} <{options}>")
            script.sent.clear()
        assert script.user.state is State.ESTABLISHED
        script.sent_at.clear()
        if not quick:
            script.user.rcv.quick = 0
        return script

    def echo(self) -> str:
        """The timestamp option of a peer whose clock runs as ours, if agreed on."""
        if not self.user.ts_ok:
            return ""
        val = (self.now - START) // MS
        return f" <nop,nop,TS val {val} ecr {(self.user.ts_now(self.now) - TS_BASE) & MASK32}>"

    # --- the wire -----------------------------------------------------------------------------------------------------

    def segment(self, line: str, payload: bytes | None = None) -> wire.Segment:
        seg = text.parse(line, seq_base=IRS, ack_base=ISS, tsval_base=PEER_TS_BASE, tsecr_base=TS_BASE)
        seg.sport, seg.dport = 80, 1000
        if payload is not None:
            assert len(payload) == len(seg.payload)
            seg.payload = memoryview(payload)
        return seg

    def peer(self, *lines: str, payload: bytes | None = None) -> None:
        """The peer's segments arrive in one batch; then the connection is polled once."""
        for line in lines:
            self._arrive(self.segment(line, payload))
        self.poll()

    def _arrive(self, seg: wire.Segment) -> None:
        """As ``net.shortcut`` does it: what may be the expected one is tried as such first."""
        ts = seg.options
        likely = seg.flags & ~wire.PSH == wire.ACK and ts.has_ts and not ts.sack and ts.accecn is None and seg.ecn != CE
        if likely and take_predicted(
            self.user, seg.seq, seg.ack, seg.wnd, ts.tsval, ts.tsecr, seg.payload, seg.gso_size, self.now
        ):
            return
        self.user.on_segment(seg, self.now)

    def send(
        self, conn: Connection, header: bytearray, payload: list[memoryview], length: int, gso_size: int, ecn: int
    ) -> bool:
        """The sink (``Transmit``)."""
        assert sum(map(len, payload)) == length
        if self.sink_full:
            self.refused += 1
            return False
        text_bytes = b"".join(payload)
        step = gso_size or max(length, 1)
        for offset in range(0, max(length, 1), step):  # as the device would segment it
            seg = wire.parse(memoryview(bytes(header) + text_bytes[offset : offset + step]))
            seg.seq = (seg.seq + offset) & MASK32
            seg.ecn = ecn
            if offset + step < length:
                seg.flags &= ~(wire.FIN | wire.PSH)
            if offset and not conn.ecn.accurate:
                seg.flags &= ~wire.CWR
            self.sent.append(seg)
            self.sent_at.append(self.now)
        self.bursts += 1
        return True

    def poll(self, budget: int = 64) -> bool:
        return self.user.poll(self.now, self, budget)

    def render(self, seg: wire.Segment) -> str:
        bases = {"seq_base": ISS, "ack_base": IRS, "tsval_base": TS_BASE, "tsecr_base": PEER_TS_BASE}
        return text.render(seg, **bases, ace=self.user.ecn.accurate)

    def take(self) -> list[wire.Segment]:
        """The segments sent since the last look."""
        sent = self.sent[:]
        self.sent.clear()
        self.sent_at.clear()
        return sent

    def expect(self, *lines: str) -> None:
        """Exactly these segments were sent since the last look; parts a line leaves out are not compared."""
        self.poll()
        rendered = [self.render(seg) for seg in self.take()]
        shown = [_like(line, got) if i < len(lines) and (line := lines[i]) else got for i, got in enumerate(rendered)]
        assert shown == list(lines), f"sent: {rendered}"

    def expect_nothing(self) -> None:
        self.expect()

    # --- the clock ----------------------------------------------------------------------------------------------------

    def advance(self, duration: int) -> None:
        """Let ``duration`` ns pass, stopping at every deadline on the way."""
        until = self.now + duration
        while (deadline := self.user.next_deadline()) <= until:
            self.now = max(deadline, self.now)
            self.user.on_timers(self.now)
            self.poll()
        self.now = until

    def advance_to_next_deadline(self) -> int:
        """Go to the next deadline and act on it; the time it took (ns)."""
        deadline = self.user.next_deadline()
        assert deadline != NEVER, "no timer runs"
        passed = deadline - self.now
        self.advance(passed)
        return passed

    def read(self) -> bytes:
        return self.user.read(1 << 20)

    def write(self, data: bytes | bytearray) -> None:
        """Write all of ``data`` and poll."""
        assert self.user.write(data) == len(data)
        self.poll()

    @property
    def state(self) -> State:
        return self.user.state

    def expect_state(self, state: State) -> None:
        assert self.user.state is state, f"state: {self.user.state}"


def _like(expected: str, got: str) -> str:
    """``got`` without the parts that ``expected`` does not mention."""
    if "<" not in expected:
        got = got.split(" <")[0]
    for word in (" urg ", " win ", " ack "):
        if word not in expected:
            head, sep, tail = got.partition(word)
            if sep:
                got = head + tail[len(tail.split(" ", 1)[0]) :]
    return got


def with_options(**changes: Any) -> TcpConfig:
    """PLAIN with changes."""
    return replace(PLAIN, **changes)
