"""The stand-in of the Flux Operator over an API server in memory; tests/live has real ones."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from rehearsal.cluster import flux_operator
from rehearsal.cluster.certificates import make_authority
from rehearsal.cluster.control_plane import LocalControlPlane, kubeconfig
from rehearsal.cluster.flux_operator import Operator
from rehearsal.cluster.kubernetes import (
    ClusterError,
    ConflictError,
    KubernetesClient,
    Object,
    UnavailableError,
)
from rehearsal.cluster.minicluster_objects import objects_of
from rehearsal.cluster.pod_host import Start
from schema.names import VIEW_CONTAINER

SPEC: Object = {
    "size": 2,
    "deadlineSeconds": 100,
    "backoffLimit": 1000,
    "jobLabels": {"pull-study/trial": "3"},
    "network": {"headlessName": "mc-a"},
    "flux": {
        "container": {"name": VIEW_CONTAINER, "mountPath": "/mnt/flux", "image": "v@sha256:1"}
    },
    "pod": {
        "schedulerName": "nobody",
        "restartPolicy": "Never",
        "labels": {"pull-study/trial": "3"},
        "tolerations": [{"key": "t"}],
    },
    "containers": [
        {"image": "i@sha256:2", "imagePullPolicy": "IfNotPresent", "command": "sleep 1"}
    ],
}
CLUSTER: Object = {"metadata": {"name": "a", "namespace": "n", "uid": "u"}, "spec": SPEC}
JOBS = "/apis/batch/v1/namespaces/n/jobs"
PODS = "/api/v1/namespaces/n/pods"


class Api(KubernetesClient):
    """Objects by path; a Job gets its pods at once."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Object]] = {}
        self.watches: dict[str, asyncio.Queue[tuple[str, Object]]] = {}
        self.calls: list[tuple[str, str]] = []
        self.refused = ""
        self.busy = 0

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
        self.calls.append((method, path))
        if path == self.refused:
            raise ClusterError(f"403 {path}")
        if method == "POST" and self.busy:
            self.busy -= 1
            raise UnavailableError("busy")
        if method == "POST" and body:
            self.create(path, body)
        elif method == "PATCH" and body:
            held, _, name = path.rpartition("/")
            self.objects[held][name]["metadata"]["labels"] |= body["metadata"]["labels"]
        found = list(self.objects.get(path, {}).values())
        selected = (params or {}).get("fieldSelector", "").removeprefix("metadata.name=")
        items = [each for each in found if selected in {"", each["metadata"]["name"]}]
        if (params or {}).get("labelSelector") == "!job-index":
            items = [each for each in items if "job-index" not in each["metadata"]["labels"]]
        return json.dumps({"items": items}).encode()

    def create(self, path: str, body: Object) -> None:
        held = self.objects.setdefault(path, {})
        if body["metadata"]["name"] in held:
            raise ConflictError("exists")
        held[body["metadata"]["name"]] = body
        if path == JOBS:
            for index in range(body["spec"]["completions"]):
                pod = {"name": f"a-{index}-x{len(self.calls)}", "labels": {}}
                self.objects.setdefault(PODS, {})[str(pod["name"])] = {"metadata": pod}

    async def follow(
        self, path: str, params: Mapping[str, str]
    ) -> AsyncIterator[tuple[str, bytes]]:
        yield "LISTING", b""
        yield "LISTED", b""
        changes = self.watches.setdefault(path.rpartition("/")[2], asyncio.Queue())
        while True:
            kind, body = await changes.get()
            yield kind, json.dumps(body).encode()


async def settle(condition: Any) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - a fake has no event for it
            await asyncio.sleep(0.005)


def labels(api: Api) -> list[str]:
    return sorted(
        each["metadata"]["labels"].get("job-index", "") for each in api.objects[PODS].values()
    )


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Api:
    monkeypatch.setattr(flux_operator, "_QPS", 1000.0)
    return Api()


def play(api: Api, scenario: Any) -> None:
    async def run() -> None:
        operator = asyncio.create_task(Operator(api).run())
        await settle(lambda: len(api.watches) == 2)
        await scenario()
        operator.cancel()

    asyncio.run(run())


def test_a_minicluster_gets_its_objects_and_labels_and_a_deleted_job_is_made_anew(api: Api) -> None:
    async def scenario() -> None:
        api.watches["miniclusters"].put_nowait(("ADDED", CLUSTER))
        await settle(lambda: JOBS in api.objects and labels(api) == ["0", "1"])
        (job,) = api.objects[JOBS].values()
        api.objects[JOBS].clear()
        api.watches["jobs"].put_nowait(("DELETED", job))
        await settle(lambda: api.objects[JOBS])
        await settle(lambda: labels(api) == ["0", "0", "1", "1"])

    play(api, scenario)
    assert list(api.objects["/api/v1/namespaces/n/configmaps"]) == ["a-entrypoint"]
    assert list(api.objects["/api/v1/namespaces/n/services"]) == ["mc-a"]


