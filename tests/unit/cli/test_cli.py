"""The command line without a device: exit statuses, messages, and options spelled the same everywhere."""

import errno
import http.client
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest

from usertcp.cli import get as getting
from usertcp.cli import group as program
from usertcp.cli import main as script
from usertcp.cli.causes import describe, doing
from usertcp.cli.options import device_options, port_number, seconds, seconds_or_zero
from usertcp.cli.output import Output, OutputGone
from usertcp.cli.streams import Stream
from usertcp.cli.version import build, compiled, version
from usertcp.driver.open import LinkSpec
from usertcp.errors import SetupError, os_error
from usertcp.lab.registry import SCENARIOS

DEVICE = {"tap", "tun", "packet", "netns", "address", "gateway", "mtu", "pcap"}


CURED = ["EADDRINUSE", "EADDRNOTAVAIL", "ECONNREFUSED", "ECONNRESET", "EHOSTUNREACH", "ENETUNREACH", "ETIMEDOUT"]
CURED += ["EACCES", "EAFNOSUPPORT", "ENETDOWN", "EPIPE"]


# -- exit statuses -------------------------------------------------------------------------------------------------


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> list[BaseException]:
    """``usertcp ss`` raises what is put into the list."""
    raised: list[BaseException] = []

    def stacks() -> list[str]:
        raise raised.pop()

    monkeypatch.setattr("usertcp.cli.ss.control.stacks", stacks)
    return raised


def test_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert program.run(["--version"]) == 0
    assert capsys.readouterr().out == f"usertcp {version()}, {build()}\n"
    assert build() == ("compiled (mypyc)" if compiled() else "pure Python")


def test_no_command_prints_the_help_and_names_every_subcommand(capsys: pytest.CaptureFixture[str]) -> None:
    assert program.run(["--help"]) == 0
    text = capsys.readouterr().out
    for name in ("demo", "lab", "nc", "ping", "http-serve", "get", "up", "down", "ss"):
        assert f"\n  {name} " in text


def test_usage_error_exits_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert program.run(["nc", "only-a-host"]) == 2
    assert "Error: give HOST and PORT" in capsys.readouterr().err


def test_setup_error_exits_1_with_cause_and_cure(
    failing: list[BaseException], capsys: pytest.CaptureFixture[str]
) -> None:
    failing.append(SetupError("no such thing", "make one"))
    assert program.run(["ss"]) == 1
    assert capsys.readouterr().err == "usertcp: no such thing\n  make one\n"


def test_os_error_exits_1_with_cause_and_cure(failing: list[BaseException], capsys: pytest.CaptureFixture[str]) -> None:
    failing.append(os_error(errno.EHOSTUNREACH))
    assert program.run(["ss"]) == 1
    assert capsys.readouterr().err.startswith("usertcp: No route to host\n  nobody answers")


def test_ctrl_c_exits_130(failing: list[BaseException]) -> None:
    failing.append(KeyboardInterrupt())
    assert program.run(["ss"]) == 130


def test_sigterm_becomes_the_exit_status_143(failing: list[BaseException]) -> None:
    failing.append(SystemExit(143))
    with pytest.raises(SystemExit) as caught:
        program.run(["ss"])
    assert caught.value.code == 143


def test_a_bug_is_not_hidden(failing: list[BaseException]) -> None:
    failing.append(ZeroDivisionError("a bug"))
    with pytest.raises(ZeroDivisionError):
        program.run(["ss"])


# -- causes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "EADDRINUSE",
        "EADDRNOTAVAIL",
        "ECONNREFUSED",
        "ECONNRESET",
        "EHOSTUNREACH",
        "ENETUNREACH",
        "ETIMEDOUT",
        "EACCES",
        "ENETDOWN",
        "EPIPE",
        "EMSGSIZE",
    ],
)
def test_every_error_of_a_connection_has_a_cure(name: str) -> None:
    described = describe(os_error(getattr(errno, name)))
    assert described is not None
    cause, cure = described
    assert cause
    assert cure


def test_error_of_a_file_names_the_file() -> None:
    described = describe(FileNotFoundError(errno.ENOENT, "No such file or directory", "some/file"))
    assert described is not None
    assert described[0] == "some/file: No such file or directory"


def test_name_that_does_not_resolve_has_a_cure() -> None:
    described = describe(socket.gaierror(socket.EAI_NONAME, "'x' does not resolve"))
    assert described is not None
    assert described == ("'x' does not resolve", described[1])
    assert "resolver" in described[1]


