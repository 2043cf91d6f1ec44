"""AccECN (RFC 9768): the handshake's tables, counters told and read, and what happens when the path interferes."""

import pytest

from tests.support.script import IRS, PLAIN, Script, with_options
from usertcp.pkt import text
from usertcp.tcp.accecn import FIRST, HANDSHAKE, Accurate, Reported
from usertcp.tcp.config import TcpConfig
from usertcp.tcp.ecn_policy import Ecn
from usertcp.tcp.state import State
from usertcp.units import MASK32, MS, SEC
from usertcp.wire.tcp import ACE_SHIFT, Segment

ASKS = with_options(ecn=Ecn.ACCURATE)
MSS = 1460
FIRST_OPTION = "ecn e0b 1 ceb 0 e1b 1"
CODES = ("not-ect", "ect1", "ect0", "ce")
SACK_TS = "mss 1460,sackOK,TS val 0 ecr 0"


def half(s: Script) -> Accurate:
    """The AccECN of the connection."""
    assert isinstance(s.user.ecn, Accurate)
    return s.user.ecn


def active(option: str = FIRST_OPTION) -> Script:
    """ESTABLISHED by our SYN, the ACK of the SYN,ACK sent."""
    s = Script.opening(ASKS)
    s.peer(f"S.W 0:0(0) ack 1 win 65535 <mss 1460,{option}>")
    s.take()
    s.expect_state(State.ESTABLISHED)
    s.user.rcv.quick = 0
    return s


def passive(config: TcpConfig = PLAIN, options: str = "mss 1460") -> Script:
    """ESTABLISHED by the peer's SYN."""
    s = Script.listening(f"SEWA 0:0(0) win 65535 <{options}>", config)
    s.take()
    s.peer(f".2 1:1(0) ack 1 win 65535 <{s.echo()[2:-1]},{FIRST_OPTION}>".replace("<,", "<"))
    s.take()
    s.expect_state(State.ESTABLISHED)
    s.user.rcv.quick = 0
    return s


def windowful(s: Script, segments: int = 10) -> None:
    """New text leaves: so many segments' worth, of which nobody has acknowledged anything."""
    s.write(bytes(segments * MSS))
    assert sum(len(seg.payload) for seg in s.take()) == segments * MSS


# --- the handshake ---------------------------------------------------------------------------------------------------


@pytest.mark.rfc(9768, "§3.1.1")
def test_active_open_asks_with_all_three_flags_and_without_an_option() -> None:
    s = Script.opening(ASKS)
    s.expect("SEWA 0:0(0) win 65535 <mss 1460>")


@pytest.mark.rfc(9768, "§3.1.2")
@pytest.mark.parametrize(("mark", "answer"), [("not-ect", "S.W"), ("ect1", "S.EW"), ("ect0", "S.A"), ("ce", "S.WA")])
def test_syn_that_asks_is_told_how_it_arrived(mark: str, answer: str) -> None:
    """Table 2, first block."""
    s = Script.listening(f"[{mark}] SEWA 0:0(0) win 65535 <mss 1460>")
    s.expect(f"{answer} 0:0(0) ack 1 win 65535 <mss 1460,{FIRST_OPTION}>")
    assert s.user.ecn.name == "accurate"
    assert half(s).received.cep == 5  # the SYN is not counted (§3.2.2.2)


@pytest.mark.rfc(9768, "§3.1.2")
@pytest.mark.rfc(9768, "§3.1.3")
@pytest.mark.parametrize("ace", range(8))
def test_syn_with_any_flags_is_answered_by_the_kind_it_asks_for(ace: int) -> None:
    """Table 2, third block; reserved combinations are taken for AccECN."""
    letters = "".join([letter for letter, bit in (("E", 1), ("W", 2), ("A", 4)) if ace & bit])
    s = Script.listening(f"S{letters} 0:0(0) win 65535 <mss 1460>")
    answer = {0b000: "S.", 0b011: "S.E"}.get(ace, "S.W")
    s.expect(f"{answer} 0:0(0) ack 1")
    assert s.user.ecn.name == {0b000: "none", 0b011: "classic"}.get(ace, "accurate")


