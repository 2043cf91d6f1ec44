"""Which usertcp this is: its version, and whether the core runs compiled (``make hot``) or as it is written."""

from importlib import metadata
from importlib.util import find_spec


def version() -> str:
    """The installed version; of a bare checkout, that it is one."""
    try:
        return metadata.version("usertcp")
    except metadata.PackageNotFoundError:
        return "0 (not installed)"


def compiled() -> bool:
    """Whether the interpreter finds the core as extension modules, which it prefers to the sources beside them."""
    found = find_spec("usertcp.tcp.connection")
    return found is not None and found.origin is not None and not found.origin.endswith(".py")


def build() -> str:
    """In words."""
    return "compiled (mypyc)" if compiled() else "pure Python"
