"""The timers of a connection: a closed set over a flat list."""

from usertcp.tcp import timers
from usertcp.tcp.timers import DELAYED_ACK, KEEPALIVE, NAMES, PERSIST, RETRANSMIT, TIME_WAIT, Timers
from usertcp.units import MS, NEVER


def test_idle_timers_asked_for_the_deadline_say_never() -> None:
    idle = Timers()
    assert idle.next_deadline() == NEVER
    assert idle.expired(NEVER - 1) == []
    assert not any(idle.is_set(timer) for timer in range(len(NAMES)))


def test_names_of_all_ids_are_the_constants() -> None:
    assert [getattr(timers, name) for name in NAMES] == list(range(len(NAMES)))


def test_set_timer_restarted_moves_the_deadline_both_ways() -> None:
    running = Timers()
    running.set(RETRANSMIT, 200 * MS)
    assert (running.at(RETRANSMIT), running.next_deadline()) == (200 * MS, 200 * MS)
    running.set(RETRANSMIT, 300 * MS)
    assert running.next_deadline() == 300 * MS
    running.set(RETRANSMIT, 100 * MS)
    assert running.next_deadline() == 100 * MS


def test_several_timers_due_expire_once_in_deadline_order() -> None:
    running = Timers()
    running.set(RETRANSMIT, 30)
    running.set(DELAYED_ACK, 20)
    running.set(KEEPALIVE, 10)
    running.set(TIME_WAIT, 41)
    assert running.next_deadline() == 10
    assert running.expired(40) == [KEEPALIVE, DELAYED_ACK, RETRANSMIT]
    assert running.expired(40) == []
    assert not running.is_set(RETRANSMIT)
    assert running.next_deadline() == 41


def test_timers_due_together_expire_lower_id_first() -> None:
    running = Timers()
    running.set(PERSIST, 10)
    running.set(RETRANSMIT, 10)
    assert running.expired(10) == [RETRANSMIT, PERSIST]


def test_timer_polled_before_its_deadline_keeps_running() -> None:
    running = Timers()
    running.set(PERSIST, 10)
    assert running.expired(9) == []
    assert running.is_set(PERSIST)


def test_stopped_timers_do_not_expire() -> None:
    running = Timers()
    running.set(PERSIST, 10)
    running.set(KEEPALIVE, 20)
    running.stop(PERSIST)
    running.stop(PERSIST)
    assert (running.at(PERSIST), running.next_deadline()) == (NEVER, 20)
    running.stop_all()
    assert running.next_deadline() == NEVER
    assert running.expired(100) == []
