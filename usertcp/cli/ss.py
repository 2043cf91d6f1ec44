"""``usertcp ss``: the connections of running stacks, asked over their control sockets."""

import errno
import json
from typing import Any, Final

import click
from rich.markup import escape
from rich.table import Table

from usertcp.cli.causes import doing
from usertcp.cli.host import say
from usertcp.cli.options import console
from usertcp.driver import control
from usertcp.driver.origin import BRIEF
from usertcp.errors import SetupError
from usertcp.units import MS, SEC

WIDTH: Final = 300 + BRIEF  # columns: more than the longest numbers and places need
GONE: Final = (errno.ENOENT, errno.ECONNREFUSED, errno.ECONNABORTED)  # says who asks a stack that has ended
NUMBERS: Final = (
    "recv-q",
    "send-q",
    "age",
    "idle",
    "peer closed",
    "cwnd",
    "rtt/min",
    "rto",
    "rate",
    "in",
    "out",
    "retrans",
    "in vain",
)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print the answers as JSON.")
@click.option("--stats", is_flag=True, help="Show what was counted instead: frames, segments, drops by reason.")
@click.argument("name", required=False)
def ss(name: str | None, stats: bool, as_json: bool) -> None:
    """Show the sockets of the stack NAME, or of all running ones, and what device each is on."""
    running = control.stacks()
    if name is not None and name not in running:
        known = (
            f"what runs: {', '.join(running)}" if running else "none is running: start one, as with usertcp nc -l 9000"
        )
        raise SetupError(f"no stack is called {name!r}", known)
    names = [name] if name is not None else running
    answers: dict[str, Any] = {}
    for each in names:
        answer = _asked(each, "stats" if stats else "snapshot", among_others=name is None)
        if answer is not None:
            answers[each] = answer
    if as_json:
        click.echo(json.dumps(answers, indent=2))
        return
    if not answers:
        click.echo("no stack is running")
    for each, answer in answers.items():
        link = _asked(each, "link", among_others=name is None)
        if link is not None:
            title = f"{each} on {link}"
            console(width=WIDTH).print(_counters(title, answer) if stats else _table(title, answer))


def _asked(name: str, command: str, *, among_others: bool) -> Any:
    """The answer of a stack. None: it has ended since it was found, or does not answer, ``among_others`` who do."""
    try:
        with doing(f"asking the stack {name}"):
            return control.query(name, command)
    except SetupError as error:
        if not among_others:
            raise
        if not isinstance(error.__cause__, OSError) or error.__cause__.errno not in GONE:
            say(f"usertcp: warning: {error.cause}")
        return None


def _counters(title: str, counted: dict[str, int]) -> Table:
    """One stack's counters; drops that never happened are left out."""
    table = _bare(title)
    table.add_column("counter", no_wrap=True)
    table.add_column("", justify="right", no_wrap=True)
    for counter, value in counted.items():
        table.add_row(counter, f"{value:,}")
    return table


def _bare(title: str) -> Table:
    return Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)


def _table(title: str, rows: list[dict[str, Any]]) -> Table:
    """One stack's sockets, listeners first. ``rate`` is the newest sample of what the network delivers, ``in vain`` how
    many retransmissions the peer says it did not need, ``held by`` what else than the network stood in the way. In
    CLOSE-WAIT it is the program that has not closed: ``peer closed`` says since when, ``opened at`` where to look."""
    table = _bare(title)
    for heading in ("state", "local", "remote"):
        table.add_column(heading, no_wrap=True)
    for heading in NUMBERS:
        table.add_column(heading, justify="right", no_wrap=True)
    for heading in ("control", "held by", "opened at"):
        table.add_column(heading, no_wrap=True)
    for row in rows:
        table.add_row(*_cells(row))
    return table


def _cells(row: dict[str, Any]) -> list[str]:
    """One socket; what a listener has not is left empty."""
    cells = [row["state"], _address(row["local"]), _address(row["remote"]), str(row["receive_queue"])]
    cells.append(str(row["send_queue"]))
    if "age" not in row:
        return cells
    cells += [f"{row[key] / SEC:.1f} s" for key in ("age", "idle")]
    cells.append("" if row["finished"] is None else f"{row['finished'] / SEC:.1f} s ago")
    cells.append(f"{row['cwnd']:,}")
    cells.append(f"{row['srtt'] / MS:.1f}/{row['min_rtt'] / MS:.1f} ms")
    cells.append(f"{row['rto'] / MS:.1f} ms")
    at_least = "≥" if row["delivery_app_limited"] else ""
    cells.append(f"{at_least}{row['delivery_rate'] * 8 / 1e6:.1f} Mbit/s" if row["delivery_rate"] else "")
    cells += [f"{row[key]:,}" for key in ("bytes_received", "bytes_acked", "retransmissions", "dsacks_received")]
    cells.append(row["congestion"] if row["phase"] == "OPEN" else f"{row['congestion']} {row['phase']}")
    cells.append(_held_by(row))
    cells.append(escape(row["opened_by"][-BRIEF:]))
    return cells


def _held_by(row: dict[str, Any]) -> str:
    """The parts of the busy time in which the peer's window, or the send buffer, was the limit."""
    busy = max(row["busy_time"], 1)
    shares = {"window": row["window_limited_time"] * 100 // busy, "buffer": row["buffer_limited_time"] * 100 // busy}
    return ", ".join(f"{name} {share} %" for name, share in shares.items() if share)


def _address(pair: Any) -> str:
    return f"{pair[0]}:{pair[1]}" if pair else "*"
