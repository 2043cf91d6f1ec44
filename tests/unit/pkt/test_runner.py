"""The runner against usertcp: that a script which does not hold fails, and what is told of it."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usertcp.pkt.parser import parse
from usertcp.pkt.report import render
from usertcp.pkt.runner import Failure, Runner
from usertcp.pkt.syntax import ScriptError
from usertcp.pkt.virtual import Virtual

SCRIPTS = sorted((Path(__file__).parents[2] / "packetdrill").glob("*.pkt"))

OPEN = """0 socket(..., SOCK_STREAM, IPPROTO_TCP) = 3
+0 bind(3, ..., ...) = 0
+0 listen(3, 1) = 0
+0 < S 0:0(0) win 32000 <mss 1000>
+0 > S. 0:0(0) ack 1 <mss 1460>
+.1 < . 1:1(0) ack 1 win 32000
+0 accept(3, ..., ...) = 4
"""


def failure_of(text: str) -> Failure | None:
    script = parse(OPEN + text, "x.pkt")
    return Runner(script, Virtual(script.settings)).run().failure


def holds(text: str) -> None:
    failure = failure_of(text)
    assert failure is None, failure


@pytest.mark.parametrize(
    ("expected", "fields"),
    [
        ("+0 > P. 1:101(100) ack 1", []),
        ("+0 > P. 1:101(100) ack 1 win 65535", []),
        ("+.004 > P. 1:101(100) ack 1", []),
        ("+.005 > P. 1:101(100) ack 1", ["time"]),
        ("+.1~+.2 > P. 1:101(100) ack 1", ["time"]),
        ("+0 > . 1:101(100) ack 1", ["flags"]),
        ("+0 > P. 2:102(100) ack 1", ["seq"]),
        ("+0 > P. 1:102(101) ack 1", ["seq"]),
        ("+0 > P. 1:101(100) ack 2", ["ack"]),
        ("+0 > P. 1:101(100) ack 1 win 1", ["win"]),
        ("+0 > P. 1:101(100) ack 1 urg 1", ["urg"]),
        ("+0 > P. 1:101(100) ack 1 <nop,nop,sackOK>", ["options"]),
        ("+0 > [ect0] P. 1:101(100) ack 1", ["ecn"]),
        ("+0 > [tos 4] P. 1:101(100) ack 1", ["tos"]),
        ("+0 > [ttl 63] P. 1:101(100) ack 1", ["ttl"]),
        ("+0 > [ttl 64, noecn, port 8080] P. 1:101(100) ack 1", []),
    ],
)
def test_segment_is_compared_field_by_field(expected: str, fields: list[str]) -> None:
    failure = failure_of(f"+0 write(4, ..., 100) = 100\n{expected}")
    assert (failure is not None) == bool(fields)
    if failure is not None:
        assert [each.name for each in failure.fields if each.differs] == fields
        assert failure.line == 9


def test_segment_of_another_connection_is_told_from_this_one() -> None:
    failure = failure_of("+0 write(4, ..., 100) = 100\n+0 > [port 9000] P. 1:101(100) ack 1")
    assert failure is not None
    assert "port" in failure.reason


def test_what_was_not_expected_fails_the_next_event_at_a_later_time() -> None:
    failure = failure_of("+0 write(4, ..., 100) = 100\n+.1 < . 1:1(0) ack 101 win 32000")
    assert failure is not None
    assert "unexpected segment" in failure.reason
    assert "P. 1:101(100)" in failure.reason


def test_what_does_not_come_is_missed() -> None:
    failure = failure_of("+0 > . 1:1(0) ack 1")
    assert failure is not None
    assert "nothing was sent until 0.1" in failure.reason


def test_one_expected_segment_stands_for_several() -> None:
    holds("+0 write(4, ..., 2500) = 2500\n+0 > P. 1:2501(2500) ack 1")
    failure = failure_of("+0 write(4, ..., 2500) = 2500\n+0 > P. 1:3001(3000) ack 1")
    assert failure is not None
    assert "seq" in failure.reason


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        ("+0 write(4, ..., 100) = 99", "the call gave 100"),
        ("+0 write(4, ..., 100) = -1 EPIPE", "the call gave 100"),
        ("+0 accept(3, ..., ...) = 5", "the call blocks"),
        ("+0 read(5, ..., 1) = 1", "-1 EBADF"),
        ("+0 socket(..., SOCK_STREAM, 0) = 4", "in use"),
        ("+0 socket(..., SOCK_STREAM, 0) = -1 EMFILE", "gave a descriptor"),
        ("+0 getsockopt(4, IPPROTO_TCP, TCP_NODELAY, [1], [4]) = 0", "it gave [0]"),
        ("+0 poll([{fd=4, events=POLLOUT, revents=POLLIN}], 1, 0) = 1", "POLLOUT"),
        ("+0 ioctl(4, SIOCINQ, [5]) = 0", "it gave [0]"),
        ("+0 ioctl(4, 5, [5]) = 0", "SIOCINQ"),
        ("+0 setsockopt(4, 1, 2, ..., 4) = 0", "[1]"),
        ("+0 write(4, ..., 99999999999) = 1", "a buffer has"),
        ("+0 read(4, ..., -1) = 1", "a buffer has"),
        ('+0 connect(4, {sin_addr = inet_addr("1.2")}, ...) = 0', "no IPv4 address"),
        ("+0 connect(4, {sin_port = htons(70000)}, ...) = 0", "a port lies"),
        ("+0...0.2 read(4, ..., 5) = 5\n+.1 < P. 1:6(5) ack 1 win 32000\n+.04 > . 1:1(0) ack 6", "expected at 0.3"),
        ("+0...0.1 read(4, ..., 5) = 5\n+.2 < P. 1:6(5) ack 1 win 32000", "has not returned"),
        ("+0...0.1 read(4, ..., 5) = 5", "has not returned"),
        ('+0 < P. 1:6(5) ack 1 win 32000\n+0~+.04 > . 1:1(0) ack 6\n+0 read(4, "hello", 5) = 5', "it read b'"),
        ("+0 %{ assert tcpi_unacked == 1 }%", "tcpi_unacked is 0"),
        ("+0 %{ assert 1 // tcpi_unacked }%", "zero"),
        ("+0 close(4) = 0\n+0 %{ assert tcpi_state }%", "no connection"),
    ],
)
def test_call_is_held_to_its_outcome(call: str, reason: str) -> None:
    failure = failure_of(call)
    assert failure is not None
    assert reason in failure.reason


def test_assertion_is_told_by_its_own_line() -> None:
    failure = failure_of("+0 %{\nassert tcpi_unacked == 0\nassert tcpi_snd_mss == 5\n}%")
    assert failure is not None
    assert failure.line == 10


def test_report_shows_both_segments_what_happened_and_the_state() -> None:
    script = parse(OPEN + "+0 write(4, ..., 100) = 100\n+0 > P. 1:101(100) ack 7 // why", "x.pkt")
    text = render(Runner(script, Virtual(script.settings)).run())
    assert "x.pkt:9: on usertcp: the segment differs in ack\n    > P. 1:101(100) ack 7\n" in text
    assert re.search(r"\n  \* ack +7 +1\n", text)
    assert re.search(r"\n +0\.100000  write\(4, \.\.\., 100\) = 100\n", text)
    assert "then: ESTABLISHED, snd_mss 1000" in text


def test_hours_pass_at_once_and_every_run_is_the_same() -> None:
    text = "+0 setsockopt(4, SOL_SOCKET, SO_KEEPALIVE, [1], 4) = 0\n+7200 > . 0:0(0) ack 1\n+.1 < . 1:1(0) ack 1 win 9"
    runs = []
    for _ in range(2):
        script = parse(OPEN + text)
        target = Virtual(script.settings)
        assert Runner(script, target).run().failure is None
        runs.append(target.now())
    assert runs[0] == runs[1] > 7200 * 10**9


def test_shell_is_not_run_and_settings_are_understood() -> None:
    script = parse(
        "0 `false`\n+0 `sysctl -q net.ipv4.tcp_sack=0 net.ipv4.tcp_timestamps=0`\n" + OPEN.replace("0 s", "+0 s", 1)
    )
    assert Runner(script, Virtual(script.settings)).run().failure is None
    active = parse(
        """`sysctl -w net.ipv4.tcp_timestamps=0`
        0 socket(..., SOCK_STREAM|SOCK_NONBLOCK, 0) = 3
        +0 connect(3, ..., ...) = -1 EINPROGRESS
        +0 > S 0:0(0) <mss 1460,nop,nop,sackOK,nop,wscale 10>"""
    )
    assert Runner(active, Virtual(active.settings)).run().failure is None


LINES = sorted({line for path in SCRIPTS for line in path.read_text().split("\n") if line[:1] in "0+*" and line})


@given(st.lists(st.sampled_from(LINES), max_size=12))
def test_no_order_of_lines_upsets_the_runner(lines: list[str]) -> None:
    try:
        script = parse("\n".join(["+0 `x`", *lines]))
    except ScriptError:  # half of an assertion
        return
    outcome = Runner(script, Virtual(script.settings)).run()
    assert render(outcome)


def test_event_of_the_other_target_is_left_out() -> None:
    holds("kernel: +5 > R 1:1(0)\nusertcp: +0 write(4, ..., 1) = 1\n+0 > P. 1:2(1) ack 1")


def test_every_script_crosses_the_wrap_of_the_peers_numbers() -> None:
    lines = [
        f"+0 < . {at}:{at + 1000}(1000) ack 1 win 32000\n+0~+.04 > . 1:1(0) ack {at + 1000}"
        for at in range(1, 6001, 1000)
    ]
    holds("\n".join([*lines, "+0 read(4, ..., 9000) = 6000"]))
