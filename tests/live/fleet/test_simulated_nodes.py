"""Simulated nodes on a real control plane: what their kubelets record and patch, pod by pod."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import pytest

from analysis.read.pull_message import parse_pulled
from rehearsal.cluster.kubernetes import ClusterError, KubernetesClient
from rehearsal.machine.options import Options
from rehearsal.machine.web import serving
from rehearsal.simulated_nodes.clock import warnings
from rehearsal.simulated_nodes.manifests import claim_routes
from schema.events import name_time
from tests.live.fleet.machine import KEY, Machine, locked_home, measured, texts
from tests.until import until

pytestmark = [pytest.mark.live, pytest.mark.timeout(600)]

SPEED = 20.0
REPOSITORY = "ghcr.io/owner/container-chonks"
SMALL = f"{REPOSITORY}:3-layers-size-48702097-bytes"
LARGE = f"{REPOSITORY}:9-layers-size-1176249324-bytes"


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    folder = tmp_path_factory.mktemp("home") / "h"
    with locked_home(folder) as home, serving(claim_routes(1.0)) as url:
        mirror = url.removeprefix("http://")
        machine = Machine(home, Options(1.0, "simulated", SPEED), images=None, mirror=mirror)
        try:
            machine.fleet.create_cluster(KEY)
            machine.fleet.create_pool(KEY, measured(4))
            yield machine
        finally:
            machine.fleet.close()


def waiting(local: Machine, pod: str) -> dict[str, str]:
    """Why its container waits; empty if it does not."""
    (container,) = local.pod(pod)["status"].get("containerStatuses") or [{}]
    return dict(container.get("state", {}).get("waiting", {}))


def test_a_pull_is_recorded_as_a_kubelet_records_it(local: Machine) -> None:
    name, node = local.run(0, LARGE), local.nodes("measured")[0]
    events = local.events(name, at_least=4)
    assert [event["reason"] for event in events] == ["Pulling", "Pulled", "Created", "Started"]
    message = parse_pulled(texts(events, "Pulled")[0])
    assert message is not None
    assert message.image == LARGE
    assert message.pull_s == message.pull_and_wait_s
    assert message.pull_s is not None
    assert message.pull_s > 5
    pulling, pulled = (name_time(event["metadata"]["name"]) for event in events[:2])
    assert pulling is not None
    assert pulled is not None
    # the clock's time is a twentieth of the node's, whatever the machine was doing
    assert (pulled - pulling).total_seconds() * SPEED == pytest.approx(message.pull_s, abs=0.01)
    for event in events:
        assert event["source"] == {"component": "kubelet", "host": node}
        assert event["involvedObject"]["fieldPath"] == "spec.containers{pull}"
        assert event["metadata"]["annotations"] == {"rehearsal.pull-study/simulated": "true"}


def test_a_pod_s_status_goes_through_its_states(local: Machine) -> None:
    status = local.pod(local.run(1, SMALL))["status"]
    assert status["phase"] == "Succeeded"
    (container,) = status["containerStatuses"]
    assert container["imageID"].startswith(f"{REPOSITORY}@sha256:")
    ended = container["state"]["terminated"]
    assert ended["exitCode"] == 0
    start, end = (
        datetime.fromisoformat(each) for each in (status["startTime"], ended["finishedAt"])
    )
    assert end >= start
    assert status["podIP"].startswith("10.")
    conditions = {each["type"]: each["status"] for each in status["conditions"]}
    assert (conditions["PodScheduled"], conditions["Ready"]) == ("True", "False")


def test_an_image_that_is_there_is_not_pulled(local: Machine) -> None:
    local.run(2, SMALL)
    events = local.events(local.run(2, SMALL), at_least=3)
    assert [event["reason"] for event in events] == ["Pulled", "Created", "Started"]
    assert texts(events, "Pulled") == [f'Container image "{SMALL}" already present on machine']


def test_pulls_wait_for_one_another(local: Machine) -> None:
    with ThreadPoolExecutor(2) as threads:
        pods = list(threads.map(lambda _: local.start(3, f"{LARGE}-b"), range(2)))
    pulls = []
    for pod in pods:
        local.end(pod)
        message = parse_pulled(texts(local.events(pod, at_least=4), "Pulled")[0])
        assert message
        assert message.pull_s is not None
        assert message.pull_and_wait_s is not None
        pulls.append((message.pull_and_wait_s - message.pull_s, message.pull_s))
    (no_wait, _), (wait, pull_s) = sorted(pulls)
    assert no_wait == pytest.approx(0, abs=0.001)
    assert wait > 4
    assert pull_s < 1


def test_an_image_that_the_registry_does_not_have_gets_back_off(local: Machine) -> None:
    image = f"{REPOSITORY}:latest"
    name = local.start(0, image)
    for reason in ("ErrImagePull", "ImagePullBackOff"):
        until(lambda: waiting(local, name).get("reason") == reason)  # noqa: B023
    assert waiting(local, name)["message"].startswith(f'Back-off pulling image "{image}"')
    failures = texts(local.events(name, at_least=4), "Failed")
    assert any("not found" in message for message in failures)
    assert "Error: ErrImagePull" in failures
    until(lambda: any(event["count"] > 1 for event in local.events(name)))
    assert local.pod(name)["status"]["phase"] == "Pending"
    local.delete(name)


def test_a_pod_that_is_too_long_is_ended(local: Machine) -> None:
    image = f"{REPOSITORY}:9-layers-size-19034736629-bytes"
    status = local.end(local.start(1, image, deadline_s=20))["status"]
    assert (status["phase"], status["reason"]) == ("Failed", "DeadlineExceeded")


def test_an_image_is_removed_and_is_cold_again(local: Machine) -> None:
    image = f"{SMALL}-gone"
    local.run(1, image)
    (container,) = local.end(local.start(1, SMALL, removes=[image]))["status"]["containerStatuses"]
    message = container["state"]["terminated"]["message"]
    assert json.loads(message) == [{"image": False, "layers": [], "partial": 0}]
    assert texts(local.events(local.run(1, image), at_least=4), "Pulling")


def test_the_api_server_gets_the_kubelet_s_figures(local: Machine) -> None:
    path = f"/api/v1/nodes/{local.nodes('measured')[2]}/proxy/stats/summary"
    before = local.admin._call("GET", path)["node"]
    local.run(2, f"{SMALL}-stats")
    after = local.admin._call("GET", path)["node"]
    moved = after["network"]["rxBytes"] - before["network"]["rxBytes"]
    assert moved == pytest.approx(48_702_097 / 2, rel=0.01)
    written = after["fs"]["usedBytes"] - before["fs"]["usedBytes"]
    assert written == pytest.approx(48_702_097 * 1.5, rel=0.01)


def test_a_node_s_status_lists_its_images_and_that_it_is_simulated(local: Machine) -> None:
    local.run(0, SMALL)

    def images() -> list[str]:
        (node, *_) = local.get("/api/v1/nodes")
        assert node["metadata"]["labels"]["rehearsal.pull-study/simulated"] == "true"
        return [name for image in node["status"].get("images", ()) for name in image["names"]]

    assert until(lambda: SMALL in images())


def test_a_service_account_has_the_rights_that_were_declared_and_no_others(local: Machine) -> None:
    """The exporter runs with such a token, so a missing right is rehearsed too."""
    token = local.admin.service_account_token(local.pod(local.run(1, SMALL))).token

    async def read() -> None:
        plane = local.fleet._clusters[KEY].plane
        client = KubernetesClient(
            f"https://{plane.public.endpoint}",
            ssl.create_default_context(cafile=str(plane.authority)),
            connections=1,
            timeout_s=10,
            headers={"Authorization": f"Bearer {token}"},
        )
        try:
            await client.request("GET", "/version")
            with pytest.raises(ClusterError, match=r'403 .*default:default" cannot list'):
                await client.request("GET", "/api/v1/events")
        finally:
            await client.close()

    asyncio.run(read())


def test_nodes_whose_kubelets_exited_are_removed_and_the_reason_is_reported(
    local: Machine,
) -> None:
    """The last test of the cluster: a run then ends with node-lost instead of its timeouts."""
    kubelets = local.fleet._clusters[KEY].kubelets
    assert kubelets
    kubelets.process.kill()
    until(lambda: not local.get("/api/v1/nodes"))
    line, *_ = warnings(local.home.folder)  # a loaded machine may be late too
    assert line.startswith("the simulated kubelets' process exited: code -9")
