"""Measuring on a cluster that is there already: no provisioning, no teardown, and what that leaves.

The nodes chosen carry the label of measured nodes for as long as the run lasts. Images may lie on
them, so every image is removed and its absence proved before its turn. Nothing is known of an
exporter or of Cloud Logging there: the runner's watch is the only source of events, and the ledger
says so. What the cluster costs is its owner's to know.
"""

import base64
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from experiment.errors import Failure, PlanError, PreflightError
from experiment.kube import Kube, Obj
from experiment.preflight.findings import Finding, listed, ok, stop, warning
from schema.names import JOB_NAMESPACE, MEASURED_LABEL
from schema.run_records import ExistingCluster, PlannedTrial
from schema.stack_outputs import StackOutputs

BORROWED_LABEL = "pull-study/borrowed"
"""On nodes that the runner gave MEASURED_LABEL to, so that it takes it away from these alone."""

_MACHINE_LABEL = "node.kubernetes.io/instance-type"
_NEEDED = (
    ("create", "", "namespaces", ""),
    ("patch", "", "nodes", ""),
    ("get", "", "nodes", "proxy"),
    ("watch", "", "events", ""),
    ("patch", "", "pods", ""),
    ("create", "batch", "jobs", ""),
    ("watch", "batch", "jobs", ""),
    ("delete", "batch", "jobs", ""),
)
_UNITS = {"": 1, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "k": 1e3, "M": 1e6, "G": 1e9}

Say = Callable[[str], None]


class BorrowedCluster:
    """A cluster that is there already (a Cluster of experiment.provision.stack_cluster).

    Args:
        choice: how to reach it, and which nodes to measure.

    Raises:
        PlanError: the kubeconfig has no such context, or no node can be measured.
        MeasureError: the API server does not answer.
    """

    def __init__(self, choice: ExistingCluster) -> None:
        self.say: Say = lambda _line: None
        """Told what happens, a line each."""
        # Credentials that the file holds go into files of their own: run.json keeps the rest.
        self._secrets = tempfile.TemporaryDirectory(prefix="pull-study-")
        self.name, self._config = read_context(
            Path(choice.kubeconfig), choice.context, Path(self._secrets.name)
        )
        self._kube = Kube(yaml.safe_dump(self._config))
        self._nodes = measurable(self._kube.nodes(choice.selector))
        if not self._nodes:
            raise PlanError(
                f"No node of the cluster {self.name} is Ready and takes pods"
                + (f" and has the labels {choice.selector}" if choice.selector else "")
                + ", so there is nothing to measure on.",
                "kubectl get nodes --show-labels",
            )
        self.node_count = len(self._nodes)
        self.machine_type = _machine_type(self._nodes)
        self.exists = False
        self.fresh = False

    def recover(self, *, resumed: bool) -> None:
        """Take away the labels that a killed run left on nodes."""
        del resumed
        self._return(self._kube.nodes(f"{BORROWED_LABEL}=true"))

    def provision(self) -> StackOutputs:
        """Label the nodes; the cluster itself is there."""
        self.exists = True
        for node in self._nodes:
            if MEASURED_LABEL not in node["metadata"].get("labels", {}):
                labels = {MEASURED_LABEL: "true", BORROWED_LABEL: "true"}
                self._kube.label_node(node["metadata"]["name"], labels)
        return StackOutputs(
            project="",
            location="",
            cluster_name=self.name,
            node_count=self.node_count,
            machine_type=self.machine_type,
            kubeconfig=yaml.safe_dump(self._config),
            measured_pool="",
            measured_taint="",
            exporter_namespace="",
            exporter_deployment="",
            exporter_container="",
            log_filter="",
            archive_bucket="",
        )

    def teardown(self) -> None:
        """Leave the cluster as it was: the run's Jobs and labels go, the cluster stays."""
        self._kube.delete_jobs(JOB_NAMESPACE)
        self._return(self._kube.nodes(f"{BORROWED_LABEL}=true"))
        self._kube.close()
        self._secrets.cleanup()
        self.exists = False

    def kept(self) -> str:
        """What is left on a cluster when --keep-cluster asks for it."""
        return (
            f"The run's Jobs and the label {MEASURED_LABEL} are left on the cluster {self.name}; "
            f"to remove them: kubectl delete namespace {JOB_NAMESPACE}; kubectl label nodes --all "
            f"{MEASURED_LABEL}- {BORROWED_LABEL}-"
        )

    def findings(self, trials: Sequence[PlannedTrial]) -> Iterator[Finding]:
        """What can be checked of the cluster before anything is done to it."""
        yield ok(
            "nodes",
            f"{self.node_count} nodes of the cluster {self.name} are Ready and take pods: "
            f"{self.machine_type}",
        )
        if "," in self.machine_type:
            yield warning(
                "nodes",
                "The nodes are of several machine types, so their pull times do not compare.",
                f"--node-selector {_MACHINE_LABEL}=TYPE",
            )
        missing = [need for need in _NEEDED if not self._kube.may(*need)]
        if missing:
            names = [f"{verb} {'/'.join(filter(None, kind))}" for verb, _, *kind in missing]
            yield stop(
                "permissions",
                f"The kubeconfig's user may not {listed(names)} on the cluster {self.name}.",
                "ask for these rights; kubectl auth can-i --list shows what you may do",
                Failure.PERMISSION,
            )
        else:
            yield ok("permissions", f"the kubeconfig's user may do all {len(_NEEDED)} things")
        yield warning(
            "events",
            "Events come from the runner's watch alone: an event that it misses is lost, and the "
            "ledger reconciles it with nothing.",
            "a stack of this program has an exporter and Cloud Logging as well",
        )
        present = self._present(trials)
        yield ok(
            "cold",
            f"{present} of the study's images are on a node by its own word; every image is "
            "removed before its turn, by a privileged pod, and its absence proved",
        )

    @property
    def disk_gb(self) -> int:
        """Smallest disk of a node for pods and images, GB."""
        sizes = [_quantity(node["status"]["capacity"]["ephemeral-storage"]) for node in self._nodes]
        return int(min(sizes) / 1e9)

    def _present(self, trials: Sequence[PlannedTrial]) -> int:
        named = {
            name
            for node in self._nodes
            for image in node["status"].get("images") or []
            for name in image.get("names") or []
        }
        digests = {name.rpartition("@")[2] for name in named if "@" in name}
        return len({trial.image.digest for trial in trials} & digests)

    def _return(self, nodes: Sequence[Obj]) -> None:
        for node in nodes:
            name = str(node["metadata"]["name"])
            self._kube.label_node(name, {MEASURED_LABEL: None, BORROWED_LABEL: None})
        if nodes:
            self.say(f"the label {MEASURED_LABEL} was taken from {len(nodes)} nodes")


