"""A device that errs, is full, or dies, under every kind of engine: nothing is lost, nobody spins, nobody hangs."""

import asyncio
import errno
import hashlib
import select
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

import usertcp.socket as us
from tests.api.hosts import LEFT, PATIENCE, PORT, RIGHT, keeping, nothing_left, run, stack_on, two_aio
from tests.api.sockets import connected, read_all
from tests.api.test_pump import Two
from tests.support.faulty import DEADLY, SURVIVED, FaultyLink, trouble
from usertcp import blocking
from usertcp.driver.base import MAX_RETRY, RETRY, Pump
from usertcp.driver.engine import Engine
from usertcp.frame import PLAIN
from usertcp.link.memory import memory_pair
from usertcp.net.stack import Stack
from usertcp.units import SEC

TEXT = bytes(range(256)) * 1200  # some 300 KB: many frames, and more than a send buffer
OTHER_PORT = PORT + 1
FITS = ["full", *SURVIVED, "full", "full", *SURVIVED, "EAGAIN"]  # what becomes of every third read or write


class Now:
    """A clock that stands."""

    def __init__(self) -> None:
        self.now = SEC

    def __call__(self) -> int:
        return self.now


# -- the pump, in a time of its own ----------------------------------------------------------------------------------


def turns_in(two: Two, duration: int) -> int:
    """How often the left pump is turned in ``duration`` ns if nobody but itself asks for it."""
    until, turns = two.now + duration, 0
    while (due := two.left.deadline(two.now)) < until:
        two.now = max(two.now, due)
        two.left.turn()
        turns += 1
    two.now = until
    return turns


@pytest.mark.parametrize("name", SURVIVED)
def test_read_that_fails_once_loses_nothing_that_comes_after(name: str) -> None:
    two = Two()
    conn, peer = two.connected()
    peer.write(b"hello")
    two.right.flush()
    two.link.read_error, two.link.read_faults = trouble(name), 1
    two.left.turn()
    assert two.left.ailing
    two.wait(two.left.timeout_ns(two.now))
    two.left.turn()
    assert conn.read(100) == b"hello"
    assert not two.left.ailing
    assert two.left.lost == 1


@pytest.mark.parametrize("name", SURVIVED)
def test_read_that_fails_for_long_is_tried_ever_later_and_goes_on_when_it_is_mended(name: str) -> None:
    two = Two()
    conn, peer = two.connected()
    two.link.read_error = trouble(name)
    two.link.looks = 0
    two.left.turn()
    assert turns_in(two, SEC) <= SEC // MAX_RETRY + 8
    assert two.link.looks < 30
    peer.write(b"hello")
    two.right.flush()
    two.link.heal()
    assert two.left.timeout_ns(two.now) <= MAX_RETRY
    turns_in(two, 2 * MAX_RETRY)
    assert conn.read(100) == b"hello"


@pytest.mark.parametrize("name", ["full", "EAGAIN"])
def test_full_device_for_long_is_tried_ever_later_and_then_takes_all(name: str) -> None:
    two = Two()
    conn, peer = two.connected()
    if name == "full":
        two.link.full = True
    else:
        two.link.send_error = trouble(name)
    written = conn.write(TEXT[: 64 << 10])
    two.left.flush()
    assert two.left.timeout_ns(two.now) == RETRY
    two.link.offers = 0
    assert turns_in(two, SEC) <= SEC // MAX_RETRY + 8
    assert two.link.offers < 30
    assert len(two.left.stack._egress.backlog.frames) == 0
    assert two.left.lost == 0
    two.link.heal()
    turns_in(two, 2 * MAX_RETRY)
    for _ in range(100):
        two.run()
    assert peer.read(len(TEXT)) == TEXT[:written]


def test_pause_of_a_device_begins_anew_once_it_has_taken_something() -> None:
    two = Two()
    conn, _ = two.connected()
    two.link.full = True
    conn.write(b"x")
    two.left.flush()
    turns_in(two, SEC)
    two.link.heal()
    two.run()
    two.wait(SEC)
    two.link.full = True
    conn.write(b"y")
    two.left.flush()
    assert two.left.timeout_ns(two.now) == RETRY


@pytest.mark.parametrize("room", [1, 2, 3])
def test_device_that_takes_a_part_of_a_burst_gets_the_rest_in_order_and_nothing_twice(room: int) -> None:
    two = Two()
    conn, peer = two.connected()
    sent, got = conn.write(TEXT[:60_000]), b""
    for _ in range(3000):
        two.link.room = room
        two.left.turn()
        assert len(two.left.stack._egress.backlog.frames) <= 48  # the rest of a train, and no more
        two.right.turn()
        got += peer.read(1 << 20) if peer.readable else b""
        if len(got) == sent:
            break
        two.wait(RETRY)
    assert got == TEXT[:sent]
    assert conn.info().retransmissions == 0


