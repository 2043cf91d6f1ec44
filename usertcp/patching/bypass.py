"""What goes past the standard ``socket`` module: extensions that call the C library's socket() themselves.

They cannot be patched. Their sockets are the kernel's, and a program that mixes both may work, wait for ever or talk to
the wrong network; so whoever loads one is told on stderr, once for each package. What an extension may do is read from
the symbols that its file wants from others, and from the libraries it is linked with, so that it need not be known by
name. ELF of 64 bits, little end first; of others nothing is known. The interpreter's own extensions are no news.
"""

import contextlib
import mmap
import struct
import sys
from collections.abc import Iterator
from importlib.machinery import ExtensionFileLoader, ModuleSpec
from types import ModuleType
from typing import Any, Final

CALLS: Final = frozenset({b"socket", b"connect"})  # who wants both opens connections
LIBRARIES: Final = (
    "libcurl",
    "libev.",
    "libevent",
    "libmariadb",
    "libmysqlclient",
    "libpq",
    "librdkafka",
    "libuv",
    "libzmq",
)

# Packages that are known: what a user can do, or why it is no matter (None). Others are judged by their files alone.
KNOWN: Final[dict[str, str | None]] = {
    "MySQLdb": "pymysql is written in Python, and can take its place",
    "cryptography": None,  # carries an OpenSSL that could open sockets; nothing asks it to
    "gevent": "run the program without gevent's monkey-patching: threads or asyncio",
    "grpc": "there is no gRPC in Python alone: the kernel's network it is",
    "psycopg2": "pg8000 is written in Python, and can take its place",
    "psycopg_binary": "pg8000 is written in Python, and can take its place",
    "psycopg_c": "pg8000 is written in Python, and can take its place",
    "pycurl": "requests, urllib3 and httpx are written in Python, and can take its place",
    "uvloop": "use asyncio's own loop (uvicorn: --loop asyncio)",
}
UNKNOWN: Final = "look for one that is written in Python, or for a setting that leaves it out"

# Of ELF: section types, and the formats of headers and entries (the System V ABI's gabi, chapters 4 and 5).
DYNAMIC: Final = 6
DYNSYM: Final = 11
NEEDED: Final = 1  # a tag of a dynamic entry
HEADER: Final = struct.Struct("<16sHHIQQQIHHHHHH")
SECTION: Final = struct.Struct("<IIQQQQIIQQ")
SYMBOL: Final = struct.Struct("<IBBHQQ")
ENTRY: Final = struct.Struct("<QQ")

BROKEN: Final = (OSError, ValueError, OverflowError, IndexError, struct.error)  # what a file that is no ELF may cause

_warned: Final[set[str]] = set()
_watchers = 0
_create: Any = None  # the loader's method, while it is replaced


def watch() -> None:
    """Warn of extensions that are there, and of those that will be loaded."""
    global _create, _watchers  # noqa: PLW0603
    _watchers += 1
    if _watchers > 1:
        return
    for module in list(sys.modules.values()):
        _look(getattr(module, "__spec__", None))
    _create = create = ExtensionFileLoader.create_module

    def create_module(self: ExtensionFileLoader, spec: ModuleSpec) -> ModuleType:
        _look(spec)
        return create(self, spec)

    ExtensionFileLoader.create_module = create_module  # type: ignore[method-assign]


def unwatch() -> None:
    """Warn no more, when whoever called :func:`watch` has called this."""
    global _watchers  # noqa: PLW0603
    _watchers -= 1
    if not _watchers:
        ExtensionFileLoader.create_module = _create  # type: ignore[method-assign]


def _look(spec: Any) -> None:
    if not isinstance(spec, ModuleSpec) or not isinstance(spec.loader, ExtensionFileLoader):
        return
    package = spec.name.partition(".")[0]
    if package in _warned or package in sys.stdlib_module_names or KNOWN.get(package, "") is None:
        return
    if package in KNOWN or opens_sockets(str(spec.origin)):
        _warned.add(package)
        sys.stderr.write(
            f"usertcp: WARNING: {package} opens sockets itself, in C: they bypass usertcp and are the kernel's\n"
            f"  {KNOWN.get(package) or UNKNOWN}\n"
        )


def opens_sockets(path: str) -> bool:
    """Whether the shared object at ``path`` calls socket() and connect(), or a library that is there to do so."""
    wanted: set[bytes] = set()
    libraries: list[bytes] = []
    with (
        contextlib.suppress(*BROKEN),
        open(path, "rb") as file,
        mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as image,
    ):
        for kind, names in _tables(image):
            if kind == DYNSYM:
                wanted |= CALLS.intersection(names)
            else:
                libraries += names
    return wanted == CALLS or any(name.startswith(tuple(map(str.encode, LIBRARIES))) for name in libraries)


def _tables(image: mmap.mmap) -> Iterator[tuple[int, list[bytes]]]:
    """(DYNSYM, names that are wanted from others) and (DYNAMIC, names of libraries) of an ELF image."""
    head = HEADER.unpack_from(image)
    if head[0][:6] != b"\x7fELF\x02\x01":
        return
    start, size, count = head[6], head[11], head[12]
    sections = [SECTION.unpack_from(image, start + number * size) for number in range(count)]
    for section in sections:
        kind, offset, length, link = section[1], section[4], section[5], section[6]
        if kind not in (DYNSYM, DYNAMIC):
            continue
        strings = sections[link][4]
        table = image[offset : offset + length]
        if kind == DYNSYM:
            places = [name for name, _, _, where, _, _ in SYMBOL.iter_unpack(table) if not where]
        else:
            places = [value for tag, value in ENTRY.iter_unpack(table) if tag == NEEDED]
        yield kind, [image[strings + place : image.find(b"\0", strings + place)] for place in places]
