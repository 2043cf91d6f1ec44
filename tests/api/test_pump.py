"""The pump: bounded turns, a full device, one that fails and one that is gone, and who is told."""

import errno
from collections.abc import Callable

import pytest

from tests.api.hosts import LEFT, PORT, RIGHT, stack_on
from tests.support.faulty import FaultyLink
from usertcp.driver.base import BUDGET, RETRY, Pump
from usertcp.frame import PLAIN
from usertcp.link.memory import memory_pair
from usertcp.tcp.connection import Connection
from usertcp.tcp.state import FAILED, State
from usertcp.units import MS, NEVER


class Two:
    """Two pumps on one cable under a hand-turned clock."""

    def __init__(self) -> None:
        self.now = 1
        one, other = memory_pair()
        self.link = FaultyLink(one)
        self.left = Pump(stack_on(one, LEFT), self.link, lambda: self.now)
        self.right = Pump(stack_on(other, RIGHT), other, lambda: self.now)

    def run(self) -> None:
        """Both until nothing moves."""
        for _ in range(50):
            if not any([self.left.turn(), self.right.turn()]):
                self.now += 1000

    def wait(self, time: int) -> None:
        self.now += time

    def connected(self) -> tuple[Connection, Connection]:
        listener = self.right.stack.listen(("0.0.0.0", PORT))
        conn = self.left.stack.connect((RIGHT, PORT), self.now)
        self.run()
        peer = listener.accept()
        assert peer is not None
        assert conn.state is peer.state is State.ESTABLISHED
        return conn, peer


class Watch:
    def __init__(self, act: Callable[[], object] = lambda: None) -> None:
        self.calls = 0
        self._act = act

    def on_ready(self) -> None:
        self.calls += 1
        self._act()


def test_idle_pump_turn_has_nothing_to_do_and_no_deadline() -> None:
    two = Two()
    assert not two.left.turn()
    assert two.left.timeout_ns(two.now) == NEVER


def test_many_frames_turn_reads_at_most_its_budget() -> None:
    two = Two()
    for _ in range(3 * BUDGET):
        two.right.link.send(bytes(60), [], PLAIN)
    assert two.left.turn()
    assert two.link.reads == BUDGET
    assert two.left.timeout_ns(two.now) == 0
    while two.left.turn():
        pass
    assert two.link.reads == 3 * BUDGET


def test_turn_that_takes_its_time_gives_each_frame_the_time_when_it_was_read() -> None:
    """Five echo replies are read in one turn, a millisecond apart: so far apart are the round trips."""
    two = Two()
    two.connected()  # so that both know their neighbour
    pinger = two.left.stack.pinger(RIGHT)
    sent = two.now
    for _ in range(5):
        pinger.send(sent)
    two.left.flush()
    two.right.turn()
    two.link.on_read = lambda: two.wait(1 * MS)
    two.left.turn()
    assert [reply.received_at - reply.sent_at for reply in pinger.replies] == [number * MS for number in range(1, 6)]


def test_readiness_reaches_the_user_slot_and_its_answer_leaves_in_the_same_turn() -> None:
    two = Two()
    conn, peer = two.connected()
    peer.user = echo = Watch(lambda: peer.write(peer.read(100)) if peer.readable else None)
    conn.write(b"hello")
    two.left.flush()
    two.right.turn()
    assert echo.calls >= 1
    two.left.turn()
    assert conn.read(100) == b"hello"


def test_full_link_blocks_and_is_tried_again_soon() -> None:
    two = Two()
    conn, peer = two.connected()
    two.link.full = True
    conn.write(b"hello")
    assert not two.left.turn()
    assert two.left.blocked
    assert two.left.timeout_ns(two.now) == RETRY
    two.link.full = False
    two.now += RETRY
    two.run()
    assert not two.left.blocked
    assert peer.read(100) == b"hello"


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOBUFS])
def test_device_that_loses_a_frame_counts_it_and_goes_on(number: int) -> None:
    two = Two()
    conn, peer = two.connected()
    two.link.send_error = OSError(number, "no")
    conn.write(b"hello")
    two.left.flush()
    assert two.left.lost == 1
    assert two.left.failure is None
    two.link.send_error = None
    two.now += 2_000_000_000
    two.run()
    assert peer.read(100) == b"hello"


@pytest.mark.parametrize("number", [errno.ENETDOWN, errno.ENODEV, errno.EBADF])
@pytest.mark.parametrize("where", ["read_error", "send_error"])
def test_dead_device_fails_every_connection_and_wakes_everybody(number: int, where: str) -> None:
    two = Two()
    conn, _ = two.connected()
    listener = two.left.stack.listen(("0.0.0.0", PORT))
    opening = two.left.stack.connect((RIGHT, 9), two.now)
    watches = conn.user, listener.user, opening.user = Watch(), Watch(), Watch()
    failures: list[bool] = []
    two.left.on_failure = lambda: failures.append(True)
    setattr(two.link, where, OSError(number, "gone"))
    assert not two.left.turn()
    assert isinstance(two.left.failure, OSError)
    assert two.left.failure.errno == errno.ENETDOWN
    assert failures == [True]
    assert [watch.calls for watch in watches] == [1, 1, 1]
    for failed in (conn, opening):
        assert failed.ready & FAILED
        assert failed.state is State.CLOSED
        error = failed.take_error()
        assert error is not None
        assert error.errno == errno.ENETDOWN
    assert two.left.timeout_ns(two.now) == NEVER
    assert two.left.fileno() == -1
    assert not two.left.turn()
    assert not two.left.flush()


def test_dead_device_leaves_what_had_arrived_readable() -> None:
    two = Two()
    conn, peer = two.connected()
    peer.write(b"last words")
    two.run()
    two.link.read_error = OSError(errno.ENETDOWN, "gone")
    two.left.turn()
    assert conn.read(100) == b"last words"
    with pytest.raises(OSError, match="Network is down"):
        conn.read(100)


def test_close_all_lingers_until_acknowledged() -> None:
    two = Two()
    conn, peer = two.connected()
    conn.write(b"bye")
    two.left.close_all()
    assert two.left.lingers()
    two.run()
    assert not two.left.lingers()
    assert two.left.lingers(polite=True)
    assert peer.read(100) == b"bye"
    peer.close()
    two.run()
    assert not two.left.lingers(polite=True)


def test_abort_all_resets_the_peer() -> None:
    two = Two()
    _, peer = two.connected()
    two.left.abort_all()
    two.right.turn()
    assert isinstance(peer.take_error(), ConnectionResetError)
