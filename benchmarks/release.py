"""Two ways to release a staged trial: a gate with an affinity, or a binding for each pod.

Both on the same cluster, in turns (gate, binding, binding, gate, ...), each turn a Job of one pod a
node with an image of its own. *Gate*: a patch gives pod i the affinity to node i and removes its
gate, and the scheduler binds it. *Binding*: the pods name a scheduler that does not exist, and the
client binds pod i to node i. What is seen is seen by the runner's own watch.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from copy import deepcopy
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import Figure
from benchmarks._release_cluster import REPOSITORY
from experiment.kube import Kube, Obj
from experiment.measure.job_manifest import SCHEDULER, indexed_job
from experiment.measure.pods import PodState, PodStates
from experiment.measure.reflector import ListWatch, Reflector
from schema.names import JOB_NAMESPACE, MEASURED_LABEL, MEASURED_TOLERATIONS, RUN_LABEL
from schema.run_records import ExistingCluster
from tools.programs import locate

TURNS = ("gate", "binding", "binding", "gate", "gate", "binding")
SETTINGS = (
    (4, "real", True),
    (4, "real", False),
    (256, "simulated", True),
    (256, "simulated", False),
)
"""Nodes, their kind, and whether Kubernetes' own client-side limits are kept."""

_OUT = Path("data/benchmarks/release.json")
_SIZE = 48_702_097
"""Of the original study's smallest image, a second's pull."""
_AT_ONCE = 48
_LONGEST_S = 600.0
_SETTLE_S = 3.0
_RUN = "release"
_PODS = f"/api/v1/namespaces/{JOB_NAMESPACE}/pods"
_PARTS = ("kube-apiserver", "etcd", "kube-scheduler", "kube-controller-manager")
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Turn:
    """One Job, released one way."""

    nodes: int
    kind: str
    rate_limits: bool
    way: str
    created_s: float
    """Job created to the last pod seen."""
    first_bound_s: float
    """Release to the first pod seen bound."""
    last_bound_s: float
    answered_s: float
    """Release to the last of the client's requests answered."""
    release_requests: float
    """A pod: the client's, the scheduler's bindings and its events."""
    all_requests: float
    """A pod: of everybody, from the release to the end of the last container."""
    cpu_s: float
    """Of client and control plane, from the release to the end of the last container."""
    scheduler_cpu_s: float
    load: float
    """Of the machine, over the last minute."""


class Client(Kube):
    """The runner's client, for both kinds of request."""

    def open_gate(self, pod: str, node: str) -> None:
        """Patch a pod as a release by gates does."""
        term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}
        required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
        patch: list[Obj] = [
            {"op": "add", "path": "/spec/affinity", "value": {"nodeAffinity": required}},
            {"op": "remove", "path": "/spec/schedulingGates"},
            {"op": "add", "path": "/metadata/managedFields", "value": [{}]},
        ]
        content = "application/json-patch+json"
        self._call_or_raise("PATCH", f"{_PODS}/{pod}", body=patch, content=content)


def measure() -> list[Figure]:
    """Measure every setting; keep each turn in data/benchmarks/release.json."""
    turns: list[Turn] = []
    _OUT.parent.mkdir(parents=True, exist_ok=True)
    for nodes, kind, rate_limits in SETTINGS:
        with tempfile.TemporaryDirectory() as place:
            for turn in _turns(Path(place), nodes, kind, rate_limits=rate_limits):
                turns.append(turn)
                _OUT.write_text(json.dumps(list(map(asdict, turns)), indent=1), encoding="utf-8")
    return _figures(turns)


