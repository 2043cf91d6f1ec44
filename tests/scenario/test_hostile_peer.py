"""A peer that breaks the rules, or bends them: bounded work and memory, and the stream stays what it was."""

import pytest

from tests.support.script import Script, with_options
from usertcp.tcp import timers as timer
from usertcp.tcp.config import TcpConfig
from usertcp.tcp.receiver import MAX_RANGES, MIN_RANGES, RANGE_SHARE
from usertcp.tcp.recovery import RECOVERY
from usertcp.tcp.state import State
from usertcp.units import HOUR, KIB, MIB, MS


def test_window_closed_and_opened_over_tiny_segments_is_resent_in_bursts() -> None:
    """A megabyte in segments of 48 bytes, all of it refused: no work for each segment of them."""
    s = Script.established(TcpConfig(send_buffer=MIB), options="mss 48,sackOK,TS val 0 ecr 0,nop,wscale 14", win=1)
    s.peer(". 1:1(0) ack 1 win 1024" + s.echo())
    s.user.snd.cc.cwnd = 2 * MIB
    s.write(bytes(MIB))
    s.peer(". 1:1(0) ack 1 win 0" + s.echo())
    s.advance_to_next_deadline()
    s.take()
    before = s.bursts
    s.peer(". 1:1(0) ack 1 win 1024" + s.echo())
    while s.poll():
        pass
    assert sum(len(seg.payload) for seg in s.take()) == s.user.snd.outstanding
    assert s.user.snd.outstanding > MIB - 64 * KIB  # the tail waits for company
    assert s.bursts - before < 40
    assert len(s.user.snd.board) < 40


def test_window_closed_and_opened_again_and_again_repeats_nothing() -> None:
    """Between two ACKs nothing was refused: what is in flight is still there."""
    s = Script.established(win=65535)
    s.write(bytes(10 * 1460))
    s.take()
    for _ in range(40):
        s.peer(". 1:1(0) ack 1 win 0")
        s.peer(". 1:1(0) ack 1 win 65535")
    s.expect_nothing()
    assert s.user.snd.retransmissions == 0


@pytest.mark.rfc(6582, "§3.2")
def test_many_losses_only_the_first_partial_ack_restarts_the_timer() -> None:
    """RFC 6582 §3.2 step 3: otherwise each loss takes a round trip, however many there are."""
    s = Script.established()
    s.write(bytes(10 * 1460))
    s.now += 50 * MS
    for _ in range(3):
        s.peer(". 1:1(0) ack 1 win 65535")
    assert s.user.snd.phase == RECOVERY
    s.peer(". 1:1(0) ack 1461 win 65535")
    first = s.user.timers.at(timer.RETRANSMIT)
    s.now += 50 * MS
    s.peer(". 1:1(0) ack 2921 win 65535")
    assert s.user.timers.at(timer.RETRANSMIT) == first
    assert s.user.snd.phase == RECOVERY


def test_crumbs_the_gaps_are_bounded_and_the_stream_arrives() -> None:
    """Every second byte of the window, one by one; then the whole of it."""
    s = Script.established(with_options(receive_buffer=64 * KIB))
    for at in range(2, 2002, 2):
        s.peer(f". {at}:{at + 1}(1) ack 1 win 1000")
    limit = max(MIN_RANGES, 64 * KIB // RANGE_SHARE)
    assert len(s.user.rcv.buffer.arrived) == limit
    s.peer(". 1:1461(1460) ack 1 win 1000", payload=b"x" * 1460)
    assert len(s.read()) == 1460


def test_crumbs_in_a_large_buffer_are_bounded_too() -> None:
    s = Script.established(with_options(receive_buffer=8 * MIB))
    rcv = s.user.rcv
    for at in range(2, 4 * MAX_RANGES, 2):
        rcv.take(rcv.nxt + at, memoryview(b"x"), 1)
    assert len(rcv.buffer.arrived) == MAX_RANGES


def test_text_behind_a_fin_is_not_of_the_stream() -> None:
    s = Script.established()
    s.peer("F. 51:51(0) ack 1 win 1000")
    s.peer("P. 1:101(100) ack 1 win 1000", payload=b"a" * 50 + b"b" * 50)
    assert s.read() == b"a" * 50
    assert s.user.at_eof
    s.expect_state(State.CLOSE_WAIT)


def test_fin_with_text_behind_it_is_none() -> None:
    s = Script.established()
    s.peer("P. 51:101(50) ack 1 win 1000")
    s.peer("F. 60:60(0) ack 1 win 1000")
    s.peer("P. 1:51(50) ack 1 win 1000")
    assert len(s.read()) == 100
    assert not s.user.at_eof
    s.expect_state(State.ESTABLISHED)


def test_buffer_of_one_byte_is_announced_once_for_each_byte_read() -> None:
    s = Script.established(with_options(receive_buffer=1))
    s.peer("P. 1:2(1) ack 1 win 1000")
    s.take()
    assert s.read() == b"\0"
    s.expect(". 1:1(0) ack 2 win 1")
    s.expect_nothing()


@pytest.mark.parametrize("name", ["receive_buffer", "send_buffer"])
def test_buffer_of_nothing_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        with_options(**{name: 0})


def test_closed_user_peer_with_a_closed_window_is_given_up() -> None:
    """RFC 6429 §3: MUST-37 binds as long as somebody wants the connection."""
    s = Script.established()
    s.write(bytes(1000))
    s.peer(". 1:1(0) ack 1 win 0")
    s.user.close()
    until = s.now + HOUR
    while s.now < until and s.state is not State.CLOSED:
        s.advance_to_next_deadline()
        s.peer(". 1:1(0) ack 1 win 0")
    s.expect_state(State.CLOSED)
    assert "R" in s.render(s.sent[-1])
