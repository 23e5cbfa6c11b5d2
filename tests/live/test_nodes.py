"""Clusters on this machine: real nodes pull real images, and nothing of them is left."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests

from images.make.build import build_image, build_pause
from images.make.push import BuiltImage
from images.registry.reference import Target, parse_target
from rehearsal.cluster.admin import ClusterAdmin
from rehearsal.cluster.control_plane import LocalControlPlane
from rehearsal.cluster.fleet import ClusterKey, FleetError, LogLine, PoolSpec
from rehearsal.local_fleet import LocalFleet
from rehearsal.machine import processes, programs
from rehearsal.machine.home import Home, clear, lock
from rehearsal.machine.options import Options
from rehearsal.real_nodes import registry
from schema.image_tag import parse_tag
from schema.names import MEASURED_LABEL
from tests.live.footprint import footprint, processes_of
from tests.live.harness import expect_same, needs_real_nodes
from tests.until import until

pytestmark = [
    pytest.mark.live,
    pytest.mark.full,
    pytest.mark.timeout(180),
    needs_real_nodes,
]

KEY = ClusterKey("p", "us-central1-a", "live")
TAINTS = ((MEASURED_LABEL, "true", "NoSchedule"),)
MEASURED = PoolSpec("measured", 2, "n1-standard-16", {MEASURED_LABEL: "true"}, TAINTS)
OTHERS = PoolSpec("monitoring", 1, "e2-standard-4", {"pull-study/role": "monitoring"}, ())
REPOSITORY = "owner/container-chonks"


class Machine:
    """A fleet with its registry, and an admin client for its cluster."""

    def __init__(self, home: Home) -> None:
        self.home = home
        programs.write_plugin(home)
        self.registry = registry.start(home.folder, home.folder / "registry")
        registry.wait_until_up(self.registry)
        build_pause(parse_target(self.registry.pause_image))
        self.lines: list[LogLine] = []
        self.fleet = LocalFleet(
            home,
            images=self.registry,
            mirror=self.registry.address,
            write_log=self.lines.append,
            options=Options(0.05),
        )

    @property
    def plane(self) -> LocalControlPlane:
        return self.fleet._clusters[KEY].plane

    @property
    def admin(self) -> ClusterAdmin:
        return self.fleet._clusters[KEY].admin

    def get(self, path: str, **params: str) -> Any:
        return self.admin._call("GET", path, params=params)["items"]

    def post(self, path: str, body: dict[str, Any]) -> Any:
        return self.admin._call("POST", path, body)

    def build(self, tag: str) -> BuiltImage:
        return build_image(parse_tag(tag), Target(self.registry.address, REPOSITORY), scale=0.05)

    def events(self, pod: str) -> dict[str, str]:
        found = self.get("/api/v1/events", fieldSelector=f"involvedObject.name={pod}")
        # the kubelet says Failed twice: first why, then what it does about it
        return {event["reason"]: event["message"] for event in reversed(found)}


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    home = Home(tmp_path_factory.mktemp("home") / "h")
    assert lock(home)
    there = Machine(home)
    try:
        there.fleet.create_cluster(KEY)
        there.fleet.create_pool(KEY, MEASURED)
        there.fleet.create_pool(KEY, OTHERS)
        yield there
    finally:
        there.fleet.close()
        clear(home)


def pod_on(node: str, image: str) -> dict[str, Any]:
    term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}
    required = {"nodeSelectorTerms": [term]}
    return {
        "metadata": {"generateName": "pull-"},
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": False,
            "tolerations": [{"key": MEASURED_LABEL, "operator": "Exists"}],
            "affinity": {
                "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}
            },
            "containers": [{"name": "c", "image": image, "command": ["sleep", "1"]}],
        },
    }


def names_of(local: Machine, pool: str) -> list[str]:
    selector = f"cloud.google.com/gke-nodepool={pool}"
    return sorted(n["metadata"]["name"] for n in local.get("/api/v1/nodes", labelSelector=selector))


def run_to_end(local: Machine, node: str, image: str) -> tuple[str, str]:
    """Name and phase of a pod that ran on the node."""
    made = local.post("/api/v1/namespaces/default/pods", pod_on(node, image))["metadata"]["name"]

    def phase() -> str:
        (pod,) = local.get("/api/v1/pods", fieldSelector=f"metadata.name={made}")
        found: str = pod["status"]["phase"]
        return found if found in {"Succeeded", "Failed"} else ""

    return made, until(phase)


def test_nodes_are_ready_with_the_pool_s_labels_and_taints(local: Machine) -> None:
    names = names_of(local, "measured")
    assert names == ["gke-live-measured-0001", "gke-live-measured-0002"]
    for node in local.get("/api/v1/nodes", labelSelector=f"{MEASURED_LABEL}=true"):
        labels = node["metadata"]["labels"]
        assert labels["node.kubernetes.io/instance-type"] == "n1-standard-16"
        assert labels["topology.kubernetes.io/zone"] == "us-central1-a"
        assert labels["kubernetes.io/hostname"] == node["metadata"]["name"]
        assert [taint["key"] for taint in node["spec"]["taints"]] == [MEASURED_LABEL]
        assert node["status"]["nodeInfo"]["containerRuntimeVersion"].startswith("containerd://")


def test_other_pools_exist_in_the_api_only(local: Machine) -> None:
    assert names_of(local, "monitoring") == ["gke-live-monitoring-0001"]
    assert set(names_of(local, "monitoring")) <= local.admin.virtual_nodes()
    assert local.admin.virtual_nodes().isdisjoint(names_of(local, "measured"))


def test_a_pod_pulls_a_real_image_of_another_registry_s_name(local: Machine) -> None:
    tag = "3-layers-size-20000000-bytes"
    built = local.build(tag)
    image = f"ghcr.io/{REPOSITORY}:{tag}@{built.digest}"
    node = names_of(local, "measured")[0]
    before = local.registry.log.read_text()
    pod, phase = run_to_end(local, node, image)
    events = local.events(pod)
    assert phase == "Succeeded", events
    assert {"Scheduled", "Pulling", "Pulled", "Created", "Started"} <= events.keys()
    assert events["Pulled"].startswith(f'Successfully pulled image "{image}" in ')
    assert f"Image size: {built.compressed + _config_size(local, built)} bytes" in events["Pulled"]
    log = local.registry.log.read_text().removeprefix(before)
    fetched = [layer.digest for layer in built.layers if f"blobs/{layer.digest}?ns=ghcr.io" in log]
    assert len(fetched) == 3


def _config_size(local: Machine, built: BuiltImage) -> int:
    url = f"http://{local.registry.address}/v2/{REPOSITORY}/manifests/{built.digest}"
    types = {"Accept": "application/vnd.oci.image.manifest.v1+json"}
    manifest = requests.get(url, headers=types, timeout=5)
    return int(manifest.json()["config"]["size"]) + len(manifest.content)


def test_an_unknown_image_fails_at_once_and_asks_no_other_registry(local: Machine) -> None:
    node = names_of(local, "measured")[1]
    body = pod_on(node, "ghcr.io/owner/nothing:latest")
    pod = local.post("/api/v1/namespaces/default/pods", body)["metadata"]["name"]
    until(lambda: "not found" in local.events(pod).get("Failed", ""))


def test_a_node_s_runtime_is_where_a_gke_node_has_it(local: Machine) -> None:
    """A pod that manages images mounts containerd's socket from /run/containerd."""
    tag = "2-layers-size-2000000-bytes"
    image = f"ghcr.io/{REPOSITORY}:{tag}@{local.build(tag).digest}"
    body = pod_on(names_of(local, "measured")[0], image)
    mount = {"name": "run", "mountPath": "/host"}
    container = body["spec"]["containers"][0]
    container |= {"command": ["test", "-S", "/host/containerd.sock"], "volumeMounts": [mount]}
    body["spec"]["volumes"] = [{"name": "run", "hostPath": {"path": "/run/containerd"}}]
    pod = local.post("/api/v1/namespaces/default/pods", body)["metadata"]["name"]

    def phase() -> str:
        (found,) = local.get("/api/v1/pods", fieldSelector=f"metadata.name={pod}")
        return str(found["status"]["phase"]).replace("Pending", "").replace("Running", "")

    assert until(phase) == "Succeeded"


