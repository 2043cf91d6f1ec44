"""``usertcp pkt``: packetdrill scripts, against usertcp in virtual time and against the kernel."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import click

from usertcp.cli.causes import doing
from usertcp.cli.options import seconds_or_zero
from usertcp.pkt.syntax import Script, ScriptError
from usertcp.pkt.target import Target
from usertcp.units import from_seconds

UNREADABLE = 2  # exit status: a script is none


@click.command()
@click.option("--kernel", is_flag=True, help="Against the kernel, behind a TUN in a namespace of its own (root).")
@click.option("--both", is_flag=True, help="Against usertcp, then against the kernel.")
@click.option(
    "--slack",
    type=seconds_or_zero,
    default=0.05,
    show_default=True,
    help="Seconds that the kernel may be early or late beyond a script's tolerance.",
)
@click.argument("files", nargs=-1, required=True, metavar="SCRIPT...", type=click.Path(path_type=Path))
def pkt(files: tuple[Path, ...], kernel: bool, both: bool, slack: float) -> int:
    """Run packetdrill scripts: calls, packets in, packets expected out.

    usertcp runs them in virtual time, at once and to the nanosecond; the kernel in real time. Exit status 1 if a script
    does not hold, 2 if one cannot be read. docs/packetdrill.md describes the language.
    """
    from usertcp.pkt.report import render
    from usertcp.pkt.runner import Runner

    scripts = [_read(path) for path in files]
    if None in scripts:
        return UNREADABLE
    failed = False
    for script in filter(None, scripts):
        for target in _targets(script, usertcp=both or not kernel, kernel=both or kernel, slack=slack):
            with closing(target):
                outcome = Runner(script, target).run()
            click.echo(render(outcome))
            failed |= outcome.failure is not None
    return int(failed)


def _read(path: Path) -> Script | None:
    """The script in a file; None, and a message, if it is none."""
    from usertcp.pkt.parser import parse

    with doing(f"reading {path}"):
        text = path.read_bytes().decode("utf-8", "replace")
    try:
        return parse(text, str(path))
    except ScriptError as error:
        click.echo(f"{path}:{error}", err=True)
        lines = text.splitlines()
        if error.line <= len(lines):
            click.echo(f"    {lines[error.line - 1].expandtabs(1)}\n    {' ' * (error.column - 1)}^", err=True)
        return None


def _targets(script: Script, *, usertcp: bool, kernel: bool, slack: float) -> Iterator[Target]:
    """What to run ``script`` against, each made when it is its turn."""
    if usertcp:
        from usertcp.pkt.virtual import Virtual

        yield Virtual(script.settings)
    if kernel:
        from usertcp.pkt.kernel import Kernel

        yield Kernel(script.settings, from_seconds(slack))
