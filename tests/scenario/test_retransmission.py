"""Sending again, when and how often: RFC 6298, RFC 9293 §3.8.1, §3.8.3; the user timeout: RFC 5482."""

import errno

import pytest

from tests.support.script import ISS, PLAIN, Script, with_options
from tests.support.states import reach
from usertcp.tcp import timers as timer
from usertcp.tcp.config import TcpConfig
from usertcp.tcp.state import REPORTED, State
from usertcp.units import HOUR, MINUTE, MS, NEVER, SEC

MSS = 1460


def opened_in(rtt: int, config: TcpConfig = PLAIN) -> Script:
    """ESTABLISHED, the SYN answered after ``rtt`` ns."""
    s = Script.opening(config)
    s.advance(rtt)
    s.peer("S. 0:0(0) ack 1 win 65535 <mss 1460>")
    s.take()
    return s


def send_and_ack_after(s: Script, rtt: int, seq: int, size: int = 100) -> None:
    s.write(bytes(size))
    s.advance(rtt)
    s.peer(f". 1:1(0) ack {seq + size} win 65535")
    s.take()


# --- the time-out -----------------------------------------------------------------------------------------------------


@pytest.mark.rfc(6298, "§3 often")
@pytest.mark.rfc(9293, "MUST-18")
@pytest.mark.rfc(6298, "§2")
def test_rto_follows_the_formulas_sample_by_sample() -> None:
    s = opened_in(100 * MS)
    rtt = s.user.snd.rtt
    srtt, rttvar = 100 * MS, 50 * MS
    assert (rtt.srtt, rtt.rttvar, rtt.rto) == (srtt, rttvar, srtt + 4 * rttvar)
    seq = 1
    for sample in (120 * MS, 80 * MS, 180 * MS, 60 * MS):
        send_and_ack_after(s, sample, seq)
        seq += 100
        rttvar = rttvar * 3 // 4 + abs(srtt - sample) // 4
        srtt = srtt * 7 // 8 + sample // 8
        assert rtt.srtt == pytest.approx(srtt, abs=10)
        assert rtt.rttvar == pytest.approx(rttvar, abs=10)
        assert rtt.rto == pytest.approx(srtt + max(4 * rttvar, PLAIN.min_rto), abs=100)


@pytest.mark.rfc(6298, "§2.1")
def test_rto_before_the_first_sample_is_one_second() -> None:
    s = Script.opening()
    assert s.advance_to_next_deadline() == 1 * SEC
    s.expect("S 0:0(0)", "S 0:0(0)")


@pytest.mark.rfc(9293, "MUST-18")
@pytest.mark.rfc(6298, "§3")
def test_karn_ack_of_what_was_sent_twice_is_no_sample_and_the_backoff_stays() -> None:
    s = opened_in(100 * MS)
    s.write(bytes(100))
    s.take()
    s.advance_to_next_deadline()
    s.expect("P. 1:101(100)")
    before = (s.user.snd.rtt.srtt, s.user.snd.rtt.rttvar)
    s.advance(10 * MS)
    s.peer(". 1:1(0) ack 101 win 65535")
    assert (s.user.snd.rtt.srtt, s.user.snd.rtt.rttvar) == before
    assert s.user.snd.rtt.rto == 600 * MS  # 2 * 300
    s.write(bytes(100))
    s.take()
    assert s.user.next_deadline() - s.now == 600 * MS
    s.advance(100 * MS)
    s.peer(". 1:1(0) ack 201 win 65535")  # a clean sample ends it
    assert s.user.snd.rtt.rto == 300 * MS


