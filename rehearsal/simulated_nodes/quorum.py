"""The pods of a MiniCluster end together: Flux starts its command once all of them have started.

A pod with an init container counts as one of a MiniCluster. Where one never starts, the others wait
until they are deleted. A simulated node does not read the script that names the command.
"""

import asyncio
from dataclasses import dataclass, field

import msgspec

from rehearsal.cluster.kubernetes import ClusterError, KubernetesClient
from rehearsal.simulated_nodes.objects import Pod

RUN_S = 1.0
"""Of Flux's command: an assumption, what the studies' `sleep 1` takes."""
_INDEX = "batch.kubernetes.io/job-completion-index"
_JOB, _JOB_UID = "batch.kubernetes.io/job-name", "batch.kubernetes.io/controller-uid"


class _JobSpec(msgspec.Struct):
    completions: int = 1


class _Job(msgspec.Struct):
    spec: _JobSpec


@dataclass(slots=True)
class _Started:
    size: int
    indexes: set[str] = field(default_factory=set)
    all: asyncio.Event = field(default_factory=asyncio.Event)


class Quorums:
    """Those of one cluster."""

    def __init__(self, api: KubernetesClient) -> None:
        self._api = api
        self._jobs: dict[str, asyncio.Task[_Started]] = {}

    async def join(self, pod: Pod) -> None:
        """Return once all pods of the pod's Job have come here."""
        labels = pod.metadata.labels
        uid = labels.get(_JOB_UID, "")
        if uid not in self._jobs:
            path = f"/apis/batch/v1/namespaces/{pod.metadata.namespace}/jobs/{labels.get(_JOB, '')}"
            self._jobs[uid] = asyncio.create_task(self._read(path))
        started = await asyncio.shield(self._jobs[uid])
        started.indexes.add(pod.metadata.annotations.get(_INDEX, ""))
        if len(started.indexes) >= started.size:
            started.all.set()
            self._jobs.pop(uid, None)
        await started.all.wait()

    async def _read(self, path: str) -> _Started:
        try:
            text = await self._api.request("GET", path, tries=None)
        except ClusterError:  # the Job is deleted: so are its pods, soon
            return _Started(1)
        return _Started(msgspec.json.decode(text, type=_Job).spec.completions)