def test_answers_to_strangers_wait_bounded_while_the_device_is_full() -> None:
    two = Two()
    two.connected()
    two.link.full = True
    pinger = two.right.stack.pinger(LEFT)
    for number in range(2000):
        pinger.send(two.now + number)
        two.right.flush()
        two.left.turn()
    assert len(two.left.stack._egress.backlog.frames) <= 256
    two.link.heal()
    two.wait(SEC)
    two.run()
    pinger.send(two.now)
    two.run()
    assert pinger.replies


def test_clock_that_goes_back_does_not_leave_the_device_alone_for_long() -> None:
    two = Two()
    two.wait(100 * SEC)
    conn, peer = two.connected()
    two.link.full = True
    conn.write(b"hello")
    two.left.flush()
    two.wait(-50 * SEC)
    two.left.turn()
    assert two.left.timeout_ns(two.now) <= MAX_RETRY
    two.link.heal()
    two.run()
    assert peer.read(100) == b"hello"


# -- what the engine waits for ---------------------------------------------------------------------------------------


@contextmanager
def engine_on_a_faulty_link() -> Iterator[tuple[Engine, FaultyLink, Stack, Stack]]:
    """An engine that stands still, its link, its stack and the one at the other end of the cable, connected."""
    one, other = memory_pair(pollable=True)
    link, clock = FaultyLink(one), Now()
    left, right = stack_on(one, LEFT), stack_on(other, RIGHT)
    engine, far = Engine(Pump(left, link, clock)), Pump(right, other, clock)
    right.listen(("0.0.0.0", PORT))
    left.connect((RIGHT, PORT), clock.now)
    for _ in range(20):
        engine.step()
        far.turn()
    try:
        yield engine, link, left, right
    finally:
        engine.close()
        one.close()
        other.close()


def asks(engine: Engine) -> bool:
    """Whether a turn is asked for at once, by a descriptor."""
    return bool(select.select([engine.fileno()], [], [], 0)[0])


@pytest.mark.parametrize("name", SURVIVED)
def test_engine_does_not_watch_a_device_that_polls_readable_and_cannot_be_read(name: str) -> None:
    with engine_on_a_faulty_link() as (engine, link, _, _):
        link.read_error = trouble(name)
        link.inner.peer.send(bytes(60), [], PLAIN)  # type: ignore[attr-defined]
        assert asks(engine)
        engine.step()
        assert not asks(engine)
        assert 0 < engine.timeout_ns() <= RETRY
        assert engine.pump.lost == 1
        link.heal()
        engine.pump.clock.now += RETRY  # type: ignore[attr-defined]
        engine.step()
        assert engine.timeout_ns() > MAX_RETRY  # ARP's, and the like
        link.inner.peer.send(bytes(60), [], PLAIN)  # type: ignore[attr-defined]
        assert asks(engine)


def test_engine_asks_a_full_device_for_room_by_poll_once_and_then_by_the_clock() -> None:
    """The descriptor of this one polls writable all the time, as a packet socket's whose interface has a full queue."""
    with engine_on_a_faulty_link() as (engine, link, left, _):
        (conn,) = left.connections()
        link.full = True
        conn.write(b"hello")
        engine.step()
        link.offers = 0
        for _ in range(10):
            if asks(engine):
                engine.step()
        assert link.offers <= 2
        assert not asks(engine)
        assert 0 < engine.timeout_ns() <= RETRY


# -- every road: a transfer in spite of it ---------------------------------------------------------------------------


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@contextmanager
def ailing() -> Iterator[tuple[FaultyLink, blocking.Conn, blocking.Conn]]:
    """Two hosts that block, the left one's device, and both ends of a connection."""
    one, other = memory_pair(offload=True, pollable=True)
    link = FaultyLink(one)
    with nothing_left(), ExitStack() as undo:
        left = undo.enter_context(blocking.Host(stack_on(one, LEFT), link))
        right = undo.enter_context(blocking.Host(stack_on(other, RIGHT), other))
        listener = undo.enter_context(right.listen(("", PORT)))
        conn = undo.enter_context(left.connect((RIGHT, PORT), timeout=PATIENCE))
        peer = undo.enter_context(listener.accept())
        for end in (conn, peer):
            end.settimeout(PATIENCE)
        yield link, conn, peer


