"""Buffers that tune themselves, as peer and user see them."""

from dataclasses import replace

import pytest

from tests.support.script import IRS, Script, with_options
from usertcp.tcp.config import TcpConfig
from usertcp.tcp.state import WRITABLE
from usertcp.units import KIB, MASK32, MIB, MS

MSS = 1460
TUNED = with_options(
    window_scaling=True, receive_buffer=64 * KIB, receive_buffer_max=4 * MIB, send_buffer=64 * KIB, send_buffer_max=MIB
)
OFFERED = "mss 1460,nop,nop,sackOK,nop,wscale 7"


def tuned(config: TcpConfig = TUNED) -> Script:
    """ESTABLISHED over a path of 100 ms."""
    s = Script.opening(config)
    s.advance(100 * MS)
    s.peer(f"S. 0:0(0) ack 1 win 65535 <{OFFERED}>")
    s.take()
    return s


def stream(s: Script, sizes: list[int], *, read: bool = True) -> list[int]:
    """What the peer sends in each round trip of 100 ms, as far as the window lets it; the window after each."""
    windows = []
    for size in sizes:
        until = s.now + 100 * MS
        while size > 0:
            n = min(size, MSS, s.user.rcv.edge - s.user.rcv.nxt)
            if not n:
                break
            at = s.user.rcv.nxt - IRS
            s.peer(f". {at & MASK32}:{at + n & MASK32}({n}) ack 1 win 1000")
            size -= n
            if read:
                s.read()
                s.poll()
        s.advance(until - s.now)
        windows.append(s.user.rcv.edge - s.user.rcv.nxt)
    s.take()
    return windows


def test_window_begins_modest_and_its_scale_is_for_the_largest() -> None:
    s = Script.opening(TcpConfig())
    (syn,) = s.take()
    assert (syn.wnd, syn.options.wscale) == (65535, 10)  # 65535 << 9 is 512 bytes short of 32 MiB


@pytest.mark.rfc(7323, "§2.2")
def test_peer_in_slow_start_is_never_held_by_the_window() -> None:
    s = tuned()
    sizes = [14_600 << n for n in range(7)]
    windows = stream(s, sizes)
    assert all(window >= 2 * size for window, size in zip(windows[1:], sizes[1:], strict=True))
    assert s.user.info().bytes_received == sum(sizes)
    assert s.user.info().rcv_rtt == 100 * MS


def test_small_messages_are_not_measured() -> None:
    s = tuned()
    stream(s, [10] * 100)
    assert s.user.info().rcv_rtt == 0


def test_unread_data_holds_the_window() -> None:
    s = tuned()
    windows = stream(s, [14_600 << n for n in range(7)], read=False)
    assert windows[-1] == 0
    assert s.user.info().receive_buffer == 64 * KIB
    assert s.user.readable <= 64 * KIB * 17 // 16  # the field is rounded up to the scale's unit


def test_what_waits_behind_a_gap_does_not_use_up_the_window() -> None:
    s = tuned()
    at = MSS + 1
    for _ in range(40):
        s.peer(f". {at}:{at + MSS}({MSS}) ack 1 win 1000")
        at += MSS
    assert s.user.rcv.edge - s.user.rcv.buffer.top > 64 * KIB - 2 * MSS
    s.peer(f". 1:{1 + MSS}({MSS}) ack 1 win 1000")
    assert len(s.read()) == at - 1


def test_window_grows_to_its_maximum_and_no_further() -> None:
    s = tuned(replace(TUNED, receive_buffer_max=400_000))
    assert stream(s, [14_600 << n for n in range(8)])[-1] <= 400_000
    assert s.user.info().receive_buffer == 400_000


@pytest.mark.parametrize("when", ["before", "after"])
def test_chosen_receive_buffer_is_kept(when: str) -> None:
    fixed = {"receive_buffer": 100_000, "receive_buffer_max": 0}
    s = tuned(with_options(window_scaling=True, **fixed) if when == "before" else TUNED)
    if when == "after":
        s.user.configure(**fixed)
    stream(s, [14_600 << n for n in range(7)])
    assert s.user.info().receive_buffer == 100_000


