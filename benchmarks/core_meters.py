"""What work costs: nanoseconds, bytecode instructions and calls, the processor's instructions.

Nanoseconds are what matters, and on a machine that does something else besides they say little: the same code differs
by half from one second to the next. The interpreter's own instructions are the same at every run, and the cost of a
packet in an interpreter follows them closely; so they are what is compared with the past. They are counted by tracing
(``sys.settrace``, ``f_trace_opcodes``), together with the calls of functions, those of C included, and say nothing of a
compiled stack, nor of what one C function costs; for that there is the processor's own counter, where the machine has
one and lets us read it (perf_event_open(2); virtual machines often have none).
"""

import ctypes
import os
import platform
import struct
import sys
from abc import ABC, abstractmethod
from collections import Counter
from time import perf_counter_ns
from types import CodeType, FrameType
from typing import Any, Final

PERF_EVENT_OPEN: Final = {"x86_64": 298, "aarch64": 241}  # system call numbers
ATTR_SIZE: Final = 64  # PERF_ATTR_SIZE_VER0
HARDWARE: Final = 0  # perf_type_id
INSTRUCTIONS: Final = 1  # PERF_COUNT_HW_INSTRUCTIONS
EXCLUDE_KERNEL: Final = 1 << 5 | 1 << 6  # and the hypervisor


class Meter(ABC):
    """Adds up what lies between ``start`` and ``stop``."""

    @abstractmethod
    def start(self) -> None: ...

    @abstractmethod
    def stop(self) -> None: ...


class Clock(Meter):
    """Nanoseconds."""

    def __init__(self) -> None:
        self.total = 0
        self._since = 0

    def start(self) -> None:
        self._since = perf_counter_ns()

    def stop(self) -> None:
        self.total += perf_counter_ns() - self._since


class Bytecode(Meter):
    """The interpreter's instructions, and calls of functions of Python and C. ``where``: instructions by function."""

    def __init__(self) -> None:
        self.instructions = 0
        self.calls = 0
        self.where: Counter[CodeType] = Counter()

    def start(self) -> None:
        sys.setprofile(self._on_call)
        sys.settrace(self._on_frame)

    def stop(self) -> None:
        sys.settrace(None)
        sys.setprofile(None)

    def _on_frame(self, frame: FrameType, event: str, arg: Any) -> Any:
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        return self._on_instruction

    def _on_instruction(self, frame: FrameType, event: str, arg: Any) -> Any:
        if event == "opcode":
            self.instructions += 1
            self.where[frame.f_code] += 1
        return self._on_instruction

    def _on_call(self, frame: FrameType, event: str, arg: Any) -> None:
        if event in ("call", "c_call"):
            self.calls += 1


class Processor(Meter):
    """The processor's instructions in user space. OSError where they cannot be counted."""

    def __init__(self, kind: int = HARDWARE, event: int = INSTRUCTIONS) -> None:
        attr = ctypes.create_string_buffer(
            struct.pack("=IIQQQQQ", kind, ATTR_SIZE, event, 0, 0, 0, EXCLUDE_KERNEL), ATTR_SIZE
        )
        libc = ctypes.CDLL(None, use_errno=True)
        number = PERF_EVENT_OPEN.get(platform.machine(), -1)
        self._descriptor = libc.syscall(number, attr, 0, -1, -1, 0)
        if self._descriptor < 0:
            error = ctypes.get_errno()
            raise OSError(error, os.strerror(error))
        self.total = 0
        self._since = 0

    def start(self) -> None:
        self._since = self._now()

    def stop(self) -> None:
        self.total += self._now() - self._since

    def close(self) -> None:
        os.close(self._descriptor)

    def _now(self) -> int:
        return int.from_bytes(os.read(self._descriptor, 8), sys.byteorder)


def processor() -> Processor | None:
    """The counter of instructions, None where there is none."""
    try:
        return Processor()
    except OSError:
        return None
