"""Duplicates are reported in the first SACK block: RFC 2883, in the receiver's part. The numbers are those of its
figures, the stream up to there has come; the initial number stands just before 2^32."""

import pytest

from tests.support.script import IRS, Script, with_options
from usertcp.tcp.receiver import MAX_DSACKS
from usertcp.tcp.state import State
from usertcp.units import MASK32, SEC

SACK = with_options(sack=True)
OFFERED = "mss 1460,nop,nop,sackOK"


def text(start: int, end: int) -> str:
    return f". {start}:{end}({end - start}) ack 1 win 65535"


def after(start: int) -> Script:
    """What is below ``start`` has come."""
    s = Script.established(SACK, options=OFFERED)
    for seq in range(1, start, 1000):
        s.peer(text(seq, min(seq + 1000, start)))
    s.take()
    return s


def ack(s: Script, start: int, end: int) -> str:
    """[``start``, ``end``) comes: the one ACK that follows, as the figures write it."""
    s.peer(text(start, end))
    (line,) = told(s)
    return line


def told(s: Script) -> list[str]:
    lines = []
    for seg in s.take():
        assert not seg.payload
        blocks = [f"{left - IRS & MASK32}-{right - IRS & MASK32}" for left, right in seg.options.sack]
        lines.append(f"{seg.ack - IRS & MASK32} {' '.join(blocks)}".strip())
    return lines


@pytest.mark.rfc(2883, "§4.1.1")
def test_example_1_duplicate_segment() -> None:
    s = after(3500)
    s.peer(text(3500, 4000))
    s.take()
    assert ack(s, 3000, 3500) == "4000 3000-3500"


@pytest.mark.rfc(2883, "§4.1.2")
def test_example_2_segment_out_of_order_and_a_duplicate() -> None:
    s = after(4000)
    assert ack(s, 4500, 5000) == "4000 4500-5000"
    assert ack(s, 3000, 3500) == "4000 3000-3500 4500-5000"


@pytest.mark.rfc(2883, "§4.1.3")
def test_example_3_duplicate_of_a_segment_out_of_order() -> None:
    s = after(4000)
    assert ack(s, 4500, 5000) == "4000 4500-5000"
    assert ack(s, 5000, 5500) == "4000 4500-5500"
    assert ack(s, 5000, 5500) == "4000 5000-5500 4500-5500"


@pytest.mark.rfc(2883, "§4.2.1")
def test_example_4_one_duplicate_subsegment() -> None:
    s = after(1000)
    assert ack(s, 2000, 2500) == "1000 2000-2500"
    assert ack(s, 1000, 1500) == "1500 2000-2500"
    assert ack(s, 1000, 2000) == "2500 1000-1500"


@pytest.mark.rfc(2883, "§4.2.2")
def test_example_5_two_subsegments_the_first_is_reported() -> None:
    s = after(1000)
    assert ack(s, 3000, 3500) == "1000 3000-3500"
    assert ack(s, 1000, 1500) == "1500 3000-3500"
    assert ack(s, 2000, 2500) == "1500 2000-2500 3000-3500"
    assert ack(s, 1000, 2500) == "2500 1000-1500 3000-3500"


@pytest.mark.rfc(2883, "§4.2.3")
def test_example_6_two_subsegments_behind_a_gap() -> None:
    s = after(1000)
    assert ack(s, 3500, 4000) == "1000 3500-4000"
    assert ack(s, 1500, 2000) == "1000 1500-2000 3500-4000"
    assert ack(s, 2500, 3000) == "1000 2500-3000 1500-2000 3500-4000"
    assert ack(s, 1500, 3000) == "1000 1500-2000 1500-3000 3500-4000"


@pytest.mark.rfc(2883, "§4.3")
def test_duplicate_that_paws_refuses_is_reported_as_well() -> None:
    s = Script.established(with_options(sack=True, timestamps=True), options="mss 1460,sackOK,TS val 100 ecr 0")
    s.peer(text(1, 501) + " <nop,nop,TS val 200 ecr 0>", text(1001, 1501) + " <nop,nop,TS val 300 ecr 0>")
    s.take()
    s.peer(text(1001, 1501) + " <nop,nop,TS val 150 ecr 0>")
    s.expect(". 1:1(0) ack 501 win 65035 <nop,nop,TS val 0 ecr 200,nop,nop,sack 1001:1501 1001:1501>")
    s.peer(text(1, 501) + " <nop,nop,TS val 150 ecr 0>")
    s.expect(". 1:1(0) ack 501 win 65035 <nop,nop,TS val 0 ecr 200,nop,nop,sack 1:501 1001:1501>")


@pytest.mark.rfc(2883, "§4")
def test_each_duplicate_is_reported_once() -> None:
    s = after(4000)
    assert ack(s, 3000, 3500) == "4000 3000-3500"
    assert ack(s, 4500, 5000) == "4000 4500-5000"
    assert s.user.rcv.dsacks_sent == 1


