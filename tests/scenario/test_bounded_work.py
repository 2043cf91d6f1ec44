"""A peer that makes work: what each of its segments costs does not grow with how many it has sent.

Work is counted in instructions of the interpreter, which are the same at every run; what C does beneath them (moving
the end of a list of some thousand numbers) is not, and is bounded by the bounds that are asserted beside it.
"""

from collections.abc import Callable

from benchmarks.core_meters import Bytecode
from tests.support.pure import pure_only
from tests.support.script import Script, with_options
from usertcp.tcp.receiver import MAX_RANGES
from usertcp.units import MIB, MS

pytestmark = pure_only
FEW, MANY = 60, 600


def cost(step: Callable[[int], None], first: int, last: int) -> float:
    """Instructions for each of the steps ``first`` to ``last``."""
    meter = Bytecode()
    meter.start()
    for number in range(first, last):
        step(number)
    meter.stop()
    return meter.instructions / (last - first)


def grows(step: Callable[[int], None]) -> float:
    """By what factor the later steps cost more than the first ones."""
    early = cost(step, 0, FEW)
    for number in range(FEW, MANY):
        step(number)
    return cost(step, MANY, MANY + FEW) / early


def test_crumbs_out_of_order_cost_the_same_however_many_there_are() -> None:
    s = Script.established(with_options(receive_buffer=8 * MIB, sack=True), options="mss 1460,sackOK")
    growth = grows(lambda number: s.peer(f". {2 * number + 2}:{2 * number + 3}(1) ack 1 win 1000"))
    assert len(s.user.rcv.buffer.arrived) > MANY
    assert len(s.user.rcv.buffer.arrived) <= MAX_RANGES
    assert growth < 1.2


def test_crumbs_in_descending_order_cost_the_same_however_many_there_are() -> None:
    s = Script.established(with_options(receive_buffer=8 * MIB, sack=True), options="mss 1460,sackOK")
    top = 4 * (MANY + FEW)
    growth = grows(lambda number: s.peer(f". {top - 2 * number}:{top - 2 * number + 1}(1) ack 1 win 1000"))
    assert growth < 1.2


def test_tiny_segments_in_order_cost_the_same_however_many_wait_to_be_read() -> None:
    s = Script.established(with_options(receive_buffer=8 * MIB))
    growth = grows(lambda number: s.peer(f"P. {number + 1}:{number + 2}(1) ack 1 win 1000"))
    assert s.user.readable == MANY + FEW
    assert growth < 1.2


def sacking() -> Script:
    """A megabyte is on its way to a peer with SACK."""
    s = Script.established(
        with_options(sack=True, window_scaling=True, send_buffer=4 * MIB), options="mss 1460,sackOK,nop,wscale 14"
    )
    s.peer(". 1:1(0) ack 1 win 1024")
    s.user.snd.cc.cwnd = 2 * MIB
    s.write(bytes(MIB))
    while s.poll():
        pass
    s.take()
    return s


def test_sack_of_every_second_byte_costs_the_same_however_many_ranges_there_are() -> None:
    s = sacking()

    def step(number: int) -> None:
        at = 3001 + 8 * number
        blocks = " ".join(f"{at + 2 * k}:{at + 2 * k + 1}" for k in range(3))
        s.now += 1 * MS
        s.peer(f". 1:1(0) ack 1 win 1024 <nop,nop,sack {blocks}>")

    assert grows(step) < 1.5


def test_sack_that_contradicts_itself_costs_the_same_however_often() -> None:
    s = sacking()

    def step(number: int) -> None:
        s.peer(". 1:1(0) ack 1 win 1024 <nop,nop,sack 500:400 1:100 900000:4294960000>")

    assert grows(step) < 1.2


def test_window_of_one_byte_gets_one_segment_for_each_of_its_acknowledgments() -> None:
    s = Script.established(win=1)
    s.write(bytes(10_000))
    s.peer(". 1:1(0) ack 1 win 1")
    sent = len(s.take())
    at = 1

    def step(number: int) -> None:
        nonlocal at, sent
        at += 1
        s.peer(f". 1:1(0) ack {at} win 1")
        sent += len(s.take())

    assert grows(step) < 1.2
    assert sent <= MANY + 2 * FEW


def test_reader_who_takes_a_byte_a_second_gets_no_more_than_a_segment_for_each() -> None:
    """What is kept for him is what the user wrote."""
    s = Script.established(win=5000)
    s.write(bytes(100_000))
    s.peer(". 1:1(0) ack 5001 win 0")
    s.take()
    sent = 0
    for n in range(1, 300):
        s.advance(1000 * MS)
        s.peer(f". 1:1(0) ack 5001 win {n}")
        sent += len(s.take())
    assert sent <= 2 * 300, "each, and a probe"
    assert s.user.snd.buffer.end - s.user.snd.una <= 100_000
