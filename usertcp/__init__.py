"""usertcp: a TCP/IP stack in user space.

The ways in are :mod:`usertcp.blocking` (synchronous, the caller drives the stack), :mod:`usertcp.aio` (asyncio) and
:mod:`usertcp.socket` (the shape of the standard library's socket); below them lie the drivers, the links and a core
that does no I/O of its own. Importing the package imports none of them.

:func:`patch` and :func:`install` turn the standard ``socket`` module into the last of these.
"""

TYPE_CHECKING = False  # as typing's, which would have to be loaded for it
if TYPE_CHECKING:
    from usertcp.patching.place import install, patch


try:  # noqa: SIM105  (what that needs would have to be loaded, too)
    import usertcp__mypyc  # type: ignore[import-not-found]  # noqa: F401  (the compiled core: see architecture.md)
except ImportError:
    pass

__all__ = ["install", "patch"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from usertcp.patching import place

    value: object = getattr(place, name)
    return value
