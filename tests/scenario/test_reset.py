"""Resets, received and sent: RFC 9293 §3.5.2, §3.5.3, §3.10.5, §3.10.7.4 second; blind resets: RFC 5961 §3."""

import errno

import pytest

from tests.support.script import ISS, PLAIN, Script, with_options
from tests.support.states import SYNCHRONIZED, At, reach
from usertcp.pkt import text
from usertcp.tcp.arrives import MAX_CHALLENGES, MIN_CHALLENGES
from usertcp.tcp.listener import closed_reply, listen_reply
from usertcp.tcp.state import EOF, FAILED, GONE, State
from usertcp.units import MASK32, NEVER, SEC
from usertcp.wire.tcp import ACK, RST

ERRNO = {  # what the user is told when the peer resets
    State.ESTABLISHED: errno.ECONNRESET,
    State.FIN_WAIT_1: errno.ECONNRESET,
    State.FIN_WAIT_2: errno.ECONNRESET,
    State.CLOSE_WAIT: errno.EPIPE,  # as Linux
    State.CLOSING: None,  # nothing more was to come (RFC 9293 §3.10.7.4, second)
    State.LAST_ACK: None,
}


def errno_of(s: Script) -> int | None:
    error = s.user.take_error()
    return error.errno if error is not None else None


# --- received ---------------------------------------------------------------------------------------------------------


@pytest.mark.rfc(5961, "§3.2 exact")
@pytest.mark.rfc(9293, "X-4")
@pytest.mark.rfc(9293, "MUST-12")
@pytest.mark.parametrize("flags", ["R", "R."])
@pytest.mark.parametrize("state", ERRNO)
def test_reset_of_the_next_number_ends_the_connection(state: State, flags: str) -> None:
    at = reach(state)
    at.peer(flags)
    at.s.expect_nothing()
    at.s.expect_state(State.CLOSED)
    assert errno_of(at.s) == ERRNO[state]
    assert at.s.host.forgotten == [at.s.user]
    assert at.s.user.next_deadline() == NEVER


@pytest.mark.rfc(9293, "X-4")
@pytest.mark.rfc(5961, "§3.2")
@pytest.mark.parametrize("offset", [1, 1000, 60000])
@pytest.mark.parametrize("state", ERRNO)
def test_reset_elsewhere_in_the_window_is_asked_about(state: State, offset: int) -> None:
    at = reach(state)
    at.peer("R", at.rcv + offset)
    at.s.expect(f". {at.snd}:{at.snd}(0) ack {at.rcv}")
    at.s.expect_state(state)


@pytest.mark.rfc(5961, "§3.2 outside")
@pytest.mark.rfc(9293, "X-4")
@pytest.mark.parametrize("offset", [-1, -1000, -(2**31) + 5, 65535, 65536, 2**30])
@pytest.mark.parametrize("state", SYNCHRONIZED)
def test_reset_outside_the_window_is_dropped_silently(state: State, offset: int) -> None:
    at = reach(state)
    at.peer("R", at.rcv + offset)
    at.s.expect_nothing()
    at.s.expect_state(state)


@pytest.mark.rfc(9293, "X-4")
@pytest.mark.rfc(9293, "MUST-11")
def test_syn_received_reset_in_window_is_asked_about_and_outside_dropped() -> None:
    at = reach(State.SYN_RECEIVED)
    at.peer("R", 100)
    at.s.expect(". 1:1(0) ack 1")
    at.peer("R", 0)
    at.s.expect_nothing()
    at.s.expect_state(State.SYN_RECEIVED)
    at.peer("R", 1)
    at.s.expect_nothing()
    at.s.expect_state(State.CLOSED)
    assert errno_of(at.s) is None


@pytest.mark.rfc(9293, "SHLD-2")
@pytest.mark.parametrize("flags", ["R", "R."])
def test_reset_with_data_resets_and_the_data_is_not_delivered(flags: str) -> None:
    at = reach(State.ESTABLISHED)
    at.peer(flags, size=10)
    at.s.expect_nothing()
    at.s.expect_state(State.CLOSED)
    assert errno_of(at.s) == errno.ECONNRESET
    assert at.s.read() == b""