@pytest.mark.rfc(2883, "§4")
def test_duplicates_of_one_batch_are_reported_each_by_an_ack_of_its_own() -> None:
    s = after(4000)
    s.peer(text(1000, 1500), text(3000, 3500), text(4500, 5000))
    assert told(s) == ["4000 1000-1500 4500-5000", "4000 3000-3500 4500-5000"]


@pytest.mark.rfc(2883, "§4")
def test_block_with_the_duplicate_is_second_although_another_came_later() -> None:
    s = after(4000)
    s.peer(text(4500, 5500))
    s.take()
    s.peer(text(5000, 5500), text(7000, 7500))
    assert told(s) == ["4000 5000-5500 4500-5500 7000-7500"]


def test_duplicates_in_a_row_are_one_stretch() -> None:
    s = after(4000)
    s.peer(text(1000, 1500), text(1500, 2000), text(2000, 2500))
    assert told(s) == ["4000 1000-2500"]


def test_duplicate_of_which_the_gap_closes_meanwhile_is_reported_below_the_acknowledgment() -> None:
    s = after(4000)
    s.peer(text(4500, 5000))
    s.take()
    s.peer(text(4500, 5000), text(4000, 4500))
    assert told(s) == ["5000 4500-5000"]


def test_duplicate_across_the_wrap_is_reported_with_wire_numbers() -> None:
    """IRS stands 128 in front of 2^32."""
    s = after(1001)
    s.peer(text(101, 201))
    (seg,) = s.take()
    assert seg.options.sack == ((IRS + 101 & MASK32, IRS + 201 & MASK32),)
    assert seg.options.sack[0][1] < seg.options.sack[0][0]


def test_duplicate_behind_a_gap_across_the_wrap_has_its_block_next() -> None:
    s = Script.established(SACK, options=OFFERED)
    assert ack(s, 101, 201) == "1 101-201"
    assert ack(s, 121, 141) == "1 121-141 101-201"


def test_report_does_not_ride_on_text() -> None:
    """A device that segments would repeat it in each segment; the text follows the ACK that reports."""
    s = after(4000)
    assert s.user.write(bytes(5000)) == 5000
    s.peer(text(3000, 3500))
    first, *others = s.take()
    assert (len(first.payload), len(first.options.sack)) == (0, 1)
    assert sum(len(seg.payload) for seg in others) == 5000
    assert not any(seg.options.sack for seg in others)


def test_full_sink_keeps_the_report() -> None:
    s = after(4000)
    s.sink_full = True
    s.peer(text(3000, 3500))
    assert s.poll()
    s.sink_full = False
    s.poll()
    assert told(s) == ["4000 3000-3500"]


def test_many_duplicates_in_one_batch_are_bounded() -> None:
    s = after(4000)
    s.peer(*[text(seq, seq + 10) for seq in range(1, 4000, 40)])
    assert len(told(s)) == MAX_DSACKS


def test_text_before_the_stream_is_no_duplicate_of_it() -> None:
    s = after(1001)
    s.peer(". 4294966296:4294967196(900) ack 1 win 1000")  # far below the peer's first number
    assert told(s) == ["1001"]
    s.peer(". 4294967195:100(201) ack 1 win 1000")  # and from there into the stream
    assert told(s) == ["1001 1-100"]


def test_text_beyond_the_window_is_no_duplicate() -> None:
    s = after(1001)
    s.peer(text(100_000, 100_100))
    assert told(s) == ["1001"]


def test_keepalive_and_bare_fin_are_no_duplicates() -> None:
    s = after(1001)
    s.peer(". 1000:1000(0) ack 1 win 1000")
    assert told(s) == ["1001"]
    s.peer("F. 1001:1001(0) ack 1 win 1000")
    s.take()
    s.peer("F. 1001:1001(0) ack 1 win 1000")
    assert told(s) == ["1002"]


def test_text_that_comes_again_with_the_fin_is_reported_without_the_fin() -> None:
    s = after(1001)
    s.peer("FP. 1001:1101(100) ack 1 win 1000")
    s.take()
    s.peer("FP. 1001:1101(100) ack 1 win 1000")
    assert told(s) == ["1102 1001-1101"]
    s.expect_state(State.CLOSE_WAIT)


@pytest.mark.parametrize("changes", [{"dsack": False}, {"sack": False}])
def test_who_does_not_want_it_reports_nothing(changes: dict[str, bool]) -> None:
    s = Script.established(with_options(**{"sack": True} | changes), options=OFFERED)
    s.peer(text(1, 1001))
    s.take()
    s.peer(text(1, 501))
    assert told(s) == ["1001"]


def test_peer_without_sack_is_told_nothing() -> None:
    s = Script.established(SACK, options="mss 1460")
    s.peer(text(1, 1001))
    s.take()
    s.peer(text(1, 501))
    assert told(s) == ["1001"]


def test_duplicate_in_time_wait_is_reported() -> None:
    s = after(1001)
    s.read()
    s.user.close()
    s.poll()
    s.peer("F. 1001:1001(0) ack 2 win 1000")
    s.expect_state(State.TIME_WAIT)
    s.take()
    s.advance(SEC)
    s.peer(text(501, 1001))
    assert told(s) == ["1002 501-1001"]
