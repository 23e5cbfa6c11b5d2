"""Simulated nodes on a real control plane: what their kubelets record and patch, pod by pod."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

import pytest

from analysis.read.pull_message import parse_pulled
from rehearsal.cluster.admin import ClusterAdmin
from rehearsal.cluster.fleet import ClusterKey, LogLine, PoolSpec
from rehearsal.local_fleet import LocalFleet
from rehearsal.machine import programs
from rehearsal.machine.home import Home, clear, lock
from rehearsal.machine.options import Options
from rehearsal.machine.web import serving
from rehearsal.simulated_nodes.clock import warnings
from rehearsal.simulated_nodes.manifests import claim_routes
from schema.events import name_time
from schema.names import MEASURED_LABEL
from tests.until import until

pytestmark = [pytest.mark.live, pytest.mark.timeout(600)]

KEY = ClusterKey("p", "us-central1-a", "live")
TAINTS = ((MEASURED_LABEL, "true", "NoSchedule"),)
MEASURED = PoolSpec("measured", 4, "n1-standard-16", {MEASURED_LABEL: "true"}, TAINTS)
SPEED = 20.0
REPOSITORY = "ghcr.io/owner/container-chonks"
SMALL, LARGE = (
    f"{REPOSITORY}:3-layers-size-48702097-bytes",
    (f"{REPOSITORY}:9-layers-size-1176249324-bytes"),
)
POD = "/api/v1/namespaces/default/pods"


class Cluster:
    """A cluster of simulated nodes, and an admin client for it."""

    def __init__(self, home: Home, mirror: str, faults: tuple[str, ...] = ()) -> None:
        programs.write_plugin(home)
        self.home = home
        self.lines: list[LogLine] = []
        self.fleet = LocalFleet(
            home,
            images=None,
            mirror=mirror,
            write_log=self.lines.append,
            options=Options(1.0, "simulated", SPEED, faults=faults),
        )
        self.fleet.create_cluster(KEY)
        self.fleet.create_pool(KEY, MEASURED)
        accounts = "/api/v1/namespaces/default/serviceaccounts"
        until(lambda: self.get(accounts))  # the controller manager makes it
        self.nodes = sorted(node["metadata"]["name"] for node in self.get("/api/v1/nodes"))

    @property
    def admin(self) -> ClusterAdmin:
        return self.fleet._clusters[KEY].admin

    def get(self, path: str, **params: str) -> Any:
        return self.admin._call("GET", path, params=params)["items"]

    def pod(self, name: str) -> dict[str, Any]:
        return self.admin._call("GET", f"{POD}/{name}")

    def start(self, number: int, image: str, **more: Any) -> str:
        """A pod on a node, as a Job's would be; its name."""
        made = self.admin._call("POST", POD, pod_on(self.nodes[number], image, **more))
        return str(made["metadata"]["name"])

    def end(self, pod: str) -> dict[str, Any]:
        """The pod once it has ended."""
        ended: dict[str, Any] = until(
            lambda: (
                found
                if (found := self.pod(pod))["status"].get("phase") in {"Succeeded", "Failed"}
                else None
            )
        )
        return ended

    def events(self, about: str, *, at_least: int = 0) -> list[dict[str, Any]]:
        """The kubelet's events about an object, oldest first."""

        def found() -> list[dict[str, Any]]:
            events = self.get("/api/v1/events", fieldSelector=f"involvedObject.name={about}")
            own = [event for event in events if event["source"].get("component") == "kubelet"]
            return sorted(own, key=lambda event: str(event["metadata"]["name"]))

        until(lambda: len(found()) >= at_least)
        return found()


def pod_on(
    node: str,
    image: str,
    policy: str = "IfNotPresent",
    annotations: dict[str, str] | None = None,
    deadline_s: int = 3600,
) -> dict[str, Any]:
    term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}
    required = {"nodeSelectorTerms": [term]}
    return {
        "metadata": {
            "generateName": "pull-",
            "labels": {"batch.kubernetes.io/job-name": "a-job"},
            "annotations": annotations or {},
        },
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 0,
            "activeDeadlineSeconds": deadline_s,
            "automountServiceAccountToken": False,
            "tolerations": [{"key": MEASURED_LABEL, "operator": "Exists"}],
            "affinity": {
                "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}
            },
            "containers": [
                {
                    "name": "pull",
                    "image": image,
                    "imagePullPolicy": policy,
                    "command": ["sleep", "1"],
                }
            ],
        },
    }


