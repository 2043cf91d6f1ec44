"""What a measurement looks like: a line an interval, the streams and their sum at the end, or all of it as JSON."""

from dataclasses import asdict
from typing import Any, Final

from usertcp.perf.ends import Outcome

PREFIXES: Final = ("", "K", "M", "G", "T")


def rate(bits: float) -> str:
    """`52.3 Gbit/s`, in steps of a thousand."""
    return f"{_scaled(bits)}bit/s"


def size(count: float) -> str:
    """`6.54 GB`, in steps of a thousand."""
    return f"{_scaled(count)}B"


def _scaled(value: float) -> str:
    step = 0
    while value >= 999.5 and step < len(PREFIXES) - 1:
        value, step = value / 1000, step + 1
    digits = 0 if not step or value >= 100 else 1 if value >= 10 else 2
    return f"{value:.{digits}f} {PREFIXES[step]}"


class Intervals:
    """Cuts what a test has done so far into intervals. ``rows``: (start, end, bytes) of each that is over."""

    def __init__(self, length: float) -> None:
        self.length = length  # seconds
        self.rows: list[tuple[float, float, int]] = []
        self._before = (0.0, 0)
        self._next = length

    def add(self, elapsed: float, total: int) -> tuple[float, float, int] | None:
        """So much after so many seconds; the interval that is over by it, if one is."""
        if elapsed < self._next:
            return None
        began, count = self._before
        row = (began, elapsed, total - count)
        self.rows.append(row)
        self._before = (elapsed, total)
        self._next = (elapsed // self.length + 1) * self.length
        return row


def line(row: tuple[float, float, int], what: str = "", more: str = "") -> str:
    """An interval, or a whole test, as text."""
    began, ended, count = row
    bits = count * 8 / (ended - began) if ended > began else 0.0
    return f"{what:<10}{began:7.2f} - {ended:6.2f} s  {size(count):>9}  {rate(bits):>12}  {more}".rstrip()


def summary(outcome: Outcome) -> list[str]:
    """The end of a test: each stream if there are several, and what both ends counted."""
    lines = []
    sender, receiver = outcome.sender, outcome.receiver
    if len(receiver.bytes) > 1:
        for number, count in enumerate(receiver.bytes, 1):
            lines.append(line((0.0, receiver.seconds, count), f"stream {number}"))
    resent = f"{sum(sender.retransmits):,} retransmitted"
    lines.append(line((0.0, sender.seconds, sum(sender.bytes)), "sender", f"{resent}, {_ends(sender)}"))
    lines.append(line((0.0, receiver.seconds, sum(receiver.bytes)), "receiver", _ends(receiver)))
    return lines


def _ends(half: Any) -> str:
    share = half.cpu / half.seconds if half.seconds else 0.0
    return f"{half.stack}, CPU {share:.0%}"


def as_json(outcome: Outcome, intervals: Intervals) -> dict[str, Any]:
    """All that is known about a test. Times in seconds, rates in bits a second."""
    rows = [
        {"start": began, "end": ended, "bytes": count, "bits_per_second": count * 8 / (ended - began)}
        for began, ended, count in intervals.rows
        if ended > began
    ]
    return {
        "test": asdict(outcome.test),
        "intervals": rows,
        "sender": asdict(outcome.sender),
        "receiver": asdict(outcome.receiver),
        "bits_per_second": outcome.rate,
    }
