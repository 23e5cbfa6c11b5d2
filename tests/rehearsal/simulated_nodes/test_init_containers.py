"""Pods of MiniClusters on simulated nodes: an init container first, and they end together."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from rehearsal.cluster.kubernetes import KubernetesClient, Object
from rehearsal.faults.nodes import pull_faults
from rehearsal.simulated_nodes.clock import Clock
from rehearsal.simulated_nodes.disk import StoredImage
from rehearsal.simulated_nodes.kubelet import Kubelet, Site
from rehearsal.simulated_nodes.objects import Container, Meta, Phase, Pod, PodSpec
from rehearsal.simulated_nodes.pull_model import load_parameters
from rehearsal.simulated_nodes.quorum import Quorums
from rehearsal.simulated_nodes.registry import NodesRegistry
from schema.names import VIEW_CONTAINER

VIEW, STUDY = "r/flux-view:t", "r/study:t"
SPEED = 200.0


class Api(KubernetesClient):
    """Keeps what is written; each Job has this many completions."""

    def __init__(self, completions: int = 1) -> None:
        self.completions = completions
        self.events: list[Object] = []
        self.statuses: dict[str, Object] = {}

    async def request(
        self,
        method: str,
        path: str,
        body: Object | None = None,
        *,
        content: str = "",
        params: Mapping[str, str] | None = None,
        tries: int | None = 1,
    ) -> bytes:
        assert path.endswith("/jobs/a")
        return json.dumps({"spec": {"completions": self.completions}}).encode()

    async def send(
        self, method: str, path: str, body: Object, content: str = "", *, tries: int | None = None
    ) -> None:
        if path.endswith("/events"):
            self.events.append(body)
        elif "/pods/" in path:
            self.statuses.setdefault(path.split("/")[-2], {}).update(body["status"])

    def steps(self, pod: str) -> list[tuple[str, str]]:
        return [
            (each["involvedObject"]["fieldPath"], each["reason"])
            for each in self.events
            if each["involvedObject"]["name"] == pod
        ]


class Registry(NodesRegistry):
    """Has images without layers."""

    def __init__(self, clock: Clock) -> None:
        super().__init__("127.0.0.1:1", 1e9, clock)

    async def resolve(self, reference: str) -> StoredImage:
        return StoredImage(reference, 1, ())


def pod(index: int) -> Pod:
    labels = {
        "batch.kubernetes.io/job-name": "a",
        "batch.kubernetes.io/controller-uid": "j",
        "pull-study/trial": "1",
    }
    annotations = {"batch.kubernetes.io/job-completion-index": str(index)}
    return Pod(
        Meta(f"a-{index}", f"{index:08x}-u", "n", "1", labels, annotations),
        PodSpec([Container("a", STUDY)], [Container(VIEW_CONTAINER, VIEW)], f"n-000{index}"),
        Phase(),
    )


def play(api: Api, folder: Path, pods: list[Pod], wanted: Any, *faults: str) -> None:
    """Run each pod on a node of its own until `wanted` holds; the node has nothing."""

    async def run() -> None:
        clock = Clock(SPEED)
        async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
            registry = Registry(clock)
            site = Site(
                api, clock, registry, load_parameters(), pull_faults(faults, folder), tasks,
                Quorums(api),
            )  # fmt: skip
            kubelets = [Kubelet(site, each.spec.node_name, 10**11, 1) for each in pods]
            for kubelet, each in zip(kubelets, pods, strict=True):
                kubelet.update(each)
            while not wanted():  # noqa: ASYNC110 - what is awaited is written by many tasks
                await asyncio.sleep(0.01)
            for kubelet in kubelets:
                kubelet.stop()
            await registry.close()

    asyncio.run(run())


def phases(api: Api) -> list[str]:
    return [each["phase"] for each in api.statuses.values()]


STEPS = ("Pulling", "Pulled", "Created", "Started")


def test_the_view_is_pulled_and_ends_before_the_study_s_image_is_pulled(tmp_path: Path) -> None:
    api = Api()
    play(api, tmp_path, [pod(0)], lambda: phases(api) == ["Succeeded"])
    view, study = f"spec.initContainers{{{VIEW_CONTAINER}}}", "spec.containers{a}"
    assert api.steps("a-0") == [*((view, each) for each in STEPS), *((study, e) for e in STEPS)]
    status = api.statuses["a-0"]
    (init,) = status["initContainerStatuses"]
    assert init["state"]["terminated"]["exitCode"] == 0
    conditions = {each["type"]: each["status"] for each in status["conditions"]}
    assert conditions["Initialized"] == "True"


def test_a_view_that_is_missing_is_the_init_container_s_failure(tmp_path: Path) -> None:
    api = Api()

    def waits() -> bool:
        statuses = api.statuses.get("a-0", {}).get("initContainerStatuses") or [{}]
        waiting = statuses[0].get("state", {}).get("waiting", {})
        return bool(waiting.get("reason") == "ErrImagePull")

    play(api, tmp_path, [pod(0)], waits, "view-missing")
    status = api.statuses["a-0"]
    (container,) = status["containerStatuses"]
    assert container["state"] == {"waiting": {"reason": "PodInitializing"}}
    conditions = {each["type"]: each["status"] for each in status["conditions"]}
    assert conditions["Initialized"] == "False"


@pytest.mark.parametrize(
    ("fault", "ended"),
    [((), ["Succeeded"] * 2), (("pull:how=404,node=1",), ["Pending", "Running"])],
)
def test_pods_end_together_and_wait_for_one_that_cannot_start(
    tmp_path: Path, fault: tuple[str, ...], ended: list[str]
) -> None:
    api = Api(2)
    pods = [pod(0), pod(1)]

    def over() -> bool:
        failed = any(each["reason"] == "Failed" for each in api.events)
        return sorted(phases(api)) == ended and bool(fault) == failed

    play(api, tmp_path, pods, over, *fault)
