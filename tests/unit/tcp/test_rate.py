"""Delivery rate samples (draft-ietf-ccwg-bbr §4.1): of a steady flow, of bunched sendings and ACKs, of an idle user."""

from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usertcp.tcp.cc.base import AckSample
from usertcp.tcp.rate import DeliveryRate
from usertcp.tcp.scoreboard import Scoreboard, Sent
from usertcp.units import MS, SEC

BASE: Final = 0xFFFF_FF00
SEG: Final = 1000


class Flow:
    """Segments and the samples that their acknowledgments give; times in ms."""

    def __init__(self, min_rtt: int = 0) -> None:
        self.rate = DeliveryRate()
        self.board = Scoreboard()
        self.min_rtt = min_rtt
        self.una = self.nxt = BASE

    def send(self, at: int, segments: int = 1) -> Sent:
        """A burst of ``segments``."""
        end = self.nxt + segments * SEG
        idle = self.board.in_flight == 0
        record = self.board.push(self.nxt, end, at * MS, SEG)
        self.nxt = end
        self.rate.on_send(record, self.board.in_flight, at * MS, idle=idle)
        return record

    def resend(self, at: int, number: int) -> Sent:
        """Segment ``number`` once more."""
        start = BASE + number * SEG
        self.board.mark_first_lost()
        idle = self.board.in_flight == 0
        (record,) = self.board.resend(start, start + SEG, at * MS, SEG)
        self.rate.on_send(record, self.board.in_flight, at * MS, idle=idle)
        return record

    def ack(self, at: int, segments: int = 1, *, blind: bool = False) -> AckSample:
        """The next ``segments`` are acknowledged; ``blind``: those behind the first had arrived before, unseen."""
        self.una += segments * SEG
        self.board.ack_to(self.una)
        return self._sample(at, blind)

    def sack(self, at: int, *segments: int) -> AckSample:
        """``segments``, by their numbers, are reported."""
        for i in segments:
            self.board.sack(BASE + i * SEG, BASE + (i + 1) * SEG)
        return self._sample(at)

    def _sample(self, at: int, blind: bool = False) -> AckSample:
        sample = AckSample(at * MS)
        sample.min_rtt = self.min_rtt * MS
        self.rate.sample(self.board.fresh, sample, blind=blind)
        self.board.fresh.clear()
        return sample


def _per_ms(sample: AckSample) -> float:
    """The rate in bytes a millisecond."""
    return sample.rate / 1000


# --- what a record notes ---------------------------------------------------------------------------------------------


def test_record_sent_notes_how_things_stand() -> None:
    flow = Flow()
    first = flow.send(10)
    assert first.then == (0, 10 * MS, 10 * MS, 0, 1000, False)
    flow.send(11)
    flow.ack(50)
    flow.rate.lost = 7
    later = flow.send(52)
    assert later.then == (1000, 50 * MS, 10 * MS, 7, 2000, False)


def test_record_sent_into_an_empty_network_begins_the_interval() -> None:
    flow = Flow()
    flow.send(10)
    flow.ack(50)
    again = flow.send(500)
    assert again.then[:3] == (1000, 500 * MS, 500 * MS)
    assert _per_ms(flow.ack(540)) == 1000 / 40


# --- the sample ------------------------------------------------------------------------------------------------------


def test_steady_flow_gives_its_rate() -> None:
    flow = Flow(min_rtt=40)
    rates = []
    for at in range(200):
        flow.send(at)
        if at >= 40:
            rates.append(_per_ms(flow.ack(at)))
    assert set(rates[80:]) == {1000}


def test_gap_that_closes_unseen_gives_no_sample_and_nothing_sent_before_does() -> None:
    """Without SACK: a whole window seems to be delivered by the retransmission alone."""
    flow = Flow(min_rtt=40)
    for at in range(40):
        flow.send(at)
    flow.resend(50, 0)
    flow.send(60)
    assert flow.ack(90, 40, blind=True).rate == 0
    assert flow.ack(100).rate == 0
    flow.send(100)
    assert _per_ms(flow.ack(140)) == 25
    assert flow.rate.rate == 25 * SEG