def _figures(turns: list[Turn]) -> list[Figure]:
    groups: dict[tuple[int, str, bool, str], list[Turn]] = defaultdict(list)
    for turn in turns:
        groups[turn.nodes, turn.kind, turn.rate_limits, turn.way].append(turn)
    figures = []
    for (nodes, kind, rate_limits, way), found in groups.items():
        what = f"{nodes} {kind} nodes, {'default' if rate_limits else 'no'} limits, {way}"

        def median(of: Callable[[Turn], float], found: list[Turn] = found) -> float:
            return statistics.median(map(of, found))

        figures += [
            Figure(f"{what}: pods created", median(lambda t: t.created_s), "s"),
            Figure(f"{what}: last pod bound", median(lambda t: t.last_bound_s), "s"),
            Figure(f"{what}: the same, slowest", max(t.last_bound_s for t in found), "s"),
            Figure(f"{what}: requests for release", median(lambda t: t.release_requests), "a pod"),
            Figure(f"{what}: requests of everybody", median(lambda t: t.all_requests), "a pod"),
            Figure(f"{what}: CPU", median(lambda t: t.cpu_s), "s"),
        ]
    return figures


def _turns(place: Path, nodes: int, kind: str, *, rate_limits: bool) -> Iterator[Turn]:
    tags = [f"9-layers-size-{_SIZE}-bytes-r{number}" for number in range(len(TURNS))]
    with (
        _cluster(place, nodes, kind, rate_limits, tags) as kubeconfig,
        closing(Client(ExistingCluster(kubeconfig=str(kubeconfig), context="", selector=""))) as c,
        _watched(c) as pods,
    ):
        bench = _Bench(kubeconfig, next(kubeconfig.parent.glob("kwok/clusters/*/pids")), nodes)
        names = [str(node["metadata"]["name"]) for node in c.nodes(f"{MEASURED_LABEL}=true")]
        c.create_namespace(JOB_NAMESPACE, {})
        for number, (way, tag) in enumerate(zip(TURNS, tags, strict=True)):
            job = _job(f"{_RUN}-{number}", nodes, way, f"ghcr.io/{REPOSITORY}:{tag}")
            measured = bench.turn(c, pods, names, job, way)
            yield Turn(nodes=nodes, kind=kind, rate_limits=rate_limits, way=way, **measured)


@contextmanager
def _cluster(
    place: Path, nodes: int, kind: str, rate_limits: bool, tags: list[str]
) -> Iterator[Path]:
    """Give the administrator's kubeconfig of a cluster in another process."""
    command = [sys.executable, "-m", "benchmarks._release_cluster", str(place / "home")]
    command += [str(nodes), kind, "limits" if rate_limits else "no-limits", *tags]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin  # noqa: S101 (pipes)
    assert process.stdout  # noqa: S101
    try:
        if not (line := process.stdout.readline().strip()):
            raise RuntimeError(f"the cluster did not start: code {process.wait()}")
        yield Path(line)
    finally:
        process.stdin.close()
        process.wait(_LONGEST_S)


@contextmanager
def _watched(client: Kube) -> Iterator[PodStates]:
    pods = PodStates()
    what = ListWatch("pods", _PODS, {"labelSelector": f"{RUN_LABEL}={_RUN}"})
    reflector = Reflector(client, what, pods.handle, lambda *_: None)
    try:
        yield pods
    finally:
        reflector.close()


def _job(name: str, nodes: int, way: str, image: str) -> Obj:
    labels = {RUN_LABEL: _RUN}
    container = {
        "name": "pull",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["sleep", "1"],
    }
    spec: Obj = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 0,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "tolerations": [dict(each) for each in MEASURED_TOLERATIONS],
        "containers": [container],
    }
    if way == "gate":
        spec["schedulingGates"] = [{"name": "pull-study/staged"}]
    else:
        spec["schedulerName"] = SCHEDULER
    template = {"metadata": {"labels": deepcopy(labels)}, "spec": spec}
    return indexed_job(name, labels, nodes, template)


