"""The budget of memory that all connections of a host share, and what becomes scarce first when it runs out.

What costs memory is what is buffered: written and not acknowledged, received and not read. It is charged by the true
size of the rings (``ring``), at the moment they take it, and credited when they give it back; an idle connection has
none. A buffer's limit and the window that was offered are promises of memory, not memory, and there may be many times
more of them than there is. So the rules begin to bite well before the end::

      0            low = 1/2       pressure = 2/3          limit
      |--------------|----------------|----------------------|----> used
       all may grow    as it was         *pressed*             *exhausted*

=====================  ===========  =====================================  ==========================================
what                   at ease      pressed                                exhausted
=====================  ===========  =====================================  ==========================================
a buffer's limit       tunes        stays                                  stays
the window we offer    the limit    what the ring holds, or a share of     what the ring holds, or the minimum
                                    what is left; never taken back
text in the window     taken        taken                                  taken as far as the ring holds it, or up to
                                                                           the minimum; the rest is dropped and counted
gaps in what arrives   many         few, and none that makes a ring        few, and none that makes a ring
                                    eight times what it holds              eight times what it holds
what a ring has beyond kept         given back, once when it begins        given back
what it holds or owes
what a user writes     the limit    what the ring holds, or a share        what the ring holds, or the minimum
closed by its user,    8 probes     reset                                  reset
and the window closed
new connections        yes          yes                                    no: a SYN is dropped and counted, an active
                                                                           open is refused
=====================  ===========  =====================================  ==========================================

``pressed`` lasts from ``pressure`` until no more than ``low`` is used, so that it does not flicker. A *share* is a
256th of what is left, so that many who come at once find something still.

A promise that cannot be kept is honoured as a lost segment: what is dropped is not acknowledged, neither by number nor
by SACK, and comes again; what was acknowledged stays, whatever happens. To the peer it looks like congestion, and it
slows down as for that. If the user does not read either, for as long as the peer's R2, the peer will give up.

Nothing can wait for memory that others hold: each ring may have ``minimum`` bytes, two segments, even beyond the limit.
So a user that reads always gets more and one that writes always may; the whole is bounded by ``limit`` and ``minimum``
for each ring. Copies that views keep alive while a ring grows are not counted: they are gone when the call returns.
"""

from typing import Final

from usertcp.units import KIB

MIN_CAPACITY: Final = 4 * KIB  # bytes; the smallest ring: a page, and more than two segments of an Ethernet
MAX_SPARE: Final = 64  # smallest rings that are kept for reuse: a quarter of a megabyte
MAX_KEPT: Final = 1024 * KIB  # the largest ring of which one is kept
UNBOUNDED: Final = 1 << 62  # bytes
SHARE: Final = 8  # under pressure a ring may grow to 1/2^8 of what is left


class Memory:
    """A budget of ``limit`` bytes, of which ``used`` are taken. Sizes in bytes.

    ``minimum``  what each ring may have, if it needs it, whatever the others do: a power of two
    ``pressed``  little is left, see the table; ``exhausted``: nothing is
    ``peak``     the most that was ever used
    ``spare``    smallest rings that nobody uses now, and nobody is charged with: most messages need one for a moment
    ``kept``     one larger ring of each size, by that, as ``spare``: to make a new one takes as long as to fill it
    ``refused``  segments with text of the window that found no memory, or not enough, and were dropped from there on
    """

    __slots__ = ("_low", "_pressure", "kept", "limit", "minimum", "peak", "pressed", "refused", "spare", "used")

    def __init__(self, limit: int = UNBOUNDED, segment: int = 0) -> None:
        """``segment``: the largest that will come, bytes, of which a ring's minimum takes two."""
        self.limit = limit
        self.minimum = max(MIN_CAPACITY, 1 << (2 * segment - 1).bit_length() if segment else 0)
        self._pressure = limit * 2 // 3
        self._low = limit // 2
        self.used = self.peak = 0
        self.pressed = False
        self.refused = 0
        self.spare: list[memoryview] = []
        self.kept: dict[int, memoryview] = {}

    @property
    def exhausted(self) -> bool:
        """Whether not even a minimum is left."""
        return self.limit - self.used < self.minimum

    @property
    def largest(self) -> int:
        """The most to which a buffer's limit may be tuned: nobody grows into the others' part for the mere future."""
        return self.limit >> 2

    def has(self, size: int) -> bool:
        """Whether there is memory for ``size`` bytes more, at ease."""
        return not self.pressed and self.limit - self.used >= size

    def charge(self, old: int, new: int) -> bool:
        """A ring wants to grow from ``old`` bytes to ``new``. False: it may not."""
        used = self.used + new - old
        if used > self.limit and new > self.minimum:
            return False
        self.used = used
        if used > self.peak:
            self.peak = used
        if used > self._pressure:
            self.pressed = True
        return True

    def lend(self, size: int) -> bool:
        """The same for ``size`` bytes without a ring, as long as there is ease."""
        used = self.used + size
        if used > self._low:
            return False
        self.used = used
        if used > self.peak:
            self.peak = used
        return True

    def eases(self, size: int) -> bool:
        """Whether :meth:`lend` would."""
        return self.used + size <= self._low

    def credit(self, size: int) -> None:
        """A ring gave its ``size`` bytes back."""
        self.used -= size
        if self.used <= self._low:
            self.pressed = False

    def take_spare(self) -> memoryview | None:
        """A smallest ring's bytes, charged; None: there is none ready, or not the ease to give it without asking."""
        used = self.used + MIN_CAPACITY
        if used > self._low or not self.spare:
            return None
        self.used = used
        if used > self.peak:
            self.peak = used
        return self.spare.pop()

    def give_back(self, view: memoryview) -> None:
        """A smallest ring gave its bytes back, which are kept for the next one."""
        self.used = used = self.used - MIN_CAPACITY
        if used <= self._low:
            self.pressed = False
        spare = self.spare
        if len(spare) < MAX_SPARE:
            spare.append(view)

    def ceiling(self, capacity: int) -> int:
        """The largest size that a ring of ``capacity`` bytes would be granted now."""
        left = self.limit - self.used + capacity
        return max(capacity, self.minimum, 1 << left.bit_length() - 1 if left > 0 else 0)

    def allowance(self, capacity: int) -> int:
        """The size to which a ring of ``capacity`` bytes should grow at most for what was not promised to anybody."""
        if not self.pressed:
            return self.ceiling(capacity)
        share = max(self.limit - self.used, 0) >> SHARE
        return max(capacity, self.minimum, 1 << share.bit_length() - 1 if share else 0)
