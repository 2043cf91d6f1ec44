"""A device that fails: the one way in which tests inject errors, fullness and silence under a driver.

:class:`FaultyLink` lies over any link and does what a device does that is ill. It says what its device would say to
``read`` and ``send``; what becomes of a descriptor (a device deleted, an interface down) is shown in tests/netns.
"""

import errno
import os
from collections.abc import Callable

from usertcp.frame import FrameMeta
from usertcp.link.base import Link

SURVIVED = ("EIO", "ENOBUFS", "EAGAIN", "EINVAL")  # the device goes on: at most a frame was lost
EVERY = 3  # calls between two fits
DEADLY = ("ENETDOWN", "ENODEV", "EBADF", "EBADFD")  # it does not


def trouble(name: str) -> OSError:
    """The error ``name``, as a device raises it."""
    number: int = getattr(errno, name)
    return OSError(number, os.strerror(number))


class FaultyLink(Link):
    """A link that a test breaks.

    ``read_error``, ``send_error``  raised, ``read_faults`` and ``send_faults`` times (-1: for ever)
    ``full``     ``send`` takes nothing; ``room``: how many frames it takes until it is full (-1: any number)
    ``cut``      what is sent is lost, and nothing arrives
    ``fits``     what strikes every third call of either, one after another, until none is left: names, or "full"
    ``looks``    calls of ``read``; ``reads``: frames handed over; ``offers``: calls of ``send``; ``refused``: of these
    ``on_read``  called with each frame
    """

    def __init__(self, inner: Link) -> None:
        self.inner = inner
        self.name = inner.name
        self.caps = inner.caps
        self.read_error: OSError | None = None
        self.send_error: OSError | None = None
        self.read_faults = self.send_faults = -1
        self.full = self.cut = False
        self.room = -1
        self.looks = self.reads = self.offers = self.refused = 0
        self.fits: list[str] = []
        self.on_read: Callable[[], object] = lambda: None

    def fileno(self) -> int:
        return self.inner.fileno()

    def read(self) -> tuple[memoryview, FrameMeta] | None:
        self.looks += 1
        if self.fits and self.looks % EVERY == 0 and self.fits[0] != "full":
            raise trouble(self.fits.pop(0))
        if self.read_error is not None and self.read_faults:
            self.read_faults -= 1
            raise self.read_error
        got = self.inner.read()
        while self.cut and got is not None:
            got = self.inner.read()
        if got is not None:
            self.on_read()
        self.reads += got is not None
        return got

    def send(self, header: bytes | bytearray, payload: list[memoryview], meta: FrameMeta) -> bool:
        self.offers += 1
        if self.fits and self.offers % EVERY == 0:
            if (name := self.fits.pop(0)) != "full":
                raise trouble(name)
            return False
        if self.send_error is not None and self.send_faults:
            self.send_faults -= 1
            raise self.send_error
        if self.cut:
            return True
        taken = not self.full and self.room != 0 and self.inner.send(header, payload, meta)
        if taken and self.room > 0:
            self.room -= 1
        self.refused += not taken
        return taken

    def heal(self) -> None:
        """Be well again."""
        self.read_error = self.send_error = None
        self.full = self.cut = False
        self.room = -1

    def close(self) -> None:
        self.inner.close()
