"""What the settings behind Linux's socket options do: TCP_CORK, TCP_QUICKACK, TCP_DEFER_ACCEPT, TCP_SYNCNT,
TCP_LINGER2, TCP_NOTSENT_LOWAT and TCP_WINDOW_CLAMP."""

import errno
from collections.abc import Callable

import pytest

from tests.support.script import Script, with_options
from usertcp.tcp.connection import Connection
from usertcp.tcp.state import WRITABLE, State
from usertcp.units import MS, SEC

MSS = 1460


@pytest.mark.rfc(9293, "MAY-16")
@pytest.mark.rfc(9293, "MUST-60")
def test_cork_small_segment_waits_until_it_is_full_or_200_ms() -> None:
    s = Script.established(with_options(cork=True, nodelay=True))
    s.write(b"head")
    s.expect_nothing()
    s.write(bytes(MSS))
    s.expect(f". 1:{1 + MSS}({MSS})")
    s.peer(f". 1:1(0) ack {1 + MSS} win 65535")
    s.advance(199 * MS)
    s.expect_nothing()
    s.advance(1 * MS)
    s.expect(f"P. {1 + MSS}:{5 + MSS}(4)")


@pytest.mark.parametrize("end", [lambda conn: conn.configure(cork=False), Connection.shutdown_write])
def test_cork_pulled_or_fin_queued_lets_the_rest_go(end: Callable[[Connection], None]) -> None:
    s = Script.established(with_options(cork=True))
    s.write(b"abcd")
    s.expect_nothing()
    end(s.user)
    s.poll()
    (sent,) = s.take()
    assert bytes(sent.payload) == b"abcd"


def test_quickack_acknowledges_what_waits_and_what_comes_next() -> None:
    s = Script.established()
    s.peer("P. 1:11(10) ack 1 win 1000")
    s.expect_nothing()
    s.user.configure(quick_acks=1)
    s.expect(". 1:1(0) ack 11")
    s.peer("P. 11:21(10) ack 1 win 1000")
    s.expect(". 1:1(0) ack 21")
    s.peer("P. 21:31(10) ack 1 win 1000")
    s.expect_nothing()


def test_quickack_off_delays_from_the_first_segment_on() -> None:
    s = Script.established(with_options(quick_acks=0), quick=True)
    s.peer("P. 1:11(10) ack 1 win 1000")
    s.expect_nothing()


def test_defer_accept_bare_ack_is_not_enough_and_text_is() -> None:
    s = Script.listening("S 0:0(0) win 1000 <mss 1460>", with_options(defer_accept=3 * SEC))
    s.take()
    s.peer(". 1:1(0) ack 1 win 1000")
    s.expect_state(State.SYN_RECEIVED)
    s.advance(2 * SEC)
    s.expect_nothing()
    s.peer("P. 1:4(3) ack 1 win 1000")
    s.expect_state(State.ESTABLISHED)
    assert s.read() == bytes(3)


def test_defer_accept_after_its_time_asks_again_and_takes_the_bare_ack() -> None:
    s = Script.listening("S 0:0(0) win 1000 <mss 1460>", with_options(defer_accept=3 * SEC))
    s.take()
    s.peer(". 1:1(0) ack 1 win 1000")
    s.advance(3 * SEC)
    s.expect("S. 0:0(0) ack 1 win 65535 <mss 1460>")
    s.peer(". 1:1(0) ack 1 win 1000")
    s.expect_state(State.ESTABLISHED)


def test_syncnt_ends_an_active_open_after_so_many_retransmissions() -> None:
    s = Script.opening(with_options(syn_retries=2))
    start = s.now
    s.advance(7 * SEC)
    assert [(at - start) // SEC for at in s.sent_at] == [0, 1, 3]
    s.expect_state(State.CLOSED)
    error = s.user.take_error()
    assert error is not None
    assert error.errno == errno.ETIMEDOUT


def test_linger2_of_zero_does_not_wait_for_the_peers_fin() -> None:
    s = Script.established(with_options(fin_wait_2_timeout=0))
    s.user.close()
    s.expect("F. 1:1(0) ack 1")
    s.peer(". 1:1(0) ack 2 win 1000")
    s.advance(0)
    s.expect_state(State.CLOSED)


def test_notsent_lowat_turns_the_user_away_while_that_much_is_unsent() -> None:
    s = Script.established(with_options(notsent_lowat=2 * MSS), win=4 * MSS)
    s.write(bytes(5 * MSS))
    assert s.user.writable == MSS
    s.write(bytes(MSS))
    assert s.user.writable == 0
    assert not s.user.ready & WRITABLE
    s.peer(f". 1:1(0) ack {1 + 2 * MSS} win {4 * MSS}")
    assert s.user.writable == 2 * MSS
    s.peer(f". 1:1(0) ack {1 + 4 * MSS} win {4 * MSS}")
    assert s.user.ready & WRITABLE


def test_window_clamp_bounds_what_is_offered_from_the_start_or_later() -> None:
    s = Script.opening(with_options(window_clamp=5000))
    s.expect("S 0:0(0) win 5000 <mss 1460>")
    s = Script.established()
    s.user.configure(window_clamp=5000)
    for start in range(1, 65000, MSS):
        s.peer(f". {start}:{start + MSS}({MSS}) ack 1 win 1000")
        s.read()
    s.peer("P. 65701:65702(1) ack 1 win 1000")
    s.advance(40 * MS)
    assert s.take()[-1].wnd <= 5000
