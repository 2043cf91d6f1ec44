"""Proportional Rate Reduction (RFC 9937): how much each ACK in a recovery lets go, and how much all of them do."""

from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usertcp.tcp.prr import Prr

MSS: Final = 1000


def _prr(recover_fs: int) -> Prr:
    prr = Prr()
    prr.begin(recover_fs)
    return prr


def _ack(
    prr: Prr, delivered: int, pipe: int, ssthresh: int, *, safe: bool = False, repair: bool = True, send: bool = True
) -> int:
    """How much an ACK for ``delivered`` bytes lets go with ``pipe`` in the network; it is sent at once."""
    count = prr.on_ack(delivered, pipe, ssthresh, MSS, safe=safe, repair=repair) - pipe
    prr.out += count * send
    return count


@pytest.mark.rfc(9937, "§6.1")
def test_reduction_begun_anew_forgets_the_last() -> None:
    prr = _prr(10_000)
    _ack(prr, 1000, 9000, 5000)
    prr.begin(4000)
    assert (prr.delivered, prr.out, prr.recover_fs) == (0, 0, 4000)


def test_reduction_with_nothing_outstanding_divides_by_something() -> None:
    assert _ack(_prr(0), 0, 0, 2000) == MSS


@pytest.mark.rfc(9937, "§6.2")
def test_pipe_above_ssthresh_lets_go_the_same_share_of_each_delivery() -> None:
    prr = _prr(20_000)
    pipe, sent = 19_000, []
    for _ in range(10):
        sent.append(_ack(prr, 1000, pipe, 10_000))
        pipe += sent[-1] - 1000
    assert (sent, pipe) == ([500] * 10, 14_000)


@pytest.mark.rfc(9937, "§6.2")
def test_share_that_is_no_whole_number_is_rounded_up() -> None:
    prr = _prr(3)
    assert _ack(prr, 1, 100, 2) == 1  # 2/3
    assert _ack(prr, 1, 100, 2) == 1  # 4/3
    assert _ack(prr, 1, 100, 2) == 0  # 6/3
    assert prr.out == 2


@pytest.mark.rfc(9937, "§6.2")
def test_proportional_part_that_was_held_back_may_go_later() -> None:
    prr = _prr(20_000)
    _ack(prr, 1000, 19_000, 10_000)
    for _ in range(4):
        _ack(prr, 1000, 18_000, 10_000, send=False)
    assert _ack(prr, 1000, 14_000, 10_000) == 2500


@pytest.mark.rfc(9937, "§6.2")
def test_proportional_part_that_was_exceeded_lets_nothing_go() -> None:
    prr = _prr(20_000)
    prr.out = 8000
    assert _ack(prr, 1000, 19_000, 10_000) == 0
    assert _ack(prr, 1000, 19_000, 10_000) == 0


@pytest.mark.rfc(9937, "§6.2")
def test_pipe_below_ssthresh_lets_go_what_is_delivered() -> None:
    prr = _prr(10_000)
    prr.out = 1000
    assert _ack(prr, 1000, 3000, 7000) == 1000
    assert _ack(prr, 2000, 3000, 7000) == 2000


@pytest.mark.rfc(9937, "§6.2")
def test_pipe_below_ssthresh_after_sending_less_than_delivered_catches_up() -> None:
    prr = _prr(10_000)
    _ack(prr, 4000, 9000, 7000, send=False)
    assert _ack(prr, 1000, 1000, 7000) == 5000


@pytest.mark.rfc(9937, "§6.2")
def test_pipe_below_ssthresh_and_a_safe_ack_let_go_a_segment_more() -> None:
    prr = _prr(10_000)
    prr.out = 1000
    assert _ack(prr, 1000, 3000, 7000, safe=True) == 1000 + MSS


@pytest.mark.rfc(9937, "§6.2")
@pytest.mark.parametrize("safe", [False, True])
def test_pipe_near_ssthresh_is_not_filled_beyond_it(safe: bool) -> None:
    prr = _prr(10_000)
    prr.out = 1000
    assert _ack(prr, 3000, 6500, 7000, safe=safe) == 500
    assert _ack(prr, 3000, 7000, 7000, safe=safe) == 0