@pytest.mark.rfc(7323, "§4.1")
@pytest.mark.rfc(9293, "MUST-18")
def test_timestamps_give_a_sample_of_what_was_sent_twice() -> None:
    s = Script.opening(with_options(timestamps=True))
    s.advance(100 * MS)
    s.peer("S. 0:0(0) ack 1 win 65535 <mss 1460,sackOK,TS val 0 ecr 0>")
    assert s.user.snd.rtt.srtt == 100 * MS
    s.write(bytes(100))
    s.advance_to_next_deadline()
    assert s.user.snd.rtt.rto == 600 * MS
    echoed = (s.now - 300 * MS - 10**12) // MS  # of the first copy
    s.advance(50 * MS)
    s.peer(f". 1:1(0) ack 101 win 65535 <nop,nop,TS val 1 ecr {echoed}>")
    assert s.user.snd.rtt.srtt == 100 * MS * 7 // 8 + 350 * MS // 8
    assert s.user.snd.rtt.backoffs == 0


@pytest.mark.rfc(7323, "§4.1")
@pytest.mark.parametrize("line", [". 1:1(0) ack 1", "P. 1:11(10) ack 1"])
def test_echo_on_what_acknowledges_nothing_new_is_no_sample(line: str) -> None:
    s = Script.opening(with_options(timestamps=True))
    s.advance(100 * MS)
    s.peer("S. 0:0(0) ack 1 win 65535 <mss 1460,sackOK,TS val 0 ecr 0>")
    s.write(bytes(100))
    before = (s.user.snd.rtt.srtt, s.user.snd.rtt.rttvar)
    s.advance(90 * MS)
    s.peer(f"{line} win 65535 <nop,nop,TS val 1 ecr 5>")
    assert (s.user.snd.rtt.srtt, s.user.snd.rtt.rttvar) == before


def test_timestamp_echo_from_the_future_is_no_sample() -> None:
    s = Script.established(with_options(timestamps=True), options="mss 1460,sackOK,TS val 0 ecr 0")
    srtt = s.user.snd.rtt.srtt
    s.write(bytes(100))
    s.user.snd.board.resend(ISS + 1, ISS + 101, s.now, 1460)
    s.peer(". 1:1(0) ack 101 win 65535 <nop,nop,TS val 1 ecr 1000000>")
    assert s.user.snd.una == ISS + 101
    assert s.user.snd.rtt.srtt == srtt


@pytest.mark.rfc(9293, "MUST-19")
@pytest.mark.rfc(6298, "§5.5")
def test_backoff_doubles_up_to_the_maximum() -> None:
    s = opened_in(100 * MS)
    s.write(bytes(100))
    gaps = [s.advance_to_next_deadline() for _ in range(12)]
    assert gaps == [min((300 * MS) << i, PLAIN.max_rto) for i in range(12)]


@pytest.mark.rfc(6298, "§5.3")
def test_ack_of_new_data_restarts_the_timer_and_a_duplicate_does_not() -> None:
    s = opened_in(100 * MS)
    s.write(bytes(5 * MSS))
    s.advance(250 * MS)
    s.peer(f". 1:1(0) ack {1 + MSS} win 65535")
    rto = s.user.snd.rtt.rto
    at = s.now + rto
    assert s.user.timers.at(timer.RETRANSMIT) == at
    s.advance(100 * MS)
    s.peer(f". 1:1(0) ack {1 + MSS} win 65535")
    assert s.user.timers.at(timer.RETRANSMIT) == at


@pytest.mark.rfc(6298, "§5.2")
def test_ack_of_everything_stops_the_timer() -> None:
    s = opened_in(100 * MS)
    s.write(bytes(100))
    s.peer(". 1:1(0) ack 101 win 65535")
    assert s.user.next_deadline() == NEVER


@pytest.mark.rfc(6298, "§5.1")
def test_more_data_does_not_restart_the_timer() -> None:
    s = opened_in(100 * MS)
    s.write(bytes(MSS))
    at = s.user.timers.at(timer.RETRANSMIT)
    s.advance(100 * MS)
    s.write(bytes(MSS))
    assert s.user.timers.at(timer.RETRANSMIT) == at


