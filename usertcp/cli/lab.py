"""``usertcp lab``: run scenarios, print their ladders and checks."""

import time
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from usertcp.cli.causes import doing
from usertcp.cli.lab_congestion import congestion
from usertcp.cli.options import console, pcap
from usertcp.lab import svg
from usertcp.lab.registry import SCENARIOS
from usertcp.lab.result import Result, Scenario
from usertcp.lab.text import print_checks, print_ladder

Run = tuple[Scenario, str]  # a scenario and usertcp's role in it


class Lab(click.Command):
    """``lab NAME...`` plays scenarios; ``lab congestion`` is a name like theirs, with options of its own."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        if args[:1] == [congestion.name]:
            return congestion.make_context(f"{info_name} {congestion.name}", args[1:], parent, **extra)
        return super().make_context(info_name, args, parent, **extra)


@click.command(cls=Lab)
@click.option("--all", "all_of_them", is_flag=True, help="Every scenario in every role.")
@click.option("--list", "list_only", is_flag=True, help="Name the scenarios and their roles.")
@click.option("--role", metavar="ROLE", help="Only the runs in which usertcp plays this role.")
@pcap
@click.option(
    "--svg",
    "picture",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Draw the ladder there too.",
)
@click.argument("names", nargs=-1, metavar="[NAME]...")
def lab(
    names: tuple[str, ...],
    all_of_them: bool,
    list_only: bool,
    role: str | None,
    pcap: Path | None,
    picture: Path | None,
) -> int:
    """Run the scenarios NAME against the kernel's TCP in a namespace of their own, in every role they have.

    Each prints a ladder of the segments with both ends' states, and a verdict on every statement. Exit status 1 if one
    does not hold. If there are several runs, --pcap and --svg get the scenario and the role added to the file's name.

    congestion is another kind of experiment: a simulated bottleneck, without root. See usertcp lab congestion -h.
    """
    output = console()
    if list_only:
        _list(output)
        return 0
    runs = _chosen(names, all_of_them, role)
    if picture is not None:
        with doing("drawing the ladder"):
            picture.parent.resolve(strict=True)  # known before the first run, not after it
    verdicts: list[tuple[str, str, Result, float]] = []
    for scenario, played in runs:
        started = time.monotonic()
        result = scenario.run(played, _named(pcap, scenario, played, len(runs)))
        verdicts.append((scenario.name, played, result, time.monotonic() - started))
        print_ladder(output, result.ladder)
        print_checks(output, result.checks)
        drawing = _named(picture, scenario, played, len(runs))
        if drawing is not None:
            with doing("drawing the ladder"):
                drawing.write_text(svg.render(result.ladder), encoding="utf-8")
    _sum_up(output, verdicts)
    return 0 if all(result.holds for _, _, result, _ in verdicts) else 1


def _chosen(names: tuple[str, ...], all_of_them: bool, role: str | None) -> list[Run]:
    """What to run; UsageError for what does not exist."""
    if bool(names) == all_of_them:
        raise click.UsageError("give the name of a scenario, or --all; --list names them")
    for name in names:
        if name == congestion.name:
            raise click.UsageError("congestion stands alone and comes first: usertcp lab congestion")
        if name not in SCENARIOS:
            raise click.UsageError(f"there is no scenario {name!r}; --list names them")
    wanted = [SCENARIOS[name] for name in names] if names else list(SCENARIOS.values())
    runs = [(scenario, played) for scenario in wanted for played in scenario.roles if role in (None, played)]
    if not runs:
        roles = ", ".join(dict.fromkeys(played for scenario in wanted for played in scenario.roles))
        raise click.UsageError(f"no role {role!r}; there is: {roles}")
    return runs


def _named(path: Path | None, scenario: Scenario, role: str, runs: int) -> Path | None:
    if path is None or runs == 1:
        return path
    return path.with_name(f"{path.stem}-{scenario.name}-{role}{path.suffix}")


def _list(output: Console) -> None:
    table = Table(box=None, pad_edge=False)
    for heading in ("scenario", "usertcp as", "what happens"):
        table.add_column(heading, no_wrap=heading == "scenario")
    for scenario in SCENARIOS.values():
        table.add_row(scenario.name, ", ".join(scenario.roles), scenario.summary)
    table.add_row("congestion", "sender", "algorithms on one simulated bottleneck; has a --help of its own")
    output.print(table)


def _sum_up(output: Console, verdicts: list[tuple[str, str, Result, float]]) -> None:
    """One line a run, and one for all."""
    output.print()
    for name, role, result, seconds in verdicts:
        held = sum(check.holds for check in result.checks)
        mark = "[green]✓[/]" if result.holds else "[bold red]✗[/]"
        output.print(f"{mark} {name:20} {role:9} {held:3} of {len(result.checks)} checks  {seconds:5.1f} s")
    bad = sum(not result.holds for _, _, result, _ in verdicts)
    output.print(f"{len(verdicts)} runs, {bad} failed" if bad else f"{len(verdicts)} runs, all hold")
