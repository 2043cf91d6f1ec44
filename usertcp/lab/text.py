"""The ladder and the checks as text, drawn with rich.

Two lifelines; left of them usertcp's state, right of them the kernel's, each as it was once the segment on that line
had its effect. A state that changed is bold, an unchanged one dim. Where the terminal has no colours the drawing says
the same, because an arrow that ends in a cross is lost and a remark says so.
"""

from collections.abc import Iterable
from typing import Final

from rich.console import Console
from rich.text import Text

from usertcp.lab.ladder import Fate, Ladder, Note, Rung
from usertcp.lab.result import Check
from usertcp.units import MS

_TIME: Final = 9  # columns of "  12.345 "
_STATE: Final = 13  # columns of the longest state, "SYN-RECEIVED", and a space
_WIDEST: Final = 62  # columns of an arrow
_NARROWEST: Final = 41
_COLOURS: Final = {
    Fate.DELIVERED: "cyan",
    Fate.RELEASED: "cyan",
    Fate.LOST: "red",
    Fate.WITHHELD: "yellow",
    Fate.FORGED: "magenta",
}


class Painter:
    """Draws line after line, so that a live ladder and a finished one are drawn by the same hand."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._width = max(_NARROWEST, min(_WIDEST, console.width - _TIME - 2 * _STATE - 4))
        self._ours = self._kernels = ""

    def head(self, ladder: Ladder) -> None:
        """The title and the names of the lifelines."""
        self._console.print()
        self._console.print(Text(ladder.title, style="bold"))
        left, right = ladder.left, ladder.right
        gap = max(1, self._width + 2 * (_STATE + 1) + 1 - len(left) - len(right))
        self._console.print(
            Text(" " * _TIME + left + " " * gap + right, style="bold cyan"), no_wrap=True, overflow="ignore"
        )

    def line(self, line: Rung | Note) -> None:
        """One line."""
        if isinstance(line, Note) and line.heading:
            self._console.print(
                Text(f"{'':{_TIME}}{'':{_STATE}}── {line.text}", style="bold"), no_wrap=True, overflow="ignore"
            )
            return
        text = Text()
        text.append(f"{line.at / (1000 * MS):8.3f} ", style="dim")
        text.append_text(self._state(line.ours, self._ours, right=True))
        text.append(" │", style="bold")
        text.append_text(self._arrow(line) if isinstance(line, Rung) else self._words(line))
        text.append("│ ", style="bold")
        text.append_text(self._state(line.kernels, self._kernels, right=False))
        text.rstrip()
        self._ours, self._kernels = line.ours or self._ours, line.kernels or self._kernels
        self._console.print(text, no_wrap=True, overflow="ignore", crop=False)

    def _state(self, state: str, before: str, *, right: bool) -> Text:
        style = "bold green" if state != before else "dim"
        return Text(f"{state:>{_STATE}}" if right else f"{state:<{_STATE}}", style=style)

    def _words(self, note: Note) -> Text:
        room = self._width
        words = note.text if len(note.text) <= room - 2 else note.text[: room - 3] + "…"
        return Text(f"{words:^{room}}", style="italic dim")

    def _arrow(self, rung: Rung) -> Text:
        """The label in the line, the head where the segment went, a cross where it was lost."""
        label = f" {rung.label} " + (f"({rung.remark}) " if rung.remark else "")
        if len(label) >= self._width:
            label = label[: self._width - 2] + "…"
        stopped = rung.fate in (Fate.LOST, Fate.WITHHELD)
        mark = {Fate.LOST: "✗", Fate.WITHHELD: "‖"}.get(rung.fate, "▶" if rung.outgoing else "◀")
        dashes = self._width - len(label) - 1
        tail = "─" * min(2, dashes)
        rest = dashes - len(tail)
        gap = " " * ((rest + 1) // 2) if stopped else ""
        line = "─" * (rest - len(gap))
        drawn = tail + label + line + mark + gap if rung.outgoing else gap + mark + line + label + tail
        return Text(drawn, style=_COLOURS[rung.fate])


def print_ladder(console: Console, ladder: Ladder) -> None:
    """A finished ladder."""
    painter = Painter(console)
    painter.head(ladder)
    for line in ladder:
        painter.line(line)


def print_checks(console: Console, checks: Iterable[Check]) -> None:
    """Every statement with its verdict, and what was seen where it does not hold."""
    for check in checks:
        mark = Text()
        mark.append("  ✓ " if check.holds else "  ✗ ", style="green" if check.holds else "bold red")
        mark.append(check.statement, style="" if check.holds else "red")
        if check.seen and not check.holds:
            mark.append(f"  (seen: {check.seen})", style="red")
        elif check.seen:
            mark.append(f"  {check.seen}", style="dim")
        console.print(mark, overflow="fold", highlight=False)
