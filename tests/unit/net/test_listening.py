"""A listener and strangers: SYN cookies under a flood, what one source may take, TIME-WAIT's bound."""

from typing import Any

import pytest

from benchmarks.core_meters import Bytecode
from tests.support.pure import pure_only
from tests.unit.net.bench import FAR, GATEWAY, PEER, PEER_ISS, US, Bench, tcp_frame
from usertcp.net.flow import flow_key
from usertcp.net.listening import Limits
from usertcp.net.stats import Drop
from usertcp.tcp.config import TcpConfig
from usertcp.tcp.connection import Connection
from usertcp.tcp.cookies import MSS_TABLE, Cookies, SynCookies
from usertcp.tcp.ecn_policy import Ecn
from usertcp.tcp.listener import Listener
from usertcp.tcp.state import State
from usertcp.units import MASK32, MINUTE, MS, SEC
from usertcp.wire import ipv4, tcp
from usertcp.wire.ecn import CE, ECT_0
from usertcp.wire.tcp import ACE, ACK, CWR, ECE, FIN, RST, SYN, Segment

TSVAL = 0x1234_5678
OPTIONS = tcp.syn_options(1460, 7, True, (TSVAL, 0))
ALWAYS = Limits(syn_cookies=SynCookies.ALWAYS)
FIRST = PEER_ISS + 1  # the peer's first number after its SYN


def listening(limits: Limits = ALWAYS, **config: Any) -> tuple[Bench, Listener]:
    bench = Bench(limits=limits, **config)
    bench.meet()
    return bench, bench.stack.listen(("", 80))


def opened(bench: Bench, syn: int = SYN, options: bytes = OPTIONS, **more: Any) -> Segment:
    """The SYN,ACK for a SYN."""
    bench.give(tcp_frame(syn, options=options, **more))
    (answer,) = bench.take_segments()
    assert answer.flags & (SYN | ACK) == SYN | ACK
    assert answer.ack == PEER_ISS + 1 & MASK32
    return answer


def echo(answer: Segment) -> bytes:
    """The timestamps of the ACK of ``answer``."""
    return tcp.timestamps(TSVAL + 1, answer.options.tsval) if answer.options.has_ts else b""


def acked(bench: Bench, answer: Segment, payload: bytes = b"", **more: Any) -> None:
    more.setdefault("options", echo(answer))
    bench.give(tcp_frame(ACK, FIRST, answer.seq + 1, payload, **more))


def accepted(listener: Listener) -> Connection:
    conn = listener.accept()
    assert conn is not None
    assert conn.state is State.ESTABLISHED
    return conn


# --- a handshake with a cookie --------------------------------------------------------------------------------------


@pytest.mark.rfc(4987, "§3.6")
def test_syn_answered_with_a_cookie_leaves_nothing_and_its_ack_opens_the_connection() -> None:
    bench, listener = listening()
    answer = opened(bench)
    assert not list(bench.stack.connections())
    assert not listener.half_open
    acked(bench, answer)
    conn = accepted(listener)
    assert conn.flow.remote == (PEER, 40000)
    stats = bench.stack.stats
    assert (stats.cookies_out, stats.cookies_in, stats.cookies_bad) == (1, 1, 0)
    assert stats.as_dict()["cookies_in"] == 1


def test_cookie_connection_moves_data_both_ways_and_closes() -> None:
    bench, listener = listening()
    answer = opened(bench)
    acked(bench, answer, b"hello")
    conn = accepted(listener)
    assert conn.read(100) == b"hello"
    conn.write(b"you too")
    (reply,) = bench.take_segments()
    assert bytes(reply.payload) == b"you too"
    assert (reply.seq, reply.ack) == (answer.seq + 1 & MASK32, FIRST + 5 & MASK32)
    assert conn.snd.rtt.srtt == 0, "the cookie is no sample"
    bench.now += 30 * MS
    stamps = tcp.timestamps(TSVAL + 40, reply.options.tsval)
    bench.give(tcp_frame(ACK | FIN, FIRST + 5, reply.seq + 7, options=stamps))
    assert conn.snd.rtt.srtt == 30 * MS
    assert conn.state is State.CLOSE_WAIT


