"""Closing a connection: RFC 9293 §3.6, §3.10.4, §3.10.7.4 eighth; TIME-WAIT: RFC 1337, RFC 6191."""

import errno

import pytest

from tests.support.script import IRS, PLAIN, Script, with_options
from tests.support.states import reach
from usertcp.tcp.config import TcpConfig
from usertcp.tcp.state import EOF, GONE, READABLE, State
from usertcp.tcp.timewait import reusable_by
from usertcp.units import HOUR, MINUTE, MS, NEVER, SEC

MSL2 = 2 * PLAIN.msl


# --- the ordinary ways ------------------------------------------------------------------------------------------------


@pytest.mark.rfc(9293, "MUST-12")
@pytest.mark.rfc(9293, "X-9")
def test_active_close_four_segments_reach_time_wait() -> None:
    """RFC 9293 §3.6, Figure 12, TCP Peer A."""
    s = Script.established(traced=True)
    s.user.close()
    s.expect("F. 1:1(0) ack 1 win 65535")
    s.expect_state(State.FIN_WAIT_1)
    s.peer(". 1:1(0) ack 2 win 1000")
    s.expect_nothing()
    s.expect_state(State.FIN_WAIT_2)
    s.peer("F. 1:1(0) ack 2 win 1000")
    s.expect(". 2:2(0) ack 2")
    s.expect_state(State.TIME_WAIT)
    assert s.tracer.states[-3:] == [State.FIN_WAIT_1, State.FIN_WAIT_2, State.TIME_WAIT]


@pytest.mark.rfc(9293, "MUST-12")
def test_passive_close_eof_then_own_fin_then_gone() -> None:
    """RFC 9293 §3.6, Figure 12, TCP Peer B."""
    s = Script.established()
    s.peer("F. 1:1(0) ack 1 win 1000")
    s.expect(". 1:1(0) ack 2")
    s.expect_state(State.CLOSE_WAIT)
    assert s.user.ready & (EOF | READABLE) == EOF | READABLE
    assert s.user.at_eof
    assert s.read() == b""
    s.user.close()
    s.expect("F. 1:1(0) ack 2")
    s.expect_state(State.LAST_ACK)
    s.peer(". 2:2(0) ack 2 win 1000")
    s.expect_nothing()
    s.expect_state(State.CLOSED)
    assert s.user.error is None
    assert s.user.ready & GONE
    assert s.host.forgotten == [s.user]


def test_fin_wait_1_fin_with_ack_of_fin_is_three_segment_close() -> None:
    """RFC 9293 §3.10.7.4, eighth, FIN-WAIT-1: our FIN acknowledged by the same segment."""
    s = Script.established()
    s.user.close()
    s.expect("F. 1:1(0) ack 1")
    s.peer("F. 1:1(0) ack 2 win 1000")
    s.expect(". 2:2(0) ack 2")
    s.expect_state(State.TIME_WAIT)


@pytest.mark.rfc(9293, "X-17")
def test_both_ends_close_at_once_pass_closing() -> None:
    """RFC 9293 §3.6, Figure 13."""
    s = Script.established()
    s.user.close()
    s.expect("F. 1:1(0) ack 1")
    s.peer("F. 1:1(0) ack 1 win 1000")
    s.expect(". 2:2(0) ack 2")
    s.expect_state(State.CLOSING)
    s.peer(". 2:2(0) ack 2 win 1000")
    s.expect_nothing()
    s.expect_state(State.TIME_WAIT)


@pytest.mark.rfc(9293, "X-17")
@pytest.mark.parametrize("state", [State.FIN_WAIT_1, State.CLOSING, State.LAST_ACK])
def test_fin_lost_is_sent_again_until_acknowledged(state: State) -> None:
    s, rcv, _, _ = reach(state)
    rto = s.user.snd.rtt.rto
    assert [s.advance_to_next_deadline() for _ in range(4)] == [rto, 2 * rto, 4 * rto, 8 * rto]
    s.expect(*[f"F. 1:1(0) ack {rcv}"] * 4)
    s.peer(f". {rcv}:{rcv}(0) ack 2 win 1000")
    s.expect_state({State.FIN_WAIT_1: State.FIN_WAIT_2, State.CLOSING: State.TIME_WAIT}.get(state, State.CLOSED))