def test_blocking_transfers_both_ways_survive_fits_of_the_device() -> None:
    with ailing() as (link, conn, peer):
        link.fits = FITS[:]
        senders = [threading.Thread(target=end.sendall, args=(TEXT,)) for end in (conn, peer)]
        for sender in senders:  # two threads that wait at a time: one leads, one follows
            sender.start()
        got = dict.fromkeys((conn, peer), b"")
        for end in (peer, conn):
            while len(got[end]) < len(TEXT):
                got[end] += end.recv()
        for sender in senders:
            sender.join(PATIENCE)
        assert len(link.fits) <= len(FITS) - 3
        assert [digest(data) for data in got.values()] == [digest(TEXT)] * 2


def test_blocking_keeper_goes_on_after_fits_of_the_device() -> None:
    """Nobody waits: the background thread retransmits what the device lost."""
    with ailing() as (link, conn, peer):
        link.send_error, link.send_faults = trouble("EIO"), 1
        conn.sendall(b"lost at first")
        assert peer.recv(100) == b"lost at first"


def test_thread_engine_transfers_survive_fits_of_the_device() -> None:
    one, other = memory_pair(offload=True, pollable=True)
    link = FaultyLink(one)
    with nothing_left():
        left, right = us.Engine(stack_on(one, LEFT), link), us.Engine(stack_on(other, RIGHT), other)
        client, server = connected(left, right)
        client.settimeout(PATIENCE)
        link.fits = FITS[:]

        def send() -> None:
            client.sendall(TEXT)
            client.shutdown(us.SHUT_WR)

        sender = threading.Thread(target=send)
        sender.start()
        got = read_all(server)
        sender.join(PATIENCE)
        assert len(link.fits) <= len(FITS) - 3
        assert digest(got) == digest(TEXT)
        client.close()
        server.close()
        left.close()
        right.close()
        one.close()
        other.close()


def test_loop_engine_transfer_survives_fits_of_the_device() -> None:
    async def main() -> None:
        one, other = memory_pair(offload=True, pollable=True)
        link = FaultyLink(one)
        async with us.LoopEngine(stack_on(one, LEFT), link) as left:
            right = us.LoopEngine(stack_on(other, RIGHT), other)
            loop = asyncio.get_running_loop()
            listener = right.make_socket()
            listener.bind((RIGHT, 0))
            listener.listen()
            listener.setblocking(False)
            client = left.make_socket()
            client.setblocking(False)
            link.fits = FITS[:]
            await loop.sock_connect(client, listener.getsockname())
            server, _ = await loop.sock_accept(listener)
            sending = loop.create_task(loop.sock_sendall(client, TEXT))
            got = b""
            while len(got) < len(TEXT):
                got += await loop.sock_recv(server, 1 << 16)
            await sending
            assert len(link.fits) <= len(FITS) - 3
            assert digest(got) == digest(TEXT)
            for sock in (client, server, listener):
                sock.close()
            await right.aclose()
        one.close()
        other.close()

    with nothing_left():
        asyncio.run(asyncio.wait_for(main(), PATIENCE))


def test_aio_transfer_survives_fits_of_the_device() -> None:
    async def main() -> None:
        async with two_aio() as (left, right, link):
            server, got = await keeping(right)
            link.fits = FITS[:]
            reader, writer = await left.open_connection(RIGHT, PORT)
            writer.write(TEXT)
            writer.write_eof()
            assert digest(await got) == digest(TEXT)
            assert await reader.read() == b""
            writer.close()
            assert len(link.fits) <= len(FITS) - 3
            server.close()

    run(main())


# -- every road: the device dies -------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["read_error", "send_error"])
@pytest.mark.parametrize("name", DEADLY)
def test_dead_device_under_a_socket_engine_is_enetdown_for_its_sockets_and_nothing_for_others(
    name: str, where: str
) -> None:
    with nothing_left():
        one, other = memory_pair(pollable=True)
        link = FaultyLink(one)
        left, right = us.Engine(stack_on(one, LEFT), link), us.Engine(stack_on(other, RIGHT), other)
        client, server = connected(left, right)
        here, there = connected(right, right)
        client.settimeout(PATIENCE)
        setattr(link, where, trouble(name))
        client.send(b"x")
        with pytest.raises(OSError, match=r"gone|down") as caught:
            client.recv(1)
        assert caught.value.errno == errno.ENETDOWN
        assert not left.alive
        with pytest.raises(OSError, match=r"gone|down"):
            left.create_connection((RIGHT, PORT), PATIENCE)
        here.sendall(b"alive")
        assert there.recv(100) == b"alive"
        for sock in (client, server, here, there):
            sock.close()
        left.close()
        right.close(0.1)
        one.close()
        other.close()