@pytest.mark.parametrize("stamped", [True, False])
@pytest.mark.parametrize("sack", [True, False])
@pytest.mark.parametrize("scale", [-1, 0, 7, 14])
def test_options_agreed_on_are_those_of_a_connection_that_was_remembered(scale: int, sack: bool, stamped: bool) -> None:
    """Without timestamps there is no place for scale and SACK (as on Linux)."""
    options = tcp.syn_options(1400, scale, sack, (TSVAL, 0) if stamped else None)
    ends = []
    for limits in (Limits(), ALWAYS):
        bench, listener = listening(limits)
        answer = opened(bench, options=options)
        acked(bench, answer)
        conn = accepted(listener)
        said = answer.options
        agreed = (said.mss, said.wscale, said.sack_permitted, said.has_ts, answer.wnd)
        ends.append((agreed, conn.snd.shift, conn.scale_ok, conn.sack_ok, conn.ts_ok, conn.rcv.shift, conn.rcv.edge))
        assert conn.snd.mss == (1400 if limits is not ALWAYS else 1360)
    if stamped:
        assert ends[0] == ends[1]
    else:
        assert ends[1][1:4] == (0, False, False)


@pytest.mark.rfc(9293, "MUST-16")
@pytest.mark.parametrize("mss", [0, 48, 100, 535, 536, 1219, 1459, 1460, 1461, 9000, 65535])
def test_mss_is_rounded_down_to_one_of_the_table_and_never_exceeded(mss: int) -> None:
    bench, listener = listening()
    acked(bench, opened(bench, options=tcp.syn_options(mss, -1, False, None) if mss else b""))
    wanted = min(mss or 536, 1460)
    assert accepted(listener).snd.mss == max(each for each in MSS_TABLE if each <= wanted)


@pytest.mark.parametrize("syn_ecn", [0, ECT_0, CE])
@pytest.mark.parametrize("ask", [0, CWR | ECE, ACE])
@pytest.mark.parametrize("policy", [Ecn.PASSIVE, Ecn.CLASSIC_PASSIVE, Ecn.OFF])
def test_ecn_is_granted_as_without_cookies(policy: Ecn, ask: int, syn_ecn: int) -> None:
    seen = []
    for limits in (Limits(), ALWAYS):
        bench, listener = listening(limits, tcp=TcpConfig(ecn=policy))
        frame = bytearray(tcp_frame(SYN | ask, options=OPTIONS))
        packet = ipv4.header(ipv4.pack(PEER), ipv4.pack(US), ipv4.TCP, len(frame) - 34, tos=syn_ecn)
        bench.give(bytes(frame[:14] + packet + frame[34:]))
        (answer,) = bench.take_segments()
        bench.give(tcp_frame(ACK, FIRST, answer.seq + 1, options=echo(answer)))
        seen.append((answer.flags, accepted(listener).ecn.name))
    assert seen[0] == seen[1]


@pytest.mark.rfc(9293, "MUST-48")
def test_syn_ack_with_a_cookie_has_the_listeners_ttl_and_dscp() -> None:
    bench, _ = listening(tcp=TcpConfig(ttl=7, tos=0xB8))
    bench.give(tcp_frame(SYN, options=OPTIONS))
    (packet,) = bench.take_packets()
    assert (packet.ttl, packet.tos) == (7, 0xB8)


