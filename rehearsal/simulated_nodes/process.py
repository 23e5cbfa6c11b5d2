"""The process that acts for the kubelets of a cluster's simulated nodes.

    python -m rehearsal.simulated_nodes.process CONFIG    (JSON of
    rehearsal.simulated_nodes.node.EmitterConfig)

One asyncio loop follows nodes and pods; rehearsal.simulated_nodes.kubelet says what each node does.
How late it is goes into a file that the rehearsal's end tells of. It acts for pods of Jobs alone:
all others on such nodes are kwok's.
"""

import asyncio
import json
import sys
from pathlib import Path

import msgspec

from rehearsal.cluster.control_plane import JOB_LABEL, VIRTUAL_NODE
from rehearsal.faults.nodes import pull_faults
from rehearsal.simulated_nodes.api import STRATEGIC, EmitterApi, Node, Pod
from rehearsal.simulated_nodes.clock import Clock, Report, report_file, write_report
from rehearsal.simulated_nodes.kubelet import Kubelet, Site
from rehearsal.simulated_nodes.node import PARALLEL_ANNOTATION, SIMULATED_LABEL, EmitterConfig
from rehearsal.simulated_nodes.pull_model import load_parameters
from rehearsal.simulated_nodes.registry import NodesRegistry
from rehearsal.simulated_nodes.stats_server import KubeletServer

_LOOK_S = 1.0
"""How often lateness is written down, and faults are asked which nodes are silent."""


