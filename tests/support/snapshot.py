"""Texts under version control that a test compares with what it computes.

A table of figures has no right answer that a test could assert; but it must not change unnoticed. So it lies in a
file, the test fails when the file says something else, and ``make snapshots`` (``pytest --snapshot-update``) writes it
anew: the change then shows in review.
"""

from pathlib import Path

import pytest


def compare(path: Path, text: str, request: pytest.FixtureRequest) -> None:
    """Fail unless the file ``path`` holds ``text``; write it there instead if that was asked for."""
    if request.config.getoption("--snapshot-update"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return
    known = path.read_text(encoding="utf-8") if path.exists() else ""
    assert text == known, f"{path.name} says something else; if this is meant: make snapshots, and review the change"
