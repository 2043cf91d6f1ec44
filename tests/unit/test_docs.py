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
APPLICATIONS: Final = sorted(
    path
    for folder in ("examples", "usertcp/cli", "usertcp/perf", "usertcp/lab")
    for path in (ROOT / folder).glob("*.py")
)
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


@pytest.mark.rfc(9293, "SHLD-13")
@pytest.mark.rfc(6093, "§5")
@pytest.mark.parametrize("path", APPLICATIONS, ids=lambda path: path.name)
def test_application_of_ours_sends_nothing_urgent(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert "MSG_OOB" not in {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert "urgent" not in {node.arg for node in ast.walk(tree) if isinstance(node, ast.keyword)}


@pytest.mark.rfc(9293, "SHLD-23")
@pytest.mark.parametrize("path", APPLICATIONS, ids=lambda path: path.name)
def test_application_of_ours_chooses_the_dscp_before_it_connects_if_at_all(path: Path) -> None:
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    later = [call for call in calls if ast.unparse(call.func).split(".")[-1] in ("configure", "setsockopt")]
    assert [ast.unparse(call) for call in later if re.search(r"\btos\b|IP_TOS|IPV6_TCLASS", ast.unparse(call))] == []