@pytest.mark.parametrize("state", [State.FIN_WAIT_1, State.CLOSING, State.LAST_ACK])
def test_fin_never_acknowledged_gives_up_at_r2(state: State) -> None:
    """RFC 9293 §3.8.3: R2 holds for a FIN as for data."""
    s = reach(state).s
    s.advance(3 * HOUR)
    s.expect_state(State.CLOSED)
    fins = [seg for seg in s.take() if seg.flags & 1]
    assert len(fins) == PLAIN.r2
    assert s.user.error is not None
    assert s.user.error.errno == errno.ETIMEDOUT


# --- half-close -------------------------------------------------------------------------------------------------------


@pytest.mark.rfc(9293, "MAY-1")
def test_shutdown_write_half_close_goes_on_reading() -> None:
    s = Script.established()
    s.user.shutdown_write()
    s.expect("F. 1:1(0) ack 1")
    with pytest.raises(BrokenPipeError):
        s.user.write(b"x")
    s.peer(". 1:1(0) ack 2 win 1000")
    s.advance(10 * HOUR)  # nobody has closed: no time limit
    s.expect_state(State.FIN_WAIT_2)
    s.peer("P. 1:6(5) ack 2 win 1000", payload=b"hello")
    assert s.read() == b"hello"
    s.advance(PLAIN.delayed_ack)
    s.expect(". 2:2(0) ack 6")
    s.peer("F. 6:6(0) ack 2 win 1000")
    s.expect(". 2:2(0) ack 7")
    assert s.read() == b""
    s.expect_state(State.TIME_WAIT)


def test_close_wait_goes_on_sending() -> None:
    s = Script.established()
    s.peer("F. 1:1(0) ack 1 win 1000")
    s.expect(". 1:1(0) ack 2")
    s.advance(10 * HOUR)
    s.write(b"hello")
    s.expect("P. 1:6(5) ack 2")
    s.peer(". 2:2(0) ack 6 win 1000")
    s.user.shutdown_write()
    s.expect("F. 6:6(0) ack 2")
    s.expect_state(State.LAST_ACK)


def test_shutdown_write_lets_queued_data_go_first() -> None:
    """RFC 9293 §3.10.4, ESTABLISHED: queue until all preceding SENDs have been segmentized."""
    s = Script.established(win=1000)
    s.write(b"x" * 2500)
    s.user.shutdown_write()
    s.expect_state(State.FIN_WAIT_1)
    s.expect(". 1:1001(1000) ack 1")
    s.peer(". 1:1(0) ack 1001 win 1000")
    s.expect(". 1001:2001(1000) ack 1")
    s.peer(". 1:1(0) ack 2001 win 1000")
    s.expect("FP. 2001:2501(500) ack 1")
    s.peer(". 1:1(0) ack 2501 win 1000")
    s.expect_state(State.FIN_WAIT_1)  # the text is acknowledged, the FIN is not
    s.peer(". 1:1(0) ack 2502 win 1000")
    s.expect_state(State.FIN_WAIT_2)


def test_fin_needs_room_in_the_window() -> None:
    """The FIN has a sequence number, and what has one must be inside the window (RFC 9293 §3.4)."""
    s = Script.established(win=5)
    s.write(b"hello")
    s.user.shutdown_write()
    s.expect("P. 1:6(5) ack 1")
    s.peer(". 1:1(0) ack 6 win 1")
    s.expect("F. 6:6(0) ack 1")


def test_data_lost_before_fin_goes_again_with_it() -> None:
    s = Script.established()
    s.write(b"x" * 100)
    s.user.shutdown_write()
    s.expect("P. 1:101(100) ack 1", "F. 101:101(0) ack 1")
    s.advance_to_next_deadline()
    s.expect("FP. 1:101(100) ack 1")
    s.peer(". 1:1(0) ack 102 win 1000")
    s.expect_state(State.FIN_WAIT_2)


