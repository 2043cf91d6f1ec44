#!/usr/bin/env python3
"""The compatible road: code written for ``socket``, unchanged but for one import. Run it as root.

``http.client`` is handed a socket of usertcp's; the web server at the other end is on the kernel's TCP.
"""

import http.client
import http.server
import threading

import usertcp.socket as socket
from usertcp.link import provision


class Page(http.server.BaseHTTPRequestHandler):
    """One page for every request."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(f"hello, {self.client_address[0]}\n".encode())

    def log_message(self, format: str, *args: object) -> None:
        """Be quiet."""


def main() -> None:
    with socket.engine() as engine:
        assert engine.kernel_address is not None
        there = (engine.kernel_address, 8000)
        server = provision.run_inside(engine.netns, lambda: http.server.HTTPServer(there, Page))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        client = http.client.HTTPConnection(*there)
        client.sock = socket.create_connection(there, timeout=5)
        client.request("GET", "/")
        response = client.getresponse()
        print(response.status, response.read().decode(), end="")
        client.close()
        server.shutdown()
        server.server_close()


if __name__ == "__main__":
    main()
