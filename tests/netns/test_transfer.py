"""Bulk data between the stack and the kernel's TCP over a TAP: every byte arrives, whatever happens on the way."""

import pytest

from tests.netns.peer import digest
from tests.netns.plugged import KERNEL, STACK, Plugged, Received, exchange, plugged
from tests.netns.programs import Peer
from usertcp.blocking import Conn
from usertcp.link.faults import Corrupt, Drop, Duplicate, Reorder
from usertcp.net import stack as stack_module
from usertcp.tcp.config import TcpConfig
from usertcp.units import KIB

MB = 1_000_000
OURS, THEIRS = 1, 2  # seeds of the two streams


def exchange_as(role: str, here: Plugged, size: int, *options: str | int, pause: float = 0) -> tuple[Conn, Received]:
    """``size`` bytes both ways at once, the stack being client or server; checks both digests."""
    options = ("--send", size, "--seed", THEIRS, "--pause", str(pause), *options)
    if role == "client":
        with Peer(here.space, "exchange", KERNEL, 5001, "--listen", *options).ready() as peer:
            conn = here.host.connect((KERNEL, 5001), timeout=10)
            received = exchange(conn, size, OURS, pause=pause)
            report = peer.report()
    else:
        with (
            here.host.listen((STACK, 5001)) as listener,
            Peer(here.space, "exchange", STACK, 5001, "--connect", *options) as peer,
        ):
            listener.settimeout(10)
            conn = listener.accept()
            received = exchange(conn, size, OURS, pause=pause)
            report = peer.report()
    assert received == Received(size, digest(size, THEIRS))
    assert (report["received"], report["sha256"]) == (size, digest(size, OURS))
    return conn, received


@pytest.mark.parametrize("role", ["client", "server"])
def test_clean_link_100_mb_both_ways_at_once_arrive_intact(role: str) -> None:
    with plugged() as here:
        exchange_as(role, here, 100 * MB)


@pytest.mark.parametrize("congestion", ["cubic", "reno"])
def test_faulty_link_10_mb_both_ways_arrive_intact(congestion: str) -> None:
    rules = [
        Drop(probability=0.01),
        Duplicate(probability=0.01),
        Reorder(probability=0.01),
        Corrupt(probability=0.002),
    ]
    with plugged(rules=rules, seed=7) as here:
        conn, _ = exchange_as("client", here, 10 * MB, "--congestion", congestion)
        counts = here.link.counts  # type: ignore[attr-defined]
        assert all(counts[kind] > 0 for kind in ("drop", "duplicate", "reorder", "corrupt")), counts
        assert conn.info().retransmissions > 0


def test_sequence_numbers_wrap_in_both_directions_stream_intact(monkeypatch: pytest.MonkeyPatch) -> None:
    near = (1 << 32) - 3 * MB
    monkeypatch.setattr(stack_module, "initial_sequence", lambda *_: near)
    with plugged() as here:
        conn, _ = exchange_as("server", here, 10 * MB, "--iss", near)
        core = conn.core
        assert core.snd.iss == near
        assert core.snd.una > 1 << 32
        assert core.rcv.irs == near
        assert core.rcv.nxt > 1 << 32


def test_zero_window_for_30_s_both_ways_recovers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither side reads for 30 s. Both windows close, both ends probe, and afterwards the streams complete."""
    tcp = TcpConfig(receive_buffer=64 * KIB, send_buffer=64 * KIB)
    with plugged(tcp=tcp) as here:
        conn, _ = exchange_as("client", here, 4 * MB, "--rcvbuf", 32768, "--sndbuf", 32768, pause=30.0)
        assert conn.info().bytes_received >= 4 * MB
