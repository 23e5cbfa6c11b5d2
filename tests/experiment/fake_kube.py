"""A fake of experiment.kube.Kube: a cluster, very fast, with lists and watches."""

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Any

from experiment.kube import Obj
from experiment.outage import Refused
from schema.names import JOB_NAMESPACE
from tests.experiment.conftest import NODES

PODS = f"/api/v1/namespaces/{JOB_NAMESPACE}/pods"
JOBS = f"/apis/batch/v1/namespaces/{JOB_NAMESPACE}/jobs"


def node(name: str = "node-a", uid: str = "", *digests: str, **conditions: str) -> Obj:
    known = {"Ready": "True", "DiskPressure": "False", **conditions}
    return {
        "metadata": {"name": name, "uid": uid or name},
        "status": {
            "conditions": [{"type": kind, "status": state} for kind, state in known.items()],
            "images": [{"names": [f"r/i@{digest}", "r/i:t"]} for digest in digests],
            "nodeInfo": {
                "kubeletVersion": "v1",
                "containerRuntimeVersion": "c",
                "osImage": "o",
                "kernelVersion": "k",
            },
        },
    }


class FakeClaims:
    """Namespaces, and the one Lease, as the API server keeps them."""

    def __init__(self) -> None:
        self.namespaces: dict[str, Obj] = {}
        self.held: Obj | None = None
        """The Lease."""

    def namespace(self, name: str) -> Obj | None:
        return self.namespaces.get(name)

    def create_namespace(self, name: str, labels: Mapping[str, str]) -> None:
        self.namespaces[name] = {"metadata": {"name": name, "labels": dict(labels)}}

    def delete_namespace(self, name: str) -> None:
        del self.namespaces[name]
        self.held = None

    def lease(self, _namespace: str, _name: str) -> Obj | None:
        return deepcopy(self.held)

    def create_lease(self, body: Obj) -> bool:
        if self.held:
            return False
        self.held = {**body, "metadata": {**body["metadata"], "resourceVersion": "1"}}
        return True

    def replace_lease(self, body: Obj) -> bool:
        if self.held is None:
            return False
        version = self.held["metadata"]["resourceVersion"]
        if body["metadata"]["resourceVersion"] != version:
            return False
        self.held = deepcopy(body)
        self.held["metadata"]["resourceVersion"] = str(int(version) + 1)
        return True

    def delete_lease(self, _namespace: str, _name: str) -> None:
        self.held = None


