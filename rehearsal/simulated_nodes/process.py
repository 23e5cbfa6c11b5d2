"""The process that acts for the kubelets of a cluster's simulated nodes.

    python -m rehearsal.simulated_nodes.process CONFIG    (JSON of
    rehearsal.simulated_nodes.node.KubeletsConfig)

One asyncio loop watches nodes and pods; rehearsal.simulated_nodes.kubelet decides what each node
does. It acts for pods of Jobs alone: all others on such nodes are kwok's. It also serves the
kubelets' stats/summary, as the API server's node proxy requests it.
"""

import asyncio
import json
import ssl
import sys
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web

from rehearsal.cluster.control_plane import JOB_LABEL, VIRTUAL_NODE
from rehearsal.cluster.fleet import STREAMING_LABEL
from rehearsal.cluster.kubernetes import (
    STRATEGIC,
    ClusterError,
    KubernetesClient,
    Object,
    administrator,
)
from rehearsal.faults.nodes import pull_faults
from rehearsal.simulated_nodes.clock import Clock, write_report
from rehearsal.simulated_nodes.events import timestamp
from rehearsal.simulated_nodes.kubelet import Kubelet, Site
from rehearsal.simulated_nodes.node import (
    PARALLEL_ANNOTATION,
    PRELOADED_ANNOTATION,
    SIMULATED_LABEL,
    UNPACKS_ANNOTATION,
    KubeletsConfig,
)
from rehearsal.simulated_nodes.objects import Node, Pod
from rehearsal.simulated_nodes.pull_model import load_parameters
from rehearsal.simulated_nodes.quorum import Quorums
from rehearsal.simulated_nodes.registry import NodesRegistry

_CONNECTIONS = 8
"""Enough for all that an API server on a few cores can do; more would only crowd out the runner's
and the scheduler's requests, which on a real cluster do not share its cores with the kubelets."""
_TIMEOUT_S = 60.0
_INTERVAL_S = 1.0
"""How often the report is written, and faults are checked for silent nodes."""
_SENT_SHARE = 0.01
"""Of the bytes received, what requests and acknowledgements of them take."""


