"""usertcp's end of the transfers: one stack, one engine, one thread.

The program is the counterpart of :mod:`benchmarks.loss_ends` and is driven in the same way; it connects, and sends or
receives as the job says. The engine is the one that every front end runs on (:mod:`usertcp.driver.engine`); here the
loop that waits for it also supplies the connections, without a thread or a socket in between.
"""

import argparse
import gc
import sys
import time
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from typing import Any

from benchmarks.loss_cells import SEND, Job, job_from
from benchmarks.loss_ends import CHUNK, EVERY, GRACE, SUPPLY, Account, Alarms, Orders, enough, hurry, say, stream
from benchmarks.loss_net import OURS, PREFIX, TAP
from usertcp.driver.base import Pump
from usertcp.driver.engine import IN, Engine
from usertcp.driver.open import open_stack
from usertcp.net.stack import Stack
from usertcp.tcp.config import TcpConfig
from usertcp.tcp.connection import Connection
from usertcp.tcp.state import CONNECTED, FAILED, GONE
from usertcp.units import NEVER


class Transfer:
    """One end of a transfer over a connection of usertcp; stands in its ``user`` slot."""

    def __init__(self, program: "Program", job: Job, conn: Connection) -> None:
        self.program = program
        self.account = Account(job, job.cell.role == SEND)
        self.conn = conn
        self.over = False
        self.ended = False
        self._into = memoryview(bytearray(4 * CHUNK))
        conn.user = self

    def on_ready(self) -> None:
        """Something changed."""
        try:
            self.look()
        except OSError as error:
            self.end(str(error))

    def look(self) -> None:
        conn, account = self.conn, self.account
        if self.ended:
            return
        if conn.ready & FAILED:
            raise conn.take_error() or OSError("failed")
        if not account.began:
            if not conn.ready & CONNECTED:
                return
            self.begin()
        if account.sending:
            self.supply()
        while conn.readable:
            count = conn.read_into(self._into)
            account.add(self._into[:count], time.monotonic_ns())
        if conn.at_eof:
            if not self.over:
                conn.shutdown_write()
            self.end("" if self.over or not account.sending else "the peer has ended")
        elif conn.ready & GONE:
            self.end("the connection is gone")

    def begin(self) -> None:
        now = time.monotonic_ns()
        self.account.begin(now)
        alarms = self.program.alarms
        alarms.at(self.account.until + round(GRACE * 1e9), lambda: self.end("did not end in time"))
        if self.account.sending:
            alarms.at(self.account.until, self.finish)
            alarms.at(now + SUPPLY, self.tick)
        if self.program.samples:
            self.sample()

    def sample(self) -> None:
        if not self.ended:
            at = time.monotonic_ns()
            self.account.samples.append({"at": (at - self.account.began) / 1e9, **self.info()})
            self.program.alarms.at(at + round(EVERY * 1e9), self.sample)

    def supply(self) -> None:
        """Hand in what comes next."""
        conn, account = self.conn, self.account
        low = enough(account.job)
        while not self.over and conn.snd.unsent < low and conn.writable:
            view = stream(account.bytes)
            count = conn.write(view)
            account.add(view[:count], 0)

    def tick(self) -> None:
        if not (self.over or self.ended):
            try:
                self.supply()
            except OSError as error:
                self.end(str(error))
            self.program.alarms.at(time.monotonic_ns() + SUPPLY, self.tick)

    def finish(self) -> None:
        """The time is over: end the stream."""
        if not self.ended:
            self.over = True
            with suppress(OSError):
                self.conn.shutdown_write()

    def info(self) -> dict[str, Any]:
        figures = asdict(self.conn.info())
        figures["state"] = str(figures["state"])
        return figures

    def end(self, error: str = "") -> None:
        """The transfer has ended: say so."""
        if self.ended:
            return
        self.ended = True
        info = self.info()
        if error:
            self.conn.abort()
        else:
            self.conn.close()
        say(**self.account.result(error, info))


class Program:
    """The loop. ``host``: the peer's address."""

    def __init__(self, host: str, stack: Stack, engine: Engine, samples: bool) -> None:
        self.host = host
        self.stack = stack
        self.engine = engine
        self.samples = samples
        self.alarms = Alarms()

    def connect(self, job: Job) -> None:
        """Begin the job's connection."""
        config = TcpConfig(congestion=job.cell.cc) if job.cell.role == SEND else None  # else the peer sends with it
        try:
            conn = self.stack.connect((self.host, job.port), time.monotonic_ns(), config=config)
        except OSError as error:
            say(**Account(job, job.cell.role == SEND).result(str(error)))
            return
        Transfer(self, job, conn)

    def obey(self, orders: list[dict[str, Any]]) -> None:
        for order in orders:
            for job in map(job_from, order["jobs"]):
                self.alarms.at(order["at"], partial(self.connect, job))

    def run(self) -> None:
        """Until stdin ends."""
        orders, engine, alarms = Orders(), self.engine, self.alarms
        engine.register(0, IN, lambda _: self.obey(orders.read()))
        while not orders.ended and engine.pump.failure is None:
            due = alarms.next()
            timeout = engine.timeout_ns()
            if due is not None:
                timeout = min(timeout, max(0, due - time.monotonic_ns()))
            events = engine.wait(min(timeout, NEVER))
            alarms.run(time.monotonic_ns())
            engine.handle(events)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("netns")
    parser.add_argument("host")
    parser.add_argument("--samples", action="store_true")
    args = parser.parse_args()
    address = f"{OURS}/{PREFIX}"
    opened = open_stack(tap=TAP, netns=args.netns, address=address, gateway="", control=False)
    try:
        engine = Engine(Pump(opened.stack, opened.link, time.monotonic_ns))
        opened.stack.announce()
        hurry(2)
        say(did="start")
        gc.freeze()
        with suppress(KeyboardInterrupt):
            Program(args.host, opened.stack, engine, args.samples).run()
        engine.close()
    finally:
        opened.close()
    sys.exit(0)


if __name__ == "__main__":
    main()
