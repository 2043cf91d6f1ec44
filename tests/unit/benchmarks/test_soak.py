"""How ``make soak`` judges what its ends say, and what grows."""

import hashlib

import pytest

from benchmarks.soak import Ledger, growing, left_over, trend
from benchmarks.soak_ends import CUT, UNNAMED, WHOLE
from benchmarks.soak_plan import (
    ACCEPTS,
    BOTH,
    CONNECTS,
    HALF,
    RESETS,
    AwaitEnd,
    Finish,
    Plan,
    Reset,
    Send,
    job_of,
    other,
    steps,
)

PLAN = Plan(largest=200_000)


@pytest.mark.parametrize("side", [CONNECTS, ACCEPTS])
def test_steps_send_what_the_job_says_and_end_as_it_says(side: str) -> None:
    endings = set()
    for job in (job_of(PLAN, number) for number in range(200)):
        taken = list(steps(job, side))
        data = b"".join(step.data for step in taken if isinstance(step, Send))
        resets = job.ending == RESETS and job.by == side
        assert len(data) == (round(job.size(side) * job.share) if resets else job.size(side))
        assert job.digest(side, len(data)) == hashlib.sha256(data).hexdigest()
        assert type(taken[-1]) is (Reset if resets else Finish)
        assert any(isinstance(step, AwaitEnd) for step in taken) == (job.ending == HALF and job.by != side)
        endings.add((job.ending, job.by))
    assert len(endings) == 6


def told(number: int, side: str, **words: object) -> dict[str, object]:
    """What an end says of a connection that went as it should, but for ``words``."""
    job, sender = job_of(PLAN, number), other(side)
    whole = job.size(sender)
    said: dict[str, object] = {"number": number, "side": side, "outcome": WHOLE, "received": whole, "again": 0}
    said |= {"sha256": job.digest(sender, whole), "opened": True, "at": 100.0, "seconds": 1.0}
    return said | words


def numbered(ending: str) -> int:
    """A connection that is to end so, with bytes both ways, and from the connecting side if it is one's."""
    jobs = (job_of(PLAN, number) for number in range(1000))
    return next(job.number for job in jobs if job.ending == ending and job.by == CONNECTS and job.up > 9 < job.down)


def judged(*tellings: dict[str, object]) -> list[str]:
    ledger = Ledger(PLAN)
    for each in tellings:
        ledger.note("aio" if each["side"] == CONNECTS else "kernel", each)
    ledger.close()
    return [text.partition(":")[0] for text in ledger.failures]


def test_ledger_what_went_well_is_no_failure() -> None:
    number = numbered(BOTH)
    assert judged(told(number, CONNECTS), told(number, ACCEPTS)) == []
    number = numbered(RESETS)
    reset = "ConnectionResetError: Connection reset by peer"
    assert judged(told(number, CONNECTS, outcome=CUT), told(number, ACCEPTS, outcome=reset)) == []
    unnamed = told(0, ACCEPTS, outcome=reset) | {"number": UNNAMED}
    assert judged(told(number, CONNECTS, outcome=CUT), unnamed) == []


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ({"sha256": "0" * 64}, "mismatch"),
        ({"received": 3}, "mismatch"),
        ({"outcome": "ConnectionResetError: Connection reset by peer"}, "wrong end"),
        ({"outcome": "TimeoutError: Connection timed out"}, "hang"),
        ({"opened": False, "outcome": "OSError: No route to host"}, "not opened"),
    ],
)
def test_ledger_what_went_wrong_is_a_failure_of_its_kind(words: dict[str, object], kind: str) -> None:
    number = numbered(BOTH)
    assert kind in judged(told(number, CONNECTS, **words), told(number, ACCEPTS))


def test_ledger_reset_that_the_other_side_takes_for_the_end_is_a_failure() -> None:
    number = numbered(RESETS)
    assert judged(told(number, CONNECTS, outcome=CUT), told(number, ACCEPTS)) == ["wrong end"]


def test_ledger_side_that_says_nothing_is_a_failure() -> None:
    assert judged(told(numbered(BOTH), CONNECTS)) == ["lost"]


def test_opening_fails_in_an_outage_only() -> None:
    ledger = Ledger(PLAN, outages=[(90.0, 91.0)])
    failed = told(numbered(BOTH), CONNECTS, opened=False, outcome="OSError: No route to host", at=92.0)
    ledger.note("aio", failed)
    assert ledger.failures == []
    ledger.note("aio", failed | {"at": 120.0})
    assert len(ledger.failures) == 1


def samples(*values: float) -> list[dict[str, float]]:
    return [{"at": 5.0 * number, "memory": value} for number, value in enumerate(values)]


def test_growth_is_seen_over_noise_and_a_warm_up_is_none() -> None:
    noise = [0, 900_000, 300_000] * 20
    flat = trend(samples(*range(20_000_000, 40_000_000, 2_000_000), *(40_000_000 + each for each in noise)), "memory")
    leaking = trend(samples(*(40_000_000 + 120_000 * n + each for n, each in enumerate(noise))), "memory")
    assert flat is not None
    assert leaking is not None
    assert not growing("memory", flat)
    assert growing("memory", leaking)
    assert 82e6 < leaking.slope < 92e6  # an hour: 120 kB in 5 s
    assert trend(samples(*range(20)), "memory") is None


def test_what_an_end_still_has_afterwards_is_told() -> None:
    before = {"connections": 0, "ports": 1, "living": 0, "stirred": 0, "descriptors": 8, "threads": 3}
    assert left_over(before, before | {"ports": 0}) == []
    assert left_over(before, before | {"ports": 0, "living": 2, "descriptors": 9}) == [
        "2 living",
        "9 descriptors, 8 before",
    ]
