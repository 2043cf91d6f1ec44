"""One class of CPython's tests, in a process of its own: ``python -m tests.cpython.child FD MODE MODULE [ID ...]``.

What happens is told on the descriptor FD, one JSON list a line: ``["test", id]`` for every test of the module in mode
``list``; else ``["start", id]``, ``["end", id, outcome, text]`` and at last ``["done"]``. An outcome is "passed",
"failed" or "skipped". MODE is ``kernel``, or ``usertcp``, which patches the standard module (:func:`usertcp.install`):
both ends of all connections are then on the loopback of one stack, and real segments go between them; or ``faulty``,
the same with a loopback that loses and reorders (:mod:`tests.cpython.faulty`).
"""

import faulthandler
import importlib
import json
import os
import sys
import unittest
from collections.abc import Iterator
from types import ModuleType, TracebackType
from typing import Any, Final

RESOURCES: Final = ("cpu", "subprocess", "walltime")  # of regrtest; "network" would mean hosts beyond this machine
LOCAL: Final = ("test_socketserver",)  # asks for "network" and stays on the loopback
SEED: Final = 5  # of the faults
ADDRESS: Final = "10.255.255.1/24"  # of the stack, beside its loopback

ExcInfo = tuple[type[BaseException], BaseException, TracebackType] | tuple[None, None, None]


class Result(unittest.TestResult):
    """Tells what becomes of each test, once; that of a test with subtests is the worst of theirs."""

    def __init__(self, fd: int) -> None:
        super().__init__()
        self._fd = fd
        self._outcome = ("passed", "")

    def startTest(self, test: unittest.TestCase) -> None:
        super().startTest(test)
        self._outcome = ("passed", "")
        tell(self._fd, "start", test.id())

    def stopTest(self, test: unittest.TestCase) -> None:
        super().stopTest(test)
        tell(self._fd, "end", test.id(), *self._outcome)

    def addError(self, test: unittest.TestCase, err: ExcInfo) -> None:
        super().addError(test, err)
        self._failed(test, self.errors[-1][1])

    def addFailure(self, test: unittest.TestCase, err: ExcInfo) -> None:
        super().addFailure(test, err)
        self._failed(test, self.failures[-1][1])

    def addSubTest(self, test: unittest.TestCase, subtest: unittest.TestCase, err: ExcInfo | None) -> None:
        super().addSubTest(test, subtest, err)
        if err is not None:
            self._failed(test, str(err[1]))

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:
        super().addSkip(test, reason)
        if self._outcome[0] == "passed":
            self._outcome = ("skipped", reason)

    def addUnexpectedSuccess(self, test: unittest.TestCase) -> None:
        super().addUnexpectedSuccess(test)
        self._failed(test, "an unexpected success")

    def _failed(self, test: unittest.TestCase, text: str) -> None:
        if isinstance(test, unittest.TestCase):
            self._outcome = ("failed", text)
        else:  # the set-up of the class or module: its tests do not start, and are reported missing
            sys.stderr.write(text)


def tell(fd: int, *words: str) -> None:
    """One line to whoever runs this."""
    os.write(fd, json.dumps(words).encode() + b"\n")


def tests_of(suite: unittest.TestSuite) -> Iterator[unittest.TestCase]:
    """The tests of a suite of suites."""
    for item in suite:
        if isinstance(item, unittest.TestSuite):
            yield from tests_of(item)
        else:
            yield item


def put_in_place(*, faulty: bool) -> None:
    """An engine on the loopback of a stack, and the standard module's sockets on it."""
    import usertcp
    import usertcp.socket as us
    from tests.cpython.faulty import FaultyStack
    from usertcp.link.memory import memory_pair
    from usertcp.net.stack import Stack, StackConfig

    link, _ = memory_pair(offload=True)
    config = StackConfig(addresses=(ADDRESS,))
    stack = FaultyStack(config, link.caps, SEED) if faulty else Stack(config, link.caps, os.urandom)
    us.Engine(stack, link).__enter__()
    usertcp.install()


def pair_over_tcp() -> tuple[Any, Any]:
    """Like ``socketpair()``, over TCP."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        accepted, _ = listener.accept()
    return client, accepted


def load(name: str) -> ModuleType:
    """A module of CPython's tests, ready to be run."""
    support: Any = importlib.import_module("test.support")
    support.use_resources = [*RESOURCES, "network"] if name in LOCAL else list(RESOURCES)
    module: Any = importlib.import_module(f"test.{name}")
    if name == "test_selectors":
        module.socketpair = pair_over_tcp
    return module  # type: ignore[no-any-return]


def main() -> None:
    fd, mode, name, wanted = int(sys.argv[1]), sys.argv[2], sys.argv[3], set(sys.argv[4:])
    os.set_inheritable(fd, False)
    faulthandler.enable()
    del sys.argv[1:]
    if mode in ("usertcp", "faulty"):
        put_in_place(faulty=mode == "faulty")
    tests = list(tests_of(unittest.defaultTestLoader.loadTestsFromModule(load(name))))
    if mode == "list":
        for test in tests:
            tell(fd, "test", test.id())
    else:
        unittest.TestSuite(test for test in tests if test.id() in wanted).run(Result(fd))
    tell(fd, "done")
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # what a test leaves behind must not hold up the next


if __name__ == "__main__":
    main()
