"""``usertcp lab congestion``: a name of its own beside the scenarios, its options, its table and its file."""

import sys
from pathlib import Path

import pytest

from usertcp.cli import group as program
from usertcp.cli import lab_congestion
from usertcp.cli.lab_congestion import QueueChoice, queue_choice
from usertcp.link.queue import DropTail
from usertcp.link.queue_codel import CoDel
from usertcp.link.queue_red import Red

QUICK = ["lab", "congestion", "--cc", "reno", "--rate", "2M", "--seconds", "1"]


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What is said of a command line that is wrong."""
    assert program.run([*QUICK, *arguments]) == 2
    return capsys.readouterr().err


def test_congestion_prints_a_row_for_the_algorithm(capsys: pytest.CaptureFixture[str]) -> None:
    assert program.run(QUICK) == 0
    text = capsys.readouterr().out
    assert "2 Mbit/s, RTT 50 ms, droptail of 1 BDP" in text
    for word in ("reno", "goodput", "sent again", "queue, 95 %", "Jain", "Mbit/s"):
        assert word in text


def test_congestion_rules_are_named_in_the_title(capsys: pytest.CaptureFixture[str]) -> None:
    rules = ["--loss", "1%", "--burst", "4", "--ack-loss", "0.2", "--reorder", "5%", "--queue", "codel:3"]
    assert program.run([*QUICK, *rules, "--rtt", "0.02", "--seed", "3"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "RTT 20 ms, codel of 3 BDP, loss 1 %, ACK loss 20 %, reordering 5 %, in bursts of 4" in text


def test_congestion_with_ecn_marks_instead_of_dropping(capsys: pytest.CaptureFixture[str]) -> None:
    assert program.run([*QUICK, "--queue", "codel:20", "--ecn", "--seconds", "4"]) == 0
    heading, row = (" ".join(line.split()) for line in capsys.readouterr().out.splitlines()[1:3])
    assert heading.endswith("dropped marked Jain")
    dropped, marked = row.split()[-2:]
    assert dropped == "0"
    assert int(marked) > 5


def test_congestion_together_has_one_total_and_a_row_for_each_flow(capsys: pytest.CaptureFixture[str]) -> None:
    assert program.run([*QUICK, "--cc", "reno,reno", "--together", "--flows", "2"]) == 0
    lines = [line.split()[:2] for line in capsys.readouterr().out.splitlines()]
    assert ["reno", "+"] in lines
    assert [["reno", str(n)] in lines for n in range(1, 6)] == [True] * 4 + [False]


def test_congestion_same_seed_prints_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    outputs = set()
    for seed in ("5", "5", "6"):
        assert program.run([*QUICK, "--loss", "3%", "--seed", seed]) == 0
        outputs.add(capsys.readouterr().out)
    assert len(outputs) == 2


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_congestion_draws_to_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str], suffix: str) -> None:
    path = tmp_path / f"picture{suffix}"
    assert program.run([*QUICK, "--out", str(path)]) == 0
    assert path.stat().st_size > 10_000
    assert "drawn" in capsys.readouterr().out


def test_congestion_without_matplotlib_says_so_before_it_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setattr(lab_congestion, "Experiment", None)
    assert program.run([*QUICK, "--out", str(tmp_path / "a.png")]) == 1
    error = capsys.readouterr().err
    assert error.startswith("usertcp: drawing needs matplotlib")
    assert "pip install 'usertcp[plot]'" in error


def test_congestion_to_a_folder_that_is_not_there_says_so_before_it_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lab_congestion, "Experiment", None)
    assert program.run([*QUICK, "--out", str(tmp_path / "nowhere" / "a.png")]) == 1
    assert "drawing: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("--cc", "renox", "there is no 'renox'; there is: "),
        ("--cc", ",", "name at least one"),
        ("--rate", "fast", "is no rate"),
        ("--rate", "1", "is no rate"),
        ("--loss", "200%", "is no share"),
        ("--loss", "some", "is no share"),
        ("--queue", "fifo", "is no queue"),
        ("--queue", "codel:0", "is no queue"),
        ("--queue", "red:x", "is no queue"),
        ("--out", "a.pdf", "must end in .png or .svg"),
        ("--burst", "3", "give --loss, too"),
        ("--ecn", "--seed=1", "give --queue codel or red"),
        ("--rtt", "never", "is no time"),
    ],
)
def test_congestion_option_that_makes_no_sense_is_a_usage_error(
    capsys: pytest.CaptureFixture[str], option: str, value: str, says: str
) -> None:
    assert says in refused(capsys, option, value)


def test_bursts_too_short_for_the_loss_are_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert "too short" in refused(capsys, "--loss", "80%", "--burst", "1")


def test_congestion_has_a_help_of_its_own_and_lab_names_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert program.run(["lab", "congestion", "--help"]) == 0
    assert "Usage: usertcp lab congestion [OPTIONS]" in capsys.readouterr().out
    assert program.run(["lab", "--help"]) == 0
    text = capsys.readouterr().out
    assert "Usage: usertcp lab [OPTIONS] [NAME]..." in text
    assert "usertcp lab congestion -h" in text
    assert program.run(["lab", "--list"]) == 0
    assert "\ncongestion " in capsys.readouterr().out


def test_congestion_among_scenarios_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert program.run(["lab", "handshake", "congestion"]) == 2
    assert "usertcp lab congestion" in capsys.readouterr().err


def test_queue_is_sized_by_the_bandwidth_delay_product() -> None:
    assert QueueChoice("droptail", 1.5).over(100_000) == DropTail(150_000)
    assert QueueChoice("codel", 2).over(100_000) == CoDel(limit=200_000)
    assert QueueChoice("red", 3).over(100_000) == Red(25_000, 150_000, weight=1514 / 400_000, limit=300_000)
    assert queue_choice("codel") == QueueChoice("codel", 4.0)
    assert QueueChoice("droptail", 1).over(10) == DropTail(3000)  # room for a frame at least
