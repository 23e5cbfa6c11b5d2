"""Choice of context and nodes; a run on an existing cluster is in tests/live."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
import yaml

from experiment.cluster_lease import ClusterLease, Holder
from experiment.errors import MeasureError, OwnershipError, PlanError
from experiment.kube import JOB, MINICLUSTER, Kube, Right
from experiment.kubeconfig import context_name
from experiment.measure.cluster_watch import ClusterWatch
from experiment.measure.nodes import NodeStates
from experiment.measure.pods import PodStates
from experiment.outage import Refused
from experiment.preflight.checks import cluster_check, images_present
from experiment.provision.existing_cluster import (
    MINICLUSTER_RIGHTS,
    NAMESPACE_RIGHTS,
    RIGHTS,
    ExistingCluster,
    why_left_out,
)
from experiment.run_folder import RunFolder
from schema.errors import ExitCode
from schema.names import JOB_NAMESPACE, MEASURED_LABEL, RUN_LABEL
from schema.run_records import ExistingCluster as Choice
from schema.run_records import PlannedTrial
from tests.experiment.fake_kube import FakeClaims
from tests.experiment.fakes import FakeClock
from tests.experiment.plan.test_trial_order import image
from tests.experiment.test_kube import ApiServer, kubeconfig, running

PAGE = Path(__file__).parents[3] / "docs" / "existing-clusters.md"
MANIFEST = PAGE.read_text("utf-8").partition("```yaml\n")[2].partition("```")[0]
"""For an administrator, as documented."""


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


class FakeKube(FakeClaims):
    """Nodes and their labels, Jobs and pods."""

    def __init__(self, nodes: list[dict[str, Any]]) -> None:
        super().__init__()
        self.items = nodes
        self.left_jobs = ["r-t001-a1"]
        self.foreign_pods = 0
        self.forbidden: set[str] = set()

    def nodes(self, selector: str) -> list[dict[str, Any]]:
        key = selector.partition("=")[0]
        return [each for each in self.items if not key or key in each["metadata"]["labels"]]

    def label_node(self, name: str, labels: dict[str, str | None]) -> None:
        (own,) = [each for each in self.items if each["metadata"]["name"] == name]
        changed = own["metadata"]["labels"] | labels
        own["metadata"]["labels"] = {k: v for k, v in changed.items() if v is not None}

    def may(self, right: Right) -> bool:
        return str(right) not in self.forbidden

    def delete_jobs(self, _namespace: str, selector: str) -> None:
        assert selector == RUN_LABEL
        if "list jobs in pull-study" in self.forbidden:
            raise Refused(403, 'User "u" cannot list resource "jobs"').as_error()
        self.left_jobs.clear()

    def pod_count(self, _namespace: str, selector: str) -> int:
        return self.foreign_pods if selector.startswith("!") else 0

    def close(self) -> None:
        pass


@pytest.fixture
def kube(monkeypatch: pytest.MonkeyPatch) -> FakeKube:
    kube = FakeKube([node("a"), node("b")])
    monkeypatch.setattr("experiment.provision.existing_cluster.Kube", lambda *_, **__: kube)
    return kube


@pytest.fixture
def nodes(kube: FakeKube) -> list[dict[str, Any]]:
    return kube.items


def cluster_of(tmp_path: Path, run: str = "r") -> ExistingCluster:
    cluster = ExistingCluster(write(tmp_path))
    cluster.hold_for(tmp_path / run)
    cluster.clock = FakeClock()
    return cluster


def labelled(nodes: list[dict[str, Any]]) -> list[str]:
    return [each["metadata"]["labels"].get(RUN_LABEL, "") for each in nodes]


def test_a_run_records_the_context_and_no_credential(
    tmp_path: Path, nodes: list[dict[str, Any]]
) -> None:
    cluster = cluster_of(tmp_path)
    assert cluster.choice.context == cluster.name == "one"
    assert (cluster.node_count, cluster.machine_type, cluster.disk_gb) == (2, "m", 101)
    outputs = cluster.provision()
    assert "t-o-p" not in cluster.choice.model_dump_json() + outputs.model_dump_json()
    assert labelled(nodes) == ["r", "r"]


@pytest.mark.parametrize(
    "user",
    [
        {"token": "PLANTED"},
        {"client-certificate-data": "PLANTED", "client-key-data": "PLANTED"},
        {"username": "u", "password": "PLANTED"},
        {"auth-provider": {"name": "oidc", "config": {"refresh-token": "PLANTED"}}},
        {"exec": {"command": "plugin", "args": ["PLANTED"], "env": [{"value": "PLANTED"}]}},
    ],
    ids=lambda user: next(iter(user)),
)
def test_no_credential_of_any_kind_is_kept(
    tmp_path: Path, kube: FakeKube, user: dict[str, Any]
) -> None:
    choice = write(tmp_path, user)
    path = Path(choice.kubeconfig)
    content = yaml.safe_load(path.read_text())
    for each in content["clusters"]:
        each["cluster"] |= {"server": "https://u:PLANTED@h", "proxy-url": "http://u:PLANTED@p"}
    path.write_text(yaml.safe_dump(content))
    cluster = ExistingCluster(choice)
    cluster.hold_for(tmp_path / "r")
    cluster.recover(resumed=False)
    kept = cluster.choice.model_dump_json() + cluster.provision().model_dump_json()
    assert "PLANTED" not in kept + cluster.name + cluster.description + cluster.kept()


def test_labels_of_a_killed_run_are_replaced_and_all_is_removed_at_the_end(
    tmp_path: Path, kube: FakeKube, nodes: list[dict[str, Any]]
) -> None:
    nodes[0]["metadata"]["labels"] |= {RUN_LABEL: "killed", "team": "ml"}
    cluster = cluster_of(tmp_path)
    cluster.recover(resumed=True)
    assert cluster.exists  # so that it is removed though a later check fails
    cluster.provision()
    assert labelled(nodes) == ["r", "r"]
    cluster.teardown()
    assert labelled(nodes) == ["", ""]
    assert nodes[0]["metadata"]["labels"]["team"] == "ml"
    assert (kube.left_jobs, kube.held, kube.namespaces) == ([], None, {})


@pytest.mark.parametrize("why", ["made by an administrator", "it has pods of others"])
def test_a_namespace_that_is_not_the_run_s_alone_stays(
    tmp_path: Path, kube: FakeKube, why: str
) -> None:
    if why == "made by an administrator":
        kube.create_namespace(JOB_NAMESPACE, {})
    else:
        kube.foreign_pods = 2
    cluster = cluster_of(tmp_path)
    cluster.recover(resumed=False)
    cluster.provision()
    cluster.teardown()
    assert list(kube.namespaces) == [JOB_NAMESPACE]
    assert kube.held is None


def test_labels_go_though_jobs_cannot_be_listed_and_the_refused_right_is_the_exit_code(
    tmp_path: Path, kube: FakeKube, nodes: list[dict[str, Any]]
) -> None:
    cluster = cluster_of(tmp_path)
    cluster.recover(resumed=False)
    cluster.provision()
    kube.forbidden = {"list jobs in pull-study"}
    with pytest.raises(MeasureError, match="cannot list resource") as caught:
        cluster.teardown()
    assert caught.value.exit_code == ExitCode.PERMISSION
    assert caught.value.fix.startswith("kubectl -n pull-study delete jobs -l pull-study/run;")
    assert labelled(nodes) == ["", ""]
    assert not cluster.exists  # nothing is left that costs anything


def test_a_second_run_is_refused_by_name_and_touches_nothing(
    tmp_path: Path, kube: FakeKube, nodes: list[dict[str, Any]]
) -> None:
    first, second = cluster_of(tmp_path, "first"), cluster_of(tmp_path, "second")
    first.recover(resumed=False)
    first.provision()
    (tmp_path / "first").mkdir()
    with RunFolder(tmp_path / "first").lock():
        for begin in (second.require_free, lambda: second.recover(resumed=False), second.teardown):
            with pytest.raises(OwnershipError, match=r"Another run \(.*@.*, run first\) measures"):
                begin()
        assert labelled(nodes) == ["first", "first"]
        assert kube.left_jobs == ["r-t001-a1"]
        assert not second.exists
    second.recover(resumed=False)  # the first was killed, and its lock ended with it
    assert labelled(nodes) == ["", ""]


def test_only_rights_that_are_needed_are_asked_for(tmp_path: Path, kube: FakeKube) -> None:
    cluster = cluster_of(tmp_path)
    kube.forbidden = {"create namespaces", "create bindings in pull-study"}
    assert list(map(str, cluster.missing_rights())) == [
        "create bindings in pull-study",
        "create namespaces",
    ]
    kube.create_namespace(JOB_NAMESPACE, {})
    assert list(map(str, cluster.missing_rights())) == ["create bindings in pull-study"]


def test_preflight_names_nodes_that_are_left_out_rights_that_miss_and_a_run_that_measures(
    tmp_path: Path, kube: FakeKube, nodes: list[dict[str, Any]]
) -> None:
    nodes[1]["spec"]["unschedulable"] = True

    def texts() -> list[str]:
        return [each.text for each in cluster_check(cluster_of(tmp_path), [])()]

    assert "Nodes that are left out: b (cordoned)." in texts()
    kube.forbidden = {"watch pods in pull-study", "get nodes/proxy"}
    assert "on the cluster one: get nodes/proxy and watch pods in pull-study." in texts()[-1]
    kube.forbidden = set()
    other = Holder("theirs", "/r/theirs", "another machine", "anna@host")
    ClusterLease(kube, other).acquire()  # type: ignore[arg-type]
    with pytest.raises(OwnershipError, match="anna@host, run theirs"):
        texts()


def test_a_resumed_run_measures_the_same_nodes_or_none(
    tmp_path: Path, nodes: list[dict[str, Any]]
) -> None:
    choice = ExistingCluster(write(tmp_path)).choice
    assert choice.nodes == ("a", "b")
    nodes.append(node("c"))
    assert ExistingCluster(choice).choice == choice
    nodes[0] = node("a", ready="False")
    with pytest.raises(
        PlanError, match=r"2 nodes .* 1 of them cannot be measured now: a \(not Ready\)"
    ):
        ExistingCluster(choice)


def test_images_on_the_nodes_are_counted(tmp_path: Path, nodes: list[dict[str, Any]]) -> None:
    planned = PlannedTrial(trial=1, repetition=1, image=image(5000, "x"), warm_bytes=0)
    nodes[0]["status"]["images"] = [{"names": [f"ghcr.io/a@{planned.image.digest}", "x:y"]}]
    assert images_present(ExistingCluster(write(tmp_path)), [planned]) == 1


def test_a_cluster_without_a_measurable_node_is_refused_with_the_reasons(
    tmp_path: Path, nodes: list[dict[str, Any]]
) -> None:
    nodes[:] = [node("a", unschedulable=True)]
    with pytest.raises(PlanError, match=r"no node that is Ready .*: a \(cordoned\)"):
        ExistingCluster(write(tmp_path))


def test_without_any_right_the_message_lists_what_to_ask_for(
    tmp_path: Path, kube: FakeKube, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_selector: str) -> list[dict[str, Any]]:
        raise Refused(403, 'User "u" cannot list resource "nodes"').as_error()

    monkeypatch.setattr(kube, "nodes", refuse)
    kube.forbidden = {"list nodes", "get namespaces pull-study"}
    with pytest.raises(MeasureError, match="cannot list") as caught:
        ExistingCluster(write(tmp_path))
    assert caught.value.exit_code == ExitCode.PERMISSION
    assert "Missing permissions: list nodes; get namespaces pull-study." in str(caught.value)


def node(name: str, *, ready: str = "True", **spec: Any) -> dict[str, Any]:
    conditions = [{"type": "Ready", "status": ready}]
    return {
        "metadata": {"name": name, "labels": {"node.kubernetes.io/instance-type": "m"}},
        "spec": spec,
        "status": {"conditions": conditions, "capacity": {"ephemeral-storage": "98831908Ki"}},
    }


def test_a_taint_that_measured_pods_tolerate_leaves_no_node_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    taint = {"key": "gpu", "effect": "NoExecute", "value": "x"}
    assert why_left_out(node("gpu", taints=[taint])) == "tainted gpu:NoExecute"
    for toleration, reason in (
        ({"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}, "tainted gpu:NoExecute"),
        ({"key": "gpu", "operator": "Exists"}, ""),
    ):
        monkeypatch.setattr(
            "experiment.provision.existing_cluster.MEASURED_TOLERATIONS", (toleration,)
        )
        assert why_left_out(node("gpu", taints=[taint])) == reason


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
    assert {each["metadata"]["name"]: why_left_out(each) for each in nodes} == {
        "good": "",
        "ours": "",
        "not-ready": "not Ready",
        "cordoned": "cordoned",
        "tainted": "tainted x:NoSchedule",
    }


@pytest.fixture
def server() -> Iterator[ApiServer]:
    with running() as server:
        yield server


def right_of(verb: str, path: str) -> Right:
    """As an API server's request info has it (k8s.io/apiserver, endpoints/request)."""
    path, _, query = path.partition("?")
    _, kind, *rest = path.split("/")
    group = "" if kind == "api" else rest.pop(0)
    del rest[0]  # the version
    namespace = ""
    if rest[0] == "namespaces" and len(rest) > 2:
        namespace, rest = rest[1], rest[2:]
    resource, name, part, *_ = [*rest, "", ""]
    if verb == "GET":
        what = "get" if name else "watch" if "watch=1" in query else "list"
    else:
        verbs = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
        what = verbs[verb]
    named = name if resource == "namespaces" else ""
    return Right(what, group, resource, part, namespace, named)


