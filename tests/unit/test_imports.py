"""What importing a road to a connection loads, and what it leaves for the day when it is needed.

Import times are the sum of what is imported, and unlike a time, what is imported is the same everywhere.
"""

import subprocess
import sys
from typing import Final

import pytest

from usertcp.cli.version import compiled

HEAVY: Final = {
    "pyroute2",
    "rich",
    "click",
    "scapy",
    "numpy",
    "matplotlib",
    "http",
    "email",
    "unittest",
    "multiprocessing",
}
LOOP: Final = {"asyncio", "ssl"}
MOST: Final = 300  # modules, those of the interpreter's own start included; there were 215 when this was written


def loaded_by(statement: str) -> set[str]:
    """The modules of a new interpreter after ``statement``."""
    program = f"{statement}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    return set(done.stdout.split())


@pytest.mark.parametrize("name", ["blocking", "socket"])
def test_import_of_a_road_loads_no_heavy_module(name: str) -> None:
    loaded = loaded_by(f"import usertcp.{name}")
    assert not loaded & (HEAVY | LOOP)
    assert not {module for module in loaded if module.startswith(("usertcp.lab", "usertcp.cli", "usertcp.link.prov"))}
    assert len(loaded) < MOST


def test_import_of_aio_loads_asyncio_and_nothing_else_heavy() -> None:
    loaded = loaded_by("import usertcp.aio")
    assert not loaded & HEAVY
    assert loaded >= LOOP


def test_import_of_the_pytest_plugin_loads_nothing_of_the_package_before_a_test_asks() -> None:
    loaded = {name for name in loaded_by("import usertcp.pytest_plugin") if name.startswith("usertcp")}
    assert loaded - {"usertcp__mypyc"} == {"usertcp", "usertcp.pytest_plugin"}


def test_import_of_the_package_loads_nothing_of_it() -> None:
    before, after = loaded_by("pass"), loaded_by("import usertcp")
    assert {name for name in after - before if name.startswith("usertcp")} <= {"usertcp", "usertcp__mypyc"}
    assert compiled() or after - before == {"usertcp"}
