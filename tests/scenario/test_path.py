"""What the path reports: RFC 9293 §3.9.2.2, RFC 5461, RFC 5927; a smaller MTU: RFC 1191."""

import errno

import pytest

from tests.support.script import ISS, Script, with_options
from tests.support.states import SYNCHRONIZED, reach
from usertcp.tcp.state import (
    FRAGMENTATION_NEEDED,
    SOFT,
    UNREACHABLE_HOST,
    UNREACHABLE_NET,
    UNREACHABLE_PORT,
    UNREACHABLE_PROTOCOL,
    State,
)
from usertcp.units import HOUR, MASK32, SEC

ALL = (UNREACHABLE_NET, UNREACHABLE_HOST, UNREACHABLE_PROTOCOL, UNREACHABLE_PORT, SOFT)
HARD = {UNREACHABLE_PROTOCOL: errno.ENOPROTOOPT, UNREACHABLE_PORT: errno.ECONNREFUSED}


def icmp(s: Script, kind: int, number: int, mtu: int = 0) -> None:
    """An ICMP error about our segment with the relative ``number``."""
    s.user.on_unreachable(kind, ISS + number & MASK32, mtu, s.now)
    s.poll()


@pytest.mark.rfc(9293, "MUST-56")
@pytest.mark.parametrize("kind", [UNREACHABLE_NET, UNREACHABLE_HOST, SOFT])
def test_syn_sent_soft_error_does_not_abort(kind: int) -> None:
    s = Script.opening()
    icmp(s, kind, 0)
    s.expect_state(State.SYN_SENT)
    s.peer("S. 0:0(0) ack 1 win 1000 <mss 1460>")
    s.expect_state(State.ESTABLISHED)
    assert s.user.error is None


@pytest.mark.rfc(9293, "SHLD-25")
@pytest.mark.rfc(9293, "MUST-22")
def test_syn_sent_soft_error_is_the_reason_when_nothing_else_comes() -> None:
    s = Script.opening()
    icmp(s, UNREACHABLE_NET, 0)
    s.advance(200 * SEC)
    s.expect_state(State.CLOSED)
    error = s.user.take_error()
    assert error is not None
    assert error.errno == errno.ENETUNREACH


@pytest.mark.rfc(9293, "SHLD-26")
@pytest.mark.parametrize(("kind", "number"), HARD.items())
def test_syn_sent_hard_error_aborts(kind: int, number: int) -> None:
    s = Script.opening()
    s.take()
    icmp(s, kind, 0)
    s.expect_nothing()
    s.expect_state(State.CLOSED)
    error = s.user.take_error()
    assert error is not None
    assert error.errno == number


@pytest.mark.parametrize("kind", ALL)
def test_syn_sent_as_linux_every_error_aborts_if_so_wished(kind: int) -> None:
    s = Script.opening(with_options(connect_fails_on_icmp=True))
    icmp(s, kind, 0)
    s.expect_state(State.CLOSED)


@pytest.mark.rfc(5927, "§5.2")
@pytest.mark.rfc(9293, "MUST-56")
@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("state", [State.SYN_RECEIVED, *SYNCHRONIZED])
def test_other_states_take_every_error_for_soft(state: State, kind: int) -> None:
    """RFC 5927 §5.2: hard errors too, or anybody who guesses a port could end a connection."""
    at = reach(state)
    icmp(at.s, kind, at.una)
    at.s.expect_nothing()
    at.s.expect_state(state)
    assert at.s.user.error is None


@pytest.mark.rfc(9293, "MUST-54")
@pytest.mark.rfc(5927, "§4")
@pytest.mark.parametrize("number", [-1, 101, 2**31])
def test_error_about_a_number_that_is_not_in_flight_is_ignored(number: int) -> None:
    s = Script.established()
    s.write(bytes(100))
    s.take()
    icmp(s, UNREACHABLE_HOST, number)
    icmp(s, FRAGMENTATION_NEEDED, number, 600)
    assert s.user.soft_error is None
    assert s.user.snd.mss == 1460
    icmp(s, UNREACHABLE_HOST, 100)
    assert s.user.soft_error is not None


@pytest.mark.rfc(5927, "§4")
def test_error_while_nothing_is_in_flight_is_ignored() -> None:
    s = Script.established()
    icmp(s, UNREACHABLE_HOST, 1)
    icmp(s, FRAGMENTATION_NEEDED, 1, 600)
    assert s.user.soft_error is None
    assert s.user.snd.mss == 1460


@pytest.mark.rfc(9293, "SHLD-25")
def test_established_soft_error_is_the_reason_of_a_time_out() -> None:
    s = Script.established()
    s.write(b"x")
    s.take()
    icmp(s, UNREACHABLE_HOST, 1)
    s.advance(HOUR)
    error = s.user.take_error()
    assert error is not None
    assert error.errno == errno.EHOSTUNREACH


