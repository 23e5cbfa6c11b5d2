"""Sessions: started, joined, taken over, kept, killed; and nothing is left of any."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping

import pytest
import requests

from rehearsal import session
from rehearsal.machine import processes
from rehearsal.machine.home import RehearsalError, end, is_locked, read_json
from schema.names import MEASURED_LABEL, REHEARSAL_VARIABLE
from tests.live.harness import Place
from tests.until import until

pytestmark = [pytest.mark.live, pytest.mark.timeout(600)]
full = pytest.mark.full


SLEEPING = (
    "import time; from rehearsal import session\n"
    "with session(nodes='simulated'): print('up', flush=True); time.sleep(100)"
)


@pytest.fixture(autouse=True)
def _inside(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """This process in the place's environment."""
    for name, value in place.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv(REHEARSAL_VARIABLE, raising=False)


def login(variables: Mapping[str, str]) -> dict[str, str]:
    return {"Authorization": f"Bearer {variables['GOOGLE_OAUTH_ACCESS_TOKEN']}"}


def create_cluster(variables: Mapping[str, str], nodes: int = 1) -> str:
    """By Google's API, as Pulumi does; the cluster's URL once it runs."""
    base = variables["GOOGLE_CONTAINER_CUSTOM_ENDPOINT"]
    location = f"{base}projects/{variables['GOOGLE_CLOUD_PROJECT']}/locations/us-central1-a"
    config = {"machineType": "n1-standard-16", "labels": {MEASURED_LABEL: "true"}}
    pool = {"name": "measured", "initialNodeCount": nodes, "config": config}
    body = {"cluster": {"name": "study", "nodePools": [pool]}}
    answer = requests.post(f"{location}/clusters", json=body, headers=login(variables), timeout=10)
    answer.raise_for_status()
    url = f"{location}/operations/{answer.json()['name']}"

    def operation() -> dict[str, object] | None:
        found = requests.get(url, headers=login(variables), timeout=10).json()
        return found if found["status"] == "DONE" else None

    done = until(operation, 60, "the cluster is created")
    assert done
    assert "error" not in done, done
    return f"{location}/clusters/study"


def status(url: str, variables: Mapping[str, str]) -> str:
    return str(requests.get(url, headers=login(variables), timeout=10).json()["status"])


def start_python(code: str) -> subprocess.Popen[str]:
    """Return once it has printed its first line."""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "up\n"
    return process


def test_a_session_serves_its_block_and_leaves_nothing(place: Place) -> None:
    path = os.environ["PATH"]
    with session(0.5, nodes="simulated") as variables:
        assert os.environ["GOOGLE_CLOUD_PROJECT"] == variables["GOOGLE_CLOUD_PROJECT"]
        record = json.loads(os.environ[REHEARSAL_VARIABLE])
        assert (record["nodes"], record["scale"]) == ("simulated", 0.5)
        create_cluster(variables, nodes=2)
        start = time.monotonic()
    assert time.monotonic() - start < 10
    assert os.environ["PATH"] == path
    assert REHEARSAL_VARIABLE not in os.environ
    place.expect_nothing_left()


def test_shell_ends_with_the_commands_code_and_ctrl_c_with_130(place: Place) -> None:
    options = ("shell", "--nodes", "simulated", "--scale", "0.5", "--")
    script = f"echo ${REHEARSAL_VARIABLE}; exit 7"
    code, output = place.run("rehearsal", *options, "sh", "-c", script)
    assert code == 7
    assert '"scale": 0.5' in output.replace('"scale":0.5', '"scale": 0.5')
    place.expect_nothing_left()
    shell = place.start("rehearsal", *options, "sh", "-c", "echo up; exec sleep 100")
    assert shell.stdout
    while shell.stdout.readline() != "up\n":
        assert shell.poll() is None
    os.killpg(shell.pid, signal.SIGINT)
    shell.communicate(timeout=15)
    assert shell.returncode == 130
    place.expect_nothing_left()


def test_a_killed_session_is_taken_over_with_its_clusters(place: Place) -> None:
    process = start_python(SLEEPING)
    server = read_json(place.home.server_file)
    assert server
    url = create_cluster(server["environment"])
    process.kill()
    process.communicate(timeout=15)
    with session(nodes="simulated"):
        assert status(url, server["environment"]) == "RUNNING"
    place.expect_nothing_left()


def test_kept_clusters_outlive_sessions_until_down(place: Place) -> None:
    with session(keep=True, nodes="simulated") as variables:
        url = create_cluster(variables)
    with session(nodes="simulated"):
        assert status(url, variables) == "RUNNING"
    assert status(url, variables) == "RUNNING"
    assert f"removed {place.home.folder}\n" in place.succeed("rehearsal", "down")
    place.expect_nothing_left()


def kill_server(place: Place) -> None:
    server = read_json(place.home.server_file)
    assert server
    os.kill(server["pid"], signal.SIGKILL)
    until(lambda: not is_locked(place.home), 10, "the killed server's lock is released")


def test_down_removes_what_a_killed_server_left(place: Place) -> None:
    with session(keep=True, nodes="simulated") as variables:
        create_cluster(variables, nodes=2)
    kill_server(place)
    assert len(processes.running(place.home.folder)) > 2
    start = time.monotonic()
    assert end(place.home)
    assert time.monotonic() - start < 10
    place.expect_nothing_left()
    assert not end(place.home)


@full
def test_a_new_session_removes_what_a_killed_server_left(place: Place) -> None:
    with session(keep=True, nodes="simulated") as variables:
        create_cluster(variables)
    kill_server(place)
    left = set(processes.running(place.home.folder))
    with session(nodes="simulated"):
        assert left.isdisjoint(processes.running(place.home.folder))
        assert not list(place.home.clusters.glob("*"))
    place.expect_nothing_left()


@full
def test_sigterm_ends_everything(place: Place) -> None:
    process = start_python(SLEEPING)
    process.terminate()
    process.communicate(timeout=15)
    assert process.returncode != 0
    place.expect_nothing_left()


@full
def test_without_a_cluster_nothing_is_kept(place: Place) -> None:
    with session(keep=True, nodes="simulated"):
        pass
    place.expect_nothing_left()


@full
def test_a_session_inside_another_joins_it_and_one_outside_is_refused(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = (
        "import os; from rehearsal import session\n"
        "with session(nodes='simulated'): print(os.environ['GOOGLE_CONTAINER_CUSTOM_ENDPOINT'])"
    )
    with session(nodes="simulated") as variables:
        joined = subprocess.check_output([sys.executable, "-c", code], text=True)
        assert joined.strip() == variables["GOOGLE_CONTAINER_CUSTOM_ENDPOINT"]
        assert is_locked(place.home)
        other = r"scale 1, not simulated nodes at speed 1, images of scale 0\.5"
        with pytest.raises(RehearsalError, match=other), session(0.5, nodes="simulated"):
            pass
        with monkeypatch.context() as outside:
            outside.delenv(REHEARSAL_VARIABLE)
            owner = f"Process {os.getpid()} "
            with pytest.raises(RehearsalError, match=owner), session(nodes="simulated"):
                pass
