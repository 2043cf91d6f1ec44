"""Time that jumps, forwards by hours and weeks, and back."""

import random

import pytest

from tests.api.test_pump import Two
from usertcp.frame import FrameMeta
from usertcp.tcp.state import State
from usertcp.units import HOUR, MASK32, MS, SEC
from usertcp.wire import ipv4
from usertcp.wire import tcp as wire

TEXT = bytes(range(256)) * 40
DAY = 24 * HOUR


class Stamps:
    """Looks on at what the left stack sends: its timestamps."""

    def __init__(self, two: Two) -> None:
        self.seen: list[int] = []
        self.frames = 0
        send = two.left._send

        def look(header: bytes | bytearray, payload: list[memoryview], meta: FrameMeta) -> bool:
            frame = b"".join((header, *payload))
            if frame[12:14] == b"\x08\x00":
                options = wire.parse(ipv4.parse(memoryview(frame)[14:]).payload).options
                if options.has_ts:
                    self.seen.append(options.tsval)
                    self.frames += 1
            return send(header, payload, meta)

        two.left._send = look

    @property
    def monotone(self) -> bool:
        return all(
            (later - earlier) & MASK32 < 1 << 31 for earlier, later in zip(self.seen, self.seen[1:], strict=False)
        )


def settle(two: Two) -> None:
    """Until nothing is due within a minute."""
    for _ in range(40):
        two.run()
        due = min(two.left.deadline(two.now), two.right.deadline(two.now))
        if due - two.now > 60 * SEC:
            return
        two.now = max(two.now, due)


@pytest.mark.parametrize("seed", range(3))
def test_clock_that_trembles_keeps_timestamps_in_order_and_the_stream_whole(seed: int) -> None:
    two, source = Two(), random.Random(seed)
    two.wait(100 * SEC)
    conn, peer = two.connected()
    stamps = Stamps(two)
    sent = got = b""
    for number in range(300):
        if conn.writable > 1000:
            part = TEXT[number : number + 1000]
            sent += part[: conn.write(part)]
        two.wait(source.randrange(-2 * SEC, 3 * SEC))
        two.left.turn()
        two.right.turn()
        got += peer.read(1 << 20) if peer.readable else b""
    two.wait(400 * SEC)
    settle(two)
    got += peer.read(1 << 20) if peer.readable else b""
    assert got == sent
    assert stamps.frames > 100
    assert stamps.monotone


@pytest.mark.parametrize("pause", [HOUR, 100 * HOUR, 30 * DAY, 1000 * DAY])
def test_host_that_slept_goes_on_with_what_was_on_its_way(pause: int) -> None:
    two = Two()
    conn, peer = two.connected()
    stamps = Stamps(two)
    conn.write(TEXT)
    two.link.cut = True
    two.left.flush()
    two.link.cut = False
    before = stamps.frames
    two.wait(pause)
    two.left.turn()
    assert stamps.frames - before <= 2  # the time-out fires once, however late
    settle(two)
    assert peer.read(1 << 20) == TEXT
    assert conn.state is State.ESTABLISHED


def test_idle_connection_is_used_again_after_weeks() -> None:
    """Its peer's timestamp has wrapped meanwhile, and is no evidence any more (RFC 7323 §5.5)."""
    two = Two()
    conn, peer = two.connected()
    for pause in (25 * DAY, 49 * DAY, 60 * DAY):
        two.wait(pause)
        peer.write(TEXT)
        settle(two)
        assert conn.read(1 << 20) == TEXT


def test_time_wait_is_over_after_a_jump_and_lasts_no_shorter_when_time_goes_back() -> None:
    two = Two()
    conn, peer = two.connected()
    conn.close()
    two.run()
    peer.close()
    two.run()
    assert conn.state is State.TIME_WAIT
    two.wait(-10 * SEC)
    two.left.turn()
    assert conn.state is State.TIME_WAIT
    two.wait(HOUR)
    two.left.turn()
    assert not list(two.left.stack.connections())


def test_keepalive_after_a_jump_sends_one_probe_and_the_connection_lives() -> None:
    two = Two()
    conn, _ = two.connected()
    conn.configure(keepalive=True, keepalive_idle=10 * SEC, keepalive_interval=SEC)
    two.run()
    stamps = Stamps(two)
    two.wait(10 * HOUR)
    two.left.turn()
    assert stamps.frames == 1
    two.wait(MS)
    two.right.turn()
    two.left.turn()
    assert conn.state is State.ESTABLISHED
    assert conn.probes == 0