def test_a_pool_grows_and_shrinks(local: Machine) -> None:
    local.fleet.resize_pool(KEY, "measured", 3)
    assert len(names_of(local, "measured")) == 3
    local.fleet.resize_pool(KEY, "measured", 2)
    assert names_of(local, "measured") == ["gke-live-measured-0001", "gke-live-measured-0002"]
    assert not (local.plane.folder / "nodes" / "gke-live-measured-0003").exists()


def test_more_nodes_than_a_machine_runs_are_refused_and_none_is_left(local: Machine) -> None:
    with pytest.raises(FleetError, match="8 real nodes at most"):
        local.fleet.resize_pool(KEY, "measured", 12)
    assert len(names_of(local, "measured")) == 2


def test_a_second_cluster_lives_beside_the_first_and_leaves_nothing(local: Machine) -> None:
    other = ClusterKey("p", "us-central1-a", "other")
    before = footprint(local.home.folder)
    local.fleet.create_cluster(other)
    local.fleet.create_pool(other, PoolSpec("measured", 1, "n1", {MEASURED_LABEL: "true"}, TAINTS))
    local.fleet.delete_cluster(other)
    local.fleet.delete_cluster(other)
    expect_same(before, local.home.folder)
    assert len(list(local.home.clusters.iterdir())) == 1
    assert len(names_of(local, "measured")) == 2


