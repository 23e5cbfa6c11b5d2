"""A cluster that already exists (--kubeconfig): no provisioning, no teardown.

The measured nodes carry RUN_LABEL while the run lasts. They may hold images, so every image is
removed and its absence proved before its turn. There is no exporter and no Cloud Logging: the
runner's watch is the only source of events, and the ledger says so. The user's kubeconfig stays
where it is; a run records its path and context, and no credential. What a run makes on the cluster,
it removes: docs/existing-clusters.md lists it, and the permissions for it.
"""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from experiment.cluster_lease import MADE_LABEL, ClusterLease, Holder, ensure_namespace
from experiment.errors import Failure, MeasureError, PlanError, RunError
from experiment.kube import Kube, Obj, Right, bytes_of, is_ready
from experiment.kubeconfig import context_name
from experiment.outage import PATIENCE_S
from experiment.terminal.progress import Say, silent
from experiment.waiting import Clock, wait_until
from schema.names import (
    JOB_NAMESPACE,
    MEASURED_TOLERATIONS,
    MINICLUSTERS,
    PROJECT_LABEL,
    RUN_LABEL,
)
from schema.run_records import ExistingCluster as Choice
from schema.run_records import ZoneAttempt
from schema.stack_outputs import StackOutputs

_FIRST_PATIENCE_S = 10.0
"""For the first request: a wrong address is no outage."""
_GONE_S = 60
MACHINE_LABEL = "node.kubernetes.io/instance-type"
_BY_HAND = (
    f"kubectl -n {JOB_NAMESPACE} delete jobs -l {RUN_LABEL}; "
    f"kubectl label nodes -l {RUN_LABEL} {RUN_LABEL}-"
)
"""Removes what a run left."""

RIGHTS = (
    Right("list", "", "nodes"),
    Right("watch", "", "nodes"),
    Right("patch", "", "nodes"),
    Right("get", "", "nodes", "proxy"),
    Right("list", "", "events"),
    Right("watch", "", "events"),
    Right("list", "", "pods", namespace="kube-system"),
    Right("get", "", "namespaces", name="kube-system"),
    Right("get", "", "namespaces", name=JOB_NAMESPACE),
    Right("list", "", "pods", namespace=JOB_NAMESPACE),
    Right("watch", "", "pods", namespace=JOB_NAMESPACE),
    Right("create", "", "bindings", namespace=JOB_NAMESPACE),
    *(
        Right(verb, "batch", "jobs", namespace=JOB_NAMESPACE)
        for verb in ("create", "list", "watch", "delete")
    ),
    *(
        Right(verb, "coordination.k8s.io", "leases", namespace=JOB_NAMESPACE)
        for verb in ("get", "create", "update", "delete")
    ),
)
"""What a run does on an existing cluster, besides what every authenticated user may."""

MINICLUSTER_RIGHTS = tuple(
    Right(verb, MINICLUSTERS[0], MINICLUSTERS[2], namespace=JOB_NAMESPACE)
    for verb in ("create", "list", "delete")
)
"""What it needs too, where a study runs MiniClusters."""

NAMESPACE_RIGHTS = (
    Right("create", "", "namespaces"),
    Right("delete", "", "namespaces", name=JOB_NAMESPACE),
)
"""What it needs too, where it makes the namespace itself."""


