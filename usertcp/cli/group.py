"""``usertcp``: the group of subcommands, and the one place where an exception becomes a message and an exit status.

Exit status: 0 done; 1 it could not be done, or a check failed (stderr: ``usertcp: cause``, and the cure below it);
2 the command line is wrong; 130 after Ctrl-C, 128 plus the signal's number after SIGTERM or SIGHUP. On every way out
what was made (namespaces, devices, addresses, rules) is gone.
"""

import logging
import sys
from collections.abc import Sequence

import click

from usertcp.cli.causes import describe
from usertcp.cli.demo import demo
from usertcp.cli.down import down
from usertcp.cli.engine import engine
from usertcp.cli.get import get
from usertcp.cli.http_serve import http_serve
from usertcp.cli.lab import lab
from usertcp.cli.main import INTERRUPTED
from usertcp.cli.nc import nc
from usertcp.cli.output import OutputGone, stdout_is_gone
from usertcp.cli.perf import perf
from usertcp.cli.ping import ping
from usertcp.cli.pkt import pkt
from usertcp.cli.run import run as run_program
from usertcp.cli.ss import ss
from usertcp.cli.up import up
from usertcp.cli.version import build, version
from usertcp.cli.worker import worker
from usertcp.link.undo import unwinding


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version(), prog_name="usertcp", message=f"%(prog)s %(version)s, {build()}")
@click.option("-v", "--verbose", is_flag=True, help="Say on stderr what is opened, and what a device lacks.")
def cli(verbose: bool) -> None:
    """A TCP/IP stack in user space: its demonstration, its scenarios, and everyday tools on it.

    Without a device option a subcommand makes a network namespace and a TAP of its own and removes them afterwards.
    """
    if verbose:
        logging.basicConfig(format="usertcp: %(message)s", level=logging.INFO)


for command in (demo, lab, nc, perf, ping, http_serve, get, up, down, ss, pkt, engine, worker, run_program):
    cli.add_command(command)


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command line; the exit status."""
    try:
        with unwinding():
            result = cli.main(arguments, prog_name="usertcp", standalone_mode=False)
            sys.stdout.flush()
            return result if isinstance(result, int) else 0
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED
    except BrokenPipeError as error:
        if error.filename is None and stdout_is_gone():
            return 1
        _complain(error)
    except OutputGone:
        stdout_is_gone()
    except Exception as error:
        _complain(error)
    return 1


def _complain(error: Exception) -> None:
    """Cause and cure on stderr. What is neither a SetupError nor an OSError is a bug, and raised."""
    described = describe(error)
    if described is None:
        raise error
    cause, cure = described
    sys.stderr.write(f"usertcp: {cause}\n" + (f"  {cure}\n" if cure else ""))