class Emitter:
    """Acts for all simulated nodes of one cluster."""

    def __init__(self, config: EmitterConfig) -> None:
        self._config = config
        self._clock = Clock(config.speed)
        self._api = EmitterApi(
            config.server,
            authority=config.authority,
            certificate=config.certificate,
            key=config.key,
        )
        parameters = load_parameters()
        rate = parameters.registry_bytes_per_s
        self._site = Site(
            api=self._api,
            clock=self._clock,
            registry=NodesRegistry(config.mirror, rate, self._clock),
            parameters=parameters,
            faults=pull_faults(config.faults, Path(config.home)),
        )
        self._server = KubeletServer(config.certificate, config.key, self._clock)
        self._nodes: dict[str, tuple[str, Kubelet, int]] = {}
        self._silent: set[str] = set()
        self._early: dict[str, Pod] = {}

    async def run(self) -> None:
        """Act for ever."""
        await self._server.start()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._follow_nodes())
                group.create_task(self._follow_pods())
                group.create_task(self._look())
        finally:
            await self._server.close()
            await self._site.registry.close()
            await self._api.close()

    async def _follow_nodes(self) -> None:
        decode = msgspec.json.Decoder(Node).decode
        listed: set[str] = set()
        selector = {"labelSelector": f"{SIMULATED_LABEL}=true"}
        async for kind, text in self._api.follow("/api/v1/nodes", selector):
            if kind == "LISTING":
                listed = set()
            elif kind == "LISTED":
                for name in set(self._nodes) - listed:
                    await self._drop(name)
            elif kind == "DELETED":
                await self._drop(decode(text).metadata.name)
            else:
                node = decode(text)
                listed.add(node.metadata.name)
                await self._see(node)

    async def _see(self, node: Node) -> None:
        """A node is there: act for it, and keep in its status what kwok overwrites."""
        name, uid = node.metadata.name, node.metadata.uid
        if name in self._nodes and self._nodes[name][0] != uid:
            await self._drop(name)
        if name not in self._nodes:
            disk = quantity(node.status.capacity["ephemeral-storage"])
            pulls = int(node.metadata.annotations.get(PARALLEL_ANNOTATION, "1"))
            kubelet = Kubelet(self._site, name, disk, pulls)
            self._nodes[name] = (uid, kubelet, await self._server.listen(kubelet))
            for pod in [pod for pod in self._early.values() if pod.spec.node_name == name]:
                kubelet.take(self._early.pop(pod.metadata.uid))
        _, kubelet, port = self._nodes[name]
        if name in self._silent:
            return
        if node.status.daemon_endpoints.kubelet_endpoint.port != port:
            endpoints = {"daemonEndpoints": {"kubeletEndpoint": {"Port": port}}}
            await kubelet.patch_status(endpoints)
        pressed = any(
            each.type == "DiskPressure" and each.status == "True" for each in node.status.conditions
        )
        if pressed != kubelet.disk.has_pressure and node.status.conditions:
            await kubelet.disk.tell_pressure(self._clock.now())

    async def _drop(self, name: str) -> None:
        if name in self._nodes:
            _, kubelet, port = self._nodes.pop(name)
            kubelet.stop()
            await self._server.forget(port)

    async def _follow_pods(self) -> None:
        decode = msgspec.json.Decoder(Pod).decode
        selector = {"labelSelector": JOB_LABEL, "fieldSelector": "spec.nodeName!="}
        listed: set[str] = set()
        async for kind, text in self._api.follow("/api/v1/pods", selector):
            if kind == "LISTING":
                listed = set()
            elif kind == "LISTED":
                for _, kubelet, _ in self._nodes.values():
                    for uid in kubelet.pods() - listed:
                        kubelet.drop(uid)
            else:
                pod = decode(text)
                listed.add(pod.metadata.uid)
                self._see_pod(pod, is_gone=kind == "DELETED")

    def _see_pod(self, pod: Pod, *, is_gone: bool) -> None:
        known = self._nodes.get(pod.spec.node_name)
        if is_gone:
            self._early.pop(pod.metadata.uid, None)
            if known:
                known[1].drop(pod.metadata.uid)
        elif known:
            known[1].take(pod)
        else:
            self._early[pod.metadata.uid] = pod

    async def _look(self) -> None:
        path = report_file(Path(self._config.home), Path(self._config.folder).parent.name)
        clock = self._clock
        while True:
            await asyncio.sleep(_LOOK_S)
            write_report(path, Report(clock.speed, clock.waking, clock.telling))
            if self._config.faults:
                await self._look_for_silence()

    async def _look_for_silence(self) -> None:
        for name, (_, kubelet, _) in list(self._nodes.items()):
            silent = self._site.faults.is_silent(name)
            if silent == (name in self._silent):
                continue
            if silent:
                self._silent.add(name)
                await self._let_go(name, kubelet)
            else:
                self._silent.discard(name)
                kubelet.connected.set()
                await self._keep(name, kept=True)

    async def _let_go(self, name: str, kubelet: Kubelet) -> None:
        """The node falls silent: kwok keeps it no longer, and it is not Ready."""
        kubelet.connected.clear()
        await self._keep(name, kept=False)
        condition = {
            "type": "Ready",
            "status": "Unknown",
            "reason": "NodeStatusUnknown",
            "message": "Kubelet stopped posting node status.",
        }
        path = f"/api/v1/nodes/{name}/status"
        await self._api.send("PATCH", path, {"status": {"conditions": [condition]}}, STRATEGIC)

    async def _keep(self, name: str, *, kept: bool) -> None:
        key, value = VIRTUAL_NODE
        change = {"metadata": {"annotations": {key: value if kept else None}}}
        await self._api.send("PATCH", f"/api/v1/nodes/{name}", change, STRATEGIC)


def quantity(text: str) -> int:
    """Bytes of a Kubernetes quantity such as 98831908Ki."""
    for power, unit in enumerate(("Ki", "Mi", "Gi", "Ti"), start=1):
        if text.endswith(unit):
            return int(float(text.removesuffix(unit)) * 1024**power)
    return int(float(text))


def main(arguments: list[str]) -> None:
    """Act for the nodes of the cluster that a file tells of, until killed."""
    config = EmitterConfig(**json.loads(Path(arguments[0]).read_text(encoding="utf-8")))

    async def run() -> None:
        await Emitter(config).run()

    asyncio.run(run())


if __name__ == "__main__":
    main(sys.argv[1:])