def full(size: int = 1000) -> At:
    """ESTABLISHED, our receive window closed."""
    s = Script.established(with_options(receive_buffer=size), quick=True)
    s.peer(f". 1:{size + 1}({size}) ack 1 win 1000")
    s.expect(f". 1:1(0) ack {size + 1} win 0")
    return At(s, size + 1, 1, 1)


@pytest.mark.rfc(9293, "MUST-66")
@pytest.mark.parametrize("size", [0, 5])
def test_reset_at_zero_window_resets(size: int) -> None:
    at = full()
    at.peer("R", size=size)
    at.s.expect_nothing()
    at.s.expect_state(State.CLOSED)


@pytest.mark.rfc(9293, "X-4")
@pytest.mark.parametrize("offset", [-1, 1])
def test_reset_at_zero_window_beside_the_next_number_is_dropped(offset: int) -> None:
    at = full()
    at.peer("R", at.rcv + offset)
    at.s.expect_nothing()
    at.s.expect_state(State.ESTABLISHED)


@pytest.mark.rfc(9293, "MUST-12")
def test_reset_leaves_queued_data_readable_then_the_error_once() -> None:
    s = Script.established()
    s.peer("P. 1:6(5) ack 1 win 1000", payload=b"hello")
    s.peer("R. 6:6(0) ack 1")
    assert s.user.ready & (FAILED | GONE | EOF) == FAILED | GONE | EOF
    assert s.user.read(2) == b"he"
    assert s.user.read(100) == b"llo"
    with pytest.raises(ConnectionResetError):
        s.user.read(100)
    assert s.user.read(100) == b""
    with pytest.raises(BrokenPipeError):
        s.user.write(b"x")


def test_reset_is_told_to_a_writer_once_then_the_pipe_is_broken() -> None:
    s = Script.established()
    s.peer("R 1:1(0)")
    with pytest.raises(ConnectionResetError):
        s.user.write(b"x")
    with pytest.raises(BrokenPipeError):
        s.user.write(b"x")
    assert s.user.read(1) == b""


def test_reset_after_fin_is_a_broken_pipe_to_the_writer() -> None:
    s = reach(State.CLOSE_WAIT).s
    s.peer("R. 2:2(0) ack 1")
    with pytest.raises(BrokenPipeError):
        s.user.write(b"x")
    assert errno_of(s) is None


def test_reset_drops_what_was_to_be_sent() -> None:
    s = Script.established(win=100)
    s.write(bytes(1000))
    s.take()
    s.peer("R 1:1(0)")
    s.advance(400 * SEC)
    s.expect_nothing()
    assert len(s.user.snd.buffer) == 0
    assert len(s.user.snd.board) == 0
    assert s.user.info().unacked == 0


def test_reset_drops_what_lies_behind_a_gap() -> None:
    """It can never be read."""
    s = Script.established()
    s.peer("P. 1:6(5) ack 1 win 1000", "P. 10:20(10) ack 1 win 1000", "R 6:6(0)")
    s.expect_state(State.CLOSED)
    assert s.user.info().out_of_order == 0
    assert len(s.user.read(100)) == 5


@pytest.mark.rfc(5961, "§7")
def test_forged_resets_are_asked_about_sparingly_and_never_as_often_as_one_could_count_on() -> None:
    s = Script.established()
    rations = []
    for _ in range(5):
        for i in range(1000):
            s.peer(f"R {i + 100}:{i + 100}(0)")
        rations.append(len(s.take()))
        s.advance(1 * SEC)
    s.expect_state(State.ESTABLISHED)
    assert all(MIN_CHALLENGES <= ration < MAX_CHALLENGES for ration in rations)
    assert len(set(rations)) > 1


@pytest.mark.rfc(5961, "§7")
@pytest.mark.parametrize("bare", [". 70000:70000(0) ack 1", ". 4294960000:4294960000(0) ack 1"])
def test_bare_acks_elsewhere_are_answered_sparingly(bare: str) -> None:
    """Two ends that disagree about where they are would otherwise answer each other for ever."""
    s = Script.established()
    for _ in range(1000):
        s.peer(bare + " win 1000")
    assert MIN_CHALLENGES <= len(s.take()) < MAX_CHALLENGES


@pytest.mark.rfc(7323, "§5.3")
def test_bare_acks_with_old_timestamps_are_answered_sparingly() -> None:
    s = Script.established(with_options(timestamps=True), options="mss 1460,TS val 100 ecr 0")
    for _ in range(1000):
        s.peer(". 1:1(0) ack 1 win 1000 <nop,nop,TS val 99 ecr 0>")
    assert MIN_CHALLENGES <= len(s.take()) < MAX_CHALLENGES


