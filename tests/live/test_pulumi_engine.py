"""The stand-ins under a real Pulumi engine, against the local Google's REST server."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pulumi
import pytest
from pulumi import automation
from pulumi_gcp import Provider, container, logging, projects, serviceaccount, storage

from tests.live.pulumi_engine import (
    changed,
    collect_failed_outputs,
    engine_variables,
    open_stack,
    stand_ins,
)
from tests.rehearsal.pulumi.providers.noted_google import NotedGoogle, noted_google

pytestmark = [pytest.mark.live, pytest.mark.full]

PARENT = "projects/p/locations/us-central1-a"
CLUSTER = f"/container/v1beta1/{PARENT}/clusters/c"


@dataclass
class Settings:
    """What a test changes between two runs of the program."""

    location: str = "us-central1-a"
    nodes: int = 2
    team: str = "a"
    protected: bool = False
    extra: dict[str, Any] = field(default_factory=dict)


class Program:
    """A cluster with one pool, its nodes' account, an archive of logs."""

    def __init__(self) -> None:
        self.settings = Settings()

    def __call__(self) -> None:
        settings = self.settings
        google = Provider("google", project="p")
        own = pulumi.ResourceOptions(provider=google)
        account = serviceaccount.Account(
            "nodes", serviceaccount.AccountArgs(account_id="nodes-test"), opts=own
        )
        grant = projects.IAMMember(
            "writer",
            projects.IAMMemberArgs(
                project="p", role="roles/logging.logWriter", member=account.member
            ),
            opts=own,
        )
        bucket = storage.Bucket("archive", _bucket(settings), opts=own)
        sink = logging.ProjectSink(
            "sink",
            logging.ProjectSinkArgs(
                name="c",
                destination=pulumi.Output.concat("storage.googleapis.com/", bucket.name),
                filter='log_id("stdout")',
            ),
            opts=own,
        )
        archiver = storage.BucketIAMMember(
            "archiver",
            storage.BucketIAMMemberArgs(
                bucket=bucket.name,
                role="roles/storage.objectCreator",
                member=sink.writer_identity,
            ),
            opts=own,
        )
        cluster = container.Cluster(
            "cluster",
            _cluster(settings),
            opts=pulumi.ResourceOptions(provider=google, depends_on=[grant, archiver]),
        )
        pool = container.NodePool(
            "measured",
            container.NodePoolArgs(
                name="measured",
                cluster=cluster.name,
                location=settings.location,
                node_count=settings.nodes,
                node_config=_nodes(settings, account),
            ),
            opts=own,
        )
        pulumi.export("endpoint", cluster.endpoint)
        pulumi.export("authority", cluster.master_auth.cluster_ca_certificate)
        pulumi.export("pool", pool.name)
        pulumi.export("nodes", pool.node_count)
        pulumi.export("bucket", bucket.name)


def _bucket(settings: Settings) -> storage.BucketArgs:
    return storage.BucketArgs(
        location="us-central1",
        uniform_bucket_level_access=True,
        lifecycle_rules=[
            storage.BucketLifecycleRuleArgs(
                action=storage.BucketLifecycleRuleActionArgs(type="Delete"),
                condition=storage.BucketLifecycleRuleConditionArgs(age=400, with_state="ANY"),
            )
        ],
        labels={"team": settings.team},
    )


def _cluster(settings: Settings) -> container.ClusterArgs:
    return container.ClusterArgs(
        name="c",
        location=settings.location,
        initial_node_count=1,
        remove_default_node_pool=True,
        deletion_protection=settings.protected,
        ip_allocation_policy=container.ClusterIpAllocationPolicyArgs(cluster_ipv4_cidr_block="/14"),
        release_channel=container.ClusterReleaseChannelArgs(channel="REGULAR"),
        resource_labels={"team": settings.team},
    )


def _nodes(settings: Settings, account: serviceaccount.Account) -> Any:
    """A dict, in which a misspelt key gets past the SDK and the type checker."""
    return {
        "machine_type": "n1-standard-16",
        "service_account": account.email,
        "oauth_scopes": ["https://www.googleapis.com/auth/devstorage.read_only"],
        "advanced_machine_features": {"threads_per_core": 1},
        "gvnic": {"enabled": True},
        "labels": {"pull-study/measured": "true"},
        "taints": [{"key": "pull-study/measured", "value": "true", "effect": "NO_SCHEDULE"}],
        **settings.extra,
    }


@pytest.fixture(scope="module")
def google(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NotedGoogle]:
    with noted_google(tmp_path_factory.mktemp("google")) as google:
        yield google


