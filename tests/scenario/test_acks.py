"""When we acknowledge: RFC 9293 §3.8.6.3, §3.10.7.4 seventh; RFC 5681 §4.2."""

import pytest

from tests.support.script import IRS, PLAIN, Script, with_options
from usertcp.tcp.config import TcpConfig
from usertcp.tcp.receiver import MAX_DUPLICATE_ACKS
from usertcp.units import MS, NEVER, SEC
from usertcp.wire.tcp import EMPTY

MSS = 1460


def burst(first: int, count: int, size: int = MSS) -> list[str]:
    """``count`` segments of ``size`` bytes, the first number ``first``."""
    starts = range(first, first + count * size, size)
    return [f". {start}:{start + size}({size}) ack 1 win 1000" for start in starts]


@pytest.mark.rfc(5681, "§4.2 delay")
@pytest.mark.rfc(9293, "SHLD-18")
@pytest.mark.rfc(9293, "MUST-40")
@pytest.mark.parametrize("delay", [40 * MS, 200 * MS, 499 * MS])
def test_one_small_segment_is_acknowledged_after_the_delay(delay: int) -> None:
    s = Script.established(with_options(delayed_ack=delay))
    s.peer("P. 1:11(10) ack 1 win 1000")
    s.advance(delay - 1)
    s.expect_nothing()
    s.advance(1)
    s.expect(". 1:1(0) ack 11")
    assert s.user.next_deadline() == NEVER


@pytest.mark.rfc(5681, "§4.2 delay")
@pytest.mark.rfc(9293, "MUST-40")
def test_delay_of_half_a_second_is_no_setting() -> None:
    with pytest.raises(ValueError, match="delayed_ack"):
        TcpConfig(delayed_ack=500 * MS)
    with pytest.raises(ValueError, match="delayed_ack"):
        Script.established().user.configure(delayed_ack=500 * MS)


@pytest.mark.rfc(5681, "§4.2 delay")
@pytest.mark.rfc(9293, "SHLD-18")
def test_delay_runs_from_the_first_segment_not_acknowledged() -> None:
    s = Script.established()
    for i in range(3):
        s.peer(f"P. {1 + i}:{2 + i}(1) ack 1 win 1000")
        s.advance(10 * MS)
    s.expect_nothing()
    s.advance(10 * MS)
    s.expect(". 1:1(0) ack 4")


@pytest.mark.rfc(9293, "SHLD-18")
def test_ack_rides_on_data_sent_meanwhile() -> None:
    s = Script.established()
    s.peer("P. 1:11(10) ack 1 win 1000")
    s.write(b"hello")
    s.expect("P. 1:6(5) ack 11")
    s.advance(100 * MS)
    s.expect_nothing()


@pytest.mark.rfc(5681, "§4.2 delay")
@pytest.mark.rfc(9293, "SHLD-19")
def test_every_second_full_segment_is_acknowledged_at_once() -> None:
    s = Script.established()
    for i, line in enumerate(burst(1, 10)):
        s.peer(line)
        s.expect(*([f". 1:1(0) ack {1 + (i + 1) * MSS}"] if i % 2 else []))


