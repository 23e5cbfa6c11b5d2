"""A stand-in of the Flux Operator: it makes the Jobs of MiniClusters.

    python -m rehearsal.cluster.flux_operator KUBECONFIG

rehearsal.cluster.pod_host runs it for the pod of the operator's Deployment, with that pod's service
account. It does what the runner relies on (flux-framework/flux-operator, controllers/flux):

- a MiniCluster gets its ConfigMap, its Service and its Job, and a deleted Job is made again;
- each pod of the namespace, also another Job's, gets the label job-index, one after another, as
  fast as client-go's default allows;
- one MiniCluster is worked on at a time;
- it ends where it may not list a kind that it could own.

It validates nothing and knows one container a MiniCluster, no scaling and no cleanup.
"""

import asyncio
import json
import ssl
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from rehearsal.cluster.kubernetes import (
    JSON,
    MERGE,
    ClusterError,
    KubernetesClient,
    Object,
    pod_path,
)
from rehearsal.cluster.minicluster_objects import INDEX_LABEL, objects_of
from rehearsal.cluster.pod_host import Program, Start
from schema.names import MINICLUSTERS

NAME = "Flux Operator (stand-in)"
_QPS = 20.0
"""Of controller-runtime's clients (config.go of 0.12.1)."""
_FIRST_AGAIN_S, _LAST_AGAIN_S = 0.005, 1000.0
"""A MiniCluster is worked on again and again, each time after twice as long (client-go,
DefaultControllerRateLimiter)."""
_SESSION_S = 600.0
"""After which the token is read again; it lives for an hour."""
_TIMEOUT_S = 30.0
_CLUSTERS = "/apis/{}/{}/{}".format(*MINICLUSTERS)
_JOBS = "/apis/batch/v1/jobs"
_OWNED = (
    _CLUSTERS,
    _JOBS,
    "/apis/networking.k8s.io/v1/ingresses",
    *(f"/api/v1/{kind}" for kind in ("configmaps", "pods", "secrets", "services")),
)
"""What it watches in all namespaces (SetupWithManager)."""


def flux_operator() -> Program:
    """Return the program of the operator's pod."""
    return Program(NAME, "/flux-operator", _command)


def _command(start: Start) -> Sequence[str | Path]:
    if start.kubeconfig is None:
        raise ClusterError("the operator's pod has no token of its service account")
    return [sys.executable, "-m", __name__, start.kubeconfig]


class Operator:
    """Works on the MiniClusters of one cluster."""

    def __init__(self, api: KubernetesClient) -> None:
        self._api = api
        self._clusters: dict[tuple[str, str], Object] = {}
        self._due: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
        self._queued: set[tuple[str, str]] = set()
        self._again: dict[tuple[str, str], tuple[asyncio.Task[None], float]] = {}
        """What works on a MiniCluster again, and how long it waits."""

    async def run(self) -> None:
        """Work until cancelled; raise ClusterError if a right is missing."""
        for path in _OWNED:
            await self._api.request("GET", path, params={"limit": "1"}, tries=None)
        _say("watches MiniClusters. It is a stand-in: no Flux runs in what it makes")
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._watch_clusters())
            tasks.create_task(self._watch_jobs())
            while True:
                key = await self._due.get()
                self._queued.discard(key)
                if key not in self._clusters:
                    self._again.pop(key, None)
                    continue
                await self._reconcile(self._clusters[key])
                task, wait_s = self._again.get(key, (None, _FIRST_AGAIN_S / 2))
                if task is None or task.done():
                    wait_s = min(wait_s * 2, _LAST_AGAIN_S)
                    self._again[key] = (tasks.create_task(self._put_later(key, wait_s)), wait_s)

    async def _watch_clusters(self) -> None:
        listed: set[tuple[str, str]] = set()
        async for kind, text in self._api.follow(_CLUSTERS, {}):
            if kind == "LISTING":
                listed = set()
            elif kind == "LISTED":
                for key in set(self._clusters) - listed:
                    del self._clusters[key]
            else:
                cluster = json.loads(text)
                key = (cluster["metadata"]["namespace"], cluster["metadata"]["name"])
                listed.add(key)
                if kind == "DELETED" or "deletionTimestamp" in cluster["metadata"]:
                    self._clusters.pop(key, None)
                else:
                    self._clusters[key] = cluster
                    self._put(key)

    async def _watch_jobs(self) -> None:
        async for kind, text in self._api.follow(_JOBS, {}):
            if kind not in ("LISTING", "LISTED"):
                metadata = json.loads(text)["metadata"]
                self._put((metadata["namespace"], metadata["name"]))

    def _put(self, key: tuple[str, str]) -> None:
        if key not in self._queued:
            self._queued.add(key)
            self._due.put_nowait(key)

    async def _put_later(self, key: tuple[str, str], wait_s: float) -> None:
        await asyncio.sleep(wait_s)
        self._put(key)

    async def _reconcile(self, cluster: Object) -> None:
        """Make what is missing, and label pods."""
        try:
            for path, body in objects_of(cluster):
                if not await self._exists(path, body):
                    _say(f"creates {path.rpartition('/')[2]} {body['metadata']['name']}")
                    await self._api.send("POST", path, body, JSON, tries=1)
            await self._label_pods(cluster)
        except ClusterError as error:
            _say(f"tries again: {error}")

    async def _exists(self, path: str, body: Object) -> bool:
        selector = {"fieldSelector": f"metadata.name={body['metadata']['name']}"}
        return bool(await self._list(path, selector))

    async def _label_pods(self, cluster: Object) -> None:
        metadata = cluster["metadata"]
        path = pod_path(metadata["namespace"], "").rstrip("/")
        without = await self._list(path, {"labelSelector": f"!{INDEX_LABEL}"})
        for pod in without:
            name = pod["metadata"]["name"]
            index = name.removeprefix(f"{metadata['name']}-").partition("-")[0]
            change = {"metadata": {"labels": {INDEX_LABEL: index}}}
            await self._api.send("PATCH", f"{path}/{name}", change, MERGE, tries=1)
            await asyncio.sleep(1 / _QPS)
        if without:
            _say(f"labelled {len(without)} pods")

    async def _list(self, path: str, params: dict[str, str]) -> list[Object]:
        found: dict[str, Any] = json.loads(await self._api.request("GET", path, params=params))
        return list(found["items"])


def _say(text: str) -> None:
    print(f"{NAME}: {text}", flush=True)


def _login(kubeconfig: Path) -> tuple[str, ssl.SSLContext, dict[str, str]]:
    """Return the server's URL, how to verify it, and the headers that authenticate."""
    content = yaml.safe_load(kubeconfig.read_text(encoding="utf-8"))
    cluster, user = content["clusters"][0]["cluster"], content["users"][0]["user"]
    token = Path(user["tokenFile"]).read_text(encoding="ascii")
    tls = ssl.create_default_context(cafile=cluster["certificate-authority"])
    return cluster["server"], tls, {"Authorization": f"Bearer {token}"}


async def main(kubeconfig: Path) -> None:
    """Work until killed."""
    while True:
        server, tls, headers = _login(kubeconfig)
        api = KubernetesClient(server, tls, connections=4, timeout_s=_TIMEOUT_S, headers=headers)
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(_SESSION_S):
                    await Operator(api).run()
        finally:
            await api.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
