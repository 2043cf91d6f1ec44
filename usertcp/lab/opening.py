"""Scenarios of the opening: the handshake, what it is good for, and its three segments lost one after another.

``client`` means that usertcp connects and the kernel listens, ``server`` the reverse. RFC 9293 §3.5.
"""

import os
import socket
from collections.abc import Callable
from typing import Final

from usertcp.lab import forge
from usertcp.lab.bench import SERVER_PORT, Bench, about, gaps
from usertcp.lab.gate import Ports, Verdict, drop_first
from usertcp.lab.ladder import Fate, Rung
from usertcp.tcp.config import TcpConfig
from usertcp.tcp.connection import Connection
from usertcp.units import MASK32, MS, SEC
from usertcp.wire.tcp import ACK, RST, SYN, Segment

QUICK: Final = TcpConfig(initial_rto=250 * MS, synack_retries=2)  # so that giving up takes 1.75 s and not a minute
KERNEL_RTO: Final = 1.0  # s, before the kernel's first retransmission of a SYN or SYN+ACK (RFC 6298 §2.1)
WITHHELD: Final = 0.6  # s
FORGED_PORT: Final = 50000


def handshake(bench: Bench, role: str) -> None:
    """SYN, SYN+ACK, ACK, twice between the same ports, with another secret the second time."""
    client = role == "client"
    first = _one_handshake(bench, client, "the first time")
    bench.reboot()
    second = _one_handshake(bench, client, "the second time")
    for index, letter in ((0, "x"), (1, "y")):
        numbers = first[index], second[index]
        bench.check(f"{letter} is another at every run (RFC 6528)", numbers[0] != numbers[1], f"{letter} = {numbers}")
    ours = [run[0 if client else 1] for run in (first, second)]
    apart = (ours[1] - ours[0]) & MASK32
    clock = 3 * 250_000  # RFC 6528's clock ticks every 4 µs: what three seconds could account for
    bench.check("a new secret moves usertcp's ISN further than its clock does", clock < apart <= MASK32 - clock, apart)


def _one_handshake(bench: Bench, client: bool, when: str) -> tuple[int, int]:
    """Open, check every number, abort; (x, y)."""
    start = bench.heading(f"The handshake, {when}")
    opener = bench.kernel_listen() if client else None
    listener = None if client else bench.listen()
    if client:
        bench.connect(local_port=FORGED_PORT)
    else:
        bench.kernel_connect(local_port=FORGED_PORT)
    bench.reach(f"both ends are ESTABLISHED, {when}", lambda: bench.established(bench.ports))
    bench.quiet()
    opened = len(bench.ladder.rungs(after=start))
    bench.check("three segments do it", opened == 3, "" if opened == 3 else opened)
    conn = bench.find(bench.ports)
    assert conn is not None
    conn.write(b"after the handshake")
    bench.quiet()
    rungs = bench.ladder.rungs(after=start)
    x, y = _check_three(bench, rungs[:3], client)
    syns = [index for index, rung in enumerate(rungs) if rung.flags & SYN]
    bench.check("SYN is set only in the first two segments", syns == [0, 1], f"of {len(rungs)} segments: {syns}")
    ours, kernels = (bench.ladder.states(ours=side, after=start) for side in (True, False))
    active, passive = (ours, kernels) if client else (kernels, ours)
    bench.check("the client goes SYN-SENT → ESTABLISHED", active[-2:] == ["SYN-SENT", "ESTABLISHED"])
    path = ["LISTEN", "SYN-RECEIVED", "ESTABLISHED"]
    bench.check("the server goes LISTEN → SYN-RECEIVED → ESTABLISHED", passive == path)
    conn.abort()
    if listener is not None:
        listener.close()
    bench.quiet()
    if opener is not None:
        opener.close()
    return x, y


