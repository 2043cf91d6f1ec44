"""``usertcp engine``: a program in several processes that share one address, each with a stack of its own.

Each process (``cli.worker``) attaches to a queue of one TUN, and the kernel steers every flow to one of the queues by
a hash that both sides compute (``link.steering``). So what each process listens on is shared by all, what it connects
comes back to it, and no segment is ever handed over. Here the device is made and the processes are looked after: when
one fails, all end.
"""

import json
import selectors
import socket
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import asdict
from typing import Any, Final

import click

from usertcp.cli.host import say
from usertcp.cli.options import device_options
from usertcp.cli.worker import GO, READY, load
from usertcp.driver.open import LinkSpec
from usertcp.errors import SetupError
from usertcp.link import provision

DEVICE: Final = "tun0"  # unless another is named
MOST: Final = 256  # queues that a TUN may have (MAX_TAP_QUEUES)
PATIENCE: Final = 10.0  # seconds that a process has to end by itself, which covers the closing of its connections


@click.command()
@click.option("--workers", type=click.IntRange(1, MOST), default=1, show_default=True, help="Processes.")
@click.argument("program", metavar="MODULE:FUNCTION")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@device_options
def engine(spec: LinkSpec, workers: int, program: str, arguments: tuple[str, ...]) -> int:
    """Run FUNCTION of MODULE in each of several processes that share one address, until all have ended.

    It is called with the process's host (of usertcp.blocking; of usertcp.aio if it is a coroutine function) and the
    ARGUMENTS, after a -- if they look like options. Several processes share a TUN: with --tun NAME one that was made
    for that (ip tuntap add NAME mode tun multi_queue) or is not there yet.
    """
    load(program)
    with ExitStack() as undo:
        words = _shared(spec, undo) if workers > 1 else _words(spec)
        crew = _Crew(undo, [*_command(), "worker"], [program, *arguments])
        for number in range(workers):
            crew.start(words | ({"queue": (number, workers)} if workers > 1 else {}))
        crew.go()
        where = f" on {words['tun']}, from the namespace {words['netns']}" if workers > 1 else ""
        say(f"{workers} {'workers run' if workers > 1 else 'worker runs'} {program}{where}")
        return crew.wait()


def _words(spec: LinkSpec) -> dict[str, Any]:
    """What was said of the device, for another process."""
    words = {name: value for name, value in asdict(spec).items() if name not in ("rules", "queue")}
    return words | {"pcap": str(spec.pcap) if spec.pcap is not None else None}


def _shared(spec: LinkSpec, undo: ExitStack) -> dict[str, Any]:
    """The same for a TUN with queues, which is made if it is not there."""
    if spec.tap is not None or spec.packet is not None:
        raise SetupError("several workers share a TUN", "name one with --tun, or leave the device out")
    if spec.pcap is not None:
        raise SetupError("several workers cannot record into one file", "use one worker, or tcpdump on the TUN")
    words = _words(spec) | {"tun": spec.tun or DEVICE}
    if spec.tun is None and spec.netns is None:
        words["netns"] = undo.enter_context(provision.Namespace.create()).name
    name, space = words["tun"], words["netns"]
    if not provision.link_exists(name, space):
        undo.enter_context(
            provision.create_tap(
                name, netns=space, address=spec.kernel_address, mtu=spec.mtu or 1500, tun=True, queues=True
            )
        )
    return words


def _command() -> list[str]:
    return [sys.executable, "-c", "from usertcp.cli.main import main; main()"]


class _Crew:
    """The processes. Those that still run when ``undo`` unwinds are ended."""

    def __init__(self, undo: ExitStack, command: list[str], rest: list[str]) -> None:
        self._command = command
        self._rest = rest
        self._members: dict[subprocess.Popen[bytes], socket.socket] = {}
        undo.callback(self._end)

    def start(self, words: dict[str, Any]) -> None:
        """One more, attached when this returns. SetupError: it says on stderr why it is not."""
        ours, theirs = socket.socketpair()
        with theirs:
            command = [*self._command, str(theirs.fileno()), json.dumps(words), *self._rest]
            process = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
        self._members[process] = ours
        if ours.recv(len(READY)) != READY:
            raise SetupError("a worker did not start", "what it says above is the reason")

    def go(self) -> None:
        """All are there."""
        for control in self._members.values():
            control.sendall(GO)

    def wait(self) -> int:
        """Until all have ended, or one has failed; its exit status."""
        with selectors.DefaultSelector() as selector:
            for process, control in self._members.items():
                selector.register(control, selectors.EVENT_READ, process)
            while selector.get_map():
                for key, _ in selector.select():
                    selector.unregister(key.fileobj)
                    status: int = key.data.wait()
                    if status:
                        return status if status > 0 else 1
        return 0

    def _end(self) -> None:
        for control in self._members.values():
            control.close()
        for process in self._members:
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