def test_timestamps_never_run_backwards_from_the_cookie_on() -> None:
    bench, listener = listening()
    for _ in range(200):  # every state of the low bits
        bench.now += MS
        answer = opened(bench)
        key = flow_key(ipv4.pack(PEER), ipv4.pack(US), 40000, 80)
        behind = (bench.stack._ts_now(key, bench.now) - answer.options.tsval) & MASK32
        assert 0 <= behind < 128
    acked(bench, answer)
    conn = accepted(listener)
    assert conn.ts_now(bench.now) == bench.stack._ts_now(key, bench.now)


def test_cookie_to_ourselves_works_as_on_the_wire() -> None:
    bench, listener = listening()
    conn = bench.stack.connect((US, 80), bench.now)
    bench.settle()
    assert conn.state is State.ESTABLISHED
    assert accepted(listener).snd.mss == 8960


def test_passive_open_that_is_deferred_still_waits_for_text() -> None:
    bench = Bench(limits=ALWAYS)
    bench.meet()
    listener = bench.stack.listen(("", 80), config=TcpConfig(defer_accept=5 * SEC))
    answer = opened(bench)
    acked(bench, answer)
    assert listener.accept() is None
    acked(bench, answer, b"text")
    assert accepted(listener).read(10) == b"text"


# --- what is no cookie ----------------------------------------------------------------------------------------------


@pytest.mark.rfc(4987, "§3.6")
def test_cookie_is_good_for_a_minute_and_for_no_more_than_two() -> None:
    for late, good in ((59 * SEC, True), (2 * MINUTE, False)):
        bench, listener = listening()
        bench.now = 10 * MINUTE
        bench.meet()
        answer = opened(bench)
        bench.now += late
        bench.meet()
        acked(bench, answer)
        assert (listener.accept() is not None) is good
        if not good:
            (reset,) = bench.take_segments()
            assert (reset.flags, reset.seq) == (RST, answer.seq + 1 & MASK32)


def test_stale_cookie_is_refused_also_while_others_are_good() -> None:
    bench, listener = listening()
    bench.now = 10 * MINUTE
    bench.meet()
    answer = opened(bench)
    bench.now += 2 * MINUTE
    bench.meet()
    opened(bench, sport=50000)
    acked(bench, answer)
    assert listener.accept() is None
    assert bench.stack.stats.cookies_bad == 1


@pytest.mark.parametrize("off", [2, -7, 100, 1 << 23, 1 << 24, 1 << 31, -(1 << 24)])
def test_acknowledgment_of_another_number_is_reset_and_opens_nothing(off: int) -> None:
    bench, listener = listening()
    answer = opened(bench)
    bench.give(tcp_frame(ACK, FIRST, (answer.seq + 1 + off) & MASK32, options=echo(answer)))
    (reset,) = bench.take_segments()
    assert reset.flags == RST
    assert listener.accept() is None
    assert bench.stack.stats.cookies_bad == 1


@pytest.mark.parametrize("change", [{"sport": 40001}, {"src": "10.9.0.7"}, {"dport": 81}])
def test_cookie_of_another_flow_is_no_good(change: dict[str, Any]) -> None:
    bench, listener = listening()
    bench.meet("10.9.0.7")
    other = bench.stack.listen(("", 81))
    acked(bench, opened(bench), **change)
    assert listener.accept() is None
    assert other.accept() is None


def test_cookie_of_another_secret_is_no_good() -> None:
    key = flow_key(ipv4.pack(PEER), ipv4.pack(US), 40000, 80)
    syn = Segment(40000, 80, PEER_ISS, 0, SYN, 65535)
    ours, theirs = Cookies(bytes(16)), Cookies(b"x" * 16)
    numbers = []
    for cookies in (ours, theirs):
        head = cookies.synack(syn, key, TcpConfig(), mss=1460, flight=1 << 20, ts_now=0, now=SEC)
        numbers.append(tcp.parse(memoryview(bytes(head))).seq)
    third = Segment(40000, 80, FIRST, numbers[0] + 1, ACK, 65535)
    assert ours.opened_by(third, key, SEC) is not None
    assert theirs.opened_by(third, key, SEC) is None