def test_burst_sent_at_once_gives_the_rate_of_its_acks() -> None:
    flow = Flow()
    for _ in range(10):
        flow.send(0)
    rates = [flow.ack(40 + 2 * i).rate for i in range(10)]  # the bottleneck takes 500 bytes a ms
    assert rates == [(i + 1) * 1000 * SEC // ((40 + 2 * i) * MS) for i in range(10)]


@pytest.mark.rfc("draft-ietf-ccwg-bbr", "§4.1.1.2")
def test_acks_that_come_bunched_give_no_more_than_the_rate_of_sending() -> None:
    flow = Flow()
    for at in range(0, 160, 2):  # 500 bytes a ms
        if at >= 40 and at <= 100:
            flow.ack(at)
        flow.send(at)
    flow.ack(160)  # the first of those held back from 102 to 160; this one lets a segment go
    last = flow.send(160)
    flow.ack(160, 29)
    for at in range(162, 200, 2):
        flow.ack(at)
    sample = flow.ack(200)
    assert last.then[1] == 160 * MS  # by the ACKs alone 49 segments would have been delivered in 40 ms
    assert (sample.delivered - sample.prior_delivered, sample.interval) == (49_000, 98 * MS)
    assert _per_ms(sample) == 500


@pytest.mark.rfc("draft-ietf-ccwg-bbr", "§4.1.2")
def test_ack_for_many_records_is_judged_by_the_one_sent_last() -> None:
    flow = Flow()
    for at in (0, 5, 10):
        flow.send(at)
    sample = flow.ack(60, 3)
    assert (sample.rate, sample.interval, sample.prior_delivered) == (3000 * SEC // (60 * MS), 60 * MS, 0)
    assert (sample.delivered, sample.tx_in_flight) == (3000, 3000)


def test_sack_of_several_blocks_is_judged_by_the_record_sent_last() -> None:
    flow = Flow()
    flow.send(0)
    flow.send(5, 3)
    flow.send(10)
    newest_first = flow.sack(60, 4, 2)
    assert (newest_first.tx_in_flight, newest_first.delivered) == (5000, 2000)
    assert flow.ack(61).tx_in_flight == 1000


def test_ack_for_records_of_one_instant_is_judged_by_the_last_of_them() -> None:
    flow = Flow()
    for _ in range(3):
        flow.send(0)
    assert flow.sack(60, 2, 1).tx_in_flight == 3000
    assert flow.ack(61, 3).tx_in_flight == 1000


def test_retransmission_delivered_is_the_record_sent_last() -> None:
    flow = Flow()
    for _ in range(4):
        flow.send(0)
    flow.sack(40, 1, 2)
    flow.resend(41, 0)
    sample = flow.ack(81, 4)
    assert (sample.prior_delivered, sample.delivered, sample.interval) == (2000, 4000, 41 * MS)


def test_burst_acknowledged_in_parts_gives_a_sample_each() -> None:
    flow = Flow()
    flow.send(0, 10)
    assert [flow.ack(40 + i).delivered for i in range(10)] == list(range(1000, 11_000, 1000))
    assert flow.rate.rate == 10_000 * SEC // (49 * MS)


@pytest.mark.rfc("draft-ietf-ccwg-bbr", "§4.1.2.3")
def test_interval_shorter_than_the_least_round_trip_gives_no_sample() -> None:
    flow = Flow(min_rtt=40)
    flow.send(0)
    flow.resend(50, 0)
    sample = flow.ack(51)  # the original's ACK
    assert (sample.rate, sample.interval, sample.delivered) == (0, 0, 1000)
    assert flow.rate.rate == 0


def test_ack_that_delivers_nothing_gives_no_sample() -> None:
    flow = Flow()
    flow.send(0)
    sample = flow.ack(40, 0)
    assert (sample.rate, sample.interval, sample.delivered) == (0, 0, 0)
    assert _per_ms(flow.ack(50)) == 1000 / 50  # nor does it end an interval


def test_losses_since_the_record_was_sent_are_told() -> None:
    flow = Flow()
    flow.rate.lost = 3000
    flow.send(0)
    flow.rate.lost = 5000
    assert flow.ack(40).lost_since == 2000


# --- the user has nothing to send ------------------------------------------------------------------------------------


@pytest.mark.rfc("draft-ietf-ccwg-bbr", "§4.1.2.4")
def test_records_sent_after_the_user_ran_dry_are_limited_until_those_before_are_delivered() -> None:
    flow = Flow()
    flow.send(0)
    flow.send(0)
    flow.rate.on_user_idle(flow.board.in_flight)
    bubble = flow.send(20)
    assert bubble.then[5]
    assert [flow.ack(40).app_limited, flow.ack(41).app_limited] == [False, False]
    assert flow.send(42).then[5]  # all of what was out is delivered, and nothing behind it
    assert flow.ack(60).app_limited
    assert not flow.send(61).then[5]


def test_user_idle_later_on_limits_what_is_sent_behind_what_is_out() -> None:
    flow = Flow()
    flow.send(0, 5)
    flow.ack(40, 4)
    flow.rate.on_user_idle(flow.board.in_flight)
    flow.ack(41)
    assert flow.send(42).then[5]  # the fifth was out when the user ran dry


def test_user_idle_with_an_empty_network_limits_the_next_record() -> None:
    flow = Flow()
    flow.rate.on_user_idle(0)
    assert flow.send(0).then[5]
    assert flow.ack(40).app_limited
    assert not flow.send(41).then[5]


def test_limited_sample_below_the_last_rate_leaves_it_and_one_above_takes_its_place() -> None:
    flow = Flow()
    flow.send(0, 10)
    flow.ack(40, 10)
    best = flow.rate.rate
    flow.rate.on_user_idle(0)
    flow.send(100)
    limited = flow.ack(140)
    assert limited.app_limited
    assert 0 < limited.rate < best
    assert (flow.rate.rate, flow.rate.rate_app_limited) == (best, False)
    flow.rate.on_user_idle(0)
    flow.send(200, 20)
    flow.ack(240, 20)
    assert (flow.rate.rate, flow.rate.rate_app_limited) == (2 * best, True)


def test_full_sample_below_the_last_rate_takes_its_place() -> None:
    flow = Flow()
    flow.send(0, 10)
    flow.ack(40, 10)
    flow.send(100)
    assert flow.ack(140).rate == flow.rate.rate == 1000 * SEC // (40 * MS)


# --- any path --------------------------------------------------------------------------------------------------------


@given(
    gaps=st.lists(st.integers(0, 12), min_size=1, max_size=60),
    service=st.integers(1, 10),
    delay=st.integers(1, 50),
    dropped=st.sets(st.integers(0, 59), max_size=10),
)
def test_any_flow_through_a_bottleneck_never_seems_faster_than_it(
    gaps: list[int], service: int, delay: int, dropped: set[int]
) -> None:
    """A queue serves a segment in ``service`` ms; those ``dropped`` behind it are never heard of."""
    flow = Flow()
    events: list[tuple[int, int, int]] = []
    at = free = 0
    for i, gap in enumerate(gaps):
        at += gap
        free = max(free, at) + service
        events.append((at, 1, i))
        if i not in dropped:
            events.append((free + delay, 0, i))
    for at, sends, i in sorted(events):
        if sends:
            flow.send(at)
        else:
            assert flow.sack(at, i).rate <= SEG * SEC // (service * MS)


@given(
    gaps=st.lists(st.integers(2, 12), min_size=1, max_size=60),
    held=st.lists(st.integers(0, 40), min_size=60, max_size=60),
)
def test_any_bunching_of_acks_never_seems_faster_than_the_sending(gaps: list[int], held: list[int]) -> None:
    """Each ACK is held back for some time, and those behind it as long; a segment is sent each 2 ms at most."""
    flow = Flow()
    events: list[tuple[int, int, int]] = []
    at = back = 0
    for i, gap in enumerate(gaps):
        at += gap
        back = max(back, at + 30 + held[i])
        events += [(at, i, 1), (back, i, 0)]
    for at, _, sends in sorted(events):
        if sends:
            flow.send(at)
        else:
            sample = flow.ack(at)
            beyond = sample.delivered - sample.prior_delivered - SEG  # an interval has one pause fewer than segments
            assert beyond * 2 * MS <= SEG * sample.interval
