#!/usr/bin/env python3
"""A program written for asyncio, which knows nothing of usertcp: a server that counts votes, each of them once.

The server is a protocol, the client uses streams. A vote has a number; it is cast again until it is acknowledged,
over a new connection if need be. ``test_tally.py`` beside it lets the network lose packets and fall apart meanwhile.

Run as a script, both are on the kernel's loopback.
"""

import asyncio

PORT = 7000
PATIENCE = 5.0  # seconds that a client waits for an answer


class Tally:
    """What the server knows: the votes of each client."""

    def __init__(self) -> None:
        self.votes: dict[str, int] = {}

    def count(self, name: str, number: int) -> None:
        """Count vote ``number`` of ``name``, unless it was counted before."""
        if number == self.votes.get(name, 0) + 1:
            self.votes[name] = number


class Clerk(asyncio.Protocol):
    """One connection of the server's: takes lines "NAME NUMBER" and answers "NUMBER" when that vote is counted."""

    def __init__(self, tally: Tally) -> None:
        self.tally = tally
        self.rest = b""
        self.transport: asyncio.BaseTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        assert isinstance(self.transport, asyncio.Transport)
        *lines, self.rest = (self.rest + data).split(b"\n")
        for line in lines:
            name, number = line.split()
            self.tally.count(name.decode(), int(number))
            self.transport.write(number + b"\n")


async def serve(tally: Tally, host: str | None = None) -> asyncio.Server:
    """Listen."""
    return await asyncio.get_running_loop().create_server(lambda: Clerk(tally), host, PORT)


async def vote(host: str, name: str, count: int) -> int:
    """Cast ``count`` votes; how many connections that took."""
    done = connections = 0
    while done < count:
        try:
            async with asyncio.timeout(PATIENCE):
                reader, writer = await asyncio.open_connection(host, PORT)
        except OSError:  # a TimeoutError is one
            await asyncio.sleep(1)
            continue
        connections += 1
        try:
            while done < count:
                writer.write(f"{name} {done + 1}\n".encode())
                async with asyncio.timeout(PATIENCE):
                    answer = await reader.readline()
                if not answer:
                    break
                done = int(answer)
        except OSError:
            pass
        finally:
            writer.transport.abort()
    return connections


async def main() -> None:
    tally = Tally()
    async with await serve(tally, "127.0.0.1"):
        await asyncio.gather(vote("127.0.0.1", "ann", 100), vote("127.0.0.1", "ben", 50))
    print(tally.votes)


if __name__ == "__main__":
    asyncio.run(main())