def test_no_cookie_out_an_ack_is_not_looked_at() -> None:
    bench, listener = listening(Limits())
    bench.give(tcp_frame(ACK, FIRST, 12345))
    (reset,) = bench.take_segments()
    assert (reset.flags, reset.seq) == (RST, 12345)
    assert bench.stack.stats.cookies_bad == 0
    assert listener.accept() is None


@pytest.mark.parametrize("flags", [ACK | RST, ACK | SYN, RST, FIN])
def test_only_an_ack_shows_a_cookie(flags: int) -> None:
    bench, listener = listening()
    answer = opened(bench)
    bench.give(tcp_frame(flags, FIRST, answer.seq + 1, options=echo(answer)))
    assert listener.accept() is None
    assert not list(bench.stack.connections())


@pytest.mark.rfc(9293, "MUST-8")
def test_number_of_a_cookie_grows_with_the_peers_and_with_the_time() -> None:
    key = flow_key(ipv4.pack(PEER), ipv4.pack(US), 40000, 80)
    cookies = Cookies(bytes(16))

    def number(irs: int, minute: int) -> int:
        syn = Segment(40000, 80, irs, 0, SYN, 65535)
        head = cookies.synack(syn, key, TcpConfig(), mss=1460, flight=1 << 20, ts_now=0, now=minute * MINUTE)
        return tcp.parse(memoryview(bytes(head))).seq

    assert (number(1000, 1) - number(0, 1)) & MASK32 == 1000
    for minute in range(300):  # the count of eight bits comes round
        step = (number(0, minute + 2) - number(0, minute)) & MASK32
        assert 0 < step < 1 << 26


# --- when -----------------------------------------------------------------------------------------------------------


def flood(bench: Bench, count: int, src: str = "192.0.2.{}") -> None:
    """SYNs from addresses that never answer, and of which each is another."""
    for n in range(count):
        bench.give(tcp_frame(SYN, PEER_ISS + n, src=src.format(n % 250), sport=1024 + n, options=OPTIONS))
        bench.settle()
    bench.sink.frames.clear()


@pytest.mark.rfc(4987, "§3.6")
def test_backlog_full_cookies_take_over_and_a_client_opens_during_the_flood() -> None:
    bench = Bench(gateway=GATEWAY)
    bench.meet()
    bench.meet(GATEWAY)
    listener = bench.stack.listen(("", 80))
    flood(bench, 1000)
    assert len(listener.half_open) == 128
    assert len(list(bench.stack.connections())) == 128
    assert bench.stack.stats.cookies_out == 1000 - 128
    assert bench.drops() == {}
    acked(bench, opened(bench), b"in spite of all")
    assert accepted(listener).read(100) == b"in spite of all"


def test_backlog_full_without_cookies_everybody_is_locked_out() -> None:
    bench = Bench(gateway=GATEWAY, limits=Limits(syn_cookies=SynCookies.NEVER))
    bench.meet()
    bench.meet(GATEWAY)
    bench.stack.listen(("", 80))
    flood(bench, 200)
    bench.give(tcp_frame(SYN, options=OPTIONS))
    assert bench.take_segments() == []
    assert bench.drops() == {Drop.LISTEN_OVERFLOW: 73}


def test_larger_backlog_of_the_listener_holds_more_half_open_connections() -> None:
    bench = Bench(gateway=GATEWAY)
    bench.meet(GATEWAY)
    listener = bench.stack.listen(("", 80), backlog=500)
    flood(bench, 600)
    assert len(listener.half_open) == 500


def test_one_source_with_its_share_of_the_backlog_gets_cookies_and_others_do_not() -> None:
    bench = Bench(gateway=GATEWAY, limits=Limits(source_half_open=10))
    bench.meet()
    bench.meet(GATEWAY)
    listener = bench.stack.listen(("", 80))
    flood(bench, 50, src=FAR)
    assert len(listener.half_open) == 10
    assert bench.stack.stats.cookies_out == 40
    opened(bench)
    assert len(listener.half_open) == 11


