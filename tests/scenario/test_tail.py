"""The end of a stream, lost; a path that becomes narrower in the middle of a recovery: RFC 8985 §7, RFC 1191."""

from collections.abc import Callable

import pytest

from tests.scenario.flight import MSS, RTT, Flight, edge
from tests.support.board import check_board
from usertcp.tcp.state import FRAGMENTATION_NEEDED, State
from usertcp.units import MASK32, MS

# --- the FIN ----------------------------------------------------------------------------------------------------------


def closing(out: int) -> Flight:
    """The user has closed; the FIN rides on the last of ``out`` segments."""
    s = Flight.answered(1, more=0)
    s.ack(1)
    s.user.snd.cc.cwnd = s.user.snd.cc.ssthresh = 20 * MSS
    assert s.user.write(bytes(out * MSS)) == out * MSS
    s.user.shutdown_write()
    s.poll()
    s.take()
    s.advance(RTT)
    return s


@pytest.mark.rfc(9293, "§3.6")
def test_rfc9293_3_6_fin_on_the_last_segment_is_sacked_with_it_and_not_sent_again() -> None:
    s = closing(6)
    s.peer(f". 1:1(0) ack {edge(1)} win 65535 <nop,nop,sack {edge(4)}:{edge(7) + 1}>")  # the FIN's number too
    assert s.leaving() == [1, 2, 3]
    check_board(s.user.snd)
    s.advance(RTT)
    s.peer(f". 1:1(0) ack {edge(7) + 1} win 65535")
    s.expect_nothing()
    s.expect_state(State.FIN_WAIT_2)
    assert s.user.snd.retransmissions == 3


@pytest.mark.rfc(9293, "§3.6")
def test_rfc9293_3_6_fin_of_a_peer_that_does_not_sack_it_is_not_taken_for_lost() -> None:
    """The text is reported, the FIN behind it has no block of its own."""
    s = closing(6)
    s.peer(f". 1:1(0) ack {edge(1)} win 65535 <nop,nop,sack {edge(2)}:{edge(7)}>")
    assert [seg.seq for seg in s.take()] == [s.user.snd.una & MASK32]
    s.advance(RTT)
    s.peer(f". 1:1(0) ack {edge(7) + 1} win 65535")
    s.expect_state(State.FIN_WAIT_2)
    assert s.user.snd.timeouts == 0


@pytest.mark.rfc(8985, "§7.3")
def test_rfc8985_7_3_fin_alone_lost_is_the_probe() -> None:
    s = closing(6)
    s.peer(f". 1:1(0) ack {edge(7)} win 65535")
    s.expect_nothing()
    s.advance_to_next_deadline()
    s.expect(f"F. {edge(7)}:{edge(7)}(0) ack 1")
    assert s.user.snd.timeouts == 0
    s.advance(RTT)
    s.peer(f". 1:1(0) ack {edge(7) + 1} win 65535")
    s.expect_state(State.FIN_WAIT_2)


@pytest.mark.rfc(8985, "§7.3")
@pytest.mark.parametrize("tail", [1, 500, 999])
def test_rfc8985_7_3_short_last_segment_with_the_fin_lost_is_the_probe_and_carries_it(tail: int) -> None:
    s = Flight.answered(1, more=0)
    s.ack(1)
    s.user.snd.cc.cwnd = 20 * MSS
    s.user.write(bytes(2 * MSS + tail))
    s.user.shutdown_write()
    s.poll()
    s.take()
    s.advance(RTT)
    s.peer(f". 1:1(0) ack {edge(3)} win 65535")
    s.expect_nothing()
    s.advance_to_next_deadline()
    s.expect(f"FP. {edge(3)}:{edge(3) + tail}({tail})")
    s.advance(RTT)
    s.peer(f". 1:1(0) ack {edge(3) + tail + 1} win 65535")
    s.expect_state(State.FIN_WAIT_2)
    assert s.user.snd.timeouts == 0


@pytest.mark.rfc(9293, "§3.6")
def test_rfc9293_3_6_everything_with_the_fin_lost_is_sent_again_and_the_fin_once_more_at_the_end() -> None:
    s = closing(3)
    fins = 0
    acked = edge(1)
    for _ in range(40):
        for seg in s.take():
            start = seg.seq - s.user.snd.iss & MASK32
            if start == acked:
                acked += len(seg.payload) + (seg.flags & 1)
                fins += seg.flags & 1
        if acked > edge(1):
            s.advance(RTT)
            s.peer(f". 1:1(0) ack {acked} win 65535")
        else:
            s.advance_to_next_deadline()
        if s.state is State.FIN_WAIT_2:
            break
    s.expect_state(State.FIN_WAIT_2)
    assert fins == 1


# --- a narrower path --------------------------------------------------------------------------------------------------


