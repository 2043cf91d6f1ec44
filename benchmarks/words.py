"""Numbers on the command lines of the measurements: one that makes no sense is refused before anything runs."""

import argparse
import math


def count(text: str) -> int:
    """A whole number, one at least."""
    number = int(text)  # argparse says what a ValueError means
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is none: 1 at least")
    return number


def amount(text: str) -> float:
    """A number above nothing."""
    number = float(text)
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is none: more than 0 is wanted")
    return number


def share(text: str) -> float:
    """A part of all: from 0 to less than 1."""
    number = float(text)
    if not 0 <= number < 1:
        raise argparse.ArgumentTypeError(f"{text} is no share: 0 to less than 1, as 0.01")
    return number