def test_share_of_a_source_is_what_is_half_open_now() -> None:
    bench, listener = listening(Limits())
    for sport in (1, 2, 3):
        bench.give(tcp_frame(SYN, sport=sport))
    answers = bench.take_segments()
    assert listener.shares == {ipv4.pack(PEER): 3}
    bench.give(tcp_frame(ACK, FIRST, answers[0].seq + 1, sport=1))
    bench.give(tcp_frame(RST, FIRST, sport=2))
    assert listener.shares == {ipv4.pack(PEER): 1}
    listener.close()
    assert not listener.shares


@pure_only
def test_syn_costs_the_same_however_many_are_half_open() -> None:
    bench = Bench(gateway=GATEWAY)
    bench.meet(GATEWAY)
    listener = bench.stack.listen(("", 80), backlog=5000)
    syns = [tcp_frame(SYN, src=f"192.0.2.{n % 40 + 1}", sport=1000 + n) for n in range(2400)]

    def cost(first: int, last: int) -> int:
        meter = Bytecode()
        meter.start()
        for syn in syns[first:last]:
            bench.give(syn)
        meter.stop()
        bench.take()
        return meter.instructions

    few = cost(0, 100)
    for syn in syns[100:2300]:
        bench.give(syn)
    assert len(listener.half_open) > 2000
    assert cost(2300, 2400) < 1.1 * few


@pytest.mark.parametrize("policy", list(SynCookies))
def test_accept_queue_full_a_syn_is_dropped_whatever_the_cookies(policy: SynCookies) -> None:
    bench, listener = listening(Limits(syn_cookies=policy))
    listener.queue.extend([None] * 129)  # type: ignore[list-item]
    bench.give(tcp_frame(SYN, options=OPTIONS))
    assert bench.take_segments() == []
    assert bench.drops() == {Drop.LISTEN_OVERFLOW: 1}


def test_accept_queue_full_the_ack_of_a_cookie_is_ignored_until_there_is_room() -> None:
    bench, listener = listening()
    answer = opened(bench)
    listener.queue.extend([None] * 129)  # type: ignore[list-item]
    acked(bench, answer)
    assert bench.take_segments() == []
    assert not list(bench.stack.connections())
    assert bench.drops() == {Drop.LISTEN_OVERFLOW: 1}
    listener.queue.clear()
    acked(bench, answer, b"again, with text")
    assert accepted(listener).read(100) == b"again, with text"


def test_accept_queue_full_the_ack_is_ignored_and_the_syn_ack_repeated_until_there_is_room() -> None:
    """As on Linux with tcp_abort_on_overflow 0."""
    bench, listener = listening(Limits())
    answer = opened(bench)
    listener.queue.extend([None] * 129)  # type: ignore[list-item]
    acked(bench, answer)
    assert bench.take_segments() == []
    bench.advance(1500 * MS)
    (again,) = bench.take_segments()
    assert (again.flags, again.seq) == (SYN | ACK, answer.seq)
    listener.queue.clear()
    acked(bench, again)
    accepted(listener)


# --- limits ---------------------------------------------------------------------------------------------------------


def client(bench: Bench, sport: int, src: str = PEER) -> Segment | None:
    """A whole handshake; the SYN,ACK, None without one."""
    bench.give(tcp_frame(SYN, sport=sport, src=src, options=OPTIONS))
    answers = bench.take_segments()
    if not answers:
        return None
    acked(bench, answers[0], sport=sport, src=src)
    return answers[0]


