"""The two ends of a measurement, in the order of :mod:`usertcp.perf.protocol`'s diagram."""

from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Final

from usertcp.errors import SetupError
from usertcp.perf import protocol
from usertcp.perf.protocol import Conn, Control, Half, Plan
from usertcp.perf.roads import Door, Road
from usertcp.perf.streams import Streams

ANSWER: Final = 10.0  # seconds that an end waits for the other's next word
TICK: Final = 0.1  # seconds between two looks at what a test has done so far

# Called some times a second with (seconds since the start, bytes so far), at the end too.
Watch = Callable[[float, int], None]


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of one test, seen from the client: both halves."""

    test: Plan
    sender: Half
    receiver: Half

    @property
    def rate(self) -> float:
        """Bits a second that arrived."""
        return sum(self.receiver.bytes) * 8 / self.receiver.seconds if self.receiver.seconds else 0.0


def measure(road: Road, server: tuple[str, int], test: Plan, watch: Watch) -> Outcome:
    """One test, as the client. SetupError when the two do not get along, OSError when the network does not."""
    cookie = protocol.cookie()
    with ExitStack() as undo:
        control = Control(_greeting(road, server, cookie, 0, undo))
        control.conn.settimeout(ANSWER)
        control.send_test(test)
        try:
            control.receive("ready")
        except TimeoutError:
            raise SetupError(
                f"{server[0]} port {server[1]} accepts, and says nothing", "it may be busy with another test: wait"
            ) from None
        conns = [_greeting(road, server, cookie, number, undo) for number in range(1, test.streams + 1)]
        control.receive("start")
        ours = _run(Streams(road, conns, test, sends=not test.reverse), watch)
        control.conn.settimeout(None)  # until the last byte has crossed
        control.send_result(ours)
        theirs = control.receive_result()
        undo.pop_all()
        for conn in (*conns, control.conn):
            conn.close()
    return Outcome(test, theirs, ours) if test.reverse else Outcome(test, ours, theirs)


def _greeting(road: Road, server: tuple[str, int], cookie: bytes, number: int, undo: ExitStack) -> Conn:
    conn = road.connect(server, ANSWER)
    undo.callback(road.abort, conn)  # whatever goes wrong: the peer must not wait for the rest
    protocol.greet(conn, cookie, number)
    return conn


def _run(streams: Streams, watch: Watch) -> Half:
    streams.start()
    while not streams.wait(TICK):
        watch(streams.elapsed, streams.total)
    half = streams.half()
    watch(half.seconds, sum(half.bytes))
    return half


def serve(road: Road, door: Door, watch: Watch, began: Callable[[Conn, Plan], None]) -> Outcome | None:
    """Wait for a client and make its test; None when who came was none. ``began``: told before the streams start."""
    with ExitStack() as undo:
        door.settimeout(None)
        control, cookie = _control(road, door, undo)
        if control is None:
            return None
        test = control.receive_test()
        control.send(ready=True)
        conns = _gather(road, door, test.streams, cookie, undo)
        began(control.conn, test)
        control.send(start=True)
        ours = _run(Streams(road, conns, test, sends=test.reverse), watch)
        control.conn.settimeout(None)
        theirs = control.receive_result()
        control.send_result(ours)
        with suppress(SetupError):
            protocol.exactly(control.conn, 1)  # the client's FIN: it has all it needs, and no reset can take it away
        undo.pop_all()
        for conn in (*conns, control.conn):
            conn.close()
    return Outcome(test, ours, theirs) if test.reverse else Outcome(test, theirs, ours)


def _control(road: Road, door: Door, undo: ExitStack) -> tuple[Control | None, bytes]:
    """The control connection of the next client, and its cookie."""
    conn = door.accept()
    undo.callback(road.abort, conn)
    conn.settimeout(ANSWER)
    try:
        cookie, number = protocol.greeted(conn)
    except (SetupError, OSError):
        return None, b""
    return (Control(conn) if number == 0 else None), cookie


def _refuse(control: Control) -> None:
    """After what it wants was heard: closed with something unread, a connection resets and takes the answer along."""
    control.receive_test()
    control.send(refused="another test runs")


def _gather(road: Road, door: Door, count: int, cookie: bytes, undo: ExitStack) -> list[Conn]:
    """The streams of a test, in their order. Another client that comes meanwhile is told to go."""
    found: dict[int, Conn] = {}
    door.settimeout(ANSWER)
    while len(found) < count:
        try:
            conn = door.accept()
        except TimeoutError:
            raise SetupError(f"only {len(found)} of {count} streams came", "look at what the client says") from None
        conn.settimeout(ANSWER)
        try:
            test, number = protocol.greeted(conn)
        except (SetupError, OSError):
            road.abort(conn)
            continue
        if test == cookie and 1 <= number <= count and number not in found:
            undo.callback(road.abort, conn)
            conn.settimeout(None)
            found[number] = conn
            continue
        with suppress(SetupError, OSError):
            _refuse(Control(conn))
        conn.close()
    return [found[number] for number in sorted(found)]
