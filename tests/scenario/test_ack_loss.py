"""ACKs that are lost cost nothing: the next one says it all (RFC 5681, RFC 2018 §4, RFC 9937)."""

from collections.abc import Callable

import pytest

from tests.scenario.flight import MSS, Flight

LOST_ACKS = {
    "every second": lambda nth: nth % 2 == 0,
    "two of three": lambda nth: nth % 3 != 2,
    "four of five": lambda nth: nth % 5 != 4,
}
patterns = pytest.mark.parametrize("lost", LOST_ACKS.values(), ids=LOST_ACKS)


@patterns
@pytest.mark.rfc(5681, "§4.2")
@pytest.mark.parametrize("sack", [False, True])
@pytest.mark.parametrize("timestamps", [False, True])
def test_rfc5681_4_2_acks_lost_nothing_is_sent_again(lost: Callable[[int], bool], sack: bool, timestamps: bool) -> None:
    s = Flight.of(20, sack=sack, timestamps=timestamps)
    sent = s.deliver(300, lose_acks=lost, first=range(20))
    assert max(sent.values()) == 1
    assert s.phase == "OPEN"
    assert s.window[0] >= 20 * MSS


@pytest.mark.rfc(2018, "§5")
@pytest.mark.parametrize("lost", list(LOST_ACKS.values())[:2], ids=list(LOST_ACKS)[:2])  # a window of two has two ACKs
@pytest.mark.rfc(2018, "§4")
@pytest.mark.parametrize("timestamps", [False, True])
def test_rfc2018_4_acks_lost_each_lost_segment_is_sent_again_once(
    lost: Callable[[int], bool], timestamps: bool
) -> None:
    """Three blocks repeat what was reported: one ACK in three tells of each hole."""
    s = Flight.of(20, timestamps=timestamps)
    gone = {5, 7, 11, 30, 31, 32, 60}
    sent = s.deliver(100, lose={(n, 0) for n in gone}, lose_acks=lost, first=range(20))
    assert {n for n, times in sent.items() if times > 1} == gone
    assert max(sent.values()) == 2
    assert s.user.snd.timeouts == 0
    assert s.user.snd.undone == 0


@pytest.mark.rfc(9937, "§6.2")
def test_rfc9937_6_2_acks_lost_in_recovery_the_next_one_makes_good_for_them() -> None:
    """What may be sent follows what was delivered, not how many ACKs came: two segments for four at once."""
    s = Flight.answered(20)
    assert s.ack(0, (1, 4)) == [0]
    assert s.tick(0, (1, 8)) == [20, 21]
    assert s.tick(0, (1, 12)) == [22, 23]
    few = s.window
    t = Flight.answered(20)
    t.ack(0, (1, 4))
    for n in range(5, 13):
        t.tick(0, (1, n))
    assert t.window == few
    assert t.pipe == s.pipe
