"""Which frames a packet socket is woken for, as classic BPF that the kernel runs (socket(7), SO_ATTACH_FILTER).

A program is a list of ``(code, jump if true, jump if false, constant)``; it looks at the whole Ethernet frame

    | destination 6 | source 6 | type 2 | IPv4: ... protocol @23, destination @30, TCP: ports ... |

and returns how many bytes to keep, 0 for none. Jumps are written as labels and only go forward.
"""

import ctypes
import socket
from typing import Final

SO_ATTACH_FILTER: Final = 26

LOAD_BYTE: Final = 0x30  # A = frame[k]
LOAD_HALF: Final = 0x28
LOAD_WORD: Final = 0x20
LOAD_BYTE_AT: Final = 0x50  # A = frame[X + k]
LOAD_HALF_AT: Final = 0x48
LOAD_IP_LENGTH: Final = 0xB1  # X = 4 * (frame[k] & 15)
IF_EQUAL: Final = 0x15
IF_ABOVE: Final = 0x25
IF_AT_LEAST: Final = 0x35
IF_BITS: Final = 0x45
RETURN: Final = 0x06
VLAN_TAGGED: Final = 0xFFFFF000 + 48  # SKF_AD_OFF + SKF_AD_VLAN_TAG_PRESENT, loaded like a byte

KEEP: Final = "keep"
SKIP: Final = "skip"
NEXT: Final = ""

Line = tuple[int, str, str, int] | str  # an instruction, or a label

_UNTAGGED: Final[list[Line]] = [(LOAD_BYTE, NEXT, NEXT, VLAN_TAGGED), (IF_EQUAL, NEXT, SKIP, 0)]


def for_address(mac: bytes) -> list[Line]:
    """Frames to ``mac`` and to groups: for an address of our own."""
    return [
        *_UNTAGGED,
        (LOAD_BYTE, NEXT, NEXT, 0),
        (IF_BITS, KEEP, NEXT, 1),
        (LOAD_WORD, NEXT, NEXT, 2),
        (IF_EQUAL, NEXT, SKIP, int.from_bytes(mac[2:], "big")),
        (LOAD_HALF, NEXT, NEXT, 0),
        (IF_EQUAL, KEEP, SKIP, int.from_bytes(mac[:2], "big")),
    ]


def for_ports(address: bytes, low: int, high: int) -> list[Line]:
    """For the host's own address: ARP replies, TCP to the ports, ICMP but echo requests; the rest is the kernel's."""
    return [
        *_UNTAGGED,
        (LOAD_HALF, NEXT, NEXT, 12),
        (IF_EQUAL, NEXT, "ip", 0x0806),
        (LOAD_HALF, NEXT, NEXT, 20),
        (IF_EQUAL, KEEP, SKIP, 2),
        "ip",
        (IF_EQUAL, NEXT, SKIP, 0x0800),
        (LOAD_WORD, NEXT, NEXT, 30),
        (IF_EQUAL, NEXT, SKIP, int.from_bytes(address, "big")),
        (LOAD_HALF, NEXT, NEXT, 20),
        (IF_BITS, SKIP, NEXT, 0x1FFF),  # a later fragment has no ports
        (LOAD_IP_LENGTH, NEXT, NEXT, 14),
        (LOAD_BYTE, NEXT, NEXT, 23),
        (IF_EQUAL, "tcp", NEXT, 6),
        (IF_EQUAL, NEXT, SKIP, 1),
        (LOAD_BYTE_AT, NEXT, NEXT, 14),
        (IF_EQUAL, SKIP, KEEP, 8),  # an echo request
        "tcp",
        (LOAD_HALF_AT, NEXT, NEXT, 16),
        (IF_AT_LEAST, NEXT, SKIP, low),
        (IF_ABOVE, SKIP, KEEP, high),
    ]


class _Instruction(ctypes.Structure):
    _fields_ = (("code", ctypes.c_uint16), ("jt", ctypes.c_uint8), ("jf", ctypes.c_uint8), ("k", ctypes.c_uint32))


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_uint16), ("first", ctypes.POINTER(_Instruction)))


def assemble(lines: list[Line]) -> list[tuple[int, int, int, int]]:
    """The program with its labels resolved, and the two ends that they may name behind it."""
    instructions: list[tuple[int, str, str, int]] = []
    places: dict[str, int] = {}
    for line in [*lines, KEEP, (RETURN, NEXT, NEXT, 0x40000), SKIP, (RETURN, NEXT, NEXT, 0)]:
        if isinstance(line, str):
            places[line] = len(instructions)
        else:
            instructions.append(line)
    return [
        (code, places[true] - at - 1 if true else 0, places[false] - at - 1 if false else 0, k)
        for at, (code, true, false, k) in enumerate(instructions)
    ]


def attach(sock: socket.socket, lines: list[Line]) -> None:
    """Let the kernel run the program on each frame for ``sock``."""
    program = assemble(lines)
    array = (_Instruction * len(program))(*(_Instruction(*line) for line in program))
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, bytes(_Program(len(program), array)))