def test_doing_says_what_was_being_done_and_leaves_a_setup_error_alone() -> None:
    with pytest.raises(SetupError) as caught, doing("connecting"):
        raise os_error(errno.ECONNREFUSED)
    assert caught.value.cause == "connecting: Connection refused"
    with pytest.raises(SetupError) as caught, doing("connecting"):
        raise SetupError("a cause", "a cure")
    assert caught.value.cause == "a cause"


# -- options -------------------------------------------------------------------------------------------------------


def commands() -> dict[str, click.Command]:
    return dict(program.cli.commands)


def options_of(command: click.Command) -> dict[str, click.Option]:
    return {option.opts[-1].removeprefix("--"): option for option in command.params if isinstance(option, click.Option)}


@pytest.mark.parametrize("name", ["nc", "ping", "http-serve", "get"])
def test_subcommand_on_a_stack_has_every_device_option(name: str) -> None:
    assert set(options_of(commands()[name])) >= DEVICE


def test_an_option_means_and_says_the_same_wherever_it_is() -> None:
    said: dict[str, tuple[Any, ...]] = {}
    for command in commands().values():
        for name, option in options_of(command).items():
            if name in DEVICE and (name not in ("tap", "tun") or command.name not in ("up", "down")):
                words = (tuple(option.opts), option.metavar, option.help, option.type.name)
                assert said.setdefault(name, words) == words, f"--{name} of {command.name}"
    assert set(said) == DEVICE


def test_every_subcommand_and_option_explains_itself() -> None:
    for command in commands().values():
        assert command.help
        for name, option in options_of(command).items():
            assert option.help, f"--{name} of {command.name}"


def test_device_options_are_handed_over_as_one_spec(tmp_path: Path) -> None:
    seen: list[LinkSpec] = []

    @click.command()
    @device_options
    def command(spec: LinkSpec) -> None:
        seen.append(spec)

    words = ["--tap", "t0", "--netns", "n", "--address", "10.1.0.2/24", "--gateway", "10.1.0.1", "--mtu", "1400"]
    command.main([*words, "--pcap", str(tmp_path / "f")], standalone_mode=False)
    command.main([], standalone_mode=False)
    expected = LinkSpec(tap="t0", netns="n", address="10.1.0.2/24", gateway="10.1.0.1", mtu=1400, pcap=tmp_path / "f")
    assert seen == [expected, LinkSpec()]


@pytest.mark.parametrize("text", ["0", "65536", "-1", "http", "", "1.5", "²"])
def test_what_is_no_port_is_a_usage_error(text: str) -> None:
    with pytest.raises(click.UsageError):
        port_number(text)


def test_port_is_a_number() -> None:
    assert port_number("65535") == 65535


def test_lab_list_names_every_scenario(capsys: pytest.CaptureFixture[str]) -> None:
    assert program.run(["lab", "--list"]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in SCENARIOS)


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "-1", "1e10", "soon", "", "0"])
def test_what_is_no_time_is_a_usage_error(text: str) -> None:
    with pytest.raises(click.UsageError, match="is no time"):
        seconds(text)


def test_time_is_seconds() -> None:
    assert seconds("0.5") == 0.5
    assert seconds_or_zero("0") == 0


def test_every_option_in_seconds_is_of_one_type() -> None:
    for command in commands().values():
        for name, option in options_of(command).items():
            assert option.type.name not in ("float", "float range"), f"--{name} of {command.name}"


# -- output --------------------------------------------------------------------------------------------------------


def test_output_that_is_a_device_is_written_to_and_stays_one(tmp_path: Path) -> None:
    device = tmp_path / "fifo"
    os.mkfifo(device)
    reader = os.open(device, os.O_RDONLY | os.O_NONBLOCK)
    with Output(device) as output:
        output.write(b"bytes")
        output.complete()
    assert os.read(reader, 100) == b"bytes"
    os.close(reader)
    assert device.is_fifo()
    assert os.listdir(tmp_path) == ["fifo"]


def test_output_whose_reader_has_gone_is_not_the_connections_fault(tmp_path: Path) -> None:
    device = tmp_path / "fifo"
    os.mkfifo(device)
    reader = os.open(device, os.O_RDONLY | os.O_NONBLOCK)
    with Output(device) as output:
        os.close(reader)
        with pytest.raises(OutputGone), doing("receiving"):
            output.write(b"bytes")