def texts(events: list[dict[str, Any]], reason: str) -> list[str]:
    return [event["message"] for event in events if event["reason"] == reason]


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    home = Home(tmp_path_factory.mktemp("home") / "h")
    assert lock(home)
    try:
        with serving(claim_routes(1.0)) as url:
            cluster = Cluster(home, url.removeprefix("http://"))
            try:
                yield cluster
            finally:
                cluster.fleet.close()
    finally:
        clear(home)


def test_a_pull_is_recorded_as_a_kubelet_records_it(local: Cluster) -> None:
    pod = local.end(local.start(0, LARGE))
    name = pod["metadata"]["name"]
    events = local.events(name, at_least=4)
    assert [event["reason"] for event in events] == ["Pulling", "Pulled", "Created", "Started"]
    message = parse_pulled(texts(events, "Pulled")[0])
    assert message is not None
    assert message.image == LARGE
    assert message.pull_s == message.pull_and_wait_s
    assert message.pull_s is not None
    assert message.pull_s > 5
    times = [name_time(event["metadata"]["name"]) for event in events]
    pulling, pulled = times[0], times[1]
    assert pulling is not None
    assert pulled is not None
    # the clock's time is a twentieth of the node's, whatever the machine was doing
    assert (pulled - pulling).total_seconds() * SPEED == pytest.approx(message.pull_s, abs=0.01)
    for event in events:
        assert event["source"] == {"component": "kubelet", "host": local.nodes[0]}
        assert event["reportingComponent"] == "kubelet"
        assert event["reportingInstance"] == local.nodes[0]
        assert event["involvedObject"]["fieldPath"] == "spec.containers{pull}"
        assert event["metadata"]["annotations"] == {"rehearsal.pull-study/simulated": "true"}
    assert texts(events, "Created") == ["Created container: pull"]
    assert texts(events, "Started") == ["Started container pull"]


def test_a_pod_s_status_goes_through_its_states(local: Cluster) -> None:
    pod = local.end(local.start(1, SMALL))
    status = pod["status"]
    assert status["phase"] == "Succeeded"
    (container,) = status["containerStatuses"]
    assert container["imageID"].startswith(f"{REPOSITORY}@sha256:")
    ended = container["state"]["terminated"]
    assert ended["exitCode"] == 0
    assert datetime.fromisoformat(ended["finishedAt"]) >= datetime.fromisoformat(
        status["startTime"]
    )
    assert status["podIP"].startswith("10.")
    conditions = {each["type"]: each["status"] for each in status["conditions"]}
    assert conditions["PodScheduled"] == "True"
    assert conditions["Ready"] == "False"


def test_an_image_that_is_there_is_pulled_only_with_the_policy_always(local: Cluster) -> None:
    local.end(local.start(2, SMALL))
    again = local.end(local.start(2, SMALL))["metadata"]["name"]
    events = local.events(again, at_least=3)
    assert [event["reason"] for event in events] == ["Pulled", "Created", "Started"]
    assert texts(events, "Pulled") == [f'Container image "{SMALL}" already present on machine']
    always = local.end(local.start(2, SMALL, policy="Always"))["metadata"]["name"]
    events = local.events(always, at_least=4)
    message = parse_pulled(texts(events, "Pulled")[0])
    assert message is not None
    assert message.pull_s is not None
    assert message.pull_s < 1
    assert message.image_bytes is not None
    assert message.image_bytes > 20_000_000


def test_pulls_wait_for_one_another(local: Cluster) -> None:
    image = f"{REPOSITORY}:9-layers-size-1176249324-bytes-b"
    with ThreadPoolExecutor(2) as threads:
        pods = list(threads.map(lambda _: local.start(3, image), range(2)))
    messages = []
    for pod in pods:
        local.end(pod)
        messages.append(parse_pulled(texts(local.events(pod, at_least=4), "Pulled")[0]))
    waits = sorted(
        message.pull_and_wait_s - message.pull_s
        for message in messages
        if message and message.pull_s and message.pull_and_wait_s
    )
    assert waits[0] == pytest.approx(0, abs=0.001)
    assert waits[1] > 4
    (second,) = [m for m in messages if m and m.pull_s and m.pull_s < 1]
    assert second.pull_and_wait_s is not None
    assert second.pull_and_wait_s > 4


