"""A text, a place in it, and what comes next: what the parser is made of.

There are no tokens: the notation of packets and that of calls share characters but not words (``.`` is a flag here and
a part of a number there), so each rule asks for the pattern that it wants. White space and comments, of C and of C++,
are skipped before it.
"""

import re
from typing import Final

from usertcp.pkt.syntax import ScriptError

_SKIPPED: Final = re.compile(r"(?:\s|//[^\n]*|/\*.*?\*/)*", re.DOTALL)
_SEEN: Final = re.compile(r"\w+|\S")


class Scanner:
    """``text`` from ``at`` on."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.skip()

    @property
    def done(self) -> bool:
        """Whether nothing is left."""
        return self.at >= len(self.text)

    @property
    def line(self) -> int:
        """The line of the place, from 1."""
        return self.text.count("\n", 0, self.at) + 1

    def skip(self) -> None:
        """Over white space and comments."""
        match = _SKIPPED.match(self.text, self.at)
        assert match is not None
        self.at = match.end()
        if self.text.startswith("/*", self.at):
            raise self.error("a comment that does not end")

    def looking_at(self, pattern: re.Pattern[str]) -> bool:
        """Whether ``pattern`` comes next."""
        return pattern.match(self.text, self.at) is not None

    def take(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        """What ``pattern`` matches, which is then behind us."""
        match = pattern.match(self.text, self.at)
        if match is not None:
            self.at = match.end()
            self.skip()
        return match

    def accept(self, literal: str) -> bool:
        """Whether ``literal`` comes next, which is then behind us."""
        if not self.text.startswith(literal, self.at):
            return False
        self.at += len(literal)
        self.skip()
        return True

    def need(self, pattern: re.Pattern[str], what: str) -> re.Match[str]:
        """As :meth:`take`; ScriptError, which asks for ``what``, if something else comes next."""
        match = self.take(pattern)
        if match is None:
            raise self.wanted(what)
        return match

    def expect(self, literal: str) -> None:
        """``literal`` comes next, or a ScriptError."""
        if not self.accept(literal):
            raise self.wanted(f"{literal!r}")

    def wanted(self, what: str) -> ScriptError:
        """The error of a place where ``what`` should be."""
        seen = _SEEN.match(self.text, self.at)
        return self.error(f"{what} is wanted here, not {seen[0]!r}" if seen else f"{what} is wanted here, not the end")

    def error(self, message: str, at: int | None = None) -> ScriptError:
        """An error at ``at``, or at this place."""
        at = self.at if at is None else at
        start = self.text.rfind("\n", 0, at) + 1
        return ScriptError(message, self.text.count("\n", 0, at) + 1, at - start + 1)
