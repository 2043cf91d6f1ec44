"""``usertcp engine``: a stack for several programs, or several stacks for one program.

**Without a program** it is an engine as a process of its own (``driver.service``): programs of several users reach it
by a file, and the device is its alone.

**With one** the program runs in several processes that share one address, each with a stack of its own. Each process
(``cli.worker``) attaches to a queue of one TUN, and the kernel steers every flow to one of the queues by a hash that
both sides compute (``link.steering``). So what each process listens on is shared by all, what it connects comes back to
it, and no segment is ever handed over. Here the device is made and the processes are looked after: when one fails, all
end.

Either way root only opens the device. What runs then is an unprivileged user's (``driver.privilege``).
"""

import grp
import json
import selectors
import socket
import subprocess
from contextlib import ExitStack, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import click

from usertcp.cli.host import say
from usertcp.cli.options import device_options, user_number
from usertcp.cli.worker import GO, READY, load
from usertcp.driver import interpreter, privilege
from usertcp.driver.open import LinkSpec, open_stack
from usertcp.driver.service import MODE, Door, Service
from usertcp.errors import SetupError
from usertcp.link import janitor, provision

SOCKET: Final = Path("/run/usertcp.sock")  # where programs find the engine, unless another file is named
DEVICE: Final = "tun0"  # unless another is named
MOST: Final = 256  # queues that a TUN may have (MAX_TAP_QUEUES)
PATIENCE: Final = 10.0  # seconds that a process has to end by itself, which covers the closing of its connections


def _mode(text: str) -> int:
    """A type of option: permissions."""
    try:
        value = int(text, 8)
    except ValueError:
        value = -1
    if not 0 <= value <= 0o777:
        raise click.BadParameter(f"{text!r} are no permissions: give them like 660")
    return value


def _group(text: str) -> int:
    """A type of option: a group."""
    try:
        return int(text) if text.isdecimal() else grp.getgrnam(text).gr_gid
    except KeyError:
        raise click.BadParameter(f"there is no group {text!r}") from None


@click.command()
@click.option(
    "--socket",
    "path",
    metavar="PATH",
    type=click.Path(path_type=Path),
    help=f"File by which programs find the engine.  [default: {SOCKET}]",
)
@click.option("--mode", type=_mode, metavar="OCTAL", help=f"Who may use it: those who may write.  [default: {MODE:o}]")
@click.option("--owner", type=user_number, metavar="USER", help="The file's owner.")
@click.option("--group", type=_group, metavar="GROUP", help="The file's group; with it the mode is 660 by default.")
@click.option("--low-ports", is_flag=True, help="Let all of them have ports below 1024, not only root.")
@click.option("--user", metavar="USER", help="Who it becomes when the device is open.  [default: usertcp, or nobody]")
@click.option("--keep-root", is_flag=True, help="Go on as root.")
@click.option("--workers", type=click.IntRange(1, MOST), help="Processes for the program.  [default: 1]")
@click.argument("program", metavar="[MODULE:FUNCTION]", required=False)
@click.argument("arguments", metavar="[ARGUMENTS]...", nargs=-1, type=click.UNPROCESSED)
@device_options
def engine(
    spec: LinkSpec,
    /,
    program: str | None,
    arguments: tuple[str, ...],
    workers: int | None,
    low_ports: bool,
    user: str | None,
    keep_root: bool,
    **door: Any,
) -> int:
    """Serve a stack to the programs of several users, who reach it by a socket file and need no rights of their own.

    A program uses it by usertcp.socket.attach(PATH), by usertcp run --engine PATH, or because USERTCP_ENGINE=PATH is in
    its environment. The file is root's alone unless --owner, --group or --mode say otherwise. When all is open the
    engine becomes an unprivileged user's process, without any capability.

    With MODULE:FUNCTION: run that in each of several processes that share one address, each with a stack of its own,
    until all have ended. It is called with the process's host (of usertcp.blocking; of usertcp.aio if it is a
    coroutine function) and the ARGUMENTS, after a -- if they look like options. Several processes share a TUN: with
    --tun NAME one that was made for that (ip tuntap add NAME mode tun multi_queue) or is not there yet.
    """
    if keep_root and user is not None:
        raise click.UsageError("--user and --keep-root contradict each other")
    become = None if keep_root else privilege.account(user)
    if program is not None:
        if low_ports or any(value is not None for value in door.values()):
            raise click.UsageError(
                "--socket, --mode, --owner, --group and --low-ports are for an engine without program"
            )
        return _run(spec, workers or 1, program, arguments, become)
    if workers is not None:
        raise click.UsageError("--workers needs a program: name a MODULE:FUNCTION")
    return _serve(spec, become, low_ports=low_ports, **door)


