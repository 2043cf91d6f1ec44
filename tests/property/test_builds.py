"""Compiled or as it is written, the core does the same: every segment, and every figure at the end.

The same stories are played here and in a process of its own that takes the core from its sources. In a checkout that is
not compiled both are the sources: then it shows that a story is the same in every process.
"""

import json
import random
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import pytest

from tests.property.test_two_connections import Storm
from tests.support.pair import End, Pair
from usertcp.cli.version import compiled
from usertcp.lab.congestion import Bottleneck, Experiment, Flow
from usertcp.tcp.config import TcpConfig
from usertcp.tcp.connection import Connection
from usertcp.tcp.ecn_policy import Ecn
from usertcp.units import MS, SEC

ROOT: Final = Path(__file__).parents[2]
STORMS: Final = 40
STEPS: Final = 120

FROM_SOURCES: Final = """
import importlib.machinery as machinery, json, sys

class Sources:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if not name.startswith("usertcp."):
            return None
        loader = (machinery.SourceFileLoader, machinery.SOURCE_SUFFIXES)
        return next(filter(None, (machinery.FileFinder(place, loader).find_spec(name) for place in path)), None)

sys.meta_path.insert(0, Sources)
from tests.property.test_builds import told
import usertcp.tcp.connection
print(json.dumps([usertcp.tcp.connection.__file__, told()]))
"""


def settings(rng: random.Random) -> TcpConfig:
    return TcpConfig(
        congestion=rng.choice(["cubic", "reno", "bbr"]),
        ecn=rng.choice(list(Ecn)),
        nodelay=rng.random() < 0.5,
        timestamps=rng.random() < 0.5,
        sack=rng.random() < 0.7,
    )


def storms() -> str:
    """The digest of all that leaves both ends of many pairs of connections, and of what is known of them at the end."""
    heard = sha256()
    send = End.send

    def noted_send(end: End, conn: Connection, *segment: Any) -> bool:
        header, views, *_ = segment
        taken = send(end, conn, *segment)
        heard.update(repr((end.name, end.pair.now, bytes(header), b"".join(views), taken)).encode())
        return taken

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(End, "send", noted_send)
        for seed in range(STORMS):
            rng = random.Random(seed)
            pair = Pair((settings(rng), settings(rng)), whole_bursts=bool(seed & 1))
            Storm(pair, seed).run(STEPS)
            pair.finish()
            heard.update(repr([end.conn.info(pair.now) for end in pair.ends]).encode())
    return heard.hexdigest()


def told() -> dict[str, str]:
    """Of connections by themselves, and of whole stacks on one bottleneck."""
    flows = [Flow("cubic"), Flow("reno", start=SEC), Flow("bbr", start=2 * SEC)]
    outcome = Experiment(Bottleneck(rate=5_000_000, rtt=30 * MS), flows, settle=SEC, seed=3).run(6 * SEC)
    return {"storms": storms(), "flows": repr(outcome)}


def test_core_from_its_sources_tells_the_same_stories() -> None:
    words = [sys.executable, "-c", FROM_SOURCES]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0, done.stderr
    file, theirs = json.loads(done.stdout)
    assert file.endswith(".py")
    assert told() == theirs
    if compiled():
        assert sys.modules["usertcp.tcp.connection"].__file__ != file