@pytest.mark.rfc(9768, "§3.1.2")
@pytest.mark.rfc(9768, "§3.2.2.3")
@pytest.mark.parametrize(
    ("flags", "name", "ect"),
    [
        ("S.", "none", False),  # 000
        ("S.E", "classic", True),  # 001
        ("S.W", "accurate", True),  # 010: our SYN arrived as it left
        ("S.EW", "accurate", False),  # 011: as ECT(1); somebody writes into the field
        ("S.A", "accurate", False),  # 100: as ECT(0)
        ("S.EA", "accurate", True),  # 101: reserved (§3.1.3)
        ("S.WA", "accurate", False),  # 110: as CE
        ("S.EWA", "none", False),  # 111: broken, our flags reflected
    ],
)
def test_syn_ack_with_any_flags_decides_the_mode_and_whether_text_says_ect(flags: str, name: str, ect: bool) -> None:
    """Table 2, as the client reads it."""
    s = Script.opening(ASKS)
    s.take()
    s.peer(f"{flags} 0:0(0) ack 1 win 65535 <mss 1460>")
    assert s.user.ecn.name == name
    s.expect((".2" if name == "accurate" else ".") + " 1:1(0) ack 1 win 65535")
    s.write(b"x" * 100)
    s.expect(("[ect0] " if ect else "") + ("P.5" if name == "accurate" else "P.") + " 1:101(100) ack 1")


@pytest.mark.rfc(9768, "§3.2.2.1")
@pytest.mark.parametrize(
    ("mark", "ace", "cep"), [("not-ect", 0b010, 5), ("ect1", 0b011, 5), ("ect0", 0b100, 5), ("ce", 0b110, 6)]
)
def test_ack_of_the_syn_ack_tells_how_that_arrived_and_has_an_option(mark: str, ace: int, cep: int) -> None:
    """Table 3."""
    s = Script.opening(ASKS)
    s.take()
    s.peer(f"[{mark}] S.W 0:0(0) ack 1 win 65535 <mss 1460,{FIRST_OPTION}>")
    s.expect(f".{ace} 1:1(0) ack 1 win 65535 <{FIRST_OPTION}>")
    assert half(s).received.cep == cep
    s.write(b"x" * 100)
    s.expect(f"[ect0] P.{cep} 1:101(100) ack 1 win 65535 <{FIRST_OPTION}>")  # §3.2.3.2.1: and the first text
    s.write(b"y" * 100)
    s.peer(".5 1:1(0) ack 101 win 65535")
    s.expect(f"[ect0] P.{cep} 101:201(100) ack 1 win 65535")


@pytest.mark.rfc(9768, "§3.2.2.1")
def test_text_that_waits_for_the_syn_ack_leaves_behind_the_pure_ack() -> None:
    s = Script.opening(ASKS)
    s.user.write(b"x" * 100)
    s.take()
    s.peer(f"S.W 0:0(0) ack 1 win 65535 <mss 1460,{FIRST_OPTION}>")
    s.expect(".2 1:1(0) ack 1", "[ect0] P.5 1:101(100) ack 1")


@pytest.mark.rfc(9768, "§3.2.2.1")
@pytest.mark.parametrize(
    ("ace", "cep", "ect"),
    [
        (0b000, 5, False),  # Note 1: no ECT, and no heed of what is reported
        (0b001, 5, True),
        (0b010, 5, True),
        (0b011, 5, False),  # as ECT(1): mangled
        (0b100, 5, False),
        (0b101, 5, True),
        (0b110, 6, False),  # as CE
        (0b111, 5, True),
    ],
)
def test_ack_of_our_syn_ack_with_any_ace_sets_the_counter(ace: int, cep: int, ect: bool) -> None:
    """Table 4."""
    s = Script.listening("SEWA 0:0(0) win 65535 <mss 1460>")
    s.take()
    s.peer(f".{ace} 1:1(0) ack 1 win 65535")
    s.expect_state(State.ESTABLISHED)
    assert half(s).reported.cep == cep
    s.write(b"x" * 100)
    s.expect(("[ect0] " if ect else "") + "P.5 1:101(100) ack 1")
    before = s.user.snd.cc.ssthresh
    s.peer(f".{(cep + 1) % 8} 1:1(0) ack 101 win 65535")
    assert (s.user.snd.cc.ssthresh < before) == (ace != 0)


