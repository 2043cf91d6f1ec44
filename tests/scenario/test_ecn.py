"""Explicit congestion notification as of RFC 3168: its handshake, both ends' part, and what never says ECT."""

import errno

import pytest

from tests.support.script import Script, with_options
from usertcp.tcp.ecn_policy import Ecn
from usertcp.tcp.state import State
from usertcp.units import MS, SEC

ASKS = with_options(ecn=Ecn.CLASSIC)
MSS = 1460


def active() -> Script:
    """ESTABLISHED by our SYN, which asked; nothing outstanding."""
    s = Script.opening(ASKS)
    s.expect("SEW 0:0(0) win 65535 <mss 1460>")
    s.peer("S.E 0:0(0) ack 1 win 65535 <mss 1460>")
    s.expect(". 1:1(0) ack 1 win 65535")
    s.user.rcv.quick = 0
    return s


def passive() -> Script:
    """ESTABLISHED by the peer's SYN, which asked."""
    s = Script.listening("SEW 0:0(0) win 65535 <mss 1460>")
    s.expect("S.E 0:0(0) ack 1 win 65535 <mss 1460>")
    s.peer(". 1:1(0) ack 1 win 65535")
    s.expect_nothing()
    s.user.rcv.quick = 0
    return s


def windowful(s: Script, segments: int = 10) -> None:
    """Full segments of new text leave, which nobody has acknowledged."""
    s.write(bytes(segments * MSS))
    assert len(s.take()) == segments


# --- the handshake ---------------------------------------------------------------------------------------------------


@pytest.mark.rfc(9293, "SHLD-8")
@pytest.mark.rfc(3168, "§6.1.1")
def test_rfc3168_6_1_1_active_open_that_asks_and_is_granted_sends_text_with_ect() -> None:
    s = active()
    s.write(b"x" * 100)
    s.expect("[ect0] P. 1:101(100) ack 1 win 65535")
    assert s.user.ecn.name == "classic"


@pytest.mark.rfc(3168, "§6.1.1")
def test_rfc3168_6_1_1_passive_open_that_is_asked_grants_and_sends_text_with_ect() -> None:
    s = passive()
    s.write(b"x" * 100)
    s.expect("[ect0] P. 1:101(100) ack 1 win 65535")


@pytest.mark.rfc(3168, "§6.1.1.2")
@pytest.mark.parametrize("flags", ["S.", "S.W", "S.EW", "S.EWA"])
def test_rfc3168_6_1_1_2_syn_ack_that_does_not_grant_means_no_ecn(flags: str) -> None:
    s = Script.opening(ASKS)
    s.peer(f"{flags} 0:0(0) ack 1 win 65535 <mss 1460>")
    s.take()
    s.write(b"x" * 100)
    s.expect("P. 1:101(100) ack 1 win 65535")
    s.peer("[ce] P. 1:101(100) ack 101 win 65535")
    s.advance(40 * MS)
    s.expect(". 101:101(0) ack 101")
    assert s.user.ecn.name == "none"


@pytest.mark.rfc(3168, "§6.1.1")
@pytest.mark.parametrize(
    ("policy", "syn", "answer", "name"),
    [
        (Ecn.OFF, "SEW", "S.", "none"),
        (Ecn.OFF, "SEWA", "S.", "none"),
        (Ecn.OFF, "S", "S.", "none"),
        (Ecn.CLASSIC, "SEW", "S.E", "classic"),
        (Ecn.CLASSIC, "S", "S.", "none"),
        (Ecn.CLASSIC_PASSIVE, "SEW", "S.E", "classic"),
        (Ecn.CLASSIC_PASSIVE, "SEWA", "S.E", "classic"),  # who asks for AccECN takes RFC 3168 as well
        (Ecn.CLASSIC_PASSIVE, "SA", "S.", "none"),
        (Ecn.CLASSIC_PASSIVE, "SE", "S.", "none"),
        (Ecn.CLASSIC_PASSIVE, "SW", "S.", "none"),
        (Ecn.CLASSIC_PASSIVE, "S", "S.", "none"),
        (Ecn.CLASSIC_ACTIVE, "SEW", "S.E", "classic"),
        (Ecn.ACCURATE, "SEW", "S.E", "classic"),
        (Ecn.ACCURATE, "S", "S.", "none"),
        (Ecn.PASSIVE, "SEW", "S.E", "classic"),
        (Ecn.PASSIVE, "S", "S.", "none"),
    ],
)
def test_rfc3168_6_1_1_syn_with_any_flags_is_answered_as_the_policy_says(
    policy: Ecn, syn: str, answer: str, name: str
) -> None:
    s = Script.listening(f"{syn} 0:0(0) win 65535 <mss 1460>", with_options(ecn=policy))
    s.expect(f"{answer} 0:0(0) ack 1 win 65535 <mss 1460>")
    assert s.user.ecn.name == name


