"""ftplib against pyftpdlib, in passive and in active mode, and smtplib against a server, both of the kernel's side."""

import sys
from pathlib import Path

import pytest

from tests.netns.programs import Program
from tests.programs.wire import READY, Wire

FTP_SERVER = """
import logging, sys
from pyftpdlib.authorizers import DummyAuthorizer
from pyftpdlib.handlers import FTPHandler
from pyftpdlib.servers import FTPServer
logging.basicConfig(level=logging.WARNING)
FTPHandler.authorizer = DummyAuthorizer()
FTPHandler.authorizer.add_user("user", "secret", sys.argv[1], perm="elradfmwMT")
server = FTPServer(("10.9.0.1", 2121), FTPHandler)
print("ready", flush=True)
server.serve_forever()
"""

FTPLIB = """
import ftplib, io, os, sys
data = os.urandom(3_000_000)
with ftplib.FTP(timeout=60) as client:
    client.connect("10.9.0.1", 2121)
    client.login("user", "secret")
    client.set_pasv(sys.argv[1] == "passive")
    client.storbinary("STOR file", io.BytesIO(data))
    parts = []
    client.retrbinary("RETR file", parts.append)
    print(b"".join(parts) == data, client.size("file"), client.nlst())
"""


@pytest.mark.parametrize("mode", ["passive", "active"])
def test_ftplib_stores_and_retrieves(wire: Wire, folder: Path, mode: str) -> None:
    (folder / "root").mkdir()
    with Program(wire.space, [sys.executable, "-c", FTP_SERVER, folder / "root"]) as server:
        assert server.line() == READY
        assert wire.output(folder, FTPLIB, mode) == "True 3000000 ['file']\n"


SMTP_SERVER = """
import hashlib, socketserver
class Session(socketserver.StreamRequestHandler):
    def answer(self, text):
        self.wfile.write(text.encode() + b"\\r\\n")
    def handle(self):
        self.answer("220 ready")
        while line := self.rfile.readline():
            word = line.split()[0].upper()
            if word == b"EHLO":
                self.answer("250-here\\r\\n250 SIZE 10000000")
            elif word == b"DATA":
                self.answer("354 go on")
                body = b"".join(iter(self.rfile.readline, b".\\r\\n"))
                print(self.client_address[0], hashlib.sha256(body).hexdigest(), flush=True)
                self.answer("250 taken")
            else:
                self.answer("221 bye" if word == b"QUIT" else "250 ok")
with socketserver.TCPServer(("10.9.0.1", 2525), Session) as server:
    print("ready", flush=True)
    server.handle_request()
"""

SMTPLIB = """
import hashlib, smtplib
body = "Subject: long\\r\\n\\r\\n" + "a line of text\\r\\n" * 50_000
with smtplib.SMTP("10.9.0.1", 2525, timeout=60) as client:
    print(client.sendmail("a@example.com", ["b@example.com", "c@example.com"], body))
print("10.9.0.2", hashlib.sha256(body.encode()).hexdigest())
"""


def test_smtplib_delivers(wire: Wire, folder: Path) -> None:
    with Program(wire.space, [sys.executable, "-c", SMTP_SERVER]) as server:
        assert server.line() == READY
        refused, sent = wire.output(folder, SMTPLIB).splitlines()
        assert (refused, server.line().decode()) == ("{}", sent + "\n")
        server.finish()
