"""Parts of a burst wait for the rest of it while many bursts are in the network."""

from usertcp.tcp.config import TcpConfig
from usertcp.tcp.recovery import CWR
from usertcp.tcp.sender import DEFERRING, LEAST_USEFUL, SPARE, Sender
from usertcp.units import MS

SEG = 1000
BURST = 10 * SEG


def flying(bursts: int, room: int) -> Sender:
    """``bursts`` are in the network, the congestion window would let ``room`` bytes more go, and plenty waits."""
    snd = Sender(TcpConfig(send_buffer=1 << 20), 100, SEG)
    snd.nxt = snd.una = 101
    snd.wnd = 1 << 20
    snd.buffer.write(bytearray(1 << 19))
    for _ in range(bursts):
        snd.on_sent(snd.nxt, snd.nxt + BURST, 5, SEG)
    snd.cc.cwnd = snd.pipe + room
    snd.rtt.sample(MS, MS)
    return snd


def test_part_of_a_burst_goes_while_little_is_in_the_network() -> None:
    assert flying(DEFERRING - 1, 3 * SEG).next_new(SEG, BURST, nodelay=True) == 3 * SEG


def test_part_of_a_burst_waits_while_much_is_in_the_network() -> None:
    snd = flying(DEFERRING, 3 * SEG)
    assert snd.next_new(SEG, BURST, nodelay=True) == 0
    snd.end_burst(SEG, BURST)
    assert snd.usage_full  # the window is the limit, and may grow
    snd.cc.cwnd += 7 * SEG
    assert snd.next_new(SEG, BURST, nodelay=True) == BURST


def test_part_of_a_burst_goes_where_a_burst_takes_long() -> None:
    snd = flying(DEFERRING, 3 * SEG)
    snd.rtt.srtt = 5 * MS
    assert snd.next_new(SEG, BURST, nodelay=True) == 3 * SEG


def test_last_part_of_what_the_user_wrote_waits_while_much_is_in_the_network() -> None:
    whole = 60 * SEG
    for size in (1, 3 * SEG):
        snd = flying(2 * whole // BURST, 12 * BURST)
        snd.buffer.end = snd.nxt + size
        assert snd.next_new(SEG, whole, nodelay=True) == 0
        snd.end_burst(SEG, whole)
        assert not snd.usage_full  # it is the user who has no more
        assert snd.rate.app_limited
        snd.on_ack(snd.una + whole, 5 + MS)
        assert snd.next_new(SEG, whole, nodelay=True) == size


def test_last_part_goes_at_once_where_bursts_are_small() -> None:
    snd = flying(DEFERRING, 4 * BURST)
    snd.buffer.end = snd.nxt + 3 * SEG
    assert snd.next_new(SEG, BURST, nodelay=True) == 3 * SEG


def test_end_of_the_stream_goes_at_once() -> None:
    snd = flying(DEFERRING, 4 * BURST)
    snd.buffer.end = snd.nxt + 3 * SEG
    snd.fin_queued = True
    assert snd.next_new(SEG, BURST, nodelay=True) == 3 * SEG


def test_useful_window_is_what_the_windows_allow_but_on_a_near_path_little_more_than_it_holds() -> None:
    snd = flying(1, 64 * BURST)
    snd.cc.cwnd, snd.max_wnd, snd.rate.rate = 40 << 20, 30 << 20, 1 << 30
    assert snd.useful == 30 << 20
    snd.rtt.min_rtt = MS // 10
    assert snd.useful == LEAST_USEFUL
    snd.rate.rate = 10 << 30
    assert snd.useful == SPARE * (10 << 30) // 10_000


def test_part_of_a_burst_goes_during_a_reduction_and_when_paced() -> None:
    snd = flying(DEFERRING, 3 * SEG)
    snd.phase = CWR
    assert snd.next_new(SEG, BURST, nodelay=True) == 3 * SEG
    snd = flying(DEFERRING, 3 * SEG)
    snd.pacer.rate = 1 << 30
    assert snd.next_new(SEG, BURST, nodelay=True) == 3 * SEG