class Kubelets:
    """Acts for all simulated nodes of one cluster."""

    def __init__(self, config: KubeletsConfig, tasks: asyncio.TaskGroup) -> None:
        self._config = config
        self._clock = Clock(config.speed)
        self._api = KubernetesClient(
            config.server,
            administrator(config.authority, config.certificate, config.key),
            connections=_CONNECTIONS,
            timeout_s=_TIMEOUT_S,
        )
        parameters = load_parameters()
        rate = parameters.registry_bytes_per_s
        self._site = Site(
            api=self._api,
            clock=self._clock,
            registry=NodesRegistry(config.mirror, rate, self._clock),
            parameters=parameters,
            faults=pull_faults(config.faults, Path(config.home)),
            tasks=tasks,
            quorums=Quorums(self._api),
        )
        self._server = StatsServer(config.authority, config.certificate, config.key)
        self._nodes: dict[str, tuple[str, Kubelet, int]] = {}
        """Uid, kubelet and port by name."""
        self._silent: set[str] = set()
        self._early: dict[str, Pod] = {}
        """Pods of nodes that have not been seen yet, by uid."""

    async def start(self) -> None:
        """Start to watch nodes and pods; tasks of the group go on until cancelled."""
        await self._server.start()
        for work in (self._watch_nodes(), self._watch_pods(), self._report()):
            self._site.tasks.create_task(work)

    async def close(self) -> None:
        await self._server.close()
        await self._site.registry.close()
        await self._api.close()

    async def _watch_nodes(self) -> None:
        decode = msgspec.json.Decoder(Node).decode
        listed: set[str] = set()
        selector = {"labelSelector": f"{SIMULATED_LABEL}=true"}
        async for kind, text in self._api.follow("/api/v1/nodes", selector):
            if kind == "LISTING":
                listed = set()
            elif kind == "LISTED":
                for name in set(self._nodes) - listed:
                    await self._remove(name)
            elif kind == "DELETED":
                await self._remove(decode(text).metadata.name)
            else:
                node = decode(text)
                listed.add(node.metadata.name)
                await self._update(node)

    async def _update(self, node: Node) -> None:
        """Start the kubelet of a node if it is new; restore in its status what kwok overwrites."""
        name, uid = node.metadata.name, node.metadata.uid
        if name in self._nodes and self._nodes[name][0] != uid:
            await self._remove(name)
        if name not in self._nodes:
            disk = parse_quantity(node.status.capacity["ephemeral-storage"])
            pulls = int(node.metadata.annotations.get(PARALLEL_ANNOTATION, "1"))
            preloaded = node.metadata.annotations.get(PRELOADED_ANNOTATION) == "true"
            unpacks = int(node.metadata.annotations.get(UNPACKS_ANNOTATION, "1"))
            kubelet = Kubelet(
                self._site,
                name,
                disk,
                pulls,
                preloaded=preloaded,
                unpacks=unpacks,
                streaming=node.metadata.labels.get(STREAMING_LABEL) == "true",
            )
            self._nodes[name] = (uid, kubelet, await self._server.listen(kubelet))
            for pod in [pod for pod in self._early.values() if pod.spec.node_name == name]:
                kubelet.update(self._early.pop(pod.metadata.uid))
        _, kubelet, port = self._nodes[name]
        if name in self._silent:
            return
        if node.status.daemon_endpoints.kubelet_endpoint.port != port:
            endpoints = {"daemonEndpoints": {"kubeletEndpoint": {"Port": port}}}
            await kubelet.patch_status(endpoints)
        has_pressure = any(
            each.type == "DiskPressure" and each.status == "True" for each in node.status.conditions
        )
        if has_pressure != kubelet.pressure.active and node.status.conditions:
            await kubelet.pressure.patch_condition(self._clock.now())

    async def _remove(self, name: str) -> None:
        if name in self._nodes:
            _, kubelet, port = self._nodes.pop(name)
            kubelet.stop()
            await self._server.remove(port)

    async def _watch_pods(self) -> None:
        decode = msgspec.json.Decoder(Pod).decode
        selector = {"labelSelector": JOB_LABEL, "fieldSelector": "spec.nodeName!="}
        listed: set[str] = set()
        async for kind, text in self._api.follow("/api/v1/pods", selector):
            if kind == "LISTING":
                listed = set()
            elif kind == "LISTED":
                for _, kubelet, _ in self._nodes.values():
                    for uid in kubelet.pods() - listed:
                        kubelet.forget(uid)
            else:
                pod = decode(text)
                listed.add(pod.metadata.uid)
                self._update_pod(pod, is_deleted=kind == "DELETED")

    def _update_pod(self, pod: Pod, *, is_deleted: bool) -> None:
        known = self._nodes.get(pod.spec.node_name)
        if is_deleted:
            self._early.pop(pod.metadata.uid, None)
            if known:
                known[1].forget(pod.metadata.uid)
        elif known:
            known[1].update(pod)
        else:
            self._early[pod.metadata.uid] = pod

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(_INTERVAL_S)
            write_report(Path(self._config.report), self._clock.report)
            if self._config.faults:
                await self._check_silence()

    async def _check_silence(self) -> None:
        for name, (_, kubelet, _) in list(self._nodes.items()):
            silent = self._site.faults.is_silent(name)
            if silent == (name in self._silent):
                continue
            if silent:
                self._silent.add(name)
                await self._disconnect(name, kubelet)
            else:
                self._silent.discard(name)
                kubelet.connected.set()
                await self._set_kept(name, kept=True)

    async def _disconnect(self, name: str, kubelet: Kubelet) -> None:
        """Silence a node: kwok keeps it no longer, and it is not Ready."""
        kubelet.connected.clear()
        await self._set_kept(name, kept=False)
        condition = {
            "type": "Ready",
            "status": "Unknown",
            "reason": "NodeStatusUnknown",
            "message": "Kubelet stopped posting node status.",
        }
        await self._patch(f"/api/v1/nodes/{name}/status", {"status": {"conditions": [condition]}})

    async def _set_kept(self, name: str, *, kept: bool) -> None:
        key, value = VIRTUAL_NODE
        change = {"metadata": {"annotations": {key: value if kept else None}}}
        await self._patch(f"/api/v1/nodes/{name}", change)

    async def _patch(self, path: str, change: Object) -> None:
        try:
            await self._api.send("PATCH", path, change, STRATEGIC)
        except ClusterError as error:
            self._clock.report.lose(str(error))


