"""``usertcp get``: fetch a URL over HTTP, by the standard library's client over our connection."""

import http.client
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final
from urllib.parse import SplitResult, quote, urljoin, urlsplit

import click
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from usertcp.blocking import Host
from usertcp.cli.causes import doing
from usertcp.cli.host import open_host
from usertcp.cli.options import console, device_options, seconds
from usertcp.cli.output import Output
from usertcp.cli.streams import Stream
from usertcp.driver.open import LinkSpec
from usertcp.errors import SetupError

REDIRECTS: Final = 10  # followed before giving up
CHUNK: Final = 256 << 10  # bytes
MOVED: Final = (301, 302, 303, 307, 308)
SAFE: Final = "%:/?#[]@!$&'()*+,;=~"  # what a URL may contain besides letters and digits (RFC 3986 §2.2), and escapes


class Connection(http.client.HTTPConnection):
    """An HTTP connection over a usertcp host."""

    def __init__(self, host: Host, name: str, port: int, timeout: float | None) -> None:
        super().__init__(name, port, timeout=timeout)
        self._usertcp = host

    def connect(self) -> None:
        with doing(f"connecting to {self.host} port {self.port}"):
            conn = self._usertcp.connect((self.host, self.port or 80), timeout=self.timeout)
        conn.settimeout(self.timeout)
        self.sock: Any = Stream(conn)


@click.command()
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write there, not to stdout.",
)
@click.option("-w", "--wait", type=seconds, metavar="SECONDS", help="Give up when nothing comes for so long.")
@click.option("--quiet", is_flag=True, help="Show no progress.")
@click.argument("url")
@device_options
def get(spec: LinkSpec, url: str, output: Path | None, wait: float | None, quiet: bool) -> None:
    """Fetch URL (http only) and follow redirects. An incomplete answer leaves no FILE."""
    parts = _checked(url)
    with Output(output) as out, open_host(spec) as host, ExitStack() as undo:
        for _ in range(REDIRECTS + 1):
            connection = Connection(host, parts.hostname or "", parts.port or 80, wait)
            undo.callback(connection.close)
            response = _ask(connection, parts)
            if response.status not in MOVED:
                break
            target = urljoin(parts.geturl(), quote(response.getheader("Location", "").encode("latin-1"), safe=SAFE))
            if not quiet:
                click.echo(f"{response.status} {response.reason}: {target}", err=True)
            response.close()
            connection.close()
            parts = _checked(target)
        else:
            raise SetupError(f"{url} is redirected more than {REDIRECTS} times", "ask for the last of the addresses")
        if response.status != 200:
            raise SetupError(f"{parts.geturl()}: {response.status} {response.reason}", "check the URL")
        with doing(f"receiving {parts.geturl()}"):
            _receive(response, out, quiet or (output is None and sys.stdout.isatty()))


def _checked(url: str) -> SplitResult:
    """The parts of ``url``, escaped as they are sent. SetupError unless it is one of http's."""
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        name = parts.hostname or ""
        good = parts.scheme == "http" and bool(name) and (parts.port is None or parts.port > 0)
        good = good and name.isprintable() and " " not in name
    except ValueError:
        good = False
    if not good:
        raise SetupError(f"{url!r} cannot be fetched", "give a URL like http://host/path; https is not spoken here")
    return parts._replace(path=quote(parts.path, safe=SAFE), query=quote(parts.query, safe=SAFE), fragment="")


def _ask(connection: Connection, parts: SplitResult) -> http.client.HTTPResponse:
    """Send the request; the answer's head."""
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    with doing(f"asking {parts.hostname}"):
        try:
            connection.request("GET", path, headers={"User-Agent": "usertcp", "Connection": "close"})
            return connection.getresponse()
        except http.client.HTTPException as error:
            raise SetupError(
                f"{parts.hostname} does not speak HTTP ({type(error).__name__})", "check the port in the URL"
            ) from None


def _receive(response: http.client.HTTPResponse, output: Output, quiet: bool) -> None:
    """The body, to where it goes."""
    expected = response.length
    count = _copy(response, output, expected, quiet)
    if expected is not None and count != expected:
        raise SetupError(f"the answer ended after {count:,} of {expected:,} bytes", "try again")
    output.complete()


def _copy(response: http.client.HTTPResponse, output: Output, expected: int | None, quiet: bool) -> int:
    """Move the body; how many bytes came."""
    count = 0
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    screen = console(stderr=True)
    with Progress(*columns, console=screen, disable=quiet or not screen.is_terminal) as progress:
        task = progress.add_task("receiving", total=expected)
        try:
            while data := response.read(CHUNK):
                output.write(data)
                count += len(data)
                progress.update(task, completed=count)
        except http.client.HTTPException as error:
            raise SetupError(
                f"the answer broke off after {count:,} bytes ({type(error).__name__})", "try again"
            ) from None
    return count
