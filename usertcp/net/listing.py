"""The connections and listeners of a host as rows, for ``usertcp ss`` and whoever else looks."""

from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from usertcp.tcp.connection import Connection
from usertcp.tcp.listener import Listener


def listing(listeners: Iterable[Listener], connections: Iterable[Connection], now: int) -> list[dict[str, Any]]:
    """Listeners, then connections (their ``TcpInfo`` and more). Times in ns, sizes in bytes; nothing but what JSON
    has."""
    rows: list[dict[str, Any]] = []
    for listener in listeners:
        queues = {"receive_queue": len(listener.queue), "send_queue": listener.backlog}
        rows.append({"state": "LISTEN", "local": listener.local, "remote": None, "ready": listener.ready} | queues)
    for conn in connections:
        info, flow = conn.info(now), conn.flow
        own = {
            "state": info.state.value,
            "local": flow.local,
            "remote": flow.remote,
            "ready": conn.ready,
            "receive_queue": info.unread,
            "send_queue": info.unacked + info.unsent,
            "age": now - flow.opened_at,
            "idle": now - max(info.last_received_at, info.last_sent_at, flow.opened_at),
            "finished": now - info.fin_at if info.fin_at else None,
            "opened_by": str(flow.opened_by),
            "deadline": conn.next_deadline(),
        }
        rows.append(asdict(info) | own)
    return rows
