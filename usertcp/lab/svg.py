"""The ladder as an SVG picture, for documents.

Time runs downwards but not to scale: one row a segment, the seconds in the margin. Each lifeline is coloured by its
side's state, and a state is named where it begins, at the end of the arrow that brought it about. Nothing is fetched:
no script, no style sheet, no font but what the reader has.
"""

from typing import Final
from xml.sax.saxutils import escape

from usertcp.lab.ladder import Fate, Ladder, Rung
from usertcp.units import SEC

_WIDTH: Final = 900  # all lengths in SVG user units
_LEFT: Final = 250  # x of usertcp's lifeline
_RIGHT: Final = 720  # x of the kernel's
_TOP: Final = 104  # y of the first row
_ROW: Final = 46
_NOTE_ROW: Final = 34
_SLOPE: Final = 16  # how far an arrow falls
_FONT: Final = "font-family='DejaVu Sans, Verdana, Helvetica, Arial, sans-serif'"

_INK: Final = "#1f2933"
_FAINT: Final = "#7b8794"
_COLOURS: Final = {
    "CLOSED": "#9aa5b1",
    "LISTEN": "#8d6fd1",
    "SYN-SENT": "#e0a100",
    "SYN-RECEIVED": "#e07b00",
    "ESTABLISHED": "#2f9e44",
    "FIN-WAIT-1": "#1c7ed6",
    "FIN-WAIT-2": "#1098ad",
    "CLOSE-WAIT": "#c2255c",
    "CLOSING": "#7048e8",
    "LAST-ACK": "#d6336c",
    "TIME-WAIT": "#495fc9",
}
_ARROWS: Final = {
    Fate.DELIVERED: _INK,
    Fate.RELEASED: _INK,
    Fate.LOST: "#c92a2a",
    Fate.WITHHELD: "#b07d00",
    Fate.FORGED: "#862e9c",
}


def render(ladder: Ladder) -> str:
    """The whole document."""
    parts: list[str] = []
    left: list[tuple[int, str]] = []  # (y, state) where a state begins
    right: list[tuple[int, str]] = []
    y = _TOP
    for line in ladder:
        parts.append(_text(70, y + 4, f"{line.at / SEC:.3f} s", anchor="end", size=11, fill=_FAINT))
        if isinstance(line, Rung):
            starts, ends = (left, right) if line.outgoing else (right, left)
            _begin(starts, y, line.ours if line.outgoing else line.kernels)
            _begin(ends, y + _SLOPE, line.kernels if line.outgoing else line.ours)
            parts.append(_arrow(line, y))
            y += _ROW
            continue
        if line.heading:
            parts.append(_text((_LEFT + _RIGHT) // 2, y + 4, line.text, size=13, weight="bold"))
        else:
            parts.append(_text((_LEFT + _RIGHT) // 2, y + 4, line.text, size=12, fill=_FAINT, style="italic"))
        _begin(left, y, line.ours)
        _begin(right, y, line.kernels)
        y += _NOTE_ROW
    bottom = y + 6
    head = [
        f"<svg xmlns='http://www.w3.org/2000/svg' width='{_WIDTH}' height='{bottom + 24}'"
        f" viewBox='0 0 {_WIDTH} {bottom + 24}' {_FONT} role='img'>",
        f"<title>{escape(ladder.title)}</title>",
        f"<rect width='{_WIDTH}' height='{bottom + 24}' fill='#ffffff'/>",
        _text(_WIDTH // 2, 30, ladder.title, size=17, weight="bold"),
        _text(_LEFT, 66, ladder.left, size=13, weight="bold"),
        _text(_RIGHT, 66, ladder.right, size=13, weight="bold"),
    ]
    lifelines = [*_lifeline(_LEFT, left, bottom, -1), *_lifeline(_RIGHT, right, bottom, 1)]
    return "\n".join([*head, *lifelines, *parts, "</svg>", ""])


def _begin(states: list[tuple[int, str]], y: int, state: str) -> None:
    """Note that ``state`` holds from ``y`` on, if it is another than before."""
    if state and (not states or states[-1][1] != state):
        states.append((max(y, states[-1][0] + 13) if states else 80, state))


def _lifeline(x: int, states: list[tuple[int, str]], bottom: int, side: int) -> list[str]:
    """The coloured line at ``x`` and, on its outer ``side``, the name of each state where it begins."""
    drawn = [f"<line x1='{x}' y1='76' x2='{x}' y2='{bottom}' stroke='#cbd2d9' stroke-width='2'/>"]
    for index, (y, state) in enumerate(states):
        until = states[index + 1][0] if index + 1 < len(states) else bottom
        colour = _COLOURS.get(state, _FAINT)
        drawn.append(f"<line x1='{x}' y1='{y}' x2='{x}' y2='{until}' stroke='{colour}' stroke-width='5'/>")
        drawn.append(
            _text(
                x + side * 12, y + 4, state, anchor="end" if side < 0 else "start", size=12, weight="bold", fill=colour
            )
        )
    return drawn


def _arrow(rung: Rung, y: int) -> str:
    """A falling arrow with its label above it; one that did not arrive ends in a cross or a bar half-way."""
    colour = _ARROWS[rung.fate]
    start, end = (_LEFT + 6, _RIGHT - 6) if rung.outgoing else (_RIGHT - 6, _LEFT + 6)
    stopped = rung.fate in (Fate.LOST, Fate.WITHHELD)
    reach = 0.62 if stopped else 1.0
    x2, y2 = start + (end - start) * reach, y + _SLOPE * reach
    dash = " stroke-dasharray='6 4'" if rung.fate is not Fate.DELIVERED else ""
    width = 4 if rung.count > 1 else 2
    drawn = [
        f"<line x1='{start}' y1='{y}' x2='{x2:.1f}' y2='{y2:.1f}' stroke='{colour}' stroke-width='{width}'{dash}/>"
    ]
    if rung.fate is Fate.LOST:
        drawn.append(
            f"<path d='M{x2 - 6:.1f} {y2 - 6:.1f} l12 12 m0 -12 l-12 12' stroke='{colour}' stroke-width='2.5'"
            " fill='none'/>"
        )
    elif rung.fate is Fate.WITHHELD:
        drawn.append(
            f"<path d='M{x2:.1f} {y2 - 8:.1f} v16 m4 -16 v16' stroke='{colour}' stroke-width='2.5' fill='none'/>"
        )
    else:
        back = -11 if rung.outgoing else 11
        drawn.append(f"<path d='M{x2:.1f} {y2:.1f} l{back} -5 v10 z' fill='{colour}'/>")
    tilt = 1.95 if rung.outgoing else -1.95  # degrees: atan(_SLOPE / (_RIGHT - _LEFT))
    middle, height = round((start + x2) / 2), round((y + y2) / 2) - 6
    label = rung.label + (f"  ({rung.remark})" if rung.remark else "")
    drawn.append(
        f"<text x='{middle}' y='{height}' text-anchor='middle' font-size='12' fill='{colour}'"
        f" transform='rotate({tilt} {middle} {height})'>{escape(label)}</text>"
    )
    return "".join(drawn)


def _text(
    x: float, y: float, words: str, *, anchor: str = "middle", size: int = 12, fill: str = _INK,
    weight: str = "normal", style: str = "normal",
) -> str:  # fmt: skip
    return (
        f"<text x='{x}' y='{y}' text-anchor='{anchor}' font-size='{size}' fill='{fill}'"
        f" font-weight='{weight}' font-style='{style}'>{escape(words)}</text>"
    )
