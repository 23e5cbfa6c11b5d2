"""Sessions: started, joined, taken over, kept, killed; and nothing is left of any."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import requests

from rehearsal import session
from rehearsal.machine import processes, requirements
from rehearsal.machine.home import HOME_VARIABLE, Home, RehearsalError, end, is_locked, read_json
from schema.names import MEASURED_LABEL, REHEARSAL_VARIABLE
from tests.live.footprint import Footprint, expect_same, footprint, processes_of

OBSTACLES = requirements.obstacles(Path("/var/lib"))

pytestmark = [
    pytest.mark.live,
    pytest.mark.timeout(180),
    pytest.mark.skipif(bool(OBSTACLES), reason=" ".join(each.problem for each in OBSTACLES)),
]

IMAGE = "ghcr.io/owner/container-chonks:2-layers-size-2000000-bytes"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    """A home of the test's own; whatever happens, nothing of it is there afterwards."""
    folder = tmp_path / "home"
    monkeypatch.setenv(HOME_VARIABLE, str(folder))
    monkeypatch.delenv(REHEARSAL_VARIABLE, raising=False)
    yield Home(folder)
    end(Home(folder))


@pytest.fixture
def before(home: Home) -> Footprint:
    return footprint(home.folder)


def expect_nothing_left(home: Home, before: Footprint) -> None:
    assert not home.folder.exists()
    assert processes.running(home.folder) == []
    assert processes_of(home.folder) == []
    expect_same(before, home.folder)


def create_cluster(variables: Mapping[str, str], nodes: int = 1) -> str:
    """By Google's API, as Pulumi does; the cluster's URL once it runs."""
    base = variables["GOOGLE_CONTAINER_CUSTOM_ENDPOINT"]
    location = f"{base}projects/{variables['GOOGLE_CLOUD_PROJECT']}/locations/us-central1-a"
    headers = {"Authorization": f"Bearer {variables['GOOGLE_OAUTH_ACCESS_TOKEN']}"}
    config = {"machineType": "n1-standard-16", "labels": {MEASURED_LABEL: "true"}}
    pool = {"name": "measured", "initialNodeCount": nodes, "config": config}
    cluster = {"name": "study", "nodePools": [pool]}
    answer = requests.post(
        f"{location}/clusters", json={"cluster": cluster}, headers=headers, timeout=10
    )
    answer.raise_for_status()
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        operation = requests.get(
            f"{location}/operations/{answer.json()['name']}", headers=headers, timeout=10
        ).json()
        if operation["status"] == "DONE":
            assert "error" not in operation, operation
            return f"{location}/clusters/study"
        time.sleep(0.1)
    raise AssertionError("the cluster was not created in time")


