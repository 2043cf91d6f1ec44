"""Scenarios in which one end is not what the other takes it for: nobody listens, or it has vanished.

RFC 9293 §3.5.1 (half-open connections), §3.5.3 (resets), §3.8.4 (keepalives).
"""

import errno
import socket
from typing import Final

from usertcp.lab.bench import Bench, Pair, about
from usertcp.lab.gate import Verdict
from usertcp.lab.ladder import Rung
from usertcp.units import MASK32, MS, SEC
from usertcp.wire.tcp import ACK, RST, SYN

AT_ONCE: Final = 0.25  # s; less than any timer of the handshake
KEEPALIVE: Final = {"keepalive_idle": 300 * MS, "keepalive_interval": 200 * MS, "keepalive_count": 3}
KERNEL_KEEPALIVE: Final = ((socket.TCP_KEEPIDLE, 1), (socket.TCP_KEEPINTVL, 1), (socket.TCP_KEEPCNT, 2))  # s, s, probes
TCP_REPAIR: Final = 19  # linux/tcp.h: in this mode close() says nothing to the peer


def refused(bench: Bench, role: str) -> None:
    """Nobody listens: RST, ECONNREFUSED at once."""
    client = role == "client"
    start = bench.heading("Nobody listens on the port")
    if client:
        conn = bench.connect()
        bench.reach("connect() fails", lambda: conn.error is not None)
        bench.note("usertcp: ECONNREFUSED")
        number = conn.error.errno if conn.error is not None else 0
    else:
        sock = bench.kernel_connect()
        found: list[int] = []
        bench.reach("connect() fails", lambda: _failed(sock, found))
        bench.note("kernel: ECONNREFUSED")
        number = found[0]
    waited = (bench.ladder.lines[-1].at - bench.ladder.lines[start].at) / SEC
    bench.check("with ECONNREFUSED", number == errno.ECONNREFUSED, errno.errorcode.get(number or 0, "no error"))
    bench.check("at once", waited < AT_ONCE, f"{waited * 1000:.1f} ms")
    bench.rest(AT_ONCE)
    rungs = bench.ladder.rungs(after=start)
    names = [rung.name for rung in rungs]
    if bench.check("SYN, then RST+ACK, and nothing more", names == ["SYN", "RST+ACK"], names):
        syn, reset = rungs
        bench.check(
            "the RST has seq=0, ack=x+1", (reset.seq, reset.ack) == (0, syn.seq + 1 & MASK32), f"ack = {reset.ack}"
        )
    ends = bench.ours(bench.ports), bench.kernels(bench.ports)
    bench.check("nothing is left at either end", ends == ("CLOSED", "CLOSED"), ends)


def half_open(bench: Bench, role: str) -> None:
    """One end vanishes and comes back without memory; then it vanishes for good, with keepalive on."""
    survivor = role == "survivor"
    pair = bench.open(client=True)
    start = bench.heading("One end comes back without memory")
    if survivor:
        _vanish(pair.sock)
        bench.note("kernel: the socket is gone without a word")
    else:
        bench.reboot()
        bench.note("usertcp: a new stack, which knows nothing")
    lost, kept = (bench.kernels, bench.ours) if survivor else (bench.ours, bench.kernels)
    bench.check(
        "the survivor is ESTABLISHED, the other end knows nothing",
        (kept(pair.ports), lost(pair.ports)) == ("ESTABLISHED", "CLOSED"),
    )
    _say(pair, survivor)
    found: list[int] = []
    bench.reach("the next segment is answered by RST", lambda: _reset(bench, start, survivor) is not None)
    bench.reach("the survivor's program gets an error", lambda: _error(pair, survivor, found))
    bench.check("it is ECONNRESET", found[0] == errno.ECONNRESET, errno.errorcode.get(found[0], found[0]))
    bench.note(f"{'usertcp' if survivor else 'kernel'}: ECONNRESET")
    segment = bench.ladder.rungs(after=start, outgoing=survivor)[0]
    reset = _reset(bench, start, survivor)
    if reset is not None:
        bench.check(
            "the RST takes its seq from the segment's ack",
            reset.seq == segment.ack and not reset.flags & ACK,
            reset.seq,
        )
    bench.check("the survivor is CLOSED", kept(pair.ports) == "CLOSED", kept(pair.ports))
    _nobody_there(bench, survivor)


def _nobody_there(bench: Bench, survivor: bool) -> None:
    """The second part: silence, and keepalive finds out."""
    pair = bench.open(client=True)
    start = bench.heading("One end vanishes for good; keepalive is on")
    bench.gate.rule = lambda outgoing, seg: Verdict.DROP
    if survivor:
        pair.conn.configure(keepalive=True, **KEEPALIVE)
        idle, interval, count = (value / SEC if value >= MS else value for value in KEEPALIVE.values())
    else:
        pair.sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in KERNEL_KEEPALIVE:
            pair.sock.setsockopt(socket.IPPROTO_TCP, option, value)
        idle, interval, count = (value for _, value in KERNEL_KEEPALIVE)
    bench.note(f"keepalive after {idle:g} s, every {interval:g} s, {count:g} times")
    found: list[int] = []
    bench.reach("the survivor's program gets an error", lambda: _error(pair, survivor, found))
    bench.note(f"{'usertcp' if survivor else 'kernel'}: {errno.errorcode.get(found[0], '')}")
    bench.check("it is ETIMEDOUT", found[0] == errno.ETIMEDOUT, errno.errorcode.get(found[0], found[0]))
    rungs = bench.ladder.rungs(after=start, outgoing=survivor)
    probes = [rung for rung in rungs if not rung.flags & (RST | SYN)]
    bench.check(f"after {count:g} probes in vain", len(probes) == count, len(probes))
    next_seq = {rung.rel_seq for rung in probes} == {0}  # one below the next one to be sent, which is 1
    bench.check(
        "a probe lies just below the window: seq=SND.NXT-1, no data",
        next_seq and not any(rung.length for rung in probes),
    )
    waited = (bench.ladder.lines[-1].at - bench.ladder.lines[start].at) / SEC
    expected = idle + interval * count
    kept = about(waited, expected)
    bench.check("and after the times set", kept, f"{waited:.3f} s, expected {expected:g} s")


def _vanish(sock: socket.socket) -> None:
    """Take the kernel's end of the connection away without FIN or RST, as a power cut does."""
    sock.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
    sock.close()


def _say(pair: Pair, ours: bool) -> None:
    if ours:
        pair.conn.write(b"are you still there?")
    else:
        pair.sock.send(b"are you still there?")


def _reset(bench: Bench, start: int, survivor: bool) -> Rung | None:
    """The first RST that came to the survivor."""
    resets = [rung for rung in bench.ladder.rungs(after=start, outgoing=not survivor) if rung.flags & RST]
    return resets[0] if resets else None


def _error(pair: Pair, ours: bool, found: list[int]) -> bool:
    """Whether the program at that end sees an error; which one goes into ``found``."""
    if not ours:
        return _failed(pair.sock, found)
    try:
        pair.conn.read(1)
    except BlockingIOError:
        return False
    except OSError as error:
        found.append(error.errno or 0)
    return bool(found)


def _failed(sock: socket.socket, found: list[int]) -> bool:
    number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if number:
        found.append(number)
    return bool(found)
