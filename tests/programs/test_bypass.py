"""What cannot be patched is named: uvloop opens its sockets in C."""

from pathlib import Path

from tests.programs.wire import Wire

UVLOOP = """
import asyncio, sys, uvloop
async def main():
    try:
        await asyncio.open_connection("10.9.0.1", 9)
    except OSError:
        print("past usertcp")
for _ in range(2):
    loop = uvloop.new_event_loop()
    loop.run_until_complete(main())
    loop.close()
"""


def test_uvloop_is_named_loudly_and_once(wire: Wire, folder: Path) -> None:
    with wire.program(folder, UVLOOP) as program:
        program.finish()
    assert program.errors == (
        "usertcp: WARNING: uvloop opens sockets itself, in C: they bypass usertcp and are the kernel's\n"
        "  use asyncio's own loop (uvicorn: --loop asyncio)\n"
    )


def test_programs_here_bring_no_other_that_bypasses(wire: Wire, folder: Path) -> None:
    modules = "aiohttp, anyio, bcrypt, cryptography, httpx, nacl, paramiko, pg8000, redis, requests, trio, websockets"
    program = f"import {modules}\nimport cryptography.hazmat.bindings._rust, nacl.bindings"
    assert wire.output(folder, program) == ""
