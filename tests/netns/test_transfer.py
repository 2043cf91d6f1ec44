"""Bulk data between the stack and the kernel's TCP over a TAP: every byte arrives, whatever happens on the way."""

import time
from pathlib import Path
from typing import Final

import pytest

from tests.netns.peer import digest
from tests.netns.plugged import KERNEL, OURS, THEIRS, Received, exchange, exchange_as, plugged
from tests.netns.programs import PATIENCE, Peer
from tests.support.pure import pure_only
from usertcp.link.faults import Corrupt, Drop, Duplicate, Reorder
from usertcp.link.netns import inside
from usertcp.net import stack as stack_module
from usertcp.tcp.config import TcpConfig
from usertcp.units import KIB

MB = 1_000_000
NETSTAT: Final = Path("/proc/thread-self/net/netstat")


@pytest.mark.parametrize("role", ["client", "server"])
def test_clean_link_100_mb_both_ways_at_once_arrive_intact(role: str) -> None:
    with plugged() as here:
        exchange_as(role, here, 100 * MB)


@pytest.mark.rfc(8985, "§6.2")
@pytest.mark.rfc(2018, "§4")
@pytest.mark.rfc(6675, "§5")
@pytest.mark.rfc(6298, "§5")
@pytest.mark.rfc(5681, "§3.2")
@pytest.mark.rfc(5681, "§3.1")
@pytest.mark.rfc(9293, "MUST-18")
@pytest.mark.rfc(9293, "SHLD-31")
@pytest.mark.parametrize("congestion", ["cubic", "reno"])
def test_faulty_link_10_mb_both_ways_arrive_intact(congestion: str) -> None:
    rules = [
        Drop(probability=0.01),
        Duplicate(probability=0.01),
        Reorder(probability=0.01),
        Corrupt(probability=0.01),
    ]
    with plugged(rules=rules, seed=7) as here:
        conn = exchange_as("client", here, 10 * MB, "--congestion", congestion)
        counts = here.link.counts  # type: ignore[attr-defined]
        assert all(counts[kind] > 0 for kind in ("drop", "duplicate", "reorder", "corrupt")), counts
        assert conn.info().retransmissions > 0


@pytest.mark.rfc(2018, "§8")
@pytest.mark.rfc(2883, "§4")
def test_frames_that_arrive_twice_are_reported_to_the_kernel_and_nothing_is_reneged() -> None:
    with plugged(rules=[Duplicate(probability=0.02), Drop(probability=0.005)], seed=7) as here:
        conn = exchange_as("client", here, 10 * MB)
        info = conn.info()
        with inside(here.space):
            names, values = NETSTAT.read_text(encoding="ascii").splitlines()[:2]
    told = dict(zip(names.split()[1:], map(int, values.split()[1:]), strict=True))
    assert info.dsacks_sent > 0
    assert told["TCPDSACKRecv"] + told["TCPDSACKOfoRecv"] >= info.dsacks_sent * 9 // 10  # an ACK may be lost
    assert told["TCPSACKReneging"] == 0
    assert told["TCPSACKDiscard"] <= told["TCPDSACKIgnoredDubious"]  # more duplicates than it had sent any again
    assert info.dsacks_received > 0  # and the other way


@pytest.mark.rfc(9293, "X-1")
@pure_only  # a function of the core is replaced
def test_sequence_numbers_wrap_in_both_directions_stream_intact(monkeypatch: pytest.MonkeyPatch) -> None:
    near = (1 << 32) - 3 * MB
    monkeypatch.setattr(stack_module, "initial_sequence", lambda *_: near)
    with plugged() as here:
        conn = exchange_as("server", here, 10 * MB, "--iss", near)
        core = conn.core
        assert core.snd.iss == near
        assert core.snd.una > 1 << 32
        assert core.rcv.irs == near
        assert core.rcv.nxt > 1 << 32


@pytest.mark.rfc(9293, "MUST-36")
@pytest.mark.rfc(9293, "X-18")
def test_zero_window_for_30_s_both_ways_recovers() -> None:
    """Neither side reads for 30 s. Both windows close, both ends probe, and afterwards both streams complete."""
    size, closed_for = 4 * MB, 30.0
    seen: list[tuple[int, int, int, int]] = []

    def wait_and_look() -> None:
        time.sleep(closed_for - 2)
        with here.host._lock:
            core = conn.core
            seen.append((core.snd.wnd, core.snd.backed_off_probes, core.rcv.edge - core.rcv.nxt, core.readable))
        time.sleep(2)

    tcp = TcpConfig(receive_buffer=64 * KIB, receive_buffer_max=0, send_buffer=64 * KIB, send_buffer_max=0)
    options = ("--send", size, "--seed", THEIRS, "--pause", str(closed_for), "--rcvbuf", 32768, "--sndbuf", 32768)
    with plugged(tcp=tcp) as here, Peer(here.space, "exchange", KERNEL, 5001, "--listen", *options).ready() as peer:
        conn = here.host.connect((KERNEL, 5001), timeout=PATIENCE)
        received = exchange(conn, size, OURS, first=wait_and_look)
        report = peer.report()
    ((their_window, our_probes, our_window, unread),) = seen
    assert (their_window, our_window) == (0, 0)
    assert our_probes >= 4
    assert unread == 64 * KIB
    assert received == Received(size, digest(size, THEIRS))
    assert (report["received"], report["sha256"]) == (size, digest(size, OURS))