@pytest.mark.rfc(5681, "§4.2 delay")
@pytest.mark.rfc(9293, "SHLD-19")
def test_half_size_segments_are_acknowledged_for_two_full_ones() -> None:
    s = Script.established()
    s.peer(*burst(1, 2))
    s.expect(f". 1:1(0) ack {1 + 2 * MSS}")
    acked = []
    for i, line in enumerate(burst(1 + 2 * MSS, 8, MSS // 2)):
        s.peer(line)
        acked += [i for _ in s.take()]
    assert acked == [3, 7]


@pytest.mark.rfc(9293, "SHLD-19")
@pytest.mark.parametrize("options", [8, 12, 40])
def test_segments_full_but_for_their_options_count_for_full(options: int) -> None:
    """The peer may put SACK blocks or AccECN counters into some: a window of two such must not wait for the timer."""
    s = Script.established()
    s.peer(*burst(1, 2))
    s.take()
    size = MSS - options
    s.peer(*burst(1 + 2 * MSS, 2, size))
    s.expect(f". 1:1(0) ack {1 + 2 * MSS + 2 * size}")


def test_super_segment_counts_as_the_segments_it_stands_for() -> None:
    s = Script.established()
    seg = s.segment(f". 1:{1 + 2 * 450}(900) ack 1 win 1000")
    seg.gso_size = 450
    s.user.on_segment(seg, s.now)
    s.expect_nothing()  # 2 * 450 is less than 2 * 496, the least that counts for full
    assert s.user.rcv.mss == 536
    seg = s.segment(f". 901:{901 + 3 * MSS}({3 * MSS}) ack 1 win 1000")
    seg.gso_size = MSS
    s.user.on_segment(seg, s.now)
    s.expect(f". 1:1(0) ack {901 + 3 * MSS}")
    assert s.user.rcv.mss == MSS


def test_first_segments_are_acknowledged_at_once() -> None:
    """As Linux: the peer's slow start needs the ACKs."""
    s = Script.established(quick=True)
    for line in burst(1, TcpConfig().quick_acks, 10):
        s.peer(line)
    assert len(s.take()) == TcpConfig().quick_acks
    s.peer("P. 161:171(10) ack 1 win 1000")
    s.expect_nothing()


def test_first_segments_user_that_answers_ends_the_haste() -> None:
    """Question and answer: the answers carry the ACKs."""
    s = Script.established(quick=True)
    s.peer("P. 1:11(10) ack 1 win 1000")
    s.expect(". 1:1(0) ack 11")
    s.write(b"hello")
    s.expect("P. 1:6(5) ack 11")
    s.peer("P. 11:21(10) ack 6 win 1000")
    s.expect_nothing()


@pytest.mark.rfc(5681, "§4.2 one")
@pytest.mark.rfc(9293, "MUST-58")
def test_batch_is_acknowledged_once() -> None:
    s = Script.established()
    s.peer(*burst(1, 10))
    s.expect(f". 1:1(0) ack {1 + 10 * MSS}")


@pytest.mark.rfc(5681, "§4.2 one")
@pytest.mark.parametrize("sack", [False, True])
@pytest.mark.parametrize(
    "line", ["1:201(200)", "51:201(150)", "1:101(100)", "201:301(100)", "151:401(250)", "50:450(400)"]
)
def test_segment_brings_one_ack_whatever_is_new_or_old_in_it(line: str, sack: bool) -> None:
    options = "mss 1460" + ",sackOK" * sack
    s = Script.established(with_options(sack=sack), options=options)
    s.peer(". 1:101(100) ack 1 win 1000", ". 201:301(100) ack 1 win 1000")
    s.advance(1 * SEC)
    s.take()
    s.peer(f". {line} ack 1 win 1000")
    s.advance(1 * SEC)
    assert len(s.take()) == 1


@pytest.mark.rfc(9293, "MUST-59")
@pytest.mark.parametrize("sack", [False, True])
def test_batch_that_fills_a_gap_is_acknowledged_once(sack: bool) -> None:
    s = Script.established(with_options(sack=sack), options="mss 1460,nop,nop,sackOK")
    s.peer(*burst(1 + MSS, 5), *burst(1, 1))
    s.expect(f". 1:1(0) ack {1 + 6 * MSS}")


@pytest.mark.rfc(6582, "§5")
@pytest.mark.rfc(9293, "MAY-13")
@pytest.mark.rfc(5681, "§4.2")
def test_out_of_order_segment_is_acknowledged_at_once() -> None:
    s = Script.established()
    s.peer("P. 11:21(10) ack 1 win 1000")
    s.expect(". 1:1(0) ack 1")


@pytest.mark.rfc(6582, "§5")
@pytest.mark.rfc(5681, "§4.2")
def test_segment_that_fills_a_gap_in_part_or_whole_is_acknowledged_at_once() -> None:
    s = Script.established()
    s.peer("P. 11:21(10) ack 1 win 1000", "P. 31:41(10) ack 1 win 1000")
    s.take()
    s.peer("P. 1:6(5) ack 1 win 1000")
    s.expect(". 1:1(0) ack 6")
    s.peer("P. 6:11(5) ack 1 win 1000")
    s.expect(". 1:1(0) ack 21")
    s.peer("P. 21:31(10) ack 1 win 1000")
    s.expect(". 1:1(0) ack 41")
    s.peer("P. 41:51(10) ack 1 win 1000")
    s.expect_nothing()  # in order again: delayed


@pytest.mark.rfc(5681, "§4.2")
def test_batch_out_of_order_owes_a_peer_without_sack_a_duplicate_each() -> None:
    """It counts them (RFC 5681 §3.2)."""
    s = Script.established()
    s.peer(*burst(1 + MSS, 3))
    s.expect(*[". 1:1(0) ack 1"] * 3)
    s.peer(*burst(1 + 4 * MSS, 40))
    s.expect(*[". 1:1(0) ack 1"] * MAX_DUPLICATE_ACKS)


@pytest.mark.rfc(9293, "MUST-59")
def test_batch_out_of_order_owes_a_peer_with_sack_one_list() -> None:
    s = Script.established(with_options(sack=True), options="mss 1460,nop,nop,sackOK")
    s.peer(*burst(1 + MSS, 3))
    s.expect(f". 1:1(0) ack 1 win 65535 <nop,nop,sack {1 + MSS}:{1 + 4 * MSS}>")


@pytest.mark.rfc(9293, "MUST-59")
def test_batch_out_of_order_and_then_in_order_owes_no_duplicates() -> None:
    """Several ACKs of the new number would be duplicates of what the peer has just sent."""
    s = Script.established()
    s.peer(*burst(1 + 2 * MSS, 4), *burst(1, 1))
    s.expect(f". 1:1(0) ack {1 + MSS}")


def test_old_segment_is_acknowledged_at_once() -> None:
    """RFC 9293 §3.10.7.4, first: the peer missed our ACK."""
    s = Script.established()
    s.peer("P. 1:11(10) ack 1 win 1000")
    s.advance(40 * MS)
    s.take()
    s.peer("P. 1:11(10) ack 1 win 1000")
    s.expect(". 1:1(0) ack 11")


def test_bare_ack_is_not_acknowledged() -> None:
    s = Script.established()
    s.write(b"hello")
    s.take()
    s.peer(". 1:1(0) ack 6 win 1000", ". 1:1(0) ack 6 win 2000")
    s.advance(1000 * MS)
    s.expect_nothing()


def test_ack_refused_by_the_sink_leaves_later() -> None:
    s = Script.established()
    s.sink_full = True
    s.peer(*burst(1, 2))
    assert s.poll()
    s.sink_full = False
    s.expect(f". 1:1(0) ack {1 + 2 * MSS}")


def test_peers_keepalive_probe_is_answered() -> None:
    """RFC 9293 §3.8.4: an old number, with or without a byte."""
    s = Script.established()
    s.peer(". 0:0(0) ack 1 win 1000")
    s.expect(". 1:1(0) ack 1")
    s.peer(". 0:1(1) ack 1 win 1000")
    s.expect(". 1:1(0) ack 1")
    assert s.user.readable == 0
    assert s.user.rcv.nxt == IRS + 1


def test_payload_is_not_kept_beyond_the_call() -> None:
    """Segments are borrowed: what is kept was copied."""
    s = Script.established(PLAIN)
    frame = bytearray(b"hello")
    seg = s.segment("P. 1:6(5) ack 1 win 1000")
    seg.payload = memoryview(frame)
    s.user.on_segment(seg, s.now)
    seg.payload = EMPTY
    frame[:] = b"XXXXX"
    frame.append(0)  # no view is out: resizing is allowed
    assert s.read() == b"hello"