@pytest.mark.rfc(6298, "§5.4")
def test_time_out_sends_the_oldest_segment_first_and_the_rest_as_acks_come() -> None:
    s = opened_in(100 * MS)
    s.write(bytes(4 * MSS))
    s.take()
    s.advance_to_next_deadline()
    s.expect(f". 1:{1 + MSS}({MSS})")
    s.peer(f". 1:1(0) ack {1 + MSS} win 65535")
    s.expect(f". {1 + MSS}:{1 + 2 * MSS}({MSS})", f". {1 + 2 * MSS}:{1 + 3 * MSS}({MSS})")
    s.peer(f". 1:1(0) ack {1 + 4 * MSS} win 65535")  # the last one had arrived
    s.expect_nothing()
    assert s.user.next_deadline() == NEVER


def test_super_segment_is_sent_again_segment_by_segment() -> None:
    s = Script.established()
    s.bursts = 0
    s.write(bytes(10 * MSS))
    assert s.bursts == 1
    s.take()
    s.peer(f". 1:1(0) ack {1 + 3 * MSS + 7} win 65535")
    s.advance_to_next_deadline()
    start = 1 + 3 * MSS + 7
    s.expect(f". {start}:{start + MSS}({MSS})")


@pytest.mark.rfc(6298, "§5.7")
def test_syn_lost_without_a_sample_begins_data_with_three_seconds() -> None:
    s = Script.opening()
    s.advance(1 * SEC)
    s.peer("S. 0:0(0) ack 1 win 65535 <mss 1460>")
    s.take()
    s.write(bytes(100))
    assert s.user.next_deadline() - s.now == 3 * SEC


def test_simultaneous_open_answers_the_syn_and_lost_none() -> None:
    """SYN and SYN,ACK are two segments with one number: that is no time-out (RFC 6298 §5.7)."""
    s = Script.opening()
    s.peer("S 0:0(0) win 65535 <mss 1460>")
    s.peer(". 1:1(0) ack 1 win 65535")
    s.take()
    s.write(bytes(100))
    assert s.user.next_deadline() - s.now == 1 * SEC


# --- R1, R2 -----------------------------------------------------------------------------------------------------------


@pytest.mark.rfc(9293, "SHLD-9")
@pytest.mark.rfc(9293, "MUST-20")
@pytest.mark.rfc(9293, "SHLD-10")
@pytest.mark.rfc(9293, "SHLD-11")
def test_r1_makes_the_path_suspect_and_r2_gives_up() -> None:
    s = Script.established()
    s.write(bytes(100))
    s.take()
    start = s.now
    for i in range(PLAIN.r2):
        assert len(s.host.suspected) == (i >= PLAIN.r1)
        assert bool(s.user.ready & REPORTED) == (i >= PLAIN.r1)
        s.advance_to_next_deadline()
        s.expect("P. 1:101(100)")
    assert PLAIN.r1 >= 3
    assert s.now - start > 100 * SEC
    s.advance_to_next_deadline()
    s.expect("R. 101:101(0)")
    s.expect_state(State.CLOSED)
    with pytest.raises(TimeoutError):
        s.user.read(1)
    assert s.user.next_deadline() == NEVER


@pytest.mark.rfc(9293, "MUST-20")
def test_progress_starts_the_count_anew() -> None:
    s = Script.established()
    s.write(bytes(200))
    for i in range(200):
        s.advance_to_next_deadline()
        if i % 10 == 9:
            s.peer(f". 1:1(0) ack {2 + i // 10} win 65535")
    s.expect_state(State.ESTABLISHED)


@pytest.mark.rfc(9293, "MUST-22")
def test_syn_at_r1_makes_the_path_suspect() -> None:
    """RFC 9293 §3.8.3: SYNs are handled in the general way."""
    s = Script.opening()
    s.advance(6 * SEC)
    assert s.host.suspected == []
    s.advance(1 * SEC)
    assert s.host.suspected == [s.user]


@pytest.mark.rfc(9293, "MUST-22")
@pytest.mark.rfc(9293, "MUST-23")
def test_simultaneous_open_syn_ack_is_repeated_for_three_minutes() -> None:
    """We opened actively: R2 for a SYN holds, not a listener's patience."""
    s = Script.opening()
    start = s.now
    s.peer("S 0:0(0) win 1000 <mss 1460>")
    s.advance(180 * SEC - 1)
    s.expect_state(State.SYN_RECEIVED)
    assert s.sent_at[-1] - start == 127 * SEC
    s.advance(1)
    s.expect_state(State.CLOSED)
    assert s.user.error is not None
    assert s.user.error.errno == errno.ETIMEDOUT


