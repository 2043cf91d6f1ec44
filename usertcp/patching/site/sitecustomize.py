"""Run by an interpreter that starts with this folder on PYTHONPATH: has the program's sockets be usertcp's.

The folder is taken off ``sys.path`` again, and another ``sitecustomize`` that it hides is run. What the sockets need is
loaded when the program makes its first: most children make none.
"""

import importlib.machinery
import importlib.util
import os
import sys
from typing import Any

HERE = os.path.dirname(os.path.abspath(__file__))


def run_hidden() -> None:
    """The ``sitecustomize`` that the interpreter would have found without us, if there is one."""
    sys.path[:] = [path for path in sys.path if os.path.abspath(path) != HERE]
    spec = importlib.machinery.PathFinder.find_spec("sitecustomize", sys.path)
    if spec is None or spec.loader is None:
        return
    module = importlib.util.module_from_spec(spec)
    sys.modules["sitecustomize"] = module
    spec.loader.exec_module(module)


def import_our_copy() -> None:
    """Import the usertcp that this file belongs to, and that the engine is of; not one that may be found elsewhere."""
    root = os.path.dirname(os.path.dirname(os.path.dirname(HERE)))
    sys.path.insert(0, root)
    try:
        import usertcp  # noqa: F401
    finally:
        sys.path.remove(root)


def arm() -> None:
    """Have the first socket install usertcp's; warn of extensions that go past them from the start."""
    import functools
    import socket
    import threading

    from usertcp.patching import bypass

    standard = socket.socket.__init__
    lock = threading.RLock()
    installing = False

    @functools.wraps(standard)
    def first(self: socket.socket, *args: Any, **kwargs: Any) -> None:
        nonlocal installing
        with lock:
            if socket.socket.__init__ is first and not installing:
                installing = True
                from usertcp.patching.place import install

                install()
        (standard if socket.socket.__init__ is first else socket.socket.__init__)(self, *args, **kwargs)

    socket.socket.__init__ = first  # type: ignore[method-assign]
    bypass.watch()


if os.environ.get("USERTCP_ENGINE") and sys.version_info >= (3, 11):
    import_our_copy()
    arm()
run_hidden()
