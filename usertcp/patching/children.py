"""Programs in Python that get usertcp's sockets from their environment, and pass it on to those that they start.

The interpreter imports ``sitecustomize`` when it starts. A folder with one of ours (``site``) is put in front of
PYTHONPATH, which children inherit; one that was there already is run by ours. An interpreter that is told not to look
(``-S``, ``-E``, ``-I``), or that is no Python 3.11, gets the kernel's sockets.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

SITE: Final = str(Path(__file__).with_name("site"))
ENGINE: Final = "USERTCP_ENGINE"  # names the file of the engine


def environment(engine: str, base: Mapping[str, str]) -> dict[str, str]:
    """``base`` with what makes Pythons use the engine at the file ``engine``."""
    paths = [path for path in base.get("PYTHONPATH", "").split(os.pathsep) if path and path != SITE]
    return {**base, ENGINE: engine, "PYTHONPATH": os.pathsep.join([SITE, *paths])}