def test_log_lines_carry_what_the_exporter_saw(local: Machine) -> None:
    local.lines.clear()
    _deploy_exporter(local, rules=[{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}])
    until(lambda: local.lines, why="the exporter logs its start")
    tag = "2-layers-size-3000000-bytes"
    local.build(tag)
    pod, _ = run_to_end(local, names_of(local, "measured")[0], f"ghcr.io/{REPOSITORY}:{tag}")

    def exported() -> set[str]:
        events = [json.loads(line.text) for line in local.lines if line.stream == "stdout"]
        return {e["reason"] for e in events if e["involvedObject"]["name"] == pod}

    until(lambda: {"Scheduled", "Pulling", "Pulled", "Created", "Started"} <= exported())
    line = next(line for line in local.lines if line.stream == "stdout")
    assert (line.cluster, line.namespace_name) == (KEY, "exporting")
    assert (line.container_name, line.pod_name[:9]) == ("event-exporter", "exporter-")


def test_an_exporter_that_dies_is_shown_as_such_and_started_again(local: Machine) -> None:
    (pod,) = local.get("/api/v1/namespaces/exporting/pods")
    folder = local.plane.folder / "exporters" / pod["metadata"]["uid"]
    processes.stop(folder)

    def status() -> Any:
        (now,) = local.get("/api/v1/namespaces/exporting/pods")
        return now["status"]["containerStatuses"][0]

    until(lambda: status()["state"].get("waiting", {}).get("reason") == "CrashLoopBackOff")
    assert not status()["ready"]
    until(lambda: status()["ready"], 20)
    assert status()["restartCount"] == 1
    assert len(processes.running(folder)) == 1


def test_an_exporter_ends_with_its_pod(local: Machine) -> None:
    local.admin._call("DELETE", "/apis/apps/v1/namespaces/exporting/deployments/exporter")
    exporters = local.plane.folder / "exporters"
    until(lambda: not processes.running(exporters) and not any(exporters.iterdir()))


def test_an_exporter_has_the_rights_that_were_declared_and_no_more(local: Machine) -> None:
    local.admin._call("DELETE", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/exporter")
    local.lines.clear()
    local.post("/apis/apps/v1/namespaces/exporting/deployments", _deployment())
    until(lambda: any("forbidden" in line.text for line in local.lines))
    local.admin._call("DELETE", "/apis/apps/v1/namespaces/exporting/deployments/exporter")


CONFIG = """
logLevel: info
logFormat: json
maxEventAgeSeconds: 1200
kubeQPS: 100
kubeBurst: 500
omitLookup: true
route:
  routes:
    - match:
        - receiver: dump
receivers:
  - name: dump
    stdout: {}
"""


def _deploy_exporter(local: Machine, *, rules: list[dict[str, Any]]) -> None:
    rbac = "/apis/rbac.authorization.k8s.io/v1"
    name = {"metadata": {"name": "exporter"}}
    subject = {"kind": "ServiceAccount", "name": "exporter", "namespace": "exporting"}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "exporter"}
    local.post("/api/v1/namespaces", {"metadata": {"name": "exporting"}})
    local.post("/api/v1/namespaces/exporting/serviceaccounts", name)
    local.post(f"{rbac}/clusterroles", {**name, "rules": rules})
    local.post(f"{rbac}/clusterrolebindings", {**name, "subjects": [subject], "roleRef": role})
    data = {"config.yaml": CONFIG}
    local.post("/api/v1/namespaces/exporting/configmaps", {**name, "data": data})
    local.post("/apis/apps/v1/namespaces/exporting/deployments", _deployment())


def _deployment() -> dict[str, Any]:
    container = {
        "name": "event-exporter",
        "image": "ghcr.io/resmoio/kubernetes-event-exporter:v1.6.1",
        "args": ["-conf=/data/config.yaml"],
        "volumeMounts": [{"name": "config", "mountPath": "/data"}],
    }
    pod = {
        "metadata": {"labels": {"app": "event-exporter"}},
        "spec": {
            "serviceAccountName": "exporter",
            "nodeSelector": {"cloud.google.com/gke-nodepool": "monitoring"},
            "containers": [container],
            "volumes": [{"name": "config", "configMap": {"name": "exporter"}}],
        },
    }
    spec = {"replicas": 1, "selector": {"matchLabels": {"app": "event-exporter"}}, "template": pod}
    return {"metadata": {"name": "exporter"}, "spec": spec}


def test_the_end_does_not_wait_for_what_is_being_made(tmp_path: Path) -> None:
    home = Home(tmp_path / "h")
    before = footprint(home.folder)
    assert lock(home)
    there = Machine(home)
    there.fleet.create_cluster(KEY)
    with ThreadPoolExecutor(2) as threads:
        pool = threads.submit(there.fleet.create_pool, KEY, MEASURED)
        cluster = threads.submit(there.fleet.create_cluster, ClusterKey("p", "l", "other"))
        until(lambda: list(there.home.clusters.glob("*/nodes/*")), why="a node is being created")
        start = time.monotonic()
        there.fleet.close()
        assert time.monotonic() - start < 10
        for made in (pool, cluster):
            assert isinstance(made.exception(10), FleetError)
    clear(home)
    assert processes_of(home.folder) == []
    expect_same(before, home.folder)
    with pytest.raises(FleetError, match="is ending"):
        there.fleet.create_cluster(KEY)
