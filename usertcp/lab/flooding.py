"""Scenarios of too many: SYNs that nobody stands behind, and connections that are over and still take their place.

RFC 4987 (floods of SYNs), RFC 9293 §3.6.1 and RFC 6191 (TIME-WAIT). Each tells in numbers what a remedy changes.
"""

import errno
import hashlib
import os
import random
import resource
import socket
import time
from collections.abc import Iterator
from typing import Final

from usertcp.lab.bench import KERNELS, OURS, SERVER_PORT, Bench
from usertcp.net.listening import Limits
from usertcp.net.stats import Drop
from usertcp.tcp.config import TcpConfig
from usertcp.tcp.connection import Connection
from usertcp.tcp.cookies import SynCookies
from usertcp.tcp.state import State
from usertcp.units import SEC
from usertcp.wire import ipv4
from usertcp.wire.tcp import ACK, RST, SYN, Segment, syn_options, timestamps

FORGED_PORT: Final = 6666  # of everybody who does not exist
SMALL: Final = 1000  # SYNs; many times a backlog
LARGER: Final = 1500  # half-open connections of a backlog that is raised
FLOOD: Final = 20_000
GUESSES: Final = 5000
NOBODIES: Final = int.from_bytes(ipv4.pack("198.18.0.0"), "big")
PART: Final = 400  # SYNs that come between two of the client's steps
MEGABYTE: Final = 1_000_000
GROWTH: Final = 5_000_000  # bytes that the process may grow by while it is flooded
PAGE: Final = resource.getpagesize()

FIRST_PORT: Final = 50000
PORTS: Final = 200  # that connections of ours are opened from: few, so that their end is seen
CROWD: Final = 1000  # connections, one after another
CAP: Final = 50  # entries that TIME-WAIT may have
OLD_FLOWS: Final = 1.1  # s; a flow in TIME-WAIT may be used again after one (RFC 7323 §B.2)


# --- syn-flood --------------------------------------------------------------------------------------------------------


def syn_flood(bench: Bench, role: str) -> None:
    """A backlog full of SYNs; what becomes of it when it is larger, when one address has but a share of it, and with
    cookies; then ACKs that guess at one."""
    bench.gate.unseen = lambda seg: any(FORGED_PORT <= port < FORGED_PORT + SMALL for port in (seg.sport, seg.dport))
    bench.heading(f"{SMALL:,} forged SYNs, and no SYN cookies")
    _filled(bench, SMALL, 128, Limits(syn_cookies=SynCookies.NEVER))
    bench.heading(f"A larger backlog: {2 * SMALL:,} forged SYNs")
    _filled(bench, 2 * SMALL, LARGER, Limits(syn_cookies=SynCookies.NEVER, syn_backlog=LARGER))
    _one_source(bench)
    _with_cookies(bench)
    _guessed(bench)


def _filled(bench: Bench, count: int, backlog: int, limits: Limits) -> None:
    """Without cookies ``count`` SYNs fill a ``backlog`` of any size, and lock a client out."""
    start = len(bench.ladder.lines)
    bench.reboot(gateway=KERNELS, limits=limits)
    bench.meet()
    listener = bench.listen()
    before = _resident()
    bench.pour(_syns(bench, count))
    half_open, dropped = len(listener.half_open), bench.stack.stats.drops[Drop.LISTEN_OVERFLOW]
    bench.note(f"{half_open:,} half-open, {dropped:,} SYNs dropped, {(_resident() - before) / 1e6:.1f} MB more")
    bench.check(f"the backlog is full: {backlog:,} half-open connections", half_open == backlog, f"{half_open:,}")
    bench.check("every SYN beyond it is dropped", dropped == count - half_open, f"{dropped:,}")
    sock = bench.kernel_connect()
    again = bench.until(lambda: len(bench.ladder.rungs(after=start, outgoing=False, flags=SYN)) > 1)
    opened = bench.established(bench.ports)
    bench.note("the client has sent its SYN twice, and nobody answers")
    bench.check("a client is locked out, however often it asks", again and not opened)
    sock.close()
    listener.close()
    bench.quiet()


