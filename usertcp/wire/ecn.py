"""The ECN field, the lowest two bits of the second byte of an IPv4 header (RFC 3168 §5), as of an IPv6 traffic class.

::

    | DSCP 6 | ECN 2 |       00 Not-ECT    10 ECT(0)
                             01 ECT(1)     11 CE

A sender that will hear of it says ECT, a router that would rather mark than drop makes it CE. What the two ends of a
TCP connection then tell each other is in ``tcp.ecn`` and ``tcp.accecn``.
"""

from typing import Final

NOT_ECT: Final = 0  # mark it by dropping it
ECT_1: Final = 1
ECT_0: Final = 2
CE: Final = 3  # congestion experienced
MASK: Final = 3

NAMES: Final = ("not-ect", "ect1", "ect0", "ce")  # by code point
