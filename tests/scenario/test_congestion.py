"""How much may be in flight: RFC 5681, RFC 6582, RFC 6928, RFC 3042."""

from dataclasses import replace
from typing import Any

import pytest

from tests.support.script import ISS, Script, with_options
from usertcp.tcp.config import TcpConfig
from usertcp.tcp.recovery import LOSS, OPEN, RECOVERY
from usertcp.units import MS, SEC

MSS = 1000
BIG = with_options(send_buffer=4 << 20)


def sending(segments: int = 400, *, win: int = 65535, config: TcpConfig = BIG, **kwargs: Any) -> Script:
    """ESTABLISHED with MSS 1000 and plenty to send; the initial window is out and looked at."""
    s = Script.established(config, win=win, options=f"mss {MSS}", **kwargs)
    s.write(bytes(segments * MSS))
    return s


def grown() -> Script:
    """Forty segments were sent, and each was acknowledged: the window has grown by as many, and nothing is out."""
    s = sending(40)
    taken(s)
    for n in range(1, 41):
        ack(s, n)
    return s


def at(count: int) -> int:
    return 1 + count * MSS


def ack(s: Script, count: int, times: int = 1) -> list[int]:
    """The peer acknowledges ``count`` segments; which segments (by index) leave on that."""
    s.peer(*[f". 1:1(0) ack {at(count)} win 65535"] * times)
    return taken(s)


