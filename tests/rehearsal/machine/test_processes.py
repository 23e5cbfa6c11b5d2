from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rehearsal.machine import processes
from tests.until import until


@pytest.fixture
def part(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    processes.stop(tmp_path)


def sleep(part: Path) -> subprocess.Popen[bytes]:
    return processes.start(["sleep", "100"], part, log=part / "log")


def test_stop_ends_what_works_for_the_folder_and_nothing_else(part: Path) -> None:
    (part / "one").mkdir()
    (part / "other").mkdir()
    one, other = sleep(part / "one"), sleep(part / "other")
    processes.stop(part / "one")
    assert one.wait(1) == -signal.SIGKILL
    assert other.poll() is None


def test_a_process_is_found_as_soon_as_it_is_started(part: Path) -> None:
    """Popen returns in the midst of its exec: without waiting, up to half of them were missed."""
    for _ in range(50):
        process = sleep(part)
        assert process.pid in processes.running(part)
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    ("stat", "found"),
    [
        (("R", "0", "0"), True),  # in the midst of an exec
        (("R", "0", "4096"), False),  # started with an empty environment
        (("Z", "0", "0"), False),  # ended
        (("S", str(0x00200000), "0"), False),  # a thread of the kernel
    ],
)
def test_only_an_exec_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stat: tuple[str, str, str], found: bool
) -> None:
    environ = tmp_path / "77" / "environ"
    environ.parent.mkdir()
    environ.touch()
    state, flags, env_end = stat
    fields = [state, *["0"] * 5, flags, *["0"] * 41, env_end, "0"]
    (tmp_path / "77" / "stat").write_text(f"77 (a) b) {' '.join(fields)}")
    variable = f"A=b\0{processes.PART_VARIABLE}={tmp_path}\0".encode()
    monkeypatch.setattr(processes, "_PROC", tmp_path)
    monkeypatch.setattr("time.sleep", lambda _: environ.write_bytes(variable))
    assert processes.running(tmp_path) == ([77] if found else [])


def test_this_process_is_never_among_them(part: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from rehearsal.machine import processes\n"
        "processes.stop(Path(sys.argv[1])); print(processes.running(Path(sys.argv[1])))"
    )
    environment = {**os.environ, processes.PART_VARIABLE: str(part)}
    done = subprocess.run(
        [sys.executable, "-c", code, str(part)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "[]\n"


def test_only_processes_of_the_folder_are_signalled(part: Path) -> None:
    process, stranger = sleep(part), subprocess.Popen(["sleep", "100"])
    try:
        assert not processes.send(stranger.pid, part, signal.SIGTERM)
        assert stranger.poll() is None
        assert processes.send(process.pid, part, signal.SIGTERM)
        assert process.wait(5) == -signal.SIGTERM
        assert not processes.send(process.pid, part, signal.SIGTERM)
    finally:
        stranger.kill()
        stranger.wait()


def test_a_dead_process_has_no_start_time(part: Path) -> None:
    process = sleep(part)
    assert processes.started(process.pid) == processes.started(process.pid) is not None
    process.kill()
    until(lambda: processes.started(process.pid) is None, why="a zombie does not live")
    process.wait()
    assert processes.started(process.pid) is None


def test_ports_are_reserved_before_their_program_listens(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ports = processes.free_ports(6)
    assert len(set(ports)) == 6
    (other,) = processes.free_ports(1)
    free = next(port for port in range(other + 1, 65535) if port not in ports)

    class Random:
        def sample(self, *_: object, **__: object) -> list[int]:
            return [*ports, free]

    monkeypatch.setattr(processes, "_random", Random())
    assert processes.free_ports(1) == [free]


def test_a_process_that_prints_nothing_in_time_is_killed(part: Path) -> None:
    process = processes.start(["sleep", "100"], part, log=part / "log", output=subprocess.PIPE)
    assert process.stdout
    with process.stdout:
        assert processes.first_line(process, 0.1) == ""
    assert process.wait(5) == -signal.SIGKILL


def test_the_tail_of_a_log_fits_a_sentence(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert processes.log_tail(log) == "(no log)"
    log.write_text("")
    assert processes.log_tail(log) == "(empty log)"
    log.write_text("one\n two \n\nthree\n")
    assert processes.log_tail(log) == "two | three"