def _serve(
    spec: LinkSpec,
    become: privilege.Account | None,
    *,
    low_ports: bool,
    path: Path | None,
    mode: int | None,
    owner: int | None,
    group: int | None,
) -> int:
    """Serve programs until interrupted, as ``become``'s process."""
    usual = MODE if group is None else MODE | 0o060
    door = Door(
        path=path if path is not None else SOCKET,
        mode=mode if mode is not None else usual,
        owner=owner if owner is not None else -1,
        group=group if group is not None else -1,
    )
    with open_stack(spec) as opened:
        service = Service(opened, door, low_ports=low_ports, become=become)
        try:
            where = f" in the namespace {opened.netns}" if opened.netns is not None else ""
            say(f"{opened.address} on {opened.link.name}{where} is there for programs: USERTCP_ENGINE={door.path}")
            service.run()
        finally:
            service.close()
    return 0


def _run(
    spec: LinkSpec, workers: int, program: str, arguments: tuple[str, ...], become: privilege.Account | None
) -> int:
    """The program in its processes, ``become``'s, until all have ended. Root loads its module, and runs none of it."""
    load(program)
    if become is not None:
        _warn(become)
    with ExitStack() as undo:
        words = _shared(spec, undo) if workers > 1 else _words(spec)
        words["user"] = None if become is None else str(become.user)
        command = interpreter.command("from usertcp.cli.main import main; main()")
        crew = _Crew(undo, [*command, "worker"], [program, *arguments])
        for number in range(workers):
            crew.start(words | ({"queue": (number, workers)} if workers > 1 else {}))
        if become is not None:
            janitor.entrust()
            privilege.drop(become)
        crew.go()
        where = f" on {words['tun']}, from the namespace {words['netns']}" if workers > 1 else ""
        say(f"{workers} {'workers run' if workers > 1 else 'worker runs'} {program}{where}")
        return crew.wait()


def _warn(become: privilege.Account) -> None:
    """The program may need what only root can read."""
    hidden = privilege.unreadable(become)
    if hidden is not None:
        say(
            f"usertcp: warning: {become.name!r} cannot read {hidden}, and what the program imports later is not found;"
            " use a Python that lies elsewhere, --user, or --keep-root"
        )


def _words(spec: LinkSpec) -> dict[str, Any]:
    """What was said of the device, for another process."""
    words = {name: value for name, value in asdict(spec).items() if name not in ("rules", "queue")}
    return words | {"pcap": str(spec.pcap) if spec.pcap is not None else None}


def _shared(spec: LinkSpec, undo: ExitStack) -> dict[str, Any]:
    """The same for a TUN with queues, which is made if it is not there."""
    if spec.tap is not None or spec.packet is not None:
        raise SetupError("several workers share a TUN", "name one with --tun, or leave the device out")
    if spec.pcap is not None:
        raise SetupError("several workers cannot record into one file", "use one worker, or tcpdump on the TUN")
    words = _words(spec) | {"tun": spec.tun or DEVICE}
    if spec.tun is None and spec.netns is None:
        words["netns"] = undo.enter_context(provision.Namespace.create()).name
    name, space = words["tun"], words["netns"]
    if not provision.link_exists(name, space):
        undo.enter_context(
            provision.create_tap(
                name, netns=space, address=spec.kernel_address, mtu=spec.mtu or 1500, tun=True, queues=True
            )
        )
    return words


class _Crew:
    """The processes. Those that still run when ``undo`` unwinds are ended."""

    def __init__(self, undo: ExitStack, command: list[str], rest: list[str]) -> None:
        self._command = command
        self._rest = rest
        self._members: dict[subprocess.Popen[bytes], socket.socket] = {}
        undo.callback(self._end)

    def start(self, words: dict[str, Any]) -> None:
        """One more, attached when this returns. SetupError: it says on stderr why it is not."""
        ours, theirs = socket.socketpair()
        with theirs:
            command = [*self._command, str(theirs.fileno()), json.dumps(words), *self._rest]
            process = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
        self._members[process] = ours
        if ours.recv(len(READY)) != READY:
            raise SetupError("a worker did not start", "what it says above is the reason")

    def go(self) -> None:
        """All are there."""
        for control in self._members.values():
            with suppress(BrokenPipeError):  # it has failed since, and is waited for
                control.sendall(GO)

    def wait(self) -> int:
        """Until all have ended, or one has failed; its exit status."""
        with selectors.DefaultSelector() as selector:
            for process, control in self._members.items():
                selector.register(control, selectors.EVENT_READ, process)
            while selector.get_map():
                for key, _ in selector.select():
                    selector.unregister(key.fileobj)
                    status: int = key.data.wait()
                    if status:
                        how = f"ended with status {status}" if status > 0 else f"was killed by signal {-status}"
                        say(f"a worker (process {key.data.pid}) {how}, and the others end with it")
                        return status if status > 0 else 1
        return 0

    def _end(self) -> None:
        for control in self._members.values():
            control.close()
        for process in self._members:
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
