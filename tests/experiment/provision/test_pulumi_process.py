"""Pulumi's CLI as a process: signals, locks, files left half-written."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pulumi import automation

from experiment.provision.provider_messages import explain
from experiment.provision.pulumi_process import (
    DetachedCommand,
    LockHolder,
    lock_holders,
    repair_state_files,
)

LOCKED = (
    "error: the stack is currently locked by 1 lock(s). Either wait for the other process(es) to "
    "end or delete the lock file with `pulumi cancel`.\n  file:///state/.pulumi/locks/organization/"
    "pull-study/size-4/8d64.json: created by root@{host} (pid {pid}) at 2026-11-25T02:07:24Z"
)


@pytest.fixture
def pulumi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program named pulumi, first on PATH, that does as its test writes into it."""
    path = tmp_path / "bin" / "pulumi"
    path.parent.mkdir()
    monkeypatch.setenv("PATH", f"{path.parent}{os.pathsep}{os.environ['PATH']}")
    write(path, "")
    return path


def write(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n[ $1 = version ] && {{ echo v3.259.0; exit; }}\n{script}\n")
    path.chmod(0o755)


def command() -> DetachedCommand:
    return DetachedCommand(lambda: None)


def test_what_it_prints_is_heard_line_by_line(pulumi: Path) -> None:
    write(pulumi, 'echo "$@"; echo b; echo c >&2')
    heard: list[str] = []
    result = command().run(["up", "--yes"], ".", {}, heard.append)
    assert result.stdout == "--non-interactive up --yes\nb"
    assert (result.stderr, result.code) == ("c", 0)
    assert heard == result.stdout.split("\n")


def test_a_failure_is_an_error(pulumi: Path) -> None:
    write(pulumi, "echo no >&2; exit 255")
    with pytest.raises(automation.CommandError, match="no"):
        command().run(["up"], ".", {})


@pytest.mark.parametrize("trap", ["exit 1", ""], ids=["stops when asked", "does not stop"])
def test_one_that_never_ends_is_stopped(
    pulumi: Path, monkeypatch: pytest.MonkeyPatch, trap: str
) -> None:
    monkeypatch.setattr("experiment.provision.pulumi_process._LONGEST_S", 0.5)
    monkeypatch.setattr("experiment.provision.pulumi_process._STOP_S", 0.5)
    write(pulumi, f"trap '{trap}' INT; while :; do sleep 0.05; done")
    with pytest.raises(automation.CommandError, match="timed out") as raised:
        command().run(["up"], ".", {})
    assert explain(str(raised.value)).why.startswith("Google did not finish in time")


def test_it_sees_the_variables_that_it_is_given(pulumi: Path) -> None:
    write(pulumi, 'echo "$A $PULUMI_AUTOMATION_API"')
    assert command().run(["up"], ".", {"A": "b"}).stdout == "b true"


RUN = """
import sys
from experiment.provision.pulumi_process import DetachedCommand
try:
    DetachedCommand(lambda: print("waiting", flush=True)).run(["up"], ".", {})
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


def test_it_hears_of_one_interruption_and_its_end_is_waited_for(
    pulumi: Path, tmp_path: Path
) -> None:
    """As in a terminal: the whole group gets Ctrl-C, twice."""
    notes = tmp_path / "notes"
    write(
        pulumi,
        f"trap 'echo INT >> {notes}; n=1' INT; echo ready >> {notes}; n=0\n"
        "while [ $n = 0 ]; do sleep 0.05; done; sleep 1; echo whole >> " + str(notes),
    )
    runner = subprocess.Popen(
        [sys.executable, "-c", RUN], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    end = time.monotonic() + 30
    while not notes.exists():
        assert time.monotonic() < end
        time.sleep(0.05)
    os.killpg(runner.pid, signal.SIGINT)
    while "INT" not in notes.read_text():
        assert time.monotonic() < end
        time.sleep(0.05)
    os.killpg(runner.pid, signal.SIGINT)
    told, _ = runner.communicate(timeout=30)
    assert notes.read_text().split() == ["ready", "INT", "whole"]
    assert told.split() == ["waiting", "interrupted"]


class TestLocks:
    def test_are_read_off_the_clis_message(self) -> None:
        assert lock_holders(LOCKED.format(host="a-host", pid=7)) == [LockHolder("a-host", 7)]
        assert lock_holders("[409] Conflict: Another update is currently in progress.") == []

    def test_of_another_machine_may_be_held(self) -> None:
        assert LockHolder("elsewhere.example", 1).may_be_alive

    def test_of_a_dead_process_is_not_held(self) -> None:
        process = subprocess.Popen(["true"])
        process.wait()
        assert not LockHolder(socket.gethostname(), process.pid).may_be_alive

    def test_of_a_zombie_is_not_held(self, pulumi: Path) -> None:
        process = subprocess.Popen([pulumi, "version"], stdout=subprocess.DEVNULL)
        end = time.monotonic() + 10
        while ") Z " not in Path(f"/proc/{process.pid}/stat").read_text():
            assert time.monotonic() < end
            time.sleep(0.02)
        assert not LockHolder(socket.gethostname(), process.pid).may_be_alive
        process.wait()

    def test_of_a_number_that_another_program_has_now_is_not_held(self) -> None:
        assert not LockHolder(socket.gethostname(), os.getpid()).may_be_alive

    def test_of_a_living_pulumi_is_held(self, pulumi: Path) -> None:
        pulumi.write_bytes(Path("/bin/sleep").read_bytes())
        process = subprocess.Popen([pulumi, "30"])
        assert LockHolder(socket.gethostname(), process.pid).may_be_alive
        process.kill()
        process.wait()


class TestStateFiles:
    def test_a_half_written_file_beside_a_state_is_removed(self, tmp_path: Path) -> None:
        stacks = tmp_path / ".pulumi" / "stacks" / "pull-study"
        stacks.mkdir(parents=True)
        (stacks / "size-4.json").write_text("")
        (stacks / "size-4.json.attrs").write_text("")
        (stacks / "size-8.json.attrs").write_text(json.dumps({"user.content_type": "x"}))
        assert repair_state_files(f"file://{tmp_path}?no_tmp_dir=true") == [
            stacks / "size-4.json.attrs"
        ]
        assert sorted(path.name for path in stacks.iterdir()) == [
            "size-4.json",
            "size-8.json.attrs",
        ]
        assert repair_state_files(f"file://{tmp_path}") == []

    def test_another_kind_of_backend_has_none(self) -> None:
        assert repair_state_files("gs://a-bucket") == []
        assert repair_state_files("https://app.pulumi.com/someone") == []