@pytest.mark.rfc(9768, "§3.2.2.1")
def test_text_instead_of_the_lost_ack_of_our_syn_ack_has_a_counter_in_ace() -> None:
    s = Script.listening("SEWA 0:0(0) win 65535 <mss 1460>")
    s.take()
    s.peer("[ect0] P.6 1:101(100) ack 1 win 65535")
    assert half(s).reported.cep == 6
    s.take()
    s.write(b"x" * 100)
    s.expect("[ect0] P.5 1:101(100) ack 101")


@pytest.mark.rfc(9768, "§3.2.2.2")
@pytest.mark.parametrize("as_client", [True, False])
def test_syn_or_syn_ack_that_arrived_marked_starts_with_one_segment(as_client: bool) -> None:
    if as_client:
        s = Script.opening(ASKS)
        s.peer("S.WA 0:0(0) ack 1 win 65535 <mss 1460>")
        assert half(s).reported.cep == 5
    else:
        s = Script.listening("SEWA 0:0(0) win 65535 <mss 1460>")
        s.peer(".6 1:1(0) ack 1 win 65535")
    s.take()
    s.write(bytes(10 * MSS))
    (seg,) = s.take()
    assert s.render(seg).startswith(".5 1:")  # and no ECT: something writes into the field


@pytest.mark.rfc(9768, "§3.1.4.1")
def test_syn_unanswered_asks_once_more_and_then_not() -> None:
    s = Script.opening(ASKS)
    s.advance(8 * SEC)
    s.expect("SEWA 0:0(0)", "SEWA 0:0(0)", "S 0:0(0)", "S 0:0(0)")
    s.peer(f"S.W 0:0(0) ack 1 win 65535 <mss 1460,{FIRST_OPTION}>")  # the first has been answered after all
    s.take()
    s.write(b"x" * 100)
    s.expect("[ect0] P.5 1:101(100) ack 1")  # a client may (§3.1.4.1)


@pytest.mark.rfc(9768, "§3.2.3.2.2")
@pytest.mark.rfc(9768, "§3.1.5")
def test_syn_ack_unanswered_goes_without_the_option_then_without_the_flags() -> None:
    s = Script.listening("SEWA 0:0(0) win 65535 <mss 1460>")
    s.advance(4 * SEC)
    s.expect(
        f"S.W 0:0(0) ack 1 win 65535 <mss 1460,{FIRST_OPTION}>",
        "S.W 0:0(0) ack 1 win 65535 <mss 1460>",
        "S. 0:0(0) ack 1 win 65535 <mss 1460>",
    )
    s.peer(".2 1:1(0) ack 1 win 65535")
    assert s.user.ecn.name == "accurate"
    s.peer("[ce] P.5 1:101(100) ack 1 win 65535")
    s.expect(".6 1:1(0) ack 101 win 65435")
    assert s.user.ecn.received_ce == 1
    s.write(b"x" * 100)
    s.expect("P.6 1:101(100) ack 101")  # never ECT: the peer may believe that there is no ECN


@pytest.mark.rfc(9768, "§3.1.5")
def test_syn_again_is_told_how_the_latest_arrived_and_gets_no_option() -> None:
    s = Script.listening("SEWA 0:0(0) win 65535 <mss 1460>")
    s.take()
    s.peer("[ce] SEWA 0:0(0) win 65535 <mss 1460>")
    s.expect("S.WA 0:0(0) ack 1 win 65535 <mss 1460>")


@pytest.mark.rfc(9768, "§3.1.5")
def test_syn_again_without_asking_is_granted_all_the_same_but_our_text_has_no_ect() -> None:
    s = Script.listening("SEWA 0:0(0) win 65535 <mss 1460>")
    s.take()
    s.peer("S 0:0(0) win 65535 <mss 1460>")
    s.expect("S.W 0:0(0) ack 1")
    s.peer(".2 1:1(0) ack 1 win 65535")
    s.write(b"x" * 100)
    s.expect("P.5 1:101(100) ack 1")