def carry_all(s: Flight, end: int, largest: int, drop: Callable[[int], bool] = lambda start: False) -> None:
    """A peer without SACK blocks of its own: acknowledges what it has in order, until all to ``end`` is there."""
    have: list[tuple[int, int]] = []
    acked = s.user.snd.una - s.user.snd.iss
    for _ in range(300):
        for seg in s.take():
            assert len(seg.payload) <= largest
            start = seg.seq - s.user.snd.iss & MASK32
            if not drop(start):
                have.append((start, start + len(seg.payload)))
        for start, stop in sorted(have):
            if start <= acked:
                acked = max(acked, stop)
        if acked == end:
            break
        s.advance(RTT if s.user.next_deadline() > s.now + RTT else s.user.next_deadline() - s.now)
        s.peer(f". 1:1(0) ack {acked} win 65535")
        check_board(s.user.snd)
    assert acked == end
    s.peer(f". 1:1(0) ack {acked} win 65535")
    assert s.user.snd.outstanding == 0


@pytest.mark.rfc(1191, "§6.3")
@pytest.mark.parametrize("sack", [False, True])
@pytest.mark.parametrize("mtu", [552, 700, 1039])
def test_rfc1191_6_3_narrower_path_in_a_recovery_all_goes_again_in_smaller_segments(sack: bool, mtu: int) -> None:
    s = Flight.answered(20, sack=sack, more=0)
    if sack:
        s.ack(0, (1, 4))
        s.tick(0, (5, 6), (1, 4))
    else:
        s.ack(0, times=4)
    assert s.phase == "RECOVERY"
    ssthresh = s.window[1]
    s.user.on_unreachable(FRAGMENTATION_NEEDED, s.user.snd.una & MASK32, mtu, s.now)
    s.poll()
    assert s.window[1] == ssthresh  # no congestion (RFC 1191 §6.5)
    check_board(s.user.snd)
    carry_all(s, edge(20), mtu - 40)
    assert s.phase == "OPEN"


@pytest.mark.rfc(1191, "§6.3")
def test_rfc1191_6_3_path_becomes_narrower_in_a_recovery_what_was_sacked_is_not_sent_again() -> None:
    s = Flight.answered(10, more=0)
    s.ack(0, (6, 10))
    s.take()
    s.user.on_unreachable(FRAGMENTATION_NEEDED, s.user.snd.una & MASK32, 700, s.now)
    s.poll()
    sent = s.take()
    s.advance(1 * MS)
    s.peer(f". 1:1(0) ack {edge(2)} win 65535 <nop,nop,sack {edge(6)}:{edge(10)}>")
    sent += s.take()
    for seg in sent:
        start = seg.seq - s.user.snd.iss & MASK32
        assert start + len(seg.payload) <= edge(6)
        assert len(seg.payload) <= 660


@pytest.mark.rfc(1191, "§6.3")
def test_rfc1191_6_3_path_becomes_narrower_after_a_time_out() -> None:
    s = Flight.of(10, more=0)
    while not s.user.snd.timeouts:
        s.advance_to_next_deadline()
    s.leaving()
    s.user.on_unreachable(FRAGMENTATION_NEEDED, s.user.snd.una & MASK32, 600, s.now)
    s.poll()
    carry_all(s, edge(10), 560)


@pytest.mark.rfc(2018, "§5")
def test_rfc2018_4_blocks_of_small_segments_after_the_path_became_narrower_are_understood() -> None:
    """Records of two sizes: what was 1000 bytes went again in pieces of 660."""
    s = Flight.answered(10, more=0)
    s.user.on_unreachable(FRAGMENTATION_NEEDED, s.user.snd.una & MASK32, 700, s.now)
    s.poll()
    sizes = {len(seg.payload) for seg in s.take()}
    assert max(sizes) == 660
    s.advance(RTT)
    s.peer(f". 1:1(0) ack 1 win 65535 <nop,nop,sack {1 + 660}:{1 + 3 * 660}>")
    check_board(s.user.snd)
    assert s.user.snd.board.sacked == 2 * 660
    s.peer(f". 1:1(0) ack 1 win 65535 <nop,nop,sack {1 + 660}:{1 + 5 * 660}>")
    check_board(s.user.snd)
    assert (1, 660) in [(seg.seq - s.user.snd.iss & MASK32, len(seg.payload)) for seg in s.take()]


@pytest.mark.rfc(8985, "§7.3")
def test_rfc8985_7_3_full_last_segment_with_the_fin_is_the_probe_as_it_was() -> None:
    """The highest-sequence segment sent is 1000 bytes and the FIN. The FIN alone tells nothing: a receiver need not
    report it (ours does not), then only the RTO mends it."""
    s = Flight.answered(1, more=0)
    s.ack(1)
    s.user.snd.cc.cwnd = 20 * MSS
    s.user.write(bytes(3 * MSS))
    s.user.shutdown_write()
    s.poll()
    s.take()
    s.advance(RTT)
    s.peer(". 1:1(0) ack 3001 win 65535")
    s.expect_nothing()
    s.advance_to_next_deadline()
    s.expect("FP. 3001:4001(1000)")
