"""The tail loss probe (RFC 8985 §7): when it is due, what it sends, and what its answer means."""

from typing import Final

import pytest

from usertcp.tcp.config import TcpConfig
from usertcp.tcp.recovery import CWR, LOSS, RECOVERY
from usertcp.tcp.sender import Sender
from usertcp.tcp.tlp import MAX_ACK_DELAY, TailLossProbe
from usertcp.units import MASK32, MS, SEC

ISS: Final = 0xFFFF_F000
BASE: Final = ISS + 1
SEG: Final = 1000
RTT: Final = 50 * MS


def _sender(wnd: int = 1 << 20) -> Sender:
    """Established, the peer has SACK, its window is ``wnd``."""
    snd = Sender(TcpConfig(), ISS, SEG)
    snd.sack_ok = True
    snd.on_sent(ISS, BASE, 0, 1)
    snd.on_ack(BASE, RTT)
    snd.wnd = snd.max_wnd = wnd
    return snd


def _sent(size: int, *, unsent: int = 0, wnd: int = 1 << 20) -> Sender:
    """``size`` bytes were sent in one burst, ``unsent`` wait."""
    snd = _sender(wnd)
    snd.buffer.write(bytes(size + unsent))
    snd.on_sent(BASE, BASE + size, RTT, SEG)
    return snd


def _probe(end: int, *, retrans: bool) -> TailLossProbe:
    """A probe is under way that left when SND.NXT was ``end``."""
    tlp = TailLossProbe()
    tlp.due = True
    tlp.on_sent(end, retrans)
    return tlp


# --- when ------------------------------------------------------------------------------------------------------------


@pytest.mark.rfc(8985, "§7.2")
def test_probe_waits_two_round_trips() -> None:
    assert TailLossProbe().timeout(RTT, lone=False) == 2 * RTT + 2 * MS


@pytest.mark.rfc(8985, "§7.2")
def test_probe_of_a_lone_segment_waits_for_the_peers_delayed_ack_too() -> None:
    assert TailLossProbe().timeout(RTT, lone=True) == 2 * RTT + MAX_ACK_DELAY


@pytest.mark.rfc(8985, "§7.2")
def test_probe_without_any_round_trip_known_waits_a_second() -> None:
    assert TailLossProbe().timeout(0, lone=True) == TailLossProbe().timeout(0, lone=False) == SEC


@pytest.mark.rfc(8985, "§7.2")
def test_data_in_flight_may_be_probed() -> None:
    assert _sent(2000).may_probe


def test_nothing_in_flight_is_not_probed() -> None:
    assert not _sender().may_probe


@pytest.mark.rfc(8985, "§4")
def test_peer_without_sack_is_not_probed() -> None:
    snd = _sent(2000)
    snd.sack_ok = False
    assert not snd.may_probe


@pytest.mark.rfc(8985, "§7.2")
@pytest.mark.parametrize(("phase", "may"), [(CWR, True), (RECOVERY, False), (LOSS, False)])
def test_data_in_flight_in_recovery_is_not_probed(phase: int, may: bool) -> None:
    snd = _sent(2000)
    snd.phase = phase
    assert snd.may_probe == may


@pytest.mark.rfc(8985, "§7.2")
def test_data_of_which_some_was_sacked_is_not_probed() -> None:
    snd = _sent(3000)
    snd.board.sack(BASE + 1000, BASE + 2000)
    assert not snd.may_probe


@pytest.mark.rfc(8985, "§7.3")
def test_probe_under_way_allows_no_other() -> None:
    snd = _sent(2000)
    snd.tlp.on_sent(snd.nxt, True)
    assert not snd.may_probe


@pytest.mark.rfc(8985, "§7.3")
def test_probe_answered_without_a_round_trip_measured_allows_no_other_until_one_is() -> None:
    snd = _sent(3000)
    assert snd.may_probe
    snd.on_sent(BASE + 2000, BASE + 3000, 3 * RTT, SEG)
    snd.tlp.on_sent(snd.nxt, True)
    snd.on_ack(BASE + 3000, 4 * RTT, blocks=(((BASE + 2000) & MASK32, (BASE + 3000) & MASK32),))  # came twice
    assert snd.tlp.end == -1
    snd.buffer.write(bytes(2000))
    snd.on_sent(BASE + 3000, BASE + 4000, 4 * RTT, SEG)
    assert not snd.may_probe
    snd.on_sent(BASE + 4000, BASE + 5000, 4 * RTT, SEG)
    snd.on_ack(BASE + 4000, 5 * RTT)
    assert snd.may_probe


# --- what ------------------------------------------------------------------------------------------------------------


@pytest.mark.rfc(8985, "§7.3")
def test_probe_with_text_waiting_sends_one_new_segment() -> None:
    snd = _sent(2000, unsent=5000)
    assert snd.next_probe(SEG) == (BASE + 2000, 1000)


@pytest.mark.rfc(8985, "§7.3")
def test_probe_with_little_text_waiting_sends_it_all() -> None:
    assert _sent(2000, unsent=70).next_probe(SEG) == (BASE + 2000, 70)


@pytest.mark.rfc(8985, "§7.3")
def test_probe_goes_beyond_the_congestion_window() -> None:
    snd = _sent(2000, unsent=5000)
    snd.cc.cwnd = 2000
    assert snd.next_new(SEG, 1 << 16, nodelay=True) == 0
    assert snd.next_probe(SEG) == (BASE + 2000, 1000)