def taken(s: Script) -> list[int]:
    return [(seg.seq - ISS - 1) % 2**32 // MSS for seg in s.take() if seg.payload]


@pytest.mark.rfc(5681, "§3.1 initial window")
@pytest.mark.rfc(6928, "§2")
@pytest.mark.parametrize(("mss", "segments"), [(1460, 10), (1000, 10), (536, 10), (4000, 3), (8960, 2)])
def test_initial_window_is_ten_segments_or_so(mss: int, segments: int) -> None:
    s = Script.established(options=f"mss {mss}", mss=mss)
    s.write(bytes(60_000))
    assert len(s.take()) == segments


@pytest.mark.rfc(5681, "§3.1 handshake")
@pytest.mark.parametrize("passive", [False, True])
@pytest.mark.parametrize("sack", [False, True])
@pytest.mark.parametrize("name", ["reno", "cubic"])
def test_handshake_leaves_the_window_as_it_is(name: str, sack: bool, passive: bool) -> None:
    options = f"mss {MSS}" + ",sackOK" * sack
    s = Script.established(with_options(congestion=name, sack=sack), options=options, passive=passive)
    assert s.user.snd.cc.cwnd == 10 * MSS


@pytest.mark.rfc(5681, "§3.1 lost SYN")
@pytest.mark.parametrize(("lost", "segments"), [(0, 10), (1, 10), (2, 1), (3, 1)])
def test_syn_lost_twice_begins_with_one_segment(lost: int, segments: int) -> None:
    s = Script.opening(BIG)
    for _ in range(lost):
        s.advance_to_next_deadline()
    s.peer(f"S. 0:0(0) ack 1 win 65535 <mss {MSS}>")
    s.take()
    s.write(bytes(20 * MSS))
    assert len(taken(s)) == segments


@pytest.mark.rfc(5681, "§3.1 ssthresh")
@pytest.mark.parametrize("name", ["reno", "cubic"])
def test_ssthresh_is_out_of_reach_until_there_is_congestion(name: str) -> None:
    s = sending(config=with_options(congestion=name))
    assert s.user.snd.cc.ssthresh > 1 << 30  # the largest window there can be (RFC 7323 §2.3)
    taken(s)
    ack(s, 0, 3)
    assert s.user.snd.cc.ssthresh < 10 * MSS


@pytest.mark.rfc(5681, "§2 cwnd")
@pytest.mark.parametrize("win", [1000, 3500, 9999, 14_000, 65535])
def test_no_more_is_out_than_either_window_allows(win: int) -> None:
    s = sending(win=win)
    acked = 0
    for _ in range(200):
        snd = s.user.snd
        assert snd.outstanding <= min(snd.cc.cwnd, win)
        for seg in s.take():
            assert (seg.seq + len(seg.payload) - ISS - 1) % 2**32 <= acked + min(snd.cc.cwnd, win)
        acked += min(snd.outstanding, MSS)
        s.peer(f". 1:1(0) ack {1 + acked} win {win}")
    assert acked > 20 * MSS


@pytest.mark.rfc(5681, "§3.1 slow start")
@pytest.mark.rfc(3465, "§2.1")
@pytest.mark.parametrize("parts", [1, 2, 10, 1000])
def test_ack_that_is_divided_gains_nothing(parts: int) -> None:
    s = sending()
    taken(s)
    for part in range(1, parts + 1):
        s.peer(f". 1:1(0) ack {1 + part * MSS // parts} win 65535")
    assert s.user.snd.cc.cwnd == 11 * MSS


@pytest.mark.rfc(5681, "§3.1 slow start")
@pytest.mark.rfc(9293, "MUST-19")
@pytest.mark.rfc(5681, "§3.1")
def test_slow_start_doubles_in_a_round_trip() -> None:
    s = sending()
    assert len(taken(s)) == 10
    sent = [i for n in range(1, 11) for i in ack(s, n)]
    assert sent == list(range(10, 30))
    assert s.user.snd.cc.cwnd == 20 * MSS


@pytest.mark.rfc(5681, "§3.1 avoidance")
@pytest.mark.rfc(9293, "MUST-19")
@pytest.mark.rfc(5681, "§3.1")
def test_congestion_avoidance_adds_one_segment_in_a_round_trip() -> None:
    s = sending()
    taken(s)
    s.user.snd.cc.ssthresh = 10 * MSS
    sent = 10
    acked = 0
    for window in range(10, 16):
        assert s.user.snd.outstanding == window * MSS
        for _ in range(window):
            acked += 1
            sent += len(ack(s, acked))
    assert s.user.snd.cc.cwnd == 16 * MSS


@pytest.mark.rfc(5681, "§3.2 step 1")
@pytest.mark.rfc(3042, "§2")
def test_two_duplicates_let_two_new_segments_go() -> None:
    s = sending()
    taken(s)
    assert ack(s, 0) == [10]
    assert ack(s, 0) == [11]
    assert s.user.snd.cc.cwnd == 10 * MSS


@pytest.mark.rfc(5681, "§3.2")
def test_third_duplicate_sends_the_lost_segment_and_halves() -> None:
    s = sending()
    taken(s)
    assert ack(s, 0, 3) == [0]
    assert s.user.snd.phase == RECOVERY
    assert s.user.snd.cc.ssthresh == 5 * MSS  # where the window is brought to, ACK by ACK (RFC 9937)


@pytest.mark.rfc(5681, "§3.2 step 2")
def test_segments_of_limited_transmit_do_not_count_when_halving() -> None:
    """RFC 5681 §3.2 step 2."""
    s = sending()
    taken(s)
    assert ack(s, 0) + ack(s, 0) == [10, 11]
    assert ack(s, 0) == [0]
    assert s.user.snd.cc.ssthresh == 5 * MSS


@pytest.mark.rfc(5681, "§3.2 steps 3 to 6")
@pytest.mark.rfc(5681, "§4.3 rate")
@pytest.mark.rfc(6582, "§3.2")
def test_recovery_full_ack_ends_it_with_half_the_window() -> None:
    s = sending()
    taken(s)
    assert ack(s, 0, 3) == [0]
    assert ack(s, 0, 6) == [10, 11, 12, 13]  # each duplicate tells that a segment has left: half of them are replaced
    assert ack(s, 10) == [14]  # the window is 5: four are out
    assert s.user.snd.phase == OPEN
    assert s.user.snd.cc.cwnd == 5 * MSS


@pytest.mark.rfc(6582, "§3.2")
def test_recovery_partial_ack_sends_the_next_lost_segment_at_once() -> None:
    s = sending()
    taken(s)
    assert ack(s, 0, 3) == [0]
    assert ack(s, 4)[:1] == [4]
    assert s.user.snd.phase == RECOVERY
    assert ack(s, 7)[:1] == [7]
    ack(s, 10)
    assert s.user.snd.phase == OPEN
    assert s.user.snd.retransmissions == 3


@pytest.mark.rfc(6582, "§3.2")
def test_duplicates_after_a_time_out_of_what_was_sent_before_do_not_halve_again() -> None:
    s = sending(10)
    taken(s)
    s.advance_to_next_deadline()
    assert taken(s) == [0]
    assert ack(s, 0, 5) == []
    assert (s.user.snd.cc.cwnd, s.user.snd.cc.ssthresh) == (MSS, 5 * MSS)
    assert s.user.snd.phase == LOSS


@pytest.mark.rfc(5681, "§3.1 time-out")
@pytest.mark.rfc(5681, "§3.1")
@pytest.mark.rfc(9293, "MUST-19")
def test_time_out_starts_over_from_one_segment() -> None:
    s = sending(10)
    taken(s)
    s.advance_to_next_deadline()
    assert taken(s) == [0]
    assert (s.user.snd.cc.cwnd, s.user.snd.cc.ssthresh) == (MSS, 5 * MSS)
    s.advance_to_next_deadline()
    assert taken(s) == [0]
    assert (s.user.snd.cc.cwnd, s.user.snd.cc.ssthresh) == (MSS, 5 * MSS)
    assert ack(s, 1) == [1, 2]  # there is no new data: no F-RTO (RFC 5682 §2.1 step 2b)
    s.write(bytes(10 * MSS))
    assert ack(s, 3) == [3, 4, 5, 6]
    assert ack(s, 7) == [7, 8, 9, 10, 11]  # 6: congestion avoidance begins at 5
    assert s.user.snd.cc.cwnd == 5 * MSS


@pytest.mark.rfc(2861, "§3.1")
@pytest.mark.rfc(5681, "§4.1")
def test_idle_connection_restarts_with_half_a_window_for_each_rto() -> None:
    s = grown()
    assert s.user.snd.cc.cwnd == 50 * MSS
    s.advance(s.user.snd.rtt.rto + 1)
    s.write(bytes(40 * MSS))
    assert len(taken(s)) == 25


@pytest.mark.rfc(2861, "§3.1")
def test_idle_connection_whose_device_is_full_loses_half_its_window_once() -> None:
    """However often it is asked whether it has something to send."""
    s = grown()
    s.advance(s.user.snd.rtt.rto + 1)
    s.sink_full = True
    s.write(bytes(40 * MSS))
    for _ in range(5):
        s.poll()
    assert s.user.snd.cc.cwnd == 25 * MSS


@pytest.mark.rfc(5681, "§4.1")
def test_connection_idle_for_long_restarts_from_the_initial_window() -> None:
    s = grown()
    s.advance(10 * s.user.snd.rtt.rto)
    s.write(bytes(40 * MSS))
    assert len(taken(s)) == 10


def test_pause_shorter_than_the_rto_keeps_the_window() -> None:
    s = grown()
    cwnd = s.user.snd.cc.cwnd
    s.advance(s.user.snd.rtt.rto)
    s.write(bytes(60 * MSS))
    assert len(taken(s)) == cwnd // MSS


def test_window_that_is_not_used_does_not_grow() -> None:
    """RFC 7661 §4.1."""
    s = Script.established(options=f"mss {MSS}")
    for n in range(1, 50):
        s.write(bytes(MSS))
        s.peer(f". 1:1(0) ack {at(n)} win 65535")
    assert s.user.snd.cc.cwnd == 10 * MSS


@pytest.mark.rfc(5681, "§2")
def test_window_update_is_no_duplicate() -> None:
    """RFC 5681 §2: the advertised window equals that of the last ACK."""
    s = sending()
    taken(s)
    for win in range(60_000, 60_010):
        s.peer(f". 1:1(0) ack 1 win {win}")
    assert taken(s) == []
    assert s.user.snd.phase == OPEN


@pytest.mark.rfc(5681, "§2")
def test_ack_while_nothing_is_out_is_no_duplicate() -> None:
    s = Script.established(BIG, options=f"mss {MSS}")
    s.peer(*[". 1:1(0) ack 1 win 65535"] * 5)
    s.write(bytes(10 * MSS))
    assert taken(s) == list(range(10))
    assert ack(s, 0, 2) == []
    assert s.user.snd.phase == OPEN
    assert ack(s, 0) == [0]


@pytest.mark.rfc(5681, "§2")
def test_ack_with_a_fin_is_no_duplicate() -> None:
    s = sending()
    taken(s)
    ack(s, 0, 2)
    s.peer("F. 1:1(0) ack 1 win 65535")
    assert s.user.snd.phase == OPEN
    s.peer(". 2:2(0) ack 1 win 65535")
    assert s.user.snd.phase == RECOVERY


@pytest.mark.rfc(5681, "§2")
def test_ack_with_data_is_no_duplicate() -> None:
    s = sending()
    taken(s)
    for i in range(5):
        s.peer(f"P. {1 + i}:{2 + i}(1) ack 1 win 65535")
    assert s.user.snd.phase == OPEN


# --- super-segments ---------------------------------------------------------------------------------------------------


class Gauge(Script):
    """Looks at what is handed to the sink, before it is segmented."""

    calls: list[tuple[int, int]]

    def send(self, conn, header, payload, length, gso_size, ecn):  # type: ignore[no-untyped-def]
        self.__dict__.setdefault("calls", []).append((length, gso_size))
        return super().send(conn, header, payload, length, gso_size, ecn)


@pytest.mark.parametrize("max_burst", [MSS, 5 * MSS + 1, 20_000, 65_483])
def test_burst_is_whole_segments_and_its_gso_size_one_of_them(max_burst: int) -> None:
    s = Gauge.established(BIG, options=f"mss {MSS}", max_burst=max_burst)
    assert isinstance(s, Gauge)
    s.user.snd.cc.cwnd = 60 * MSS
    s.write(bytes(50 * MSS + 7))
    s.peer(f". 1:1(0) ack {at(30)} win 65535")
    calls = [call for call in s.calls if call[0]]
    assert sum(length for length, _ in calls) == 50 * MSS + 7
    for length, gso_size in calls[:-1]:
        assert length <= max_burst
        assert length % MSS == 0
        assert gso_size == (MSS if length > MSS else 0)
    assert calls[-1][0] % MSS == 7


def test_burst_with_timestamps_is_counted_without_them() -> None:
    s = Gauge.established(TcpConfig(), options="mss 1000,sackOK,TS val 0 ecr 0,nop,wscale 7")
    assert isinstance(s, Gauge)
    s.peer(". 1:1(0) ack 1 win 65535 <nop,nop,TS val 0 ecr 0>")
    s.write(bytes(9880))
    assert s.calls[-1] == (9880, 988)


def test_budget_ends_a_poll_and_says_that_more_waits() -> None:
    s = sending(max_burst=MSS)
    taken(s)
    s.user.snd.cc.cwnd = 60 * MSS
    assert s.poll(3)
    assert len(taken(s)) == 3
    assert s.poll(3)
    assert len(taken(s)) == 3
    assert not s.poll(1000)


def test_long_transfer_with_steady_loss_gets_through() -> None:
    """Every 23rd segment is lost, once; the peer answers each segment that comes."""
    s = sending(300, max_burst=MSS)
    arrived: set[int] = set()
    lost: set[int] = set()
    while len(arrived) < 300:
        batch = taken(s)
        if not batch:
            s.advance_to_next_deadline()
            continue
        s.advance(10 * MS)
        for i in batch:
            if i % 23 == 5 and i not in lost:
                lost.add(i)
                continue
            arrived.add(i)
            upto = next(n for n in range(301) if n not in arrived)
            s.user.on_segment(s.segment(f". 1:1(0) ack {at(upto) % 2**32} win 65535"), s.now)
        s.poll()
    assert len(lost) == 13
    assert s.now - 1_000 * SEC < 20 * SEC
    assert s.user.snd.outstanding == 0


@pytest.mark.rfc(9293, "MAY-18")
def test_unknown_algorithm_is_refused_and_changes_nothing() -> None:
    s = Script.opening()
    with pytest.raises(FileNotFoundError):
        s.user.configure(congestion="nonsense", nodelay=True)
    assert not s.user.config.nodelay
    s.peer("S. 0:0(0) ack 1 win 1000 <mss 1460>")
    assert s.user.snd.cc.name == "reno"


@pytest.mark.parametrize("name", ["reno", "cubic"])
def test_congestion_control_changed_in_a_recovery_of_bbr_takes_the_window_as_it_is(name: str) -> None:
    """bbr sets no ssthresh: nobody may take that for a window of 2 GB when the recovery ends."""
    s = sending(config=replace(BIG, congestion="bbr"))
    s.advance(50 * MS)
    ack(s, 0, 3)
    assert s.user.snd.phase == RECOVERY
    s.user.configure(congestion=name)
    window = s.user.snd.cc.cwnd
    end = s.user.snd.outstanding // MSS
    ack(s, end)
    assert s.user.snd.phase == OPEN
    assert s.user.snd.cc.cwnd <= max(window, 2 * MSS) + MSS