def measurable(nodes: Sequence[Obj]) -> list[Obj]:
    """Those that are Ready, not cordoned, and have no taint that the trials' pods do not bear."""
    return [
        node
        for node in nodes
        if not node["spec"].get("unschedulable")
        and any(
            condition["type"] == "Ready" and condition["status"] == "True"
            for condition in node["status"].get("conditions", [])
        )
        and not any(
            taint["effect"] in {"NoSchedule", "NoExecute"} and taint["key"] != MEASURED_LABEL
            for taint in node["spec"].get("taints") or []
        )
    ]


def read_context(path: Path, context: str, secrets: Path) -> tuple[str, dict[str, Any]]:
    """Name and kubeconfig of one context alone, without credentials in it.

    Args:
        path: of the kubeconfig.
        context: which one; empty for the current one.
        secrets: folder that gets the credentials, readable by the user alone.

    Raises:
        PlanError: the file is no kubeconfig, or has no such context.
    """
    try:
        config = yaml.safe_load(path.read_text("utf-8"))
        contexts = {each["name"]: each["context"] for each in config["contexts"]}
        wanted = context or config.get("current-context", "")
        chosen = contexts[wanted]
        cluster = _named(config["clusters"], chosen["cluster"])["cluster"]
        user = _named(config["users"], chosen["user"])["user"]
    except KeyError as error:
        known = ", ".join(_context_names(path)) or "none"
        sought = f"the context {context!r}" if context else "its current context"
        raise PlanError(
            f"The kubeconfig {path} does not say how to reach {sought}: it has no {error}.",
            f"--context, one of: {known}",
        ) from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError, TypeError) as error:
        raise PlanError(
            f"The file {path} is no kubeconfig: {error}.", f"kubectl --kubeconfig {path} get nodes"
        ) from None
    minified = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "cluster",
        "contexts": [{"name": "cluster", "context": {"cluster": "cluster", "user": "user"}}],
        "clusters": [{"name": "cluster", "cluster": _absolute(cluster, path.parent)}],
        "users": [{"name": "user", "user": _without_secrets(user, path.parent, secrets)}],
    }
    return wanted, minified


def _named(items: Sequence[Mapping[str, Any]], name: str) -> Mapping[str, Any]:
    for item in items:
        if item["name"] == name:
            return item
    raise KeyError(name)


def _context_names(path: Path) -> list[str]:
    config = yaml.safe_load(path.read_text("utf-8"))
    return [str(each.get("name")) for each in config.get("contexts") or []]


def _absolute(part: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    files = {"certificate-authority", "client-certificate", "client-key", "tokenFile"}
    return {
        key: str((folder / value).resolve()) if key in files and value else value
        for key, value in part.items()
    }


def _without_secrets(user: Mapping[str, Any], folder: Path, secrets: Path) -> dict[str, Any]:
    if "password" in user or "auth-provider" in user:
        raise PreflightError(
            "The kubeconfig's user logs in by a password or an auth-provider, which Kubernetes has "
            "not taken since 1.26.",
            "a kubeconfig with a certificate, a token or an exec plugin",
            failure=Failure.PERMISSION,
        )
    kept = _absolute(user, folder)
    for key, file in (("token", "tokenFile"), ("client-key-data", "client-key")):
        if key in kept:
            text = str(kept.pop(key))
            data = base64.b64decode(text) if key.endswith("-data") else text.encode()
            place = secrets / file
            place.touch(mode=0o600)
            place.write_bytes(data)
            kept[file] = str(place)
    return kept


def _machine_type(nodes: Sequence[Obj]) -> str:
    kinds = Counter(node["metadata"]["labels"].get(_MACHINE_LABEL, "unknown") for node in nodes)
    return ",".join(sorted(kinds))


def _quantity(text: str) -> float:
    match = re.fullmatch(r"(\d+)([A-Za-z]*)", str(text))
    return float(match[1]) * _UNITS.get(match[2], 1) if match else 0.0
