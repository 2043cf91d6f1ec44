"""``usertcp nc``: standard input to a connection, the connection to standard output."""

import os
import sys
import threading
from typing import Final

import click

from usertcp.blocking import Conn, Listener
from usertcp.cli.causes import doing
from usertcp.cli.host import open_host, say, whereabouts
from usertcp.cli.options import device_options, port_number, seconds
from usertcp.cli.output import put
from usertcp.driver.open import LinkSpec
from usertcp.errors import SetupError

CHUNK: Final = 256 << 10  # bytes


@click.command()
@click.option("-l", "--listen", is_flag=True, help="Wait for a connection instead of making one.")
@click.option("-v", "--verbose", is_flag=True, help="Say on stderr what happens.")
@click.option("-w", "--wait", type=seconds, metavar="SECONDS", help="Give up connecting, or waiting, after so long.")
@click.argument("words", nargs=-1, required=True, metavar="[HOST] PORT")
@device_options
def nc(spec: LinkSpec, listen: bool, verbose: bool, wait: float | None, words: tuple[str, ...]) -> None:
    """Connect to HOST and PORT, or with -l listen on PORT (of the address HOST), and pass bytes both ways.

    The end of the input closes our half of the connection; the command ends when the peer has closed its half too.
    """
    if len(words) > 2 or (len(words) == 1 and not listen):
        raise click.UsageError("give HOST and PORT" if not listen else "give PORT, or HOST and PORT")
    port = port_number(words[-1])
    name = words[0] if len(words) == 2 else ""
    with open_host(spec, listen=port if listen else None) as host:
        if listen:
            with doing(f"listening on {name + ' ' if name else ''}port {port}"), host.listen((name, port)) as listener:
                say(f"listening on {whereabouts(host, listener)}")
                conn = _accept(listener, wait)
        else:
            with doing(f"connecting to {name} port {port}"):
                conn = host.connect((name, port), timeout=wait)
        if verbose:
            say(f"connected: {conn.getsockname()} - {conn.getpeername()}")
        with doing(f"the connection to {conn.getpeername()[0]} port {conn.getpeername()[1]}"), conn:
            try:
                _relay(conn)
            except (KeyboardInterrupt, SystemExit):
                conn.abort()  # whoever ends it does not want to wait until the peer takes the rest
                raise


def _accept(listener: Listener, wait: float | None) -> Conn:
    listener.settimeout(wait)
    try:
        return listener.accept()
    except TimeoutError:
        cure = "wait longer, or check that the peer uses this address and port"
        raise SetupError(f"nobody connected within {wait:g} s", cure) from None


def _relay(conn: Conn) -> None:
    """Both directions until both have ended."""
    failures: list[OSError] = []

    def send() -> None:
        try:
            while data := os.read(sys.stdin.fileno(), CHUNK):
                conn.sendall(data)
            conn.shutdown()
        except OSError as error:
            failures.append(error)

    sender = threading.Thread(target=send, name="usertcp-nc-input", daemon=True)  # may be stuck in read() at the end
    sender.start()
    while data := conn.recv(CHUNK):
        put(data)
    sender.join()
    if failures:
        raise failures[0]
