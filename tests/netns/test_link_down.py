"""In transfers: a real device goes down and comes up, loses its carrier or is deleted; a peer is killed."""

import errno
import hashlib
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from fcntl import ioctl
from typing import Final

import pytest

import usertcp.socket as us
from tests.netns.peer import BLOCK, blocks, digest
from tests.netns.plugged import KERNEL, Plugged, exchange, plugged, until
from tests.netns.programs import Peer
from usertcp import blocking
from usertcp.blocking import Conn
from usertcp.link import provision
from usertcp.link.provision import Namespace
from usertcp.tcp.config import TcpConfig
from usertcp.units import MS

SIZE: Final = 6_000_000  # bytes each way
SEED, OURS = 1, 2  # of what the peer sends, and of what we send
OUTAGE: Final = 0.15  # seconds
PATIENCE: Final = 60.0
TUNSETCARRIER: Final = 0x400454E2  # linux/if_tun.h
SOON: Final = TcpConfig(max_rto=400 * MS)  # what a long outage costs afterwards is not the matter here
STACK: Final = "10.9.0.2"


def peer_of(space: str) -> Peer:
    """A program of the kernel's that sends and receives SIZE bytes."""
    return Peer(space, "exchange", KERNEL, 0, "--listen", "--send", SIZE, "--seed", SEED)


def moved(conn: Conn, events: list[Callable[[], object]], *, early: bool = False) -> str:
    """Send and receive SIZE bytes at once; what was received, hashed. ``events`` happen on the way, in even steps, or
    ``early``: when the first bytes are there, and the rest cannot be, for no buffer has grown."""
    conn.settimeout(PATIENCE)
    step = SIZE // (len(events) + 1)
    due = [1 if early else (number + 1) * step for number in range(len(events))]

    def came(count: int) -> None:
        while due and count >= due[0]:
            due.pop(0)
            events.pop(0)()

    return exchange(conn, SIZE, OURS, came=came).sha256


@contextmanager
def outages(switch: Callable[[bool], object], times: int) -> Iterator[list[Callable[[], object]]]:
    """Events that switch something off; each time it is on again a moment later."""
    timers: list[threading.Timer] = []

    def off() -> None:
        switch(False)
        timers.append(threading.Timer(OUTAGE, switch, (True,)))
        timers[-1].start()

    try:
        yield [off] * times
    finally:
        for timer in timers:
            timer.join()


def switches(here: Plugged) -> dict[str, Callable[[bool], object]]:
    """What can be switched off and on of a TAP."""
    descriptor = here.link.fileno()
    return {
        "interface": lambda up: provision.set_up("tap0", up, netns=here.space),
        "carrier": lambda up: ioctl(descriptor, TUNSETCARRIER, struct.pack("=i", up)),
    }


@pytest.mark.parametrize("what", ["interface", "carrier"])
def test_tap_that_goes_down_and_up_in_a_transfer_both_streams_arrive(what: str) -> None:
    with plugged(tcp=SOON) as here, peer_of(here.space).ready() as peer:
        conn = here.host.connect((KERNEL, peer.port), timeout=PATIENCE)
        with conn, outages(switches(here)[what], 3) as events:
            assert moved(conn, events) == digest(SIZE, SEED)
        report = peer.report()
        assert (report["received"], report["sha256"]) == (SIZE, digest(SIZE, OURS))


@pytest.mark.parametrize("side", ["ours", "theirs"])
def test_packet_socket_whose_interface_goes_down_and_up_in_a_transfer_both_streams_arrive(side: str) -> None:
    """Theirs: the other end of the cable, which takes the carrier from ours."""
    with (
        Namespace.create() as space,
        Namespace.create() as other,
        provision.create_veth(
            "a0", "b0", netns=space.name, peer_netns=other.name, address=f"{KERNEL}/24", peer_address="10.9.0.3/24"
        ),
        blocking.open(packet="b0", netns=other.name, address=f"{STACK}/24", tcp=SOON) as host,
        peer_of(space.name).ready() as peer,
    ):
        name, where = ("b0", other.name) if side == "ours" else ("a0", space.name)
        conn = host.connect((KERNEL, peer.port), timeout=PATIENCE)
        with conn, outages(lambda up: provision.set_up(name, up, netns=where), 2) as events:
            assert moved(conn, events) == digest(SIZE, SEED)
        report = peer.report()
        assert (report["received"], report["sha256"]) == (SIZE, digest(SIZE, OURS))