def test_soft_error_is_forgotten_when_the_peer_is_heard_again() -> None:
    s = Script.established()
    s.write(b"x")
    icmp(s, UNREACHABLE_HOST, 1)
    s.peer(". 1:1(0) ack 2 win 1000")
    s.write(b"y")
    s.advance(HOUR)
    error = s.user.take_error()
    assert error is not None
    assert error.errno == errno.ETIMEDOUT


@pytest.mark.parametrize("state", [State.SYN_SENT, State.SYN_RECEIVED, State.ESTABLISHED, State.TIME_WAIT])
def test_next_hop_that_does_not_answer_ends_only_an_opening(state: State) -> None:
    s = reach(state).s
    s.user.on_path_failed(s.now)
    if state is State.SYN_SENT:
        s.expect_state(State.CLOSED)
        assert s.user.error is not None
        assert s.user.error.errno == errno.EHOSTUNREACH
    else:
        s.expect_state(state)


# --- a smaller MTU ----------------------------------------------------------------------------------------------------


@pytest.mark.rfc(7323, "§5.7")
@pytest.mark.rfc(1191, "§6.3")
@pytest.mark.rfc(9293, "MUST-16")
def test_fragmentation_needed_sends_again_at_once_in_smaller_segments() -> None:
    s = Script.established()
    s.write(bytes(4 * 1460))
    s.take()
    icmp(s, FRAGMENTATION_NEEDED, 1460 + 1, 1000)
    s.expect(
        *[f". {start}:{start + 960}(960)" for start in range(1, 1 + 6 * 960, 960)],
        "P. 5761:5841(80)",
    )
    assert s.user.snd.cc.cwnd == 10 * 960  # not taken for congestion (RFC 1191 §6.5): the initial window, anew
    s.peer(". 1:1(0) ack 5841 win 65535")
    s.write(bytes(2000))
    s.expect(". 5841:6801(960)", ". 6801:7761(960)", "P. 7761:7841(80)")


@pytest.mark.rfc(1191, "§6.3")
def test_fragmentation_needed_with_timestamps_leaves_room_for_them() -> None:
    s = Script.established(with_options(timestamps=True), options="mss 1460,sackOK,TS val 0 ecr 0")
    s.write(bytes(1448))
    s.take()
    icmp(s, FRAGMENTATION_NEEDED, 1, 1000)
    assert [len(seg.payload) for seg in s.take()] == [948, 500]
    assert s.user.snd.cc.mss == 948


@pytest.mark.rfc(5681, "§3.1 MTU")
def test_fragmentation_needed_leaves_a_grown_window_its_number_of_segments() -> None:
    s = Script.established()
    s.write(bytes(30 * 1460))
    for n in range(1, 11):
        s.peer(f". 1:1(0) ack {1 + n * 1460} win 65535")
    assert s.user.snd.cc.cwnd == 20 * 1460
    s.take()
    icmp(s, FRAGMENTATION_NEEDED, 1 + 10 * 1460, 1000)
    assert s.user.snd.cc.cwnd == 20 * 960
    assert len(s.take()) == 20


@pytest.mark.rfc(5927, "§7")
@pytest.mark.parametrize("mtu", [0, 68, 551])
def test_fragmentation_needed_claims_too_small_an_mtu_are_not_believed(mtu: int) -> None:
    s = Script.established()
    s.write(bytes(1460))
    icmp(s, FRAGMENTATION_NEEDED, 1, mtu)
    assert s.user.snd.mss == 552 - 40


@pytest.mark.parametrize("mtu", [1500, 1501, 9000])
def test_fragmentation_needed_that_enlarges_is_ignored(mtu: int) -> None:
    s = Script.established()
    s.write(bytes(1460))
    s.take()
    icmp(s, FRAGMENTATION_NEEDED, 1, mtu)
    s.expect_nothing()
    assert s.user.snd.mss == 1460


def test_path_mtu_learned_while_opening_holds_for_the_connection() -> None:
    s = Script.opening()
    s.user.set_path_mtu(1000, s.now)
    s.peer("S. 0:0(0) ack 1 win 65535 <mss 1460>")
    s.take()
    s.write(bytes(2000))
    s.expect(". 1:961(960)", ". 961:1921(960)", "P. 1921:2001(80)")
    assert s.user.snd.cc.mss == 960


def test_fragmentation_needed_while_data_is_lost_repairs_all() -> None:
    s = Script.established()
    s.write(bytes(8 * 1460))
    s.peer(*[". 1:1(0) ack 1 win 65535"] * 3)
    s.take()
    icmp(s, FRAGMENTATION_NEEDED, 1, 1000)
    acked = 1
    for _ in range(200):
        sent = s.take()
        if not sent and s.user.snd.outstanding == 0:
            break
        for seg in sent:
            start = seg.seq - ISS & MASK32
            assert len(seg.payload) <= 960
            acked = max(acked, start + len(seg.payload)) if start <= acked else acked
        s.peer(f". 1:1(0) ack {acked} win 65535")
    assert acked == 8 * 1460 + 1
