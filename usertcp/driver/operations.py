"""What a program may ask of its engine: one function a request, each a message in and a message out.

A function raises the ``OSError`` that the program is to see; ESRCH means that the engine knows nothing of the socket
(it is fresh, or its connection is over). None as the answer: it comes later.
"""

import errno
import select
from collections.abc import Callable
from operator import index
from typing import TYPE_CHECKING, Final

from usertcp.driver import messages, options
from usertcp.driver.addresses import NOWHERE
from usertcp.driver.bridge import AT_ONCE, WHILE_OPEN, Bridge
from usertcp.driver.entries import LINGER_STEP, Held, Linger, Post, Request
from usertcp.driver.messages import Message
from usertcp.driver.options import Options
from usertcp.driver.origin import brief
from usertcp.errors import os_error
from usertcp.tcp.state import State
from usertcp.units import SEC, from_seconds

if TYPE_CHECKING:
    from usertcp.driver.broker import Broker


LOW_PORTS: Final = 1024  # those below are root's (as Linux, net.ipv4.ip_unprivileged_port_start)
RESET_TIME: Final = 1 * SEC  # ns that a close() which resets waits at most


def entry_of(broker: "Broker", message: Message) -> Held | Post | Bridge:
    entry = broker.table.get(message["id"])
    if entry is None:
        raise os_error(errno.ESRCH)
    return entry


def hello(broker: "Broker", message: Message, request: Request) -> Message:
    """What a program is told that is let in."""
    return broker.about | {"token": broker.token, "version": messages.VERSION, "user": request.peer.user}


def socket(broker: "Broker", message: Message, request: Request) -> Message:
    """A fresh socket, for a program that lives in another namespace. ENFILE when there are no descriptors."""
    try:
        request.fd, ident = messages.make(bool(message["six"]), owner=request.peer.user)
    except OSError as error:
        raise os_error(errno.ENFILE if error.errno == errno.EMFILE else error.errno or errno.ENFILE) from None
    return {"id": ident}


def bind(broker: "Broker", message: Message, request: Request) -> Message:
    ident, (host, port) = message["id"], messages.address(message["address"])
    if ident in broker.table:
        raise os_error(errno.EINVAL)
    if 0 < port < LOW_PORTS and not (broker.low_ports or broker.is_trusted(request.peer)):
        raise os_error(errno.EACCES)
    chosen = Options.load(message["options"])
    binding = broker.with_room(
        lambda: broker.stack.bind(
            (host, port),
            reuse_address=chosen.flag(options.SO_REUSEADDR),
            reuse_port=chosen.flag(options.SO_REUSEPORT),
            user=messages.owner(ident),
            both=bool(message["both"]),
        )
    )
    broker.hold(Held(ident, chosen, binding))
    return {"local": binding.local}


def listen(broker: "Broker", message: Message, request: Request) -> Message:
    ident, backlog, place = message["id"], index(message["backlog"]), brief(message["place"])
    entry = broker.table.get(ident)
    if isinstance(entry, Post):
        entry.listener.backlog = max(backlog, 0)
        return {"local": entry.local}
    if isinstance(entry, Bridge):
        raise os_error(errno.EINVAL)
    if entry is None:
        bind(broker, message, request)
        entry = broker.table[ident]
    assert isinstance(entry, Held)
    config = entry.options.config(broker.base())
    held = entry
    listener = broker.with_room(lambda: broker.stack.listen(held.binding, backlog, config))
    broker.hold(Post(broker, ident, listener, held.binding.local, held.options, place))
    return {"local": held.binding.local}


def opened(broker: "Broker", message: Message, request: Request) -> Message:
    """The program tells where it has accepted a connection."""
    entry = entry_of(broker, message)
    if isinstance(entry, Bridge):
        entry.conn.flow.opened_by = brief(message["place"])
    return {}


def started(broker: "Broker", message: Message, request: Request) -> Message:
    """The program has sent its connect request: how did it begin?"""
    ident = message["id"]
    broker.on_data(select.EPOLLIN)
    arrival = broker.arrivals.get(ident)
    if arrival is not None:
        arrival.on_event(select.EPOLLIN)
    bridge = broker.table.get(ident)
    if isinstance(bridge, Bridge):
        config, flow = bridge.conn.config, bridge.conn.flow
        queue = messages.queue(config.send_buffer, config.send_buffer_max)
        return {"local": flow.local, "remote": flow.remote, "queue": queue}
    number, when = broker.letters.get(ident, (errno.EMFILE, AT_ONCE))  # none: there was no descriptor for it
    if when != AT_ONCE:
        return {"local": NOWHERE}
    broker.letters.pop(ident, None)
    return {"errno": number}


