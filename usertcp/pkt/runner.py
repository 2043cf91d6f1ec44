"""A script against a target: each event at its time, and the first that does not hold.

Relative times count from when the event before happened, absolute ones from the beginning. What comes out is compared
in the order in which it came; a segment that came before an event, and was not expected before it, is a failure. What
is sent after the last event is nobody's concern.
"""

from collections import deque
from dataclasses import dataclass, field
from types import EllipsisType
from typing import Any, Final

from usertcp.driver.options import INFO, TCP_INFO
from usertcp.errors import WireError
from usertcp.pkt import compare
from usertcp.pkt.calls import Files, Plan, Unusable, plan
from usertcp.pkt.compare import Field
from usertcp.pkt.flow import Flow, Seen, joined, read
from usertcp.pkt.names import name_of
from usertcp.pkt.snippet import Unheld, fields_of
from usertcp.pkt.snippet import run as run_snippet
from usertcp.pkt.syntax import Call, Code, Event, IcmpPacket, Script, Shell, TcpPacket
from usertcp.pkt.target import Pending, Target
from usertcp.units import MS, to_seconds
from usertcp.wire import ipv4
from usertcp.wire.tcp import URG

MOMENT: Final = 20 * MS  # of a clock that is real
SHOWN: Final = 40  # events that a report shows, the newest


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a script does not hold. ``fields`` of a segment that differs; ``log``: (ns, what happened), oldest first;
    ``state``: the connection's; "" if there is none."""

    line: int
    source: str
    reason: str
    fields: tuple[Field, ...] = ()
    log: tuple[tuple[int, str], ...] = ()
    state: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a script on a target; ``failure`` None: it holds."""

    script: str
    target: str
    failure: Failure | None


class _Wrong(Exception):
    """The failure of an event."""

    def __init__(self, event: Event, reason: str, fields: list[Field] | None = None, line: int = 0) -> None:
        super().__init__(reason)
        self.event = event
        self.reason = reason
        self.fields = tuple(fields or ())
        self.line = line or event.line


@dataclass(slots=True)
class _Blocked:
    """A call that has not returned. ``end``: when it should."""

    event: Event
    call: Call
    pending: Pending
    plan: Plan
    end: int


@dataclass(slots=True)
class Runner:
    """Plays ``script`` on ``target`` once."""

    script: Script
    target: Target
    _files: Files = field(default_factory=Files)
    _flows: dict[int, Flow] = field(default_factory=dict)
    _port: int = 0  # of the connection that packets are about unless they say otherwise
    _local_port: int = 0
    _blocked: list[_Blocked] = field(default_factory=list)
    _log: deque[tuple[int, str]] = field(default_factory=lambda: deque(maxlen=SHOWN))
    _zero: int = 0
    _last: int = 0  # when the last event happened
    _tolerance: int = 0
    _taken: tuple[int, bytes] = (0, b"")  # the packet that was looked at last

    def run(self) -> Outcome:
        """Whether every event holds."""
        settings = self.script.settings
        self._port, self._local_port = settings.connect_port, settings.bind_port
        self._tolerance = settings.tolerance + self.target.slack
        failure = None
        try:
            for shell in self.script.shell:
                self._shell(Event(self.script.events[0].when, shell, 1, _shown(shell)), shell)
            self._zero = self._last = self.target.now()
            for event in self.script.events:
                if event.only in ("", self.target.name):
                    self._play(event)
            self._outlast()
        except _Wrong as wrong:
            failure = Failure(
                wrong.line, wrong.event.source, wrong.reason, wrong.fields, tuple(self._log), self._state()
            )
        return Outcome(self.script.name, self.target.name, failure)

    def _play(self, event: Event) -> None:
        action, when = event.action, event.when
        base = self._last if when.relative else self._zero
        if isinstance(action, TcpPacket) and not action.inbound:
            if when.low is None:
                self._expect(event, action, self._last, self._last + self.target.horizon)
            else:
                self._expect(event, action, base + when.low, base + when.high)
            return
        assert when.low is not None or isinstance(action, TcpPacket | IcmpPacket)
        self._reach(event, base + (when.low or 0))
        self._last = self.target.now()
        match action:
            case TcpPacket():
                self._inject(event, action)
            case IcmpPacket():
                self._note(event.source)
                self.target.inject(self._flow(action.ip.port).build_icmp(action, *self._inward()))
            case Call():
                self._call(event, action, base)
            case Shell():
                self._shell(event, action)
            case Code():
                self._assert(event, action)

    # -- time --------------------------------------------------------------------------------------------------------

    def _reach(self, event: Event, at: int) -> None:
        """Let time pass until ``at``; nothing may come out before it."""
        self.target.wait(at, lambda: False)
        if (
            isinstance(event.action, Call | Code) and self.target.patience
        ):  # what has just returned is told of in a moment
            due = [blocked.pending for blocked in self._blocked if blocked.end <= at]
            self.target.wait(at + MOMENT, lambda: all(pending.done for pending in due))
        self._settle()
        if self.target.sent and self.target.sent[0][0] < at - self._tolerance:
            seen = self._next()
            if seen is not None:
                raise _Wrong(
                    event, f"before this, at {self._time(seen.at)}, an unexpected segment was sent: {self._line(seen)}"
                )

    def _settle(self) -> None:
        """Look after the calls that block."""
        for blocked in list(self._blocked):
            if blocked.pending.done:
                self._blocked.remove(blocked)
                self._check_end(blocked)
            elif self.target.now() > blocked.end + self._tolerance:
                raise _Wrong(blocked.event, f"the call has not returned at {self._time(self.target.now())}")

    def _check_end(self, blocked: _Blocked) -> None:
        ended = blocked.pending.ended_at
        self._check_result(blocked.event, blocked.call, blocked.pending, blocked.plan)
        if abs(ended - blocked.end) > self._tolerance:
            raise _Wrong(
                blocked.event, f"the call returned at {self._time(ended)}; expected at {self._time(blocked.end)}"
            )

    def _outlast(self) -> None:
        """The script is over: let the calls that block return."""
        while self._blocked:
            waits = [blocked.pending for blocked in self._blocked]
            limit = max([blocked.end for blocked in self._blocked]) + self._tolerance + 1
            self.target.wait(limit, lambda: any(pending.done for pending in waits))  # noqa: B023
            self._settle()

    # -- packets -----------------------------------------------------------------------------------------------------

    def _inject(self, event: Event, packet: TcpPacket) -> None:
        if packet.flags & URG:
            self._files.reads_plain = False
        self._note(event.source)
        self.target.inject(self._flow(packet.ip.port).build(packet, self.script.settings, *self._inward()))

    def _inward(self) -> tuple[bytes, bytes]:
        settings = self.script.settings
        return ipv4.pack(settings.remote_ip), ipv4.pack(settings.local_ip)

    def _flow(self, port: int | None) -> Flow:
        """The connection with the peer's ``port``, from now on the one that is meant."""
        if port is not None:
            self._port = port
        flow = self._flows.get(self._port)
        if flow is None:
            flow = self._flows[self._port] = Flow(self._port, self._local_port)
        return flow

    def _expect(self, event: Event, packet: TcpPacket, low: int, high: int) -> None:
        """A segment comes out between ``low`` and ``high``, and is the one that ``packet`` describes."""
        seen = self._await(high)
        if seen is None:
            raise _Wrong(event, f"nothing was sent until {self._time(high)}", self._wanted(packet))
        while len(seen.text) < packet.length and (more := self._await(high)) is not None:
            both = joined(seen, more)
            if both is None:
                self.target.sent.appendleft(self._taken)
                break
            seen = both
        flow = self._flow(packet.ip.port)
        flow.meet(seen, packet.seq)
        if packet.flags & URG:
            self._files.writes_plain = False
        found = compare.fields(packet, seen, flow, self.script.settings, text_known=self._files.writes_plain)
        if event.when.low is not None:
            wanted = self._time(low) if low == high else f"{self._time(low)} to {self._time(high)}"
            late = not low - self._tolerance <= seen.at <= high + self._tolerance
            found.insert(0, Field("time", wanted, self._time(seen.at), late))
        differing = [each.name for each in found if each.differs]
        if differing:
            self._note(self._line(seen), seen.at)
            raise _Wrong(event, f"the segment differs in {', '.join(differing)}", found)
        compare.learn(packet, seen, flow)
        self._note(self._line(seen), seen.at)
        self._last = max(seen.at, self._last)

    def _wanted(self, packet: TcpPacket) -> list[Field]:
        return [
            Field("flags", compare.letters(packet.flags), "", False),
            Field("seq", compare.sequence(packet.seq, packet.length), "", False),
            Field("ack", "" if packet.ack is None else str(packet.ack), "", False),
        ]

    def _await(self, until: int) -> Seen | None:
        """The next segment that comes out until ``until``, more or less."""
        limit = until + self._tolerance
        while True:
            self.target.wait(limit, lambda: bool(self.target.sent) or any(b.pending.done for b in self._blocked))
            self._settle()
            if self.target.sent:
                seen = self._next()
                if seen is not None:
                    return seen
            elif self.target.now() >= limit:
                return None

    def _next(self) -> Seen | None:
        """The oldest packet that came out; None: it is none of TCP's."""
        at, packet = self._taken = self.target.sent.popleft()
        try:
            return read(packet, at)
        except WireError as error:
            self._note(f"> a packet that cannot be read: {error}", at)
            return None

    def _line(self, seen: Seen) -> str:
        return compare.line(seen, self._flows.get(seen.dport) or self._flow(None))

    # -- calls -------------------------------------------------------------------------------------------------------

    def _call(self, event: Event, call: Call, base: int) -> None:
        self._note(event.source)
        try:
            made = plan(call, self._files, self.script.settings)
        except OSError as error:
            pending = Pending()
            pending.finish(self.target.now(), error=error)
            self._check_result(event, call, pending, Plan("", (), lambda value: (0, "")))
            return
        except Unusable as error:
            raise _Wrong(event, str(error)) from None
        if made.connects is not None:
            self._flow(made.connects).opening = True
        if made.binds is not None:
            self._local_port = made.binds
        pending = self.target.call(made.method, *made.arguments)
        if call.end is not None:
            self._blocked.append(_Blocked(event, call, pending, made, base + call.end))
            return
        self.target.wait(self.target.now() + self.target.patience, lambda: pending.done)
        if not pending.done:
            raise _Wrong(event, "the call blocks; if it should, say until when: +0...0.1 before its name")
        self._check_result(event, call, pending, made)

    def _check_result(self, event: Event, call: Call, pending: Pending, made: Plan) -> None:
        if pending.error is not None:
            number = pending.error.errno or 0
            if isinstance(call.result, EllipsisType) or (call.result == -1 and number == call.errno):
                return
            raise _Wrong(event, f"the call gave -1 {name_of(number)} ({pending.error.strerror})")
        if call.errno:
            value = made.finish(pending.value)[0] if made.method not in ("socket", "accept") else "a descriptor"
            raise _Wrong(event, f"the call gave {value}")
        try:
            value, wrong = made.finish(pending.value)
        except Unusable as error:
            raise _Wrong(event, str(error)) from None
        if not isinstance(call.result, EllipsisType) and value != call.result:
            raise _Wrong(event, f"the call gave {value}" + (f"; {wrong}" if wrong else ""))
        if wrong:
            raise _Wrong(event, wrong)

    # -- the rest ----------------------------------------------------------------------------------------------------

    def _shell(self, event: Event, shell: Shell) -> None:
        self._note(_shown(shell))
        complaint = self.target.shell(shell.command)
        if complaint:
            raise _Wrong(event, f"the command failed: {complaint}")

    def _assert(self, event: Event, code: Code) -> None:
        current = self._files.current
        if current is None:
            raise _Wrong(event, "there is no connection whose tcp_info could be looked at")
        pending = self._get(current.handle)
        if pending.error is not None or not pending.done:
            raise _Wrong(event, f"tcp_info cannot be had: {pending.error or 'the call blocks'}")
        try:
            run_snippet(code, fields_of(pending.value))
        except Unheld as unheld:
            values = ", ".join([f"{name} is {value}" for name, value in unheld.values.items()])
            reason = f"{unheld.text} does not hold: {unheld.message or values}"
            raise _Wrong(event, reason, line=unheld.line) from None

    def _get(self, handle: Any) -> Pending:
        """Ask for tcp_info."""
        pending = self.target.call("getsockopt", handle, *TCP_INFO, INFO.size)
        self.target.wait(self.target.now() + self.target.patience, lambda: pending.done)
        return pending

    def _state(self) -> str:
        return self.target.state(self._files.current.handle) if self._files.current is not None else ""

    def _note(self, text: str, at: int | None = None) -> None:
        self._log.append(((self.target.now() if at is None else at) - self._zero, text))

    def _time(self, at: int) -> str:
        return f"{to_seconds(at - self._zero):.6f}"


def _shown(shell: Shell) -> str:
    """A command in a line."""
    first, _, rest = shell.command.strip().partition("\n")
    return f"`{first}{' ...' if rest else ''}`"