OBJECT = {"metadata": {"namespace": JOB_NAMESPACE, "name": "o", "uid": "u"}}
WATCHED = (
    f"/api/v1/namespaces/{JOB_NAMESPACE}/events",
    "/api/v1/events",
    f"/api/v1/namespaces/{JOB_NAMESPACE}/pods",
    "/api/v1/nodes",
    f"/apis/batch/v1/namespaces/{JOB_NAMESPACE}/jobs",
)
KINDS = (JOB, MINICLUSTER)
JOBS = [OBJECT | {"kind": kind} for kind in KINDS]
CALLS: dict[str, Callable[[Kube], Any]] = {
    "cluster_uid": lambda kube: kube.cluster_uid(),
    "namespace": lambda kube: kube.namespace(JOB_NAMESPACE),
    "create_namespace": lambda kube: kube.create_namespace(JOB_NAMESPACE, {}),
    "delete_namespace": lambda kube: kube.delete_namespace(JOB_NAMESPACE),
    "lease": lambda kube: kube.lease(JOB_NAMESPACE, "l"),
    "create_lease": lambda kube: kube.create_lease(OBJECT),
    "replace_lease": lambda kube: kube.replace_lease(OBJECT),
    "delete_lease": lambda kube: kube.delete_lease(JOB_NAMESPACE, "l"),
    "nodes": lambda kube: kube.nodes(""),
    "label_node": lambda kube: kube.label_node("n", {}),
    "node_stats": lambda kube: kube.node_stats("n"),
    "create_job": lambda kube: [*map(kube.create_job, JOBS)],
    "delete_job": lambda kube: [*map(partial(kube.delete_job, JOB_NAMESPACE, "j"), KINDS)],
    "delete_jobs": lambda kube: kube.delete_jobs(JOB_NAMESPACE, RUN_LABEL),
    "has_job": lambda kube: kube.has_job(JOB_NAMESPACE, "j"),
    "pod_count": lambda kube: kube.pod_count(JOB_NAMESPACE, RUN_LABEL),
    "waiting_pods": lambda kube: kube.waiting_pods("kube-system"),
    "bind_pod": lambda kube: kube.bind_pod(JOB_NAMESPACE, "p", "n"),
    "list": lambda kube: [kube.list(path, {}) for path in WATCHED],
    "watch": lambda kube: [list(kube.watch(path, {}, seconds=1)) for path in WATCHED],
}
"""Every request of the client to an existing cluster, as a run makes it."""
NO_RIGHT = {
    "close": "sends nothing",
    "may": "every authenticated user may ask (system:basic-user)",
    "serves_miniclusters": "every authenticated user may (system:discovery)",
    "server_version": "every authenticated user may (system:public-info-viewer)",
    "create_event": "the first event on a stack's cluster, to prove Cloud Logging",
    "node_log": "a file that a stack's own init script left on its nodes",
}