def _check_three(bench: Bench, rungs: list[Rung], client: bool) -> tuple[int, int]:
    """The three segments of a handshake: direction, flags, numbers; (x, y)."""
    syn, synack, ack = rungs
    x, y = syn.seq, synack.seq
    directions = [rung.outgoing for rung in rungs]
    bench.check("they go there, back and there again", directions == [client, not client, client])
    bench.check("the first is SYN, seq=x", syn.flags == SYN, f"x = {x}")
    bench.check(
        "the second is SYN+ACK, seq=y ack=x+1",
        synack.flags == SYN | ACK and synack.ack == (x + 1) & MASK32,
        f"y = {y}, ack = {synack.ack}",
    )
    bench.check(
        "the third is ACK, seq=x+1 ack=y+1",
        ack.flags == ACK and ack.seq == (x + 1) & MASK32 and ack.ack == (y + 1) & MASK32 and ack.length == 0,
        f"seq = {ack.seq}, ack = {ack.ack}",
    )
    return x, y


def stale_syn(bench: Bench, role: str) -> None:
    """A SYN nobody stands behind reaches the listener: refused by its apparent sender, then answered by nobody."""
    client = role == "client"  # usertcp is the one in whose name the stale SYN comes
    accepted = _listener(bench, client)
    ports = (FORGED_PORT, SERVER_PORT) if client else (SERVER_PORT, FORGED_PORT)
    half_open = _half_open(bench, ports, client)
    isn = int.from_bytes(os.urandom(4), "big")

    bench.ports = ports
    start = bench.heading("An old SYN turns up; its sender has long given up")
    bench.note("one side listens, the other knows of nothing")
    bench.forge(ports, outgoing=client, seq=isn, flags=SYN, options=forge.SYN_OPTIONS)
    bench.reach(
        "the listener answers SYN+ACK and is half-open", lambda: _count(bench, start, not client, SYN | ACK) > 0
    )
    bench.reach("the client knows nothing of it and answers RST", lambda: _resets(bench, start, client) != [])
    bench.need("the half-open entry goes", lambda: not half_open())
    bench.check(
        "the half-open entry is gone, the listener listens on", not half_open() and _still(bench, ports, client)
    )
    synack, *again = bench.ladder.rungs(after=start, outgoing=not client, flags=SYN | ACK)
    bench.check("the RST ended it, and no time-out: the SYN+ACK was sent once", not again, 1 + len(again))
    reset = _resets(bench, start, client)[0]
    bench.check("the SYN+ACK acknowledges the old x: ack=x+1", synack.ack == (isn + 1) & MASK32, synack.ack)
    bench.check("the RST takes its seq from that ack", reset.seq == synack.ack and not reset.flags & SYN, reset.seq)
    bench.check("accept() never returned", accepted() is None)

    retries = 1 if client else bench.config.synack_retries
    if client:
        bench.set_sysctl("net/ipv4/tcp_synack_retries", "1")
    else:
        bench.note("usertcp: SYN+ACK retries set to 2, initial RTO to 250 ms")
    start = bench.heading("The same, and nobody answers at all")
    bench.gate.rule = lambda outgoing, seg: Verdict.DROP if outgoing != client and seg.flags & SYN else Verdict.PASS
    bench.forge(ports, outgoing=client, seq=(isn + 12345) & MASK32, flags=SYN, options=forge.SYN_OPTIONS)
    bench.reach("it is half-open again", half_open)
    bench.reach("without any answer it is given up", lambda: not half_open(), 15)
    bench.note("given up")
    synacks = bench.ladder.rungs(after=start, outgoing=not client, flags=SYN | ACK)
    bench.check(
        f"after the SYN+ACK and {retries} retransmission{'s' if retries > 1 else ''} of it",
        len(synacks) == 1 + retries, f"{len(synacks)} SYN+ACKs, {_seconds(gaps(synacks))} apart",
    )  # fmt: skip
    bench.check("accept() never returned", accepted() is None)


def _resets(bench: Bench, start: int, outgoing: bool) -> list[Rung]:
    return [rung for rung in bench.ladder.rungs(after=start, outgoing=outgoing) if rung.flags & RST]