class FakeKube(FakeClaims):
    """Creates a Job's pods, binds each as requested, and ends it at once."""

    def __init__(self, nodes: Sequence[str] = NODES) -> None:
        super().__init__()
        self.repeated: Counter[str] = Counter()
        self.closed = False
        self.created: list[tuple[str, str]] = []
        """Kinds and names of Jobs and MiniClusters."""
        self.deleted: list[str] = []
        self.deleted_kinds: list[str] = []
        self.done: list[str] = []
        self.missing = 0
        """Pods that a Job never gets."""
        self.astray: dict[int, str] = {}
        """Nodes to which pods are bound instead, by index."""
        self.hanging: set[int] = set()
        """Indexes of pods that never end."""
        self.message = ""
        """Termination message of every container."""
        self.failing: dict[int, Obj] = {}
        """States of containers that never start, by index."""
        self.has_operator = True
        """Whether MiniClusters get their Jobs."""
        self.leftovers = 0
        self.left_jobs: list[str] = []
        self.away = False
        """Watches are cut, and no new ones open."""
        self.refused: dict[str, Refused] = {}
        """Raised by lists of these paths."""
        self.handlers: dict[str, Callable[[str, Obj], None]] = {}
        """Called at once with the changes of a path."""
        self._changed = threading.Condition()
        self._log: list[tuple[str, str, Obj]] = []
        self._objects: dict[str, dict[str, Obj]] = {}
        for name in nodes:
            self.emit("/api/v1/nodes", "ADDED", node(name))

    def emit(self, path: str, change: str, item: Obj) -> None:
        """Change an object, as some controller of the cluster would."""
        with self._changed:
            item = deepcopy(item)
            item["metadata"]["resourceVersion"] = str(len(self._log) + 1)
            self._log.append((path, change, item))
            items = self._objects.setdefault(path, {})
            if change == "DELETED":
                items.pop(item["metadata"]["uid"], None)
            else:
                items[item["metadata"]["uid"]] = item
            self._changed.notify_all()
        if path in self.handlers:
            self.handlers[path](change, item)

    def list(self, path: str, _query: Mapping[str, str]) -> Obj:
        if path in self.refused:
            raise self.refused[path]
        with self._changed:
            items = list(self._objects.get(path, {}).values())
            return {"items": items, "metadata": {"resourceVersion": str(len(self._log))}}

    def watch(
        self, path: str, query: Mapping[str, str], *, seconds: int, silence_s: float
    ) -> Iterator[bytes]:
        del seconds, silence_s
        at = int(query["resourceVersion"])
        while not self.closed:
            if self.away:
                raise Refused(0, "connection refused")
            with self._changed:
                self._changed.wait(0.05)
                new, at = self._log[at:], len(self._log)
            for changed, change, item in new:
                if changed == path:
                    yield json.dumps({"type": change, "object": item}).encode() + b"\n"

    def close(self) -> None:
        self.closed = True

    def nodes(self, _selector: str) -> Sequence[Obj]:
        return [*self._objects["/api/v1/nodes"].values()]

    def cluster_uid(self) -> str:
        return "cluster-uid"

    def server_version(self) -> str:
        return "v1.34.1"

    def create_event(self, body: Obj) -> None:
        self.done.append(f"event {body['reason']}")

    def delete_jobs(self, namespace: str, selector: str) -> None:
        self.done.append(f"delete Jobs {selector}")
        for name in self.left_jobs:
            self.delete_job(namespace, name)

    def has_job(self, _namespace: str, name: str) -> bool:
        return any(_job_of(pod) == name for pod in self._objects.get(PODS, {}).values())

    def serves_miniclusters(self) -> bool:
        return True

    def waiting_pods(self, namespace: str) -> Sequence[Obj]:
        items = self._objects.get(f"/api/v1/namespaces/{namespace}/pods", {}).values()
        return [item for item in items if item["status"]["phase"] not in {"Running", "Succeeded"}]

    def pod_count(self, _namespace: str, _selector: str) -> int:
        self.leftovers = max(0, self.leftovers - 1)
        return self.leftovers

    def node_stats(self, name: str) -> Obj:
        return {"node": {"nodeName": name}}

    def create_job(self, job: Obj) -> None:
        name, labels = job["metadata"]["name"], {}
        self.created.append((job["kind"], name))
        if job["kind"] == "MiniCluster":
            if not self.has_operator:
                return
            job = _operators_job(job["spec"])
            labels = {"job-index": "as the operator labels it"}
        template = job["spec"]["template"]
        for index in range(job["spec"]["completions"] - self.missing):
            metadata = {
                "name": f"{name}-{index}",
                "uid": f"{name}-{index}",
                "labels": {"batch.kubernetes.io/job-name": name, **labels},
                "annotations": {"batch.kubernetes.io/job-completion-index": str(index)},
            }
            pod = {
                "metadata": metadata,
                "spec": dict(template["spec"]),
                "status": {"phase": "Pending"},
            }
            self.emit(PODS, "ADDED", pod)

    def bind_pod(self, _namespace: str, name: str, node: str) -> None:
        pod = deepcopy(self._objects[PODS][name])
        job, _, index = name.rpartition("-")
        pod["spec"]["nodeName"] = self.astray.get(int(index), node)
        self.emit(PODS, "MODIFIED", pod)
        if int(index) in self.hanging:
            state = {"running": {"startedAt": "2026-11-24T12:00:03Z"}}
            pod["status"] = {"phase": "Running", "containerStatuses": [{"state": state}]}
            self.emit(PODS, "MODIFIED", pod)
            return
        if int(index) in self.failing:
            state = self.failing[int(index)]
            pod["status"] = {"phase": "Pending", "containerStatuses": [{"state": state}]}
            self.emit(PODS, "MODIFIED", pod)
            return
        ended = {"exitCode": 0, "finishedAt": "2026-11-24T12:00:04Z", "message": self.message}
        pod["status"] = {
            "phase": "Running",
            "containerStatuses": [{"state": {"terminated": ended}}],
        }
        self.emit(PODS, "MODIFIED", pod)
        conditions = [{"type": "Complete", "status": "True"}]
        metadata = {"name": job, "uid": job}
        self.emit(JOBS, "MODIFIED", {"metadata": metadata, "status": {"conditions": conditions}})

    def delete_job(self, _namespace: str, name: str, kind: str = "Job") -> None:
        self.deleted.append(name)
        self.deleted_kinds.append(kind)
        for pod in list(self._objects.get(PODS, {}).values()):
            if _job_of(pod) == name:
                self.emit(PODS, "DELETED", pod)


def _job_of(pod: Obj) -> str:
    return str(pod["metadata"]["labels"]["batch.kubernetes.io/job-name"])


def _operators_job(spec: Obj) -> Obj:
    """Return the Job of a MiniCluster, as far as this fake needs it."""
    containers = [{**spec["containers"][0], "name": "mini"}]
    template = {"spec": {**spec["pod"], "containers": containers}}
    return {"spec": {"completions": spec["size"], "template": template}}


def eventually(condition: Callable[[], Any]) -> None:
    """Wait for what another thread does."""
    end = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.005)
