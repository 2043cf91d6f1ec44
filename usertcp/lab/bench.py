"""The bench: a network namespace with the kernel's TCP at one end of a TAP and a usertcp stack at the other.

Everything runs in one thread. The stack is turned step by step, one segment a turn; the kernel's sockets are ordinary
non-blocking ones, made inside the namespace; the kernel's states come from its socket diagnostics. A scenario opens
connections, arms the gate, turns until something holds, and states what must be so. Nothing outlives the ``with``
block: namespace, TAP and sockets go with it, on whatever way it is left.
"""

import errno
import os
import select
import socket
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from usertcp.driver.base import Pump
from usertcp.driver.looped import TurnedEngine
from usertcp.lab import forge
from usertcp.lab.gate import Gate, Ports
from usertcp.lab.ladder import Ladder, Note, Rung
from usertcp.lab.result import Check, Result
from usertcp.link import netns as namespaces
from usertcp.link import provision
from usertcp.link.base import Link
from usertcp.link.middleware import Pcap
from usertcp.link.tap import TapLink
from usertcp.net.stack import Stack, StackConfig
from usertcp.tcp.config import TcpConfig
from usertcp.tcp.connection import Connection
from usertcp.tcp.listener import Listener
from usertcp.tcp.state import State
from usertcp.units import MS, NEVER, SEC, from_seconds

OURS: Final = "10.9.0.2"
KERNELS: Final = "10.9.0.1"
TAP: Final = "tap0"  # in a namespace of its own the name is free
SERVER_PORT: Final = 9000  # whoever listens
CLIENT_PORT: Final = 40000  # the first one of whoever connects
POURED: Final = 200  # frames; the TAP holds more, and drops what it does not
PATIENCE: Final = 10.0  # seconds that a step may take before it counts as failed
GRAIN: Final = (
    5 * MS
)  # the longest wait between two looks at the kernel, which does not call when a timer of its changes a state


class Stopped(Exception):
    """A step that the rest depends on did not come about; it is among the checks."""


@dataclass(slots=True)
class Pair:
    """The two ends of one connection, and the ladder's name for it."""

    conn: Connection
    sock: socket.socket
    ports: Ports
    listener: socket.socket | None = None  # the kernel's, where it was kept