# --- the peer's FIN ---------------------------------------------------------------------------------------------------


@pytest.mark.rfc(9293, "X-9")
def test_fin_with_data_data_is_read_before_the_end() -> None:
    s = Script.established()
    s.peer("FP. 1:6(5) ack 1 win 1000", payload=b"hello")
    s.expect(". 1:1(0) ack 7")
    s.expect_state(State.CLOSE_WAIT)
    assert not s.user.at_eof
    assert s.read() == b"hello"
    assert s.user.at_eof
    assert s.read() == b""


@pytest.mark.rfc(9293, "SHLD-31")
def test_fin_out_of_order_waits_for_the_gap() -> None:
    s = Script.established()
    s.peer("F. 6:6(0) ack 1 win 1000")
    s.expect(". 1:1(0) ack 1")  # out of order: at once (RFC 5681 §4.2)
    s.expect_state(State.ESTABLISHED)
    s.peer("P. 1:6(5) ack 1 win 1000", payload=b"hello")
    s.expect(". 1:1(0) ack 7")
    s.expect_state(State.CLOSE_WAIT)
    assert s.read() == b"hello"
    assert s.read() == b""


@pytest.mark.rfc(9293, "SHLD-31")
def test_fin_with_data_out_of_order_in_fin_wait_2() -> None:
    s = reach(State.FIN_WAIT_2).s
    s.peer("FP. 4:6(2) ack 2 win 1000", payload=b"lo")
    s.expect(". 2:2(0) ack 1")
    s.expect_state(State.FIN_WAIT_2)
    s.peer(". 1:4(3) ack 2 win 1000", payload=b"hel")
    s.expect(". 2:2(0) ack 7")
    s.expect_state(State.TIME_WAIT)
    assert s.read() == b"hello"


@pytest.mark.parametrize("state", [State.CLOSE_WAIT, State.CLOSING, State.LAST_ACK])
def test_fin_again_is_acknowledged_and_changes_nothing(state: State) -> None:
    """RFC 9293 §3.10.7.4, eighth: remain in the state."""
    at = reach(state)
    at.peer("F.", at.rcv - 1)
    at.s.expect(f". {at.snd}:{at.snd}(0) ack {at.rcv}")
    at.s.expect_state(state)


@pytest.mark.parametrize("state", [State.CLOSE_WAIT, State.CLOSING, State.LAST_ACK, State.TIME_WAIT])
def test_text_after_the_fin_is_not_taken(state: State) -> None:
    """RFC 9293 §3.10.7.4, seventh: this should not occur, ignore the segment text."""
    at = reach(state)
    at.peer("P.", size=5)
    at.s.expect_state(state)
    assert at.s.user.readable == 0
    assert at.s.user.rcv.nxt == IRS + at.rcv


# --- close with something lost ----------------------------------------------------------------------------------------


@pytest.mark.rfc(9293, "SHLD-3")
@pytest.mark.parametrize("fin", ["P.", "FP."])
def test_close_with_unread_data_resets(fin: str) -> None:
    s = Script.established()
    s.peer(f"{fin} 1:6(5) ack 1 win 1000")
    s.take()
    s.user.close()
    s.expect(f"R. 1:1(0) ack {7 if 'F' in fin else 6}")
    s.expect_state(State.CLOSED)
    assert s.host.forgotten == [s.user]


@pytest.mark.rfc(9293, "SHLD-3")
def test_close_with_unread_data_after_both_fins_resets() -> None:
    """The peer has our word that all arrived; that the user never read it, only a reset can say."""
    s = Script.established()
    s.peer("FP. 1:6(5) ack 1 win 1000")
    s.user.shutdown_write()
    s.expect(". 1:1(0) ack 7", "F. 1:1(0) ack 7")
    s.expect_state(State.LAST_ACK)
    s.user.close()
    s.expect("R. 2:2(0) ack 7")
    s.expect_state(State.CLOSED)