@pytest.mark.rfc(5961, "§7")
@pytest.mark.parametrize("offset", [100, -100, 100_000])
@pytest.mark.parametrize("flags", ["S", "S."])
def test_forged_syns_are_answered_as_sparingly_wherever_they_lie(flags: str, offset: int) -> None:
    s = Script.established()
    for i in range(1000):
        seq = 1 + offset + i & MASK32
        s.peer(f"{flags} {seq}:{seq}(0)" + " ack 1" * flags.endswith("."))
    s.expect_state(State.ESTABLISHED)
    assert MIN_CHALLENGES <= len(s.take()) < MAX_CHALLENGES


def test_ration_of_challenges_is_each_connections_own() -> None:
    """Whoever uses up his own learns nothing of another (CVE-2016-5696)."""
    first, second = Script.established(), Script.established()
    for i in range(1000):
        first.peer(f"R {i + 100}:{i + 100}(0)")
    first.take()
    second.peer("R 100:100(0)")
    assert len(second.take()) == 1


# --- nobody there: CLOSED and LISTEN ----------------------------------------------------------------------------------


@pytest.mark.rfc(9293, "X-10")
@pytest.mark.parametrize(
    ("line", "reply"),
    [
        ("R 5:5(0)", None),
        ("R. 5:5(0) ack 7", None),
        ("S 5:5(0)", (0, 6, RST | ACK)),
        ("SF 5:5(0)", (0, 7, RST | ACK)),
        ("S 5:15(10)", (0, 16, RST | ACK)),
        ("F 5:15(10)", (0, 16, RST | ACK)),
        ("P 5:15(10)", (0, 15, RST | ACK)),
        ("- 5:5(0)", (0, 5, RST | ACK)),
        (". 5:5(0) ack 7", (7, 0, RST)),
        ("S. 5:5(0) ack 7", (7, 0, RST)),
        ("F. 5:15(10) ack 7", (7, 0, RST)),
        ("S 4294967295:4294967295(0)", (0, 0, RST | ACK)),
    ],
)
def test_closed_answers_with_a_reset_the_peer_accepts(line: str, reply: tuple[int, int, int] | None) -> None:
    assert closed_reply(text.parse(line)) == reply


@pytest.mark.rfc(9293, "X-11")
@pytest.mark.parametrize(
    ("line", "reply"),
    [
        ("R 5:5(0)", None),
        ("R. 5:5(0) ack 7", None),
        (". 5:5(0) ack 7", (7, 0, RST)),
        ("S. 5:5(0) ack 7", (7, 0, RST)),
        ("F. 5:15(10) ack 7", (7, 0, RST)),
        ("F 5:15(10)", None),
        ("P 5:15(10)", None),
        ("- 5:5(0)", None),
    ],
)
def test_listen_answers_only_an_ack(line: str, reply: tuple[int, int, int] | None) -> None:
    assert listen_reply(text.parse(line)) == reply


@pytest.mark.rfc(9293, "X-11")
@pytest.mark.parametrize("syn", ["S 0:0(0) win 1000", "S 0:10(10) win 1000", "SF 0:10(10) win 1000"])
def test_listen_syn_with_more_on_it_is_answered_for_the_syn(syn: str) -> None:
    """Text and FIN may be had again: the peer sends them once more."""
    s = Script.listening(syn)
    s.expect("S. 0:0(0) ack 1")
    s.peer("FP. 1:11(10) ack 1 win 1000")
    s.expect(". 1:1(0) ack 12")
    assert len(s.read()) == 10
    s.expect_state(State.CLOSE_WAIT)


# --- sent: ABORT in each of the eleven states -------------------------------------------------------------------------


