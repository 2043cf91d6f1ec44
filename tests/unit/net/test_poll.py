"""Turns: fairness, a full sink, timers in a lazy heap, and packets that never leave the host."""

import random
from typing import Any

import pytest

from tests.unit.net.bench import PEER, PEER_ISS, US, Bench, tcp_frame
from usertcp.frame import PLAIN
from usertcp.net.egress import MAX_LOCAL
from usertcp.tcp.config import TcpConfig
from usertcp.tcp.connection import Connection
from usertcp.tcp.listener import Listener
from usertcp.tcp.state import READABLE, State
from usertcp.units import HOUR, MS, NEVER, SEC
from usertcp.wire.tcp import ACK, FIN, RST, SYN


def client(bench: Bench, port: int) -> Connection:
    conn = bench.stack.connect((PEER, port), bench.now)
    bench.handshake(conn)
    bench.take()
    assert conn.state is State.ESTABLISHED
    return conn


def test_idle_stack_polled_has_nothing_to_do() -> None:
    bench = Bench()
    assert bench.turn() is False
    assert bench.stack.next_deadline() == NEVER
    assert bench.stack.take_ready() == []


def test_budget_spent_says_more_and_serves_everybody_in_turn() -> None:
    bench = Bench()
    bench.meet()
    conns = [client(bench, port) for port in range(80, 90)]
    for conn in conns:
        conn.write(bytes(100))
    assert bench.stack.poll(bench.now, bench.sink, budget=4) is True
    assert len(bench.sink.frames) == 4
    assert bench.stack.poll(bench.now, bench.sink, budget=4) is True
    assert bench.stack.poll(bench.now, bench.sink, budget=4) is False
    assert [conn.snd.outstanding for conn in conns] == [100] * 10


def test_greedy_connection_does_not_starve_the_others() -> None:
    bench = Bench()
    bench.meet()
    config = TcpConfig(nodelay=True)
    greedy, modest = client(bench, 80), client(bench, 81)
    greedy.configure(nodelay=config.nodelay)
    greedy.max_burst = 1  # every segment is one call
    greedy.write(bytes(20_000))
    modest.write(b"x")
    bench.stack.poll(bench.now, bench.sink, budget=8)
    assert modest.snd.outstanding == 1


def test_full_sink_says_more_and_loses_nothing() -> None:
    bench = Bench()
    bench.meet()
    conns = [client(bench, port) for port in (80, 81, 82)]
    for conn in conns:
        conn.write(b"data")
    bench.sink.room = 1
    assert bench.turn() is True
    assert bench.stack.next_deadline() == 0
    bench.sink.room = 0
    assert bench.turn() is True
    bench.sink.room = None
    assert bench.turn() is False
    assert len(bench.sink.frames) == 3
    assert [conn.snd.retransmissions for conn in conns] == [0, 0, 0]


def test_full_sink_leaves_packets_to_ourselves_moving() -> None:
    bench = Bench()
    bench.meet()
    client(bench, 80).write(b"data")
    bench.sink.room = 0
    listener = bench.stack.listen(("127.0.0.1", 80))
    bench.stack.connect(("127.0.0.1", 80), bench.now)
    for _ in range(6):
        bench.turn()
    assert listener.accept() is not None


def test_replies_leave_before_what_connections_send() -> None:
    bench = Bench()
    bench.meet()
    conn = client(bench, 80)
    conn.write(b"data")
    bench.give(tcp_frame(SYN, dport=9))
    assert [seg.sport for seg in bench.take_segments()] == [9, conn.sport]


# --- the clock --------------------------------------------------------------------------------------------------------


def test_syn_unanswered_is_sent_again_at_the_deadline_and_not_before() -> None:
    bench = Bench()
    bench.meet()
    bench.stack.connect((PEER, 80), bench.now)
    assert len(bench.take_segments()) == 1
    deadline = bench.stack.next_deadline()
    assert deadline == bench.now + SEC
    bench.now = deadline - 1
    assert bench.take_segments() == []
    bench.now = deadline
    assert len(bench.take_segments()) == 1
    assert bench.stack.next_deadline() == deadline + 2 * SEC


def test_deadline_moved_later_is_looked_at_once_and_kept() -> None:
    bench = Bench()
    bench.meet()
    conn = client(bench, 80)
    conn.write(b"data")
    bench.settle()
    early = bench.stack.next_deadline()
    conn.configure(keepalive=True, keepalive_idle=HOUR)
    bench.give(tcp_frame(ACK, PEER_ISS + 1, conn.snd.nxt, sport=80, dport=conn.sport))
    bench.take()
    bench.now = early
    assert bench.take() == []
    assert bench.now + HOUR - SEC < bench.stack.next_deadline() <= bench.now + HOUR


