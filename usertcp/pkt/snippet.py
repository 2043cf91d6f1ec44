"""``%{ assert tcpi_snd_cwnd == 10 }%``: statements about ``tcp_info``, in Python's notation.

Only ``assert`` of expressions: numbers, comparisons, arithmetic, ``and``, ``or``, ``not``, and the names
of the fields (``tcpi_`` before each) and of Linux's constants. A script is not to run programs.
"""

import ast
import re
from collections.abc import Mapping
from typing import Final

from usertcp.driver.options import INFO, INFO_FIELDS, STATE_NUMBERS
from usertcp.pkt.names import ASSERTABLE
from usertcp.pkt.scanner import Scanner
from usertcp.pkt.syntax import Code

_SPLIT: Final = ("tcpi_snd_wscale", "tcpi_rcv_wscale", "tcpi_delivery_rate_app_limited")  # parts of a byte
FIELDS: Final = frozenset([f"tcpi_{field}" for field in INFO_FIELDS] + list(_SPLIT))

_ALLOWED: Final = (
    ast.Compare,
    ast.BoolOp,
    ast.UnaryOp,
    ast.BinOp,
    ast.Constant,
    ast.Name,
    ast.Load,
    ast.cmpop,
    ast.boolop,
    ast.unaryop,
)
_OPERATORS: Final = (ast.Add, ast.Sub, ast.Mult, ast.FloorDiv, ast.Mod, ast.BitAnd, ast.BitOr, ast.BitXor, ast.RShift)
_SHOWN: Final = (
    *("snd_mss", "snd_cwnd", "snd_ssthresh", "unacked", "sacked", "lost", "retrans", "retransmits", "rto", "rtt"),
    *("snd_wnd", "rcv_wnd", "notsent_bytes"),
)
_LONGEST: Final = 10_000  # characters; more is no assertion


class Unheld(Exception):
    """An assertion does not hold. ``line`` is that of the script, ``values`` what its names stood for."""

    def __init__(self, line: int, text: str, values: dict[str, int], message: str) -> None:
        super().__init__(text)
        self.line = line
        self.text = text
        self.values = values
        self.message = message


def _statements(text: str) -> list[ast.Assert]:
    """What ``text`` says. ValueError, with SyntaxError's line and column as arguments, if that is no such thing."""
    lines = text.split("\n")
    margin = min([len(line) - len(line.lstrip()) for line in lines[1:] if line.strip()] or [0])
    lines = [lines[0].strip(), *[line[margin:] for line in lines[1:]]]
    if len(text) > _LONGEST:
        raise ValueError("this is too long", 1, 1)
    try:
        tree = ast.parse("\n".join(lines))
    except SyntaxError as error:
        raise ValueError(error.msg, error.lineno or 1, error.offset or 1) from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise ValueError(f"this cannot be read: {error}", 1, 1) from None
    found = []
    for statement in tree.body:
        if not isinstance(statement, ast.Assert):
            raise ValueError("only assert is understood here", statement.lineno, statement.col_offset + 1)
        _check(statement.test)
        found.append(statement)
    return found


def _check(test: ast.expr) -> None:
    line, column = test.lineno, test.col_offset + 1
    for node in ast.walk(test):
        if isinstance(node, ast.operator):
            if not isinstance(node, _OPERATORS):
                raise ValueError("only + - * // % & | ^ >> are understood here", line, column)
        elif not isinstance(node, _ALLOWED):
            raise ValueError("only comparisons of numbers are understood here", line, column)
        if isinstance(node, ast.Constant) and not isinstance(node.value, int | float):
            raise ValueError(f"{node.value!r} is no number", line, column)
        if isinstance(node, ast.Name) and node.id not in FIELDS and node.id not in ASSERTABLE:
            raise ValueError(f"there is no {node.id}: tcp_info has {', '.join(sorted(FIELDS))}", line, column)


def check(scan: Scanner, match: re.Match[str]) -> None:
    """ScriptError unless the snippet ``match`` is understood."""
    try:
        _statements(match[1])
    except ValueError as error:
        message, line, column = error.args
        before = match[1].split("\n")[: line - 1]
        start = match.start(1) + sum([len(text) + 1 for text in before])
        start += len(match[1][start - match.start(1) :]) - len(match[1][start - match.start(1) :].lstrip())
        raise scan.error(message, min(start + column - 1, match.end(1))) from None


def fields_of(info: bytes) -> dict[str, int]:
    """``struct tcp_info`` by names with ``tcpi_`` before them; fields that an older kernel leaves out are 0."""
    values = INFO.unpack(info[: INFO.size].ljust(INFO.size, b"\0"))
    fields = {f"tcpi_{name}": value for name, value in zip(INFO_FIELDS, values, strict=True)}
    scales, flags = fields["tcpi_wscale"], fields["tcpi_flags"]
    return fields | dict(zip(_SPLIT, (scales & 15, scales >> 4, flags & 1), strict=True))


def describe(info: bytes) -> str:
    """The figures of ``struct tcp_info`` that one looks at first, in a line."""
    fields = fields_of(info)
    state = next((str(state) for state, number in STATE_NUMBERS.items() if number == fields["tcpi_state"]), "?")
    return state + "".join([f", {name} {fields[f'tcpi_{name}']}" for name in _SHOWN])


def run(code: Code, fields: Mapping[str, int]) -> None:
    """Unheld if one of the assertions of ``code`` does not hold."""
    for statement in _statements(code.text):
        try:
            holds, why = bool(_value(statement.test, fields)), ""
        except (ArithmeticError, TypeError, ValueError) as error:
            holds, why = False, str(error)
        if not holds:
            names = sorted({node.id for node in ast.walk(statement) if isinstance(node, ast.Name)} & FIELDS)
            line = code.line + statement.lineno - 1
            raise Unheld(line, ast.unparse(statement), {name: fields[name] for name in names}, why)


def _value(expression: ast.expr, fields: Mapping[str, int]) -> object:
    """Of what :func:`_check` has passed: nothing in it can do more than compute."""
    program = compile(ast.Expression(expression), "assertion", "eval")
    return eval(program, {"__builtins__": {}, **ASSERTABLE, **fields})