def outcome(broker: "Broker", message: Message, request: Request) -> Message:
    """Whether the handshake was ever done. The error, if any, stays pending."""
    entry = broker.table.get(message["id"])
    if isinstance(entry, Bridge):
        return {"connected": entry.connected}
    return {"connected": broker.letters.get(message["id"], (0, WHILE_OPEN))[1] == WHILE_OPEN}


def take_error(broker: "Broker", message: Message, request: Request) -> Message:
    """The pending errno, once. EPIPE (a reset after the peer's FIN) is no news to who reads: that reads the end."""
    ident = message["id"]
    entry = broker.table.get(ident)
    number = entry.error if isinstance(entry, Bridge) else broker.letters.get(ident, (0, WHILE_OPEN))[0]
    if number == errno.EPIPE and message.get("reading"):
        return {"error": 0}
    if isinstance(entry, Bridge):
        entry.error = 0
    broker.letters.pop(ident, None)
    return {"error": number}


def names(broker: "Broker", message: Message, request: Request) -> Message:
    """getsockname and getpeername."""
    entry = entry_of(broker, message)
    if isinstance(entry, Held):
        return {"local": entry.binding.local}
    if isinstance(entry, Post):
        return {"local": entry.local}
    names = {"local": entry.conn.flow.local}
    if entry.connected and entry.conn.state is not State.CLOSED:
        names["remote"] = entry.conn.flow.remote
    return names


def set_option(broker: "Broker", message: Message, request: Request) -> Message:
    entry = entry_of(broker, message)
    value = message["value"]
    if not value and (message["level"], message["name"]) == options.TCP_WINDOW_CLAMP and isinstance(entry, Bridge):
        raise os_error(errno.EINVAL)
    changes = entry.options.set(
        message["level"], message["name"], bytes.fromhex(value) if isinstance(value, str) else value
    )
    if isinstance(entry, Bridge):
        if changes:
            entry.conn.configure(**changes)
        return {}
    binding = entry.binding if isinstance(entry, Held) else entry.listener.flow
    binding.reuse_address = entry.options.flag(options.SO_REUSEADDR)
    binding.reuse_port |= entry.options.flag(options.SO_REUSEPORT)  # Linux does not take it back either
    if isinstance(entry, Post):
        entry.listener.config = entry.options.config(broker.base())
    return {}


def get_option(broker: "Broker", message: Message, request: Request) -> Message:
    entry = entry_of(broker, message)
    key = (message["level"], message["name"])
    conn = entry.conn if isinstance(entry, Bridge) else None
    listening = isinstance(entry, Post)
    value = options.tell(entry.options, key, conn, broker.base(), broker.now(), listening=listening)
    return {"value": value.hex()}


def shut_read(broker: "Broker", message: Message, request: Request) -> Message:
    entry = entry_of(broker, message)
    if isinstance(entry, Bridge):
        entry.shut_read()
    else:
        broker.close_entry(message["id"])
    return {}


def urgent(broker: "Broker", message: Message, request: Request) -> Message:
    """The program is about to send a byte out of band."""
    entry = entry_of(broker, message)
    if isinstance(entry, Bridge):
        entry.expect_urgent()
    return {}


def gone(broker: "Broker", message: Message, request: Request) -> Message:
    """A descriptor was closed: is it the last?"""
    ident = message["id"]
    entry = broker.table.get(ident)
    if isinstance(entry, Bridge):
        entry.look()
        if broker.table.get(ident) is entry and entry.hung_up and entry.discard:
            entry.release()
    elif entry is not None and not broker.is_alive(ident):
        broker.close_entry(ident)
    return {}


def linger(broker: "Broker", message: Message, request: Request) -> Message | None:
    """Answer when everything was acknowledged, or after the time that SO_LINGER gave; 0: when the reset is out."""
    ident, seconds = message["id"], index(message["seconds"])
    entry = broker.table.get(ident)
    conn = broker.closing.pop(ident, None)
    if isinstance(entry, Bridge):
        conn = entry.conn
        entry.look()
        if not entry.hung_up:  # another descriptor keeps it open
            return {}
    now = broker.now()
    item = Linger(broker, ident, conn, request, now + (from_seconds(seconds) or RESET_TIME))
    broker.call_at(item, now + (LINGER_STEP if seconds and conn is not None else 0))
    return None


DONE_UNHEARD: Final = frozenset({"gone", "linger"})  # all others are not, once the program has given up waiting
NOT_OF_ONE_SOCKET: Final = frozenset({"hello", "socket"})  # all others have the "id" of one, and are for its user only
OPERATIONS: Final[dict[str, Callable[["Broker", Message, Request], Message | None]]] = {
    "hello": hello,
    "socket": socket,
    "bind": bind,
    "listen": listen,
    "opened": opened,
    "started": started,
    "outcome": outcome,
    "error": take_error,
    "names": names,
    "set": set_option,
    "get": get_option,
    "shut_read": shut_read,
    "urgent": urgent,
    "gone": gone,
    "linger": linger,
}
