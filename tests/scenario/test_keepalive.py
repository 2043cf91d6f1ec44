"""Keep-alives: RFC 9293 §3.8.4."""

import errno
from typing import Any

import pytest

from tests.support.script import PLAIN, Script, with_options
from tests.support.states import reach
from usertcp.tcp.config import TcpConfig
from usertcp.tcp.state import State
from usertcp.units import HOUR, MS, NEVER, SEC


def alive(idle: int = 10 * SEC, interval: int = 2 * SEC, count: int = 3, **changes: Any) -> Script:
    config = with_options(
        keepalive=True, keepalive_idle=idle, keepalive_interval=interval, keepalive_count=count, **changes
    )
    return Script.established(config)


@pytest.mark.rfc(9293, "MUST-25")
def test_by_default_an_idle_connection_is_silent_for_a_day() -> None:
    s = Script.established()
    assert not TcpConfig().keepalive
    s.advance(24 * HOUR)
    s.expect_nothing()
    assert s.user.next_deadline() == NEVER


@pytest.mark.rfc(9293, "MUST-28")
def test_switched_on_alone_the_first_probe_comes_after_two_hours() -> None:
    s = Script.established(with_options(keepalive=True))
    s.advance(2 * HOUR - 1)
    s.expect_nothing()
    s.advance(1)
    s.expect(". 0:0(0) ack 1")


@pytest.mark.rfc(9293, "MAY-5")
@pytest.mark.rfc(9293, "MUST-27")
@pytest.mark.rfc(9293, "SHLD-12")
@pytest.mark.parametrize(("idle", "interval"), [(10 * SEC, 2 * SEC), (1 * SEC, 75 * SEC), (1500 * MS, 250 * MS)])
def test_probes_come_when_they_were_asked_for(idle: int, interval: int) -> None:
    """Without text, and one before the next number, so that the peer answers."""
    s = alive(idle, interval)
    gaps = [s.advance_to_next_deadline() for _ in range(3)]
    assert gaps == [idle, interval, interval]
    s.expect(*[". 0:0(0) ack 1"] * 3)


@pytest.mark.rfc(9293, "MUST-29")
def test_all_probes_unanswered_ends_the_connection() -> None:
    s = alive(count=3)
    s.advance(10 * SEC + 3 * 2 * SEC - 1)
    s.expect(*[". 0:0(0) ack 1"] * 3)
    s.expect_state(State.ESTABLISHED)
    s.advance(1)
    s.expect("R. 1:1(0)")
    s.expect_state(State.CLOSED)
    assert s.user.error is not None
    assert s.user.error.errno == errno.ETIMEDOUT


@pytest.mark.rfc(9293, "MUST-29")
def test_last_probe_answered_keeps_the_connection_and_the_count_begins_anew() -> None:
    s = alive(count=3)
    for _ in range(5):
        s.advance(10 * SEC + 2 * 2 * SEC)
        s.expect(*[". 0:0(0) ack 1"] * 3)
        s.peer(". 1:1(0) ack 1 win 65535")
    s.expect_state(State.ESTABLISHED)


@pytest.mark.rfc(9293, "MUST-26")
@pytest.mark.parametrize("line", [". 1:1(0) ack 1 win 65535", "P. 1:2(1) ack 1 win 65535", ". 0:0(0) ack 1 win 65535"])
@pytest.mark.parametrize(("idle", "interval"), [(10 * SEC, 2 * SEC), (10 * SEC, 75 * SEC)])
def test_anything_that_arrives_restarts_the_interval(line: str, idle: int, interval: int) -> None:
    s = alive(idle, interval)
    s.advance(6 * SEC)
    s.peer(line)
    s.advance(PLAIN.delayed_ack)
    s.take()
    s.advance(idle - PLAIN.delayed_ack - 1)
    s.expect_nothing()
    s.advance(1)
    (probe,) = s.take()
    assert not probe.payload


@pytest.mark.rfc(9293, "MUST-26")
def test_unacknowledged_data_is_sent_again_and_no_probe_beside_it() -> None:
    s = alive(count=2)
    s.advance(9 * SEC)
    s.write(b"hello")
    s.advance(60 * SEC)
    sent = s.take()
    assert all(len(seg.payload) == 5 for seg in sent)
    s.peer(". 1:1(0) ack 6 win 65535")
    s.take()
    s.advance(10 * SEC)
    s.expect(". 5:5(0) ack 1")


@pytest.mark.rfc(9293, "MUST-26")
def test_data_before_a_closed_window_is_probed_by_that_alone() -> None:
    s = Script.established(with_options(keepalive=True, keepalive_idle=10 * SEC, keepalive_interval=SEC), win=0)
    s.write(b"hello")
    for _ in range(20):
        s.advance_to_next_deadline()
        for seg in s.take():
            assert len(seg.payload) == 1
            s.peer(". 1:1(0) ack 1 win 0")
    s.expect_state(State.ESTABLISHED)


@pytest.mark.rfc(9293, "MUST-24")
def test_switched_on_and_off_on_the_living_connection() -> None:
    s = Script.established()
    s.advance(30 * SEC)
    s.user.configure(keepalive=True, keepalive_idle=60 * SEC)
    s.advance(30 * SEC - 1)
    s.expect_nothing()
    s.advance(1)
    s.expect(". 0:0(0) ack 1")
    s.user.configure(keepalive=False)
    s.advance(HOUR)
    s.expect_nothing()
    s.expect_state(State.ESTABLISHED)


@pytest.mark.rfc(9293, "MUST-27")
def test_idle_time_changed_on_the_living_connection_counts_from_the_last_arrival() -> None:
    s = alive(idle=HOUR)
    s.advance(30 * SEC)
    s.user.configure(keepalive_idle=40 * SEC)
    assert s.advance_to_next_deadline() == 10 * SEC
    s.expect(". 0:0(0) ack 1")


@pytest.mark.parametrize("state", [State.CLOSE_WAIT, State.FIN_WAIT_2])
def test_half_closed_connection_is_probed_too(state: State) -> None:
    at = reach(state, with_options(keepalive=True, keepalive_idle=10 * SEC))
    at.s.advance(10 * SEC)
    at.s.expect(f". {at.snd - 1}:{at.snd - 1}(0) ack {at.rcv}")


def test_time_wait_is_not_probed() -> None:
    s = reach(State.TIME_WAIT, with_options(keepalive=True, keepalive_idle=10 * SEC)).s
    s.advance(11 * SEC)
    s.user.configure(keepalive_idle=1 * SEC)
    s.advance(11 * SEC)
    s.expect_nothing()


def test_peer_that_lost_its_state_answers_a_probe_with_a_reset() -> None:
    s = alive()
    s.advance(10 * SEC)
    s.take()
    s.peer("R 1:1(0)")
    s.expect_state(State.CLOSED)
    assert s.user.error is not None
    assert s.user.error.errno == errno.ECONNRESET


def test_user_timeout_bounds_the_probing() -> None:
    """As on Linux: the user timeout takes the place of the count."""
    s = alive(idle=10 * SEC, interval=1 * SEC, count=9, user_timeout=12 * SEC)
    s.advance(12 * SEC - 1)
    s.expect_state(State.ESTABLISHED)
    s.advance(1)
    s.expect_state(State.CLOSED)


def test_probe_refused_by_the_sink_leaves_later() -> None:
    s = alive()
    s.sink_full = True
    s.advance(10 * SEC)
    s.sink_full = False
    s.expect(". 0:0(0) ack 1")
