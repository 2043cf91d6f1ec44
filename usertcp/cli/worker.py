"""``usertcp worker``: one of the processes of ``usertcp engine``, with a stack of its own on a queue of its own.

::

    engine                             worker 0                  worker 1 ...
    makes namespace and TUN
    starts them one after the other    attaches: "ready"         attaches: "ready"
    says "go" to all                   calls the program         calls the program
    closes the control sockets         ends                      ends

The order of attaching is the order of the queues, which is why the workers start one by one; and none goes on before
all are there, because the number of queues decides which of them gets a flow. Not a command for users: its arguments
are the descriptor of the control socket, the words of a LinkSpec as JSON, and the program.
"""

import asyncio
import importlib
import inspect
import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import click

from usertcp import aio, blocking
from usertcp.errors import SetupError

READY: Final = b"ready"
GO: Final = b"go"

Program = Callable[..., Any]


@click.command(hidden=True)
@click.argument("control", type=int)
@click.argument("spec")
@click.argument("program")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def worker(control: int, spec: str, program: str, arguments: tuple[str, ...]) -> None:
    """Serve one queue of an engine's device."""
    words = json.loads(spec)
    function = load(program)
    with socket.socket(fileno=control) as engine:
        if inspect.iscoroutinefunction(function):
            asyncio.run(_serve(function, words, arguments, engine))
            return
        with blocking.open(**words) as host:
            _meet(engine)
            function(host, *arguments)


async def _serve(function: Program, words: dict[str, Any], arguments: tuple[str, ...], engine: socket.socket) -> None:
    async with aio.open(**words) as host:
        _meet(engine)
        await function(host, *arguments)


def load(name: str) -> Program:
    """What MODULE:FUNCTION names; modules in the current directory are found too. SetupError."""
    module, _, function = name.partition(":")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        found = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise SetupError(f"cannot load {name!r}: {error}", "name a MODULE:FUNCTION, like app:serve") from None
    if not callable(found):
        raise SetupError(f"{name!r} is no function", "name one that takes the host, like app:serve")
    program: Program = found
    return program


def _meet(engine: socket.socket) -> None:
    """Say that we are attached, wait until all are, and from then on end when the engine does."""
    word = b""
    with suppress(OSError):  # it has ended, perhaps with ours unread
        engine.sendall(READY)
        word = engine.recv(len(GO))
    if word != GO:
        sys.exit(1)
    threading.Thread(target=_end_with, args=(engine,), name="usertcp-engine", daemon=True).start()


def _end_with(engine: socket.socket) -> None:
    """The engine has closed its end, or is gone: end as by SIGTERM, whatever the program does."""
    engine.recv(1)
    os.kill(os.getpid(), signal.SIGTERM)
