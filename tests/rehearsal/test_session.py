from __future__ import annotations

import os
import signal
import sys
import threading
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rehearsal import session
from rehearsal.machine import requirements
from rehearsal.machine.home import HOME_VARIABLE, Home, RehearsalError, write_json
from rehearsal.machine.options import Options
from rehearsal.machine.requirements import Obstacle
from rehearsal.session import _keep_log, _running, _variables, signal_handler
from schema.names import REHEARSAL_VARIABLE

MODULE = sys.modules["rehearsal.session"]
"""The module; its name in the package is the function's."""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path / "home"))
    monkeypatch.delenv(REHEARSAL_VARIABLE, raising=False)
    return Home(tmp_path / "home")


def test_a_machine_that_cannot_run_nodes_is_refused_before_anything_starts(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    obstacle = Obstacle("Real nodes need root.", "run it with sudo -E")
    monkeypatch.setattr(requirements, "obstacles", lambda _: [obstacle])
    with pytest.raises(RehearsalError, match="need root") as refused, session():
        pass
    assert refused.value.fix == "run it with sudo -E"
    assert not home.folder.exists()


def test_a_shell_whose_rehearsal_has_ended_is_refused(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(REHEARSAL_VARIABLE, "{}")
    with pytest.raises(RehearsalError, match="that has ended"), session():
        pass


def test_variables_are_as_before_after_an_error(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PULUMI_HOME", "/users")
    monkeypatch.delenv("NEW", raising=False)
    monkeypatch.setenv("PATH", f"/bin:{home.programs}:/usr/bin")
    added = {"PULUMI_HOME": "/rehearsals", "NEW": "1"}

    def fail() -> None:
        with _variables(home, added):
            assert os.environ["PULUMI_HOME"] == "/rehearsals"
            assert os.environ["PATH"] == f"{home.programs}:/bin:/usr/bin"
            raise ValueError("oops")

    with pytest.raises(ValueError, match="oops"):
        fail()
    assert os.environ["PULUMI_HOME"] == "/users"
    assert os.environ["PATH"] == f"/bin:{home.programs}:/usr/bin"
    assert "NEW" not in os.environ


def test_a_failure_s_log_outlives_the_home(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(MODULE, "cache_root", lambda: tmp_path)
    _keep_log(home)  # there is none
    assert capsys.readouterr().err == ""
    home.folder.mkdir()
    home.log.write_text("what happened\n")
    _keep_log(home)
    kept = tmp_path / "last-failed-rehearsal.log"
    assert kept.read_text() == "what happened\n"
    assert str(kept) in capsys.readouterr().err


def test_a_signal_handler_is_temporary_and_only_in_the_main_thread() -> None:
    before = signal.getsignal(signal.SIGUSR1)
    with signal_handler(signal.SIGUSR1, signal.SIG_IGN):
        assert signal.getsignal(signal.SIGUSR1) is signal.SIG_IGN
    assert signal.getsignal(signal.SIGUSR1) is before
    failures: list[BaseException] = []

    def elsewhere() -> None:
        try:
            with signal_handler(signal.SIGUSR1, signal.SIG_IGN):
                pass
        except BaseException as error:  # noqa: BLE001
            failures.append(error)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert failures == []


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"speed": 20.0}, "--speed needs --nodes simulated"),
        ({"nodes": "simulated", "speed": 0.0}, "not above 0"),
        ({"nodes": "real", "node_count": 16}, "more than the 8"),
        ({"nodes": "simulated", "node_count": 10**6}, "simulated nodes takes about"),
    ],
)
def test_what_cannot_be_rehearsed_is_refused_before_anything_starts(
    home: Home, options: dict[str, Any], problem: str
) -> None:
    with pytest.raises(RehearsalError, match=problem), session(**options):
        pass
    assert not home.folder.exists()


@pytest.mark.parametrize(
    ("running", "requested", "problem"),
    [
        ((), (), ""),
        (("two-pods",), (), ""),
        (("two-pods",), ("two-pods",), ""),
        ((), ("two-pods",), r"has other faults \(none\), and accepts no more"),
        (("two-pods",), ("disk-full",), r"has other faults \(two-pods\)"),
    ],
)
def test_faults_are_not_dropped_when_a_running_rehearsal_is_joined(
    home: Home,
    monkeypatch: pytest.MonkeyPatch,
    running: tuple[str, ...],
    requested: tuple[str, ...],
    problem: str,
) -> None:
    options = Options(1, "simulated", 1, rate_limits=False)
    monkeypatch.setattr(MODULE, "is_locked", lambda _: True)
    home.folder.mkdir()
    write_json(home.server_file, {"options": str(options), "faults": running})
    expected = pytest.raises(RehearsalError, match=problem) if problem else nullcontext()
    with expected:
        assert _running(home, replace(options, faults=requested))
