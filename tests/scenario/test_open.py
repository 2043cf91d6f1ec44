"""Opening a connection: RFC 9293 §3.5, §3.10.1, §3.10.7.2, §3.10.7.3."""

import errno

import pytest

from tests.support.script import PEER_TS_BASE, PLAIN, Script, with_options
from usertcp.tcp.config import TcpConfig
from usertcp.tcp.state import CONNECTED, WRITABLE, State
from usertcp.units import MASK32, SEC
from usertcp.wire.tcp import SYN


@pytest.mark.rfc(9293, "X-12")
@pytest.mark.rfc(9293, "MUST-14")
def test_active_open_three_segments_establish() -> None:
    s = Script.opening()
    s.expect("S 0:0(0) win 65535 <mss 1460>")
    s.expect_state(State.SYN_SENT)
    s.peer("S. 0:0(0) ack 1 win 1000 <mss 1000>")
    s.expect(". 1:1(0) ack 1 win 65535")
    s.expect_state(State.ESTABLISHED)
    assert s.user.ready & (CONNECTED | WRITABLE) == CONNECTED | WRITABLE
    assert s.user.snd.mss == 1000


@pytest.mark.rfc(7323, "§2.2")
@pytest.mark.rfc(2018, "§2")
def test_active_open_all_options_are_agreed_on() -> None:
    s = Script.opening(TcpConfig())
    none = -PEER_TS_BASE & MASK32  # a zero in the field
    s.expect(f"S 0:0(0) win 65535 <mss 1460,sackOK,TS val 0 ecr {none},nop,wscale 10>")
    s.peer("S. 0:0(0) ack 1 win 1000 <mss 1460,sackOK,TS val 7 ecr 0,nop,wscale 7>")
    s.expect(". 1:1(0) ack 1 win 64 <nop,nop,TS val 0 ecr 7>")
    assert s.user.snd.shift == 7
    assert s.user.snd.wnd == 1000  # a SYN's window is not scaled


@pytest.mark.rfc(9293, "MUST-15")
def test_active_open_peer_without_options_gets_none() -> None:
    s = Script.opening(TcpConfig())
    s.take()
    s.peer("S. 0:0(0) ack 1 win 1000")
    s.expect(". 1:1(0) ack 1 win 65535")
    assert s.user.snd.mss == 536  # MUST-15


