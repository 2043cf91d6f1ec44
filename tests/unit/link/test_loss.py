"""Loss models: their averages, their bursts, their times."""

import random
from itertools import groupby, pairwise

import pytest

from usertcp.link.loss import GilbertElliott, Loss, NoLoss, Outage, RandomLoss
from usertcp.units import MS, SEC

MANY = 200_000


def strikes(config: Loss, count: int = MANY, seed: int = 3) -> list[bool]:
    model = config.start(random.Random(seed))
    assert model is not None
    return [model.loses(n) for n in range(count)]


def runs(lost: list[bool]) -> list[int]:
    return [len(list(group)) for struck, group in groupby(lost) if struck]


@pytest.mark.parametrize("config", [NoLoss(), RandomLoss(0), GilbertElliott(0, 5)])
def test_model_that_loses_nothing_is_none(config: Loss) -> None:
    assert config.start(random.Random(1)) is None


@pytest.mark.parametrize("p", [0.001, 0.01, 0.2])
def test_random_loss_has_its_average_and_no_memory(p: float) -> None:
    lost = strikes(RandomLoss(p))
    assert sum(lost) / MANY == pytest.approx(p, rel=0.15)
    after = [second for first, second in pairwise(lost) if first]
    assert sum(after) / len(after) == pytest.approx(p, abs=0.03)


@pytest.mark.parametrize(("loss", "burst"), [(0.01, 5), (0.01, 20), (0.1, 1), (0.3, 8)])
def test_bursts_have_the_average_loss_and_length_asked_for(loss: float, burst: float) -> None:
    lost = strikes(GilbertElliott(loss, burst))
    assert sum(lost) / MANY == pytest.approx(loss, rel=0.15)
    lengths = runs(lost)
    assert sum(lengths) / len(lengths) == pytest.approx(burst, rel=0.1)
    if burst > 2:
        assert max(lengths) > 2 * burst  # geometric, not constant
        assert min(lengths) == 1


def test_bursts_that_lose_a_part_have_the_average_loss_asked_for() -> None:
    lost = strikes(GilbertElliott(0.05, 20, in_bad=0.5))
    assert sum(lost) / MANY == pytest.approx(0.05, rel=0.15)
    lengths = runs(lost)
    assert 1.5 < sum(lengths) / len(lengths) < 2.5  # two in a row by tossing a coin


def test_bursts_first_frame_is_lost_as_often_as_any() -> None:
    first = [strikes(GilbertElliott(0.25, 10), 1, seed)[0] for seed in range(2000)]
    assert sum(first) / 2000 == pytest.approx(0.25, abs=0.04)


def test_outage_once_loses_all_from_its_start_to_its_end() -> None:
    model = Outage(3 * SEC, 100 * MS).start(random.Random(1))
    assert model is not None
    times = [0, 3 * SEC - 1, 3 * SEC, 3 * SEC + 100 * MS - 1, 3 * SEC + 100 * MS, 4 * SEC]
    assert [model.loses(at) for at in times] == [False, False, True, True, False, False]


def test_outage_with_a_period_comes_again() -> None:
    model = Outage(2 * SEC, MS, 5 * SEC).start(random.Random(1))
    assert model is not None
    lost = [second for second in range(20) if model.loses(second * SEC)]
    assert lost == [2, 7, 12, 17]


@pytest.mark.parametrize("seed", [1, 2])
def test_same_seed_loses_the_same_frames(seed: int) -> None:
    assert strikes(RandomLoss(0.1), 500, seed) == strikes(RandomLoss(0.1), 500, seed)
    assert strikes(RandomLoss(0.1), 500, seed) != strikes(RandomLoss(0.1), 500, seed + 1)


def test_loss_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        RandomLoss(1.5)
    with pytest.raises(ValueError, match=r"between 0 and 0\.5"):
        GilbertElliott(0.6, 5, in_bad=0.5)
    with pytest.raises(ValueError, match="at least 1 frame"):
        GilbertElliott(0.1, 0.5)
    with pytest.raises(ValueError, match="too short"):
        GilbertElliott(0.9, 1)
    with pytest.raises(ValueError, match="before its next"):
        Outage(0, 2 * SEC, SEC)