class ExistingCluster:
    """A cluster that already exists (a Cluster of experiment.provision.cluster).

    Args:
        choice: kubeconfig and context, and which nodes to measure.

    Raises:
        PlanError: the kubeconfig has no such context, or no node can be measured.
        MeasureError: the API server does not answer.
    """

    usd_per_hour = 0.0
    created_at: datetime | None = None  # it costs the run nothing
    zone_attempts: tuple[ZoneAttempt, ...] = ()
    usd_per_byte = 0.0
    price_note = "unknown: the cluster is not of this program"

    def __init__(self, choice: Choice) -> None:
        self.say: Say = silent
        self.name = context_name(choice)
        self.kube = Kube(
            choice.model_copy(update={"context": self.name}),
            lambda line: self.say(line),  # noqa: PLW0108 (it is set later)
            patience_s=_FIRST_PATIENCE_S,
        )
        found = self._nodes(choice.selector)
        self.kube.patience_s = PATIENCE_S
        self.left_out = {name_of(node): why for node in found if (why := why_left_out(node))}
        """Nodes of the selection that cannot be measured, and why."""
        self.nodes = [node for node in found if name_of(node) not in self.left_out]
        if choice.nodes:
            self._take_recorded(choice.nodes)
        if not self.nodes:
            selected = f" with the labels {choice.selector}" if choice.selector else ""
            others = f": {_listed(self.left_out)}" if self.left_out else ""
            raise PlanError(
                f"The cluster {self.name} has no node{selected} that is Ready and accepts "
                f"pods{others}.",
                "kubectl get nodes --show-labels",
            )
        self.choice = choice.model_copy(
            update={"context": self.name, "nodes": tuple(map(name_of, self.nodes))}
        )
        """With the context's name, since the file's current one may change before a resume."""
        self.node_count = len(self.nodes)
        self.machine_type = _machine_types(self.nodes)
        storage = (node["status"]["capacity"]["ephemeral-storage"] for node in self.nodes)
        self.disk_gb = min(map(bytes_of, storage)) // 10**9
        """Smallest disk of a node for pods and images."""
        self.exists = False
        self.fresh = False
        self.taking_down = f"removing the run's Jobs and labels from the cluster {self.name}"
        self.lease: ClusterLease | None = None
        self.clock: Clock = time

    @property
    def description(self) -> str:
        """Nodes and cluster."""
        return f"{self.node_count} x {self.machine_type} of the cluster {self.name}"

    @property
    def warnings(self) -> tuple[str, ...]:
        """A sentence about the nodes that are left out, if there are any."""
        if not self.left_out:
            return ()
        return (f"Nodes that are left out: {_listed(self.left_out)}.",)

    def hold_for(self, folder: Path) -> None:
        """Set the run that measures here, by its folder."""
        self.lease = ClusterLease(self.kube, Holder.of(folder), lambda line: self.say(line))  # noqa: PLW0108 (see above)

    def missing_rights(self, *, miniclusters: bool = False) -> list[Right]:
        """Return what the kubeconfig's user may not do, of what a run does."""
        needed = (*RIGHTS, *MINICLUSTER_RIGHTS) if miniclusters else RIGHTS
        missing = [right for right in needed if not self.kube.may(right)]
        to_find = Right("get", "", "namespaces", name=JOB_NAMESPACE)
        if to_find in missing or not self._made(self.kube.namespace(JOB_NAMESPACE), absent=True):
            return missing
        return missing + [right for right in NAMESPACE_RIGHTS if not self.kube.may(right)]

    def require_free(self) -> None:
        """Raise OwnershipError if another run measures on the cluster."""
        lease = self.lease or ClusterLease(self.kube, Holder.of(Path()))
        lease.require_free()

    def recover(self, *, resumed: bool) -> None:
        """Take the cluster's Lease, and remove the labels that a killed run left on nodes."""
        del resumed
        ensure_namespace(self.kube)
        self._held().acquire()
        self.exists = True
        self._unlabel()

    def provision(self) -> StackOutputs:
        """Label the nodes; the cluster itself exists."""
        self._held().acquire()
        run_id = self._held().holder.run_id
        for node in self.nodes:
            self.kube.label_node(name_of(node), {RUN_LABEL: run_id})
        return StackOutputs(
            project="",
            location="",
            cluster_name=self.name,
            node_count=self.node_count,
            machine_type=self.machine_type,
            kubeconfig="",
            exporter_namespace="",
            exporter_deployment="",
            log_filter="",
            archive_bucket="",
        )

    def teardown(self) -> None:
        """Remove the run's Jobs, labels and Lease, and the namespace that a run made."""
        self.exists = False  # what may be left of it costs nothing
        self._held().acquire()  # else all that is left is another run's
        problems = []
        for remove in (self._delete_jobs, self._unlabel, self._delete_namespace):
            try:
                remove()
            except RunError as error:
                problems.append(error)
        self.kube.close()
        if problems:
            first = problems[0]
            raise MeasureError(
                f"Not all of the run was removed from the cluster {self.name}: {first.problem}",
                _BY_HAND,
                failure=first.failure,
            ) from first

    def kept(self) -> str:
        """Give the cluster to other runs; return what --keep-cluster leaves on it."""
        with suppress(RunError):  # else its Lease expires
            self._held().release()
        return (
            f"The run's Jobs and labels are left on the cluster {self.name}; to remove them: "
            f"{_BY_HAND}"
        )

    def standing(self) -> str:
        """Return nothing: the cluster is its owner's."""
        return ""

    def _held(self) -> ClusterLease:
        assert self.lease is not None  # noqa: S101 (hold_for set it: the run has a folder)
        return self.lease

    def _nodes(self, selector: str) -> list[Obj]:
        try:
            return self.kube.nodes(selector)
        except MeasureError as error:
            if error.failure is Failure.PERMISSION:
                error.add_note(
                    f"Missing permissions: {'; '.join(map(str, self.missing_rights()))}."
                )
            raise

    def _take_recorded(self, names: Sequence[str]) -> None:
        """Measure on the nodes of the run's first attempt, and on no others.

        Raises:
            PlanError: one of them is not there any more, or cannot be measured.
        """
        self.nodes = [node for node in self.nodes if name_of(node) in names]
        gone = set(names) - set(map(name_of, self.nodes))
        if gone:
            whys = {name: self.left_out.get(name, "it is not there") for name in sorted(gone)}
            raise PlanError(
                f"The run began on {len(names)} nodes of the cluster {self.name}, and {len(gone)} "
                f"of them cannot be measured now: {_listed(whys)}. Pull times of fewer nodes could "
                "not be compared.",
                "make them Ready and schedulable again (kubectl get nodes), or start a new run",
            )

    def _delete_jobs(self) -> None:
        self.kube.delete_jobs(JOB_NAMESPACE, RUN_LABEL)

    def _unlabel(self) -> None:
        nodes = self.kube.nodes(RUN_LABEL)
        for node in nodes:
            self.kube.label_node(name_of(node), {RUN_LABEL: None})
        if nodes:
            self.say(f"the label {RUN_LABEL} was removed from {len(nodes)} nodes")

    def _delete_namespace(self) -> None:
        """Delete the namespace, with the Lease, if a run made it and no one else uses it."""
        if not self._made(self.kube.namespace(JOB_NAMESPACE)):
            self._held().release()
            return
        if others := self.kube.pod_count(JOB_NAMESPACE, f"!{RUN_LABEL}"):
            self.say(f"the namespace {JOB_NAMESPACE} stays: it has {others} pods of others")
            self._held().release()
            return
        self.kube.delete_namespace(JOB_NAMESPACE)
        if not wait_until(
            lambda: self.kube.namespace(JOB_NAMESPACE) is None, _GONE_S, 0.5, self.clock
        ):
            self.say(f"the namespace {JOB_NAMESPACE} is still being deleted by the cluster")

    def _made(self, namespace: Obj | None, *, absent: bool = False) -> bool:
        """Whether a run made a namespace; `absent` if there is none."""
        if namespace is None:
            return absent
        return (namespace["metadata"].get("labels") or {}).get(MADE_LABEL) == PROJECT_LABEL


def name_of(node: Obj) -> str:
    """Return a node's name."""
    return str(node["metadata"]["name"])


def why_left_out(node: Obj) -> str:
    """Return why a node cannot be measured; empty if it can."""
    if not is_ready(node):
        return "not Ready"
    if node["spec"].get("unschedulable"):
        return "cordoned"
    taints = [
        f"{taint['key']}:{taint['effect']}"
        for taint in node["spec"].get("taints") or []
        if taint["effect"] in {"NoSchedule", "NoExecute"} and not _tolerated(taint)
    ]
    return f"tainted {', '.join(taints)}" if taints else ""


def _tolerated(taint: Mapping[str, str]) -> bool:
    return any(
        each["key"] == taint["key"] and each.get("effect", taint["effect"]) == taint["effect"]
        for each in MEASURED_TOLERATIONS
    )


def _listed(nodes: Mapping[str, str]) -> str:
    return ", ".join(f"{name} ({why})" for name, why in nodes.items())


def _machine_types(nodes: Sequence[Obj]) -> str:
    types = Counter(node["metadata"]["labels"].get(MACHINE_LABEL, "unknown") for node in nodes)
    return ",".join(sorted(types))