def test_heap_of_deadlines_stays_small_however_often_they_move() -> None:
    bench = Bench()
    bench.meet()
    conn = client(bench, 80)
    conn.configure(keepalive=True)
    for n in range(2000):
        bench.give(tcp_frame(ACK, PEER_ISS + 1 + n, conn.snd.nxt, b"x", sport=80, dport=conn.sport))
        bench.settle()
        bench.now += 50 * MS
        bench.settle()
    assert len(bench.stack._heap) <= 70


def test_thousand_connections_fire_their_own_timers_only() -> None:
    bench = Bench()
    bench.meet()
    conns = []
    for n in range(1000):
        conns.append(bench.stack.connect((PEER, 1 + n), bench.now))
        bench.now += 1 * MS
        bench.settle()
    bench.sink.frames.clear()
    bench.now = bench.stack.next_deadline()
    assert bench.turn() is False
    assert len(bench.sink.frames) == 1
    for conn in conns:
        conn.abort()
    bench.settle()
    assert not list(bench.stack.connections())
    assert bench.stack.next_deadline() == NEVER


def test_many_timers_due_at_once_fire_over_several_turns() -> None:
    bench = Bench()
    bench.meet()
    for n in range(600):
        bench.stack.connect((PEER, 1 + n), bench.now)
    assert len(bench.take_segments()) == 600
    bench.now += SEC
    assert bench.turn(budget=1000) is True
    assert len(bench.take_segments()) == 600


# --- readiness and figures --------------------------------------------------------------------------------------------


def test_ready_items_are_told_once_in_order() -> None:
    bench = Bench()
    bench.meet()
    listener = bench.stack.listen((US, 80))
    bench.give(tcp_frame(SYN))
    (answer,) = bench.take_segments()
    bench.give(tcp_frame(ACK, PEER_ISS + 1, answer.seq + 1))
    bench.give(tcp_frame(ACK, PEER_ISS + 1, answer.seq + 1, b"data"))
    ready = bench.stack.take_ready()
    assert listener in ready
    assert len(ready) == len(set(ready))
    assert listener.ready & READABLE
    assert bench.stack.take_ready() == []


def test_snapshot_shows_listeners_and_connections() -> None:
    bench = Bench()
    bench.meet()
    bench.stack.listen(("", 8080))
    conn = client(bench, 80)
    conn.write(b"data")
    bench.now += 5
    listening, row = bench.stack.snapshot(bench.now)
    assert (listening["local"], listening["state"]) == (("0.0.0.0", 8080), "LISTEN")
    assert (row["local"], row["remote"], row["state"]) == ((US, conn.sport), (PEER, 80), "ESTABLISHED")
    assert (row["receive_queue"], row["send_queue"], row["retransmissions"]) == (0, 4, 0)
    assert row["age"] == 5


def test_closed_listener_takes_no_more() -> None:
    bench = Bench()
    bench.meet()
    listener = bench.stack.listen((US, 80))
    listener.close()
    listener.close()
    bench.give(tcp_frame(SYN))
    assert [seg.flags & ~ACK for seg in bench.take_segments()] == [4]
    bench.stack.listen((US, 80))


# --- to ourselves -----------------------------------------------------------------------------------------------------


def pair(bench: Bench, address: str) -> tuple[Connection, Connection, Listener]:
    listener = bench.stack.listen(("", 80))
    conn = bench.stack.connect((address, 80), bench.now)
    bench.settle()
    other = listener.accept()
    assert other is not None
    assert conn.state is other.state is State.ESTABLISHED
    return conn, other, listener


@pytest.mark.parametrize("address", ["127.0.0.1", "127.1.2.3", US])
def test_loopback_carries_a_megabyte_both_ways_and_sends_no_frame(address: str) -> None:
    bench = Bench()
    near, far, _ = pair(bench, address)
    text = random.Random(5).randbytes(1_000_000)
    for one, two in ((near, far), (far, near)):
        got = bytearray()
        sent = 0
        while len(got) < len(text):
            if sent < len(text) and one.writable:
                sent += one.write(text[sent:])
            bench.settle()
            if two.readable:
                got += two.read(1 << 20)
            else:
                bench.now = max(bench.now, bench.stack.next_deadline())
        assert got == text
    assert bench.sink.frames == []
    assert near.snd.retransmissions == 0


