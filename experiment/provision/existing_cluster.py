"""A cluster that already exists (--kubeconfig): no provisioning, no teardown.

The measured nodes carry the label of measured nodes while the run lasts. They may hold images, so
every image is removed and its absence proved before its turn. There is no exporter and no Cloud
Logging: the runner's watch is the only source of events, and the ledger says so. The user's
kubeconfig stays where it is; a run records its path and context, and no credential.
"""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime

from experiment.errors import PlanError
from experiment.kube import Kube, Obj, bytes_of, is_ready
from experiment.kubeconfig import context_name
from experiment.outage import PATIENCE_S
from experiment.terminal.progress import Say, silent
from schema.names import JOB_NAMESPACE, MEASURED_LABEL
from schema.run_records import ExistingCluster as Choice
from schema.run_records import ZoneAttempt
from schema.stack_outputs import StackOutputs

BORROWED_LABEL = "pull-study/borrowed"
"""On nodes that the runner gave MEASURED_LABEL to, so that it removes it from these alone."""
_FIRST_PATIENCE_S = 10.0
"""For the first request: a wrong address is no outage."""
MACHINE_LABEL = "node.kubernetes.io/instance-type"


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
    price_note = ""

    def __init__(self, choice: Choice) -> None:
        self.say: Say = silent
        self.name = context_name(choice)
        self.choice = choice.model_copy(update={"context": self.name})
        """With the context's name, since the file's current one may change before a resume."""
        self.kube = Kube(
            self.choice,
            lambda line: self.say(line),  # noqa: PLW0108 (it is set later)
            patience_s=_FIRST_PATIENCE_S,
        )
        self.nodes = measurable(self.kube.nodes(choice.selector))
        self.kube.patience_s = PATIENCE_S
        if not self.nodes:
            selected = f" with the labels {choice.selector}" if choice.selector else ""
            raise PlanError(
                f"The cluster {self.name} has no node{selected} that is Ready and accepts pods.",
                "kubectl get nodes --show-labels",
            )
        self.node_count = len(self.nodes)
        self.machine_type = _machine_types(self.nodes)
        storage = (node["status"]["capacity"]["ephemeral-storage"] for node in self.nodes)
        self.disk_gb = min(map(bytes_of, storage)) // 10**9
        """Smallest disk of a node for pods and images."""
        self.exists = False
        self.fresh = False

    @property
    def description(self) -> str:
        """Nodes and cluster."""
        return f"{self.node_count} x {self.machine_type} of the cluster {self.name}"

    def recover(self, *, resumed: bool) -> None:
        """Remove the labels that a killed run left on nodes."""
        del resumed
        self._unlabel()

    def provision(self) -> StackOutputs:
        """Label the nodes; the cluster itself exists."""
        self.exists = True
        # Read again: recover may have removed labels.
        labelled = {node["metadata"]["name"] for node in self.kube.nodes(MEASURED_LABEL)}
        for name in {node["metadata"]["name"] for node in self.nodes} - labelled:
            self.kube.label_node(name, {MEASURED_LABEL: "true", BORROWED_LABEL: "true"})
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
        """Delete the run's Jobs and labels; the cluster stays."""
        self.kube.delete_jobs(JOB_NAMESPACE)
        self._unlabel()
        self.kube.close()
        self.exists = False

    def kept(self) -> str:
        """Return what --keep-cluster leaves on the cluster, and how to remove it."""
        return (
            f"The run's Jobs and the label {MEASURED_LABEL} are left on the cluster {self.name}; "
            f"to remove them: kubectl delete namespace {JOB_NAMESPACE}; kubectl label nodes --all "
            f"{MEASURED_LABEL}- {BORROWED_LABEL}-"
        )

    def standing(self) -> str:
        """Return nothing: the cluster is its owner's."""
        return ""

    def _unlabel(self) -> None:
        nodes = self.kube.nodes(f"{BORROWED_LABEL}=true")
        for node in nodes:
            name = str(node["metadata"]["name"])
            self.kube.label_node(name, {MEASURED_LABEL: None, BORROWED_LABEL: None})
        if nodes:
            self.say(f"the label {MEASURED_LABEL} was removed from {len(nodes)} nodes")


def measurable(nodes: Sequence[Obj]) -> list[Obj]:
    """Return the nodes that are Ready, not cordoned, and without a taint that blocks trial pods."""
    return [
        node
        for node in nodes
        if is_ready(node)
        and not node["spec"].get("unschedulable")
        and not any(
            taint["effect"] in {"NoSchedule", "NoExecute"} and taint["key"] != MEASURED_LABEL
            for taint in node["spec"].get("taints") or []
        )
    ]


def _machine_types(nodes: Sequence[Obj]) -> str:
    types = Counter(node["metadata"]["labels"].get(MACHINE_LABEL, "unknown") for node in nodes)
    return ",".join(sorted(types))
