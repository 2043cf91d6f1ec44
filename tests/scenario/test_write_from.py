"""Text that is put straight into the send buffer, as the drop-in socket's engine does."""

import errno
from collections.abc import Callable

import pytest

from tests.support.script import Script, with_options
from usertcp.tcp.state import WRITABLE


def reading(data: bytes) -> Callable[[list[memoryview]], int]:
    """What puts ``data`` into the places it is given, as far as they go."""

    def read(places: list[memoryview]) -> int:
        taken = 0
        for place in places:
            piece = data[taken : taken + len(place)]
            place[: len(piece)] = piece
            taken += len(piece)
        return taken

    return read


def test_what_was_read_into_the_buffer_is_sent_as_if_written() -> None:
    s = Script.established()
    assert s.user.write_from(reading(b"0123456789"), 100) == 10
    s.poll()
    s.expect("P. 1:11(10) ack 1")


def test_reading_the_end_sends_nothing() -> None:
    s = Script.established()
    assert s.user.write_from(reading(b""), 100) == 0
    s.poll()
    s.expect_nothing()


def test_full_buffer_is_not_writable_and_asks_to_come_again() -> None:
    s = Script.established(with_options(send_buffer=100, send_buffer_max=0))
    assert s.user.write_from(reading(bytes(500)), 500) == 100
    assert not s.user.ready & WRITABLE
    with pytest.raises(BlockingIOError) as full:
        s.user.write_from(reading(bytes(500)), 500)
    assert full.value.errno == errno.EAGAIN


def test_failure_to_read_leaves_the_connection_as_it_was() -> None:
    def fail(places: list[memoryview]) -> int:
        raise BlockingIOError(errno.EAGAIN, "nothing there")

    s = Script.established()
    with pytest.raises(BlockingIOError):
        s.user.write_from(fail, 100)
    assert len(s.user.snd.buffer) == 0
    s.user.write(b"x")
    s.poll()
    s.expect("P. 1:2(1)")


def test_after_shutdown_nothing_more_is_taken() -> None:
    s = Script.established()
    s.user.shutdown_write()
    with pytest.raises(BrokenPipeError):
        s.user.write_from(reading(b"x"), 1)