@pytest.mark.rfc(9293, "MAY-1")
@pytest.mark.rfc(9293, "SHLD-3")
@pytest.mark.parametrize("state", [State.FIN_WAIT_1, State.FIN_WAIT_2])
def test_data_after_close_resets(state: State) -> None:
    at = reach(state)
    at.s.user.close()
    at.peer("P.", size=5)
    at.s.expect(f"R {at.una}:{at.una}(0)")
    at.s.expect_state(State.CLOSED)


def test_data_after_close_while_text_is_missing_resets_at_the_number_that_the_peer_expects() -> None:
    """A reset beyond it would only be challenged (RFC 5961 §3.2)."""
    s = Script.established()
    s.write(b"x" * 100)
    s.user.close()
    s.take()
    s.peer("P. 1:6(5) ack 51 win 1000")
    s.expect("R 51:51(0)")
    s.expect_state(State.CLOSED)


def test_data_after_shutdown_is_taken_and_close_then_resets() -> None:
    at = reach(State.FIN_WAIT_2)
    at.peer("P.", size=5)
    at.s.expect_state(State.FIN_WAIT_2)
    at.s.user.close()
    at.s.expect("R. 2:2(0) ack 6")


def test_old_data_again_after_close_does_not_reset() -> None:
    """A late duplicate loses nothing."""
    s = Script.established()
    s.peer("P. 1:6(5) ack 1 win 1000")
    assert len(s.read()) == 5
    s.user.close()
    s.expect("F. 1:1(0) ack 6")
    s.peer("P. 1:6(5) ack 1 win 1000")
    s.expect(". 2:2(0) ack 6")
    s.expect_state(State.FIN_WAIT_1)


# --- FIN-WAIT-2 without a user ----------------------------------------------------------------------------------------


def test_fin_wait_2_orphan_is_given_up_after_its_time_limit() -> None:
    s = Script.established()
    s.user.close()
    s.poll()
    s.advance(500 * MS)
    s.peer(". 1:1(0) ack 2 win 1000")
    s.take()
    s.advance(PLAIN.fin_wait_2_timeout - 1)
    s.expect_state(State.FIN_WAIT_2)
    s.advance(1)
    s.expect_nothing()
    s.expect_state(State.CLOSED)
    assert s.host.forgotten == [s.user]


def test_fin_wait_2_half_closed_for_long_then_closed_waits_its_whole_time() -> None:
    """The limit runs from ``close``: a peer that is about to send its FIN must not meet a reset."""
    s = reach(State.FIN_WAIT_2).s
    s.advance(10 * MINUTE)
    s.user.close()
    s.poll()
    s.advance(PLAIN.fin_wait_2_timeout - 1)
    s.expect_state(State.FIN_WAIT_2)
    s.peer("F. 1:1(0) ack 2 win 1000")
    s.expect(". 2:2(0) ack 2")
    s.expect_state(State.TIME_WAIT)


# --- TIME-WAIT --------------------------------------------------------------------------------------------------------


@pytest.mark.rfc(9293, "MUST-13")
@pytest.mark.rfc(9293, "X-15")
@pytest.mark.parametrize("msl", [PLAIN.msl, 1 * SEC, 2 * MINUTE])
def test_time_wait_lasts_2_msl_exactly(msl: int) -> None:
    s = reach(State.TIME_WAIT, with_options(msl=msl)).s
    s.advance(2 * msl - 1)
    s.expect_state(State.TIME_WAIT)
    assert s.host.forgotten == []
    s.advance(1)
    s.expect_state(State.CLOSED)
    s.expect_nothing()
    assert s.host.forgotten == [s.user]
    assert s.user.next_deadline() == NEVER


@pytest.mark.rfc(9293, "MUST-13")
@pytest.mark.rfc(9293, "X-9")
def test_time_wait_fin_again_is_acknowledged_and_restarts_2_msl() -> None:
    s = reach(State.TIME_WAIT).s
    s.advance(MSL2 - 1)
    s.peer("F. 1:1(0) ack 2 win 1000")
    s.expect(". 2:2(0) ack 2")
    s.advance(MSL2 - 1)
    s.expect_state(State.TIME_WAIT)
    s.advance(1)
    s.expect_state(State.CLOSED)


