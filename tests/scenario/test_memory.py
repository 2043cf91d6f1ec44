"""A connection when the memory of all is scarce: what it offers, what it takes, and that it gets on."""

import pytest

from tests.support.script import IRS, Script, with_options
from usertcp.tcp import timers as timer
from usertcp.tcp.memory import MIN_CAPACITY, Memory
from usertcp.tcp.receiver import MIN_RANGES
from usertcp.tcp.state import WRITABLE, State
from usertcp.units import KIB, MASK32, MIB, SEC

MSS = 1460
OFFERED = "mss 1460,nop,nop,sackOK"
CONFIG = with_options(sack=True)


def scarce(left: int = 0, limit: int = 4 * MIB) -> tuple[Script, Memory]:
    """ESTABLISHED when there was plenty; since then others have taken all but ``left`` bytes."""
    memory = Memory(limit)
    s = Script.established(CONFIG, options=OFFERED, memory=memory)
    assert memory.charge(0, limit - left)
    return s, memory


@pytest.mark.rfc(9293, "SHLD-14")
def test_pressure_window_comes_down_by_what_arrives_and_never_by_itself() -> None:
    s, memory = scarce(left=MIB)
    assert memory.pressed
    edges = []
    for at in range(1, 60_000, MSS):
        s.peer(f". {at}:{at + MSS}({MSS}) ack 1 win 1000")
        s.read()
        s.poll()
        edges += [seg.ack - IRS + seg.wnd & MASK32 for seg in s.take()]
    assert edges == sorted(edges)
    assert s.user.info().rcv_wnd <= MIN_CAPACITY + MSS
    assert s.user.info().bytes_received >= 60_000 - MSS  # all that had been promised


def test_pressure_over_the_window_opens_as_before() -> None:
    s, memory = scarce(left=MIB)
    for at in range(1, 60_000, MSS):
        s.peer(f". {at}:{at + MSS}({MSS}) ack 1 win 1000")
        s.read()
    assert s.user.info().rcv_wnd < 8 * KIB
    memory.credit(3 * MIB)
    s.peer(f". {at + MSS}:{at + 2 * MSS}({MSS}) ack 1 win 1000")
    s.read()
    s.poll()
    assert s.user.info().rcv_wnd > 60_000


def test_exhausted_text_in_the_window_is_taken_as_far_as_the_minimum_and_the_rest_comes_again() -> None:
    s, memory = scarce()
    s.peer(". 1:8001(8000) ack 1 win 1000", payload=b"a" * 8000)
    s.expect(f". 1:1(0) ack {1 + MIN_CAPACITY} win {65535 - MIN_CAPACITY}")  # neither acknowledged nor taken back
    assert memory.refused == 1
    s.peer(f". {1 + MIN_CAPACITY}:8001({8000 - MIN_CAPACITY}) ack 1 win 1000")
    s.expect(f". 1:1(0) ack {1 + MIN_CAPACITY} win {65535 - MIN_CAPACITY}")
    assert s.read() == b"a" * MIN_CAPACITY
    s.poll()
    s.take()
    s.peer(f". {1 + MIN_CAPACITY}:8001({8000 - MIN_CAPACITY}) ack 1 win 1000", payload=b"b" * (8000 - MIN_CAPACITY))
    assert s.read() == b"b" * (8000 - MIN_CAPACITY)


@pytest.mark.rfc(2018, "§8 newest")
@pytest.mark.rfc(2018, "§8")
def test_exhausted_what_was_sacked_is_kept_and_what_was_not_is_not_sacked() -> None:
    s, memory = scarce(left=8 * KIB)
    s.peer(". 2001:4001(2000) ack 1 win 1000", payload=b"b" * 2000)
    s.expect(". 1:1(0) ack 1 win 65535 <nop,nop,sack 2001:4001>")
    memory.charge(0, 4 * KIB)
    s.peer(". 6001:7001(1000) ack 1 win 1000")
    s.expect(". 1:1(0) ack 1 win 65535 <nop,nop,sack 2001:4001>")
    s.peer(". 1:2001(2000) ack 1 win 1000", payload=b"a" * 2000)
    s.expect(". 1:1(0) ack 4001 win 61535")
    assert s.read() == b"a" * 2000 + b"b" * 2000


