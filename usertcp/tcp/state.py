"""The eleven states of RFC 9293 §3.3.2, the transitions between them, and what a connection tells its user.

The table below is the state diagram of RFC 9293 §3.3.2 Figure 5 with the transitions that §3.10 adds in words (aborts,
resets, time-outs, the three-segment close). ``Connection`` changes state in one place, which asserts this table, and
the diagram in the documentation is drawn from it. Nothing here acts.
"""

from enum import Enum
from typing import Final


class State(Enum):
    """A connection state; ``str()`` spells it as the RFC does."""

    CLOSED = "CLOSED"
    LISTEN = "LISTEN"
    SYN_SENT = "SYN-SENT"
    SYN_RECEIVED = "SYN-RECEIVED"
    ESTABLISHED = "ESTABLISHED"
    FIN_WAIT_1 = "FIN-WAIT-1"
    FIN_WAIT_2 = "FIN-WAIT-2"
    CLOSE_WAIT = "CLOSE-WAIT"
    CLOSING = "CLOSING"
    LAST_ACK = "LAST-ACK"
    TIME_WAIT = "TIME-WAIT"

    def __str__(self) -> str:
        return self.value

    __hash__ = object.__hash__  # by identity, as it is compared: an Enum's own is a function in Python


TRANSITIONS: Final[dict[State, dict[State, str]]] = {
    State.CLOSED: {
        State.LISTEN: "passive OPEN",
        State.SYN_SENT: "active OPEN / send SYN",
    },
    State.LISTEN: {
        State.SYN_RECEIVED: "receive SYN / send SYN,ACK",
        State.CLOSED: "CLOSE",
    },
    State.SYN_SENT: {
        State.SYN_RECEIVED: "receive SYN / send SYN,ACK",
        State.ESTABLISHED: "receive SYN,ACK / send ACK",
        State.CLOSED: "CLOSE, RST or time-out",
    },
    State.SYN_RECEIVED: {
        State.ESTABLISHED: "receive ACK of SYN",
        State.FIN_WAIT_1: "CLOSE / send FIN",
        State.CLOSED: "RST, ABORT or time-out",
    },
    State.ESTABLISHED: {
        State.FIN_WAIT_1: "CLOSE / send FIN",
        State.CLOSE_WAIT: "receive FIN / send ACK",
        State.CLOSED: "RST, ABORT or time-out",
    },
    State.FIN_WAIT_1: {
        State.FIN_WAIT_2: "receive ACK of FIN",
        State.CLOSING: "receive FIN / send ACK",
        State.TIME_WAIT: "receive FIN and ACK of FIN / send ACK",
        State.CLOSED: "RST, ABORT or time-out",
    },
    State.FIN_WAIT_2: {
        State.TIME_WAIT: "receive FIN / send ACK",
        State.CLOSED: "RST, ABORT or time-out",
    },
    State.CLOSE_WAIT: {
        State.LAST_ACK: "CLOSE / send FIN",
        State.CLOSED: "RST, ABORT or time-out",
    },
    State.CLOSING: {
        State.TIME_WAIT: "receive ACK of FIN",
        State.CLOSED: "RST, ABORT or time-out",
    },
    State.LAST_ACK: {
        State.CLOSED: "receive ACK of FIN",
    },
    State.TIME_WAIT: {
        State.CLOSED: "2 MSL time-out",
    },
}

# States in which the user may still hand in data, or have data waiting (RFC 9293 §3.10.2).
CAN_SEND: Final = frozenset({State.ESTABLISHED, State.CLOSE_WAIT})
# States in which the peer's data is still taken (RFC 9293 §3.10.7.4, seventh).
CAN_RECEIVE: Final = frozenset({State.ESTABLISHED, State.FIN_WAIT_1, State.FIN_WAIT_2})

# What ``Connection.ready`` and ``Listener.ready`` tell the user's side, as bits.
READABLE: Final = 1  # in-order bytes wait (a listener: an accepted connection waits)
WRITABLE: Final = 2  # the send buffer has room
CONNECTED: Final = 4  # the handshake is done
EOF: Final = 8  # the peer's FIN is in order: after the waiting bytes comes the end
FAILED: Final = 16  # ``Connection.error`` is set
URGENT: Final = 32  # urgent data waits (RFC 9293 §3.8.5)
GONE: Final = 64  # CLOSED was reached: nothing will come any more
REPORTED: Final = 128  # trouble that ends nothing waits to be told (RFC 9293 §3.9.1.8)

# What ``Connection.calm`` knows of how things stand. Whatever is not expected makes it DOUBTED, to be looked into anew.
ENDING: Final = -2  # nothing is the matter but that one of the two ends has closed, and nothing is on its way
CONTROL: Final = -1  # our SYN or FIN, sent once and not written down, is all that is on its way (``control``)
DOUBTED: Final = 0
CALM: Final = 1  # nothing is the matter (``express.is_plain``)
ALONE: Final = 2  # nor is anything on its way but one message, sent once (``message``), and all that waits is in it
ANSWERED: Final = 3  # that one's answer has come, and is not written down yet (``exchange``)

# Why the path says a segment of ours did not arrive (ICMP; RFC 9293 §3.9.2.2, RFC 5461).
UNREACHABLE_NET: Final = 0
UNREACHABLE_HOST: Final = 1
UNREACHABLE_PROTOCOL: Final = 2
UNREACHABLE_PORT: Final = 3
FRAGMENTATION_NEEDED: Final = 4
SOFT: Final = 5  # time exceeded, parameter problem, source route failed and the rest: never hard
