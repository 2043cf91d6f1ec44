"""Echo both ways, errors to the right connection, and what is left unanswered."""

import errno

import pytest

from tests.unit.net.bench import (
    FAR,
    GATEWAY,
    PEER,
    PEER_ISS,
    US,
    Bench,
    error_frame,
    ip_frame,
    tcp_frame,
)
from usertcp.net.egress import MAX_REPLIES
from usertcp.net.icmp import BURST, RATE
from usertcp.net.stats import Drop
from usertcp.tcp.state import State
from usertcp.units import MINUTE, MS, SEC
from usertcp.wire import icmp, ipv4
from usertcp.wire.ipv4 import pack
from usertcp.wire.tcp import ACK, RST, SYN


@pytest.fixture
def bench() -> Bench:
    made = Bench(gateway=GATEWAY)
    made.meet()
    made.meet(GATEWAY)
    return made


def own_packet(bench: Bench) -> bytes:
    """The last packet that was sent, as a router quotes it."""
    bench.settle()
    return bench.sink.frames[-1][0][14:]


def test_echo_request_is_answered_with_its_payload(bench: Bench) -> None:
    bench.give(ip_frame(icmp.echo(True, 7, 9, b"hello"), ipv4.ICMP))
    (packet,) = bench.take_packets()
    assert (packet.src, packet.dst) == (pack(US), pack(PEER))
    assert icmp.parse(packet.payload) == icmp.Echo(False, 7, 9, memoryview(b"hello"))


@pytest.mark.rfc(5961, "§7")
def test_who_pings_cannot_count_what_is_sent_to_others(bench: Bench) -> None:
    """A number that all packets share would tell him how many challenge ACKs his guesses at a connection have cost."""

    def pinged() -> int:
        bench.give(ip_frame(icmp.echo(True, 7, 9, b""), ipv4.ICMP, src=FAR))
        (packet,) = bench.take_packets()
        return packet.ident

    conn = bench.stack.connect((PEER, 80), bench.now)
    syn = bench.handshake(conn)
    bench.take()
    before = pinged()
    for offset in range(1, 20):
        bench.give(tcp_frame(RST, PEER_ISS + 1 + offset, sport=80, dport=syn.sport))
        assert len(bench.take_segments()) == 1
    assert conn.state is State.ESTABLISHED
    assert pinged() == before


@pytest.mark.rfc(1122, "§3.2.2.6")
def test_echo_request_to_broadcast_is_not_answered(bench: Bench) -> None:
    bench.give(ip_frame(icmp.echo(True, 7, 9, b"hello"), ipv4.ICMP, dst="10.9.0.255"))
    assert bench.take() == []
    assert bench.drops() == {Drop.NOT_UNICAST: 1}


@pytest.mark.rfc(9293, "MUST-54")
def test_port_unreachable_reaches_the_connection_it_quotes_alone(bench: Bench) -> None:
    other = bench.stack.connect((PEER, 81), bench.now)
    bench.settle()
    conn = bench.stack.connect((PEER, 80), bench.now)
    bench.give(error_frame(icmp.DESTINATION_UNREACHABLE, icmp.PORT_UNREACHABLE, own_packet(bench)))
    bench.settle()
    assert conn.state is State.CLOSED
    assert isinstance(conn.take_error(), ConnectionRefusedError)
    assert other.state is State.SYN_SENT


@pytest.mark.rfc(9293, "MUST-54")
def test_error_that_quotes_a_number_never_sent_is_ignored(bench: Bench) -> None:
    conn = bench.stack.connect((PEER, 80), bench.now)
    quoted = bytearray(own_packet(bench))
    quoted[24] ^= 0x10
    bench.give(error_frame(icmp.DESTINATION_UNREACHABLE, icmp.PORT_UNREACHABLE, bytes(quoted)))
    assert conn.state is State.SYN_SENT


@pytest.mark.rfc(5927, "§6")
@pytest.mark.rfc(9293, "MUST-55")
def test_source_quench_is_discarded(bench: Bench) -> None:
    conn = bench.stack.connect((PEER, 80), bench.now)
    cwnd = conn.snd.cc.cwnd
    bench.give(error_frame(icmp.SOURCE_QUENCH, 0, own_packet(bench)))
    assert conn.state is State.SYN_SENT
    assert conn.snd.cc.cwnd == cwnd
    assert conn.soft_error is None
    assert bench.drops() == {Drop.ICMP_IGNORED: 1}


@pytest.mark.rfc(9293, "MUST-56")
@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (icmp.DESTINATION_UNREACHABLE, icmp.NET_UNREACHABLE),
        (icmp.DESTINATION_UNREACHABLE, icmp.HOST_UNREACHABLE),
        (icmp.DESTINATION_UNREACHABLE, icmp.SOURCE_ROUTE_FAILED),
        (icmp.TIME_EXCEEDED, 0),
        (icmp.TIME_EXCEEDED, 1),
        (icmp.PARAMETER_PROBLEM, 0),
    ],
)
def test_soft_error_in_syn_sent_leaves_the_connection_and_tells_the_user(bench: Bench, kind: int, code: int) -> None:
    conn = bench.stack.connect((PEER, 80), bench.now)
    bench.give(error_frame(kind, code, own_packet(bench)))
    assert conn.state is State.SYN_SENT
    assert conn.soft_error is not None