@pytest.mark.rfc(9768, "§3.2.2.1")
@pytest.mark.rfc(9768, "§3.2.2.2")
def test_syn_ack_again_is_told_how_it_arrived_its_mark_counts_once_and_the_option_is_given_up() -> None:
    s = active()
    for _ in range(2):
        s.peer("[ce] S.W 0:0(0) ack 1 win 65535 <mss 1460>")
        s.expect(".6 1:1(0) ack 1 win 65535")
        assert half(s).received.cep == 6
    s.peer("[ect0] P.5 1:101(100) ack 1 win 65535")
    s.advance(40 * MS)
    (seg,) = s.take()
    assert s.render(seg) == ".6 1:1(0) ack 101 win 65435"


def test_syn_ack_of_somebody_else_again_changes_nothing() -> None:
    s = active()
    s.peer("[ce] S.W 0:0(0) ack 2 win 65535", "[ce] S.W 5:5(0) ack 1 win 65535")
    assert half(s).received.cep == 5


@pytest.mark.rfc(9768, "§3.1.2")
def test_simultaneous_open_both_asking_use_it() -> None:
    s = Script.opening(ASKS)
    s.take()
    s.peer("[ect0] SEWA 0:0(0) win 65535 <mss 1460>")
    s.expect("S.A 0:0(0) ack 1")
    s.peer("S.W 0:0(0) ack 1 win 65535 <mss 1460>")
    s.expect_state(State.ESTABLISHED)
    s.take()
    s.write(b"x" * 100)
    s.expect("[ect0] P.5 1:101(100) ack 1")


# --- the receiver of text --------------------------------------------------------------------------------------------


@pytest.mark.rfc(9768, "§3.2.2")
@pytest.mark.rfc(9768, "§3.2.2.5.1")
def test_first_mark_is_told_at_once_then_every_second_and_the_counter_wraps() -> None:
    s = passive()
    told = []
    for n in range(12):
        s.peer(f"[ce] P.5 {1 + n * 100}:{101 + n * 100}(100) ack 1 win 65535")
        told.append([seg.flags >> ACE_SHIFT & 7 for seg in s.take()])
    assert told == [[6], [], [0], [], [2], [], [4], [], [6], [], [0], []]
    assert s.user.ecn.received_ce == 12


@pytest.mark.rfc(9768, "§3.2.2.5.1")
def test_mark_after_an_unmarked_segment_is_told_at_once_and_its_end_is_not() -> None:
    s = passive()
    for n, (mark, ace) in enumerate([("ect0", ""), ("ce", "6"), ("ect0", ""), ("ce", "7"), ("ect0", "")]):
        s.peer(f"[{mark}] P.5 {1 + n * 100}:{101 + n * 100}(100) ack 1 win 65535")
        assert [s.render(seg).split()[0] for seg in s.take()] == ([f".{ace}"] if ace else [])


@pytest.mark.rfc(9768, "§3.2.2.5.1")
@pytest.mark.parametrize("sack", [True, False])
def test_marks_on_pure_acks_the_third_is_told_to_a_peer_with_sack(sack: bool) -> None:
    s = passive(with_options(sack=sack), "mss 1460,nop,nop,sackOK")
    for _ in range(2):
        s.peer("[ce] .5 1:1(0) ack 1 win 65535")
        s.expect_nothing()
    s.peer("[ce] .5 1:1(0) ack 1 win 65535")
    s.expect(*([".0 1:1(0) ack 1"] if sack else []))
    assert s.user.ecn.received_ce == 3


@pytest.mark.rfc(9768, "§3.2")
def test_marked_super_segment_counts_each_of_its_segments() -> None:
    s = passive()
    seg = s.segment("[ce] P.5 1:5001(5000) ack 1 win 65535")
    seg.gso_size = MSS
    s.user.on_segment(seg, s.now)
    s.expect(".1 1:1(0) ack 5001 win 60535 <ecn e0b 1 ceb 5000 e1b 1>")


