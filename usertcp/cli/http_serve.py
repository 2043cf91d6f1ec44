"""``usertcp http-serve``: a directory over HTTP, by the standard library's handler over our connections."""

import threading
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler
from pathlib import Path
from typing import Any, Final

import click

from usertcp.blocking import Conn, Host
from usertcp.cli.causes import doing
from usertcp.cli.host import open_host, say, whereabouts
from usertcp.cli.options import device_options
from usertcp.cli.streams import Stream
from usertcp.driver.open import LinkSpec
from usertcp.errors import StackError

CLIENTS: Final = 512  # served at once; further ones wait in the backlog
BACKLOG: Final = 128
IDLE: Final = 60.0  # seconds that a kept connection may say nothing


class Handler(SimpleHTTPRequestHandler):
    """Keeps connections open between requests (HTTP/1.1); logs a line a request on stderr."""

    protocol_version = "HTTP/1.1"
    timeout = IDLE
    server_version = "usertcp"

    def log_message(self, format: str, *arguments: Any) -> None:
        say(f"{time.strftime('%H:%M:%S')} {self.client_address[0]}:{self.client_address[1]} {format % arguments}")


@click.command("http-serve")
@click.argument("directory", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--port", type=click.IntRange(1, 65535), default=8000, show_default=True, help="Port to listen on.")
@click.option("--quiet", is_flag=True, help="Do not log requests.")
@device_options
def http_serve(spec: LinkSpec, directory: Path, port: int, quiet: bool) -> None:
    """Serve the files in DIR over HTTP until interrupted."""
    handler = partial(_Silent if quiet else Handler, directory=str(directory))
    with (
        open_host(spec, listen=port) as host,
        doing(f"listening on port {port}"),
        host.listen(("", port), backlog=BACKLOG) as listener,
    ):
        say(f"serving {directory} on {whereabouts(host, listener)}")
        room = threading.BoundedSemaphore(CLIENTS)
        while True:
            room.acquire()
            conn = listener.accept()
            threading.Thread(target=_serve, args=(host, conn, handler, room), daemon=True).start()


class _Silent(Handler):
    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing."""


def _serve(host: Host, conn: Conn, handler: Any, room: threading.BoundedSemaphore) -> None:
    """One client, to the end of its connection."""
    stream = Stream(conn)
    try:
        handler(stream, conn.getpeername(), host)
    except (ConnectionError, TimeoutError, StackError):
        conn.abort()  # gone, or too slow: nothing is owed to it
    except OSError:
        if not host.closed:
            raise
    finally:
        stream.close()
        room.release()