def test_output_by_a_symbolic_link_replaces_what_it_points_to_and_keeps_the_mode(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old")
    (tmp_path / "file").chmod(0o640)
    (tmp_path / "link").symlink_to("file")
    with Output(tmp_path / "link") as output:
        output.write(b"new")
        assert (tmp_path / "file").read_bytes() == b"old"
        output.complete()
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_bytes() == b"new"
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640


def test_output_that_cannot_be_written_is_named_as_the_user_did(tmp_path: Path) -> None:
    path = tmp_path / "no" / "file"
    with pytest.raises(SetupError, match="No such file") as caught:
        Output(path)
    assert caught.value.cause.startswith(f"writing {path}: ")


def test_full_disk_names_the_file_not_the_connection() -> None:
    with Output(Path("/dev/full")) as output, pytest.raises(SetupError, match="No space left") as caught, doing("x"):
        output.write(b"bytes")
    assert caught.value.cause.startswith("writing /dev/full: ")
    assert Path("/dev/full").is_char_device()


# -- the console script --------------------------------------------------------------------------------------------


def run_script(line: str) -> subprocess.CompletedProcess[bytes]:
    """A command line of the shell in which ``usertcp`` is the console script."""
    program = f"usertcp() {{ {sys.executable} -c 'from usertcp.cli.main import main; main()' \"$@\"; }}\n"
    return subprocess.run(["bash", "-c", program + line], check=False, capture_output=True, timeout=60)


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_standard_stream_closed_no_traceback(closed: str) -> None:
    done = run_script(f"usertcp lab --list {closed}")
    assert done.returncode == 0
    assert b"Traceback" not in done.stderr


def test_interrupted_while_loading_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupting:
        """An importer that is interrupted when it is asked for the subcommands."""

        def find_spec(self, name: str, *_: object) -> None:
            if name == "usertcp.cli.group":
                raise KeyboardInterrupt

    monkeypatch.delitem(sys.modules, "usertcp.cli.group")
    monkeypatch.setattr(sys, "meta_path", [Interrupting(), *sys.meta_path])
    monkeypatch.setattr(signal, "signal", lambda number, handler: None)  # this process goes on
    with pytest.raises(SystemExit) as caught:
        script.main()
    assert caught.value.code == 130


# -- get -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("http://a/b", "a", None),
        ("a/b", "a", None),
        ("http://a:81", "a", 81),
        ("http://10.0.0.1:8000/x?y", "10.0.0.1", 8000),
    ],
)
def test_url_of_http_is_taken_apart(url: str, host: str, port: int | None) -> None:
    parts = getting._checked(url)
    assert (parts.hostname, parts.port) == (host, port)


@pytest.mark.parametrize(
    ("url", "path", "query"),
    [
        ("http://a/ü", "/%C3%BC", ""),
        ("http://a/b c?d e", "/b%20c", "d%20e"),
        ("http://a/%20?q=1&r=[2]", "/%20", "q=1&r=[2]"),
        ("http://a/\x01", "/%01", ""),
    ],
)
def test_url_with_what_http_does_not_carry_is_escaped_once(url: str, path: str, query: str) -> None:
    parts = getting._checked(url)
    assert (parts.path, parts.query) == (path, query)
    assert getting._checked(parts.geturl()) == parts


@pytest.mark.parametrize(
    "url", ["https://a/", "ftp://a/", "http://", "http://a:b/", "http://a:99999/", "http://a:0/", "", "a b/", "a\x01/"]
)
def test_url_that_cannot_be_fetched_is_refused(url: str) -> None:
    with pytest.raises(SetupError, match="cannot be fetched"):
        getting._checked(url)