@pytest.mark.rfc(9768, "§3.2")
@pytest.mark.rfc(3168, "§6.1.5")
def test_marks_on_what_is_not_acceptable_are_not_counted() -> None:
    s = passive()
    s.peer("[ce] P.5 4294967197:1(100) ack 1 win 65535")  # old
    s.peer("[ce] P.5 70001:70101(100) ack 1 win 65535")  # beyond the window
    s.peer("[ce] P.5 1:101(100) ack 999 win 65535")  # acknowledges what was not sent
    assert half(s).received.cep == 5
    assert half(s).received.counters == FIRST


@pytest.mark.rfc(9768, "§3.2.3")
@pytest.mark.rfc(9768, "§3.2.3.3")
@pytest.mark.parametrize(
    ("marks", "option"),
    [
        (["ect0"], "ecn e0b 101 ceb 0"),
        (["ect1"], "ecn e1b 101 ceb 0"),
        (["ce"], "ecn e0b 1 ceb 100 e1b 1"),
        (["ect0", "ce"], "ecn e0b 101 ceb 100"),
        (["ect1", "ce"], "ecn e1b 101 ceb 100"),
        (["ect0", "ect1"], "ecn e0b 101 ceb 0 e1b 101"),
        (["ect0", "ce", "ect1"], "ecn e0b 101 ceb 100 e1b 101"),
    ],
)
def test_option_tells_every_counter_that_ever_moved(marks: list[str], option: str) -> None:
    s = passive()
    for n, mark in enumerate(marks):
        s.peer(f"[{mark}] P.5 {1 + n * 100}:{101 + n * 100}(100) ack 1 win 65535")
    s.advance(40 * MS)
    last = s.take()[-1]
    assert s.render(last).endswith(f" <{option}>")


@pytest.mark.rfc(9768, "§3.2.3.3")
def test_option_is_left_out_when_nothing_was_counted_since_the_last() -> None:
    s = passive()
    s.peer("[ect0] P.5 1:101(100) ack 1 win 65535")
    s.write(b"x" * 100)
    s.expect("[ect0] P.5 1:101(100) ack 101 win 65435 <ecn e0b 101 ceb 0>")
    s.peer(".5 101:101(0) ack 101 win 65535")
    s.write(b"y" * 100)
    (seg,) = s.take()
    assert s.render(seg) == "[ect0] P.5 101:201(100) ack 101 win 65435"
    s.peer("P.5 101:201(100) ack 201 win 65535")  # Not-ECT
    s.advance(40 * MS)
    (seg,) = s.take()
    assert s.render(seg) == ".5 201:201(0) ack 201 win 65335"


@pytest.mark.rfc(9768, "§3.2.3.3")
def test_option_that_the_sink_refused_is_told_later() -> None:
    s = passive()
    s.sink_full = True
    s.peer("[ce] P.5 1:101(100) ack 1 win 65535")
    assert s.refused
    s.sink_full = False
    s.expect(".6 1:1(0) ack 101 win 65435 <ecn e0b 1 ceb 100 e1b 1>")
    s.peer("P.5 101:201(100) ack 1 win 65535", "P.5 201:301(100) ack 1 win 65535")
    s.advance(40 * MS)
    (seg,) = s.take()
    assert s.render(seg) == ".6 1:1(0) ack 301 win 65235"


@pytest.mark.rfc(9768, "§3.2.3.3")
def test_option_beside_timestamps_leaves_room_for_two_sack_blocks() -> None:
    s = passive(with_options(sack=True, timestamps=True), SACK_TS)
    expected: list[tuple[int, int]] = []
    for n, start in enumerate((11, 31, 51, 71)):
        s.peer(f"[ect0] P.5 {start}:{start + 10}(10) ack 1 win 65535{s.echo()}")
        expected = [(start, start + 10), *expected][:2]
        (seg,) = s.take()
        assert [(left - IRS & MASK32, right - IRS & MASK32) for left, right in seg.options.sack] == expected
        assert seg.options.accecn == (11 + n * 10, 0, -1)
    s.peer(f"P.5 71:81(10) ack 1 win 65535{s.echo()}")
    (seg,) = s.take()
    assert len(seg.options.sack) == 3  # nothing to tell: a third one fits
    assert seg.options.accecn is None


