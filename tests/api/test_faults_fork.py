"""fork() at the wrong time: the child does not hang and sends nothing on the parent's device, whose transfers go on."""

import asyncio
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

import usertcp.socket as us
from tests.api.hosts import LEFT, PATIENCE, PORT, RIGHT, keeping, nothing_left, run, stack_on, two_aio
from tests.api.sockets import local_pair, one_engine
from tests.support.faulty import FaultyLink
from usertcp import blocking
from usertcp.driver.aio import AioDriver
from usertcp.driver.forking import ForkLock
from usertcp.link.memory import memory_pair

TEXT = bytes(range(256)) * 8000  # 2 MB
GOOD = 0


def outcome(child: int) -> int:
    """The exit status of ``child``, which is killed when it hangs: then -9."""
    reaper = threading.Timer(PATIENCE, os.kill, (child, signal.SIGKILL))
    reaper.start()
    try:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    finally:
        reaper.cancel()
        reaper.join()


def forked(work: Callable[[], object]) -> int:
    """Fork a child that does ``work`` and then ends without further ado; its number."""
    child = os.fork()
    if child == 0:
        signal.alarm(round(PATIENCE))  # a child that hangs does not outlive the test
        status = 1
        try:
            work()
            status = GOOD
        except BaseException as error:
            os.write(2, f"the child failed: {error!r}\n".encode())
        finally:
            os._exit(status)
    return child


def refused(action: Callable[[], object]) -> None:
    """``action`` raises EBADF."""
    with pytest.raises(OSError, match="Bad file descriptor"):
        action()


class Blocking:
    """Two hosts, the left one on a link that counts what is sent, and a connection between them."""

    def __init__(self) -> None:
        one, other = memory_pair(offload=True, pollable=True)
        self.link = FaultyLink(one)
        self.left = blocking.Host(stack_on(one, LEFT), self.link)
        self.right = blocking.Host(stack_on(other, RIGHT), other)
        self.listener = self.right.listen(("", PORT))
        self.conn = self.left.connect((RIGHT, PORT), timeout=PATIENCE)
        self.peer = self.listener.accept()
        for end in (self.conn, self.peer):
            end.settimeout(PATIENCE)

    def use(self) -> None:
        """What a child may try; it sends nothing, and returns."""
        offers = self.link.offers
        refused(lambda: self.conn.send(b"from the child"))
        refused(lambda: self.conn.recv(1))
        refused(lambda: self.left.connect((RIGHT, PORT)))
        refused(self.listener.accept)
        self.conn.close()
        self.conn.abort()
        self.left.close()
        self.right.close()
        assert self.link.offers == offers

    def close(self) -> None:
        for end in (self.conn, self.peer, self.listener):
            end.close()
        self.left.close()
        self.right.close()


@contextmanager
def two_hosts() -> Iterator[Blocking]:
    with nothing_left():
        both = Blocking()
        try:
            yield both
        finally:
            both.close()


def moved(both: Blocking, meanwhile: Callable[[], object]) -> bytes:
    """What arrives of TEXT, which one thread sends and another receives, while a third does ``meanwhile``."""
    got = bytearray()

    def receive() -> None:
        while len(got) < len(TEXT):
            got.extend(both.peer.recv())

    threads = [threading.Thread(target=receive), threading.Thread(target=both.conn.sendall, args=(TEXT,))]
    for thread in threads:
        thread.start()
    meanwhile()
    for thread in threads:
        thread.join(PATIENCE)
    return bytes(got)


def test_blocking_child_of_a_fork_in_a_transfer_finds_the_host_closed_and_the_parent_goes_on() -> None:
    """The threads that transfer hold the lock, or lead, whenever it is that the third one forks."""
    with two_hosts() as both:
        children: list[int] = []
        pause = threading.Event()

        def fork_often() -> None:
            for _ in range(8):
                children.append(forked(both.use))
                pause.wait(0.002)

        assert moved(both, fork_often) == TEXT
        assert [outcome(child) for child in children] == [GOOD] * 8


def test_blocking_child_of_a_fork_within_a_turn_comes_back_from_it() -> None:
    """The thread that forks holds the lock and leads: what it returns to in the child is closed."""
    with two_hosts() as both:
        children: list[int] = []

        def fork_once() -> None:
            both.link.on_read = lambda: None
            child = os.fork()
            if child:
                children.append(child)
            else:
                signal.alarm(round(PATIENCE))

        parent = os.getpid()
        both.link.on_read = fork_once
        both.peer.send(b"hello")
        try:
            data = both.conn.recv(100)
            if os.getpid() != parent:
                os._exit(2)  # a child that reads what is the parent's
        except OSError:
            if os.getpid() != parent:
                os._exit(GOOD)
            raise
        except BaseException:
            if os.getpid() != parent:
                os._exit(3)
            raise
        assert data == b"hello"
        assert [outcome(child) for child in children] == [GOOD]