def test_exhausted_fin_whose_text_was_refused_waits_for_it() -> None:
    s, _ = scarce()
    s.peer("FP. 1:6001(6000) ack 1 win 1000", payload=b"a" * 6000)
    s.expect(f". 1:1(0) ack {1 + MIN_CAPACITY}")
    s.expect_state(State.ESTABLISHED)
    assert s.read() == b"a" * MIN_CAPACITY
    s.poll()
    s.take()
    s.peer(f"FP. {1 + MIN_CAPACITY}:6001({6000 - MIN_CAPACITY}) ack 1 win 1000", payload=b"b" * (6000 - MIN_CAPACITY))
    s.expect(". 1:1(0) ack 6002")
    s.expect_state(State.CLOSE_WAIT)


def test_pressure_only_few_gaps_are_kept() -> None:
    s, _ = scarce(left=MIB)
    for at in range(2, 2002, 2):
        s.peer(f". {at}:{at + 1}(1) ack 1 win 1000")
    assert len(s.user.rcv.buffer.arrived) == MIN_RANGES


def test_exhausted_writer_gets_the_minimum_and_goes_on_with_each_acknowledgment() -> None:
    s, _ = scarce()
    user = s.user
    assert user.writable == MIN_CAPACITY
    assert user.write(bytearray(MIB)) == MIN_CAPACITY
    assert not user.ready & WRITABLE
    with pytest.raises(BlockingIOError):
        user.write(b"x")
    done = 0
    while done < 50_000:
        s.poll()
        (last,) = s.take()[-1:]
        end = last.seq - s.user.snd.iss + len(last.payload) & MASK32
        s.peer(f". 1:1(0) ack {end} win 65535")
        done = end - 1
        assert user.ready & WRITABLE
        user.write(bytearray(user.writable))
    assert user.info().retransmissions == 0


def test_pressure_writer_keeps_what_it_holds_memory_for() -> None:
    memory = Memory(4 * MIB)
    s = Script.established(CONFIG, options=OFFERED, memory=memory)
    assert s.user.write(bytearray(100_000)) == 100_000
    assert memory.charge(0, 3 * MIB)
    assert memory.pressed
    assert s.user.writable == 128 * KIB - 100_000


def test_closed_connection_gives_back_what_nobody_will_read() -> None:
    memory = Memory(4 * MIB)
    s = Script.established(CONFIG, options=OFFERED, memory=memory)
    s.peer("P. 1:1001(1000) ack 1 win 1000")
    s.peer("R. 1001:1001(0) ack 1 win 1000")
    s.expect_state(State.CLOSED)
    assert memory.used == MIN_CAPACITY  # it can still be read
    s.user.close()
    assert memory.used == 0


def test_pressure_closed_connection_that_is_drained_by_the_byte_is_given_up() -> None:
    """A peer that takes one now and then would hold for ever what nobody else can end (RFC 6429 §3)."""
    memory = Memory(4 * MIB)
    s = Script.established(CONFIG, options=OFFERED, memory=memory)
    s.write(bytes(50_000))
    s.peer(". 1:1(0) ack 1 win 0")
    s.user.close()
    for at in range(1, 30):  # at ease: as long as it gets on
        s.advance_to_next_deadline()
        s.peer(f". 1:1(0) ack {at} win 1")
        s.peer(f". 1:1(0) ack {at + 1} win 0")
    s.expect_state(State.FIN_WAIT_1)
    assert memory.charge(0, 3 * MIB)
    assert memory.pressed
    s.take()
    s.advance_to_next_deadline()
    s.expect_state(State.CLOSED)
    assert [s.render(seg).split()[0] for seg in s.take()] == ["R."]
    assert memory.used == 3 * MIB


def test_pressure_open_connection_before_a_closed_window_is_probed_on() -> None:
    s, _ = scarce(left=MIB)
    s.write(bytes(1000))
    s.peer(". 1:1(0) ack 1 win 0")
    for _ in range(20):
        s.advance_to_next_deadline()
        s.peer(". 1:1(0) ack 1 win 0")
    s.expect_state(State.ESTABLISHED)


def test_idle_connection_holds_no_memory() -> None:
    memory = Memory(4 * MIB)
    s = Script.established(CONFIG, options=OFFERED, memory=memory)
    s.write(bytearray(1000))
    s.peer("P. 1:1001(1000) ack 1001 win 1000")
    s.read()
    assert memory.used == 0
    assert memory.peak > 0
    s.advance(SEC)
    assert not s.user.timers.is_set(timer.RETRANSMIT)
