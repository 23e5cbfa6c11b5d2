"""The stand-ins under a real Pulumi engine, against the local Google's REST server."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pulumi
import pulumi_gcp as gcp
import pytest
from pulumi import automation

from tests.live.local_google import LocalGoogle, local_google
from tests.live.pulumi_engine import changed, engine_variables, open_stack, stand_ins

pytestmark = [pytest.mark.live, pytest.mark.slow]

PARENT = "projects/p/locations/us-central1-a"
CLUSTER = f"/container/v1beta1/{PARENT}/clusters/c"


@dataclass
class Settings:
    """What a test changes between two runs of the program."""

    location: str = "us-central1-a"
    nodes: int = 2
    team: str = "a"
    machine_type: str = "n1-standard-16"
    protected: bool = False
    extra: dict[str, Any] | None = None


class Program:
    """A cluster with one pool, its nodes' account, an archive of logs."""

    def __init__(self) -> None:
        self.settings = Settings()

    def __call__(self) -> None:
        settings = self.settings
        google = gcp.Provider("google", project="p")
        own = pulumi.ResourceOptions(provider=google)
        account = gcp.serviceaccount.Account("nodes", account_id="nodes-test", opts=own)
        gcp.projects.IAMMember(
            "writer", project="p", role="roles/logging.logWriter", member=account.member, opts=own
        )
        cluster = gcp.container.Cluster(
            "cluster",
            name="c",
            location=settings.location,
            initial_node_count=1,
            remove_default_node_pool=True,
            deletion_protection=settings.protected,
            ip_allocation_policy={"cluster_ipv4_cidr_block": "/14"},
            release_channel={"channel": "REGULAR"},
            resource_labels={"team": settings.team},
            opts=own,
        )
        pool = gcp.container.NodePool(
            "measured",
            name="measured",
            cluster=cluster.name,
            location=settings.location,
            node_count=settings.nodes,
            node_config={
                "machine_type": settings.machine_type,
                "service_account": account.email,
                "oauth_scopes": ["https://www.googleapis.com/auth/devstorage.read_only"],
                "advanced_machine_features": {"threads_per_core": 1},
                "gvnic": {"enabled": True},
                "labels": {"pull-study/measured": "true"},
                "taints": [
                    {"key": "pull-study/measured", "value": "true", "effect": "NO_SCHEDULE"}
                ],
                **(settings.extra or {}),
            },
            opts=own,
        )
        bucket = gcp.storage.Bucket(
            "archive",
            location="us-central1",
            uniform_bucket_level_access=True,
            lifecycle_rules=[
                {"action": {"type": "Delete"}, "condition": {"age": 400, "with_state": "ANY"}}
            ],
            labels={"team": settings.team},
            opts=own,
        )
        sink = gcp.logging.ProjectSink(
            "sink",
            name="c",
            destination=pulumi.Output.concat("storage.googleapis.com/", bucket.name),
            filter='log_id("stdout")',
            opts=own,
        )
        gcp.storage.BucketIAMMember(
            "archiver",
            bucket=bucket.name,
            role="roles/storage.objectCreator",
            member=sink.writer_identity,
            opts=own,
        )
        pulumi.export("endpoint", cluster.endpoint)
        pulumi.export("authority", cluster.master_auth.cluster_ca_certificate)
        pulumi.export("pool", pool.name)
        pulumi.export("nodes", pool.node_count)
        pulumi.export("bucket", bucket.name)


@pytest.fixture(scope="module")
def google(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalGoogle]:
    with local_google(tmp_path_factory.mktemp("google")) as google:
        yield google


@pytest.fixture(scope="module")
def ports(google: LocalGoogle) -> Iterator[dict[str, int]]:
    with stand_ins(google.variables()) as ports:
        yield ports


@pytest.fixture
def program() -> Program:
    return Program()