def test_blocking_child_that_ends_in_order_leaves_the_parents_connection_and_device() -> None:
    """What runs at its exit would otherwise say FIN on the parent's device, and remove what the parent made."""
    code = """
        import os, sys
        from tests.api.test_faults_fork import Blocking, outcome, TEXT, moved
        both = Blocking()
        child = os.fork()
        if child == 0:
            sys.exit(7)
        status = outcome(child)
        sys.exit(0 if status == 7 and moved(both, lambda: None) == TEXT else 1)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], timeout=60, check=False)
    assert done.returncode == 0


def test_blocking_child_by_multiprocessing_and_one_that_executes_a_program_end_well() -> None:
    with two_hosts() as both:
        other = multiprocessing.get_context("fork").Process(target=both.use)

        def start() -> None:
            other.start()
            subprocess.run(["true"], check=True, preexec_fn=both.left.close)

        assert moved(both, start) == TEXT
        other.join(PATIENCE)
        assert other.exitcode == 0
        other.close()


def test_blocking_child_can_have_a_stack_of_its_own() -> None:
    def work() -> None:
        both = Blocking()
        assert moved(both, lambda: None) == TEXT
        both.close()

    with two_hosts() as both:
        assert outcome(forked(work)) == GOOD
        assert moved(both, lambda: None) == TEXT


def test_aio_child_that_unwinds_sends_nothing_and_the_parents_stream_goes_on() -> None:
    async def main() -> None:
        async with two_aio() as (left, right, link):
            server, got = await keeping(right)
            _, writer = await left.open_connection(RIGHT, PORT)
            writer.write(TEXT[: len(TEXT) // 2])
            await asyncio.sleep(0)

            def in_the_child() -> None:
                offers = link.offers
                writer.write(b"from the child")
                writer.transport.abort()
                for host in (left, right):
                    assert isinstance(host.driver, AioDriver)
                    host.driver.step()
                    host.driver.pump.abort_all()
                    host.driver.close()
                assert link.offers == offers

            child = forked(in_the_child)
            writer.write(TEXT[len(TEXT) // 2 :])
            writer.write_eof()
            assert await got == TEXT
            writer.close()
            server.close()
        assert outcome(child) == GOOD

    run(main())


def test_socket_child_of_a_thread_uses_the_parents_engine_beside_it() -> None:
    with nothing_left(), one_engine() as engine:
        client, server = local_pair(engine)
        statuses: list[int] = []

        def in_the_child() -> None:
            here, there = local_pair(engine)  # a connection of its own, over the parent's engine
            here.sendall(b"x" * 1000)
            assert there.recv(1000, us.MSG_WAITALL) == b"x" * 1000
            here.close()
            there.close()
            with pytest.raises(OSError, match="not running"):
                engine.call(int)
            engine.close()

        def fork_in_a_thread() -> None:
            statuses.extend(outcome(forked(in_the_child)) for _ in range(3))

        thread = threading.Thread(target=fork_in_a_thread)
        sender = threading.Thread(target=client.sendall, args=(TEXT,))
        thread.start()
        sender.start()
        got = 0
        while got < len(TEXT):
            got += len(server.recv(1 << 16))
        sender.join(PATIENCE)
        thread.join(2 * PATIENCE)
        assert statuses == [GOOD] * 3
        client.close()
        server.close()


def test_socket_child_of_a_fork_while_an_engine_starts_does_not_wait_for_it() -> None:
    held = threading.Event()
    gate = threading.Event()

    def start() -> None:
        with us._starting:
            held.set()
            gate.wait(PATIENCE)

    thread = threading.Thread(target=start)
    thread.start()
    held.wait(PATIENCE)

    def in_the_child() -> None:
        with us._starting:
            pass

    child = forked(in_the_child)
    gate.set()
    thread.join(PATIENCE)
    assert outcome(child) == GOOD


def test_lock_is_free_in_a_child_whoever_held_it_and_who_forked_lets_go_of_it_once() -> None:
    lock, held, done = ForkLock(), threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            held.set()
            done.wait(PATIENCE)

    def take() -> None:
        with lock, lock:
            pass

    def leave() -> None:
        lock.__exit__()
        take()

    other = threading.Thread(target=hold)
    other.start()
    held.wait(PATIENCE)
    child = forked(take)
    done.set()
    other.join()
    assert outcome(child) == GOOD
    with lock:
        child = forked(leave)
    assert outcome(child) == GOOD
