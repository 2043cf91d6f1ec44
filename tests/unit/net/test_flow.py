"""Who may hold which port: Linux's rules."""

import errno
import random
from typing import Any

import pytest

from tests.unit.net.bench import FAR, GATEWAY, PEER, PEER_ISS, US, Bench, tcp_frame
from usertcp.net.flow import Binding, Ports, flow_key
from usertcp.net.interface import LOOPBACK6
from usertcp.tcp.connection import Connection
from usertcp.tcp.state import State
from usertcp.units import MASK32, MS, SEC
from usertcp.wire import tcp
from usertcp.wire.ipv4 import ANY, pack
from usertcp.wire.tcp import ACK, FIN, RST, SYN

A = pack("10.9.0.2")
B = pack("10.9.0.3")


def ports(first: int = 32768, last: int = 60999) -> Ports:
    return Ports((first, last), random.Random(1).randbytes)


def error_of(number: int) -> str:
    return f"\\[Errno {number}\\]"


def test_flow_key_is_the_slice_of_the_peers_segment() -> None:
    frame = tcp_frame(SYN, sport=40000, dport=80)
    assert flow_key(pack(PEER), pack(US), 40000, 80) == frame[14 + 12 : 14 + 24]


@pytest.mark.parametrize(
    ("held", "wanted", "free"),
    [
        ((A, {}), (A, {}), False),
        ((A, {}), (B, {}), True),
        ((ANY, {}), (A, {}), False),
        ((A, {}), (ANY, {}), False),
        ((A, {"reuse_address": True}), (A, {"reuse_address": True}), True),
        ((A, {"reuse_address": True}), (A, {}), False),
        ((A, {}), (A, {"reuse_address": True}), False),
        ((A, {"reuse_port": True}), (A, {"reuse_port": True}), True),
        ((A, {"reuse_port": True}), (ANY, {"reuse_port": True}), True),
        ((A, {"reuse_port": True}), (A, {"reuse_address": True}), False),
        ((A, {"reuse_port": True, "user": 7}), (A, {"reuse_port": True, "user": 7}), True),
        ((A, {"reuse_port": True, "user": 7}), (A, {"reuse_port": True, "user": 8}), False),
        ((A, {"reuse_address": True, "user": 7}), (A, {"reuse_address": True, "user": 8}), True),
        ((ANY, {}), (LOOPBACK6, {}), True),
        ((LOOPBACK6, {}), (ANY, {}), True),
        ((LOOPBACK6, {}), (LOOPBACK6, {}), False),
        ((ANY, {"both": True}), (LOOPBACK6, {}), False),
        ((LOOPBACK6, {}), (ANY, {"both": True}), False),
        ((ANY, {"both": True}), (ANY, {}), False),
        ((A, {}), (ANY, {"both": True}), False),
    ],
)
def test_port_held_bound_again_conflicts_as_on_linux(
    held: tuple[bytes, dict[str, Any]], wanted: tuple[bytes, dict[str, Any]], free: bool
) -> None:
    table = ports()
    table.bind(held[0], 80, **held[1])
    if free:
        assert table.bind(wanted[0], 80, **wanted[1]).port == 80
    else:
        with pytest.raises(OSError, match=error_of(errno.EADDRINUSE)):
            table.bind(wanted[0], 80, **wanted[1])


@pytest.mark.rfc(9293, "MUST-41")
def test_listening_port_bound_with_reuse_address_conflicts() -> None:
    table = ports()
    table.listen(table.bind(A, 80, reuse_address=True))
    with pytest.raises(OSError, match=error_of(errno.EADDRINUSE)):
        table.bind(A, 80, reuse_address=True)


@pytest.mark.rfc(9293, "MUST-41")
def test_two_bound_by_reuse_address_only_one_may_listen() -> None:
    table = ports()
    first, second = (table.bind(A, 80, reuse_address=True) for _ in range(2))
    table.listen(first)
    with pytest.raises(OSError, match=error_of(errno.EADDRINUSE)):
        table.listen(second)


def test_two_bound_by_reuse_port_both_may_listen() -> None:
    table = ports()
    for binding in [table.bind(A, 80, reuse_port=True) for _ in range(2)]:
        table.listen(binding)


def test_binding_closed_twice_frees_the_port_once() -> None:
    table = ports()
    binding = table.bind(A, 80)
    binding.close()
    binding.close()
    again = table.bind(A, 80)
    assert again.local == ("10.9.0.2", 80)