@pytest.mark.rfc(9937, "§6.2")
def test_first_ack_that_allows_nothing_lets_the_fast_retransmit_go() -> None:
    assert _ack(_prr(10_000), 0, 9000, 5000) == MSS
    assert _ack(_prr(10_000), 1000, 5000, 5000) == MSS


def test_first_ack_that_allows_nothing_with_nothing_to_mend_lets_nothing_go() -> None:
    assert _ack(_prr(10_000), 0, 9000, 5000, repair=False) == 0


def test_later_ack_that_allows_nothing_lets_nothing_go() -> None:
    prr = _prr(10_000)
    prr.out = 1000
    assert _ack(prr, 0, 9000, 5000) == 0


@pytest.mark.rfc(9937, "§5")
def test_window_lost_but_for_one_segment_is_not_answered_by_a_burst() -> None:
    prr = _prr(20_000)
    assert _ack(prr, 1000, 0, 10_000) == 1000
    assert _ack(prr, 1000, 1000 - 1000, 10_000) == 1000


@given(
    recover_fs=st.integers(1, 200_000),
    share=st.integers(1, 100),
    steps=st.lists(
        st.tuples(st.integers(1, 3000), st.integers(0, 3000), st.booleans(), st.booleans()), min_size=1, max_size=80
    ),
)
def test_any_recovery_sends_no_more_than_its_share_and_never_beyond_ssthresh(
    recover_fs: int, share: int, steps: list[tuple[int, int, bool, bool]]
) -> None:
    """A connection with always more to send; each ACK delivers something, or tells of losses, or both."""
    ssthresh = max(recover_fs * share // 100, 2 * MSS)
    prr = _prr(recover_fs)
    pipe, outstanding, allowances = recover_fs, recover_fs, 0
    for delivered, lost, safe, full in steps:
        delivered = min(delivered, pipe, outstanding)
        if not delivered:
            break
        pipe -= delivered
        outstanding -= delivered
        lost = min(lost, pipe)
        pipe -= lost
        before = prr.out
        above = pipe > ssthresh
        count = _ack(prr, delivered, pipe, ssthresh, safe=safe and not lost, send=False)
        forced = before == 0 and count == MSS
        allowances += MSS if safe and not lost and not above else 0
        if above:
            assert count == 0 or forced or before + count == -(-prr.delivered * ssthresh // recover_fs)
        else:
            assert forced or pipe + count <= ssthresh
        # What has left is what arrived, a segment more for each safe ACK, and the first retransmission.
        assert before + count <= max(prr.delivered, before + delivered) + allowances + MSS
        sent = count if full else count // 2
        prr.out += sent
        pipe += sent
    assert prr.out <= prr.delivered + allowances + MSS


@given(
    segments=st.integers(4, 300),
    share=st.sampled_from([50, 70, 85]),
    holes=st.sets(st.integers(0, 299), min_size=1, max_size=60),
)
def test_any_losses_mended_leave_the_pipe_at_ssthresh_at_most_when_the_recovery_ends(
    segments: int, share: int, holes: set[int]
) -> None:
    """A window of ``segments`` of which ``holes`` are lost: the others arrive one by one, then what is sent again."""
    holes = {hole for hole in holes if hole < segments - 3}
    recover_fs = segments * MSS
    ssthresh = max(recover_fs * share // 100, 2 * MSS)
    prr = _prr(recover_fs)
    pipe = recover_fs - len(holes) * MSS
    for _ in range(segments - len(holes)):
        pipe -= MSS
        count = _ack(prr, MSS, pipe, ssthresh, send=False) // MSS * MSS  # only whole segments leave
        prr.out += count
        pipe += count
    assert pipe <= max(ssthresh, MSS)
    if not holes:
        assert pipe > ssthresh - 2 * MSS  # and nothing was given away