@pytest.mark.rfc(9293, "MUST-23")
def test_passive_syn_received_is_given_up_silently() -> None:
    s = reach(State.SYN_RECEIVED).s
    gaps = [s.advance_to_next_deadline() for _ in range(PLAIN.synack_retries + 1)]
    assert gaps == [SEC, 2 * SEC, 4 * SEC, 8 * SEC, 16 * SEC, 32 * SEC]
    s.expect(*["S. 0:0(0) ack 1"] * PLAIN.synack_retries)
    s.expect_state(State.CLOSED)
    assert s.user.error is None
    assert s.listener is not None
    assert not s.listener.half_open


# --- the user timeout -------------------------------------------------------------------------------------------------


@pytest.mark.rfc(5482, "§3")
@pytest.mark.rfc(9293, "MUST-21")
@pytest.mark.rfc(9293, "X-15")
@pytest.mark.parametrize("limit", [5 * SEC, 300 * SEC])
def test_user_timeout_ends_the_wait_exactly(limit: int) -> None:
    s = Script.established(with_options(user_timeout=limit))
    s.advance(HOUR)
    start = s.now
    s.write(bytes(100))
    s.advance(limit - 1)
    s.expect_state(State.ESTABLISHED)
    s.advance(1)
    s.expect_state(State.CLOSED)
    assert s.now - start == limit
    assert s.user.error is not None
    assert s.user.error.errno == errno.ETIMEDOUT
    assert len(s.user.snd.buffer) == 0


@pytest.mark.rfc(5482, "§3")
@pytest.mark.rfc(9293, "MUST-21")
def test_user_timeout_runs_from_the_last_progress() -> None:
    s = Script.established(with_options(user_timeout=5 * SEC))
    s.write(bytes(100))
    s.advance(4 * SEC)
    s.peer(". 1:1(0) ack 51 win 65535")
    s.advance(4 * SEC)
    s.expect_state(State.ESTABLISHED)
    s.advance(1 * SEC)
    s.expect_state(State.CLOSED)


@pytest.mark.rfc(9293, "MUST-21")
def test_user_timeout_set_while_data_waits_takes_effect_at_once() -> None:
    s = Script.established()
    s.write(bytes(100))
    s.advance(60 * SEC)
    assert s.user.next_deadline() - s.now > 10 * SEC  # of the retransmission
    s.user.configure(user_timeout=61 * SEC)
    s.advance(1 * SEC)
    s.expect_state(State.CLOSED)


@pytest.mark.rfc(9293, "MUST-21")
def test_user_timeout_taken_back_leaves_r2() -> None:
    s = Script.established(with_options(user_timeout=5 * SEC))
    s.write(bytes(100))
    s.user.configure(user_timeout=0)
    s.advance(MINUTE)
    s.expect_state(State.ESTABLISHED)


@pytest.mark.rfc(9293, "MUST-21")
@pytest.mark.parametrize(("limit", "state"), [(5 * SEC, State.CLOSED), (300 * SEC, State.SYN_SENT)])
def test_user_timeout_holds_for_the_syn(limit: int, state: State) -> None:
    s = Script.opening(with_options(user_timeout=limit))
    s.advance(200 * SEC)
    s.expect_state(state)


def test_changing_other_settings_leaves_the_time_limit_of_the_syn() -> None:
    s = Script.opening()
    s.user.configure(nodelay=True)
    s.advance(181 * SEC)
    s.expect_state(State.CLOSED)


def test_user_timeout_nothing_outstanding_does_not_run() -> None:
    s = Script.established(with_options(user_timeout=5 * SEC))
    s.write(bytes(100))
    s.peer(". 1:1(0) ack 101 win 65535")
    s.advance(HOUR)
    s.expect_state(State.ESTABLISHED)
    assert s.user.next_deadline() == NEVER