@pytest.mark.parametrize("port", [-1, 65536])
def test_port_out_of_range_bound_raises(port: int) -> None:
    with pytest.raises(ValueError, match="port"):
        ports().bind(A, port)


@pytest.mark.parametrize("span", [(0, 10), (10, 9), (1, 65536)])
def test_ephemeral_range_that_cannot_be_raises(span: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="ephemeral"):
        Ports(span, random.Random(1).randbytes)


@pytest.mark.rfc(6056, "§3.3.1")
def test_port_zero_bound_until_all_are_held() -> None:
    table = ports(5000, 5009)
    assert sorted(table.bind(A, 0).port for _ in range(10)) == list(range(5000, 5010))
    with pytest.raises(OSError, match=error_of(errno.EADDRINUSE)):
        table.bind(A, 0)


@pytest.mark.rfc(6056, "§3.3.1")
def test_ephemeral_ports_do_not_come_in_order() -> None:
    table = ports()
    chosen = [table.choose(A, lambda port: False).port for _ in range(20)]
    assert len(set(chosen)) == 20
    assert sorted(chosen) != chosen


@pytest.mark.rfc(6056, "§3.3.1")
def test_one_ephemeral_port_serves_tuples_that_differ() -> None:
    table = ports(5000, 5000)
    kept: list[Binding] = [table.choose(A, lambda port: False) for _ in range(3)]
    assert {binding.port for binding in kept} == {5000}
    with pytest.raises(OSError, match=error_of(errno.EADDRNOTAVAIL)):
        table.choose(A, lambda port: True)
    with pytest.raises(OSError, match=error_of(errno.EADDRINUSE)):
        table.bind(A, 5000)
    for binding in kept:
        binding.close()
    table.bind(A, 5000)


def test_explicitly_bound_port_is_not_chosen_for_connections() -> None:
    table = ports(5000, 5001)
    table.bind(A, 5000)
    assert {table.choose(A, lambda port: False).port for _ in range(5)} == {5001}


# --- in the stack -----------------------------------------------------------------------------------------------------


@pytest.mark.rfc(9293, "MUST-41")
def test_listening_port_listened_on_again_is_in_use_and_the_first_unharmed() -> None:
    bench = Bench()
    bench.meet()
    listener = bench.stack.listen((US, 80))
    with pytest.raises(OSError, match=error_of(errno.EADDRINUSE)):
        bench.stack.listen((US, 80))
    bench.give(tcp_frame(SYN))
    assert [seg.flags for seg in bench.take_segments()] == [SYN | ACK]
    assert list(bench.stack.listeners()) == [listener]


@pytest.mark.rfc(9293, "MUST-42")
def test_port_in_syn_sent_listened_on_takes_a_third_hosts_syn() -> None:
    bench = Bench()
    bench.meet()
    binding = bench.stack.bind((US, 5000), reuse_address=True)
    conn = bench.stack.connect((PEER, 80), bench.now, binding)
    listener = bench.stack.listen(bench.stack.bind((US, 5000), reuse_address=True))
    bench.take()
    bench.meet("10.9.0.77")
    bench.give(tcp_frame(SYN, src="10.9.0.77", dport=5000))
    assert [seg.flags for seg in bench.take_segments()] == [SYN | ACK]
    assert conn.state is State.SYN_SENT
    assert len(listener.half_open) == 1


@pytest.mark.rfc(9293, "MUST-43")
def test_connect_from_second_address_sends_from_it() -> None:
    bench = Bench(addresses=("10.9.0.2/24", "10.9.0.3/24"))
    bench.meet()
    conn = bench.stack.connect((PEER, 80), bench.now, ("10.9.0.3", 0))
    (packet,) = bench.take_packets()
    assert packet.src == pack("10.9.0.3")
    assert conn.flow.local[0] == "10.9.0.3"


@pytest.mark.rfc(9293, "MUST-44")
def test_connect_without_address_sends_from_the_routes() -> None:
    bench = Bench(addresses=("10.8.0.2/24", "10.9.0.2/24"), gateway=GATEWAY)
    bench.meet(GATEWAY)
    conn = bench.stack.connect((FAR, 80), bench.now)
    (packet,) = bench.take_packets()
    assert packet.src == pack("10.9.0.2")
    assert conn.flow.local[0] == "10.9.0.2"


@pytest.mark.rfc(9293, "MUST-45")
def test_syn_to_second_address_is_answered_from_it() -> None:
    bench = Bench(addresses=("10.9.0.2/24", "10.9.0.3/24"))
    bench.meet()
    bench.stack.listen(("0.0.0.0", 80))
    bench.give(tcp_frame(SYN, dst="10.9.0.3"))
    assert [packet.src for packet in bench.take_packets()] == [pack("10.9.0.3")]


