"""What the documents say is what the code says: the state diagram is current, links lead somewhere, code compiles."""

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from usertcp.cli.group import cli
from usertcp.lab.registry import SCENARIOS

ROOT: Final = Path(__file__).parents[2]
DOCUMENTS: Final = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])


def test_state_diagram_is_drawn_from_the_transitions() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "draw_states.py", "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_document_link_leads_to_a_file(path: Path) -> None:
    targets = re.findall(r"\]\((?!https?:|#)([^)#]+)", path.read_text())
    assert [target for target in targets if not (path.parent / target).exists()] == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_document_python_block_imports_what_exists(path: Path) -> None:
    for block in re.findall(r"```python\n(.*?)```", path.read_text(), re.S):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("usertcp"):
                module = importlib.import_module(node.module or "")
                for alias in node.names:
                    if not hasattr(module, alias.name):
                        importlib.import_module(f"{node.module}.{alias.name}")


def test_readme_tells_of_every_scenario_and_subcommand() -> None:
    text = (ROOT / "README.md").read_text()
    assert [name for name in SCENARIOS if f"`{name}`" not in text] == []
    shown = [name for name, command in cli.commands.items() if not command.hidden]
    assert [name for name in shown if f"usertcp {name}" not in text] == []