def _still(bench: Bench, ports: Ports, client: bool) -> bool:
    return (bench.kernels(ports) if client else bench.ours(ports)) == "LISTEN"


def _half_open(bench: Bench, ports: Ports, client: bool) -> Callable[[], bool]:
    return lambda: (bench.kernels(ports) if client else bench.ours(ports)) == "SYN-RECEIVED"


def two_way(bench: Bench, role: str) -> None:
    """The whole handshake, and one whose third segment does not come."""
    client = role == "client"
    accepted = _listener(bench, client)
    bench.heading("All three segments")
    _begin(bench, client)
    bench.reach("with all three segments both ends are ESTABLISHED", lambda: bench.established(bench.ports))
    bench.check("and accept() returns the connection", accepted() is not None)

    start = bench.heading("Two segments: the third is withheld")
    bench.gate.rule = lambda outgoing, seg: Verdict.HOLD if outgoing == client and seg.flags == ACK else Verdict.PASS
    _begin(bench, client)
    bench.need("the third segment is sent", lambda: _count(bench, start, client, ACK) > 0)
    bench.rest(WITHHELD)
    bench.note(f"{WITHHELD} s later")
    ours, kernels = bench.ours(bench.ports), bench.kernels(bench.ports)
    there, here = (ours, kernels) if client else (kernels, ours)
    bench.check("the client has seen the SYN+ACK and takes the connection for open", there == "ESTABLISHED", there)
    bench.check("the server never reaches ESTABLISHED", here == "SYN-RECEIVED", here)
    passed = bench.ladder.states(ours=not client, after=start)
    bench.check("not even for a moment", "ESTABLISHED" not in passed, passed)
    bench.check("accept() never returns: two are not enough", accepted() is None)

    bench.heading("The third segment is delivered after all")
    bench.gate.rule = None
    bench.release()
    bench.reach("now the server is ESTABLISHED", lambda: bench.established(bench.ports))
    bench.check("and accept() returns", accepted() is not None)


def lost_syn(bench: Bench, role: str) -> None:
    """The SYN is dropped once, then twice."""
    client = role == "client"
    if not client:
        bench.set_sysctl("net/ipv4/tcp_syn_linear_timeouts", "0")  # Linux 6.5 and later wait 1 s four times first
    _listener(bench, client)
    rto = bench.config.initial_rto / SEC if client else KERNEL_RTO
    for losses, often in ((1, "once"), (2, "twice, to see the back-off")):
        start = bench.heading(f"The SYN is dropped {often}")
        bench.gate.rule = drop_first(losses, lambda outgoing, seg: outgoing == client and bool(seg.flags & SYN))
        _begin(bench, client)
        bench.reach("the connection still opens", lambda: bench.established(bench.ports))
        syns = bench.ladder.rungs(after=start, outgoing=client, flags=SYN)
        _check_retransmissions(bench, "SYN", syns, losses, rto)


def lost_synack(bench: Bench, role: str) -> None:
    """The SYN+ACK is dropped once, then twice with the client's own retransmissions kept off the wire."""
    client = role == "client"
    _listener(bench, client)
    rto = KERNEL_RTO if client else bench.config.initial_rto / SEC
    start = bench.heading("The SYN+ACK is dropped once")
    bench.gate.rule = drop_first(1, lambda outgoing, seg: outgoing != client and bool(seg.flags & SYN))
    _begin(bench, client)
    bench.reach("the connection still opens", lambda: bench.established(bench.ports))
    synacks = bench.ladder.rungs(after=start, outgoing=not client, flags=SYN | ACK)
    _check_again(bench, "SYN+ACK", synacks, rto)
    syns = bench.ladder.rungs(after=start, outgoing=client, flags=SYN)
    bench.check("and it is one connection: every SYN has the same x", len({rung.seq for rung in syns}) == 1)

    start = bench.heading("Dropped twice; the client's SYN comes only once")
    state = {"synacks": 2, "syns": 1}

    def rule(outgoing: bool, seg: Segment) -> Verdict:
        if not seg.flags & SYN:
            return Verdict.PASS
        key = "syns" if outgoing == client else "synacks"
        state[key] -= 1
        dropped = state[key] < 0 if key == "syns" else state[key] >= 0
        return Verdict.DROP if dropped else Verdict.PASS

    bench.gate.rule = rule
    _begin(bench, client)
    bench.reach("the connection still opens", lambda: bench.established(bench.ports))
    synacks = bench.ladder.rungs(after=start, outgoing=not client, flags=SYN | ACK)
    _check_retransmissions(bench, "SYN+ACK", synacks, 2, rto)