@dataclass(frozen=True, slots=True)
class _Bench:
    kubeconfig: Path
    """Of the cluster's administrator."""
    pids: Path
    """Folder with the pid files of the control plane."""
    nodes: int

    def turn(
        self, client: Client, pods: PodStates, names: list[str], job: Obj, way: str
    ) -> dict[str, Any]:
        """Stage, release, wait for the end, delete; what it took."""
        name = job["metadata"]["name"]
        bind = partial(client.bind_pod, JOB_NAMESPACE)
        release = client.open_gate if way == "gate" else bind

        def wait(done: Callable[[PodState], bool]) -> list[PodState]:
            found = pods.wait(
                name, lambda all_: len(all_) == self.nodes and all(map(done, all_)), _LONGEST_S
            )
            if found is None:
                raise RuntimeError(f"{name}: pods are not there, bound, over or gone in time")
            return found

        started = time.time()
        client.create_job(job)
        created = max(_at(pod.created_seen) for pod in wait(lambda pod: bool(pod.created_seen)))
        time.sleep(_SETTLE_S)
        before, cpu = self._served(), self._cpu_s()
        tried = client.repeated.total()
        released = time.time()
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            list(pool.map(lambda pod: release(pod.name, names[pod.index]), pods.pods(name)))
        answered, repeated = time.time(), client.repeated.total() - tried
        bound = [_at(pod.bound_seen) for pod in wait(lambda pod: bool(pod.bound_seen))]
        ended = wait(lambda pod: pod.over)
        used = {part: seconds - cpu[part] for part, seconds in self._cpu_s().items()}
        served = {key: count - before.get(key, 0.0) for key, count in self._served().items()}
        wrong = [pod for pod in ended if pod.failure or pod.node != names[pod.index]]
        if wrong:
            raise RuntimeError(f"{wrong[0].name} on {wrong[0].node}: {wrong[0].failure}")
        client.delete_job(JOB_NAMESPACE, name)
        wait(lambda pod: bool(pod.deleted_seen))
        time.sleep(_SETTLE_S)
        scheduler = served.get(("POST", "pods", "binding"), 0.0)  # the client's are not of pods/
        events = self.nodes if way == "gate" else 0  # the scheduler's `Scheduled`, one for each pod
        return {
            "created_s": created - started,
            "first_bound_s": min(bound) - released,
            "last_bound_s": max(bound) - released,
            "answered_s": answered - released,
            "release_requests": (self.nodes + repeated + scheduler + events) / self.nodes,
            "all_requests": sum(served.values()) / self.nodes,
            "cpu_s": sum(used.values()),
            "scheduler_cpu_s": used["kube-scheduler"],
            "load": os.getloadavg()[0],
        }

    def _served(self) -> dict[tuple[str, str, str], float]:
        """Requests that the API server has served so far, by verb, resource and subresource."""
        command: list[str | Path] = [locate("kubectl").path, "--kubeconfig", self.kubeconfig]
        text = subprocess.run(
            [*command, "get", "--raw", "/metrics"], check=True, capture_output=True, text=True
        ).stdout
        found: dict[tuple[str, str, str], float] = defaultdict(float)
        for line in text.splitlines():
            if not line.startswith("apiserver_request_total{"):
                continue
            inside, _, value = line.removeprefix("apiserver_request_total{").rpartition("} ")
            labels = dict(part.split("=", 1) for part in inside.split('",'))
            keys = (labels.get(key, "").strip('"') for key in ("verb", "resource", "subresource"))
            verb, resource, part = keys
            found[verb, resource, part] += float(value)
        return dict(found)

    def _cpu_s(self) -> dict[str, float]:
        pids = {part: int((self.pids / f"{part}.pid").read_text("ascii")) for part in _PARTS}
        pids["client"] = os.getpid()
        return {part: _cpu_of(pid) for part, pid in pids.items()}


def _at(seen: Any) -> float:
    return float(seen.timestamp())


def _cpu_of(pid: int) -> float:
    fields = Path("/proc", str(pid), "stat").read_text("ascii").rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS
