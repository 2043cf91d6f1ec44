"""A program that forgets close(): every connection that its peers have closed stays, in CLOSE-WAIT, for good.

RFC 9293 §3.6 and §3.10.4: only the user's CLOSE leads out of CLOSE-WAIT, and no timer does. The scenario tells in
numbers what is held, what ends it, and what does not. The program is one for ``socket``, on the drop-in sockets.
"""

import errno
import socket
import struct
import time
import warnings
from collections.abc import Callable
from typing import Final

from usertcp.lab.bench import KERNELS, OURS, PATIENCE, SERVER_PORT, Bench
from usertcp.lab.sockets import Sockets, descriptors
from usertcp.tcp.connection import Connection
from usertcp.tcp.state import State
from usertcp.units import MS, SEC
from usertcp.wire.tcp import SYN

FEW: Final = 5  # clients
ROOM: Final = 30  # descriptors that the program may have
CROWD: Final = 60  # clients, one after another; many more than there is room for
BACKLOG: Final = 2
UNSERVED: Final = 0.3  # s; when accept() fails already
KEEPALIVE: Final = {"keepalive_idle": 300 * MS, "keepalive_interval": 300 * MS, "keepalive_count": 9}
PROBES: Final = 3
FORGOTTEN: Final = 1  # s that the kernel keeps a connection in FIN-WAIT-2 which no program has any more
IDLE: Final = 0.2  # s

ON: Final = struct.pack("ii", 1, 1)  # struct linger: for a second

AtEnd = Callable[["Program", socket.socket], None]  # what is done with a socket whose peer has closed


class Program:
    """A server that answers every request.

    ``at_end``  what it does with a socket whose peer has closed
    ``idle``    seconds after which it closes what it has forgotten; 0: never
    """

    def __init__(self, sockets: Sockets, at_end: AtEnd, idle: float = 0.0) -> None:
        self._sockets = sockets
        self._at_end = at_end
        self._idle = idle
        self._heard: list[socket.socket] = []  # what still talks
        self.held: dict[socket.socket, float] = {}  # what has ended and is forgotten, and since when
        self.answered = 0
        self.refused = 0  # errno of accept()
        self.listener = sockets.make()
        self.listener.bind((OURS, SERVER_PORT))
        self.listener.listen(BACKLOG)
        self.listener.setblocking(False)

    def run(self) -> None:
        """Do what can be done without waiting."""
        with self._sockets.limited():
            self._accept()
        self._heard = [sock for sock in self._heard if self._serve(sock)]
        if self._idle:
            self._sweep(time.monotonic() - self._idle)

    @property
    def busy(self) -> bool:
        """Whether somebody talks, or may."""
        return bool(self._heard)

    def close(self) -> None:
        """The program ends."""
        for sock in [self.listener, *self._heard, *self.held]:
            sock.close()
        self._heard.clear()
        self.held.clear()

    def _accept(self) -> None:
        try:
            while True:
                sock, _ = self.listener.accept()
                sock.setblocking(False)
                self._heard.append(sock)
        except BlockingIOError:
            return
        except OSError as error:
            self.refused = error.errno or 0

    def _serve(self, sock: socket.socket) -> bool:
        """Answer what was asked. False: the peer has closed."""
        try:
            data = sock.recv(100)
        except BlockingIOError:
            return True
        if data:
            sock.send(b"!")
            self.answered += 1
            return True
        self._at_end(self, sock)
        return False

    def _sweep(self, before: float) -> None:
        """Close what has been silent since ``before``."""
        for sock in [sock for sock, since in self.held.items() if since < before]:
            del self.held[sock]
            sock.close()


def close_wait_leak(bench: Bench, role: str) -> None:
    """What piles up, who says so, what does not help, and what each of three remedies changes."""
    bench.set_sysctl("net/ipv4/tcp_fin_timeout", str(FORGOTTEN))
    bench.set_sysctl("net/ipv4/tcp_invalid_ratelimit", "0")  # it would answer no more than two probes a second
    _forgotten(bench)
    _exhausted(bench)
    _no_help(bench)
    _crowd(bench, "Remedy 1: the program closes what has ended (with, or finally)", _closes)
    _crowd(bench, f"Remedy 2: the program forgets, but closes what was silent for {IDLE} s", _forgets, IDLE)
    _collected(bench)


# --- what the program does at the end of the stream -------------------------------------------------------------------


def _forgets(program: Program, sock: socket.socket) -> None:
    program.held[sock] = time.monotonic()


def _closes(program: Program, sock: socket.socket) -> None:
    sock.close()


def _loses(program: Program, sock: socket.socket) -> None:
    """Nothing refers to it any more."""


# --- the parts --------------------------------------------------------------------------------------------------------


def _forgotten(bench: Bench) -> None:
    bench.heading("The peer closes; the program reads the end of the stream, and forgets close()")
    with Sockets(bench) as sockets:
        program = Program(sockets, _forgets)
        before = len(descriptors())
        first = _client(bench, program)
        bench.note("kernel: close()")
        first.close()
        ports = bench.ports
        bench.reach("the program has read the end", lambda: _done(program, 1))
        bench.quiet()
        ends = bench.ours(ports), bench.kernels(ports)
        bench.check("our end is in CLOSE-WAIT, the kernel's in FIN-WAIT-2", ends == ("CLOSE-WAIT", "FIN-WAIT-2"), ends)
        bench.gate.unseen = lambda seg: True
        for _ in range(FEW - 1):
            _client(bench, program).close()
        bench.need("the program has read every end", lambda: _done(program, FEW))
        bench.reach("a moment later the kernel has nothing left", lambda: not bench.kernel_count())
        _held(bench, before, FEW)
        _ss(bench, sockets)
        program.close()
        bench.need("they end when the program does", lambda: not _waiting(bench))


def _ss(bench: Bench, sockets: Sockets) -> None:
    """What ``usertcp ss`` shows of the forgotten connections."""
    rows = [row for row in sockets.ss() if row["state"] == "CLOSE-WAIT"]
    for row in rows[:2]:
        remote = f"{row['remote'][0]}:{row['remote'][1]}"
        bench.note(f"usertcp ss: CLOSE-WAIT {remote}, {row['finished'] / SEC:.1f} s")
    places = {row["opened_by"] for row in rows}
    ages = [row["finished"] / SEC for row in rows]
    bench.check("usertcp ss shows all of them", len(rows) == FEW, len(rows))
    waited = all(FORGOTTEN / 2 < age < row["age"] / SEC for age, row in zip(ages, rows, strict=True))
    bench.check("for how long their peers have waited", waited, f"{min(ages, default=0):.1f} s")
    wanted = Program._accept.__code__
    right = all(wanted.co_filename in place and place.endswith(wanted.co_qualname) for place in places)
    bench.check("and where in the program each was opened", len(places) == 1 and right, next(iter(places), "nowhere"))


def _exhausted(bench: Bench) -> None:
    start = bench.heading(f"It goes on, until the {ROOM} descriptors that are left to the program are used up")
    _reboot(bench)
    with Sockets(bench) as sockets:
        program = Program(sockets, _forgets)
        sockets.leave(ROOM)
        bench.gate.unseen = lambda seg: True
        late: list[socket.socket] = []
        while not late and program.answered <= CROWD:
            sock, answered = _asked(bench, program, UNSERVED if program.refused else PATIENCE)
            if answered:
                sock.close()
            else:
                late.append(sock)
        served = program.answered
        said = errno.errorcode.get(program.refused, "nothing")
        bench.note(f"{served} clients were served; then accept() says {said}")
        bench.check("each took two, the program's and the engine's", ROOM // 2 - 1 <= served <= ROOM // 2, served)
        bench.gate.unseen = lambda seg: bench.ports[1] not in (seg.sport, seg.dport)

        def asked() -> int:
            syns = bench.ladder.rungs(after=start, outgoing=False, flags=SYN)
            return sum(rung.flow == bench.ports for rung in syns)

        while bench.until(lambda: _is_connected(late[-1]) or asked() > 1) and asked() < 2 and len(late) <= CROWD:
            late.append(_dial(bench))
        waiting = len(late) - 1
        queues = 2 * (BACKLOG + 1)  # the program's, which the kernel keeps, and the stack's
        bench.check("some more wait in queues, connected", BACKLOG < waiting <= queues, waiting)
        bench.check("the next is not answered, however often it asks", asked() > 1, f"{asked()} SYNs")
        bench.check("and nobody was served meanwhile", program.answered == served, program.answered)
        bench.gate.unseen = lambda seg: True
        for sock in late:
            sock.close()
        program.close()


def _no_help(bench: Bench) -> None:
    start = bench.heading("What does not help: keepalive, TCP_USER_TIMEOUT, SO_LINGER")
    _reboot(bench)
    with Sockets(bench) as sockets:
        program = Program(sockets, _forgets)
        before = len(descriptors())
        bench.gate.unseen = lambda seg: True
        clients = [_client(bench, program) for _ in range(FEW)]
        for sock in clients:
            sock.shutdown(socket.SHUT_WR)
        bench.need("the program has read every end", lambda: _done(program, FEW))
        before += len(clients)
        shown = clients[0].getsockname()[1]
        bench.gate.unseen = lambda seg: shown not in (seg.sport, seg.dport)
        for conn in _waiting(bench):
            conn.configure(keepalive=True, user_timeout=3 * SEC, **KEEPALIVE)
        for sock in program.held:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ON)
        bench.ports = (SERVER_PORT, shown)
        bench.note("usertcp: keepalive, a user timeout and a linger time are set")

        def seen(outgoing: bool) -> int:
            return len(bench.ladder.rungs(after=start, outgoing=outgoing))

        bench.reach(f"the peer is there, and answers {PROBES} probes", lambda: seen(True) >= PROBES <= seen(False))
        _held(bench, before, FEW)
        for sock in clients:
            sock.close()
        bench.note("kernel: close(), of all; what is in FIN-WAIT-2 soon goes")
        bench.reach("a probe that nobody knows ends the connection", lambda: not _waiting(bench))
        kept = len(descriptors()) - before + len(clients)
        bench.check("but not the program's socket, which is still open", kept == FEW, f"{kept} descriptors")
        program.close()