def test_an_image_that_the_registry_does_not_have_gets_back_off(local: Cluster) -> None:
    image = f"{REPOSITORY}:latest"
    name = local.start(0, image)

    def reason() -> str:
        (container,) = local.pod(name)["status"].get("containerStatuses") or [{}]
        return str(container.get("state", {}).get("waiting", {}).get("reason"))

    until(lambda: reason() == "ErrImagePull")
    until(lambda: reason() == "ImagePullBackOff")
    (container,) = local.pod(name)["status"]["containerStatuses"]
    assert container["state"]["waiting"]["message"].startswith(f'Back-off pulling image "{image}"')
    events = local.events(name, at_least=4)
    assert any("not found" in message for message in texts(events, "Failed"))
    assert "Error: ErrImagePull" in texts(events, "Failed")
    until(lambda: any(event["count"] > 1 for event in local.events(name)))
    assert local.pod(name)["status"]["phase"] == "Pending"
    local.admin._call("DELETE", f"{POD}/{name}", {"gracePeriodSeconds": 0})


def test_never_fails_where_the_image_is_not(local: Cluster) -> None:
    name = local.start(0, f"{REPOSITORY}:3-layers-size-48702097-bytes-never", policy="Never")
    events = local.events(name, at_least=2)
    assert events[0]["reason"] == "ErrImageNeverPull"
    until(
        lambda: (
            local.pod(name)["status"]["containerStatuses"][0]["state"]["waiting"]["reason"]
            == "ErrImageNeverPull"
        )
    )
    local.admin._call("DELETE", f"{POD}/{name}", {"gracePeriodSeconds": 0})


def test_a_pod_that_is_too_long_is_ended(local: Cluster) -> None:
    image = f"{REPOSITORY}:9-layers-size-19034736629-bytes"
    status = local.end(local.start(1, image, deadline_s=20))["status"]
    assert (status["phase"], status["reason"]) == ("Failed", "DeadlineExceeded")


def test_an_image_is_removed_and_is_cold_again(local: Cluster) -> None:
    image = f"{REPOSITORY}:3-layers-size-48702097-bytes-gone"
    local.end(local.start(1, image))
    remover = local.start(1, SMALL, annotations={"pull-study/remove": json.dumps([image])})
    (container,) = local.end(remover)["status"]["containerStatuses"]
    message = container["state"]["terminated"]["message"]
    assert json.loads(message) == [{"image": False, "layers": [], "partial": 0}]
    again = local.end(local.start(1, image))["metadata"]["name"]
    assert texts(local.events(again, at_least=4), "Pulling")


def test_the_api_server_gets_the_kubelet_s_figures(local: Cluster) -> None:
    def summary() -> Any:
        path = f"/api/v1/nodes/{local.nodes[2]}/proxy/stats/summary"
        return local.admin._call("GET", path)["node"]

    before = summary()
    local.end(local.start(2, f"{REPOSITORY}:3-layers-size-48702097-bytes-stats"))
    after = summary()
    moved = after["network"]["rxBytes"] - before["network"]["rxBytes"]
    assert moved == pytest.approx(48_702_097 / 2, rel=0.01)
    written = after["fs"]["usedBytes"] - before["fs"]["usedBytes"]
    assert written == pytest.approx(48_702_097 * 1.5, rel=0.01)


def test_a_node_s_status_lists_its_images_and_that_it_is_simulated(local: Cluster) -> None:
    local.end(local.start(0, SMALL))

    def images() -> list[str]:
        (node,) = local.get("/api/v1/nodes", fieldSelector=f"metadata.name={local.nodes[0]}")
        assert node["metadata"]["labels"]["rehearsal.pull-study/simulated"] == "true"
        found = node["status"].get("images", ())
        return [name for image in found for name in image["names"]]

    assert until(lambda: SMALL in images())


def test_events_are_named_by_the_kubelet_s_clock(local: Cluster) -> None:
    events = local.events(local.end(local.start(2, SMALL))["metadata"]["name"], at_least=3)
    for event in events:
        assert re.fullmatch(r"pull-\w+\.[0-9a-f]{16}", event["metadata"]["name"])
        at = name_time(event["metadata"]["name"])
        assert at is not None
        first = datetime.fromisoformat(event["firstTimestamp"])
        assert first == at.replace(microsecond=0)


def test_nodes_whose_kubelets_exited_are_removed_and_the_reason_is_reported(
    local: Cluster,
) -> None:
    """The last test of the cluster: a run then ends with node-lost instead of its timeouts."""
    kubelets = local.fleet._clusters[KEY].kubelets
    assert kubelets
    kubelets.process.kill()
    until(lambda: not local.get("/api/v1/nodes"))
    line, *_ = warnings(local.home.folder)  # a loaded machine may be late too
    assert line.startswith("the simulated kubelets' process exited: code -9")
