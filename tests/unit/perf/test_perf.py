"""``usertcp perf`` without a network: its words, its two ends over pairs of sockets, and what it prints."""

import socket
import threading
from collections.abc import Iterator
from queue import Queue

import click
import pytest
from click.testing import CliRunner

from usertcp.cli.perf import byte_count, perf
from usertcp.errors import SetupError
from usertcp.perf import protocol
from usertcp.perf.ends import Outcome, measure, serve
from usertcp.perf.protocol import Conn, Control, Half, Plan
from usertcp.perf.report import Intervals, as_json, line, rate, size, summary
from usertcp.perf.roads import Door

SERVER = ("192.0.2.1", 5201)


class Pairs:
    """A road and a door in one: each connection is a pair of AF_UNIX sockets."""

    name = "pairs"

    def __init__(self) -> None:
        self.waiting: Queue[socket.socket] = Queue()
        self.aborted = 0
        self.patience = 10.0

    def connect(self, remote: tuple[str, int], timeout: float) -> Conn:
        ours, theirs = socket.socketpair()
        self.waiting.put(theirs)
        return ours

    def listen(self, port: int) -> Door:
        return self

    def retransmits(self, conn: Conn) -> int:
        return 7

    def abort(self, conn: Conn) -> None:
        self.aborted += 1
        conn.close()

    def accept(self) -> Conn:
        return self.waiting.get(timeout=self.patience)

    def settimeout(self, seconds: float | None) -> None:
        pass

    def close(self) -> None:
        pass


class Serving(threading.Thread):
    """One test, as the server."""

    def __init__(self, road: Pairs) -> None:
        super().__init__(daemon=True)
        self.road = road
        self.tests: list[Plan] = []
        self.outcome: Outcome | None = None
        self.failure: Exception | None = None
        self.start()

    def run(self) -> None:
        try:
            self.outcome = serve(self.road, self.road, lambda *_: None, lambda _, test: self.tests.append(test))
        except Exception as error:
            self.failure = error

    def done(self) -> None:
        self.join(10)
        assert not self.is_alive()


@pytest.fixture
def road() -> Iterator[Pairs]:
    made = Pairs()
    yield made
    while not made.waiting.empty():
        made.waiting.get().close()


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(("streams", "count"), [(1, 1), (1, 1_000_000), (3, 1_000_000), (3, 2)])
def test_bytes_asked_for_are_sent_and_both_ends_agree(road: Pairs, streams: int, count: int, reverse: bool) -> None:
    server = Serving(road)
    seen: list[int] = []
    test = Plan(streams, reverse, 0.0, count, 64 << 10)
    outcome = measure(road, SERVER, test, lambda _, total: seen.append(total))
    server.done()
    assert server.failure is None
    assert server.tests == [test]
    assert server.outcome == outcome
    assert outcome.sender.bytes == outcome.receiver.bytes
    assert sum(outcome.sender.bytes) == count == seen[-1]
    assert outcome.sender.retransmits == [7] * streams
    assert outcome.receiver.retransmits == []


def test_time_asked_for_ends_the_test(road: Pairs) -> None:
    server = Serving(road)
    outcome = measure(road, SERVER, Plan(seconds=0.05), lambda *_: None)
    server.done()
    assert outcome.sender.seconds >= 0.05
    assert outcome.rate > 0


def test_second_client_is_refused_while_streams_are_awaited(road: Pairs) -> None:
    server = Serving(road)
    first = Control(road.connect(SERVER, 1))
    protocol.greet(first.conn, b"a" * 16, 0)
    first.send_test(Plan(bytes=10))
    first.receive("ready")
    with pytest.raises(SetupError, match="another test runs"):
        measure(road, SERVER, Plan(bytes=10), lambda *_: None)
    first.close()
    road.patience = 0
    stream = road.connect(SERVER, 1)
    protocol.greet(stream, b"a" * 16, 1)
    server.done()
    assert isinstance(server.failure, OSError | SetupError)


def test_stranger_at_the_servers_door_is_no_test(road: Pairs) -> None:
    server = Serving(road)
    conn = road.connect(SERVER, 1)
    conn.sendall(b"GET / HTTP/1.0\r\nHost: 192.0.2.1\r\n\r\n")
    server.done()
    assert server.failure is None
    assert server.outcome is None
    assert road.aborted == 1
    conn.close()