def test_every_request_of_the_client_has_its_right_in_the_list(server: ApiServer) -> None:
    methods = {name for name, _ in inspect.getmembers(Kube, inspect.isfunction) if name[0] != "_"}
    assert methods == CALLS.keys() | NO_RIGHT.keys()
    server.always = lambda: (200, OBJECT | {"items": [], "status": {"allowed": True}}, {})
    with closing(Kube(kubeconfig(server, {"token": "t"}))) as kube:
        for call in CALLS.values():
            call(kube)
    asked = {right_of(verb, path) for verb, path, _ in server.requests}
    in_all = Right("list", "", "events"), Right("watch", "", "events")
    listed = {*RIGHTS, *MINICLUSTER_RIGHTS, *NAMESPACE_RIGHTS}
    listed |= {replace(right, namespace=JOB_NAMESPACE) for right in in_all}  # granted with these
    assert asked == listed


def test_the_watch_of_a_run_asks_for_what_the_list_of_rights_was_made_from(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    paths: list[str] = []
    monkeypatch.setattr(
        "experiment.measure.cluster_watch.Reflector",
        lambda _kube, what, *_: paths.append(what.path),
    )
    ClusterWatch(
        cast("Kube", None),
        RunFolder(tmp_path),
        run_id="r",
        selector="",
        exporter_namespace="",
        pods=PodStates(),
        nodes=NodeStates([], [], 1, lambda _record: None),
    )
    assert tuple(paths) == WATCHED


def test_the_documented_manifest_grants_what_a_run_needs_and_nothing_else() -> None:
    granted = set()
    for each in yaml.safe_load_all(MANIFEST):
        namespace = each["metadata"].get("namespace", "")
        for rule in each.get("rules", ()):
            names = rule.get("resourceNames", [""])
            for kind, verb, name in itertools.product(rule["resources"], rule["verbs"], names):
                resource, _, part = kind.partition("/")
                (group,) = rule["apiGroups"]
                granted.add(Right(verb, group, resource, part, namespace, name))
    assert granted == {*RIGHTS, *MINICLUSTER_RIGHTS}