@pytest.mark.rfc(9293, "MUST-46")
@pytest.mark.parametrize("remote", ["255.255.255.255", "10.9.0.255", "224.0.0.1", "0.0.0.0", "240.1.1.1"])
def test_connect_to_no_hosts_address_is_refused_and_nothing_sent(remote: str) -> None:
    bench = Bench(gateway=GATEWAY)
    with pytest.raises(OSError, match=error_of(errno.ENETUNREACH)):
        bench.stack.connect((remote, 80), bench.now)
    assert bench.take() == []


def test_connect_without_route_is_refused() -> None:
    bench = Bench()
    with pytest.raises(OSError, match=error_of(errno.ENETUNREACH)):
        bench.stack.connect((FAR, 80), bench.now)


@pytest.mark.parametrize(
    ("remote", "local", "number"),
    [
        ((PEER, 0), None, errno.EADDRNOTAVAIL),
        ((PEER, 80), ("10.9.0.3", 0), errno.EADDRNOTAVAIL),
        ((PEER, 80), ("127.0.0.1", 0), errno.EINVAL),
        ((PEER, 80), (US, 4000), errno.EADDRINUSE),
    ],
)
def test_connect_that_cannot_be_raises(remote: tuple[str, int], local: tuple[str, int] | None, number: int) -> None:
    bench = Bench()
    bench.stack.bind((US, 4000))
    with pytest.raises(OSError, match=error_of(number)):
        bench.stack.connect(remote, bench.now, local)


def test_connect_with_unknown_congestion_control_gives_the_port_back() -> None:
    bench = Bench()
    config = bench.stack.config.tcp.__class__(congestion="nonesuch")
    for _ in range(2):
        with pytest.raises(OSError, match=error_of(errno.ENOENT)):
            bench.stack.connect((PEER, 80), bench.now, (US, 5000), config)
    assert not list(bench.stack.connections())


def test_same_four_tuple_connected_twice_is_refused() -> None:
    bench = Bench()
    bench.meet()
    first = bench.stack.bind((US, 5000), reuse_address=True)
    second = bench.stack.bind((US, 5000), reuse_address=True)
    bench.stack.connect((PEER, 80), bench.now, first)
    with pytest.raises(OSError, match=error_of(errno.EADDRNOTAVAIL)):
        bench.stack.connect((PEER, 80), bench.now, second)
    bench.stack.connect((PEER, 81), bench.now, second)


def test_refused_connection_gives_its_port_back() -> None:
    bench = Bench()
    bench.meet()
    conn = bench.stack.connect((PEER, 80), bench.now, (US, 5000))
    (syn,) = bench.take_segments()
    bench.give(tcp_frame(RST | ACK, 0, syn.seq + 1, sport=80, dport=5000))
    bench.settle()
    assert isinstance(conn.take_error(), ConnectionRefusedError)
    bench.stack.bind((US, 5000)).close()


@pytest.mark.rfc(9293, "MUST-13")
def test_time_wait_holds_the_port_for_two_msl() -> None:
    bench = Bench()
    bench.meet()
    conn = bench.stack.connect((PEER, 80), bench.now, bench.stack.bind((US, 5000), reuse_address=True))
    syn = bench.handshake(conn)
    conn.close()
    fin = bench.take_segments()[-1]
    assert fin.flags & FIN
    bench.give(tcp_frame(FIN | ACK, PEER_ISS + 1, syn.seq + 2, sport=80, dport=5000))
    bench.settle()
    assert conn.state is State.TIME_WAIT
    with pytest.raises(OSError, match=error_of(errno.EADDRINUSE)):
        bench.stack.bind((US, 5000))
    bench.stack.bind((US, 5000), reuse_address=True).close()
    bench.advance(60 * SEC + 1)
    assert not list(bench.stack.connections())
    bench.stack.bind((US, 5000)).close()


def in_time_wait(bench: Bench, *, stamped: bool, close: bool = True) -> Connection:
    """A connection from the only ephemeral port, which the peer closed after us."""
    conn = bench.stack.connect((PEER, 80), bench.now)
    (syn,) = bench.take_segments()
    options = tcp.syn_options(1460, -1, False, (1, syn.options.tsval) if stamped else None)
    ends: dict[str, Any] = {"sport": 80, "dport": 40000}
    bench.give(tcp_frame(SYN | ACK, PEER_ISS, syn.seq + 1, options=options, **ends))
    if close:
        conn.close()
    else:
        conn.shutdown_write()
    bench.settle()
    stamps = tcp.timestamps(2, conn.ts_now(bench.now)) if stamped else b""
    bench.give(tcp_frame(FIN | ACK, PEER_ISS + 1, syn.seq + 2, options=stamps, **ends))
    bench.take()
    assert conn.state is State.TIME_WAIT
    return conn


