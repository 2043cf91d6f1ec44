"""The pytest plugin, tried by pytest on tests of its own: seeds, reports, records, and what happens without root."""

import os
from pathlib import Path

import pytest

pytest_plugins = "pytester"

ADDRESSES = """
import asyncio

async def serve(reader, writer):
    writer.write(await reader.readline())
    writer.close()

def talk(world):
    one, other = world.host("one"), world.host("other")
    async def ask():
        reader, writer = await asyncio.open_connection("other", 7)
        writer.write(b"x\\n")
        assert await reader.readline() == b"x\\n"
        writer.close()
    async def main():
        await other.create_task(asyncio.start_server(serve, port=7))
        await one.create_task(ask())
    world.run_until_complete(main())
"""


@pytest.fixture
def tests(pytester: pytest.Pytester) -> pytest.Pytester:
    """An empty project that has the plugin, as an installed one would."""
    pytester.makeini("[pytest]\naddopts = -p usertcp.pytest_plugin -p no:cacheprovider\n")
    return pytester


def test_world_has_a_seed_of_the_test_that_stays(tests: pytest.Pytester) -> None:
    tests.makepyfile("""
        import pytest
        seeds = set()
        @pytest.mark.parametrize("n", range(3))
        def test_seed(usertcp_world, n):
            seeds.add(usertcp_world.seed)
            print("seed", n, usertcp_world.seed)
        def test_all_differ():
            assert len(seeds) == 3
    """)
    said = []
    for _ in range(2):
        result = tests.runpytest("-s")
        result.assert_outcomes(passed=4)
        said.append([line for line in result.outlines if "seed" in line])
    assert said[0] == said[1]


def test_seed_is_chosen_by_a_marker_and_before_that_by_the_command_line(tests: pytest.Pytester) -> None:
    tests.makepyfile("""
        import pytest
        @pytest.mark.usertcp_seed(7)
        def test_marked(usertcp_world):
            assert usertcp_world.seed == 7
        @pytest.mark.usertcp_seed("seven")
        def test_mistaken(usertcp_world):
            pass
    """)
    result = tests.runpytest("--strict-markers")
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*usertcp_seed takes one number*"])
    result = tests.runpytest("--usertcp-seed", "8")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*again with: pytest 'test_*::test_marked' --usertcp-seed 8"])


def test_failure_reports_seed_digest_and_how_to_repeat_it(tests: pytest.Pytester) -> None:
    tests.makepyfile(
        ADDRESSES
        + """
def test_bad(usertcp_world):
    talk(usertcp_world)
    print("digest was", usertcp_world.digest)
    assert False

def test_good(usertcp_world):
    talk(usertcp_world)
"""
    )
    result = tests.runpytest()
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(
        [
            "*usertcp_world*",
            "seed *, 0.0* s of virtual time, * frames",
            "digest *",
            "again with: pytest '*::test_bad' *",
        ]
    )
    assert result.stdout.str().count("again with") == 1
    was = next(line.split()[2] for line in result.outlines if line.startswith("digest was"))
    assert any(line.startswith(f"digest {was},") for line in result.outlines)


def test_frames_are_recorded_where_that_is_asked_for(tests: pytest.Pytester) -> None:
    tests.makepyfile(ADDRESSES + "\ndef test_talk(usertcp_world):\n    talk(usertcp_world)\n")
    folder = tests.path / "records"
    tests.runpytest("--usertcp-pcap", str(folder)).assert_outcomes(passed=1)
    (record,) = folder.iterdir()
    assert record.name.endswith("test_talk.pcap")
    assert record.stat().st_size > 500


NAMESPACE = """
def test_it(usertcp_netns):
    pass
"""


def test_namespace_without_root_fails_with_cause_and_cure(
    tests: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    tests.makepyfile(NAMESPACE)
    result = tests.runpytest()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*needs root*: run pytest as root, or skip such tests with --usertcp-netns=skip"])
    assert "Traceback" not in result.stdout.str()


@pytest.mark.parametrize("by", ["option", "configuration"])
def test_namespace_without_root_is_skipped_when_the_user_says_so(
    by: str, tests: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    tests.makepyfile(NAMESPACE)
    arguments = ["--usertcp-netns=skip"] if by == "option" else ["-o", "usertcp_netns=skip"]
    result = tests.runpytest("-rs", *arguments)
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["*needs root*run pytest as root*"])


def test_configuration_that_makes_no_sense_is_refused(tests: pytest.Pytester) -> None:
    tests.makepyfile(NAMESPACE)
    result = tests.runpytest("-o", "usertcp_netns=maybe")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*usertcp_netns is 'fail' or 'skip'*"])


@pytest.mark.netns
def test_namespace_has_a_stack_and_the_kernel_and_is_gone_afterwards(tests: pytest.Pytester) -> None:
    tests.makepyfile("""
        import asyncio, socket
        from pathlib import Path
        from usertcp import aio

        def test_kernel_answers(usertcp_netns):
            net = usertcp_netns
            there = (net.kernel_address, 8000)
            server = net.run(lambda: (net.host, socket.create_server(there))[1])
            with server, net.host.connect(there, timeout=20) as conn:
                conn.settimeout(20)
                peer, address = server.accept()
                assert address[0] == net.address
                with peer:
                    peer.sendall(b"hello")
                    assert conn.recv(100) == b"hello"
            Path("name").write_text(net.name)

        def test_aio_is_at_home_there_too(usertcp_netns):
            async def main():
                async with aio.open(**usertcp_netns.words) as host:
                    with __import__("pytest").raises(ConnectionRefusedError):
                        await host.open_connection(host.opened.kernel_address, 8000)
            asyncio.run(main())
    """)
    tests.runpytest().assert_outcomes(passed=2)
    assert not Path("/run/netns", (tests.path / "name").read_text()).exists()