def inspect(image: str, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["skopeo", "inspect", *options, f"docker://{image}"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_a_session_serves_its_block_and_leaves_nothing(home: Home, before: Footprint) -> None:
    path = os.environ["PATH"]
    with session(0.02) as variables:
        assert os.environ["GOOGLE_CLOUD_PROJECT"] == variables["GOOGLE_CLOUD_PROJECT"]
        record = json.loads(os.environ[REHEARSAL_VARIABLE])
        assert (record["nodes"], record["scale"]) == ("real", 0.02)
        create_cluster(variables, nodes=2)
        begun = time.monotonic()
    assert time.monotonic() - begun < 10
    assert os.environ["PATH"] == path
    assert REHEARSAL_VARIABLE not in os.environ
    expect_nothing_left(home, before)


def test_the_same_kubeconfig_as_on_gke_reaches_the_cluster(home: Home) -> None:
    with session() as variables:
        url = create_cluster(variables)
        headers = {"Authorization": "Bearer any"}
        cluster = requests.get(url, headers=headers, timeout=10).json()
        kubeconfig = home.folder / "gke.kubeconfig"
        authority = cluster["masterAuth"]["clusterCaCertificate"]
        kubeconfig.write_text(
            json.dumps(
                {
                    "apiVersion": "v1",
                    "kind": "Config",
                    "current-context": "c",
                    "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
                    "clusters": [
                        {
                            "name": "c",
                            "cluster": {
                                "server": f"https://{cluster['endpoint']}",
                                "certificate-authority-data": authority,
                            },
                        }
                    ],
                    "users": [
                        {
                            "name": "u",
                            "user": {
                                "exec": {
                                    "apiVersion": "client.authentication.k8s.io/v1beta1",
                                    "command": "gke-gcloud-auth-plugin",
                                    "provideClusterInfo": True,
                                }
                            },
                        }
                    ],
                }
            )
        )
        code = (
            "import sys; from kubernetes import client, config\n"
            "api = client.CoreV1Api(config.new_client_from_config(sys.argv[1]))\n"
            "print([node.metadata.name for node in api.list_node().items])"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, str(kubeconfig)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stdout.strip() == "['gke-study-measured-0001']", done.stderr


def test_skopeo_resolves_images_that_are_made_on_demand(home: Home) -> None:
    with session(0.001):
        first = inspect(IMAGE, "--raw")
        assert first.returncode == 0, first.stderr
        assert len(json.loads(first.stdout)["layers"]) == 2
        other = IMAGE.replace("ghcr.io", "us-central1-docker.pkg.dev/project")
        assert inspect(other, "--config").returncode == 0
        assert inspect(IMAGE, "--raw").stdout == first.stdout
        unknown = inspect("ghcr.io/owner/container-chonks:latest")
        assert unknown.returncode != 0
        assert "is not in the rehearsal's registry" in unknown.stderr


def test_a_session_inside_another_joins_it(home: Home) -> None:
    code = (
        "import os; from rehearsal import session\n"
        "with session(0.02): print(os.environ['GOOGLE_CONTAINER_CUSTOM_ENDPOINT'])"
    )
    with session(0.02) as variables:
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False
        )
        assert done.stdout.strip() == variables["GOOGLE_CONTAINER_CUSTOM_ENDPOINT"], done.stderr
        assert is_locked(home)
        other = r"scale 0\.02, not real nodes, images of scale 0\.5"
        with pytest.raises(RehearsalError, match=other), session(0.5):
            pass


def test_a_second_session_is_told_who_is_there(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    with session(), monkeypatch.context() as outside:
        outside.delenv(REHEARSAL_VARIABLE)
        told = f"Process {os.getpid()} rehearses in"
        with pytest.raises(RehearsalError, match=told), session():
            pass


def run_shell(*arguments: str, new_group: bool = False) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "rehearsal", "shell", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=new_group,
    )


def test_shell_ends_with_the_command_s_code(home: Home, before: Footprint) -> None:
    shell = run_shell("--scale", "0.5", "--", "sh", "-c", f"echo ${REHEARSAL_VARIABLE}; exit 7")
    out, _ = shell.communicate(timeout=60)
    assert shell.returncode == 7
    assert json.loads(out)["scale"] == 0.5
    expect_nothing_left(home, before)


def test_ctrl_c_ends_the_command_and_then_everything(home: Home, before: Footprint) -> None:
    shell = run_shell("--", "sh", "-c", "echo up; exec sleep 100", new_group=True)
    assert shell.stdout
    assert shell.stdout.readline() == "up\n"
    os.killpg(shell.pid, signal.SIGINT)
    shell.communicate(timeout=15)
    assert shell.returncode == 130
    expect_nothing_left(home, before)


def test_sigterm_ends_everything(home: Home, before: Footprint) -> None:
    code = (
        "import time; from rehearsal import session\n"
        "with session(): print('up', flush=True); time.sleep(100)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "up\n"
    process.terminate()
    process.communicate(timeout=15)
    assert process.returncode != 0
    expect_nothing_left(home, before)


def test_a_killed_session_is_taken_over_with_its_clusters(home: Home, before: Footprint) -> None:
    code = (
        "import time; from rehearsal import session\n"
        "with session(): print('up', flush=True); time.sleep(100)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "up\n"
    server = read_json(home.server_file)
    assert server
    url = create_cluster(server["environment"])
    process.kill()
    process.communicate(timeout=15)
    with session():
        answer = requests.get(url, headers={"Authorization": "Bearer any"}, timeout=10)
        assert answer.json()["status"] == "RUNNING"
    expect_nothing_left(home, before)


def test_kept_clusters_outlive_sessions_until_down(home: Home, before: Footprint) -> None:
    with session(keep=True) as variables:
        url = create_cluster(variables)
    headers = {"Authorization": "Bearer any"}
    with session():
        assert requests.get(url, headers=headers, timeout=10).json()["status"] == "RUNNING"
    assert requests.get(url, headers=headers, timeout=10).json()["status"] == "RUNNING"
    down = subprocess.run(
        [sys.executable, "-m", "rehearsal", "down"], capture_output=True, text=True, check=False
    )
    assert down.stdout == f"removed {home.folder}\n", down.stderr
    expect_nothing_left(home, before)


def test_nothing_is_kept_where_there_is_no_cluster(home: Home, before: Footprint) -> None:
    with session(keep=True):
        pass
    expect_nothing_left(home, before)


def kill_server(home: Home) -> None:
    server = read_json(home.server_file)
    assert server
    os.kill(server["pid"], signal.SIGKILL)
    while is_locked(home):
        time.sleep(0.01)


def test_down_removes_what_a_killed_server_left(home: Home, before: Footprint) -> None:
    with session(keep=True) as variables:
        create_cluster(variables, nodes=2)
    kill_server(home)
    assert len(processes.running(home.folder)) > 8
    begun = time.monotonic()
    assert end(home)
    assert time.monotonic() - begun < 10
    expect_nothing_left(home, before)
    assert not end(home)


def test_a_new_session_removes_what_a_killed_server_left(home: Home, before: Footprint) -> None:
    with session(keep=True) as variables:
        create_cluster(variables)
    kill_server(home)
    left = set(processes.running(home.folder))
    with session():
        assert left.isdisjoint(processes.running(home.folder))
        assert not list(home.clusters.glob("*"))
    expect_nothing_left(home, before)


def test_a_folder_of_somebody_else_is_refused(home: Home) -> None:
    home.folder.mkdir()
    (home.folder / "thesis.txt").write_text("mine")
    with pytest.raises(RehearsalError, match="no rehearsal made"), session():
        pass
    assert (home.folder / "thesis.txt").read_text() == "mine"
    (home.folder / "thesis.txt").unlink()