@pytest.fixture(scope="module")
def program() -> Program:
    return Program()


@pytest.fixture(scope="module")
def stack(
    program: Program, google: NotedGoogle, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[automation.Stack]:
    """One stack for all tests: each brings it up, or destroys it, before it changes anything."""
    with pytest.MonkeyPatch.context() as environment, stand_ins(google.variables()) as ports:
        for name, value in engine_variables(tmp_path_factory.mktemp("engine"), ports).items():
            environment.setenv(name, value)
        yield open_stack(program)


@pytest.fixture(autouse=True)
def _as_usual(program: Program, google: NotedGoogle) -> Iterator[None]:
    program.settings = Settings()
    google.fleet.stock_out, google.fleet.cluster_s = "", 0
    google.forget()
    yield
    collect_failed_outputs()


def _up(stack: automation.Stack, google: NotedGoogle) -> None:
    """Bring the stack up as usual, and forget what that took."""
    stack.up()
    google.forget()


def _deployment(stack: automation.Stack) -> dict[str, Any]:
    return dict(stack.export_stack().deployment or {})


def _resources(stack: automation.Stack) -> list[dict[str, Any]]:
    return [entry for entry in _deployment(stack).get("resources") or [] if entry.get("custom")]


def _outputs(stack: automation.Stack, name: str) -> dict[str, Any]:
    found = [entry for entry in _resources(stack) if entry["urn"].endswith(f"::{name}")]
    return dict(found[0]["outputs"])


def test_preview_of_a_new_stack_makes_no_call(stack: automation.Stack, google: NotedGoogle) -> None:
    assert stack.preview().change_summary == {"create": 9}
    assert google.calls == []


def test_a_misspelt_key_is_refused_in_preview(
    stack: automation.Stack, program: Program, google: NotedGoogle
) -> None:
    program.settings.extra = {"machineTyp": "n1-standard-64"}
    with pytest.raises(automation.CommandError) as refusal:
        stack.preview()
    assert "NodePool 'measured' has no property nodeConfig.machineTyp" in str(refusal.value)
    assert "did you mean machineType?" in str(refusal.value)
    assert google.calls == []


def test_a_new_stack_comes_up_and_is_the_same_again(
    stack: automation.Stack, google: NotedGoogle
) -> None:
    up = stack.up()
    assert changed(up) == {"create": 9}
    assert up.outputs["endpoint"].value == "127.0.0.1:6443"
    assert up.outputs["authority"].value
    assert up.outputs["nodes"].value == 2
    assert google.fleet.done == [
        "create_cluster c us-central1-a", "create_pool default-pool 1",
        "delete_pool default-pool", "create_pool measured 2",
    ]  # fmt: skip
    google.calls.clear()
    assert changed(stack.up()) == {}
    assert google.calls == []


def test_refresh_finds_nothing_new(stack: automation.Stack, google: NotedGoogle) -> None:
    _up(stack, google)
    before = {name: _outputs(stack, name) for name in ("cluster", "measured", "archive", "sink")}
    stack.refresh()
    after = {name: _outputs(stack, name) for name in before}
    for key in ("nodePools", "nodeConfig"):  # pools that came after the cluster: seen now
        before["cluster"].pop(key, None)
        after["cluster"].pop(key)
    assert after == before
    assert changed(stack.up()) == {}
    assert google.writes() == []


def test_labels_change_in_place(
    stack: automation.Stack, program: Program, google: NotedGoogle
) -> None:
    _up(stack, google)
    program.settings.team = "b"
    assert changed(stack.up()) == {"update": 2}
    bucket = _outputs(stack, "archive")["name"]
    assert sorted(google.writes()) == [
        f"PATCH /storage/v1/b/{bucket}", f"POST {CLUSTER}:setResourceLabels"
    ]  # fmt: skip
    assert _outputs(stack, "cluster")["resourceLabels"] == {"team": "b"}
    labels = google.client.ok("GET", CLUSTER.lstrip("/"))["resourceLabels"]
    assert labels == {"team": "b", "goog-pulumi-provisioned": "true"}


def test_the_pool_is_resized_in_place(
    stack: automation.Stack, program: Program, google: NotedGoogle
) -> None:
    _up(stack, google)
    program.settings.nodes = 3
    assert changed(stack.up()) == {"update": 1}
    assert google.fleet.done == ["resize_pool measured 3"]
    assert _outputs(stack, "measured")["nodeCount"] == 3


def test_two_threads_per_core_make_the_pool_anew(
    stack: automation.Stack, program: Program, google: NotedGoogle
) -> None:
    _up(stack, google)
    program.settings.extra = {"advanced_machine_features": {"threads_per_core": 2}}
    assert changed(stack.up()) == {"replace": 1}
    assert google.fleet.done == ["delete_pool measured", "create_pool measured 2"]


def test_another_location_makes_cluster_and_pool_anew(
    stack: automation.Stack, program: Program, google: NotedGoogle
) -> None:
    _up(stack, google)
    program.settings.location = "us-central1-b"
    assert changed(stack.up()) == {"replace": 2}
    made = [each for each in google.fleet.done if each.startswith(("create_c", "delete_c"))]
    assert made == ["delete_cluster c us-central1-a", "create_cluster c us-central1-b"]


def test_what_was_removed_behind_its_back_is_made_again_after_a_refresh(
    stack: automation.Stack, google: NotedGoogle
) -> None:
    _up(stack, google)
    google.client.ok("DELETE", "logging/v2/projects/p/sinks/c")
    stack.refresh()
    assert not any(entry["urn"].endswith("::sink") for entry in _resources(stack))
    assert changed(stack.up())["create"] == 1


def test_a_protected_cluster_survives_destroy(
    stack: automation.Stack, program: Program, google: NotedGoogle
) -> None:
    program.settings.protected = True
    _up(stack, google)
    with pytest.raises(automation.CommandError, match="deletion_protection is set to true"):
        stack.destroy()
    assert not any(each.startswith("delete_cluster") for each in google.fleet.done)
    program.settings.protected = False
    stack.up()


def test_destroy_leaves_nothing_and_takes_the_pool_first(
    stack: automation.Stack, google: NotedGoogle
) -> None:
    _up(stack, google)
    assert changed(stack.destroy()) == {"delete": 9}
    assert google.fleet.done == ["delete_pool measured", "delete_cluster c us-central1-a"]


def test_a_stock_out_keeps_the_pool_and_the_next_up_succeeds_without_a_write(
    stack: automation.Stack, google: NotedGoogle
) -> None:
    """As the official provider does: whoever runs `up` has to ask the API for the status."""
    stack.destroy()
    google.fleet.stock_out = "measured"
    with pytest.raises(automation.CommandError, match="ZONE_RESOURCE_POOL_EXHAUSTED"):
        stack.up()
    pool = next(entry for entry in _resources(stack) if entry["urn"].endswith("::measured"))
    assert pool["id"] == f"{PARENT}/clusters/c/nodePools/measured"
    assert "ZONE_RESOURCE_POOL_EXHAUSTED" in pool["initErrors"][0]
    google.calls.clear()
    assert changed(stack.up()) == {"update": 1}
    assert google.writes() == []
    stack.destroy()


_KILLED = """
import os, sys
from tests.live.test_pulumi_engine import Program
from tests.live.pulumi_engine import open_stack
open_stack(Program()).up(on_output=lambda line: None)
"""


def test_a_cluster_whose_maker_was_killed_is_recovered(
    stack: automation.Stack, google: NotedGoogle
) -> None:
    """As experiment.provision.pulumi_stack does: the id of a pending creation is known."""
    stack.destroy()
    google.forget()
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
    deployment = _deployment(stack)
    pending = [each["resource"] for each in deployment.pop("pending_operations")]
    assert [each["urn"].rpartition("::")[2] for each in pending] == ["cluster"]
    adopted = {**pending[0], "id": f"{PARENT}/clusters/c", "outputs": {}}
    deployment["resources"].append(adopted)
    stack.import_stack(automation.Deployment(version=3, deployment=deployment))
    stack.refresh()
    assert _outputs(stack, "cluster")["name"] == "c"
    google.fleet.cluster_s = 0
    stack.destroy()
    assert google.fleet.done.count("create_cluster c us-central1-a") == 1
    assert google.fleet.done.count("delete_cluster c us-central1-a") == 1


def test_a_refresh_fills_a_state_that_holds_the_id_alone(
    stack: automation.Stack, google: NotedGoogle
) -> None:
    _up(stack, google)
    deployment = _deployment(stack)
    for entry in deployment["resources"]:
        if entry["urn"].endswith("::cluster"):
            entry["outputs"] = {}
    stack.import_stack(automation.Deployment(version=3, deployment=deployment))
    stack.refresh()
    assert _outputs(stack, "cluster")["endpoint"] == "127.0.0.1:6443"
    assert changed(stack.up()) == {}
    stack.destroy()
