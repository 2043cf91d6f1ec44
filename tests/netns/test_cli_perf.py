"""``usertcp perf`` at work: two of it, usertcp's stack at one end and the kernel's at the other, and the reverse."""

import json
import subprocess
from collections.abc import Iterator

import pytest

from tests.netns.programs import PATIENCE, ROOT, Program, usertcp
from usertcp.link import provision

KERNEL, STACK = "10.9.0.1", "10.9.0.2"


@pytest.fixture
def space() -> Iterator[str]:
    with provision.Namespace.create() as made, provision.create_tap("tap0", netns=made.name, address=f"{KERNEL}/24"):
        yield made.name


def client(*arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        usertcp("perf", *arguments), check=False, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
    return done


def ours(space: str) -> list[str]:
    return ["--tap", "tap0", "--netns", space]


def kernels(space: str) -> list[str]:
    return ["--kernel", "--netns", space]


@pytest.mark.parametrize("server", ["usertcp", "kernel"])
@pytest.mark.parametrize("reverse", [[], ["-R"]])
def test_perf_counts_the_same_bytes_at_both_ends(space: str, server: str, reverse: list[str]) -> None:
    ends = {"usertcp": ours(space), "kernel": kernels(space)}
    other = "kernel" if server == "usertcp" else "usertcp"
    address = STACK if server == "usertcp" else KERNEL
    with Program(None, usertcp("perf", "-s", "-1", *ends[server])) as program:
        assert b"listening on" in program.remark()
        done = client("-c", address, "-n", "20M", "-P", "3", "-J", *reverse, *ends[other])
        told = program.finish().decode()
    found = json.loads(done.stdout)
    assert sum(found["sender"]["bytes"]) == sum(found["receiver"]["bytes"]) == 20 << 20
    assert len(found["receiver"]["bytes"]) == 3
    assert found["bits_per_second"] > 0
    sender = server if reverse else other
    assert (found["sender"]["stack"], found["receiver"]["stack"]) == (
        sender,
        {server, other}.difference([sender]).pop(),
    )
    assert "we send" in told if reverse else "we receive" in told
    assert told.splitlines()[-1].startswith("receiver")


def test_perf_for_a_time_prints_a_line_an_interval(space: str) -> None:
    with Program(None, usertcp("perf", "-s", *kernels(space))) as program:
        assert b"listening on port 5201 of the kernel" in program.remark()
        for _ in range(2):  # one test after the other
            done = client("-c", KERNEL, "-t", "1", "-i", "0.3", "-C", "reno", *ours(space))
            lines = done.stdout.splitlines()
            assert len(lines) >= 3
            assert [text.split()[0] for text in lines[-2:]] == ["sender", "receiver"]
            assert all("bit/s" in text for text in lines)


def test_perf_without_a_server_says_so(space: str) -> None:
    done = client("-c", KERNEL, *ours(space), code=1)
    assert "measuring to 10.9.0.1 port 5201" in done.stderr
    assert "nobody listens there" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "cause"),
    [
        (["-l", "2G"], "too much for one write"),
        (["-l", "0"], "no number of bytes"),
        (["-t", "5", "-n", "5M"], "not both"),
        (["-s"], "give -s to wait for clients, or -c HOST"),
        (["-C", "nosuch"], "choose from reno, cubic, bbr"),
    ],
)
def test_perf_refuses_what_makes_no_sense(arguments: list[str], cause: str) -> None:
    done = client("-c", KERNEL, *arguments, code=2)
    assert cause in " ".join(done.stderr.split())


def test_perf_names_a_congestion_control_that_the_kernel_lacks(space: str) -> None:
    done = client("-c", KERNEL, "-C", "nosuch", *kernels(space), code=1)
    assert "the kernel has no congestion control 'nosuch'" in done.stderr
    assert "tcp_available_congestion_control" in done.stderr