@pytest.fixture
def stack(
    program: Program,
    google: LocalGoogle,
    ports: dict[str, int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[automation.Stack]:
    """A new stack; nothing of it is left in the local Google afterwards."""
    for name, value in engine_variables(tmp_path, ports).items():
        monkeypatch.setenv(name, value)
    stack = open_stack(program)
    google.calls.clear()
    google.fleet.done.clear()
    try:
        yield stack
    finally:
        google.fleet.stock_out = False
        google.fleet.cluster_s = 0
        program.settings.protected = False
        stack.up() if any(entry.get("id") for entry in _resources(stack)) else None
        stack.destroy()


def _resources(stack: automation.Stack) -> list[dict[str, Any]]:
    deployment = stack.export_stack().deployment or {}
    return [entry for entry in deployment.get("resources") or [] if entry.get("custom")]


def _outputs(stack: automation.Stack, name: str) -> dict[str, Any]:
    found = [entry for entry in _resources(stack) if entry["urn"].endswith(f"::{name}")]
    return dict(found[0]["outputs"])


def test_preview_of_a_new_stack_makes_no_call(stack: automation.Stack, google: LocalGoogle) -> None:
    assert stack.preview().change_summary == {"create": 9}
    assert google.calls == []


def test_preview_takes_less_than_two_and_a_half_seconds(stack: automation.Stack) -> None:
    begun = time.monotonic()
    stack.preview()
    assert time.monotonic() - begun < 2.5


def test_a_stack_comes_up_and_is_the_same_again(
    stack: automation.Stack, google: LocalGoogle
) -> None:
    begun = time.monotonic()
    up = stack.up()
    assert time.monotonic() - begun < 6
    assert changed(up) == {"create": 9}
    assert up.outputs["endpoint"].value == "127.0.0.1:1"
    assert up.outputs["authority"].value
    assert up.outputs["nodes"].value == 2
    assert google.fleet.done == [
        "create_cluster c us-central1-a", "create_pool default-pool 1",
        "delete_pool default-pool", "create_pool measured 2",
    ]  # fmt: skip
    google.calls.clear()
    assert changed(stack.up()) == {}
    assert google.calls == []
    stack.refresh()
    assert changed(stack.up()) == {}
    assert google.writes() == []


def test_refresh_finds_nothing_new(stack: automation.Stack) -> None:
    stack.up()
    before = {name: _outputs(stack, name) for name in ("cluster", "measured", "archive", "sink")}
    stack.refresh()
    after = {name: _outputs(stack, name) for name in before}
    for key in ("nodePools", "nodeConfig"):  # pools that came after the cluster: seen now
        del before["cluster"][key], after["cluster"][key]
    assert after == before


def test_labels_change_in_place(
    stack: automation.Stack, program: Program, google: LocalGoogle
) -> None:
    stack.up()
    google.calls.clear()
    program.settings.team = "b"
    assert changed(stack.up()) == {"update": 2}
    assert [call.rpartition("/")[2] for call in google.writes()] == [
        "c:setResourceLabels",
        google.writes()[1].rpartition("/")[2],
    ]
    labels = _outputs(stack, "cluster")
    assert labels["resourceLabels"] == {"team": "b"}
    assert labels["effectiveLabels"] == {"team": "b", "goog-pulumi-provisioned": "true"}
    assert labels["pulumiLabels"] == labels["effectiveLabels"]


def test_the_pool_is_resized_in_place(
    stack: automation.Stack, program: Program, google: LocalGoogle
) -> None:
    stack.up()
    google.fleet.done.clear()
    program.settings.nodes = 3
    assert changed(stack.up()) == {"update": 1}
    assert google.fleet.done == ["resize_pool measured 3"]


def test_another_location_makes_cluster_and_pool_anew(
    stack: automation.Stack, program: Program, google: LocalGoogle
) -> None:
    stack.up()
    google.fleet.done.clear()
    program.settings.location = "us-central1-b"
    assert changed(stack.up()) == {"replace": 2}
    made = [each for each in google.fleet.done if each.startswith(("create_c", "delete_c"))]
    assert made == ["delete_cluster c us-central1-a", "create_cluster c us-central1-b"]


def test_more_threads_per_core_make_the_pool_anew(
    stack: automation.Stack, program: Program
) -> None:
    stack.up()
    program.settings.extra = {"advanced_machine_features": {"threads_per_core": 2}}
    assert changed(stack.up()) == {"replace": 1}


def test_destroy_leaves_nothing(stack: automation.Stack, google: LocalGoogle) -> None:
    stack.up()
    assert changed(stack.destroy()) == {"delete": 9}
    assert "delete_cluster c us-central1-a" in google.fleet.done
    assert google.fleet.done.index("delete_pool measured") < google.fleet.done.index(
        "delete_cluster c us-central1-a"
    )


def test_a_misspelt_key_is_refused_in_preview(
    stack: automation.Stack, program: Program, google: LocalGoogle
) -> None:
    program.settings.extra = {"machineTyp": "n1-standard-64"}
    with pytest.raises(automation.CommandError) as refusal:
        stack.preview()
    assert "NodePool 'measured' has no property nodeConfig.machineTyp" in str(refusal.value)
    assert "did you mean machineType?" in str(refusal.value)
    assert google.calls == []


def test_a_protected_cluster_survives_destroy(
    stack: automation.Stack, program: Program, google: LocalGoogle
) -> None:
    program.settings.protected = True
    stack.up()
    with pytest.raises(automation.CommandError, match="deletion_protection is set to true"):
        stack.destroy()
    assert "delete_cluster c us-central1-a" not in google.fleet.done


def test_a_stock_out_keeps_the_pool_in_the_state_and_the_next_up_writes_nothing(
    stack: automation.Stack, google: LocalGoogle
) -> None:
    google.fleet.stock_out = True
    with pytest.raises(automation.CommandError, match="ZONE_RESOURCE_POOL_EXHAUSTED"):
        stack.up()
    cluster = next(entry for entry in _resources(stack) if entry["urn"].endswith("::cluster"))
    assert cluster["initErrors"]
    google.fleet.stock_out = False
    google.calls.clear()
    stack.up()
    assert [call for call in google.writes() if call.endswith("/clusters")] == []


def test_what_was_removed_behind_its_back_leaves_the_state_at_a_refresh(
    stack: automation.Stack, google: LocalGoogle
) -> None:
    stack.up()
    subprocess.run(
        [sys.executable, "-c",
         "import requests,sys;requests.delete(sys.argv[1],headers={'Authorization':'Bearer t'})",
         f"{google.url}/logging/v2/projects/p/sinks/c"],
        check=True, timeout=30,
    )  # fmt: skip
    stack.refresh()
    assert [entry["urn"] for entry in _resources(stack) if entry["urn"].endswith("::sink")] == []
    assert changed(stack.up()) == {"create": 1}


_KILLED = """
import os, sys
from tests.live.test_pulumi_engine import Program
from tests.live.pulumi_engine import open_stack
open_stack(Program()).up(on_output=lambda line: None)
"""


def test_a_cluster_whose_maker_was_killed_is_recovered(
    stack: automation.Stack, google: LocalGoogle
) -> None:
    """The way back that experiment.stacks goes: the id of a pending creation is known."""
    google.fleet.cluster_s = 8
    maker = subprocess.Popen([sys.executable, "-c", _KILLED], env=os.environ)
    deadline = time.monotonic() + 30
    while f"POST {CLUSTER.rpartition('/')[0]}" not in google.calls:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    maker.kill()
    maker.wait()
    time.sleep(4)  # the CLI follows its maker within 3 s
    stack.cancel()
    state = stack.export_stack()
    pending = state.deployment.pop("pending_operations")
    assert [entry["resource"]["id"] for entry in pending if "id" in entry["resource"]] == []
    ids = {"cluster": f"{PARENT}/clusters/c"}
    for entry in pending:
        resource = entry["resource"]
        name = resource["urn"].rpartition("::")[2]
        if name in ids:
            state.deployment["resources"].append({**resource, "id": ids[name], "outputs": {}})
    stack.import_stack(state)
    stack.refresh()
    assert _outputs(stack, "cluster")["name"] == "c"
    google.fleet.cluster_s = 0
    stack.destroy()
    assert google.fleet.done.count("create_cluster c us-central1-a") == 1
    assert google.fleet.done.count("delete_cluster c us-central1-a") == 1


def test_a_cluster_that_is_there_can_be_imported(
    stack: automation.Stack, google: LocalGoogle
) -> None:
    stack.up()
    state = stack.export_stack()
    name = "cluster"
    for entry in state.deployment["resources"]:
        if entry["urn"].endswith(f"::{name}"):
            entry["outputs"] = {}
    stack.import_stack(state)
    google.calls.clear()
    stack.refresh()
    assert _outputs(stack, name)["endpoint"] == "127.0.0.1:1"
    assert changed(stack.up()) == {}
