"""``usertcp pkt``: its exit statuses, and what it says."""

from pathlib import Path

import pytest

from usertcp.cli.group import run

SCRIPTS = Path(__file__).parents[2] / "packetdrill"


def test_scripts_that_hold(capsys: pytest.CaptureFixture[str]) -> None:
    paths = [str(SCRIPTS / f"{name}.pkt") for name in ("open_passive", "nagle")]
    assert run(["pkt", *paths]) == 0
    assert capsys.readouterr().out == "".join([f"{path}: holds on usertcp\n" for path in paths])


def test_script_that_does_not_hold(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "bad.pkt"
    path.write_text("0 < S 0:0(0) win 5\n+0 > S. 0:0(0) ack 1 <...>")
    assert run(["pkt", str(path), str(SCRIPTS / "nagle.pkt")]) == 1
    out = capsys.readouterr().out
    assert f"{path}:2: on usertcp: the segment differs in flags" in out
    assert "nagle.pkt: holds on usertcp" in out


@pytest.mark.parametrize(("content", "place"), [(b"0 close(3) = ", "1:14"), (b"\xff\x00", "1:1"), (b"", "1:1")])
def test_file_that_is_no_script(tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes, place: str) -> None:
    path = tmp_path / "no.pkt"
    path.write_bytes(content)
    assert run(["pkt", str(path)]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(f"{path}:{place}: ")
    assert "^" in captured.err or not content
    assert captured.out == ""


def test_file_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["pkt", str(tmp_path / "none.pkt")]) == 1
    assert "No such file" in capsys.readouterr().err
    assert run(["pkt", str(tmp_path)]) == 1
    assert run(["pkt"]) == 2
