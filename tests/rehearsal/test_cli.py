from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rehearsal import cli, server
from rehearsal.machine import requirements
from rehearsal.machine.home import HOME_VARIABLE, Home
from rehearsal.machine.requirements import Finding, Obstacle
from rehearsal.session import _say
from tools import packages, programs
from tools.part import Part


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(cli.app, list(arguments))
    return result.exit_code, result.output


def test_doctor_shows_what_is_missing_and_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [Finding("kubelet", "ok", "1.34.1 /bin/kubelet")]
    monkeypatch.setattr(cli, "examine", lambda _: found)
    assert run("doctor")[0] == 0
    found.append(Finding("runc", "missing", "", "apt-get install runc"))
    code, output = run("doctor")
    assert code == 4
    lines = [line.rstrip() for line in output.splitlines()]
    assert lines[0].split() == ["part", "state", "detail"]
    assert lines[1].split() == ["kubelet", "ok", "1.34.1", "/bin/kubelet"]
    assert lines[2].endswith("missing  Fix: apt-get install runc")


def test_what_programs_print_about_themselves_is_shown_as_text(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    evil = "[/red]\x1b]0;title\x07[bold]\u202e[link=http://127.0.0.1:9]x"
    shown = "[/red]\\x1b]0;title\\x07[bold]\\u202e[link=http://127.0.0.1:9]x"
    monkeypatch.setattr(cli, "examine", lambda _: [Finding(evil, "missing", evil, evil)])
    _, output = run("doctor")
    assert output.split("\n", 1)[1].count(shown) == 3
    monkeypatch.setenv(HOME_VARIABLE, "/nowhere/\x1b[2J")
    monkeypatch.setattr(cli, "end", lambda _: False)
    assert run("down") == (0, "nothing to remove in /nowhere/\\x1b[2J\n")
    _say(evil)
    server.say(evil)
    errors = capsys.readouterr().err
    assert errors.count(shown) == 2
    assert "\x1b" not in output + errors


def test_findings_are_of_programs_plugins_and_the_machine(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    missing = Part("kwok", found=False, version="", origin="", fix="make setup")
    monkeypatch.setattr(programs, "report", lambda: (missing,))
    monkeypatch.setattr(packages, "report", tuple)
    monkeypatch.setenv("PULUMI_HOME", str(tmp_path))
    obstacle = Obstacle("Real nodes need root.", "sudo -E")
    monkeypatch.setattr(requirements, "obstacles", lambda _: [obstacle])
    found = requirements.examine(Home(tmp_path))
    assert [each.name for each in found if each.state == "missing"] == ["kwok", "real nodes"]
    assert not requirements.is_ready(found)
    plugin = next(each for each in found if each.name == "Pulumi's gcp provider")
    assert plugin.state == "ok"
    assert plugin.detail.endswith("fake, no official plugin installed")


def test_a_machine_on_which_only_simulated_nodes_are_possible_is_ready(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A user without root: what only real nodes need is no fault of the machine."""
    parts = [
        Part("kwok", found=True, version="1", origin="/x", fix=""),
        Part("runc", found=False, version="", origin="", fix="apt-get install runc"),
    ]
    monkeypatch.setattr(programs, "report", lambda: tuple(parts))
    monkeypatch.setattr(packages, "report", tuple)
    monkeypatch.setattr(requirements, "free_memory", lambda: 2**34)
    obstacle = Obstacle("Real nodes need root, not user 7.", "make ...", possible=False)
    monkeypatch.setattr(requirements, "obstacles", lambda _: [obstacle])
    found = requirements.examine(Home(tmp_path))
    assert requirements.is_ready(found)
    states = {each.name: each.state for each in found}
    assert (states["runc"], states["real nodes"], states["simulated nodes"]) == (
        "note",
        "note",
        "ok",
    )
    parts[0] = Part("kwok", found=False, version="", origin="", fix="make setup")
    assert not requirements.is_ready(requirements.examine(Home(tmp_path)))


def test_down_of_an_empty_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path / "none"))
    assert run("down") == (0, f"nothing to remove in {tmp_path / 'none'}\n")


def test_down_leaves_a_folder_that_no_rehearsal_made(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "thesis.txt").touch()
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path))
    done = subprocess.run(
        [sys.executable, "-m", "rehearsal", "down"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 4
    assert "no rehearsal made" in done.stderr
    assert "Traceback" not in done.stderr
    assert (tmp_path / "thesis.txt").exists()