def test_socket_engine_whose_tap_goes_down_and_up_every_program_goes_on() -> None:
    with us.engine(tcp=SOON) as engine, ExitStack() as undo:
        space = engine.netns
        assert space is not None
        peers = [undo.enter_context(peer_of(space).ready()) for _ in range(2)]
        socks = [undo.enter_context(engine.create_connection((KERNEL, peer.port), PATIENCE)) for peer in peers]
        hashes: dict[int, str] = {}

        def receive(number: int) -> None:
            total = hashlib.sha256()
            while data := socks[number].recv(BLOCK):
                total.update(data)
            hashes[number] = total.hexdigest()

        threads = [threading.Thread(target=receive, args=(number,)) for number in range(2)]
        for thread in threads:
            thread.start()
        text = b"".join(blocks(SIZE, OURS))
        for part in (text[: SIZE // 2], text[SIZE // 2 :]):
            for sock in socks:
                sock.sendall(part)
            provision.set_up("tap0", False, netns=space)
            time.sleep(OUTAGE)
            provision.set_up("tap0", True, netns=space)
        for sock in socks:
            sock.shutdown(us.SHUT_WR)
        for thread in threads:
            thread.join(PATIENCE)
        assert hashes == {0: digest(SIZE, SEED), 1: digest(SIZE, SEED)}
        assert [peer.report()["sha256"] for peer in peers] == [digest(SIZE, OURS)] * 2


# -- gone for good ---------------------------------------------------------------------------------------------------


def test_tap_deleted_in_a_transfer_everybody_learns_it_and_another_stack_goes_on() -> None:
    with ExitStack() as undo:
        gone, stays = undo.enter_context(plugged()), undo.enter_context(plugged(tcp=SOON))
        with peer_of(gone.space).ready() as first, peer_of(stays.space).ready() as second:
            doomed = gone.host.connect((KERNEL, first.port), timeout=PATIENCE)
            idle = gone.host.listen(("", 7))
            errors: list[int | None] = []

            def accept() -> None:
                try:
                    idle.accept()
                except OSError as error:
                    errors.append(error.errno)

            waiter = threading.Thread(target=accept)
            waiter.start()
            with pytest.raises(OSError, match=r"down|gone") as caught:
                moved(doomed, [lambda: provision.delete_link("tap0", netns=gone.space)], early=True)
            assert caught.value.errno == errno.ENETDOWN
            waiter.join(PATIENCE)
            assert errors == [errno.ENETDOWN]
            with pytest.raises(OSError, match="gone"):
                gone.host.connect((KERNEL, first.port), timeout=PATIENCE)
            with stays.host.connect((KERNEL, second.port), timeout=PATIENCE) as conn:
                assert moved(conn, []) == digest(SIZE, SEED)


def test_packet_interface_deleted_in_a_transfer_says_so() -> None:
    with Namespace.create() as space, Namespace.create() as other:
        cable = provision.create_veth(
            "a0", "b0", netns=space.name, peer_netns=other.name, address=f"{KERNEL}/24", peer_address="10.9.0.3/24"
        )
        with (
            blocking.open(packet="b0", netns=other.name, address=f"{STACK}/24", linger=0.1) as host,
            peer_of(space.name).ready() as peer,
        ):
            conn = host.connect((KERNEL, peer.port), timeout=PATIENCE)
            with pytest.raises(OSError, match=r"down|gone") as caught:
                moved(conn, [cable.remove], early=True)
            assert caught.value.errno == errno.ENETDOWN


# -- peers that are killed -------------------------------------------------------------------------------------------


def test_kernel_peer_killed_in_a_transfer_is_a_reset_and_the_other_transfer_goes_on() -> None:
    with plugged() as here, peer_of(here.space).ready() as killed, peer_of(here.space).ready() as lives:
        doomed = here.host.connect((KERNEL, killed.port), timeout=PATIENCE)
        conn = here.host.connect((KERNEL, lives.port), timeout=PATIENCE)
        errors: list[BaseException] = []

        def run() -> None:
            try:
                moved(doomed, [killed.kill], early=True)
            except BaseException as error:
                errors.append(error)

        other = threading.Thread(target=run)
        other.start()
        assert moved(conn, []) == digest(SIZE, SEED)
        other.join(PATIENCE)
        assert [type(error) for error in errors] in ([ConnectionResetError], [BrokenPipeError])
        assert lives.report()["sha256"] == digest(SIZE, OURS)
        doomed.close()
        conn.close()
        assert until(lambda: not any(each is doomed.core for each in here.stack.connections()))


def test_kernel_peer_killed_with_nothing_unread_is_the_end_of_the_stream() -> None:
    with (
        plugged() as here,
        Peer(here.space, "exchange", KERNEL, 0, "--listen", "--send", 0).ready() as killed,
        here.host.connect((KERNEL, killed.port), timeout=PATIENCE) as conn,
    ):
        conn.settimeout(PATIENCE)
        assert conn.recv() == b""  # it has nothing to say
        killed.kill()
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            conn.sendall(bytes(100 * BLOCK))


def test_name_of_the_namespace_removed_in_a_transfer_the_transfer_goes_on() -> None:
    """The device keeps its namespace alive; only the way in by name is gone."""
    with (
        Namespace.create() as space,
        provision.create_tap("tap0", netns=space.name, address=f"{KERNEL}/24"),
        blocking.open(tap="tap0", netns=space.name) as host,
        peer_of(space.name).ready() as peer,
    ):
        with host.connect((KERNEL, peer.port), timeout=PATIENCE) as conn:
            assert moved(conn, [space.remove]) == digest(SIZE, SEED)
        assert peer.report()["sha256"] == digest(SIZE, OURS)
