#!/usr/bin/env python3
"""The kernel's TCP at the other end, as a program of its own: started by :mod:`tests.netns.programs` in a namespace.

It uses the standard library alone and says what happens as one JSON object a line on stdout: first ``{"ready": PORT}``
when it listens (or has connected), in the end what it counted. Data is ``random.Random(seed).randbytes``, a
block at a time, so that both ends can make it and neither has to keep it.

    peer.py exchange (--listen | --connect) HOST PORT [--send N] [--seed S] [--pause SECONDS] ...   one connection
    peer.py echo HOST PORT              any number of connections, each echoed until its end, until stdin ends
    peer.py clients HOST PORT --count N --together M --size B     N echo clients, M at a time
"""

import argparse
import asyncio
import hashlib
import json
import random
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

BLOCK = 1 << 18  # bytes made or read at a time
TCP_REPAIR, TCP_REPAIR_QUEUE, TCP_QUEUE_SEQ = 19, 20, 21  # linux/tcp.h
TCP_SEND_QUEUE = 2
TCP_REPAIR_OFF_NO_WP = -1


def blocks(size: int, seed: int) -> Iterator[bytes]:
    """``size`` bytes that ``seed`` decides, in blocks."""
    source = random.Random(seed)
    while size > 0:
        yield source.randbytes(min(size, BLOCK))
        size -= BLOCK


def digest(size: int, seed: int) -> str:
    """The SHA-256 of those bytes, hexadecimal."""
    total = hashlib.sha256()
    for block in blocks(size, seed):
        total.update(block)
    return total.hexdigest()


def say(**what: Any) -> None:
    print(json.dumps(what), flush=True)


def settings(sock: socket.socket, args: argparse.Namespace) -> None:
    """The options the test chose; on a listener its connections inherit them."""
    if args.congestion:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, args.congestion.encode())
    if args.rcvbuf:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, args.rcvbuf)
    if args.sndbuf:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, args.sndbuf)


def choose_iss(sock: socket.socket, iss: int) -> None:
    """Make ``iss`` the initial sequence number of the handshake to come (root; what checkpoint and restore use)."""
    sock.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
    sock.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR_QUEUE, TCP_SEND_QUEUE)
    sock.setsockopt(socket.IPPROTO_TCP, TCP_QUEUE_SEQ, struct.pack("=I", iss))
    sock.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, TCP_REPAIR_OFF_NO_WP)


def only_connection(args: argparse.Namespace) -> socket.socket:
    """The one connection of ``exchange``."""
    if args.connect:
        sock = socket.socket()
        settings(sock, args)
        if args.bind_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(("", args.bind_port))
        if args.iss:
            choose_iss(sock, args.iss)
        sock.connect((args.host, args.port))
        say(ready=sock.getsockname()[1])
        return sock
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        settings(listener, args)
        listener.bind((args.host, args.port))
        listener.listen(1)
        say(ready=listener.getsockname()[1])
        return listener.accept()[0]


def exchange(args: argparse.Namespace) -> None:
    """Send ``--send`` bytes and receive until the end, both at once; say what came."""
    sock = only_connection(args)
    peer = sock.getpeername()
    began = time.monotonic()
    failure: list[OSError] = []

    def send() -> None:
        try:
            for block in blocks(args.send, args.seed):
                sock.sendall(block)
            sock.shutdown(socket.SHUT_WR)
        except OSError as error:
            failure.append(error)

    sender = threading.Thread(target=send)
    sender.start()
    if args.pause:
        time.sleep(args.pause)
    count, total = 0, hashlib.sha256()
    while data := sock.recv(BLOCK):
        count += len(data)
        total.update(data)
    sender.join()
    name = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).rstrip(b"\0").decode()
    sock.close()
    if failure:
        raise failure[0]
    say(received=count, sha256=total.hexdigest(), seconds=time.monotonic() - began, congestion=name, peer=peer[0])


async def echo(args: argparse.Namespace) -> None:
    """Echo every connection until stdin ends; say how many there were."""
    served = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal served
        try:
            while data := await reader.read(BLOCK):
                writer.write(data)
                await writer.drain()
            served += 1
        finally:
            writer.close()

    server = await asyncio.start_server(serve, args.host, args.port, backlog=1024)
    say(ready=server.sockets[0].getsockname()[1])
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    server.close()
    say(served=served)


async def clients(args: argparse.Namespace) -> None:
    """``--count`` connections, ``--together`` open at once; each sends ``--size`` bytes and wants them back."""
    gate = asyncio.Semaphore(args.together)
    everybody = asyncio.Event()  # with all open at once: nobody speaks before the last has connected
    waiting = min(args.count, args.together)
    intact = 0

    async def one(number: int) -> None:
        nonlocal intact, waiting
        async with gate:
            reader, writer = await asyncio.open_connection(args.host, args.port)
            waiting -= 1
            if waiting == 0:
                everybody.set()
            await everybody.wait()
            data = b"".join(blocks(args.size, args.seed + number))
            writer.write(data)
            writer.write_eof()
            received = await reader.read()
            intact += received == data
            writer.close()
            await writer.wait_closed()

    say(ready=0)
    await asyncio.gather(*(one(number) for number in range(args.count)))
    say(intact=intact)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["exchange", "echo", "clients"])
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    role = parser.add_mutually_exclusive_group()
    role.add_argument("--listen", action="store_true")
    role.add_argument("--connect", action="store_true")
    parser.add_argument("--send", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pause", type=float, default=0, help="seconds before the first byte is read")
    parser.add_argument("--congestion", default="")
    parser.add_argument("--rcvbuf", type=int, default=0)
    parser.add_argument("--sndbuf", type=int, default=0)
    parser.add_argument("--bind-port", type=int, default=0)
    parser.add_argument("--iss", type=int, default=0, help="with --connect: the initial sequence number")
    parser.add_argument("--count", type=int, default=1)
    parser.add_argument("--together", type=int, default=1)
    parser.add_argument("--size", type=int, default=0)
    args = parser.parse_args()
    if args.what == "exchange":
        exchange(args)
    else:
        asyncio.run(echo(args) if args.what == "echo" else clients(args))


if __name__ == "__main__":
    main()
