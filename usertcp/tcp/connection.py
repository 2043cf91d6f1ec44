"""One connection: the state machine of RFC 9293 §3.10, between the network, the clock and the user.

Three sides call in. The network: :meth:`Connection.on_segment`, :meth:`Connection.on_unreachable`,
:meth:`Connection.on_path_failed`. The clock: :meth:`Connection.on_timers` when :meth:`Connection.next_deadline` is due.
The user: ``open``, ``write``, ``read_into``, ``shutdown_write``, ``close``, ``abort``, ``configure``. None of them
sends: what is to be said leaves in :meth:`Connection.poll`, which the stack calls for every connection that declared
itself dirty. ``ready``, the buffers, EOF and the error live here, so that a front end only has to look.

What an arriving segment does is in ``arrives``, in the RFC's order; what is sent next in ``sender``; what is acceptable
and when to acknowledge in ``receiver``; how segments are built in ``output``; what time brings in ``timeouts``.
``enter`` alone writes ``state``.
"""

import errno
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final, Protocol

from usertcp.errors import os_error
from usertcp.tcp import timers as timer
from usertcp.tcp.arrives import segment_arrives
from usertcp.tcp.cc.registry import create, opening
from usertcp.tcp.chrono import Chrono
from usertcp.tcp.config import TcpConfig
from usertcp.tcp.control import enter as enter_control
from usertcp.tcp.ecn import NOT_ECN
from usertcp.tcp.ecn_setup import ask
from usertcp.tcp.exchange import settle
from usertcp.tcp.express import poll
from usertcp.tcp.info import TcpInfo, collect
from usertcp.tcp.listener import Listener
from usertcp.tcp.memory import UNBOUNDED, Memory
from usertcp.tcp.message import enter as enter_message
from usertcp.tcp.message import full_segment
from usertcp.tcp.opening import take_syn
from usertcp.tcp.output import Transmit
from usertcp.tcp.receiver import Receiver
from usertcp.tcp.rtt import TS_TICK
from usertcp.tcp.sender import Sender
from usertcp.tcp.state import (
    ALONE,
    ANSWERED,
    CALM,
    CAN_RECEIVE,
    CAN_SEND,
    CONNECTED,
    CONTROL,
    DOUBTED,
    ENDING,
    EOF,
    FAILED,
    GONE,
    READABLE,
    REPORTED,
    TRANSITIONS,
    URGENT,
    WRITABLE,
    State,
)
from usertcp.tcp.timeouts import answer_due, arm_user_timeout, on_timers
from usertcp.tcp.timers import Timers
from usertcp.tcp.trace import Tracer
from usertcp.tcp.unreachable import on_unreachable
from usertcp.units import MASK32, NEVER, SEC
from usertcp.wire.tcp import ACK, MAX_OPTIONS_LEN, RST, Segment, sack, timestamps

HEADERS: Final = 40  # IPv4 and TCP without options, bytes
MIN_PATH_MTU: Final = 552  # an ICMP that claims less is not believed (Linux min_pmtu; RFC 5927 §7)

_TAKES_TEXT: Final = CAN_SEND | {State.SYN_SENT, State.SYN_RECEIVED}  # from the user: queued until it may go
_OPENS: Final = frozenset({State.SYN_SENT, State.SYN_RECEIVED})  # whose answer ``arrives`` knows to take as expected
_KEEPS_ALIVE: Final = frozenset(
    {State.ESTABLISHED, State.CLOSE_WAIT, State.FIN_WAIT_1, State.FIN_WAIT_2, State.CLOSING, State.LAST_ACK}
)
_ABORT_SENDS_RESET: Final = frozenset(  # RFC 9293 §3.10.5
    {State.SYN_RECEIVED, State.ESTABLISHED, State.FIN_WAIT_1, State.FIN_WAIT_2, State.CLOSE_WAIT}
)


