"""Choice of context and nodes; a run on an existing cluster is in tests/live."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from experiment.errors import PlanError
from experiment.kube import Kube
from experiment.kubeconfig import context_name
from experiment.preflight.checks import images_present
from experiment.provision.existing_cluster import BORROWED_LABEL, ExistingCluster, measurable
from schema.names import MEASURED_LABEL
from schema.run_records import ExistingCluster as Choice
from schema.run_records import PlannedTrial
from tests.experiment.plan.test_trial_order import image


def write(folder: Path, user: dict[str, Any] | None = None) -> Choice:
    path = folder / "config"
    config = {
        "current-context": "one",
        "contexts": [
            {"name": "one", "context": {"cluster": "c", "user": "u"}},
            {"name": "two", "context": {"cluster": "gone", "user": "u"}},
        ],
        "clusters": [{"name": "c", "cluster": {"server": "https://h"}}],
        "users": [{"name": "u", "user": user or {"token": "t-o-p"}}],
    }
    path.write_text(yaml.safe_dump(config))
    return Choice(kubeconfig=str(path), context="", selector="")


@pytest.mark.parametrize("context", ["none", "two"])
def test_a_context_that_cannot_be_used_is_named_with_the_others(
    tmp_path: Path, context: str
) -> None:
    choice = write(tmp_path).model_copy(update={"context": context})
    with pytest.raises(PlanError, match=f"The context '{context}' of the kubeconfig") as caught:
        Kube(choice)
    assert caught.value.fix == "--context, one of: one, two"


@pytest.mark.parametrize("text", ["", "[", "a: 1", "contexts: 5"])
def test_a_file_that_is_not_a_kubeconfig_is_refused(tmp_path: Path, text: str) -> None:
    choice = write(tmp_path)
    Path(choice.kubeconfig).write_text(text)
    with pytest.raises(PlanError, match="is not a kubeconfig"):
        context_name(choice)


class FakeKube:
    """Nodes and their labels."""

    def __init__(self, nodes: list[dict[str, Any]]) -> None:
        self.items = nodes

    def nodes(self, selector: str) -> list[dict[str, Any]]:
        key = selector.partition("=")[0]
        return [each for each in self.items if not key or key in each["metadata"]["labels"]]

    def label_node(self, name: str, labels: dict[str, str | None]) -> None:
        (own,) = [each for each in self.items if each["metadata"]["name"] == name]
        changed = own["metadata"]["labels"] | labels
        own["metadata"]["labels"] = {k: v for k, v in changed.items() if v is not None}

    def delete_jobs(self, namespace: str) -> None:
        del namespace

    def close(self) -> None:
        pass


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    nodes = [node("a"), node("b")]
    monkeypatch.setattr(
        "experiment.provision.existing_cluster.Kube", lambda *_, **__: FakeKube(nodes)
    )
    return nodes


def test_a_run_records_the_context_and_no_credential(
    tmp_path: Path, nodes: list[dict[str, Any]]
) -> None:
    cluster = ExistingCluster(write(tmp_path))
    assert cluster.choice.context == cluster.name == "one"
    assert (cluster.node_count, cluster.machine_type, cluster.disk_gb) == (2, "m", 101)
    outputs = cluster.provision()
    assert "t-o-p" not in cluster.choice.model_dump_json() + outputs.model_dump_json()
    assert all(MEASURED_LABEL in each["metadata"]["labels"] for each in nodes)


def test_labels_of_a_killed_run_are_replaced_and_removed_at_the_end(
    tmp_path: Path, nodes: list[dict[str, Any]]
) -> None:
    nodes[0]["metadata"]["labels"] |= {MEASURED_LABEL: "true", BORROWED_LABEL: "true"}
    cluster = ExistingCluster(write(tmp_path))
    cluster.recover(resumed=True)
    cluster.provision()
    assert all(MEASURED_LABEL in each["metadata"]["labels"] for each in nodes)
    cluster.teardown()
    assert not any(MEASURED_LABEL in each["metadata"]["labels"] for each in nodes)


def test_images_on_the_nodes_are_counted(tmp_path: Path, nodes: list[dict[str, Any]]) -> None:
    planned = PlannedTrial(trial=1, repetition=1, image=image(5000, "x"), warm_bytes=0)
    nodes[0]["status"]["images"] = [{"names": [f"ghcr.io/a@{planned.image.digest}", "x:y"]}]
    assert images_present(ExistingCluster(write(tmp_path)), [planned]) == 1


def test_a_cluster_without_a_measurable_node_is_refused(
    tmp_path: Path, nodes: list[dict[str, Any]]
) -> None:
    nodes.clear()
    with pytest.raises(PlanError, match="has no node that is Ready"):
        ExistingCluster(write(tmp_path))


def node(name: str, *, ready: str = "True", **spec: Any) -> dict[str, Any]:
    conditions = [{"type": "Ready", "status": ready}]
    return {
        "metadata": {"name": name, "labels": {"node.kubernetes.io/instance-type": "m"}},
        "spec": spec,
        "status": {"conditions": conditions, "capacity": {"ephemeral-storage": "98831908Ki"}},
    }


def test_nodes_that_are_not_ready_cordoned_or_tainted_are_not_measured() -> None:
    ours = {"key": MEASURED_LABEL, "effect": "NoSchedule", "value": "true"}
    soft = {"key": "x", "effect": "PreferNoSchedule"}
    hard = {"key": "x", "effect": "NoSchedule"}
    nodes = [
        node("good"),
        node("ours", taints=[ours, soft]),
        node("not-ready", ready="Unknown"),
        node("cordoned", unschedulable=True),
        node("tainted", taints=[hard]),
    ]
    assert [each["metadata"]["name"] for each in measurable(nodes)] == ["good", "ours"]
