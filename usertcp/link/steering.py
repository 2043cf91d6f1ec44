"""Which queue of a TUN a packet goes to: a program that the kernel runs on each (eBPF, TUNSETSTEERINGEBPF).

A TUN with several queues is served by several processes, each with its own connections. By itself the kernel sends a
packet to the queue on which the flow was last written, and forgets that after three idle seconds; then a hash decides
that nobody else can compute, and a connection that was opened here would be answered there. So the choice is made by
:func:`usertcp.frame.flow_hash` of addresses and ports, which stays, and which who opens a connection can compute
beforehand. An ICMP error goes where the packet goes that it is about, since the hash is the same in both directions.
Everything else is for the first queue::

    | IPv4: ... protocol @9 ... source @12, destination @16 | TCP: ports @0, @2 ...
    | IPv4: ... protocol @9 ...                             | ICMP: type @0 ... | @8: an IPv4 header as above

Not here: Ethernet, where hardware addresses would have to be agreed on as well.
"""

import ctypes
import errno
import os
import platform
import struct
from fcntl import ioctl
from typing import Final

from usertcp.errors import SetupError
from usertcp.frame import FLOW_FACTOR

TUNSETSTEERINGEBPF: Final = 0x800454E0
BPF_PROG_LOAD: Final = 5  # linux/bpf.h
SOCKET_FILTER: Final = 1
_CALLS: Final = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "ppc64le": 361, "s390x": 351}  # bpf(2), by machine

MOVE: Final = 0xBF
SET: Final = 0xB7
AND: Final = 0x57
SHIFT_LEFT: Final = 0x67
ADD: Final = 0x0F
ADD_CONSTANT: Final = 0x07
XOR: Final = 0xAF
MULTIPLY_32: Final = 0x24
SHIFT_RIGHT_32: Final = 0x74
JUMP: Final = 0x05
IF_EQUAL: Final = 0x15
EXIT: Final = 0x95
LOAD_BYTE_AT: Final = 0x50  # A = packet[register + constant]; past the end the program ends with 0
LOAD_HALF_AT: Final = 0x48
LOAD_WORD_AT: Final = 0x40

A, CONTEXT, HASH, HEADER, PORTS = 0, 6, 7, 8, 9  # registers; 6 to 9 outlive a load, which finds the packet by 6

_INSTRUCTION: Final = struct.Struct("=BBhi")

Line = tuple[int, int, int, str, int] | str  # code, target, source register, jump, constant; or a label

_PROGRAM: Final[list[Line]] = [
    (MOVE, CONTEXT, 1, "", 0),
    (SET, HEADER, 0, "", 0),
    (LOAD_BYTE_AT, A, HEADER, "", 9),
    (IF_EQUAL, A, 0, "tcp", 6),
    (IF_EQUAL, A, 0, "icmp", 1),
    (JUMP, A, 0, "first", 0),
    "icmp",
    (LOAD_BYTE_AT, A, HEADER, "", 0),
    (AND, A, 0, "", 15),
    (SHIFT_LEFT, A, 0, "", 2),
    (MOVE, HEADER, A, "", 0),
    (LOAD_BYTE_AT, A, HEADER, "", 0),
    (ADD_CONSTANT, HEADER, 0, "", 8),
    (IF_EQUAL, A, 0, "tcp", 3),  # destination unreachable, and too big
    (IF_EQUAL, A, 0, "tcp", 11),  # time exceeded
    (IF_EQUAL, A, 0, "tcp", 12),  # parameter problem
    "first",
    (SET, A, 0, "", 0),
    (EXIT, A, 0, "", 0),
    "tcp",
    (LOAD_WORD_AT, A, HEADER, "", 12),
    (MOVE, HASH, A, "", 0),
    (LOAD_WORD_AT, A, HEADER, "", 16),
    (XOR, HASH, A, "", 0),
    (LOAD_BYTE_AT, A, HEADER, "", 0),
    (AND, A, 0, "", 15),
    (SHIFT_LEFT, A, 0, "", 2),
    (MOVE, PORTS, A, "", 0),
    (ADD, PORTS, HEADER, "", 0),
    (LOAD_HALF_AT, A, PORTS, "", 0),
    (XOR, HASH, A, "", 0),
    (LOAD_HALF_AT, A, PORTS, "", 2),
    (XOR, HASH, A, "", 0),
    (MULTIPLY_32, HASH, 0, "", FLOW_FACTOR - (1 << 32)),
    (SHIFT_RIGHT_32, HASH, 0, "", 16),
    (MOVE, A, HASH, "", 0),
    (EXIT, A, 0, "", 0),
]


def assemble(lines: list[Line]) -> bytes:
    """The program as the kernel takes it; jumps go to labels further on."""
    places: dict[str, int] = {}
    instructions: list[tuple[int, int, int, str, int]] = []
    for line in lines:
        if isinstance(line, str):
            places[line] = len(instructions)
        else:
            instructions.append(line)
    return b"".join(
        _INSTRUCTION.pack(code, source << 4 | target, places[jump] - at - 1 if jump else 0, constant)
        for at, (code, target, source, jump, constant) in enumerate(instructions)
    )


def steer(descriptor: int) -> None:
    """Have the device behind ``descriptor`` choose queues by the hash of flows. SetupError where that cannot be."""
    program = -1
    try:
        program = _load(assemble(_PROGRAM))
        ioctl(descriptor, TUNSETSTEERINGEBPF, struct.pack("=i", program))
    except OSError as error:
        cure = "run as root, or use one worker" if error.errno in (errno.EPERM, errno.EACCES) else "use one worker"
        raise SetupError(f"the kernel does not steer flows to queues ({error.strerror})", cure) from None
    finally:
        if program >= 0:
            os.close(program)  # the device holds it


def _load(code: bytes) -> int:
    """A descriptor of the program ``code`` (bpf(2)). OSError."""
    number = _CALLS.get(platform.machine())
    if number is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    text, licence = ctypes.create_string_buffer(code), ctypes.create_string_buffer(b"MIT")
    request = struct.pack(
        "=IIQQIIQII",
        SOCKET_FILTER,
        len(code) // _INSTRUCTION.size,
        ctypes.addressof(text),
        ctypes.addressof(licence),
        0,
        0,
        0,
        0,
        0,
    )
    call = ctypes.CDLL(None, use_errno=True).syscall
    got: int = call(ctypes.c_long(number), ctypes.c_int(BPF_PROG_LOAD), request, ctypes.c_uint(len(request)))
    if got < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return got