class Host(Protocol):
    """What a connection asks of the stack it lives in."""

    def dirty(self, conn: "Connection") -> None:
        """``conn`` has something to send or its deadline moved: poll it."""
        ...

    def owes(self, conn: "Connection") -> None:
        """The same for an acknowledgment of the peer's SYN,ACK or FIN, which may have company soon."""
        ...

    def wake(self, conn: "Connection", at: int) -> None:
        """A timer of ``conn`` is due at ``at`` (ns), before all others of it."""
        ...

    def notify(self, item: "Connection | Listener") -> None:
        """The readiness of ``item`` changed."""
        ...

    def forget(self, item: "Connection | Listener") -> None:
        """``item`` is CLOSED and has nothing more to say."""
        ...

    def waits(self, conn: "Connection") -> None:
        """``conn`` entered TIME-WAIT."""
        ...

    def suspect(self, conn: "Connection") -> None:
        """R1 was reached: the path of ``conn`` may be dead (RFC 9293 §3.8.3, MUST-20)."""
        ...


class Connection:
    """A TCP connection. See the module's text for who calls what.

    ``mss`` is the largest segment the path carries: MTU less 40 bytes. ``max_burst`` bounds the text of one
    super-segment, ``train`` how many of these are handed over at a time, ``flight`` what may be on its way either way.
    ``iss`` and ``ts_offset`` come from the stack's keyed hash (RFC 6528, RFC 7323 §5.4). ``memory`` is the budget of
    all connections of the stack; None: no bound.
    """

    __slots__ = (
        "advertised_mss",
        "bytes_acked",
        "bytes_received",
        "calm",
        "challenge_at",
        "challenges",
        "chrono",
        "config",
        "dport",
        "ecn",
        "error",
        "flow",
        "host",
        "keepalive_due",
        "last_received_at",
        "listener",
        "max_burst",
        "opened_at",
        "orphan",
        "override",
        "passive",
        "path_mss",
        "probe_due",
        "probes",
        "rcv",
        "read_shut",
        "ready",
        "reported",
        "reset_due",
        "sack_ok",
        "scale_ok",
        "segments_in",
        "segments_out",
        "snd",
        "soft_error",
        "sport",
        "state",
        "syn_due",
        "timers",
        "tracer",
        "train",
        "ts_offset",
        "ts_ok",
        "user",
    )

    def __init__(
        self,
        host: Host,
        config: TcpConfig,
        sport: int,
        dport: int,
        *,
        mss: int,
        iss: int,
        ts_offset: int,
        max_burst: int,
        train: int = 1,
        flight: int = UNBOUNDED,
        tracer: Tracer | None = None,
        memory: Memory | None = None,
    ) -> None:
        self.host, self.config = host, config
        self.sport, self.dport = sport, dport
        self.path_mss = mss
        self.advertised_mss = min(mss, config.max_segment or mss)
        self.max_burst, self.train = max_burst, train
        self.tracer = tracer
        self.ts_offset = ts_offset
        self.flow: Any = None  # net's
        self.user: Any = None  # the front end's
        self.state = State.CLOSED
        self.calm = DOUBTED
        self.ready = 0
        self.error: OSError | None = None
        self.soft_error: OSError | None = None  # what the path last complained of (SHLD-25)
        self.reported: OSError | None = None
        self.passive = self.read_shut = False
        self.listener: Listener | None = None
        self.orphan = False  # the user has closed: nobody reads any more
        self.snd = Sender(config, iss, mss, memory, flight, opening(config.congestion, mss))
        self.rcv = Receiver(config, memory, flight)
        self.ecn = NOT_ECN
        self.timers = Timers()
        self.chrono = Chrono()
        self.ts_ok = self.sack_ok = self.scale_ok = False
        self.syn_due = self.probe_due = self.keepalive_due = self.override = False
        self.reset_due: tuple[int, int, int] | None = None  # seq, ack, flags
        self.segments_in = self.segments_out = self.bytes_acked = self.bytes_received = 0
        self.last_received_at = self.opened_at = self.challenges = 0
        self.probes = 0  # keepalive and window probes that nobody has answered
        self.challenge_at = -SEC  # when the ration of challenge ACKs began that ``challenges`` is the rest of

    def __repr__(self) -> str:
        return f"<Connection {self.flow if self.flow is not None else (self.sport, self.dport)} {self.state}>"

    # --- state -------------------------------------------------------------------------------------------------------

    def enter(self, state: State) -> None:
        old = self.state
        assert state in TRANSITIONS[old], f"{old} -> {state}"
        self.state = state
        if self.calm != DOUBTED:
            self.doubt()
        if self.tracer is not None:
            self.tracer.on_state(self, old, state)

    def doubt(self) -> None:
        """Something happens that is not expected of a connection in which nothing is the matter."""
        self.write_down()
        self.calm = DOUBTED

    def write_down(self) -> None:
        """Make up what was left out of what is on its way alone, if that is so."""
        if self.calm == ALONE:
            enter_message(self)
        elif self.calm == CONTROL:
            enter_control(self)
        elif self.calm == ANSWERED:
            settle(self)
            self.host.dirty(self)

    def signal(self, bits: int) -> None:
        if bits & ~self.ready:
            self.ready |= bits
            self.host.notify(self)

    def report(self, number: int) -> None:
        """ERROR_REPORT (RFC 9293 §3.9.1.8): trouble that ends nothing; the user gets it by :meth:`take_report`."""
        if self.config.reports:
            self.reported = os_error(number)
            self.ready &= ~REPORTED
            self.signal(REPORTED)

    def fail(self, number: int) -> None:
        """The connection ends with an error that the user is to see once."""
        self.error = os_error(number)
        self.end(FAILED)

    def end(self, bits: int = 0) -> None:
        """Enter CLOSED: nothing waits any more, nothing is due but a reset."""
        self.finish(bits)
        self.host.dirty(self)

    def finish(self, bits: int = 0) -> None:
        """:meth:`end` without a turn: nothing is due."""
        self.enter(State.CLOSED)
        self.timers.stop_all()
        self.snd.clear()
        self.rcv.buffer.forget_gaps()
        if self.listener is not None:
            self.listener.on_gone(self)
        bits |= GONE | EOF | READABLE | WRITABLE
        if self.orphan and self.user is None:  # nobody is there to be told
            self.ready |= bits
        else:
            self.signal(bits)

    def establish(self, now: int) -> None:
        """Enter ESTABLISHED; a FIN that the user has queued meanwhile takes it on (RFC 9293 §3.10.4)."""
        snd = self.snd
        self.enter(State.ESTABLISHED)
        due = self.timers.due
        due[timer.RETRANSMIT] = due[timer.USER_TIMEOUT] = NEVER
        if snd.retransmissions > 1:  # RFC 6928 §2 asks for a cautious start after lost SYNs; Linux: after the second
            snd.cc.on_syn_lost()
        if snd.rtt.backoffs and snd.rtt.srtt == 0:
            snd.rtt.syn_was_lost()
        snd.retries = 0
        if self.config.keepalive:
            self.timers.set(timer.KEEPALIVE, now + self.config.keepalive_idle)
        if self.listener is not None:
            self.listener.on_established(self)
        self.signal(CONNECTED | WRITABLE)
        if snd.fin_queued:
            self.enter(State.FIN_WAIT_1)

    def time_wait(self, now: int) -> None:
        """Enter TIME-WAIT for 2 MSL (RFC 9293 §3.6.1, MUST-13)."""
        self.enter(State.TIME_WAIT)
        self.timers.stop_all()
        self.timers.set(timer.TIME_WAIT, now + 2 * self.config.msl)
        self.snd.buffer.reset(self.snd.buffer.end)
        self.host.waits(self)

    # --- the user: OPEN (RFC 9293 §3.10.1) ---------------------------------------------------------------------------

    def open(self, now: int) -> None:
        """Active OPEN: SYN-SENT; the SYN leaves at the next poll."""
        self.opened_at = self.last_received_at = now
        self.enter(State.SYN_SENT)
        self.ecn = ask(self.config.ecn)
        self.syn_due = True
        self.timers.set(timer.USER_TIMEOUT, now + (self.config.user_timeout or self.config.syn_timeout))
        self.host.dirty(self)

    def accept_syn(self, seg: Segment, now: int, listener: Listener) -> None:
        """Passive OPEN: ``seg`` is a SYN that ``listener`` admits (RFC 9293 §3.10.7.2, third). Text on it is not taken;
        the peer sends it again."""
        self.opened_at = self.last_received_at = now
        self.segments_in += 1
        self.passive = True
        self.listener = listener
        self.enter(State.LISTEN)
        if self.tracer is not None:
            self.tracer.on_segment(self, False, seg, now)
        take_syn(self, seg, now)
        self.enter(State.SYN_RECEIVED)
        self.syn_due = True
        listener.on_half_open(self)
        self.host.dirty(self)

    def accept_cookie(self, syn: Segment, seg: Segment, now: int, listener: Listener) -> None:
        """Passive OPEN by ``seg``, which acknowledges a SYN,ACK that nothing here remembers: its number was the cookie
        that answered ``syn`` (RFC 4987 §3.6)."""
        self.accept_syn(syn, now, listener)
        self.syn_due = False
        self.snd.nxt = self.snd.iss + 1
        self.on_segment(seg, now)

    # --- the user: SEND, RECEIVE (RFC 9293 §3.10.2, §3.10.3) ---------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview, *, urgent: bool = False) -> int:
        """Queue ``data``; the number of bytes taken, at least one of a non-empty ``data``.

        Large ``bytes`` are not copied but kept until they are acknowledged. BlockingIOError: the buffer is full.
        BrokenPipeError: closed for sending. The pending error, once, otherwise.
        """
        taken = self.put(data)
        if not taken and len(data):
            raise os_error(errno.EAGAIN)
        if urgent:
            self.snd.up = self.snd.buffer.end
            self.doubt()
        return taken

    def put(self, data: bytes | bytearray | memoryview) -> int:
        """The same, but 0 when the buffer is full."""
        if self.error is not None or self.snd.fin_queued or self.state is not State.ESTABLISHED:
            self._check_sending()
        if self.calm == ANSWERED:
            self.write_down()
        buffer = self.snd.buffer
        taken = buffer.write(data)
        if buffer.alone is None and buffer.free <= 0:
            self.ready &= ~WRITABLE
        if taken:
            self.host.dirty(self)
        return taken

    def write_from(self, read: Callable[[list[memoryview]], int], limit: int) -> int:
        """Queue what ``read`` puts into the views it is given, of ``limit`` bytes at most, and says how much that was:
        a copy less than :meth:`write`. BlockingIOError as there; what ``read`` raises."""
        self._check_sending()
        if self.calm == ANSWERED:
            self.write_down()
        buffer = self.snd.buffer
        places = buffer.offer(limit)
        if not places:
            raise os_error(errno.EAGAIN)
        taken = read(places)
        buffer.filled(taken)
        if buffer.free <= 0:
            self.ready &= ~WRITABLE
        self.host.dirty(self)
        return taken

    def _check_sending(self) -> None:
        self._raise_pending()
        if self.snd.fin_queued or self.state not in _TAKES_TEXT:
            raise os_error(errno.EPIPE)

    def read_into(self, target: bytearray | memoryview) -> int:
        """Move received bytes into ``target``; 0 means the end: the peer's FIN, and nothing is left.

        BlockingIOError: nothing yet. The pending error, once, after what had arrived before it was read.
        """
        taken = self.rcv.buffer.read_into(target)
        if not taken and len(target):
            self._nothing_to_read()
        self._after_read()
        return taken

    def offer(self, target: memoryview) -> bool:
        """Let what arrives next go straight to ``target`` (of bytes), until :meth:`take_back`; what lies behind it
        there is undefined then. False: another reader's memory is waiting already."""
        buffer = self.rcv.buffer
        if buffer.wanted or buffer.landed:
            return False
        buffer.offer(target)
        return True

    def take_back(self) -> int:
        """End the offer; how many bytes of ``target`` were filled. What came after them is to be read as usual."""
        landed = self.rcv.buffer.take_back()
        if landed and self.ready & (READABLE | URGENT):
            self.lower()  # whether a window update is due was asked when they landed
        return landed

    def read(self, limit: int) -> bytes:
        """Like :meth:`read_into`, as ``bytes`` of at most ``limit``."""
        data = self.rcv.buffer.read(limit)
        if not data and limit:
            self._nothing_to_read()
        self._after_read()
        return data

    def peek(self, limit: int) -> list[memoryview]:
        """Views of up to ``limit`` unread bytes, which stay; borrowed until the next call."""
        return self.rcv.buffer.peek(limit)

    def consume(self, count: int) -> None:
        """Let go of the first ``count`` unread bytes, which :meth:`peek` showed."""
        self.rcv.buffer.consume(count)
        self._after_read()

    def _nothing_to_read(self) -> None:
        if self.rcv.fin_taken:  # the stream ended in order: what happened later is the sender's concern (as on Linux)
            return
        self._raise_pending()
        if not self.at_eof:
            raise os_error(errno.EAGAIN)

    def _after_read(self) -> None:
        self.lower()
        if self.rcv.window_update_due() and self.state in CAN_RECEIVE:
            self.host.dirty(self)

    def lower(self) -> None:
        """Levels, when something was read, wherever it lay."""
        rcv = self.rcv
        read = rcv.buffer.read_seq
        if read == rcv.buffer.nxt and not self.ready & GONE:
            self.ready &= ~READABLE
        if rcv.up <= read:
            self.ready &= ~URGENT

    def _raise_pending(self) -> None:
        error = self.take_error()
        if error is not None:
            raise error

    def take_error(self) -> OSError | None:
        """The pending error, which is pending no longer."""
        error, self.error = self.error, None
        self.ready &= ~FAILED
        return error

    def take_report(self) -> OSError | None:
        """What was last reported of the path, once: an ICMP error, or ETIMEDOUT at R1 (SHLD-9)."""
        reported, self.reported = self.reported, None
        self.ready &= ~REPORTED
        return reported

    @property
    def readable(self) -> int:
        """Bytes that can be read now."""
        return self.rcv.buffer.readable

    @property
    def landed(self) -> int:
        """Bytes that have arrived in what :meth:`offer` gave."""
        return self.rcv.buffer.landed

    @property
    def writable(self) -> int:
        """Bytes that can be written now; 0 also while more is unsent than the user wants to be (TCP_NOTSENT_LOWAT)."""
        snd, lowat = self.snd, self.config.notsent_lowat
        if self.state not in CAN_SEND or snd.fin_queued:
            return 0
        if lowat:
            room = max(0, min(snd.buffer.free, lowat - snd.unsent))
            if not room:
                self.ready &= ~WRITABLE
            return room
        return snd.buffer.free

    @property
    def at_eof(self) -> bool:
        """Whether nothing is left to read and nothing will come."""
        if self.rcv.buffer.readable:
            return False
        return self.read_shut or bool(self.ready & EOF)

    @property
    def urgent_mark(self) -> int | None:
        """Bytes from the first unread one to the end of the urgent data; None when all of that is read (MUST-33)."""
        ahead = self.rcv.up - self.rcv.buffer.read_seq
        return ahead if ahead > 0 else None

    # --- the user: CLOSE, ABORT, STATUS (RFC 9293 §3.10.4 to §3.10.6) ------------------------------------------------

    def shutdown_write(self) -> None:
        """The user has no more to send: a FIN follows what is queued. Reading goes on (a half-close)."""
        snd = self.snd
        if snd.fin_queued:
            return
        snd.fin_queued = True
        idle = self.calm in (CALM, ENDING) and snd.una == snd.nxt == snd.buffer.end
        if idle:
            self.calm = DOUBTED
        else:
            self.doubt()
        if self.state is State.ESTABLISHED:
            self.enter(State.FIN_WAIT_1)
        elif self.state is State.CLOSE_WAIT:
            self.enter(State.LAST_ACK)
        if idle:
            self.calm = ENDING
        self.host.dirty(self)

    def shutdown_read(self) -> None:
        """The user reads no more; what is still unread can be had, then comes the end."""
        self.read_shut = True
        self.signal(EOF | READABLE)

    def close(self) -> None:
        """The user is done with the connection. Unread bytes make it a reset, so that the peer knows they were lost
        (SHLD-3); otherwise a FIN follows what is queued, and whatever the peer still sends is answered by a reset."""
        if self.orphan:
            return
        if self.state is State.CLOSED:
            self.abort()
            return
        if self.state is State.SYN_SENT:
            self.orphan = True
            self.end()
            return
        if self.rcv.buffer.readable and self.state is not State.TIME_WAIT:
            self.reset_peer()
            self.abort()
            return
        self.orphan = True
        if self.state is State.TIME_WAIT:
            self.rcv.buffer.clear()
        self.shutdown_write()
        self.host.dirty(self)  # FIN-WAIT-2: from now on for a limited time

    def abort(self) -> None:
        """Drop everything and tell the peer by a reset where the state asks for it (RFC 9293 §3.10.5)."""
        self.orphan = True
        self.rcv.buffer.clear()
        if self.state is State.CLOSED:
            return
        if self.peer_waits():
            self.reset_peer()
        self.end()

    def peer_waits(self) -> bool:
        """Whether an abort must tell the peer (RFC 9293 §3.10.5). CLOSING and LAST-ACK are entered when the user
        closes: as long as the FIN has not left, the peer knows of no end."""
        unfinished = self.state in (State.CLOSING, State.LAST_ACK) and not self.snd.fin_sent
        return unfinished or self.state in _ABORT_SENDS_RESET

    def reset_peer(self) -> None:
        self.reset_due = (self.snd.bare, self.rcv.nxt, RST | ACK)
        self.doubt()

    def save_memory(self) -> None:
        """Memory is scarce: give back what the buffers do not need."""
        self.snd.buffer.fit()
        self.rcv.buffer.fit(self.rcv.edge)

    def configure(self, **changes: Any) -> None:
        """Change settings (fields of :class:`TcpConfig`); they take effect at once."""
        old, config = self.config, replace(self.config, **changes)
        self.doubt()
        if config.congestion != old.congestion:
            self.snd.change_congestion(config.congestion)
        self.config = config
        if (config.send_buffer, config.send_buffer_max) != (old.send_buffer, old.send_buffer_max):
            self.snd.buffer.limit, self.snd.buffer.maximum = config.send_buffer, config.send_buffer_max
        if config.windows != old.windows:
            self.rcv.resize(*config.windows, shrink=config.window_clamp != old.window_clamp)
        if "quick_acks" in changes:  # asked for again, it begins again
            self.rcv.acknowledge_quickly(config.quick_acks)
        if self.state in _KEEPS_ALIVE and (config.keepalive, config.keepalive_idle) != (
            old.keepalive,
            old.keepalive_idle,
        ):
            self.timers.stop(timer.KEEPALIVE)
            if config.keepalive:
                self.timers.set(timer.KEEPALIVE, self.last_received_at + config.keepalive_idle)
        if self.state in _KEEPS_ALIVE:
            arm_user_timeout(self)
        self.host.dirty(self)

    def info(self, now: int = 0) -> TcpInfo:
        """The figures (STATUS, RFC 9293 §3.10.6). ``now``: until when times count that run; 0: their last change."""
        self.write_down()
        return collect(self, now)

    # --- the network (RFC 9293 §3.10.7) ------------------------------------------------------------------------------

    def on_segment(self, seg: Segment, now: int) -> None:
        """Take one segment of this connection, its checksum verified."""
        self.segments_in += 1
        self.last_received_at = now
        if self.calm != CONTROL or self.state not in _OPENS:
            self.doubt()
        if self.tracer is not None:
            self.tracer.on_segment(self, False, seg, now)
        segment_arrives(self, seg, now)
        self.host.dirty(self)

    def expire(self) -> None:
        """End TIME-WAIT now."""
        assert self.state is State.TIME_WAIT
        self.end()

    # --- the path (RFC 9293 §3.9.2.2, RFC 5461, RFC 5927, RFC 1191) --------------------------------------------------

    def on_unreachable(self, kind: int, seq: int, mtu: int, now: int) -> None:
        """An ICMP error about our segment ``seq`` (wire number); about nothing in flight: ignored (RFC 5927 §4)."""
        on_unreachable(self, kind, seq, mtu, now)

    def on_path_failed(self, now: int) -> None:
        """The next hop does not answer: an opening connection fails, an open one waits for it (as on Linux)."""
        if self.state is State.SYN_SENT:
            self.fail(errno.EHOSTUNREACH)
        else:
            self.complain(errno.EHOSTUNREACH)

    def complain(self, number: int) -> None:
        """Trouble of the path that ends nothing (SHLD-25)."""
        self.doubt()
        self.soft_error = os_error(number)
        self.report(number)

    def set_path_mtu(self, mtu: int, now: int) -> None:
        """The path carries packets of ``mtu`` bytes; larger segments in flight go again at once (RFC 1191 §6.3)."""
        mss = max(mtu, MIN_PATH_MTU) - HEADERS
        if self.state is State.CLOSED or mss >= self.snd.mss:
            return
        self.doubt()
        self.path_mss = mss
        if self.state is State.SYN_SENT:  # what it has is shared
            self.snd.cc = create(self.snd.cc.name, self.snd.mss)
        self.snd.shrink(mss, full_segment(self) - (self.snd.mss - mss))
        self.host.dirty(self)

    # --- the clock (RFC 9293 §3.10.8) --------------------------------------------------------------------------------

    def next_deadline(self) -> int:
        """When :meth:`on_timers` is due (ns), or NEVER."""
        at = self.timers.next_deadline()
        return min(at, answer_due(self)) if self.calm == ALONE else at

    def on_timers(self, now: int) -> None:
        """Act on every timer that has run out by ``now``."""
        self.doubt()
        on_timers(self, now)
        self.host.dirty(self)

    # --- the network takes what is to be sent ------------------------------------------------------------------------

    def poll(self, now: int, tx: Transmit, budget: int) -> bool:
        """Send what may be sent, at most ``budget`` (super-)segments. True: more waits for budget or for the sink."""
        more = poll(self, now, tx, budget)
        self.chrono.look(self, now)
        return more

    def ts_now(self, now: int) -> int:
        """Our timestamp clock's value (RFC 7323 §5.4), wire-sized."""
        return (now // TS_TICK + self.ts_offset) & MASK32

    def options(self, now: int, *, text: bool = False, duplicates: bool = False) -> bytes:
        """The options of a segment sent now, which is to carry ``text`` or not: timestamps, SACK blocks while there are
        gaps, what ECN has to tell. Two blocks go before the latter, a third one after (RFC 9768 §3.2.3.3).
        ``duplicates``: the oldest report of a duplicate, which must wait, is the first block (RFC 2883 §4)."""
        stamps = timestamps(self.ts_now(now), self.rcv.ts_recent) if self.ts_ok else b""
        room = MAX_OPTIONS_LEN - len(stamps)
        if not self.sack_ok or not (duplicates or self.rcv.buffer.arrived):
            return stamps + self.ecn.option(self, room, text)
        most = 3 if self.ts_ok else 4
        blocks = self.rcv.dsack_blocks(most) if duplicates else self.rcv.sack_blocks(most)
        feedback = self.ecn.option(self, room - 4 - 8 * min(len(blocks), 2), text)
        return stamps + sack(blocks[: (room - 4 - len(feedback)) // 8]) + feedback
