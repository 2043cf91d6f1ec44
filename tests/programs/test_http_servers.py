"""http.server, aiohttp and uvicorn on the stack serve curl and wrk."""

import hashlib
import re
from pathlib import Path

from tests.netns.peer import blocks, digest
from tests.netns.plugged import STACK
from tests.netns.programs import Program, folder_of, usertcp, which
from tests.programs.wire import SIZE, Wire
from usertcp.link import provision

SEED = 3


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def wrk(wire: Wire, port: int, path: str = "") -> int:
    """How many requests wrk got answered in a second, by 16 connections; none failed."""
    url = f"http://{STACK}:{port}/{path}"
    said = wire.kernel(which("wrk"), "-t", 1, "-c", 16, "-d", "1s", "--timeout", "30s", url).decode()
    assert "Socket errors" not in said, said
    assert "Non-2xx" not in said, said
    found = re.search(r"(\d+) requests in", said)
    assert found is not None, said
    return int(found[1])


def test_http_server_serves_curl_and_wrk_on_a_device_of_its_own(folder: Path) -> None:
    """As a user would start it: ``usertcp run -m http.server``."""
    files = folder_of(folder / "files", SIZE, SEED)
    (files / "small").write_bytes(b"x" * 100)
    with provision.Namespace.create() as space:
        command = usertcp("run", "--netns", space.name, "-m", "http.server", "--directory", files, "8000")
        with Program(None, command) as server:
            assert STACK.encode() in server.remark()
            wire = Wire(space.name, folder)
            assert wire.answers(8000)
            assert sha256(wire.curl(f"http://{STACK}:8000/data")) == digest(SIZE, SEED)
            assert wrk(wire, 8000, "small") > 0
            server.interrupt()
            server.finish(code=0)  # http.server takes Ctrl-C for a good end
            assert "Traceback" not in server.errors


AIOHTTP = """
import asyncio
from aiohttp import web
async def echo(request):
    return web.Response(body=await request.read())
async def hello(request):
    return web.Response(text="hello")
app = web.Application(client_max_size=1 << 30)
app.add_routes([web.post("/", echo), web.get("/", hello)])
async def main():
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "10.9.0.2", 8001).start()
    print("ready", flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""


def posted(wire: Wire, folder: Path, port: int) -> bool:
    """Whether curl gets back from a server what it posts."""
    body = b"".join(blocks(SIZE, SEED))
    (folder / "body").write_bytes(body)
    return wire.curl("-H", "Expect:", "--data-binary", f"@{folder / 'body'}", f"http://{STACK}:{port}/") == body


def test_aiohttp_serves_curl_and_wrk(wire: Wire, folder: Path) -> None:
    with wire.serving(folder, AIOHTTP):
        assert posted(wire, folder, 8001)
        assert wrk(wire, 8001) > 0


UVICORN = """
async def app(scope, receive, send):
    assert scope["type"] == "http" and scope["client"][0] == "10.9.0.1"
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body or b"hello"})
"""


def test_uvicorn_serves_curl_and_wrk(wire: Wire, folder: Path) -> None:
    (folder / "served.py").write_text(UVICORN)
    words: list[str | Path] = ["--app-dir", folder, "--loop", "asyncio", "--lifespan", "off", "--log-level", "warning"]
    with wire.command("-m", "uvicorn", "served:app", *words, "--host", STACK, "--port", 8002) as server:
        assert wire.answers(8002)
        assert posted(wire, folder, 8002)
        assert wrk(wire, 8002) > 0
        server.interrupt()
        server.finish(code=None)
        assert server.errors.count("WARNING") == 0
