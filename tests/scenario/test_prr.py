"""How the window comes down while losses are mended: Proportional Rate Reduction, RFC 9937."""

import pytest

from tests.scenario.flight import MSS, RTT, Flight
from usertcp.units import MS


class Rfc:
    """RFC 9937 §6.1 to §6.3, word by word."""

    def __init__(self, ssthresh: int, recover_fs: int) -> None:
        self.ssthresh = ssthresh
        self.recover_fs = recover_fs
        self.delivered = self.out = 0

    def cwnd(self, delivered: int, inflight: int, *, safe: bool = False) -> int:
        self.delivered += delivered
        if inflight > self.ssthresh:
            count = -(-self.delivered * self.ssthresh // self.recover_fs) - self.out
        else:
            count = max(self.delivered - self.out, delivered)
            if safe:
                count += MSS
            count = min(self.ssthresh - inflight, count)
        if self.out == 0 and count == 0:
            count = MSS
        return inflight + max(count, 0)


def step(s: Flight, rfc: Rfc, upto: int, *sacked: tuple[int, int], delivered: int = MSS, safe: bool = False) -> int:
    """One ACK: the window is the RFC's, and is used in full segments. How many segments left."""
    sent = len(s.tick(upto, *sacked)) * MSS
    inflight = s.pipe - sent
    assert s.window[0] == rfc.cwnd(delivered, inflight, safe=safe)
    if rfc.out:  # the fast retransmission goes at once, whatever the bound
        assert sent == max(s.window[0] - inflight, 0) // MSS * MSS
    rfc.out += sent
    return sent // MSS


@pytest.mark.rfc(9937, "§8")
def test_rfc9937_8_one_loss_of_twenty_one_segment_for_two_acks() -> None:
    """Figure 1, counted in bytes."""
    s = Flight.answered(20)
    assert s.tick(0, (1, 2)) == [20]
    assert s.tick(0, (1, 3)) == [21]
    rfc = Rfc(10 * MSS, 20 * MSS)
    assert step(s, rfc, 0, (1, 4)) == 1  # the retransmission
    assert s.user.snd.retransmissions == 1
    sent = [step(s, rfc, 0, (1, n)) for n in range(5, 21)]
    assert max(sent) == 1
    assert sum(sent) == 7
    s.advance(RTT - 20 * MS)
    sent = [step(s, rfc, 0, (1, 21)), step(s, rfc, 0, (1, 22))]
    assert sum(sent) in (1, 2)
    assert rfc.out == pytest.approx(10 * MSS, abs=MSS)  # half of what was delivered
    s.tick(22)
    assert s.phase == "OPEN"
    assert s.window == (10 * MSS, 10 * MSS)
    assert s.pipe == 10 * MSS


@pytest.mark.rfc(9937, "§8")
def test_rfc9937_8_fifteen_losses_of_twenty_conservative_bound_one_segment_for_each_delivered() -> None:
    """Figure 2, and what follows it: with the first cumulative ACKs one more for each, up to ssthresh (PRR-SSRB)."""
    s = Flight.answered(20)
    assert s.tick(0, (15, 16)) == [20]
    assert s.tick(0, (15, 17)) == [21]
    assert s.pipe == 20 * MSS
    rfc = Rfc(10 * MSS, 20 * MSS)
    for n in (18, 19, 20):
        assert step(s, rfc, 0, (15, n)) == 1
        assert s.pipe == 5 * MSS
        assert s.window[0] == 5 * MSS
    s.advance(RTT - 5 * MS)
    assert step(s, rfc, 0, (15, 21)) == 1
    assert step(s, rfc, 0, (15, 22)) == 1
    assert s.user.snd.retransmissions == 5
    pipes = []
    for n in range(1, 9):
        step(s, rfc, n, (15, 22), safe=True)
        pipes.append(s.pipe // MSS)
    assert pipes == [6, 7, 8, 9, 10, 10, 10, 10]
    assert s.phase == "RECOVERY"
    assert s.user.snd.timeouts == 0


@pytest.mark.rfc(9937, "§6.2")
def test_rfc9937_6_2_conservative_bound_ack_that_tells_of_more_losses_is_not_safe() -> None:
    """SND.UNA advances, but something else is found lost by the same ACK: no segment more."""
    s = Flight.answered(20)
    s.tick(0, (15, 16))
    s.tick(0, (15, 17))  # limited transmit: 20, 21
    for n in (18, 19, 20):
        s.tick(0, (15, n))  # 0, 1 and 2 are sent again
    s.advance(RTT - 2 * MS)
    s.tick(1, (15, 20))
    retransmitted = s.user.snd.retransmissions
    before = s.pipe
    out = s.tick(1, (2, 3), (15, 20))  # 1 was lost again
    assert 1 in out
    assert s.pipe <= before
    assert s.user.snd.retransmissions - retransmitted == 1


@pytest.mark.rfc(9937, "§7")
@pytest.mark.parametrize("lost", [12, 15, 17])
def test_rfc9937_7_conservative_bound_no_more_is_sent_than_was_delivered(lost: int) -> None:
    s = Flight.answered(20)
    s.tick(0, (lost, lost + 1))
    s.tick(0, (lost, lost + 2))
    sent = 0
    for delivered, n in enumerate(range(lost + 3, 21), 1):
        sent += len(s.tick(0, (lost, n)))
        assert sent <= delivered
    assert s.phase == "RECOVERY"


@pytest.mark.rfc(9937, "§6.2")
def test_rfc9937_6_2_ack_that_delivers_nothing_changes_nothing() -> None:
    s = Flight.answered(20)
    s.ack(0, (1, 4))
    for n in range(5, 9):
        s.tick(0, (1, n))
    window, pipe = s.window, s.pipe
    assert s.tick(0, (1, 8)) == []
    assert s.tick(0, (1, 4)) == []
    assert s.tick(0) == []
    assert (s.window, s.pipe) == (window, pipe)


@pytest.mark.rfc(9937, "§6.4")
@pytest.mark.parametrize("lost", [1, 2, 5, 9, 10, 11, 16])
def test_rfc9937_6_4_recovery_ends_with_the_window_at_ssthresh(lost: int) -> None:
    """Whatever the number of losses; and so much is then in the network."""
    s = Flight.of(20)
    mended = 22
    s.deliver(mended, lose={(n, 0) for n in range(lost)}, first=range(20))
    assert s.phase == "OPEN"
    cwnd, ssthresh = s.window
    assert ssthresh == 10 * MSS
    assert 10 * MSS <= cwnd <= 11 * MSS
    assert s.pipe == cwnd


@pytest.mark.rfc(9937, "§6.1")
def test_rfc9937_6_1_what_the_ack_that_begins_recovery_acknowledges_counts() -> None:
    """RecoverFS holds what that ACK acknowledges and what it reports."""
    s = Flight.answered(20)
    rfc = Rfc(10 * MSS, 20 * MSS)
    assert step(s, rfc, 2, (3, 6), delivered=5 * MSS) == 2  # 2.5 segments
    assert s.phase == "RECOVERY"


@pytest.mark.rfc(9937, "§6.1")
def test_rfc9937_6_1_what_was_sacked_before_recovery_does_not_count() -> None:
    s = Flight.answered(20)
    assert s.tick(0, (3, 4)) == [20]
    rfc = Rfc(10 * MSS, 20 * MSS)  # of 21
    step(s, rfc, 0, (3, 7), delivered=3 * MSS)
    assert s.phase == "RECOVERY"


@pytest.mark.rfc(9937, "§7")
def test_rfc9937_7_user_that_stalls_in_recovery_catches_up() -> None:
    """What could not be sent for want of data is not lost to the window: it may all go later, up to ssthresh."""
    s = Flight.answered(20, more=0)
    assert s.ack(0, (1, 4)) == [0]
    for n in range(5, 16):
        assert s.tick(0, (1, n)) == []
    assert s.pipe == 6 * MSS
    s.write(bytes(100 * MSS))
    assert s.leaving() == [20, 21, 22, 23]
    assert s.pipe == 10 * MSS


@pytest.mark.rfc(8985, "§9.3")
@pytest.mark.rfc(9937, "§6.2")
@pytest.mark.rfc(8985, "§6.2")
def test_rfc9937_6_2_recovery_that_the_reordering_timer_begins_sends_one_segment() -> None:
    """No ACK delivers anything at that moment: only the fast retransmission goes."""
    s = Flight.answered(20)
    assert s.ack(0, (18, 20)) == [20, 21]
    s.advance(RTT // 4)
    assert s.phase == "RECOVERY"
    assert s.leaving() == [0]
    assert s.window[1] == 10 * MSS


# --- without SACK -----------------------------------------------------------------------------------------------------


@pytest.mark.rfc(9937, "§6.2")
def test_rfc9937_6_2_without_sack_each_duplicate_delivers_one_segment() -> None:
    s = Flight.answered(20, sack=False)
    assert s.tick(0) == [20]
    assert s.tick(0) == [21]
    sent = s.tick(0)
    assert sent == [0]
    for _ in range(18):
        sent += s.tick(0)
    assert len(sent) == pytest.approx(10, abs=1)  # half of the 19 duplicates since
    assert set(sent[1:]) == set(range(22, 22 + len(sent) - 1))
    s.tick(22)
    assert s.phase == "OPEN"
    assert s.window == (10 * MSS, 10 * MSS)


@pytest.mark.rfc(9937, "§6.2")
def test_rfc9937_6_2_without_sack_partial_ack_delivers_what_the_duplicates_did_not() -> None:
    s = Flight.answered(20, sack=False)
    for _ in range(18):
        s.tick(0)  # 0 and 7 were lost
    s.advance(RTT)
    before = s.pipe
    sent = s.tick(7)
    assert sent[0] == 7
    assert len(sent) <= 3
    assert s.pipe <= before + 2 * MSS
    s.advance(RTT)
    s.tick(20 + 2)
    assert s.window[1] == 10 * MSS


# --- a reduction without losses, to four fifths (ABE, RFC 8511) -------------------------------------------------------


@pytest.mark.rfc(9937, "§11.2")
@pytest.mark.rfc(3168, "§6.1.2")
def test_rfc9937_11_2_congestion_experienced_window_comes_down_in_a_round_trip() -> None:
    s = Flight.answered(20)
    s.user.snd.on_ecn(MSS, s.now)
    assert s.phase == "CWR"
    assert s.window[1] == 16 * MSS
    rfc = Rfc(16 * MSS, 20 * MSS)
    sent = []
    for n in range(1, 20):
        before = s.pipe
        out = len(s.tick(n)) * MSS
        assert before - MSS == s.pipe - out
        if n > 1:
            assert s.window[0] == rfc.cwnd(MSS, before - MSS, safe=True)
        else:
            rfc.delivered += MSS
        rfc.out += out
        sent.append(out // MSS)
    assert sum(sent) == pytest.approx(16, abs=1)
    assert max(sent) == 1
    s.tick(20)
    assert s.phase == "OPEN"
    assert s.window == (16 * MSS, 16 * MSS)
    assert s.user.snd.retransmissions == 0


@pytest.mark.rfc(3168, "§6.1.2")
def test_rfc3168_6_1_2_congestion_experienced_again_in_the_same_window_reduces_no_further() -> None:
    s = Flight.answered(20)
    for n in range(1, 20):
        s.user.snd.on_ecn(MSS, s.now)
        s.tick(n)
        assert s.window[1] == 16 * MSS
    s.tick(20)
    assert s.phase == "OPEN"
    s.user.snd.on_ecn(MSS, s.now)
    assert s.phase == "CWR"
    assert s.window[1] == 16 * MSS * 4 // 5


@pytest.mark.rfc(3168, "§6.1.2")
def test_rfc3168_6_1_2_congestion_experienced_and_a_loss_in_the_same_window_reduce_once() -> None:
    s = Flight.answered(20)
    s.user.snd.on_ecn(MSS, s.now)
    s.tick(1)
    s.tick(1, (2, 5))
    assert s.phase == "RECOVERY"
    assert s.user.snd.retransmissions == 1
    assert s.window[1] == 16 * MSS


@pytest.mark.rfc(3168, "§6.1.2")
def test_rfc3168_6_1_2_congestion_experienced_in_a_recovery_reduces_no_further() -> None:
    s = Flight.answered(20)
    s.ack(0, (1, 4))
    s.user.snd.on_ecn(MSS, s.now)
    assert s.phase == "RECOVERY"
    assert s.window[1] == 10 * MSS