def test_fragmentation_needed_in_flight_is_learned_for_the_destination(bench: Bench) -> None:
    conn = bench.stack.connect((FAR, 80), bench.now)
    bench.handshake(conn)
    bench.take()
    conn.write(bytes(1460))
    bench.give(error_frame(icmp.DESTINATION_UNREACHABLE, 4, own_packet(bench), mtu=1280, src=GATEWAY))
    bench.sink.frames.clear()
    assert len(bench.take_segments()[0].payload) == 1240
    bench.stack.connect((FAR, 81), bench.now)
    assert [seg.options.mss for seg in bench.take_segments()] == [1240]


def test_fragmentation_needed_with_a_made_up_number_changes_nothing(bench: Bench) -> None:
    conn = bench.stack.connect((FAR, 80), bench.now)
    bench.handshake(conn)
    bench.take()
    conn.write(bytes(1460))
    quoted = bytearray(own_packet(bench))
    quoted[24] ^= 0x80
    bench.give(error_frame(icmp.DESTINATION_UNREACHABLE, 4, bytes(quoted), mtu=600, src=GATEWAY))
    assert bench.stack._routes.mtu(pack(FAR), bench.now) == 1500
    assert bench.drops() == {Drop.ICMP_STRAY: 1}


def test_error_from_the_wire_about_a_connection_to_ourselves_is_stray(bench: Bench) -> None:
    conn = bench.stack.connect(("127.0.0.1", 80), bench.now, ("127.0.0.1", 5000))
    quoted = tcp_frame(SYN, conn.snd.iss, src="127.0.0.1", dst="127.0.0.1", sport=5000, dport=80)[14:]
    bench.give(error_frame(icmp.DESTINATION_UNREACHABLE, icmp.PORT_UNREACHABLE, quoted))
    assert conn.state is State.SYN_SENT
    assert bench.drops() == {Drop.ICMP_STRAY: 1}


def test_error_about_no_connection_of_ours_is_stray(bench: Bench) -> None:
    foreign = tcp_frame(SYN, src=US, dst=PEER, sport=1, dport=2)[14:]
    bench.give(error_frame(icmp.DESTINATION_UNREACHABLE, 1, foreign))
    udp = ip_frame(bytes(8), ipv4.UDP, src=US, dst=PEER)[14:]
    bench.give(error_frame(icmp.DESTINATION_UNREACHABLE, 3, udp))
    assert bench.drops() == {Drop.ICMP_STRAY: 2}


def test_datagrams_for_nobody_are_refused_at_a_bounded_rate(bench: Bench) -> None:
    frame = ip_frame(bytes(8), ipv4.UDP)
    for _ in range(BURST + 5):
        bench.give(frame)
    answers = bench.take_icmp()
    assert len(answers) == BURST
    first = answers[0]
    assert isinstance(first, icmp.ErrorMessage)
    assert (first.type, first.code, first.proto) == (3, icmp.PORT_UNREACHABLE, ipv4.UDP)
    assert bench.drops() == {Drop.UDP: BURST + 5, Drop.ICMP_LIMITED: 5}
    bench.now += SEC // RATE
    bench.give(frame)
    assert len(bench.take_icmp()) == 1


def test_unknown_protocol_is_refused(bench: Bench) -> None:
    bench.give(ip_frame(bytes(20), 47))
    (answer,) = bench.take_icmp()
    assert isinstance(answer, icmp.ErrorMessage)
    assert answer.code == icmp.PROTOCOL_UNREACHABLE
    assert bench.drops() == {Drop.UNKNOWN_PROTOCOL: 1}


# --- pinger -----------------------------------------------------------------------------------------------------------


def test_ping_answered_gives_a_reply_with_its_times(bench: Bench) -> None:
    pinger = bench.stack.pinger(PEER, ttl=9)
    sequence = pinger.send(bench.now, 100)
    (packet,) = bench.take_packets()
    request = icmp.parse(packet.payload)
    assert isinstance(request, icmp.Echo)
    assert (packet.ttl, request.request, len(request.payload)) == (9, True, 100)
    sent_at = bench.now
    bench.now += 5 * MS
    answer = ip_frame(icmp.echo(False, request.ident, request.sequence, request.payload), ipv4.ICMP, ttl=61)
    bench.give(answer)
    bench.give(answer)
    assert bench.stack.take_ready() == [pinger]
    assert list(pinger.replies) == [(sequence, 100, 61, sent_at, bench.now, PEER, None)]
    assert bench.drops() == {Drop.ICMP_STRAY: 1}  # the second one