def test_time_wait_fin_with_text_again_restarts_2_msl() -> None:
    s = reach(State.FIN_WAIT_2).s
    s.peer("FP. 1:6(5) ack 2 win 1000")
    s.take()
    s.advance(MSL2 - 1)
    s.peer("FP. 1:6(5) ack 2 win 1000")
    s.expect(". 2:2(0) ack 7")
    s.advance(MSL2 - 1)
    s.expect_state(State.TIME_WAIT)
    assert len(s.read()) == 5


def test_time_wait_other_segments_do_not_restart_2_msl() -> None:
    at = reach(State.TIME_WAIT)
    at.s.advance(MSL2 - 1)
    at.peer(".")
    at.peer("P.", at.rcv - 1, 1)
    at.s.advance(1)
    at.s.expect_state(State.CLOSED)


@pytest.mark.rfc(1337, "§3 (F1)")
@pytest.mark.parametrize("offset", [-1, 0, 1])
def test_time_wait_reset_does_not_end_it(offset: int) -> None:
    at = reach(State.TIME_WAIT)
    at.peer("R", at.rcv + offset)
    at.s.expect_nothing()
    at.s.expect_state(State.TIME_WAIT)


def test_time_wait_closed_by_the_user_drops_unread_data_at_once() -> None:
    """Nobody will read it: it must not lie around for 2 MSL."""
    s = reach(State.FIN_WAIT_2).s
    s.peer("FP. 1:6(5) ack 2 win 1000")
    s.take()
    s.expect_state(State.TIME_WAIT)
    s.user.close()
    s.expect_nothing()
    s.expect_state(State.TIME_WAIT)
    assert s.user.readable == 0


@pytest.mark.rfc(6191, "§2")
@pytest.mark.rfc(9293, "SHLD-4")
@pytest.mark.rfc(9293, "MAY-2")
@pytest.mark.parametrize(("seq", "reusable"), [(1, False), (2**31 + 100, False), (3, True), (100_000, True)])
def test_time_wait_syn_without_timestamps_reuses_by_number(seq: int, reusable: bool) -> None:
    s = reach(State.TIME_WAIT).s
    assert reusable_by(s.user, s.segment(f"S {seq}:{seq}(0) win 1000")) is reusable


@pytest.mark.rfc(9293, "SHLD-4")
@pytest.mark.rfc(6191, "§2")
@pytest.mark.parametrize(
    ("tsval", "seq", "reusable"),
    [
        (8, 0, True),  # newer time-stamp, whatever the number
        (7, 3, True),  # the same: the number decides
        (7, 0, False),
        (6, 3, False),
        (None, 3, True),  # none offered any more: the number decides
        (None, 0, False),
    ],
)
def test_time_wait_syn_after_timestamps_reuses_by_time(tsval: int | None, seq: int, reusable: bool) -> None:
    s = Script.established(TcpConfig(), options="mss 1460,sackOK,TS val 7 ecr 0,nop,wscale 7")
    s.user.shutdown_write()
    s.poll()
    s.peer("F. 1:1(0) ack 2 win 1000 <nop,nop,TS val 7 ecr 0>")
    s.expect_state(State.TIME_WAIT)
    options = "" if tsval is None else f" <nop,nop,TS val {tsval} ecr 0>"
    assert reusable_by(s.user, s.segment(f"S {seq}:{seq}(0) win 1000{options}")) is reusable


@pytest.mark.rfc(6191, "§2")
def test_time_wait_without_timestamps_syn_with_them_is_honoured() -> None:
    """RFC 6191 §2: timestamps of the new incarnation protect it from old segments, which have none."""
    s = Script.established(TcpConfig())
    s.user.shutdown_write()
    s.poll()
    s.peer("F. 1:1(0) ack 2 win 1000")
    s.expect_state(State.TIME_WAIT)
    assert reusable_by(s.user, s.segment("S 0:0(0) win 1000 <nop,nop,TS val 1 ecr 0>"))
    s.user.configure(timestamps=False)  # they would not be enabled for the new incarnation
    assert not reusable_by(s.user, s.segment("S 0:0(0) win 1000 <nop,nop,TS val 1 ecr 0>"))


