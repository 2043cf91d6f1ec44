"""What a connection waited for: busy, window-limited and buffer-limited time."""

from tests.support.script import Script, with_options
from usertcp.units import KIB, MS

MSS = 1460


def times(s: Script) -> tuple[int, int, int]:
    info = s.user.info(s.now)
    return info.busy_time // MS, info.window_limited_time // MS, info.buffer_limited_time // MS


def test_connection_without_text_is_not_busy() -> None:
    s = Script.established(passive=True)
    s.advance(100 * MS)
    s.peer("P. 1:101(100) ack 1 win 1000")
    s.advance(100 * MS)
    s.user.shutdown_write()
    s.poll()
    s.advance(100 * MS)
    assert times(s) == (0, 0, 0)


def test_text_on_its_way_is_busy_time_until_it_is_acknowledged() -> None:
    s = Script.established()
    s.advance(50 * MS)
    s.write(b"x")
    s.advance(30 * MS)
    assert times(s) == (30, 0, 0)
    s.peer(". 1:1(0) ack 2 win 1000")
    s.advance(70 * MS)
    assert times(s) == (30, 0, 0)
    assert s.user.info().busy_time == 30 * MS


def test_congestion_window_as_the_limit_is_busy_time_alone() -> None:
    s = Script.established()
    s.write(bytes(40 * MSS))
    s.advance(40 * MS)
    assert s.user.info().unsent == 30 * MSS
    assert times(s) == (40, 0, 0)


def test_congestion_window_and_peers_window_both_full_are_busy_time_alone() -> None:
    s = Script.established(win=10 * MSS)
    s.write(bytes(20 * MSS))
    s.advance(40 * MS)
    assert times(s) == (40, 0, 0)


def test_peers_window_as_the_limit_is_window_limited_time() -> None:
    s = Script.established(win=3 * MSS)
    s.write(bytes(5 * MSS))
    s.advance(20 * MS)
    assert times(s) == (20, 20, 0)
    s.peer(f". 1:1(0) ack {1 + 3 * MSS} win {3 * MSS}")
    s.advance(10 * MS)  # all of it is out
    assert times(s) == (30, 20, 0)


def test_closed_window_is_window_limited_time() -> None:
    s = Script.established(win=0)
    s.write(b"x")
    s.advance(150 * MS)
    assert times(s) == (150, 150, 0)


def test_full_send_buffer_all_on_its_way_is_buffer_limited_time() -> None:
    s = Script.established(with_options(send_buffer=4 * KIB))
    assert s.user.write(bytes(8 * KIB)) == 4 * KIB
    s.poll()
    s.advance(25 * MS)
    assert times(s) == (25, 0, 25)
    s.peer(f". 1:1(0) ack {1 + 4 * KIB} win 65535")
    s.advance(25 * MS)
    assert times(s) == (25, 0, 25)


def test_user_with_nothing_more_to_say_is_not_held_by_the_buffer() -> None:
    s = Script.established(with_options(send_buffer=4 * KIB))
    s.write(bytes(3 * KIB))
    s.advance(25 * MS)
    assert times(s) == (25, 0, 0)


def test_info_of_an_earlier_time_counts_up_to_the_last_change() -> None:
    s = Script.established()
    s.write(b"x")
    assert s.user.info(s.now - 50 * MS).busy_time == 0