def test_ping_time_exceeded_names_the_router(bench: Bench) -> None:
    pinger = bench.stack.pinger(FAR, ttl=1)
    pinger.send(bench.now)
    bench.give(error_frame(icmp.TIME_EXCEEDED, 0, own_packet(bench), src=GATEWAY))
    (reply,) = pinger.replies
    assert (reply.source, reply.error) == (GATEWAY, "time to live exceeded")


def test_ping_to_a_silent_neighbour_says_host_unreachable() -> None:
    bench = Bench()
    pinger = bench.stack.pinger(PEER)
    pinger.send(bench.now)
    pinger.send(bench.now)
    bench.advance(5 * SEC)
    assert [reply.error for reply in pinger.replies] == ["host unreachable"] * 2


def test_ping_to_ourselves_is_answered(bench: Bench) -> None:
    pinger = bench.stack.pinger("127.0.0.1")
    pinger.send(bench.now)
    bench.settle()
    (reply,) = pinger.replies
    assert (reply.source, reply.size, reply.error) == ("127.0.0.1", 56, None)


def test_closed_pingers_reply_is_stray(bench: Bench) -> None:
    pinger = bench.stack.pinger(PEER)
    pinger.send(bench.now)
    pinger.close()
    bench.give(ip_frame(icmp.echo(False, pinger.ident, 1, b""), ipv4.ICMP))
    assert not pinger.replies
    assert bench.drops() == {Drop.ICMP_STRAY: 1}


def test_ping_larger_than_the_path_raises(bench: Bench) -> None:
    with pytest.raises(OSError, match=f"Errno {errno.EMSGSIZE}"):
        bench.stack.pinger(PEER).send(bench.now, 1473)


def test_pings_beyond_the_backlog_raise(bench: Bench) -> None:
    pinger = bench.stack.pinger(PEER)
    bench.sink.room = 0
    for _ in range(MAX_REPLIES):
        pinger.send(bench.now)
    with pytest.raises(OSError, match=f"Errno {errno.ENOBUFS}"):
        pinger.send(bench.now)
    assert bench.drops() == {Drop.REPLY_OVERFLOW: 1}


@pytest.mark.parametrize("remote", ["224.0.0.1", "10.9.0.255", "0.0.0.0"])
def test_ping_to_no_hosts_address_is_refused(bench: Bench, remote: str) -> None:
    with pytest.raises(OSError, match=f"Errno {errno.ENETUNREACH}"):
        bench.stack.pinger(remote)


def test_established_connection_told_host_unreachable_goes_on(bench: Bench) -> None:
    bench.stack.listen((US, 80))
    bench.give(tcp_frame(SYN))
    (answer,) = bench.take_segments()
    bench.give(tcp_frame(ACK, PEER_ISS + 1, answer.seq + 1))
    (conn,) = bench.stack.connections()
    conn.write(b"x")
    bench.give(error_frame(icmp.DESTINATION_UNREACHABLE, icmp.HOST_UNREACHABLE, own_packet(bench)))
    assert conn.state is State.ESTABLISHED
    assert conn.soft_error is not None


@pytest.mark.rfc(9293, "SHLD-6")
def test_mss_of_the_next_connection_is_what_the_path_was_found_to_carry(bench: Bench) -> None:
    """For ten minutes; the other destinations' is the link's (RFC 1191 §6.3)."""
    conn = bench.stack.connect((FAR, 80), bench.now)
    assert bench.handshake(conn).options.mss == 1460
    bench.take()
    conn.write(bytes(1460))
    bench.give(error_frame(icmp.DESTINATION_UNREACHABLE, icmp.FRAGMENTATION_NEEDED, own_packet(bench), mtu=1280))
    bench.take()
    for remote, mss in ((FAR, 1240), (PEER, 1460)):
        bench.stack.connect((remote, 81), bench.now)
        (syn,) = [seg for seg in bench.take_segments() if seg.flags & SYN]
        assert syn.options.mss == mss
    bench.advance(10 * MINUTE)
    bench.stack.connect((FAR, 82), bench.now)
    assert [seg.options.mss for seg in bench.take_segments() if seg.flags & SYN][-1] == 1460


@pytest.mark.rfc(9293, "MUST-47")
@pytest.mark.rfc(9293, "MUST-54")
def test_soft_error_is_ready_to_be_taken_from_the_connection_it_quotes_and_no_other(bench: Bench) -> None:
    other = bench.stack.connect((PEER, 81), bench.now)
    bench.settle()
    conn = bench.stack.connect((PEER, 80), bench.now)
    quoted = own_packet(bench)
    bench.stack.take_ready()
    bench.give(error_frame(icmp.TIME_EXCEEDED, 0, quoted))
    assert bench.stack.take_ready() == [conn]
    assert conn.take_report() is not None
    assert other.take_report() is None
