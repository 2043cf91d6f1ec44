"""paramiko against a real sshd: a command, and a file over SFTP both ways."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.netns.programs import Program, wait_for_listener, which
from tests.programs.wire import Wire

PRIVILEGE_SEPARATION = Path("/run/sshd")  # where Debian's sshd wants an empty folder


@pytest.fixture
def sshd(wire: Wire, folder: Path) -> Iterator[Path]:
    """The key by which root may log in at 10.9.0.1 port 2222."""
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True, timeout=60)
    config = folder / "sshd_config"
    config.write_text(
        f"""ListenAddress 10.9.0.1:2222
        HostKey {folder}/host
        AuthorizedKeysFile {folder}/user.pub
        StrictModes no
        UsePAM no
        PidFile none
        PermitRootLogin prohibit-password
        Subsystem sftp internal-sftp
        """
    )
    made = not PRIVILEGE_SEPARATION.exists()
    PRIVILEGE_SEPARATION.mkdir(mode=0o755, exist_ok=True)
    try:
        with Program(wire.space, [which("sshd"), "-D", "-e", "-f", config], stdout=subprocess.DEVNULL) as server:
            wait_for_listener(wire.space, "10.9.0.1", 2222, server)
            yield folder / "user"
    finally:
        if made:
            PRIVILEGE_SEPARATION.rmdir()


PARAMIKO = """
import os, paramiko, sys
folder = sys.argv[1]
with paramiko.SSHClient() as client:
    client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
    client.connect("10.9.0.1", 2222, "root", key_filename=folder + "/user", allow_agent=False, look_for_keys=False)
    stdin, stdout, _ = client.exec_command("tr a-z A-Z; echo $SSH_CONNECTION")
    stdin.write("all of this\\n" * 10_000)
    stdin.channel.shutdown_write()
    *lines, connection = stdout.read().decode().splitlines()
    print(set(lines), len(lines), connection.split()[0], stdout.channel.recv_exit_status())
    data = os.urandom(2_000_000)
    with client.open_sftp() as sftp:
        with sftp.open(folder + "/there", "wb") as file:
            file.write(data)
        sftp.get(folder + "/there", folder + "/back")
    with open(folder + "/back", "rb") as file:
        print(file.read() == data)
"""


def test_paramiko_talks_to_sshd(wire: Wire, folder: Path, sshd: Path) -> None:
    said = wire.output(folder, PARAMIKO, sshd.parent).splitlines()
    assert said == ["{'ALL OF THIS'} 10000 10.9.0.2 0", "True"]
