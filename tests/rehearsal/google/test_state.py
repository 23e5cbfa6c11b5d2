import subprocess
import sys
import threading
from pathlib import Path

import pytest

from rehearsal.google.state import AlreadyExistsError, GoogleState, Json, Kind, MissingError


@pytest.fixture
def state(tmp_path: Path) -> GoogleState:
    """An empty state."""
    return GoogleState(tmp_path / "deep" / "state.sqlite")


def test_resources_are_kept_by_kind_and_name(state: GoogleState) -> None:
    state.create(Kind.SINK, "b", {"n": 2})
    state.create(Kind.SINK, "a", {"n": 1})
    state.create(Kind.BUCKET, "a", {"n": 3})
    assert state.get(Kind.SINK, "a") == {"n": 1}
    assert state.find(Kind.SINK) == [{"n": 1}, {"n": 2}]
    assert state.get(Kind.ROLE, "a") is None
    with pytest.raises(AlreadyExistsError):
        state.create(Kind.SINK, "a", {})
    assert state.delete(Kind.SINK, "a")
    assert not state.delete(Kind.SINK, "a")
    assert state.find(Kind.SINK) == [{"n": 2}]


def test_prefix_is_taken_literally(state: GoogleState) -> None:
    for name in ("a_b", "a%b", "aXb"):
        state.create(Kind.OBJECT, name, {"name": name})
    assert state.find(Kind.OBJECT, "a_") == [{"name": "a_b"}]


def test_failed_change_changes_nothing(state: GoogleState) -> None:
    state.create(Kind.SINK, "a", {"n": 1})

    def change(body: Json) -> None:
        body["n"] = 2
        raise RuntimeError

    with pytest.raises(RuntimeError):
        state.update(Kind.SINK, "a", change)
    assert state.get(Kind.SINK, "a") == {"n": 1}
    with pytest.raises(MissingError):
        state.update(Kind.SINK, "none", change)


def test_changes_of_many_threads_all_count(state: GoogleState) -> None:
    def work() -> None:
        for _ in range(25):
            state.update(Kind.SINK, "a", lambda body: body.update(n=body["n"] + 1), {"n": 0})

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert state.get(Kind.SINK, "a") == {"n": 200}


def test_killed_process_leaves_what_it_had_written(tmp_path: Path) -> None:
    script = """
import os, signal, sys
from pathlib import Path
from rehearsal.google.state import GoogleState, Kind
state = GoogleState(Path(sys.argv[1]))
for n in range(20):
    state.put(Kind.SINK, "a", {"n": n})

def change(body):
    body["n"] = -1
    os.kill(os.getpid(), signal.SIGKILL)

state.update(Kind.SINK, "a", change)
"""
    file = tmp_path / "state.sqlite"
    command = [sys.executable, "-c", script, str(file)]
    done = subprocess.run(command, cwd=Path(__file__).parents[3], check=False, timeout=60)
    assert done.returncode == -9
    state = GoogleState(file)
    assert state.get(Kind.SINK, "a") == {"n": 19}
    state.put(Kind.SINK, "a", {"n": 20})


def test_contents_are_bytes(state: GoogleState) -> None:
    state.write_content("b", "o", b"\x00\xff")
    assert state.read_content("b", "o") == b"\x00\xff"
    state.delete_content("b", "o")
    assert state.read_content("b", "o") == b""