@pytest.mark.rfc(9768, "§3.2.3.3")
def test_option_of_three_counters_without_room_shows_the_two_that_moved() -> None:
    s = passive(with_options(sack=True, timestamps=True), SACK_TS)
    s.peer(f"[ect1] P.5 1:11(10) ack 1 win 65535{s.echo()}")
    s.peer(f"[ect0] P.5 21:31(10) ack 1 win 65535{s.echo()}")
    s.take()
    s.peer(f"[ect0] P.5 41:51(10) ack 1 win 65535{s.echo()}")
    (seg,) = s.take()
    assert (len(seg.options.sack), seg.options.accecn) == (2, (21, 0, -1))
    s.peer(f"[ect1] P.5 61:71(10) ack 1 win 65535{s.echo()}")
    (seg,) = s.take()
    assert (len(seg.options.sack), seg.options.accecn) == (2, (-1, 0, 21))


@pytest.mark.rfc(9768, "§3.2.3")
def test_counters_wrap_at_24_bits() -> None:
    s = passive()
    half(s).received.counters = ((1 << 24) - 50, 0, 1)
    s.peer("[ect0] P.5 1:101(100) ack 1 win 65535")
    s.advance(40 * MS)
    s.expect(".5 1:1(0) ack 101 win 65435 <ecn e0b 50 ceb 0>")


@pytest.mark.rfc(9768, "§3.2.3.2.2")
def test_first_text_that_vanishes_goes_again_without_the_option() -> None:
    s = active()
    s.write(b"x" * 100)
    s.expect(f"[ect0] P.5 1:101(100) ack 1 win 65535 <{FIRST_OPTION}>")
    s.advance(2 * SEC)
    assert {s.render(seg) for seg in s.take()} == {"P.5 1:101(100) ack 1 win 65535"}
    s.peer("[ect0] P.5 1:101(100) ack 101 win 65535")
    s.advance(40 * MS)
    (seg,) = s.take()
    assert s.render(seg) == ".5 101:101(0) ack 101 win 65435"


# --- the sender of text ----------------------------------------------------------------------------------------------


@pytest.mark.rfc(9768, "§3.2.2.2")
@pytest.mark.rfc(9768, "§3.1.5")
def test_counter_that_advances_reduces_once_a_window_and_cwr_is_never_sent() -> None:
    s = passive()
    cc = s.user.snd.cc
    windowful(s)
    before = cc.ssthresh
    s.peer(f".6 1:1(0) ack {1 + 2 * MSS} win 65535 <ecn e0b 1461 ceb 1460>")
    reduced = cc.ssthresh
    assert reduced < before
    s.peer(f".7 1:1(0) ack {1 + 4 * MSS} win 65535 <ecn e0b 2921 ceb 2920>")
    s.peer(f".7 1:1(0) ack {1 + 10 * MSS} win 65535 <ecn e0b 11681 ceb 2920>")
    assert cc.ssthresh == reduced
    assert s.user.ecn.delivered_ce == 2
    s.take()
    s.write(bytes(2 * MSS))
    assert [s.render(seg).split()[:2] for seg in s.take()] == [["[ect0]", ".5"], ["[ect0]", "P.5"]]
    s.peer(f".0 1:1(0) ack {1 + 12 * MSS} win 65535 <ecn e0b 13141 ceb 4380>")
    assert cc.ssthresh < reduced
    assert s.user.ecn.delivered_ce == 3


def test_counter_that_stays_means_no_marks() -> None:
    s = passive()
    before = s.user.snd.cc.ssthresh
    windowful(s)
    s.peer(f".5 1:1(0) ack {1 + 10 * MSS} win 65535 <ecn e0b 14601>")
    assert s.user.snd.cc.ssthresh == before
    assert s.user.ecn.delivered_ce == 0


@pytest.mark.rfc(9768, "§3.2.2.5.2")
def test_counter_that_advances_without_an_option_is_heeded_as_well() -> None:
    s = passive()
    before = s.user.snd.cc.ssthresh
    windowful(s)
    s.peer(f".6 1:1(0) ack {1 + 2 * MSS} win 65535")
    assert s.user.snd.cc.ssthresh < before