class Bench:
    """See the module. ``on_line`` is called with each line of the ladder when it is complete."""

    def __init__(
        self,
        title: str,
        config: TcpConfig | None = None,
        *,
        pcap: Path | None = None,
        offload: bool = False,
        on_line: Callable[[Rung | Note], None] | None = None,
    ) -> None:
        self.ladder = Ladder(title, f"usertcp {OURS}", f"kernel {KERNELS}")
        self.checks: list[Check] = []
        self.config = config or TcpConfig()
        self.ports: Ports = (0, 0)  # the connection whose states stand beside a note
        self.netns = ""
        self.held_up = 0  # ns that it neither worked nor asked to wait, for the machine had others to run
        self.stack: Stack
        self.pump: Pump
        self.engine: TurnedEngine | None = None  # has the pump, where there are sockets (``lab.sockets``)
        self.gate: Gate
        self._pcap = pcap
        self._offload = offload
        self._on_line = on_line
        self._shown = 0
        self._undo = ExitStack()
        self._next_port = CLIENT_PORT

    def __enter__(self) -> Self:
        with ExitStack() as undo:
            namespace = undo.enter_context(provision.Namespace.create())
            self.netns = namespace.name
            undo.enter_context(provision.create_tap(TAP, netns=self.netns, address=f"{KERNELS}/24"))
            self._kernel_mac = bytes.fromhex(provision.link_info(TAP, self.netns).mac.replace(":", ""))
            link: Link = undo.enter_context(TapLink.open(TAP, netns=self.netns, offload=self._offload))
            if self._pcap is not None:
                link = undo.enter_context(Pcap.open(link, self._pcap, time.time_ns() - time.monotonic_ns()))
            self.gate = Gate(link, self.ladder, self, time.monotonic_ns())
            self.reboot()
            self.meet()
            self.gate.zero = time.monotonic_ns()
            self._undo = undo.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._undo.close()

    @property
    def result(self) -> Result:
        """What has come of it so far."""
        return Result(self.ladder, self.checks, self.held_up)

    # -- turning ----------------------------------------------------------------------------------

    def turn(self) -> bool:
        """One segment in at most, and what the stack answers. True: more is waiting."""
        more = self.pump.turn() if self.engine is None else self.engine.step()
        self.gate.settle()
        self.show()
        return more

    def until(self, condition: Callable[[], bool], seconds: float = PATIENCE) -> bool:
        """Turn until ``condition`` holds; False if it does not within ``seconds``."""
        began = time.monotonic_ns()
        limit, worked, waited = began + from_seconds(seconds), time.process_time_ns(), 0
        try:
            while True:
                more = self.turn()
                if condition():
                    return True
                now = time.monotonic_ns()
                if now >= limit:
                    return False
                if not more:
                    due = self.pump.timeout_ns(now) if self.engine is None else self.engine.timeout_ns()
                    waited += self._wait(min(limit - now, due, GRAIN))
        finally:
            self.held_up += time.monotonic_ns() - began - waited - (time.process_time_ns() - worked)

    def rest(self, seconds: float) -> None:
        """Let ``seconds`` pass, turning."""
        self.until(lambda: False, seconds)

    def quiet(self) -> None:
        """Turn until the wire has been silent for a moment."""
        self.rest(0.02)

    def reboot(self, **settings: Any) -> None:
        """A stack without memory and with a new secret takes the place of the old one, on the same link. ``settings``:
        those of its :class:`StackConfig` that are not the defaults, from now on until the next one."""
        config = StackConfig(**{"addresses": (f"{OURS}/24",), "tcp": self.config, **settings})
        self.stack = Stack(config, self.gate.caps, os.urandom)
        self.pump = Pump(self.stack, self.gate, time.monotonic_ns)

    def release(self) -> None:
        """Let the segments go that a rule kept back."""
        self.gate.release(time.monotonic_ns())

    # -- stating ----------------------------------------------------------------------------------

    def check(self, statement: str, holds: bool, seen: object = "") -> bool:
        """Record a statement and its verdict; ``seen`` is shown beside it, a sequence as a list of words."""
        if isinstance(seen, list | tuple):
            seen = ", ".join(map(str, seen))
        self.checks.append(Check(statement, holds, str(seen)))
        return holds

    def reach(self, statement: str, condition: Callable[[], bool], seconds: float = PATIENCE) -> None:
        """Turn until ``condition`` holds and record that it did; without it nothing further makes sense."""
        if not self.check(statement, self.until(condition, seconds)):
            raise Stopped(statement)

    def need(self, what: str, condition: Callable[[], bool], seconds: float = PATIENCE) -> None:
        """Like ``reach``, but worth a line only if it fails."""
        if not self.until(condition, seconds):
            self.check(what, False, f"not within {seconds} s")
            raise Stopped(what)

    def note(self, text: str) -> None:
        """A line of words with the states of the current connection."""
        self.ladder.note(self._now(), text, self.ours(self.ports), self.kernels(self.ports))
        self.show()

    def heading(self, text: str) -> int:
        """Begin a part; where its lines will begin."""
        self.ladder.heading(self._now(), text)
        self.show()
        return len(self.ladder.lines)

    def show(self, *, all_of_it: bool = False) -> None:
        """Hand on the lines that will not change any more: folded runs may, so the last two wait."""
        if self._on_line is None:
            return
        ready = len(self.ladder.lines) - (2 if self.ladder.folding and not all_of_it else 0)
        while self._shown < ready:
            self._on_line(self.ladder.lines[self._shown])
            self._shown += 1

    # -- both ends' states (what the gate asks) ---------------------------------------------------

    def ours(self, ports: Ports) -> str:
        """usertcp's state of the connection, LISTEN if only a listener is there, CLOSED without one."""
        conn = self.find(ports)
        if conn is not None:
            return str(conn.state)
        listening = any(listener.port == ports[0] for listener in self.stack.listeners())
        return str(State.LISTEN if listening else State.CLOSED)

    def kernels(self, ports: Ports) -> str:
        """The kernel's state of it, likewise."""
        answer = str(State.CLOSED)
        for found in provision.tcp_states(self.netns):
            if found.local[1] != ports[1]:
                continue
            if found.remote[1] == ports[0] and found.state != "LISTEN":
                return found.state
            if found.state == "LISTEN":
                answer = found.state
        return answer

    def find(self, ports: Ports) -> Connection | None:
        """usertcp's connection between these ports, half-open ones included."""
        for conn in self.stack.connections():
            if (conn.flow.local[1], conn.flow.remote[1]) == ports:
                return conn
        return None

    # -- usertcp's end ----------------------------------------------------------------------------

    def connect(self, port: int = SERVER_PORT, local_port: int = 0) -> Connection:
        """Our active OPEN; the SYN leaves at the next turn."""
        local = (OURS, local_port or self.fresh_port())
        self.ports = (local[1], port)
        self.note("usertcp: connect()")
        return self.stack.connect((KERNELS, port), time.monotonic_ns(), local=local)

    def listen(self, port: int = SERVER_PORT) -> Listener:
        """Our passive OPEN."""
        return self.stack.listen((OURS, port))

    def receive(self, conn: Connection) -> bytes:
        """What has arrived for the program."""
        return conn.read(conn.readable) if conn.readable else b""

    # -- the kernel's end -------------------------------------------------------------------------

    def kernel_socket(self) -> socket.socket:
        """A non-blocking TCP socket in the namespace."""
        with namespaces.inside(self.netns):
            sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        sock.setblocking(False)
        self._undo.callback(sock.close)
        return sock

    def kernel_listen(self, port: int = SERVER_PORT) -> socket.socket:
        """The kernel's passive OPEN."""
        sock = self.kernel_socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((KERNELS, port))
        sock.listen()
        return sock

    def kernel_connect(self, port: int = SERVER_PORT, local_port: int = 0) -> socket.socket:
        """The kernel's active OPEN; its SYN waits in the TAP when this returns."""
        sock = self.kernel_socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((KERNELS, local_port or self.fresh_port()))
        self.ports = (port, sock.getsockname()[1])
        number = sock.connect_ex((OURS, port))
        if number != errno.EINPROGRESS:
            raise OSError(number, os.strerror(number))
        self.note("kernel: connect()")
        return sock

    def kernel_accept(self, listener: socket.socket) -> socket.socket | None:
        """The next accepted connection, None if there is none."""
        try:
            sock, _ = listener.accept()
        except BlockingIOError:
            return None
        sock.setblocking(False)
        self._undo.callback(sock.close)
        return sock

    def kernel_receive(self, sock: socket.socket) -> bytes | None:
        """What has arrived; b"" at the end, None if nothing is there yet."""
        try:
            return sock.recv(1 << 20)
        except BlockingIOError:
            return None

    def kernel_at_end(self, sock: socket.socket) -> bool:
        """Whether the kernel's program has seen our FIN."""
        return self.kernel_receive(sock) == b""

    def kernel_newest(self, listener: socket.socket) -> socket.socket:
        """The connection that waits to be accepted."""
        found: list[socket.socket] = []

        def look() -> bool:
            sock = self.kernel_accept(listener)
            if sock is not None:
                found.append(sock)
            return bool(found)

        self.need("the kernel's accept() returns", look)
        return found[-1]

    def kernel_timer(self, ports: Ports) -> int:
        """When the timer that the kernel's connection waits for runs out, ns; 0: it waits for none."""
        for found in provision.tcp_states(self.netns):
            if (found.remote[1], found.local[1]) == ports:
                return time.monotonic_ns() + found.expires * MS
        return 0

    def kernel_count(self) -> int:
        """How many connections the kernel has, listeners not counted."""
        return sum(found.state != "LISTEN" for found in provision.tcp_states(self.netns))

    def set_sysctl(self, name: str, value: str) -> None:
        """A setting of the kernel's TCP, in the namespace alone."""
        self._undo.enter_context(provision.set_sysctl(name, value, netns=self.netns))

    # -- both -------------------------------------------------------------------------------------

    def open(self, *, client: bool, close_listener: bool = True) -> Pair:
        """A whole handshake; ``client``: usertcp connects, else the kernel."""
        conn: Connection | None
        sock: socket.socket | None
        if client:
            server = self.kernel_listen()
            conn = self.connect()
            opened = conn
            self.need("the connection opens", lambda: self.established(self.ports, opened))
            sock = self.kernel_accept(server)
            assert conn is not None
            assert sock is not None, "ESTABLISHED, but accept() has nothing"
            if not close_listener:
                return Pair(conn, sock, self.ports, server)
            server.close()
        else:
            listener = self.listen()
            sock = self.kernel_connect()
            self.need("the connection opens", lambda: self.established(self.ports))
            conn = listener.accept()
            listener.close()
        assert conn is not None
        assert sock is not None, "ESTABLISHED, but accept() has nothing"
        return Pair(conn, sock, self.ports)

    def established(self, ports: Ports, conn: Connection | None = None) -> bool:
        """Whether both ends are ESTABLISHED. With ``conn``, its failure stops the scenario."""
        if conn is not None and conn.error is not None:
            self.check("the connection opens", False, conn.error)
            raise Stopped
        return self.ours(ports) == self.kernels(ports) == "ESTABLISHED"

    def forge(
        self,
        ports: Ports,
        *,
        outgoing: bool,
        seq: int,
        ack: int = 0,
        flags: int,
        options: bytes = b"",
        payload: bytes = b"",
    ) -> None:
        """Put a segment on the wire: ``outgoing`` as if from usertcp, else as if from the kernel."""
        assert self.gate.caps.mac is not None
        macs, addresses = (self.gate.caps.mac, self._kernel_mac), (OURS, KERNELS)
        if not outgoing:
            macs, addresses, ports = macs[::-1], addresses[::-1], ports[::-1]
        data = forge.frame(macs, addresses, ports, seq=seq, ack=ack, flags=flags, options=options, payload=payload)
        self.gate.now = time.monotonic_ns()
        self.gate.forge(data, outgoing=outgoing)

    def pour(self, frames: Iterable[bytes]) -> None:
        """Put ``frames`` on the wire, to usertcp, as many at a time as the device holds, and let it deal with them."""
        with namespaces.inside(self.netns), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sock:
            sock.bind((TAP, 0))
            for number, frame in enumerate(frames, 1):
                sock.send(frame)
                if number % POURED == 0:
                    self.drain()
        self.drain()

    def drain(self) -> None:
        """Turn until nothing waits."""
        while self.turn() or select.select([self.pump.fileno()], [], [], 0)[0]:
            pass

    def kernel_frame(self, source: str, port: int, *, to: int = SERVER_PORT, **segment: Any) -> bytes:
        """A TCP segment from ``source``, who need not exist, as the kernel would pass it on to us (``lab.forge``)."""
        assert self.gate.caps.mac is not None
        return forge.frame((self._kernel_mac, self.gate.caps.mac), (source, OURS), (port, to), **segment)

    def fresh_port(self) -> int:
        """A client port that this bench has not used yet."""
        self._next_port += 1
        return self._next_port - 1

    def meet(self) -> None:
        """A ping, so that both ends know each other's hardware address before the first SYN."""
        pinger = self.stack.pinger(KERNELS)
        pinger.send(time.monotonic_ns())
        self.need("the kernel answers a ping", lambda: bool(pinger.replies))
        pinger.close()

    def _now(self) -> int:
        return time.monotonic_ns() - self.gate.zero

    def _wait(self, nanoseconds: int) -> int:
        """Until something comes, or time is up; ns that it took, but no more than was asked for."""
        timeout = min(nanoseconds, NEVER)
        if timeout <= 0:
            return 0
        began = time.monotonic_ns()
        waits = self.pump if self.engine is None else self.engine
        select.select([] if self.gate.closed else [waits.fileno()], [], [], timeout / SEC)
        return min(time.monotonic_ns() - began, timeout)


def gaps(rungs: Iterable[Rung]) -> list[float]:
    """The seconds between one rung and the next."""
    times = [rung.at / SEC for rung in rungs]
    return [later - earlier for earlier, later in pairwise(times)]


def about(seen: float, expected: float) -> bool:
    """Whether a timer kept its time, as far as one can see from here.

    A segment of the kernel's is seen when it is read, and on a loaded machine that is later than it was sent; so a gap
    may look shorter, or longer, than it was. One RTO and the double of it stay far apart.
    """
    return expected * 0.85 <= seen <= expected * 1.25 + 0.5