@pytest.mark.parametrize("flags", ["S.", "R", ".", "F."])
def test_time_wait_only_a_bare_syn_reuses(flags: str) -> None:
    s = reach(State.TIME_WAIT).s
    assert not reusable_by(s.user, s.segment(f"{flags} 3:3(0) ack 2 win 1000"))


# --- CLOSE in each of the eleven states -------------------------------------------------------------------------------


@pytest.mark.rfc(9293, "X-13")
@pytest.mark.parametrize(
    ("state", "after", "sent"),
    [
        (State.CLOSED, State.CLOSED, []),
        (State.SYN_SENT, State.CLOSED, []),
        (State.SYN_RECEIVED, State.SYN_RECEIVED, []),  # queued until ESTABLISHED
        (State.ESTABLISHED, State.FIN_WAIT_1, ["F. 1:1(0) ack 1"]),
        (State.FIN_WAIT_1, State.FIN_WAIT_1, []),
        (State.FIN_WAIT_2, State.FIN_WAIT_2, []),
        (State.CLOSE_WAIT, State.LAST_ACK, ["F. 1:1(0) ack 2"]),
        (State.CLOSING, State.CLOSING, []),
        (State.LAST_ACK, State.LAST_ACK, []),
        (State.TIME_WAIT, State.TIME_WAIT, []),
    ],
)
def test_close_in_each_state(state: State, after: State, sent: list[str]) -> None:
    """RFC 9293 §3.10.4; LISTEN is the listener's and has its own test."""
    s = reach(state).s
    s.user.close()
    s.expect(*sent)
    s.expect_state(after)
    s.user.close()  # a second time: nothing
    s.expect_nothing()
    s.expect_state(after)


@pytest.mark.rfc(9293, "X-13")
def test_close_in_listen_aborts_what_was_not_accepted() -> None:
    s = reach(State.SYN_RECEIVED).s
    assert s.listener is not None
    s.listener.close()
    s.expect("R. 1:1(0) ack 1")
    s.expect_state(State.CLOSED)
    assert not s.listener.has_room()


@pytest.mark.rfc(9293, "X-13")
def test_close_in_syn_received_sends_fin_once_established() -> None:
    s = Script.opening()
    s.peer("S 0:0(0) win 1000 <mss 1460>")
    s.take()
    s.user.write(b"hello")
    s.user.shutdown_write()
    s.expect_nothing()
    s.peer(". 1:1(0) ack 1 win 1000")
    s.expect("FP. 1:6(5) ack 1")
    s.expect_state(State.FIN_WAIT_1)


def test_shutdown_write_in_syn_sent_sends_data_and_fin_once_established() -> None:
    s = Script.opening()
    s.take()
    s.user.write(b"hello")
    s.user.shutdown_write()
    s.peer("S. 0:0(0) ack 1 win 1000 <mss 1460>")
    s.expect("FP. 1:6(5) ack 1")
    s.expect_state(State.FIN_WAIT_1)


@pytest.mark.parametrize("state", [State.FIN_WAIT_1, State.FIN_WAIT_2, State.CLOSING, State.LAST_ACK, State.TIME_WAIT])
def test_write_after_close_is_a_broken_pipe(state: State) -> None:
    s = reach(state).s
    with pytest.raises(BrokenPipeError):
        s.user.write(b"x")


def test_read_after_shutdown_read_ends_after_what_is_there() -> None:
    s = Script.established()
    s.peer("P. 1:6(5) ack 1 win 1000", payload=b"hello")
    s.user.shutdown_read()
    assert s.read() == b"hello"
    assert s.read() == b""
    s.expect_state(State.ESTABLISHED)


def test_window_is_not_announced_after_the_peers_fin() -> None:
    """The peer sends no more: reading frees room that nobody needs."""
    s = Script.established(with_options(receive_buffer=4096))
    s.peer("FP. 1:4001(4000) ack 1 win 1000")
    s.take()
    assert len(s.read()) == 4000
    s.expect_nothing()