def lost_ack(bench: Bench, role: str) -> None:
    """The third segment is dropped: healed by the data that follows, or else by the server's SYN+ACK."""
    client = role == "client"
    accepted = _listener(bench, client)
    rto = KERNEL_RTO if client else bench.config.initial_rto / SEC
    start = bench.heading("The third ACK is dropped; then the client has something to say")
    bench.gate.rule = drop_first(1, lambda outgoing, seg: outgoing == client and seg.flags == ACK)
    opener = _begin(bench, client)
    bench.need("the ACK is sent", lambda: _count(bench, start, client, ACK) > 0)
    bench.check("the server waits in SYN-RECEIVED", _server_state(bench, client) == "SYN-RECEIVED")
    data = b"the first data segment"
    opener(data)
    bench.reach("the first data segment heals it: the connection is open", lambda: bench.established(bench.ports))
    synacks = bench.ladder.rungs(after=start, outgoing=not client, flags=SYN | ACK)
    bench.check("no SYN+ACK had to be sent again", len(synacks) == 1, f"{len(synacks)} SYN+ACK")
    other = accepted()
    bench.check("accept() returns", other is not None)
    received = bytearray()

    def arrived() -> bool:
        assert other is not None
        received.extend(other())
        return bytes(received) == data

    bench.reach("and the data is delivered", arrived)

    start = bench.heading("Dropped twice; the client has nothing to say")
    bench.gate.rule = drop_first(2, lambda outgoing, seg: outgoing == client and seg.flags == ACK)
    _begin(bench, client)
    bench.reach("the connection still opens", lambda: bench.established(bench.ports))
    synacks = bench.ladder.rungs(after=start, outgoing=not client, flags=SYN | ACK)
    _check_retransmissions(bench, "SYN+ACK", synacks, 2, rto)
    answers = [rung.fate for rung in bench.ladder.rungs(after=start, outgoing=client, flags=ACK)]
    bench.check("each is answered by the ACK again", answers == [Fate.LOST, Fate.LOST, Fate.DELIVERED], len(answers))


def simultaneous_open(bench: Bench, role: str) -> None:
    """Both ends connect, and the SYNs cross (RFC 9293 §3.5 Figure 7)."""
    ports = (FORGED_PORT, SERVER_PORT)
    start = bench.heading("usertcp's SYN is held back until the kernel's is out")
    bench.gate.rule = lambda outgoing, seg: Verdict.HOLD if outgoing and seg.flags == SYN else Verdict.PASS
    conn = bench.connect(port=SERVER_PORT, local_port=FORGED_PORT)
    bench.need("usertcp's SYN is sent", lambda: _count(bench, start, True, SYN) > 0)
    bench.gate.closed = True
    sock = bench.kernel_connect(port=FORGED_PORT, local_port=SERVER_PORT)
    bench.gate.rule = None
    bench.release()
    bench.gate.closed = False
    bench.reach("both ends are ESTABLISHED", lambda: bench.established(ports))
    bench.quiet()
    syns = bench.ladder.rungs(after=start, flags=SYN)
    crossed = {rung.outgoing for rung in syns} == {True, False}
    bench.check("two SYNs crossed, neither acknowledges anything", crossed)
    path = ["SYN-SENT", "SYN-RECEIVED", "ESTABLISHED"]
    for side, name in ((True, "usertcp"), (False, "the kernel")):
        seen = [state for state in bench.ladder.states(ours=side, after=start) if state != "CLOSED"]
        bench.check(f"{name} goes SYN-SENT → SYN-RECEIVED → ESTABLISHED", seen == path, "" if seen == path else seen)
    count = sum(1 for _ in bench.stack.connections())
    bench.check("one connection, not two, in usertcp", count == 1, count)
    held = bench.kernel_count()
    bench.check("one connection, not two, in the kernel", held == 1, held)
    x = next(rung.seq for rung in syns if rung.outgoing)
    y = next(rung.seq for rung in syns if not rung.outgoing)
    synacks = bench.ladder.rungs(after=start, flags=SYN | ACK)
    good = [(rung.seq, rung.ack) == ((x, y + 1 & MASK32) if rung.outgoing else (y, x + 1 & MASK32)) for rung in synacks]
    bench.check(
        "every SYN+ACK repeats its side's ISN and acknowledges the other's", all(good) and good != [], len(good)
    )
    _exchange(bench, conn, sock)