@pytest.mark.rfc(3168, "§6.1.1")
@pytest.mark.parametrize(
    ("policy", "flags"),
    [
        (Ecn.OFF, "S"),
        (Ecn.CLASSIC, "SEW"),
        (Ecn.CLASSIC_PASSIVE, "S"),
        (Ecn.ACCURATE, "SEWA"),
        (Ecn.CLASSIC_ACTIVE, "SEW"),
        (Ecn.PASSIVE, "S"),
    ],
)
def test_rfc3168_6_1_1_our_syn_asks_as_the_policy_says_and_never_says_ect(policy: Ecn, flags: str) -> None:
    s = Script.opening(with_options(ecn=policy))
    s.expect(f"{flags} 0:0(0) win 65535 <mss 1460>")


@pytest.mark.parametrize("mark", ["ect0", "ect1", "ce"])
def test_syn_that_asks_and_arrives_with_a_code_point_was_mangled_and_gets_no_ecn(mark: str) -> None:
    s = Script.listening(f"[{mark}] SEW 0:0(0) win 65535 <mss 1460>")
    s.expect("S. 0:0(0) ack 1")


@pytest.mark.rfc(3168, "§6.1.1.1")
def test_rfc3168_6_1_1_1_syn_that_asks_unanswered_goes_again_without_asking() -> None:
    s = Script.opening(ASKS)
    s.take()
    s.advance(4 * SEC)
    s.expect("S 0:0(0) win 65535 <mss 1460>", "S 0:0(0) win 65535 <mss 1460>")
    s.peer("S. 0:0(0) ack 1 win 65535 <mss 1460>")
    s.take()
    s.write(b"x" * 100)
    s.expect("P. 1:101(100) ack 1")


@pytest.mark.rfc(3168, "§6.1.1")
def test_rfc3168_6_1_1_syn_ack_that_grants_a_syn_without_asking_marks_are_echoed_and_no_ect_is_sent() -> None:
    s = Script.opening(ASKS)
    s.advance(2 * SEC)
    s.take()
    s.peer("S.E 0:0(0) ack 1 win 65535 <mss 1460>")
    s.take()
    s.write(b"x" * 100)
    s.expect("P. 1:101(100) ack 1")
    s.peer("[ce] P. 1:101(100) ack 101 win 65535")
    s.expect(".E 101:101(0) ack 101")


@pytest.mark.rfc(3168, "§6.1.1.1")
def test_rfc3168_6_1_1_1_syn_again_without_asking_is_answered_without_and_no_ect_is_sent() -> None:
    s = Script.listening("SEW 0:0(0) win 65535 <mss 1460>")
    s.expect("S.E 0:0(0) ack 1")
    s.peer("S 0:0(0) win 65535 <mss 1460>")
    s.expect("S. 0:0(0) ack 1")
    s.peer(". 1:1(0) ack 1 win 65535")
    s.write(b"x" * 100)
    s.expect("P. 1:101(100) ack 1")


def test_syn_again_asking_the_same_is_answered_the_same() -> None:
    for policy, syn in ((Ecn.PASSIVE, "SEW"), (Ecn.CLASSIC_PASSIVE, "SEWA")):
        s = Script.listening(f"{syn} 0:0(0) win 65535 <mss 1460>", with_options(ecn=policy))
        s.peer(f"{syn} 0:0(0) win 65535 <mss 1460>")
        s.expect("S.E 0:0(0) ack 1", "S.E 0:0(0) ack 1")


@pytest.mark.rfc(9768, "§3.1.5")
@pytest.mark.parametrize(("first", "second"), [("SEW", "SEWA"), ("SEWA", "SEW")])
def test_rfc9768_3_1_5_syn_again_asking_for_the_other_kind_resets(first: str, second: str) -> None:
    s = Script.listening(f"{first} 0:0(0) win 65535 <mss 1460>")
    s.take()
    s.peer(f"{second} 0:0(0) win 65535 <mss 1460>")
    s.expect("R. 1:1(0) ack 1")
    s.expect_state(State.CLOSED)
    error = s.user.take_error()
    assert error is not None
    assert error.errno == errno.EPROTO


