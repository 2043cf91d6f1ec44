#!/usr/bin/env python3
"""Draws the state diagram in docs/architecture.md from ``usertcp.tcp.state.TRANSITIONS``.

The table that the code asserts at every change of state is the diagram's only source. The drawing is a Mermaid block
between two markers; abrupt ends (resets, aborts, time-outs), which lead from nearly everywhere to CLOSED, are listed in
a note below it instead of being drawn over everything else. ``--check`` writes nothing and fails if the file is stale.
"""

import sys
from pathlib import Path
from typing import Final

from usertcp.tcp.state import TRANSITIONS, State

DOCUMENT: Final = Path(__file__).parents[1] / "docs" / "architecture.md"
BEGIN: Final = "<!-- states: drawn by scripts/draw_states.py -->\n"
END: Final = "<!-- end of states -->\n"
# Transitions into CLOSED that end an orderly life; the other ways there are abrupt.
ORDERLY: Final = {State.LISTEN, State.LAST_ACK, State.TIME_WAIT}


def draw() -> str:
    """The Mermaid block and the note of abrupt ends."""
    lines = ["```mermaid", "stateDiagram-v2"]
    lines += [f'    state "{state.value}" as {state.name}' for state in State]
    abrupt: dict[str, list[str]] = {}
    for state, targets in TRANSITIONS.items():
        for target, why in targets.items():
            if target is State.CLOSED and state not in ORDERLY:
                abrupt.setdefault(why, []).append(state.value)
            else:
                lines.append(f"    {state.name} --> {target.name}: {why}")
    lines += ["```", "", "Abrupt ends, not drawn, all lead to CLOSED:", ""]
    lines += [f"- {why}: from {', '.join(states)}" for why, states in abrupt.items()]
    return "\n".join(lines) + "\n"


def redrawn(text: str) -> str:
    """The document ``text`` with the diagram drawn anew between the markers."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"{DOCUMENT}: the markers are missing: {BEGIN.strip()} ... {END.strip()}")
    return before + begin + draw() + end + after


def main() -> None:
    """Write the diagram, or with ``--check`` exit 1 if it is not current."""
    text = DOCUMENT.read_text()
    new = redrawn(text)
    if sys.argv[1:] == ["--check"]:
        if new != text:
            raise SystemExit("docs/architecture.md: the state diagram is stale: run make docs")
    elif new != text:
        DOCUMENT.write_text(new)


if __name__ == "__main__":
    main()