@pytest.mark.parametrize("policy", list(SynCookies))
def test_source_with_all_its_connections_gets_no_more_until_one_is_closed(policy: SynCookies) -> None:
    bench, listener = listening(Limits(syn_cookies=policy, source_connections=3))
    bench.meet("10.9.0.7")
    assert all(client(bench, port) for port in (1001, 1002, 1003))
    assert client(bench, 1004) is None
    assert bench.drops() == {Drop.SOURCE_LIMIT: 1}
    assert client(bench, 1004, src="10.9.0.7") is not None
    accepted(listener).abort()
    bench.settle()
    bench.take()
    assert client(bench, 1005) is not None


def test_listener_with_all_its_connections_takes_no_more_and_another_does() -> None:
    bench, listener = listening(Limits(listener_connections=2))
    bench.stack.listen(("", 81))
    assert all(client(bench, port) for port in (1001, 1002))
    assert client(bench, 1003) is None
    assert bench.drops() == {Drop.LISTENER_LIMIT: 1}
    bench.give(tcp_frame(SYN, dport=81))
    assert len(bench.take_segments()) == 1
    accepted(listener).abort()
    bench.settle()
    bench.take()
    assert client(bench, 1004) is not None


def test_connections_that_ended_however_they_did_are_not_counted() -> None:
    bench, listener = listening(Limits())
    answer = client(bench, 1001)
    opened(bench, sport=1002)
    bench.give(tcp_frame(RST, FIRST, sport=1002))
    assert answer is not None
    accepted(listener).close()
    (fin,) = bench.take_segments()
    bench.give(tcp_frame(ACK | FIN, FIRST, fin.seq + 1, sport=1001, options=echo(answer)))
    bench.take()
    opened(bench, sport=1003)
    listener.close()
    bench.advance(3 * MINUTE)
    assert not list(bench.stack.connections())
    assert bench.stack._listening._opened == {}


# --- TIME-WAIT ------------------------------------------------------------------------------------------------------


def wait(bench: Bench, listener: Listener, sport: int) -> Connection:
    """A connection that we closed first."""
    answer = client(bench, sport)
    assert answer is not None
    conn = accepted(listener)
    conn.close()
    (fin,) = bench.take_segments()
    bench.give(tcp_frame(ACK | FIN, FIRST, fin.seq + 1, sport=sport, options=echo(answer)))
    bench.take()
    assert conn.state is State.TIME_WAIT
    return conn


def test_too_many_in_time_wait_the_one_that_waited_longest_leaves() -> None:
    bench, listener = listening(Limits(time_wait=3))
    conns = []
    for port in range(1001, 1006):
        conns.append(wait(bench, listener, port))
        bench.now += SEC
    assert [conn.state for conn in conns] == [State.CLOSED] * 2 + [State.TIME_WAIT] * 3
    assert len(list(bench.stack.connections())) == 3
    assert bench.stack.stats.time_waits_cut == 2
    bench.advance(3 * MINUTE)
    assert not list(bench.stack.connections())
    assert not bench.stack._time_wait
    assert bench.stack.stats.time_waits_cut == 2


def test_no_bound_on_time_wait_keeps_all() -> None:
    bench, listener = listening(Limits(time_wait=0))
    for port in range(1001, 1021):
        wait(bench, listener, port)
    assert len(list(bench.stack.connections())) == 20


def test_syn_that_replaces_a_time_wait_needs_no_place_in_a_full_backlog() -> None:
    """As on Linux: otherwise a client that comes back during a flood would meet its own past until 2 MSL are over."""
    bench = Bench(gateway=GATEWAY)
    bench.meet()
    bench.meet(GATEWAY)
    listener = bench.stack.listen(("", 80))
    wait(bench, listener, 1001)
    flood(bench, 300)
    assert listener.is_pressed()
    bench.give(tcp_frame(SYN, FIRST + 100, sport=1001, options=tcp.syn_options(1460, 7, True, (TSVAL + 9000, 0))))
    (answer,) = bench.take_segments()
    assert answer.flags == SYN | ACK
    assert bench.stack.stats.cookies_out == 300 - 128