def test_simultaneous_open_both_asking_both_grant() -> None:
    s = Script.opening(ASKS)
    s.expect("SEW 0:0(0)")
    s.peer("SEW 0:0(0) win 65535 <mss 1460>")
    s.expect("S.E 0:0(0) ack 1")
    s.peer("S.E 0:0(0) ack 1 win 65535 <mss 1460>")
    s.take()
    s.expect_state(State.ESTABLISHED)
    s.write(b"x" * 100)
    s.expect("[ect0] P. 1:101(100) ack 1")


@pytest.mark.parametrize(
    ("policy", "syn", "name"),
    [
        (Ecn.PASSIVE, "SEWA", "none"),  # we did not ask: the peer takes our SYN for the answer
        (Ecn.CLASSIC_PASSIVE, "SEW", "none"),
        (Ecn.CLASSIC, "S", "none"),
        (Ecn.CLASSIC, "SEWA", "classic"),
        (Ecn.CLASSIC_ACTIVE, "SEWA", "classic"),  # though it would be granted to who opens alone
        (Ecn.ACCURATE, "SEW", "classic"),
        (Ecn.ACCURATE, "SEWA", "accurate"),
    ],
)
def test_simultaneous_open_uses_what_both_syns_ask_for(policy: Ecn, syn: str, name: str) -> None:
    s = Script.opening(with_options(ecn=policy))
    s.peer(f"{syn} 0:0(0) win 65535 <mss 1460>")
    assert s.user.ecn.name == name


@pytest.mark.parametrize(("policy", "syn"), [(Ecn.CLASSIC, "SEW"), (Ecn.ACCURATE, "SEWA")])
def test_simultaneous_open_after_our_syn_went_without_asking_sends_no_ect(policy: Ecn, syn: str) -> None:
    s = Script.opening(with_options(ecn=policy))
    s.advance(4 * SEC)
    s.peer(f"{syn} 0:0(0) win 65535 <mss 1460>", "S. 0:0(0) ack 1 win 65535 <mss 1460>")
    s.expect_state(State.ESTABLISHED)
    s.take()
    s.write(b"x" * 100)
    assert [seg.ecn for seg in s.take()] == [0]


@pytest.mark.rfc(3168, "§6.1.1")
@pytest.mark.rfc(9768, "§3.1.5")
@pytest.mark.parametrize(("policy", "syn"), [(Ecn.CLASSIC, "SEW"), (Ecn.ACCURATE, "SEWA")])
def test_rfc3168_6_1_1_simultaneous_open_with_a_syn_ack_that_does_without_sends_no_ect(policy: Ecn, syn: str) -> None:
    s = Script.opening(with_options(ecn=policy))
    s.peer(f"{syn} 0:0(0) win 65535 <mss 1460>", "S. 0:0(0) ack 1 win 65535 <mss 1460>")
    s.expect_state(State.ESTABLISHED)
    s.take()
    s.write(b"x" * 100)
    assert [seg.ecn for seg in s.take()] == [0]


# --- the receiver of text --------------------------------------------------------------------------------------------


@pytest.mark.rfc(3168, "§6.1.3")
def test_rfc3168_6_1_3_mark_is_echoed_at_once_and_on_every_ack_until_cwr() -> None:
    s = passive()
    s.peer("[ce] P. 1:101(100) ack 1 win 65535")
    s.expect(".E 1:1(0) ack 101")
    s.peer("[ect0] P. 101:201(100) ack 1 win 65535")
    s.expect_nothing()  # the ACK is delayed as ever
    s.advance(40 * MS)
    s.expect(".E 1:1(0) ack 201")
    s.write(b"x" * 10)
    s.expect("[ect0] P.E 1:11(10) ack 201")
    s.peer("[ect0] P.W 201:301(100) ack 11 win 65535")
    s.expect(". 11:11(0) ack 301")  # at once: the peer's window may be one segment
    s.peer("[ect0] P. 301:401(100) ack 11 win 65535")
    s.advance(40 * MS)
    s.expect(". 11:11(0) ack 401")
    assert s.user.ecn.received_ce == 1


@pytest.mark.rfc(3168, "§6.1.3")
def test_rfc3168_6_1_3_segment_with_cwr_and_a_mark_begins_a_new_echo() -> None:
    s = passive()
    s.peer("[ce] P. 1:101(100) ack 1 win 65535")
    s.peer("[ce] P.W 101:201(100) ack 1 win 65535")
    s.expect(".E 1:1(0) ack 101", ".E 1:1(0) ack 201")
    s.peer("[ect0] P.W 201:301(100) ack 1 win 65535")
    s.expect(". 1:1(0) ack 301")