class Wire:
    """The peer's bytes, as a connection gives them; ``closed`` counts."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.closed = 0

    def recv_into(self, buffer: Any) -> int:
        count = min(len(buffer), len(self.data), 7)
        buffer[:count] = self.data[:count]
        self.data = self.data[count:]
        return count

    def close(self) -> None:
        self.closed += 1


def response(wire: Wire) -> http.client.HTTPResponse:
    stream: Any = Stream(wire)  # type: ignore[arg-type]
    answer = http.client.HTTPResponse(stream)
    stream.close()
    answer.begin()
    return answer


def fetch(wire: Wire, path: Path) -> None:
    with Output(path) as output:
        getting._receive(response(wire), output, quiet=True)


def test_answer_complete_the_file_gets_its_name(tmp_path: Path) -> None:
    wire = Wire(b"HTTP/1.0 200 OK\r\nContent-Length: 11\r\n\r\nhello world")
    fetch(wire, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == b"hello world"
    assert os.listdir(tmp_path) == ["file"]
    assert wire.closed == 1


def test_answer_cut_short_an_older_file_stays_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old")
    with pytest.raises(SetupError, match="5 of 11 bytes"):
        fetch(Wire(b"HTTP/1.0 200 OK\r\nContent-Length: 11\r\n\r\nhello"), tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_answer_in_chunks_is_put_together(tmp_path: Path) -> None:
    wire = Wire(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n")
    fetch(wire, tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == b"hello world"


@pytest.mark.parametrize("body", [b"5\r\nhel", b"5\r\nhello\r\n", b"nonsense\r\n"])
def test_answer_in_chunks_cut_short_or_broken_leaves_no_file(tmp_path: Path, body: bytes) -> None:
    wire = Wire(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body)
    with pytest.raises(SetupError, match="broke off"):
        fetch(wire, tmp_path / "file")
    assert os.listdir(tmp_path) == []


def test_stream_connection_is_closed_with_the_last_that_uses_it() -> None:
    wire = Wire(b"abc")
    stream = Stream(wire)  # type: ignore[arg-type]
    file = stream.makefile("rb", -1)
    stream.close()
    assert wire.closed == 0
    assert file.read() == b"abc"
    file.close()
    file.close()
    assert wire.closed == 1


# -- ss ------------------------------------------------------------------------------------------------------------


def asked_of_three(name: str, command: str) -> object:
    """One stack has ended since it was found, one is stopped, one answers."""
    if name == "gone":
        raise FileNotFoundError(errno.ENOENT, "No such file or directory")
    if name == "stopped":
        raise TimeoutError("timed out")
    return "tap0" if command == "link" else []


@pytest.mark.parametrize("words", [[], ["--json"]])
def test_ss_of_all_shows_those_that_answer(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("usertcp.cli.ss.control.stacks", lambda: ["gone", "lives", "stopped"])
    monkeypatch.setattr("usertcp.cli.ss.control.query", asked_of_three)
    assert program.run(["ss", *words]) == 0
    told = capsys.readouterr()
    assert ("lives" in told.out, "gone" in told.out, "stopped" in told.out) == (True, False, False)
    (warning,) = told.err.splitlines()
    assert warning.startswith("usertcp: warning: asking the stack stopped: ")


@pytest.mark.parametrize("name", ["gone", "stopped"])
def test_ss_of_one_that_does_not_answer_fails(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("usertcp.cli.ss.control.stacks", lambda: [name])
    monkeypatch.setattr("usertcp.cli.ss.control.query", asked_of_three)
    assert program.run(["ss", name]) == 1
    assert f"asking the stack {name}: " in capsys.readouterr().err


def test_ss_listener_and_connection_in_one_table_nothing_is_cut(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    listener = {"local": ["0.0.0.0", 80], "remote": None, "state": "LISTEN", "receive_queue": 0, "send_queue": 128}
    conn = listener | {"local": ["192.168.100.100", 65535], "remote": ["192.168.100.101", 65535], "state": "CLOSE-WAIT"}
    conn |= {"age": 9_000_090_500_000_000, "idle": 0, "finished": 7_500_000_000, "opened_by": "/a/[b].py:7 serve"}
    sizes = ("cwnd", "srtt", "min_rtt", "rto", "bytes_received", "bytes_acked", "retransmissions", "dsacks_received")
    conn |= dict.fromkeys((*sizes, "delivery_rate", "busy_time"), 9_123_456_789)
    conn |= {"congestion": "cubic", "phase": "RECOVERY", "delivery_app_limited": True}
    conn |= {"window_limited_time": 912_345_679, "buffer_limited_time": 0}
    monkeypatch.setattr("usertcp.cli.ss.control.stacks", lambda: ["name"])
    answers = {"snapshot": [listener, conn], "link": "tap0, MTU 1500, offloads: none (the driver has no virtio header)"}
    monkeypatch.setattr("usertcp.cli.ss.control.query", lambda name, command: answers[command])
    assert program.run(["ss"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("name on tap0, MTU 1500, offloads: none (the driver has no virtio header) ")
    assert "0.0.0.0:80" in text
    assert "CLOSE-WAIT" in text
    assert "9000090.5 s" in text
    assert "7.5 s ago" in text
    assert "/a/[b].py:7 serve" in text
    assert text.count("9,123,456,789") == 5
    assert "9123.5/9123.5 ms" in text
    assert "≥72987.7 Mbit/s" in text
    assert "cubic RECOVERY" in text
    assert "window 10 %" in text
    assert "buffer" not in text
    assert "…" not in text


def test_ss_of_another_name_says_in_words_what_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("usertcp.cli.ss.control.stacks", lambda: ["this"])
    with pytest.raises(SetupError, match="what runs: this"):
        program.cli.main(["ss", "other"], standalone_mode=False)