def _one_source(bench: Bench) -> None:
    """The floods of one address take its share and leave the rest to others."""
    bench.heading(f"{SMALL:,} SYNs of one address, which may have half of the backlog")
    bench.reboot(gateway=KERNELS)
    bench.meet()
    listener = bench.listen()
    share = Limits().source_half_open
    bench.pour(_syns(bench, SMALL, address=_nobody(0)))
    half_open, cookies = len(listener.half_open), bench.stack.stats.cookies_out
    bench.note(f"{half_open} half-open, {cookies:,} cookies")
    bench.check(
        f"it has {share}, and cookies for the others", (half_open, cookies) == (share, SMALL - share), half_open
    )
    sock = bench.kernel_connect()
    bench.reach("a client connects", lambda: bench.established(bench.ports))
    bench.check("and needs no cookie", bench.stack.stats.cookies_in == 0)
    sock.close()
    listener.close()
    bench.quiet()


def _with_cookies(bench: Bench) -> None:
    start = bench.heading(f"{FLOOD:,} forged SYNs, and SYN cookies when the backlog is full")
    bench.reboot(gateway=KERNELS)
    bench.meet()
    listener = bench.listen()
    syns = _syns(bench, FLOOD)
    bench.pour(_part(syns, FLOOD // 4))
    before = _resident()
    sock = bench.kernel_connect()

    def opens() -> bool:
        bench.pour(_part(syns, PART))
        return bench.established(bench.ports)

    bench.reach("a client connects during the flood", opens)
    asked = bench.ladder.rungs(after=start, outgoing=False, flags=SYN)
    bench.check("its first SYN was answered", len(asked) == 1, f"{len(asked)} SYN")
    conn = bench.find(bench.ports)
    assert conn is not None
    agreed = conn.scale_ok, conn.sack_ok, conn.ts_ok
    bench.check("with window scale, SACK and timestamps, which the cookie kept", all(agreed), f"MSS {conn.snd.mss}")
    payload, received, sent = os.urandom(MEGABYTE), bytearray(), 0
    bench.ladder.fold(True)

    def flow() -> bool:
        nonlocal sent
        bench.pour(_part(syns, PART))
        if sent < MEGABYTE and conn.writable:
            sent += conn.write(payload[sent : sent + conn.writable])
        received.extend(bench.kernel_receive(sock) or b"")
        return len(received) >= MEGABYTE

    bench.reach("and gets 1 MB meanwhile", flow, 30)
    bench.ladder.fold(False)
    same = hashlib.sha256(received).digest() == hashlib.sha256(payload).digest()
    bench.check("every byte of it, by SHA-256", same, f"{len(received):,} bytes")
    bench.pour(syns)
    grown, stats = _resident() - before, bench.stack.stats
    half_open = len(listener.half_open)
    came = stats.cookies_in, sum(1 for _ in bench.stack.connections()) - half_open
    bench.note(f"{half_open} half-open, {stats.cookies_out:,} cookies, {came[0]} of them came back")
    bench.check("no SYN was dropped", stats.drops[Drop.LISTEN_OVERFLOW] == 0)
    bench.check("the backlog is bounded", half_open <= 128, f"{half_open} half-open connections")
    bench.check("all the others got cookies", stats.cookies_out >= FLOOD - 128, f"{stats.cookies_out:,}")
    bench.check("of which only the client's opened a connection", came == (1, 1), came[0])
    bench.check(f"memory is bounded: less than {GROWTH / 1e6:g} MB more", grown < GROWTH, f"{grown / 1e6:.1f} MB")
    conn.abort()
    sock.close()
    bench.quiet()


def _guessed(bench: Bench) -> None:
    bench.heading(f"{GUESSES:,} forged ACKs, each with a guess at a cookie")
    stats = bench.stack.stats
    opened, resets = stats.cookies_in, stats.resets_out
    bench.pour(_acks(bench, GUESSES))
    bench.note(f"{stats.cookies_bad:,} were no cookie, {stats.resets_out - resets:,} resets")
    bench.check("no guess opens a connection", stats.cookies_in == opened and stats.cookies_bad == GUESSES)


def _syns(bench: Bench, count: int, address: str = "") -> Iterator[bytes]:
    """SYNs from another address each, or all from ``address``, of other ports."""
    source = random.Random(count)
    for number in range(count):
        options = syn_options(1460, 7, True, (source.getrandbits(32), 0))
        seq = source.getrandbits(32)
        who = (address, FORGED_PORT + number) if address else (_nobody(number), FORGED_PORT)
        yield bench.kernel_frame(*who, seq=seq, flags=SYN, options=options)


def _acks(bench: Bench, count: int) -> Iterator[bytes]:
    source = random.Random(count)
    for number in range(count):
        seq, ack = source.getrandbits(32), source.getrandbits(32)
        options = timestamps(source.getrandbits(32), source.getrandbits(32))
        yield bench.kernel_frame(_nobody(FLOOD + number), FORGED_PORT, seq=seq, ack=ack, flags=ACK, options=options)


def _nobody(number: int) -> str:
    """An address at which nobody is, another for each ``number``: 198.18.0.0/15 is for tests (RFC 2544)."""
    return ipv4.unpack((NOBODIES + number).to_bytes(4, "big"))


def _part(frames: Iterator[bytes], count: int) -> Iterator[bytes]:
    """The next ``count`` of ``frames``."""
    for _, frame in zip(range(count), frames, strict=False):
        yield frame


def _resident() -> int:
    """Bytes of memory that this process has."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * PAGE


# --- time-wait-flood --------------------------------------------------------------------------------------------------


def time_wait_flood(bench: Bench, role: str) -> None:
    """What piles up when we close first, and what each remedy changes."""
    server = bench.kernel_listen()
    shown = _nothing_done(bench, server)
    _connection_kept(bench, server)
    _timestamps(bench, server)
    _cap(bench, server, shown)
    server.close()
    _reuse_address(bench)


def _reboot(bench: Bench, *, stamped: bool = False, limits: Limits | None = None) -> None:
    """A stack with few ports to connect from."""
    config = TcpConfig(timestamps=stamped)
    bench.reboot(ephemeral=(FIRST_PORT, FIRST_PORT + PORTS - 1), tcp=config, limits=limits or Limits())
    bench.gate.unseen = lambda seg: False
    bench.meet()


def _nothing_done(bench: Bench, server: socket.socket) -> int:
    """Connections until there is no port left; how many there were."""
    bench.heading(f"A connection for each request, {PORTS} ports, and nothing done about it")
    _reboot(bench)
    _short(bench, server)
    count, number = 1, 0
    while not number and count <= CROWD:
        number = _hurried(bench, server)
        count += not number
    waiting = _waiting(bench)
    bench.note(f"{count} connections, {waiting} in TIME-WAIT for {2 * bench.config.msl / SEC:g} s")
    bench.check("each leaves a TIME-WAIT at the end that closed first", waiting == count, waiting)
    bench.check("the kernel's end of them is gone", bench.kernel_count() == 0, bench.kernel_count())
    bench.check(
        "when the ports are used up, connect() says EADDRNOTAVAIL",
        (number, count) == (errno.EADDRNOTAVAIL, PORTS),
        f"{errno.errorcode.get(number, 'no error')} after {count}",
    )
    return count


def _connection_kept(bench: Bench, server: socket.socket) -> None:
    bench.heading(f"Remedy 1: one connection is kept for {CROWD:,} requests")
    _reboot(bench)
    conn, sock = _opened(bench, server)
    bench.gate.unseen = _of_the_crowd
    answered = 0
    for _ in range(CROWD):
        conn.write(b"?")
        bench.need("the request arrives", lambda: bool(bench.kernel_receive(sock)))
        sock.send(b"!")
        bench.need("the reply arrives", lambda: bool(bench.receive(conn)))
        answered += 1
    bench.gate.unseen = lambda seg: False
    _closed(bench, conn, sock)
    waiting = _waiting(bench)
    bench.check(f"{CROWD:,} requests, one TIME-WAIT", (answered, waiting) == (CROWD, 1), f"{answered:,}, {waiting}")


def _timestamps(bench: Bench, server: socket.socket) -> None:
    bench.heading("Remedy 2: timestamps, by which an old segment is told from a new one (RFC 7323 §B.2)")
    _reboot(bench, stamped=True)
    _short(bench, server)
    for _ in range(PORTS - 1):
        _hurried(bench, server)
    bench.rest(OLD_FLOWS)
    again = sum(not _hurried(bench, server) for _ in range(PORTS))
    waiting = _waiting(bench)
    bench.note(f"{PORTS + again} connections from {PORTS} ports, {waiting} in TIME-WAIT")
    bench.check("a second later every port can be used again", again == PORTS, again)
    bench.check("and no more than the ports are in TIME-WAIT", waiting == PORTS, waiting)


def _cap(bench: Bench, server: socket.socket, before: int) -> None:
    bench.heading(f"Remedy 3: no more than {CAP} in TIME-WAIT, the oldest leaves")
    _reboot(bench, limits=Limits(time_wait=CAP))
    _short(bench, server)
    count = 1 + sum(not _hurried(bench, server) for _ in range(CROWD - 1))
    waiting, cut = _waiting(bench), bench.stack.stats.time_waits_cut
    bench.note(f"{count:,} connections, {waiting} in TIME-WAIT, {cut:,} ended early")
    bench.check("none is refused", count == CROWD, f"{count:,} instead of {before}")
    bench.check(f"{CAP} are in TIME-WAIT, whatever comes", waiting == CAP, waiting)
    bench.check("the others left it early, and were counted", cut == CROWD - CAP, f"{cut:,}")


def _reuse_address(bench: Bench) -> None:
    start = bench.heading("Remedy 4: SO_REUSEADDR, for a server that comes back")
    _reboot(bench)
    first = bench.stack.bind((OURS, SERVER_PORT), reuse_address=True)
    listener = bench.stack.listen(first)
    sock = bench.kernel_connect()
    bench.need("the connection opens", lambda: bench.established(bench.ports))
    conn = listener.accept()
    assert conn is not None
    bench.note("usertcp: the server closes its connection and its listener")
    _closed(bench, conn, sock)
    listener.close()
    bench.check("its connection is in TIME-WAIT", bench.ours(bench.ports) == "TIME-WAIT", bench.ours(bench.ports))
    number = 0
    try:
        bench.stack.bind((OURS, SERVER_PORT)).close()
    except OSError as error:
        number = error.errno or 0
    bench.note(f"usertcp: bind() says {errno.errorcode.get(number, 'nothing')}")
    bench.check("without it bind() says EADDRINUSE", number == errno.EADDRINUSE, errno.errorcode.get(number, "bound"))
    bench.stack.listen(bench.stack.bind((OURS, SERVER_PORT), reuse_address=True))
    bench.note("usertcp: bind() with SO_REUSEADDR, listen()")
    other = bench.kernel_connect()
    bench.reach("with it the server is there again at once", lambda: bench.established(bench.ports))
    bench.check("while the old connection still waits", _waiting(bench) == 1, _waiting(bench))
    bench.check("nothing was reset", not [rung for rung in bench.ladder.rungs(after=start) if rung.flags & RST])
    other.close()
    bench.quiet()


def _of_the_crowd(seg: Segment) -> bool:
    """Whether ``seg`` is of a connection to the kernel's server."""
    return SERVER_PORT in (seg.sport, seg.dport)


def _hurried(bench: Bench, server: socket.socket) -> int:
    """:func:`_short`, unseen; the errno of ``connect``, 0 if it worked."""
    bench.gate.unseen = _of_the_crowd
    try:
        _short(bench, server)
    except OSError as error:
        return error.errno or 0
    finally:
        bench.gate.unseen = lambda seg: False
    return 0


def _short(bench: Bench, server: socket.socket) -> None:
    """A connection of ours that we close first."""
    _closed(bench, *_opened(bench, server))


def _opened(bench: Bench, server: socket.socket) -> tuple[Connection, socket.socket]:
    conn = bench.stack.connect((KERNELS, SERVER_PORT), time.monotonic_ns())
    bench.ports = (conn.sport, conn.dport)
    return conn, bench.kernel_newest(server)


def _closed(bench: Bench, conn: Connection, sock: socket.socket) -> None:
    conn.close()
    bench.need("the kernel's program reads the end", lambda: bench.kernel_at_end(sock))
    sock.close()
    bench.need("ours is in TIME-WAIT", lambda: conn.state in (State.TIME_WAIT, State.CLOSED))


def _waiting(bench: Bench) -> int:
    """How many connections of ours are in TIME-WAIT."""
    return sum(conn.state is State.TIME_WAIT for conn in bench.stack.connections())