@pytest.mark.rfc(3168, "§6.1.2")
def test_rfc3168_6_1_2_cwr_on_what_is_not_new_text_does_not_end_the_echo() -> None:
    s = passive()
    s.peer("[ce] P. 1:101(100) ack 1 win 65535")
    s.take()
    s.peer("P.W 1:101(100) ack 1 win 65535")  # sent again
    s.expect(".E 1:1(0) ack 101")
    s.peer(".W 101:101(0) ack 1 win 65535")
    s.peer("[ect0] P. 101:201(100) ack 1 win 65535")
    s.advance(40 * MS)
    s.expect(".E 1:1(0) ack 201")


@pytest.mark.rfc(3168, "§6.1.5")
@pytest.mark.parametrize("start", [1 - 100 + 2**32, 1 + 70_000])
def test_rfc3168_6_1_5_mark_outside_the_window_is_ignored(start: int) -> None:
    s = passive()
    s.peer(f"[ce] P. {start}:{(start + 100) % 2**32}(100) ack 1 win 65535")
    s.expect(". 1:1(0) ack 1")
    s.peer("[ect0] P. 1:101(100) ack 1 win 65535")
    s.advance(40 * MS)
    s.expect(". 1:1(0) ack 101")
    assert s.user.ecn.received_ce == 0


@pytest.mark.rfc(5961, "§5")
def test_rfc5961_5_mark_on_text_with_an_unacceptable_ack_is_ignored() -> None:
    s = passive()
    s.peer("[ce] P. 1:101(100) ack 999 win 65535")
    s.expect(". 1:1(0) ack 1")


@pytest.mark.rfc(3168, "§6.1.3")
@pytest.mark.rfc(3168, "§6.1.4")
def test_rfc3168_6_1_3_mark_on_a_pure_ack_is_not_echoed() -> None:
    s = passive()
    s.peer("[ce] . 1:1(0) ack 1 win 60000", "[ect0] P. 1:101(100) ack 1 win 60000")
    s.advance(40 * MS)
    s.expect(". 1:1(0) ack 101")


@pytest.mark.rfc(3168, "§6.1.3")
def test_rfc3168_6_1_3_mark_behind_a_gap_is_echoed_with_the_duplicate_ack() -> None:
    s = passive()
    s.peer("[ce] P. 101:201(100) ack 1 win 65535")
    s.expect(".E 1:1(0) ack 1")
    s.peer("P. 1:101(100) ack 1 win 65535")
    s.expect(".E 1:1(0) ack 201")


# --- the sender of text ----------------------------------------------------------------------------------------------


@pytest.mark.rfc(3168, "§6.1.2")
def test_rfc3168_6_1_2_ece_reduces_once_a_window_and_cwr_goes_with_the_next_new_text_once() -> None:
    s = active()
    cc = s.user.snd.cc
    windowful(s)
    before = cc.ssthresh
    s.peer(f".E 1:1(0) ack {1 + MSS} win 65535")
    reduced = cc.ssthresh
    assert reduced < before
    s.peer(*[f".E 1:1(0) ack {1 + n * MSS} win 65535" for n in range(2, 11)])
    assert cc.ssthresh == reduced
    s.take()
    s.write(bytes(2 * MSS))
    first, second = s.take()
    assert s.render(first).startswith("[ect0] .W 14601:16061(1460)")
    assert s.render(second).startswith("[ect0] P. 16061:17521(1460)")
    s.peer(f".E 1:1(0) ack {1 + 10 * MSS} win 65000")  # sent before CWR arrived: the same mark
    assert cc.ssthresh == reduced
    s.peer(f".E 1:1(0) ack {1 + 12 * MSS} win 65000")  # after: another one
    assert cc.ssthresh < reduced
    assert s.user.info().retransmissions == 0


@pytest.mark.rfc(3168, "§6.1.2")
def test_rfc3168_6_1_2_ece_with_a_window_of_one_segment_lets_the_next_wait_as_long_as_a_time_out() -> None:
    s = active()
    s.user.snd.cc.cwnd = MSS
    s.write(bytes(3 * MSS))
    assert len(s.take()) == 1
    s.peer(f".E 1:1(0) ack {1 + MSS} win 65535")
    s.expect_nothing()
    s.advance(s.user.snd.rtt.rto - 1)
    s.expect_nothing()
    s.advance(1)
    first, *_ = s.take()
    assert s.render(first).startswith("[ect0] .W 1461:2921(1460)")
    assert s.user.info().retransmissions == 0


