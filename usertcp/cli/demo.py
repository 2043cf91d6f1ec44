"""``usertcp demo``: a connection with the kernel's TCP, drawn while it happens."""

from pathlib import Path

import click

from usertcp.cli.options import console, pcap
from usertcp.lab import demo as show
from usertcp.lab.ladder import Ladder, Note, Rung
from usertcp.lab.text import Painter, print_checks


@click.command()
@pcap
def demo(pcap: Path | None) -> int:
    """A handshake, 10 MB each way verified by SHA-256, and the four-way close, against the kernel's TCP.

    Runs in a network namespace of its own and leaves nothing behind. Exit status 1 if a check fails.
    """
    output = console()
    painter = Painter(output)
    begun = False

    def line(entry: Rung | Note) -> None:
        nonlocal begun
        if not begun:
            painter.head(Ladder(show.TITLE))
            begun = True
        painter.line(entry)

    result = show.run(line, pcap)
    print_checks(output, result.checks)
    return 0 if result.holds else 1
