"""Forged packets on a real wire: a flood of SYNs, and guesses at a transfer that is under way."""

import random
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from benchmarks.flood import TAP, Plan, measure
from tests.netns.peer import digest
from tests.netns.plugged import KERNEL, OURS, STACK, THEIRS, Plugged, Received, exchange, plugged
from tests.netns.programs import PATIENCE, Peer
from usertcp.blocking import Conn
from usertcp.lab import forge
from usertcp.link import netns
from usertcp.tcp.cookies import SynCookies
from usertcp.wire import icmp, ipv4, tcp
from usertcp.wire.tcp import ACK, PSH, RST, SYN

MB = 1_000_000


@pytest.mark.rfc(4987, "§3.6")
def test_clients_are_served_during_a_flood_of_syns_and_little_memory_is_taken() -> None:
    """``make flood`` is the same with 50,000 of them, and tells the times."""
    plan = Plan(syns=6000, rate=3000, clients=6, patience=30)
    seen = measure(plan)
    assert (len(seen.peace), len(seen.flood), seen.intact) == (6, 6, 12)
    assert seen.counters["cookies_out"] > 500  # a slow machine loses many before they arrive
    assert seen.counters["cookies_in"] == 6
    assert seen.connections < 128 + 2 * plan.clients + 1
    assert seen.grown < 5_000_000


def test_without_cookies_nobody_gets_in() -> None:
    seen = measure(Plan(syns=2000, rate=2000, clients=2, patience=2.5, cookies=SynCookies.NEVER))
    assert (len(seen.peace), len(seen.flood)) == (2, 0)
    assert seen.counters["cookies_out"] == 0
    assert seen.counters["drop_listen_overflow"] > 100


@contextmanager
def guesses(here: Plugged, conn: Conn) -> Iterator[list[int]]:
    """Forged packets of every kind reach our end of ``conn`` as long as the block runs; how many."""
    source, sent, ended = random.Random(1), [0], threading.Event()
    remote, local = conn.getpeername(), conn.getsockname()
    ends, ports = (remote[0], local[0]), (remote[1], local[1])
    mac = here.link.caps.mac
    assert mac is not None
    with netns.inside(here.space):
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        sock.bind((TAP, 0))
    macs = sock.getsockname()[4], mac

    def forged() -> bytes:
        seq, ack = source.getrandbits(32), source.getrandbits(32)
        stamps = tcp.timestamps(source.getrandbits(32), source.getrandbits(32))
        kind = source.choice((RST, SYN, ACK, ACK | PSH, 0))
        if kind:
            text = b"\xee" * 50 if kind & PSH else b""
            options = stamps if kind & ACK else b""
            return forge.frame(macs, ends, ports, seq=seq, ack=ack, flags=kind, options=options, payload=text)
        head = tcp.header(*ports[::-1], seq, ack, ACK, 1000)
        quoted = ipv4.header(ipv4.pack(ends[1]), ipv4.pack(ends[0]), ipv4.TCP, len(head)) + head
        body = icmp.error(icmp.DESTINATION_UNREACHABLE, source.choice((1, 2, 3, 4)), memoryview(bytes(quoted)), 68)
        packet = ipv4.header(ipv4.pack(ends[0]), ipv4.pack(ends[1]), ipv4.ICMP, len(body)) + body
        return bytes(mac + macs[0] + b"\x08\x00" + packet)

    def send() -> None:
        while not ended.wait(0.001):
            for _ in range(10):
                sock.send(forged())
                sent[0] += 1

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield sent
    finally:
        ended.set()
        thread.join()
        sock.close()


@pytest.mark.rfc(5961, "§3.2")
@pytest.mark.rfc(5961, "§5")
def test_transfer_under_blind_attack_arrives_intact() -> None:
    size = 20 * MB
    with (
        plugged() as here,
        Peer(here.space, "exchange", KERNEL, 5001, "--listen", "--send", size, "--seed", THEIRS).ready() as peer,
    ):
        conn = here.host.connect((KERNEL, 5001), timeout=PATIENCE)
        assert conn.getsockname()[0] == STACK
        with guesses(here, conn) as sent:
            received = exchange(conn, size, OURS)
        report = peer.report()
    assert sent[0] > 100
    assert received == Received(size, digest(size, THEIRS))
    assert (report["received"], report["sha256"]) == (size, digest(size, OURS))