def _crowd(bench: Bench, title: str, at_end: AtEnd, idle: float = 0.0) -> None:
    """Many clients, one after another: everybody is served, and nothing is left."""
    bench.heading(title)
    _reboot(bench)
    with Sockets(bench) as sockets:
        program = Program(sockets, at_end, idle)
        before = len(descriptors())
        sockets.leave(ROOM)
        bench.gate.unseen = lambda seg: True
        most = 0
        for _ in range(CROWD):
            _client(bench, program).close()
            most = max(most, len(_waiting(bench)))
        bench.reach("the last one is gone", lambda: _done(program, 0) and not _waiting(bench))
        left = len(descriptors()) - before
        bench.note(f"{program.answered} clients served, at most {most} in CLOSE-WAIT at a time")
        bench.check("every client is served", program.answered == CROWD, program.answered)
        bench.check("nothing is in CLOSE-WAIT, and no descriptor is held", left == 0, left)
        program.close()


def _collected(bench: Bench) -> None:
    """What is forgotten so thoroughly that nothing refers to it is closed by the interpreter, which says so."""
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always", ResourceWarning)
        _crowd(bench, "Remedy 3: nothing refers to the socket any more (python -X dev tells)", _loses)
    said = [str(warning.message) for warning in heard if issubclass(warning.category, ResourceWarning)]
    named = [text for text in said if text.endswith(f"{Program._accept.__code__.co_qualname}>")]
    bench.check(
        "a ResourceWarning for each, with the place",
        len(named) == CROWD,
        f"{len(named)}, {said[-1]}" if said else "none",
    )


# --- helpers ----------------------------------------------------------------------------------------------------------


def _reboot(bench: Bench) -> None:
    bench.gate.unseen = lambda seg: True
    bench.quiet()
    bench.reboot()
    bench.meet()
    bench.gate.unseen = lambda seg: False


def _dial(bench: Bench) -> socket.socket:
    """A client of the kernel's that connects."""
    sock = bench.kernel_socket()
    sock.bind((KERNELS, bench.fresh_port()))
    bench.ports = (SERVER_PORT, sock.getsockname()[1])
    sock.connect_ex((OURS, SERVER_PORT))
    return sock


def _is_connected(sock: socket.socket) -> bool:
    try:
        sock.getpeername()
    except OSError:
        return False
    return True


def _asked(bench: Bench, program: Program, seconds: float) -> tuple[socket.socket, bool]:
    """A client that has asked, and whether it was answered within ``seconds``."""
    sock = _dial(bench)
    bench.need("the client connects", lambda: _is_connected(sock))
    sock.send(b"?")

    def answered() -> bool:
        program.run()
        return bool(bench.kernel_receive(sock))

    return sock, bench.until(answered, seconds)


def _client(bench: Bench, program: Program) -> socket.socket:
    """A client that has asked, and was answered."""
    sock, answered = _asked(bench, program, PATIENCE)
    bench.need("the client is answered", lambda: answered, 0)
    return sock


def _done(program: Program, count: int) -> bool:
    """Whether the program, having run, has ``count`` sockets that have ended, and none that has not."""
    program.run()
    return len(program.held) == count and not program.busy


def _waiting(bench: Bench) -> list[Connection]:
    return [conn for conn in bench.stack.connections() if conn.state is State.CLOSE_WAIT]


def _held(bench: Bench, before: int, count: int) -> None:
    """State what ``count`` forgotten connections hold, ``before`` descriptors apart."""
    more, waiting = len(descriptors()) - before, len(_waiting(bench))
    bench.note(f"{waiting} connections in CLOSE-WAIT, {more} descriptors")
    bench.check(f"{count} are in CLOSE-WAIT", waiting == count, waiting)
    bench.check("each with two descriptors: the program's and the engine's", more == 2 * count, more)
