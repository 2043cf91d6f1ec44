"""Trouble that ends nothing, told to the user while it lasts: RFC 9293 §3.8.3 and §3.9.1.8."""

import errno

import pytest

from tests.support.script import ISS, PLAIN, Script, with_options
from usertcp.tcp.state import FAILED, REPORTED, SOFT, UNREACHABLE_HOST, UNREACHABLE_NET, UNREACHABLE_PORT, State
from usertcp.units import MASK32, SEC


def waiting(**changes: bool) -> Script:
    """Five bytes are on their way."""
    s = Script.established(with_options(**changes))
    s.write(b"hello")
    s.take()
    return s


def icmp(s: Script, kind: int, number: int = 1) -> None:
    s.user.on_unreachable(kind, ISS + number & MASK32, 0, s.now)
    s.poll()


def reported(s: Script) -> int | None:
    """The errno of what is reported, once."""
    report = s.user.take_report()
    return report.errno if report is not None else None


@pytest.mark.rfc(9293, "MUST-47")
@pytest.mark.parametrize(
    ("kind", "number"),
    [
        (UNREACHABLE_NET, errno.ENETUNREACH),
        (UNREACHABLE_HOST, errno.EHOSTUNREACH),
        (UNREACHABLE_PORT, errno.ECONNREFUSED),
        (SOFT, errno.EHOSTUNREACH),
    ],
)
def test_established_icmp_error_is_reported_at_once_and_the_stream_goes_on(kind: int, number: int) -> None:
    s = waiting()
    before = len(s.host.notified)
    icmp(s, kind)
    assert s.host.notified[before:] == [s.user]
    assert s.user.ready & (REPORTED | FAILED) == REPORTED
    assert reported(s) == number
    assert not s.user.ready & REPORTED
    assert reported(s) is None
    s.peer("P. 1:6(5) ack 6 win 1000", payload=b"world")
    assert s.read() == b"world"
    s.expect_state(State.ESTABLISHED)


@pytest.mark.rfc(9293, "MUST-47")
def test_each_error_is_reported_though_the_one_before_was_not_looked_at() -> None:
    s = waiting()
    icmp(s, UNREACHABLE_HOST)
    before = len(s.host.notified)
    icmp(s, UNREACHABLE_NET)
    assert s.host.notified[before:] == [s.user]
    assert reported(s) == errno.ENETUNREACH


@pytest.mark.rfc(9293, "MUST-47")
def test_syn_sent_soft_error_is_reported() -> None:
    s = Script.opening()
    icmp(s, UNREACHABLE_HOST, 0)
    assert reported(s) == errno.EHOSTUNREACH
    s.expect_state(State.SYN_SENT)


@pytest.mark.rfc(9293, "MUST-47")
def test_next_hop_that_does_not_answer_is_reported() -> None:
    s = waiting()
    s.user.on_path_failed(s.now)
    assert reported(s) == errno.EHOSTUNREACH
    s.expect_state(State.ESTABLISHED)


@pytest.mark.rfc(9293, "MUST-47")
def test_error_about_what_was_never_sent_is_not_reported() -> None:
    s = waiting()
    icmp(s, UNREACHABLE_HOST, 6)
    assert reported(s) is None


@pytest.mark.rfc(9293, "SHLD-9")
@pytest.mark.parametrize("opening", [False, True])
def test_r1_is_reported_once_and_long_before_r2(opening: bool) -> None:
    s = Script.opening() if opening else waiting()
    for _ in range(PLAIN.r1):
        assert reported(s) is None
        s.advance_to_next_deadline()
    assert reported(s) == errno.ETIMEDOUT
    s.advance(60 * SEC)
    assert reported(s) is None
    s.expect_state(State.SYN_SENT if opening else State.ESTABLISHED)


@pytest.mark.rfc(9293, "SHLD-9")
def test_r1_after_progress_is_reported_anew() -> None:
    s = waiting()
    for left in (1, 2):
        s.advance(400 * SEC)
        assert reported(s) == errno.ETIMEDOUT
        s.peer(f". 1:1(0) ack {1 + left} win 1000")


@pytest.mark.rfc(9293, "SHLD-20")
def test_reports_switched_off_nothing_is_told_and_the_reason_is_kept() -> None:
    s = waiting(reports=False)
    before = len(s.host.notified)
    icmp(s, UNREACHABLE_HOST)
    s.advance(10 * SEC)
    assert len(s.host.notified) == before
    assert reported(s) is None
    assert s.user.soft_error is not None


@pytest.mark.rfc(9293, "SHLD-20")
def test_reports_switched_on_the_living_connection_are_told_from_then_on() -> None:
    s = waiting(reports=False)
    s.user.configure(reports=True)
    icmp(s, UNREACHABLE_HOST)
    assert reported(s) == errno.EHOSTUNREACH