def test_loopback_addresses_are_those_that_were_asked_for() -> None:
    bench = Bench()
    near, far, _ = pair(bench, "127.1.2.3")
    assert near.flow.remote == far.flow.local == ("127.1.2.3", 80)
    assert near.flow.local[0] == far.flow.remote[0] == "127.0.0.1"


def test_loopback_queue_is_bounded() -> None:
    bench = Bench()
    near, far, _ = pair(bench, "127.0.0.1")
    near.configure(send_buffer=64 << 20)
    far.configure(receive_buffer=64 << 20)
    egress = bench.stack._egress
    egress.local_bytes = MAX_LOCAL + 1
    egress.local.append((b"", PLAIN))
    near.write(b"data")
    before = near.snd.nxt
    assert near.poll(bench.now, egress, 64) is True
    assert near.snd.nxt == before


def test_loopback_to_a_closed_port_is_refused() -> None:
    bench = Bench()
    conn = bench.stack.connect(("127.0.0.1", 9), bench.now)
    bench.settle()
    assert isinstance(conn.take_error(), ConnectionRefusedError)


def test_loopback_closes_on_both_sides() -> None:
    bench = Bench()
    near, far, listener = pair(bench, US)
    near.close()
    bench.settle()
    assert far.at_eof
    far.close()
    bench.settle()
    assert (near.state, far.state) == (State.TIME_WAIT, State.CLOSED)
    listener.close()
    bench.advance(2 * 60 * SEC)
    assert not list(bench.stack.connections())
    assert bench.stack.next_deadline() == NEVER


def test_connection_to_itself_opens() -> None:
    bench = Bench()
    conn = bench.stack.connect((US, 5000), bench.now, (US, 5000))
    bench.settle()
    assert conn.state is State.ESTABLISHED
    conn.write(b"echo")
    bench.settle()
    assert conn.read(100) == b"echo"


def test_ack_of_the_handshake_waits_for_company_while_its_user_goes_on() -> None:
    bench = Bench()
    bench.meet()
    other, conn = client(bench, 81), bench.stack.connect((PEER, 80), bench.now)
    bench.stack.company = conn
    bench.handshake(conn)
    other.write(b"of another")
    assert bench.turn() is True  # more is to be said
    assert [frame[-10:] for frame, _ in bench.sink.frames] == [b"of another"]
    assert bench.stack.next_deadline() == 0
    bench.sink.frames.clear()
    conn.write(b"a first request")
    (request,) = bench.take_segments()
    assert (request.ack, bytes(request.payload)) == (PEER_ISS + 1, b"a first request")


def test_ack_of_the_peers_fin_waits_for_our_own_while_its_user_goes_on() -> None:
    bench = Bench()
    bench.meet()
    conn = client(bench, 80)
    bench.stack.company = conn
    there: dict[str, Any] = {"sport": 80, "dport": conn.sport}
    bench.give(tcp_frame(ACK | FIN, PEER_ISS + 1, conn.snd.nxt, **there))
    assert bench.turn() is True
    assert not bench.sink.frames
    conn.close()
    (fin,) = bench.take_segments()
    assert (fin.flags, fin.ack) == (ACK | FIN, PEER_ISS + 2)


def test_ack_whose_company_does_not_come_leaves_as_soon_as_nobody_is_waited_for() -> None:
    bench = Bench()
    bench.meet()
    conn = bench.stack.connect((PEER, 80), bench.now)
    bench.stack.company = conn
    bench.handshake(conn)
    assert bench.turn() is True
    bench.stack.company = None
    (ack,) = bench.take_segments()
    assert (ack.flags, ack.ack, len(ack.payload)) == (ACK, PEER_ISS + 1, 0)


def test_reset_and_text_out_of_order_wait_for_nobody() -> None:
    bench = Bench()
    bench.meet()
    conn = client(bench, 80)
    bench.stack.company = conn
    there: dict[str, Any] = {"sport": 80, "dport": conn.sport}
    bench.give(tcp_frame(ACK, PEER_ISS + 100, conn.snd.nxt, payload=b"behind a gap", **there))
    (duplicate,) = bench.take_segments()
    assert duplicate.ack == PEER_ISS + 1
    conn.abort()
    (reset,) = bench.take_segments()
    assert reset.flags & RST