def test_other_settings_leave_the_tuned_sizes_alone() -> None:
    s = tuned()
    stream(s, [14_600 << n for n in range(7)])
    at = s.user.rcv.nxt - IRS & MASK32
    s.peer(f". {at}:{at + 100}(100) ack 1 win 1000")
    s.read()  # and no ACK has told the peer yet
    before = s.user.info().receive_buffer
    assert before > 64 * KIB
    assert s.user.rcv.edge - s.user.rcv.buffer.read_seq < before
    s.user.configure(nodelay=True)
    assert s.user.info().receive_buffer == before


WIDE = with_options(window_scaling=True, receive_buffer=64 * KIB, receive_buffer_max=64 * MIB)  # in units of 2 KiB


def test_buffer_smaller_than_the_scales_unit_is_one_unit() -> None:
    s = tuned(replace(WIDE, receive_buffer=1))
    assert s.user.rcv.shift == 11
    assert s.user.info().receive_buffer == 2 * KIB
    stream(s, [KIB] * 10)
    assert s.user.info().bytes_received >= 8 * KIB


def test_buffer_made_smaller_than_the_scales_unit_while_the_window_is_closed_is_one_unit() -> None:
    s = tuned(WIDE)
    while s.user.rcv.edge > s.user.rcv.nxt:
        stream(s, [64 * KIB], read=False)
    s.read()
    s.user.configure(receive_buffer=1, receive_buffer_max=0)
    assert s.user.info().receive_buffer == 2 * KIB
    s.expect(f". 1:1(0) ack {s.user.rcv.nxt - IRS} win 1")


def test_window_that_the_field_cannot_say_is_not_told_again_and_again() -> None:
    s = tuned(replace(WIDE, receive_buffer=1))
    s.peer(". 1:2(1) ack 1 win 1000")
    s.read()
    s.poll()
    s.take()
    s.peer(". 2:1502(1500) ack 1 win 1000")
    s.poll()
    s.take()
    s.user.read(1200)
    s.expect_nothing()
    s.expect_nothing()


def test_send_buffer_grows_with_the_congestion_window_when_the_user_is_held_by_it() -> None:
    s = tuned()
    user = s.user
    acked = 1
    for _ in range(8):
        while user.writable:
            user.write(bytes(user.writable))
        assert not user.ready & WRITABLE
        s.poll()
        while sent := s.take():
            end = sent[-1].seq - user.snd.iss + len(sent[-1].payload) & MASK32
            s.now += 100 * MS
            for at in range(acked + 2 * MSS, end, 2 * MSS):
                s.peer(f". 1:1(0) ack {at} win 30000")
            s.peer(f". 1:1(0) ack {end} win 30000")
            acked = end
            break
    info = user.info()
    assert info.cwnd > 64 * KIB
    assert info.send_buffer == min(2 * info.cwnd, MIB)


def test_user_is_not_held_by_the_buffer_while_a_loss_is_mended() -> None:
    """What the peer has behind the gap leaves room in the network, and so in the buffer."""
    s = tuned(replace(TUNED, sack=True, send_buffer=20 * MSS))
    s.user.snd.cc.cwnd = 20 * MSS
    assert s.user.write(bytes(MIB)) == 20 * MSS
    s.poll()
    assert not s.user.ready & WRITABLE
    s.now += 100 * MS
    s.peer(f". 1:1(0) ack 1 win 30000 <nop,nop,sack {1 + MSS}:{1 + 16 * MSS}>")
    assert s.user.ready & WRITABLE
    assert s.user.writable >= 15 * MSS


def test_send_buffer_of_a_user_who_writes_little_stays_small() -> None:
    s = tuned()
    at = 1
    for _ in range(200):
        s.write(bytes(2 * MSS))
        at += 2 * MSS
        s.peer(f". 1:1(0) ack {at} win 30000")
        s.take()
    assert s.user.info().send_buffer == 64 * KIB


def test_chosen_send_buffer_is_kept() -> None:
    s = tuned()
    s.user.configure(send_buffer=20_000, send_buffer_max=0)
    s.user.snd.cc.cwnd = MIB
    assert s.user.write(bytes(MIB)) == 20_000
    s.poll()
    s.peer(". 1:1(0) ack 20001 win 30000")
    assert s.user.writable == 20_000


@pytest.mark.parametrize("name", ["receive_buffer_max", "send_buffer_max"])
def test_negative_maximum_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        with_options(**{name: -1})
