"""``usertcp perf``: how fast a stream of bytes goes, in iperf3's manner."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import click
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from usertcp.blocking import Listener
from usertcp.cli.causes import describe, doing
from usertcp.cli.host import open_host, say, whereabouts
from usertcp.cli.options import console, device_options, seconds
from usertcp.driver.open import LinkSpec
from usertcp.errors import SetupError
from usertcp.perf.ends import Outcome, measure, serve
from usertcp.perf.protocol import LARGEST, PORT, STREAMS, Conn, Plan
from usertcp.perf.report import Intervals, as_json, line, rate, summary
from usertcp.perf.roads import Kernel, Ours, Road
from usertcp.tcp.cc import registry
from usertcp.tcp.config import TcpConfig

UNITS: Final = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
SECONDS: Final = 10.0


def byte_count(text: str | int) -> int:
    """A type of option: a number of bytes, with K, M or G for powers of 1024 as iperf3 has them."""
    word = str(text).lower().removesuffix("b")
    number, unit = (word[:-1], word[-1]) if word[-1:] in ("k", "m", "g") else (word, "")
    if not number.isdecimal() or not 0 < int(number) * UNITS[unit] < 1 << 62:
        raise click.BadParameter(f"{text!r} is no number of bytes: write one like 131072, 128K or 1G")
    return int(number) * UNITS[unit]


def piece(text: str | int) -> int:
    """The same, of what is handed in at a time."""
    count = byte_count(text)
    if count > LARGEST:
        raise click.BadParameter(f"{text!r} is too much for one write: at most {LARGEST >> 30}G")
    return count


@click.command()
@click.option("-s", "--server", is_flag=True, help="Wait for clients.")
@click.option("-c", "--client", metavar="HOST", help="Measure to the server on HOST.")
@click.option("-p", "--port", type=click.IntRange(1, 65535), default=PORT, show_default=True, help="Of the server.")
@click.option("-1", "--one-off", is_flag=True, help="Server: end after one test.")
@click.option("-R", "--reverse", is_flag=True, help="The server sends, and the client receives.")
@click.option("-P", "--parallel", type=click.IntRange(1, STREAMS), default=1, metavar="N", help="Connections at once.")
@click.option("-t", "--time", "duration", type=seconds, metavar="SECONDS", help="To send for.  [default: 10]")
@click.option("-n", "--bytes", "count", type=byte_count, metavar="BYTES[KMG]", help="To send, instead of a time.")
@click.option("-l", "--length", type=piece, default="256K", metavar="BYTES[KMG]", help="Of one write or read.")
@click.option("-i", "--interval", type=seconds, default=1.0, metavar="SECONDS", help="Between two lines.")
@click.option("-C", "--congestion", metavar="NAME", default="", help="Congestion control of what we send.")
@click.option("-J", "--json", "as_text", is_flag=True, help="Print the result as JSON, and nothing else.")
@click.option("--kernel", is_flag=True, help="Use the kernel's TCP instead (in --netns): what ours is compared with.")
@device_options
def perf(
    spec: LinkSpec,
    server: bool,
    client: str | None,
    port: int,
    one_off: bool,
    reverse: bool,
    parallel: int,
    duration: float | None,
    count: int | None,
    length: int,
    interval: float,
    congestion: str,
    as_text: bool,
    kernel: bool,
) -> None:
    """Measure how many bytes a second go from a client to a server (with -R: back), both of them usertcp perf.

    Either end may use usertcp's stack or, with --kernel, the kernel's.
    """
    if server == (client is not None):
        raise click.UsageError("give -s to wait for clients, or -c HOST to measure to a server")
    if duration is not None and count is not None:
        raise click.UsageError("give -t or -n, not both")
    if server and (reverse or parallel > 1 or duration is not None or count is not None):
        raise click.UsageError("-R, -P, -t and -n are the client's to say")
    show = _Show(interval, quiet=as_text)
    with _road(spec, port if server else None, kernel, congestion) as road:
        if client is None:
            _serve(road, port, show, one_off)
            return
        wanted = SECONDS if duration is None and count is None else duration or 0.0
        test = Plan(parallel, reverse, wanted, count or 0, length)
        with doing(f"measuring to {client} port {port}"), show.progress(test) as watch:
            outcome = measure(road, (client, port), test, watch)
        show.end(outcome)


@contextmanager
def _road(spec: LinkSpec, port: int | None, kernel: bool, congestion: str) -> Iterator[Road]:
    """The stack that was asked for. ``port``: the one that is listened on."""
    if kernel:
        if spec != LinkSpec(netns=spec.netns):
            raise click.UsageError("--kernel uses the kernel's own TCP: of the device's options only --netns is for it")
        yield Kernel(spec.netns, congestion)
        return
    if congestion and congestion not in registry.NAMES:
        raise click.UsageError(f"{congestion!r} is no congestion control: choose from {', '.join(registry.NAMES)}")
    tcp = TcpConfig(congestion=congestion) if congestion else None
    with open_host(spec, listen=port, tcp=tcp) as host:
        yield Ours(host)


def _serve(road: Road, port: int, show: "_Show", one_off: bool) -> None:
    """Plan after test; what goes wrong in one is told, and the next may come."""
    with doing(f"listening on port {port}"):
        door = road.listen(port)
    where = (
        whereabouts(road.host, door)
        if isinstance(road, Ours) and isinstance(door, Listener)
        else f"port {port} of the kernel"
    )
    say(f"listening on {where}")
    try:
        while True:
            try:
                with show.progress(None) as watch:
                    outcome = serve(road, door, watch, show.began)
            except (SetupError, OSError) as error:
                if one_off:
                    raise
                cause, cure = describe(error) or ("", "")
                say(f"the test ended early: {cause}" + (f"\n  {cure}" if cure else ""))
                continue
            if outcome is not None:
                show.end(outcome)
                if one_off:
                    return
    finally:
        door.close()


class _Show:
    """What is seen of a test: lines on stdout, and on a terminal a line of progress."""

    def __init__(self, interval: float, *, quiet: bool) -> None:
        self.quiet = quiet
        self.intervals = Intervals(interval)
        self._length = interval
        self._screen = console(stderr=True)
        self._bar: Progress | None = None
        self._over_bar = False  # what is printed must go past the bar
        self._task = TaskID(0)
        self._whole = 0.0  # what the bar is full at: seconds, or bytes
        self._timed = True

    @contextmanager
    def progress(self, test: Plan | None) -> Iterator[Callable[[float, int], None]]:
        """While a test runs; gives what is to be told of it. ``test`` None: not known yet."""
        self.intervals = Intervals(self._length)
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[rate]}"))
        shown = not self.quiet and self._screen.is_terminal
        with Progress(*columns, console=self._screen, disable=not shown, transient=True, auto_refresh=False) as bar:
            self._bar = bar
            self._over_bar = shown and sys.stdout.isatty()
            if test is not None:
                self._begin(test)
            try:
                yield self._watch
            finally:
                self._bar = None

    def began(self, conn: Conn, test: Plan) -> None:
        """The server's client has said what it wants."""
        address, port = conn.getpeername()
        if not self.quiet:
            click.echo(f"{address} port {port}: {'we send' if test.reverse else 'we receive'}")
        self._begin(test)

    def _begin(self, test: Plan) -> None:
        assert self._bar is not None
        self._timed = test.seconds > 0
        self._whole = test.seconds if self._timed else test.bytes
        words = "receiving" if test.reverse else "sending"
        self._task = self._bar.add_task(words, total=self._whole, rate="")

    def _watch(self, elapsed: float, total: int) -> None:
        row = self.intervals.add(elapsed, total)
        bar = self._bar
        assert bar is not None
        if elapsed > 0:
            done = min(elapsed if self._timed else total, self._whole)
            bar.update(self._task, completed=done, rate=rate(total * 8 / elapsed), refresh=True)
        if row is not None and not self.quiet:
            (bar.console.print if self._over_bar else click.echo)(line(row))

    def end(self, outcome: Outcome) -> None:
        """The result."""
        if self.quiet:
            everything: dict[str, Any] = as_json(outcome, self.intervals)
            click.echo(json.dumps(everything, indent=2))
            return
        for text in summary(outcome):
            click.echo(text)