@pytest.mark.rfc(3168, "§6.1.2")
def test_rfc3168_6_1_2_burst_with_cwr_has_it_in_its_first_segment_alone() -> None:
    s = active()
    windowful(s)
    s.peer(f".E 1:1(0) ack {1 + 10 * MSS} win 65535")
    s.take()
    s.write(bytes(4 * MSS))
    assert [s.render(seg).split()[1] for seg in s.take()] == [".W", ".", ".", "P."]


@pytest.mark.rfc(3168, "§6.1.5")
@pytest.mark.rfc(3168, "§6.1.2")
def test_rfc3168_6_1_5_text_sent_again_has_neither_ect_nor_cwr_and_the_next_new_text_has_both() -> None:
    s = active()
    windowful(s, 1)
    s.advance(2 * SEC)
    assert s.user.snd.retries > 0
    assert {s.render(seg).split()[0] for seg in s.take()} == {"P."}
    s.peer(f". 1:1(0) ack {1 + MSS} win 65535")
    s.write(b"x" * 100)
    s.expect("[ect0] P.W 1461:1561(100) ack 1")


@pytest.mark.rfc(3168, "§6.1.2")
def test_rfc3168_6_1_2_fast_retransmit_is_told_by_cwr() -> None:
    s = active()
    windowful(s)
    s.peer(*[". 1:1(0) ack 1 win 65535"] * 3)
    again = s.take()
    assert s.render(again[0]).startswith(". 1:1461(1460)")
    s.peer(f". 1:1(0) ack {1 + 10 * MSS} win 65535")
    s.take()
    s.write(bytes(10))
    s.expect("[ect0] P.W 14601:14611(10) ack 1")


@pytest.mark.rfc(3168, "§6.1.4")
def test_rfc3168_6_1_4_pure_ack_has_no_ect() -> None:
    s = active()
    s.peer("[ect0] P. 1:101(100) ack 1 win 65535")
    s.advance(40 * MS)
    s.expect(". 1:1(0) ack 101")


@pytest.mark.rfc(3168, "§6.1.6")
def test_rfc3168_6_1_6_window_probe_has_no_ect() -> None:
    s = active()
    s.peer(". 1:1(0) ack 1 win 0")
    s.write(b"x" * 100)
    s.expect_nothing()
    s.advance_to_next_deadline()
    s.expect(". 1:2(1) ack 1")


def test_fin_alone_and_keepalive_probe_and_reset_have_no_ect() -> None:
    s = Script.opening(with_options(ecn=Ecn.CLASSIC, keepalive=True, keepalive_idle=SEC))
    s.peer("S.E 0:0(0) ack 1 win 65535 <mss 1460>")
    s.take()
    s.advance_to_next_deadline()
    s.expect(". 0:0(0) ack 1")
    s.user.shutdown_write()
    s.expect("F. 1:1(0) ack 1")
    s.user.abort()
    s.expect("R. 2:2(0) ack 1")


def test_fin_on_the_last_text_says_ect_with_it() -> None:
    s = active()
    s.user.write(b"x" * 100)
    s.user.shutdown_write()
    s.expect("[ect0] FP. 1:101(100) ack 1")


def test_ece_without_ecn_agreed_on_means_nothing() -> None:
    s = Script.established()
    windowful(s)
    before = s.user.snd.cc.ssthresh
    s.peer(f".EWA 1:1(0) ack {1 + 5 * MSS} win 65535")
    assert s.user.snd.cc.ssthresh == before
    assert s.user.snd.una - s.user.snd.iss == 1 + 5 * MSS


def test_full_sink_cwr_waits_with_the_text() -> None:
    s = active()
    windowful(s)
    s.peer(f".E 1:1(0) ack {1 + 10 * MSS} win 65535")
    s.take()
    s.sink_full = True
    s.write(b"x" * 100)
    assert s.refused
    s.sink_full = False
    s.expect("[ect0] P.W 14601:14701(100) ack 1")
    s.write(b"y" * 100)
    s.peer(f". 1:1(0) ack {1 + 10 * MSS + 100} win 65535")
    s.expect("[ect0] P. 14701:14801(100) ack 1")
