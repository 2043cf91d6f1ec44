"""requests, urllib3, httpx, aiohttp and the standard library fetch from a real nginx on the kernel's side."""

from pathlib import Path

import pytest

from tests.programs.wire import Web, Wire

PROGRAMS = {
    "urllib": """
import urllib.request
def fetch(url):
    with urllib.request.urlopen(url, timeout=60) as answer:
        return answer.read()
""",
    "requests": """
import requests
session = requests.Session()
def fetch(url):
    answer = session.get(url, timeout=60)
    answer.raise_for_status()
    return answer.content
""",
    "urllib3": """
import urllib3
pool = urllib3.PoolManager(maxsize=2)
def fetch(url):
    answer = pool.request("GET", url, timeout=60, preload_content=False)
    return b"".join(answer.stream(65536))
""",
    "httpx": """
import httpx
client = httpx.Client(timeout=60)
def fetch(url):
    with client.stream("GET", url) as answer:
        return b"".join(answer.iter_bytes())
""",
    "httpx of asyncio": """
import asyncio, httpx
async def several(url):
    async with httpx.AsyncClient(timeout=60) as client:
        answers = await asyncio.gather(*(client.get(url) for _ in range(3)))
        assert len({answer.content for answer in answers}) == 1
        return answers[0].content
def fetch(url):
    return asyncio.run(several(url))
""",
    "aiohttp": """
import aiohttp, asyncio
async def several(url):
    async with aiohttp.ClientSession() as session:
        async def one():
            async with session.get(url) as answer:
                return await answer.read()
        contents = await asyncio.gather(*(one() for _ in range(3)))
        assert len(set(contents)) == 1
        return contents[0]
def fetch(url):
    return asyncio.run(several(url))
""",
}
END = """
import hashlib, sys
for _ in range(2):  # the second time over the connection of the first, where there is a pool
    print(hashlib.sha256(fetch(sys.argv[1])).hexdigest())
"""


@pytest.mark.parametrize("name", PROGRAMS)
def test_client_fetches_from_nginx(wire: Wire, web: Web, folder: Path, name: str) -> None:
    assert wire.output(folder, PROGRAMS[name] + END, web.url).split() == [web.sha256] * 2


def test_requests_says_what_it_says_on_the_kernel_when_nobody_listens(wire: Wire, folder: Path) -> None:
    program = """
import requests
try:
    requests.get("http://10.9.0.1:9/", timeout=60)
except requests.ConnectionError as error:
    print("Connection refused" in str(error))
"""
    assert wire.output(folder, program) == "True\n"
