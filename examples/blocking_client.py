#!/usr/bin/env python3
"""The synchronous road: a connection of usertcp's to a server on the kernel's TCP. Run it as root.

``open()`` without arguments makes a network namespace and a TAP device of its own; both are gone afterwards.
"""

import socket

from usertcp import blocking
from usertcp.link import provision


def main() -> None:
    with blocking.open() as host:
        opened = host.opened
        assert opened is not None
        assert opened.kernel_address is not None
        there = (opened.kernel_address, 8000)
        server = provision.run_inside(opened.netns, lambda: socket.create_server(there))  # the kernel's own
        with server, host.connect(there, timeout=5) as conn:
            peer, address = server.accept()
            print(f"{conn.getsockname()} is {conn.state}, and the kernel sees {address}")
            with peer:
                conn.sendall(b"hello, kernel")
                print("the kernel received", peer.recv(100))
                peer.sendall(b"hello, user space")
                print("usertcp received", conn.recv(100))


if __name__ == "__main__":
    main()
