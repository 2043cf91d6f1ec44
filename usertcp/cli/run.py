"""``usertcp run``: a program in Python, unmodified, with usertcp's sockets in the place of the kernel's.

The program is a process of its own, so that its arguments, ``__main__``, tracebacks, signals and end are Python's own
and not an imitation. Here is the engine: it outlives whatever becomes of the program, delivers what was sent, and gives
the device back. The program's interpreter is told of both by its environment (:mod:`usertcp.patching.children`), and so
are those it starts. With ``--engine`` there is nothing to do here, and the program takes this process's place.
"""

import os
import shutil
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import click

import usertcp.socket as us
from usertcp.cli.child import Child, end_like
from usertcp.cli.host import say
from usertcp.cli.options import device_options
from usertcp.driver.open import LinkSpec, OpenStack, open_stack
from usertcp.driver.service import Door, Service
from usertcp.link.undo import Made, apart
from usertcp.patching.children import environment

NO_DEVICE: Final = LinkSpec()


@click.command(context_settings={"allow_interspersed_args": False})
@click.option(
    "--engine",
    "door",
    metavar="SOCKET",
    type=click.Path(path_type=Path),
    help="Use the engine that runs there (usertcp engine), in place of a device.",
)
@click.option("-m", "as_module", is_flag=True, help="PROGRAM is the name of a module, as for python -m.")
@click.option("-q", "--quiet", is_flag=True, help="Do not say where the program can be reached.")
@click.argument("program")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@device_options
def run(
    spec: LinkSpec, program: str, arguments: tuple[str, ...], as_module: bool, quiet: bool, door: Path | None
) -> None:
    """Run PROGRAM, a file or with -m a module, with its TCP on the stack: sockets, ssl, asyncio, everything.

    What follows PROGRAM is the program's. Its children that are Pythons are on the stack too. The exit status is the
    program's. Extensions that open sockets in C are told on stderr: their sockets are the kernel's.
    """
    command = [sys.executable, *(["-m"] if as_module else []), program, *arguments]
    if door is None:
        end_like(_run(command, spec, quiet=quiet))
    if spec != NO_DEVICE:
        raise click.UsageError("an engine has its device: give --engine, or what is to be opened, not both")
    door = door.absolute()
    us.attach(door).close()
    sys.stdout.flush()
    os.execve(sys.executable, command, environment(str(door), os.environ))


def _run(command: list[str], spec: LinkSpec, *, quiet: bool) -> int:
    """The program and its engine, until it has ended and what it sent is delivered; how it ended."""
    with ExitStack() as undo:
        opened = undo.enter_context(open_stack(spec))
        door = Path(undo.enter_context(apart(_folder)).name, "engine")
        service = Service(opened, Door(path=door), low_ports=True)
        undo.callback(service.close)
        if not quiet:
            say(_whereabouts(opened))
        engine = service.engine
        child = Child(command, environment(str(door), os.environ), engine.wake)
        try:
            engine.begin()
            while child.status is None:
                engine.step(engine.timeout_ns())
        finally:
            status = child.close()
    return status


def _folder() -> Made:
    """A place for the engine's file that only we may enter."""
    folder = tempfile.mkdtemp(prefix="usertcp-")
    return Made(folder, None, lambda: shutil.rmtree(folder, ignore_errors=True))


def _whereabouts(opened: OpenStack) -> str:
    text = f"{opened.address} on {opened.link.name}"
    if opened.netns is not None:
        text += f", in the namespace {opened.netns} (ip netns exec {opened.netns} …)"
    return text
