"""The architecture, enforced: who may import whom, and how large things may grow.

Imports are read by ``ast``, from the source and not from what is loaded, those inside functions and under
``TYPE_CHECKING`` included: an import for annotations alone is a dependency of the reader's mind all the same.
"""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
PACKAGE: Final = ROOT / "usertcp"

# Lower layers first; a layer may import itself and those before it. `link` stands apart (LINK_MAY).
LAYERS: Final = (
    {"units", "errors", "native", "frame"},
    {"wire"},
    {"tcp"},
    {"net"},
    {"driver"},
    {"blocking", "aio", "socket"},
    {"sim"},
    {"patching"},
    {"lab", "perf", "pkt"},
    {"cli", "pytest_plugin"},
)
LINK_MAY: Final = ("units", "errors", "frame", "wire.vnet", "link")
CORE: Final = {"units", "errors", "frame", "wire", "tcp", "net"}
CORE_MAY_NOT: Final = {"time", "socket", "select", "selectors", "threading", "asyncio"} | {
    "os",
    "random",
    "secrets",
    "logging",
    "ctypes",
    "subprocess",
}
MAX_FUNCTION: Final = 80  # lines
MAX_MODULE: Final = 700  # lines, unless the docstring says why it is longer
MAX_CORE: Final = 14000  # lines in all
UNFINISHED: Final = re.compile(
    "|".join(("NotImplemented" + "Error", r"\bTO" + r"DO\b", r"\bFIX" + r"ME\b", r"\bX" + r"XX\b"))
)


def rank(layer: str) -> int:
    """The height of a layer; ``link`` and the package's own top are not in the order."""
    for height, names in enumerate(LAYERS):
        if layer in names:
            return height
    raise AssertionError(f"usertcp.{layer} belongs to no layer: add it to LAYERS")


def sources(root: Path = PACKAGE) -> list[Path]:
    return sorted(root.rglob("*.py"))