@pytest.mark.rfc(9293, "MUST-23")
def test_syn_to_nobody_backs_off_and_gives_up_after_180_s() -> None:
    s = Script.opening()
    start = s.now
    s.advance(400 * SEC)
    assert [(at - start) // SEC for at in s.sent_at] == [0, 1, 3, 7, 15, 31, 63, 127]
    s.expect_state(State.CLOSED)
    error = s.user.take_error()
    assert error is not None
    assert error.errno == errno.ETIMEDOUT


@pytest.mark.rfc(9293, "X-12")
def test_refused_by_reset_with_ack_of_our_syn() -> None:
    s = Script.opening()
    s.take()
    s.peer("R. 0:0(0) ack 1")
    s.expect_nothing()
    with pytest.raises(ConnectionRefusedError):
        s.user.write(b"x")
    s.expect_state(State.CLOSED)


@pytest.mark.rfc(9293, "X-12")
def test_syn_sent_reset_without_ack_is_ignored() -> None:
    s = Script.opening()
    s.take()
    s.peer("R 0:0(0)")
    s.expect_nothing()
    s.expect_state(State.SYN_SENT)


@pytest.mark.rfc(9293, "X-12")
def test_syn_sent_wrong_ack_is_reset_and_syn_goes_on() -> None:
    s = Script.opening()
    s.take()
    s.peer("S. 0:0(0) ack 77 win 1000")
    s.expect("R 77:77(0)")
    s.peer(". 0:0(0) ack 0 win 1000")
    s.expect("R 0:0(0)")
    s.expect_state(State.SYN_SENT)


@pytest.mark.rfc(9293, "X-12")
@pytest.mark.rfc(9293, "X-9")
@pytest.mark.parametrize("line", [". 1:1(0) ack 1", "P. 1:6(5) ack 1", "F. 1:1(0) ack 1", "F 0:0(0)", "P 0:5(5)"])
def test_syn_sent_what_is_neither_syn_nor_reset_is_dropped_though_its_ack_is_right(line: str) -> None:
    s = Script.opening()
    s.take()
    s.peer(line)
    s.expect_nothing()
    s.expect_state(State.SYN_SENT)
    s.peer("S. 0:0(0) ack 1 win 1000")
    s.expect(". 1:1(0) ack 1")
    s.expect_state(State.ESTABLISHED)
    assert not s.user.at_eof
    assert not s.user.readable


@pytest.mark.rfc(9293, "MUST-10")
def test_simultaneous_open_becomes_one_connection() -> None:
    s = Script.opening()
    s.take()
    s.peer("S 0:0(0) win 1000 <mss 1460>")
    s.expect("S. 0:0(0) ack 1 win 65535 <mss 1460>")
    s.expect_state(State.SYN_RECEIVED)
    s.peer("S. 0:0(0) ack 1 win 1000 <mss 1460>")
    s.expect_state(State.ESTABLISHED)


@pytest.mark.rfc(9293, "MUST-11")
def test_simultaneous_open_reset_is_refusal() -> None:
    s = Script.opening()
    s.peer("S 0:0(0) win 1000 <mss 1460>")
    s.peer("R 1:1(0)")
    error = s.user.take_error()
    assert error is not None
    assert error.errno == errno.ECONNREFUSED


@pytest.mark.rfc(9293, "MUST-14")
def test_passive_open_three_segments_establish() -> None:
    s = Script.listening("S 0:0(0) win 1000 <mss 1460>")
    s.expect("S. 0:0(0) ack 1 win 65535 <mss 1460>")
    s.expect_state(State.SYN_RECEIVED)
    s.peer(". 1:1(0) ack 1 win 1000")
    s.expect_nothing()
    s.expect_state(State.ESTABLISHED)
    assert s.listener is not None
    assert s.listener.accept() is s.user


@pytest.mark.rfc(9293, "MUST-11")
def test_passive_open_reset_returns_to_listen_silently() -> None:
    s = Script.listening("S 0:0(0) win 1000")
    s.take()
    s.peer("R 1:1(0)")
    s.expect_nothing()
    assert s.user.error is None
    assert s.listener is not None
    assert not s.listener.half_open
    assert s.host.forgotten == [s.user]


def test_passive_open_syn_again_is_answered_again() -> None:
    s = Script.listening("S 0:0(0) win 1000")
    s.take()
    s.peer("S 0:0(0) win 1000")
    s.expect("S. 0:0(0) ack 1")


def test_passive_open_no_third_segment_gives_up_after_retries() -> None:
    s = Script.listening("S 0:0(0) win 1000")
    s.advance(200 * SEC)
    assert len(s.take()) == 1 + PLAIN.synack_retries
    s.expect_state(State.CLOSED)


def test_passive_open_lost_third_segment_is_healed_by_data() -> None:
    s = Script.listening("S 0:0(0) win 1000")
    s.take()
    s.peer("P. 1:6(5) ack 1 win 1000", payload=b"hello")
    s.expect_state(State.ESTABLISHED)
    assert s.read() == b"hello"


@pytest.mark.rfc(9293, "X-6")
def test_syn_received_wrong_ack_is_reset() -> None:
    s = Script.listening("S 0:0(0) win 1000")
    s.take()
    s.peer(". 1:1(0) ack 99 win 1000")
    s.expect("R 99:99(0)")
    s.expect_state(State.SYN_RECEIVED)


def test_accept_queue_full_third_segment_waits() -> None:
    s = Script.listening("S 0:0(0) win 1000", backlog=0)
    assert s.listener is not None
    other = Script.established().user
    s.listener.queue.append(other)
    s.peer(". 1:1(0) ack 1 win 1000")
    s.expect_state(State.SYN_RECEIVED)
    assert s.listener.accept() is other
    s.peer(". 1:1(0) ack 1 win 1000")
    s.expect_state(State.ESTABLISHED)


def test_close_in_syn_sent_ends_without_a_segment() -> None:
    s = Script.opening()
    s.take()
    s.user.close()
    s.expect_nothing()
    s.expect_state(State.CLOSED)
    assert s.host.forgotten == [s.user]


@pytest.mark.rfc(9293, "MUST-16")
@pytest.mark.parametrize(("peer_mss", "mss"), [(100, 100), (536, 536), (1460, 1400), (65535, 1400)])
def test_mss_of_peer_and_path_the_smaller_holds(peer_mss: int, mss: int) -> None:
    s = Script.established(options=f"mss {peer_mss}", mss=1400)
    s.write(bytes(4000))
    assert len(s.take()[0].payload) == mss


def test_syn_lost_twice_starts_with_one_segment() -> None:
    s = Script.opening(with_options())
    s.advance(4 * SEC)
    s.take()
    s.peer("S. 0:0(0) ack 1 win 65535 <mss 1460>")
    s.take()
    s.write(bytes(10_000))
    assert len(s.take()) == 1


@pytest.mark.rfc(9293, "SHLD-5")
@pytest.mark.rfc(9293, "MAY-3")
@pytest.mark.rfc(9293, "MUST-14")
@pytest.mark.parametrize("mss", [536, 1220, 1460, 8960])
def test_syn_and_its_answer_always_bear_the_mss(mss: int) -> None:
    for s in (Script.opening(mss=mss), Script.listening("S 0:0(0) win 1000", mss=mss)):
        (syn,) = s.take()
        assert syn.flags & SYN
        assert syn.options.mss == mss


@pytest.mark.rfc(9293, "MUST-15")
@pytest.mark.rfc(9293, "MUST-16")
@pytest.mark.parametrize("passive", [False, True])
@pytest.mark.parametrize(("options", "text"), [("", 536), ("TS val 0 ecr 0", 524)])
def test_peer_without_mss_gets_segments_of_536_bytes_less_the_options(options: str, text: int, passive: bool) -> None:
    s = Script.established(with_options(timestamps=True), options=options or "nop", passive=passive)
    s.write(bytes(4000))
    assert max(len(seg.payload) for seg in s.take()) == text


@pytest.mark.rfc(9293, "MUST-65")
@pytest.mark.parametrize("passive", [False, True])
def test_mss_is_sent_on_syns_alone_and_counts_there_alone(passive: bool) -> None:
    s = Script.established(TcpConfig(), options="mss 1000,sackOK,TS val 0 ecr 0", passive=passive)
    stamps = s.echo().strip(" <>")
    s.peer(f"P. 1:6(5) ack 1 win 60000 <mss 200,{stamps}>", f". 11:16(5) ack 1 win 60000 <mss 200,{stamps}>")
    s.write(bytes(3000))
    s.user.shutdown_write()
    s.poll()
    s.user.abort()
    s.poll()
    sent = s.take()
    assert max(len(seg.payload) for seg in sent) == 1000 - 12 - 12  # timestamps, a SACK block
    assert all(seg.options.mss == 0 for seg in sent)
    assert len(sent) >= 5