class StatsServer:
    """Serves stats/summary and a log for all kubelets: a port a node on loopback, TLS.

    A kubelet answers far more. As it does, this accepts only clients with a certificate of the
    cluster's authority, such as the API server's.
    """

    def __init__(self, authority: str, certificate: str, key: str) -> None:
        self._kubelets: dict[int, Kubelet] = {}
        self._sites: dict[int, web.TCPSite] = {}
        app = web.Application()
        app.router.add_get("/stats/summary", self._stats)
        app.router.add_get("/logs/pull-study/parallel-unpacks", self._unpacks)
        self._runner = web.AppRunner(app, access_log=None)
        self._tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=authority)
        self._tls.verify_mode = ssl.CERT_REQUIRED
        self._tls.load_cert_chain(certificate, key)

    async def start(self) -> None:
        """Get ready; `listen` opens the ports."""
        await self._runner.setup()

    async def listen(self, kubelet: Kubelet) -> int:
        """Open a port for a kubelet, and return it."""
        site = web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=self._tls)
        await site.start()
        port = int(self._runner.addresses[-1][1])
        self._kubelets[port] = kubelet
        self._sites[port] = site
        return port

    async def remove(self, port: int) -> None:
        self._kubelets.pop(port, None)
        if site := self._sites.pop(port, None):
            await site.stop()

    async def close(self) -> None:
        await self._runner.cleanup()

    async def _stats(self, request: web.Request) -> web.Response:
        return web.json_response(summary(self._asked(request)))

    async def _unpacks(self, request: web.Request) -> web.Response:
        """Return what a node's init script leaves (infra/components/parallel_unpacks.sh)."""
        unpacks = self._asked(request).unpacks
        return web.Response(text=f"{unpacks}\n") if unpacks > 1 else web.Response(status=404)

    def _asked(self, request: web.Request) -> Kubelet:
        transport = request.transport
        port = transport.get_extra_info("sockname")[1] if transport else 0
        kubelet = self._kubelets.get(port)
        if kubelet is None or not kubelet.connected.is_set():
            raise web.HTTPServiceUnavailable(text="this node does not answer")
        return kubelet


def summary(kubelet: Kubelet) -> dict[str, Any]:
    """Return a kubelet's stats/summary (k8s.io/kubelet/pkg/apis/stats/v1alpha1), in part.

    Bytes received are the layers that were downloaded, disk is what images take.
    """
    stamp = timestamp(kubelet.clock.at(kubelet.clock.now()))
    images = kubelet.images
    disk = {"time": stamp, "availableBytes": images.available, "capacityBytes": images.capacity}
    interface = {
        "name": "eth0",
        "rxBytes": kubelet.received,
        "rxErrors": 0,
        "txBytes": int(kubelet.received * _SENT_SHARE),
        "txErrors": 0,
    }
    return {
        "node": {
            "nodeName": kubelet.name,
            "network": {"time": stamp, **interface, "interfaces": [interface]},
            "fs": {**disk, "usedBytes": images.capacity - images.available},
            "runtime": {"imageFs": {**disk, "usedBytes": images.image_bytes}},
        },
        "pods": [],
    }


def parse_quantity(text: str) -> int:
    """Return the bytes of a Kubernetes quantity such as 98831908Ki."""
    for power, unit in enumerate(("Ki", "Mi", "Gi", "Ti"), start=1):
        if text.endswith(unit):
            return int(float(text.removesuffix(unit)) * 1024**power)
    return int(float(text))


async def run(config: KubeletsConfig) -> None:
    """Act for the nodes of a cluster until killed; raise if any part fails."""
    async with asyncio.TaskGroup() as tasks:
        kubelets = Kubelets(config, tasks)
        try:
            await kubelets.start()
            await asyncio.Event().wait()
        finally:
            await kubelets.close()


if __name__ == "__main__":
    asyncio.run(run(KubeletsConfig(**json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))))