@pytest.mark.rfc(9768, "§A.1")
def test_ack_that_was_overtaken_is_not_read() -> None:
    config = with_options(timestamps=True, sack=True)
    s = passive(config, SACK_TS)
    windowful(s, 9)
    s.advance(5 * MS)
    stamp = s.echo()
    s.advance(5 * MS)
    size = 1448
    s.peer(f".7 1:1(0) ack {1 + 4 * size} win 65535{s.echo()}")
    assert s.user.ecn.delivered_ce == 2
    s.peer(f".6 1:1(0) ack {1 + 2 * size} win 65535{stamp}")
    s.peer(f".6 1:1(0) ack {1 + 4 * size} win 65535{stamp}")
    assert s.user.ecn.delivered_ce == 2
    s.advance(MS)
    s.peer(f".0 1:1(0) ack {1 + 4 * size} win 65535{s.echo()}")  # nothing new but its time
    assert s.user.ecn.delivered_ce == 3


@pytest.mark.rfc(9768, "§3.2.2.4")
@pytest.mark.parametrize("option", ["", " <ecn e0b 1461 ceb 1460>"])
def test_first_counter_that_is_zero_ends_ect_and_heed_but_not_our_own_feedback(option: str) -> None:
    s = active()
    windowful(s)
    before = s.user.snd.cc.ssthresh
    s.peer(f".0 1:1(0) ack {1 + 2 * MSS} win 65535{option}")
    s.peer(f".3 1:1(0) ack {1 + 10 * MSS} win 65535{option}")
    assert s.user.snd.cc.ssthresh == before
    s.take()
    s.peer("[ce] P.0 1:101(100) ack 14601 win 65535")
    s.expect(".6 14601:14601(0) ack 101")
    s.write(b"x" * 100)
    s.expect("P.6 14601:14701(100) ack 101")


def test_counter_that_is_zero_later_is_a_wrap() -> None:
    s = active()
    windowful(s)
    s.peer(f".7 1:1(0) ack {1 + 2 * MSS} win 65535", f".0 1:1(0) ack {1 + 3 * MSS} win 65535")
    assert s.user.ecn.delivered_ce == 3


@pytest.mark.rfc(9768, "§3.2.3.2.4")
@pytest.mark.parametrize("option", ["ecn e0b 0 ceb 0 e1b 1", "ecn e0b 1 ceb 0 e1b 0"])
def test_first_option_with_a_zeroed_counter_is_ignored_and_so_are_all_that_follow(option: str) -> None:
    s = active(option)
    windowful(s, 4)
    s.peer(f".6 1:1(0) ack {1 + 2 * MSS} win 65535 <ecn e0b 0 ceb 16000>")
    assert half(s).reported.counters == list(FIRST)
    assert s.user.ecn.delivered_ce == 1


@pytest.mark.rfc(9768, "§3.2.3.2.5")
def test_bytes_marked_without_segments_ack_after_ack_end_ect() -> None:
    s = passive()
    windowful(s)
    for n in range(1, 4):
        assert half(s).sends_ect
        s.peer(f".5 1:1(0) ack {1 + 2 * n * MSS} win 65535 <ecn e0b {1 + n * MSS} ceb {n * MSS}>")
    s.take()
    s.write(b"x" * 100)
    s.peer(f".5 1:1(0) ack {1 + 10 * MSS} win 65535")
    assert not any(seg.ecn for seg in s.take())


@pytest.mark.rfc(3168, "§6.1.5")
def test_text_sent_again_has_no_ect() -> None:
    s = passive()
    windowful(s, 1)
    s.advance(2 * SEC)
    again = s.take()
    assert again
    assert not any(seg.ecn for seg in again)


# --- what an ACK tells, by itself ------------------------------------------------------------------------------------


def ack(ace: int, option: str = "") -> Segment:
    return text.parse(f".{ace} 1:1(0) ack 1 win 1{option}")


