#!/usr/bin/env python3
"""Several processes behind one address: an echo server in each worker of ``usertcp engine``. Run it as root.

The command would be ``usertcp engine --workers 2 examples.engine_echo:serve 7000``; here it is started, and connected
to a few times from the kernel's side, to see who answers.
"""

import asyncio
import os
import socket
import subprocess
import sys
import time
from contextlib import suppress

from usertcp.aio import Host
from usertcp.link import provision

HERE = os.path.dirname(os.path.abspath(__file__))  # where the workers find this file, as a module
ADDRESS = ("10.9.0.2", 7000)


async def serve(host: Host, port: str) -> None:
    """In each worker: echo one line of every connection to ``port``, and say who it was."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = await reader.readline()
        writer.write(b"%s by %d\n" % (line.strip(), os.getpid()))
        await writer.drain()
        writer.close()

    await (await host.start_server(answer, None, int(port))).serve_forever()


def ask(number: int) -> str:
    with socket.create_connection(ADDRESS, timeout=5) as sock, sock.makefile("rw") as file:
        file.write(f"connection {number}\n")
        file.flush()
        return file.readline().strip()


def ask_all() -> list[str]:
    """Once the engine runs, the answers to eight connections from the kernel's side."""
    for _ in range(100):
        with suppress(OSError):
            return [ask(number) for number in range(8)]
        time.sleep(0.1)
    raise SystemExit("nobody answers")


def main() -> None:
    command = [sys.executable, "-c", "from usertcp.cli.main import main; main()", "engine", "--workers", "2"]
    with provision.Namespace.create() as space:
        engine = subprocess.Popen(
            [*command, "--tun", "tun0", "--netns", space.name, "engine_echo:serve", str(ADDRESS[1])],
            env=os.environ | {"PYTHONPATH": os.pathsep.join([HERE, *filter(None, [os.environ.get("PYTHONPATH")])])},
        )
        answers = space.run(ask_all)
        engine.terminate()
        engine.wait()
    print(*answers, sep="\n")
    print(len({answer.rpartition(" ")[2] for answer in answers}), "workers have answered")


if __name__ == "__main__":
    main()
