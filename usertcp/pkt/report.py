"""What a failed script's reader wants to know: which line, what differs, what happened before, and how TCP stands."""

from usertcp.pkt.compare import Field
from usertcp.pkt.runner import Failure, Outcome
from usertcp.units import to_seconds


def render(outcome: Outcome) -> str:
    """An outcome as lines: one if the script holds."""
    failure = outcome.failure
    if failure is None:
        return f"{outcome.script}: holds on {_named(outcome)}"
    lines = [f"{outcome.script}:{failure.line}: on {_named(outcome)}: {failure.reason}", f"    {failure.source}"]
    if failure.fields:
        lines += ["", *_beside(failure.fields)]
    if failure.log:
        lines += ["", "  so far:", *_log(failure)]
    if failure.state:
        lines += ["", f"  then: {failure.state}"]
    return "\n".join(lines)


def _named(outcome: Outcome) -> str:
    return "the kernel" if outcome.target == "kernel" else outcome.target


def _beside(fields: tuple[Field, ...]) -> list[str]:
    """The expected segment and the one that was sent, side by side; what differs is marked."""
    width = max(len("expected"), *[len(each.expected) for each in fields])
    lines = [f"    {'':8} {'expected':{width}}  sent"]
    for each in fields:
        mark = "*" if each.differs else " "
        lines.append(f"  {mark} {each.name:8} {each.expected or '-':{width}}  {each.actual or '-'}")
    return lines


def _log(failure: Failure) -> list[str]:
    return [f"    {to_seconds(at):10.6f}  {text}" for at, text in failure.log]