def _exchange(bench: Bench, conn: Connection, sock: socket.socket) -> None:
    """A few words each way."""
    conn.write(b"from usertcp")
    sock.send(b"from the kernel")
    there, here = bytearray(), bytearray()

    def done() -> bool:
        there.extend(bench.kernel_receive(sock) or b"")
        here.extend(bench.receive(conn))
        return bytes(there) == b"from usertcp" and bytes(here) == b"from the kernel"

    bench.reach("data flows both ways", done)


# -- what the scenarios of losses share ----------------------------------------------------------


def _listener(bench: Bench, client: bool) -> Callable[[], Callable[[], bytes] | None]:
    """Somebody listens: the kernel if usertcp is the ``client``. Returns accept(), which returns a receive()."""
    if client:
        server = bench.kernel_listen()

        def kernel_accept() -> Callable[[], bytes] | None:
            sock = bench.kernel_accept(server)
            return None if sock is None else lambda: bench.kernel_receive(sock) or b""

        return kernel_accept
    listener = bench.listen()

    def our_accept() -> Callable[[], bytes] | None:
        conn = listener.accept()
        return None if conn is None else lambda: bench.receive(conn)

    return our_accept


def _begin(bench: Bench, client: bool) -> Callable[[bytes], int]:
    """The client connects; returns its send()."""
    return bench.connect().write if client else bench.kernel_connect().send


def _server_state(bench: Bench, client: bool) -> str:
    return bench.kernels(bench.ports) if client else bench.ours(bench.ports)


def _count(bench: Bench, start: int, outgoing: bool, flags: int) -> int:
    return len(bench.ladder.rungs(after=start, outgoing=outgoing, flags=flags))


def _check_again(bench: Bench, what: str, rungs: list[Rung], rto: float) -> None:
    """``what`` came at least twice, the same each time, the second time after the initial RTO."""
    waited = gaps(rungs)
    kept = len(rungs) >= 2 and about(waited[0], rto)
    bench.check(f"the {what} comes again after the initial RTO of {rto:g} s", kept, _seconds(waited))
    same = len({(rung.seq, rung.ack) for rung in rungs}) == 1
    bench.check(f"it is the same {what}", same)


def _check_retransmissions(bench: Bench, what: str, rungs: list[Rung], losses: int, rto: float) -> None:
    """``what`` came ``losses`` times in vain and once more, after the RTO and then after its doubles."""
    _check_again(bench, what, rungs, rto)
    waited = gaps(rungs)
    bench.check(f"it is sent {losses + 1} times", len(rungs) == losses + 1, len(rungs))
    if losses > 1:
        kept = all(about(seen, rto * 2**index) for index, seen in enumerate(waited))
        bench.check("the RTO backs off: it doubles each time", kept, _seconds(waited))


def _seconds(times: list[float]) -> str:
    return ", ".join(f"{time:.3f} s" for time in times)