def dotted(path: Path) -> str:
    """`wire.tcp` for usertcp/wire/tcp.py, nothing for the package itself."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """(line, absolute dotted name) of everything that ``path`` imports, `from a import b` as `a.b`."""
    package = ["usertcp", *path.relative_to(PACKAGE).parts[:-1]] if path.is_relative_to(PACKAGE) else []
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            stem = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                yield node.lineno, f"{stem}.{alias.name}"


def inside(name: str, modules: tuple[str, ...]) -> bool:
    """Is the dotted ``name`` one of ``modules``, or something in one of them?"""
    return any(name == module or name.startswith(module + ".") for module in modules)


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def test_layer_imports_point_downwards_only() -> None:
    wrong = []
    for path in sources():
        module = dotted(path)
        layer = module.split(".")[0]
        for line, name in imports(path):
            if not inside(name, ("usertcp",)) or name.count(".") == 0 or not module:
                continue
            target = name.removeprefix("usertcp.")
            if layer == "link":
                allowed = inside(target, LINK_MAY)
            elif target.split(".")[0] == "link":
                allowed = rank(layer) >= rank("driver")
            else:
                allowed = rank(target.split(".")[0]) <= rank(layer)
            if not allowed:
                wrong.append(f"{path.relative_to(ROOT)}:{line} imports {name}")
    assert not wrong, "\n".join(wrong)


def test_front_ends_import_do_not_lean_on_each_other() -> None:
    fronts = {"blocking", "aio", "socket"}
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in sources()
        if (own := dotted(path).split(".")[0]) in fronts
        for line, name in imports(path)
        if inside(name, tuple(f"usertcp.{front}" for front in fronts - {own}))
    ]
    assert not wrong, "\n".join(wrong)


def test_core_imports_nothing_that_reads_the_world() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in sources()
        if dotted(path).split(".")[0] in CORE
        for line, name in imports(path)
        if name.split(".")[0] in CORE_MAY_NOT
    ]
    assert not wrong, "\n".join(wrong)


def test_pyroute2_is_imported_in_provision_alone() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in sources()
        if not dotted(path).startswith("link.provision")
        for line, name in imports(path)
        if inside(name, ("pyroute2",))
    ]
    assert not wrong, "\n".join(wrong)


def test_scapy_is_never_imported_by_the_package() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in sources()
        for line, name in imports(path)
        if inside(name, ("scapy",))
    ]
    assert not wrong, "\n".join(wrong)


def test_package_init_is_a_docstring_alone() -> None:
    wrong = []
    for path in PACKAGE.rglob("*/__init__.py"):
        body = parsed(path).body
        if len(body) != 1 or ast.get_docstring(parsed(path)) is None:
            wrong.append(str(path.relative_to(ROOT)))
    assert not wrong, wrong


def test_module_opens_with_a_docstring() -> None:
    wrong = [str(path.relative_to(ROOT)) for path in sources() if not ast.get_docstring(parsed(path))]
    assert not wrong, wrong


def test_function_stays_short() -> None:
    wrong = []
    for path in [*sources(), *sources(ROOT / "tests"), *sources(ROOT / "scripts")]:
        for node in functions(path):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > MAX_FUNCTION:
                wrong.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.name} has {length} lines")
    assert not wrong, "\n".join(wrong)


def test_module_stays_short_or_says_why() -> None:
    wrong = []
    for path in sources():
        lines = path.read_text().count("\n")
        if lines > MAX_MODULE and f"{MAX_MODULE} lines" not in (ast.get_docstring(parsed(path)) or ""):
            wrong.append(f"{path.relative_to(ROOT)} has {lines} lines")
    assert not wrong, "\n".join(wrong)


def test_no_enum_of_the_core_has_an_initialiser_which_the_compiler_would_take_for_that_of_another_class() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"
        for path in sources()
        if dotted(path).split(".")[0] in CORE
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.ClassDef)
        and any(isinstance(base, ast.Name) and base.id.endswith("Enum") for base in node.bases)
        and any(isinstance(item, ast.FunctionDef) and item.name == "__init__" for item in node.body)
    ]
    assert not wrong, "\n".join(wrong)


def test_core_stays_small() -> None:
    lines = sum(path.read_text().count("\n") for path in sources() if dotted(path).split(".")[0] in CORE)
    assert lines < MAX_CORE, f"the core (units to net) has {lines} lines"


def test_tree_holds_nothing_unfinished() -> None:
    wrong = []
    folders = ("usertcp", "tests", "scripts", "examples", "benchmarks", "docs", ".ci")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file()]
    for path in [*files, *ROOT.glob("*.md"), ROOT / "Makefile", ROOT / "pyproject.toml"]:
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue  # a compiled or recorded file
        for number, line in enumerate(text.splitlines(), 1):
            if UNFINISHED.search(line):
                wrong.append(f"{path.relative_to(ROOT)}:{number} {line.strip()}")
    assert not wrong, "\n".join(wrong)


def test_wall_clock_is_slept_on_in_netns_tests_alone() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{node.lineno} sleeps"
        for path in sources(ROOT / "tests")
        if "netns" not in path.parts
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("time.sleep", "sleep")
    ]
    assert not wrong, "\n".join(wrong)


def marks(path: Path) -> Iterator[tuple[int, ast.Call]]:
    """Every `pytest.mark.rfc(...)` of a file."""
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.rfc":
            yield node.lineno, node


def test_rfc_mark_names_a_number_and_a_requirement() -> None:
    wrong = []
    for path in sources(ROOT / "tests"):
        for line, call in marks(path):
            arguments = [arg.value if isinstance(arg, ast.Constant) else None for arg in call.args]
            named = len(arguments) == 2 and isinstance(arguments[1], str)
            sane = named and (isinstance(arguments[0], int) or str(arguments[0]).startswith("draft-ietf-"))
            if sane and arguments[0] == 9293:
                sane = bool(re.fullmatch(r"(MUST|SHLD|MAY|REC|X)-\d+|§[\dA-Z][\d.]*.*", str(arguments[1])))
            if not sane or call.keywords:
                wrong.append(f"{path.relative_to(ROOT)}:{line} {ast.unparse(call)}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("line", "expected"),
    [("import os.path", ["os.path"]), ("from usertcp.net import stack", ["usertcp.net.stack"])],
)
def test_imports_read_from_source_are_absolute(tmp_path: Path, line: str, expected: list[str]) -> None:
    path = tmp_path / "module.py"
    path.write_text(line)
    assert [name for _, name in imports(path)] == expected