@pytest.mark.rfc(9768, "§A.2.1")
@pytest.mark.parametrize(
    ("segments", "advance", "marks"),
    [(9, 2, 2), (10, 2, 10), (8, 0, 8), (7, 0, 0), (16, 7, 15), (17, 1, 17), (3, 2, 2), (1, 5, 5), (0, 3, 3)],
)
def test_ace_alone_is_read_as_the_most_marks_that_are_possible(segments: int, advance: int, marks: int) -> None:
    reported = Reported()
    delivered = segments * MSS or 1
    assert reported.read(ack((5 + advance) % 8), delivered, MSS) == (marks, marks * MSS)
    assert reported.cep == 5 + marks


@pytest.mark.rfc(9768, "§A.2.1")
def test_ace_alone_where_acks_are_rare_anyway_is_read_as_the_fewest_marks() -> None:
    reported = Reported()
    for _ in range(20):
        reported.read(ack(5, " <ecn e0b 1 ceb 0>"), 20 * MSS, MSS)
    assert reported.read(ack(7), 20 * MSS, MSS) == (2, 2 * MSS)


@pytest.mark.rfc(9768, "§A.2.2")
@pytest.mark.parametrize(
    ("segments", "advance", "ceb", "marks"),
    [
        (8, 0, 1460, 8),
        (10, 2, 1460, 2),
        (15, 7, 10200, 7),
        (16, 0, 0, 0),
        (16, 0, 16 * 1460, 16),
        (12, 4, 12 * 1460, 12),
    ],
)
def test_ace_with_an_option_is_read_as_the_marks_that_fit_its_bytes(
    segments: int, advance: int, ceb: int, marks: int
) -> None:
    reported = Reported()
    told = reported.read(ack((5 + advance) % 8, f" <ecn e0b 1 ceb {ceb}>"), segments * MSS, MSS)
    assert told == (marks, ceb)


@pytest.mark.rfc(9768, "§A.2.2")
@pytest.mark.parametrize(("trains", "marks"), [((4.1, 3.1), 9), ((7.1,), 8), ((9.5, 8.5), 19), ((0.5,) * 8, 8)])
def test_marks_on_segments_that_are_not_full_are_read_from_the_bytes(trains: tuple[float, ...], marks: int) -> None:
    """Each train is cut into full segments and a rest: more of them than the bytes that an ACK delivers would take."""
    reported = Reported()
    ceb = sum(int(train * MSS) for train in trains)
    assert reported.read(ack((5 + marks) % 8, f" <ecn e0b 1 ceb {ceb}>"), ceb, MSS) == (marks, ceb)


@pytest.mark.rfc(9768, "§A.3")
def test_bytes_guessed_without_an_option_are_not_counted_again_when_one_comes() -> None:
    reported = Reported()
    assert reported.read(ack(6), 2 * MSS, MSS) == (1, MSS)
    assert reported.read(ack(7, f" <ecn e0b 1 ceb {2 * MSS}>"), 2 * MSS, MSS) == (1, MSS)
    assert reported.read(ack(7, f" <ecn e0b 1 ceb {2 * MSS}>"), 2 * MSS, MSS) == (0, 0)


@pytest.mark.rfc(9768, "§3.2.3.1")
def test_option_counters_are_read_across_their_wrap_and_never_backwards() -> None:
    reported = Reported()
    reported.counters = [1, (1 << 24) + 0xFF_FFF0, 1]
    assert reported.read(ack(6, " <ecn e0b 1 ceb 16>"), MSS, MSS) == (1, 32)
    assert reported.counters[1] == (1 << 25) + 16
    assert reported.read(ack(6, " <ecn e0b 1 ceb 10>"), MSS, MSS) == (0, 0)
    assert reported.counters[1] == (1 << 25) + 16


def test_marks_without_marked_text_are_as_many_bytes_as_the_ack_delivers_at_most() -> None:
    reported = Reported()
    assert reported.read(ack(6, " <ecn e0b 1 ceb 0>"), 100, MSS) == (1, 100)


def test_handshake_encodings_are_four_different_ones() -> None:
    assert len(set(HANDSHAKE)) == len(CODES)
    assert not {0b000, 0b001, 0b101, 0b111} & set(HANDSHAKE)