@pytest.mark.rfc(7323, "§B.2")
def test_connect_takes_the_place_of_a_time_wait_of_more_than_a_second() -> None:
    bench = Bench(ephemeral=(40000, 40000))
    bench.meet()
    old = in_time_wait(bench, stamped=True)
    bench.advance(SEC)
    with pytest.raises(OSError, match=error_of(errno.EADDRNOTAVAIL)):
        bench.stack.connect((PEER, 80), bench.now)
    bench.advance(MS)
    new = bench.stack.connect((PEER, 80), bench.now)
    assert list(bench.stack.connections()) == [new]
    assert old.state is State.CLOSED
    (syn,) = bench.take_segments()
    assert syn.flags == SYN
    assert 0 < (new.snd.iss - old.snd.nxt) & MASK32 < 1 << 31
    assert new.flow.local == (US, 40000)


@pytest.mark.rfc(7323, "§B.2")
@pytest.mark.parametrize(("stamped", "close"), [(False, True), (True, False)])
def test_connect_leaves_a_time_wait_without_timestamps_or_with_a_user(stamped: bool, close: bool) -> None:
    bench = Bench(ephemeral=(40000, 40000))
    bench.meet()
    in_time_wait(bench, stamped=stamped, close=close)
    bench.advance(10 * SEC)
    with pytest.raises(OSError, match=error_of(errno.EADDRNOTAVAIL)):
        bench.stack.connect((PEER, 80), bench.now)


def test_listener_closed_its_connection_keeps_the_port_until_gone() -> None:
    bench = Bench()
    bench.meet()
    listener = bench.stack.listen((US, 80))
    bench.give(tcp_frame(SYN))
    (answer,) = bench.take_segments()
    bench.give(tcp_frame(ACK, PEER_ISS + 1, answer.seq + 1))
    conn = listener.accept()
    assert conn is not None
    listener.close()
    assert list(bench.stack.listeners()) == []
    with pytest.raises(OSError, match=error_of(errno.EADDRINUSE)):
        bench.stack.listen((US, 80))
    conn.abort()
    bench.settle()
    bench.stack.listen((US, 80))


def test_listeners_by_reuse_port_share_the_flows() -> None:
    bench = Bench()
    bench.meet()
    listeners = [bench.stack.listen(bench.stack.bind(("", 80), reuse_port=True)) for _ in range(2)]
    for port in range(40000, 40064):
        bench.give(tcp_frame(SYN, sport=port))
    shares = [len(listener.half_open) for listener in listeners]
    assert sum(shares) == 64
    assert min(shares) >= 10
    listeners[0].close()
    bench.give(tcp_frame(SYN, sport=50000))
    assert len(listeners[1].half_open) == shares[1] + 1


def test_listener_at_an_address_goes_before_the_wildcard() -> None:
    bench = Bench(addresses=("10.9.0.2/24", "10.9.0.3/24"))
    bench.meet()
    exact = bench.stack.listen(bench.stack.bind(("10.9.0.3", 80), reuse_port=True))
    wild = bench.stack.listen(bench.stack.bind(("", 80), reuse_port=True))
    bench.give(tcp_frame(SYN, dst="10.9.0.3"))
    bench.give(tcp_frame(SYN, dst="10.9.0.2"))
    assert [len(exact.half_open), len(wild.half_open)] == [1, 1]


def test_port_that_is_not_ours_bound_or_listened_on_is_not_available() -> None:
    stack = Bench(ports=(61000, 61009), ephemeral=(61000, 61009)).stack
    assert stack.listen(("", 61009)).local[1] == 61009
    assert 61000 <= stack.bind(("", 0)).local[1] <= 61009
    for port in (80, 60999, 61010):
        with pytest.raises(OSError, match=error_of(errno.EADDRNOTAVAIL)):
            stack.listen(("", port))


@pytest.mark.parametrize("address", ["10.9.0.3", "8.8.8.8"])
def test_foreign_address_bound_is_not_available(address: str) -> None:
    with pytest.raises(OSError, match=error_of(errno.EADDRNOTAVAIL)):
        Bench().stack.bind((address, 80))