@pytest.mark.rfc(8985, "§7.3")
def test_probe_without_new_text_repeats_the_last_segment() -> None:
    assert _sent(3000).next_probe(SEG) == (BASE + 2000, 1000)
    assert _sent(2300).next_probe(SEG) == (BASE + 2000, 300)
    assert _sent(40).next_probe(SEG) == (BASE, 40)


@pytest.mark.rfc(8985, "§7.3")
def test_probe_where_the_peers_window_is_full_repeats_the_last_segment() -> None:
    assert _sent(3000, unsent=5000, wnd=3000).next_probe(SEG) == (BASE + 2000, 1000)


def test_probe_of_a_segment_larger_than_the_path_now_takes_ends_where_it_ended() -> None:
    assert _sent(3000).next_probe(400) == (BASE + 2600, 400)


def test_probe_of_what_the_peers_window_no_longer_holds_sends_nothing() -> None:
    snd = _sent(3000)
    snd.wnd = 2000
    assert snd.next_probe(SEG)[1] == 0


def test_probe_of_nothing_in_flight_sends_nothing() -> None:
    assert _sender().next_probe(SEG)[1] == 0


# --- its answer ------------------------------------------------------------------------------------------------------


def test_probe_sent_is_remembered_and_counted() -> None:
    tlp = _probe(5000, retrans=True)
    assert (tlp.end, tlp.is_retrans, tlp.due, tlp.sent) == (5000, True, False, 1)


@pytest.mark.rfc(8985, "§7.1")
@pytest.mark.rfc(8985, "§7.4.2")
def test_no_probe_under_way_means_nothing_was_mended() -> None:
    assert not TailLossProbe().mended(9000, dsack=False, duplicate=False)


@pytest.mark.rfc(8985, "§7.4.2")
def test_ack_below_the_probe_leaves_it_under_way() -> None:
    tlp = _probe(5000, retrans=True)
    assert not tlp.mended(4999, dsack=False, duplicate=True)
    assert tlp.end == 5000


@pytest.mark.rfc(8985, "§7.4.2")
@pytest.mark.parametrize("ack", [5000, 5001])
def test_probe_of_new_text_answered_was_no_repair(ack: int) -> None:
    tlp = _probe(5000, retrans=False)
    assert not tlp.mended(ack, dsack=False, duplicate=False)
    assert tlp.end == -1


@pytest.mark.rfc(8985, "§7.4.2")
def test_probe_reported_as_received_twice_was_no_repair() -> None:
    tlp = _probe(5000, retrans=True)
    assert not tlp.mended(5000, dsack=True, duplicate=False)
    assert tlp.end == -1


@pytest.mark.rfc(8985, "§7.4.2")
def test_probe_answered_by_a_bare_duplicate_was_no_repair() -> None:
    tlp = _probe(5000, retrans=True)
    assert not tlp.mended(5000, dsack=False, duplicate=False)  # which copy is answered nobody knows yet
    assert tlp.end == 5000
    assert not tlp.mended(5000, dsack=False, duplicate=True)
    assert tlp.end == -1


@pytest.mark.rfc(8985, "§7.4.2")
def test_ack_beyond_the_probe_without_any_sign_of_two_copies_means_a_repair() -> None:
    tlp = _probe(5000, retrans=True)
    assert not tlp.mended(5000, dsack=False, duplicate=False)
    assert tlp.mended(5001, dsack=False, duplicate=False)
    assert tlp.end == -1
    assert not tlp.mended(6000, dsack=False, duplicate=False)  # once


def test_cancelled_probe_is_neither_due_nor_under_way() -> None:
    tlp = _probe(5000, retrans=True)
    tlp.due = True
    tlp.cancel()
    assert (tlp.end, tlp.due, tlp.sent) == (-1, False, 1)


@pytest.mark.rfc(8985, "§7.4.2")
def test_probe_that_mended_a_loss_reduces_the_window_once() -> None:
    snd = _sent(10_000)
    before = snd.cc.cwnd
    snd.on_ack(BASE + 9000, 2 * RTT)
    snd.on_sent(BASE + 9000, BASE + 10_000, 4 * RTT, SEG)
    snd.tlp.on_sent(snd.nxt, True)
    snd.on_ack(BASE + 10_000, 5 * RTT)
    assert snd.phase != CWR
    snd.buffer.write(bytes(1000))
    snd.on_sent(BASE + 10_000, BASE + 11_000, 5 * RTT, SEG)
    snd.on_ack(BASE + 11_000, 6 * RTT)
    assert snd.cc.ssthresh < before
    assert (snd.tlp.end, snd.board.lost, snd.retransmissions) == (-1, 0, 1)


@pytest.mark.rfc(8985, "§7.4.1")
def test_probe_of_new_text_sacked_lets_rack_find_the_tail_lost() -> None:
    snd = _sent(3000, unsent=1000)
    snd.on_sent(BASE + 3000, BASE + 4000, 4 * RTT, SEG)
    snd.tlp.on_sent(snd.nxt, False)
    snd.on_ack(BASE, 5 * RTT, blocks=(((BASE + 3000) & MASK32, (BASE + 4000) & MASK32),), duplicate=True)
    assert (snd.phase, snd.board.lost) == (RECOVERY, 3000)
    assert snd.tlp.end == -1  # the recovery knows better