def test_the_job_of_a_deleted_minicluster_stays_deleted(api: Api) -> None:
    async def scenario() -> None:
        api.watches["miniclusters"].put_nowait(("ADDED", CLUSTER))
        await settle(lambda: JOBS in api.objects)
        (job,) = api.objects[JOBS].values()
        api.watches["miniclusters"].put_nowait(("DELETED", CLUSTER))
        await settle(api.watches["miniclusters"].empty)
        await asyncio.sleep(0)
        api.objects[JOBS].clear()
        api.watches["jobs"].put_nowait(("DELETED", job))
        await settle(api.watches["jobs"].empty)
        await asyncio.sleep(0.05)

    play(api, scenario)
    assert not api.objects[JOBS]


def test_a_busy_api_server_is_asked_again(api: Api) -> None:
    async def scenario() -> None:
        api.busy = 2
        api.watches["miniclusters"].put_nowait(("ADDED", CLUSTER))
        await settle(lambda: JOBS in api.objects)

    play(api, scenario)


@pytest.mark.parametrize("kind", ["secrets", "pods"])
def test_it_ends_where_it_may_not_list_a_kind_that_it_could_own(api: Api, kind: str) -> None:
    api.refused = f"/api/v1/{kind}"
    with pytest.raises(ClusterError, match=f"403 /api/v1/{kind}"):
        asyncio.run(Operator(api).run())


def test_a_pod_without_a_token_cannot_start_it(tmp_path: Path) -> None:
    plane = LocalControlPlane(tmp_path, 6443, "v1.34.1", make_authority())
    program = flux_operator.flux_operator()
    command = program.command(Start(plane, tmp_path, [], tmp_path / "kubeconfig"))
    assert command[-2:] == ["rehearsal.cluster.flux_operator", tmp_path / "kubeconfig"]
    with pytest.raises(ClusterError, match="no token"):
        program.command(Start(plane, tmp_path, [], None))


def test_the_token_is_read_again_for_each_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority, token = make_authority(), tmp_path / "token"
    (tmp_path / "ca").write_bytes(authority.pem)
    config = tmp_path / "kubeconfig"
    config.write_text(kubeconfig("https://x", str(tmp_path / "ca"), {"tokenFile": str(token)}))
    sent: list[str] = []

    class Client(Api):
        def __init__(self, *_: Any, headers: Mapping[str, str], **__: Any) -> None:
            super().__init__()
            sent.append(headers["Authorization"])
            token.write_text(f"token-{len(sent)}")

        async def close(self) -> None:
            if len(sent) == 2:
                raise KeyboardInterrupt

    token.write_text("token-0")
    monkeypatch.setattr(flux_operator, "KubernetesClient", Client)
    monkeypatch.setattr(flux_operator, "_SESSION_S", 0.01)
    with pytest.raises(KeyboardInterrupt):
        asyncio.run(flux_operator.main(config))
    assert sent == ["Bearer token-0", "Bearer token-1"]


class TestObjects:
    @property
    def made(self) -> dict[str, Object]:
        return {path.rpartition("/")[2]: body for path, body in objects_of(CLUSTER)}

    def test_belong_to_the_minicluster(self) -> None:
        for body in self.made.values():
            (owner,) = body["metadata"]["ownerReferences"]
            assert (owner["kind"], owner["uid"], owner["controller"]) == ("MiniCluster", "u", True)

    def test_job_is_indexed_and_has_what_the_runner_sets(self) -> None:
        job = self.made["jobs"]
        spec = job["spec"]
        assert job["metadata"]["labels"] == {"pull-study/trial": "3"}
        assert (spec["completions"], spec["parallelism"], spec["backoffLimit"]) == (2, 2, 1000)
        assert (spec["completionMode"], spec["activeDeadlineSeconds"]) == ("Indexed", 100)
        assert spec["template"]["metadata"]["labels"]["pull-study/trial"] == "3"
        pod = spec["template"]["spec"]
        assert (pod["schedulerName"], pod["restartPolicy"]) == ("nobody", "Never")
        assert pod["tolerations"] == [{"key": "t"}]
        assert pod["subdomain"] == self.made["services"]["metadata"]["name"] == "mc-a"

    def test_pod_first_copies_flux_then_starts_the_study_s_image(self) -> None:
        pod = self.made["jobs"]["spec"]["template"]["spec"]
        (init,), (study,) = pod["initContainers"], pod["containers"]
        assert (init["name"], init["image"]) == (VIEW_CONTAINER, "v@sha256:1")
        assert (study["name"], study["image"]) == ("a", "i@sha256:2")
        scripts = self.made["configmaps"]["data"]
        assert init["command"][:2] == ["/bin/bash", "/flux_operator/flux-init.sh"]
        assert study["command"][:2] == ["/bin/bash", "/flux_operator/wait-0.sh"]
        assert "flux start sleep 1;" in scripts["wait-0"]
        mounted = {each["name"] for each in study["volumeMounts"]}
        assert mounted == {each["name"] for each in pod["volumes"]}