def test_stranger_behind_the_servers_address_is_told() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b"HTTP/1.0 400 Bad Request\r\n\r\n")
        with pytest.raises(SetupError, match="does not speak"):
            Control(ours).receive("ready")


@pytest.mark.parametrize("text", [b"[1]", b"{}", b"nonsense", b'{"test": {"streams": 0}}', b'{"test": {"no": 1}}'])
def test_message_that_is_no_test_is_told(text: bytes) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(protocol.LENGTH.pack(len(text)) + text)
        with pytest.raises(SetupError, match="does not speak"):
            Control(ours).receive_test()


def test_end_of_the_control_connection_is_told() -> None:
    ours, theirs = socket.socketpair()
    theirs.close()
    with ours, pytest.raises(SetupError, match="gone away"):
        Control(ours).receive_test()


# --- what is printed ---


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0 bit/s"), (999, "999 bit/s"), (1e3, "1.00 Kbit/s"), (52.34e9, "52.3 Gbit/s"), (999.6e6, "1.00 Gbit/s")],
)
def test_rate_has_three_digits_and_a_prefix(value: float, text: str) -> None:
    assert rate(value) == text


def test_size_has_three_digits_and_a_prefix() -> None:
    assert size(6_540_000_000) == "6.54 GB"


def test_intervals_end_at_multiples_of_their_length() -> None:
    cut = Intervals(1.0)
    assert cut.add(0.5, 10) is None
    assert cut.add(1.1, 20) == (0.0, 1.1, 20)
    assert cut.add(1.9, 30) is None
    assert cut.add(2.0, 30) == (1.1, 2.0, 10)
    assert cut.add(5.5, 40) == (2.0, 5.5, 10)
    assert cut.rows[-1] == (2.0, 5.5, 10)


def test_line_and_summary_name_sizes_rates_and_stacks() -> None:
    assert line((0.0, 1.0, 6_540_000_000)).split() == ["0.00", "-", "1.00", "s", "6.54", "GB", "52.3", "Gbit/s"]
    sender = Half([500, 500], 1.0, [1, 2], 0.5, "usertcp")
    outcome = Outcome(Plan(2), sender, Half([500, 500], 2.0, [], 1.0, "kernel"))
    lines = summary(outcome)
    assert [text.split()[0] for text in lines] == ["stream", "stream", "sender", "receiver"]
    assert "3 retransmitted, usertcp, CPU 50%" in lines[2]
    assert outcome.rate == 4000
    found = as_json(outcome, Intervals(1.0))
    assert found["bits_per_second"] == 4000
    assert found["sender"]["stack"] == "usertcp"


# --- the command line ---


@pytest.mark.parametrize(("text", "count"), [("1", 1), ("128K", 131072), ("2m", 2 << 20), ("1GB", 1 << 30)])
def test_byte_count_takes_prefixes(text: str, count: int) -> None:
    assert byte_count(text) == count


@pytest.mark.parametrize("text", ["0", "-1", "1.5K", "K", "", "1T", "9" * 30])
def test_byte_count_refuses_the_rest(text: str) -> None:
    with pytest.raises(click.BadParameter, match="no number of bytes"):
        byte_count(text)


@pytest.mark.parametrize(
    ("words", "cause"),
    [
        ("", "give -s to wait for clients, or -c HOST"),
        ("-s -c 10.9.0.1", "give -s to wait for clients, or -c HOST"),
        ("-c 10.9.0.1 -t 1 -n 1", "-t or -n"),
        ("-s -R", "the client's to say"),
        ("-c 10.9.0.1 --kernel --tap tap0", "--kernel uses the kernel's own TCP"),
        ("-c 10.9.0.1 -C vegas", "no congestion control: choose from"),
        ("-c 10.9.0.1 -P 0", "-P"),
    ],
)
def test_command_line_that_makes_no_sense_is_a_usage_error(words: str, cause: str) -> None:
    done = CliRunner().invoke(perf, words.split())
    assert done.exit_code == 2
    assert cause in done.output