@pytest.mark.rfc(9293, "X-14")
@pytest.mark.parametrize(
    ("state", "sent"),
    [
        (State.CLOSED, []),
        (State.SYN_SENT, []),
        (State.SYN_RECEIVED, ["R. 1:1(0) ack 1"]),
        (State.ESTABLISHED, ["R. 1:1(0) ack 1"]),
        (State.FIN_WAIT_1, ["R. 2:2(0) ack 1"]),
        (State.FIN_WAIT_2, ["R. 2:2(0) ack 1"]),
        (State.CLOSE_WAIT, ["R. 1:1(0) ack 2"]),
        (State.CLOSING, []),
        (State.LAST_ACK, []),
        (State.TIME_WAIT, []),
    ],
)
def test_abort_in_each_state(state: State, sent: list[str]) -> None:
    """RFC 9293 §3.10.5; LISTEN is the listener's."""
    s = reach(state).s
    s.user.abort()
    s.expect(*sent)
    s.expect_state(State.CLOSED)
    assert s.user.error is None
    assert s.user.next_deadline() == NEVER
    s.user.abort()
    s.expect_nothing()


@pytest.mark.rfc(9293, "X-14")
@pytest.mark.parametrize("peer_first", [True, False])
def test_abort_before_the_fin_has_left_resets_in_last_ack_and_closing(peer_first: bool) -> None:
    """The user has closed, but text and FIN wait for the window: for the peer the connection is open."""
    s = Script.established(win=10)
    s.write(bytes(100))
    if peer_first:
        s.peer("F. 1:1(0) ack 1 win 10")
        s.user.shutdown_write()
    else:
        s.user.shutdown_write()
        s.peer("F. 1:1(0) ack 1 win 10")
    s.expect_state(State.LAST_ACK if peer_first else State.CLOSING)
    s.poll()
    s.take()
    s.user.abort()
    s.expect("R. 11:11(0) ack 2")


def test_abort_drops_everything() -> None:
    s = Script.established(win=10)
    s.peer("P. 1:6(5) ack 1 win 10", "P. 10:15(5) ack 1 win 10")
    s.write(bytes(100))
    s.take()
    s.user.abort()
    s.expect("R. 11:11(0) ack 6")
    assert s.user.read(10) == b""
    info = s.user.info()
    assert (info.unacked, info.unread, info.out_of_order) == (0, 0, 0)
    assert len(s.user.snd.buffer) == len(s.user.snd.board) == 0


def test_abort_with_a_probe_out_resets_with_a_number_inside_the_closed_window() -> None:
    """SND.NXT counts the probe, which the peer did not take: a reset with that number it would drop."""
    s = Script.established(win=0)
    s.write(bytes(100))
    s.advance_to_next_deadline()
    s.expect(". 1:2(1) ack 1")
    s.user.abort()
    s.expect("R. 1:1(0) ack 1")


def test_abort_while_the_sink_is_full_resets_later_and_is_forgotten_then() -> None:
    s = Script.established()
    s.sink_full = True
    s.user.abort()
    assert s.poll()
    s.expect_state(State.CLOSED)
    assert s.host.forgotten == []
    s.sink_full = False
    s.expect("R. 1:1(0) ack 1")
    assert s.host.forgotten == [s.user]


@pytest.mark.rfc(9293, "X-16")
def test_half_open_old_connection_is_reset_and_the_syn_gets_through() -> None:
    """RFC 9293 §3.5.1, Figure 9: we crashed and open anew; the peer is still ESTABLISHED with other numbers."""
    s = Script.opening()
    s.take()
    s.peer(". 300:300(0) ack 100 win 1000")  # the peer's challenge: no SYN, a number we never used
    s.expect("R 100:100(0)")
    s.expect_state(State.SYN_SENT)
    s.advance(PLAIN.initial_rto)
    s.expect("S 0:0(0)")
    s.peer("S. 0:0(0) ack 1 win 1000 <mss 1460>")
    s.expect_state(State.ESTABLISHED)


@pytest.mark.rfc(9293, "X-16")
def test_half_open_peer_that_crashed_is_challenged_and_its_reset_is_believed() -> None:
    """RFC 9293 §3.5.1, Figure 9, seen from the side that stayed up."""
    s = Script.established()
    s.peer("S 4000000:4000000(0) win 1000")
    s.expect(". 1:1(0) ack 1")
    s.peer("R 1:1(0)")  # its SEQ is our ACK
    s.expect_state(State.CLOSED)
    assert errno_of(s) == errno.ECONNRESET


def test_reset_is_wire_sized_across_the_wrap() -> None:
    s = Script.established()
    s.write(bytes(0x200))
    s.take()
    s.user.abort()
    s.poll()
    (reset,) = s.take()
    assert reset.seq == (ISS + 1 + 0x200) & MASK32 == 0x101
