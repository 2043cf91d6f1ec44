"""How another Python is started that runs code of this package, and nobody else's."""

import sys
from pathlib import Path
from typing import Final

ROOT: Final = str(Path(__file__).parents[2])  # where the package lies


def command(code: str) -> list[str]:
    """The command line of an interpreter that executes ``code``, to which the package is the one that we are of.

    -P: the current directory is not searched for modules, because it may be anybody's, and we may be root.
    """
    ours = f"import sys; sys.path.insert(0, {ROOT!r}); import usertcp; del sys.path[0]"
    return [sys.executable, "-P", "-c", f"{ours}; {code}"]
