"""The Kubernetes objects of a run: Jobs and MiniClusters whose pods wait for a binding, a canary.

Pure: it makes dictionaries. experiment.measure.staged_jobs explains why they give one pod a node.
"""

import json
import re
import shlex
from collections.abc import Sequence
from typing import Any

from schema.names import (
    JOB_NAMESPACE,
    MEASURED_TOLERATIONS,
    MINICLUSTERS,
    REMOVAL_LABEL,
    REMOVE_ANNOTATION,
    ROOFS_ANNOTATION,
    RUN_LABEL,
    TRIAL_LABEL,
    VIEW_CONTAINER,
)
from schema.run_records import PlannedTrial

SCHEDULER = "pull-study-staged"
"""A scheduler that does not exist: pods that name it wait until the runner binds them."""

CONTAINER = "pull"
_A_DAY_S = 86_400
INDEX_ANNOTATION = "batch.kubernetes.io/job-completion-index"


def job_name(run_id: str, trial: int, attempt: int) -> str:
    """Return the name of a trial's Job: at most 63 characters, unique within a cluster."""
    return _name(run_id, "t", trial, attempt)


def _name(run_id: str, kind: str, trial: int, attempt: int) -> str:
    return f"{run_id[:48].rstrip('-')}-{kind}{trial:03d}-a{attempt}"


def is_of_run(name: str, run_id: str) -> bool:
    """Whether a Job or a pod has a name that this module gives to those of a run."""
    prefix = re.escape(run_id[:48].rstrip("-"))
    return re.fullmatch(rf"{prefix}-[rtv]\d{{3,}}-a\d+(-\d+(-\w+)?)?", name) is not None


def trial_job(
    planned: PlannedTrial,
    *,
    run_id: str,
    attempt: int,
    nodes: int,
    command: tuple[str, ...],
    deadline_s: int,
) -> dict[str, Any]:
    """Return an Indexed Job of `nodes` staged pods.

    A plain backoffLimit would end the pulls of all nodes when one fails, hence backoffLimitPerIndex
    0 with maxFailedIndexes N. The deadline is the pods' own, which counts from their start on the
    node; the Job's would count from staging. Tokens and grace periods would only add work to nodes.
    """
    labels = {RUN_LABEL: run_id, TRIAL_LABEL: str(planned.trial)}
    container = {
        "name": CONTAINER,
        "image": planned.image.reference,
        "imagePullPolicy": "IfNotPresent",
        "command": list(command),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        },
    }
    template = {"metadata": {"labels": labels}, "spec": _pod_spec(container, deadline_s)}
    return indexed_job(job_name(run_id, planned.trial, attempt), labels, nodes, template)


def minicluster(
    planned: PlannedTrial | None,
    view: str,
    *,
    run_id: str,
    attempt: int,
    nodes: int,
    command: tuple[str, ...],
) -> dict[str, Any]:
    """Return a MiniCluster of `nodes` staged pods, whose operator makes an Indexed Job of its name.

    Each pod first copies Flux from the view to an emptyDir, then runs /bin/bash of the trial's
    image. Every field that the operator's CRD has a default for is set, so that no version of it
    matters. Pods have no deadline of their own (the CRD has none), and a failed one is made again,
    bound to no node. docs/method.md says what this adds to a pull.

    Args:
        planned: the trial; None for one that only asks whether the operator works.
        view: reference of the image that has Flux.
        run_id: labels and names it.
        attempt: of the run.
        nodes: how many.
        command: what Flux runs, once on all nodes.
    """
    trial = planned.trial if planned else 0
    name = job_name(run_id, trial, attempt) if planned else _name(run_id, "v", trial, attempt)
    labels = {RUN_LABEL: run_id, TRIAL_LABEL: str(trial)}
    container = {
        "image": planned.image.reference if planned else view,
        "imagePullPolicy": "IfNotPresent",
        "runFlux": True,
        "command": shlex.join(command),
    }
    return {
        "apiVersion": "/".join(MINICLUSTERS[:2]),
        "kind": "MiniCluster",
        "metadata": {"name": name, "namespace": JOB_NAMESPACE, "labels": labels},
        "spec": {
            "size": nodes,
            "tasks": nodes,
            "cleanup": False,  # it would delete all pods when the first has ended
            "deadlineSeconds": _A_DAY_S,
            "backoffLimit": 1000,
            "jobLabels": labels,
            # a Service's name must begin with a letter, a study's need not
            "network": {"headlessName": f"mc-{name}"},
            "flux": {
                "completeWorkers": True,  # else all but the first pod wait for ever
                "connectTimeout": "5s",
                "container": {"name": VIEW_CONTAINER, "mountPath": "/mnt/flux", "image": view},
            },
            "pod": {
                "schedulerName": SCHEDULER,
                "restartPolicy": "Never",
                "labels": labels,
                "tolerations": [dict(each) for each in MEASURED_TOLERATIONS],
            },
            "containers": [container],
        },
    }


def view_job(
    view: str, *, run_id: str, attempt: int, nodes: int, deadline_s: int
) -> dict[str, Any]:
    """Return an Indexed Job of `nodes` staged pods that do nothing but need the view's image."""
    labels = {RUN_LABEL: run_id}
    container = {
        "name": CONTAINER,
        "image": view,
        "imagePullPolicy": "IfNotPresent",
        "command": ["/bin/bash", "-c", ":"],
    }
    template = {"metadata": {"labels": labels}, "spec": _pod_spec(container, deadline_s)}
    return indexed_job(_name(run_id, "v", 1, attempt), labels, nodes, template)


def removal_job(
    trial: int,
    *,
    run_id: str,
    attempt: int,
    nodes: int,
    remover: str,
    script: str,
    images: Sequence[tuple[str, str]],
    deadline_s: int,
) -> dict[str, Any]:
    """Return an Indexed Job of `nodes` staged pods that remove images from their nodes.

    It uses the node's own containerd, so it is privileged.

    Args:
        trial: before which images are removed.
        run_id: labels and names it.
        attempt: of the run.
        nodes: how many.
        remover: reference of an image with a shell and nsenter.
        script: for that shell.
        images: reference and argument of the script for each image to remove.
        deadline_s: of each pod.
    """
    labels = {RUN_LABEL: run_id, REMOVAL_LABEL: str(trial)}
    annotations = {REMOVE_ANNOTATION: json.dumps([reference for reference, _ in images])}
    command = [script, "remove", *(argument for _, argument in images)]
    template = _node_template(labels, annotations, remover, command, deadline_s)
    return indexed_job(_name(run_id, "r", trial, attempt), labels, nodes, template)


def roofs_job(
    *,
    run_id: str,
    attempt: int,
    nodes: int,
    image: str,
    script: str,
    blob: tuple[str, int],
    deadline_s: int,
) -> dict[str, Any]:
    """Return an Indexed Job of `nodes` staged pods that measure their nodes' roofs.

    It uses the node's own containerd, so it is privileged.

    Args:
        run_id: labels and names it.
        attempt: of the run.
        nodes: how many.
        image: reference of an image with a shell and nsenter.
        script: for that shell.
        blob: reference (repository@digest) and bytes of the blob that each node receives.
        deadline_s: of each pod.
    """
    labels = {RUN_LABEL: run_id}
    command = [script, "measure", blob[0], str(blob[1])]
    template = _node_template(labels, {ROOFS_ANNOTATION: blob[0]}, image, command, deadline_s)
    return indexed_job(_name(run_id, "r", 0, attempt), labels, nodes, template)


def _node_template(
    labels: dict[str, str],
    annotations: dict[str, str],
    image: str,
    command: Sequence[str],
    deadline_s: int,
) -> dict[str, Any]:
    """Return a template of pods that have all rights on their node; `command` follows sh -c."""
    container = {
        "name": CONTAINER,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["sh", "-c", *command],
        "securityContext": {"privileged": True},
    }
    return {
        "metadata": {"labels": labels, "annotations": annotations},
        "spec": {**_pod_spec(container, deadline_s), "hostPID": True},
    }


def indexed_job(
    name: str, labels: dict[str, str], nodes: int, template: dict[str, Any]
) -> dict[str, Any]:
    """Return a Job of one pod for each of `nodes` indexes, none of which ends the others."""
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": JOB_NAMESPACE, "labels": labels},
        "spec": {
            "completionMode": "Indexed",
            "completions": nodes,
            "parallelism": nodes,
            "backoffLimitPerIndex": 0,
            "maxFailedIndexes": nodes,
            "template": template,
        },
    }


def _pod_spec(container: dict[str, Any], deadline_s: int) -> dict[str, Any]:
    return {
        "schedulerName": SCHEDULER,
        "restartPolicy": "Never",
        "activeDeadlineSeconds": deadline_s,
        "terminationGracePeriodSeconds": 0,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "tolerations": [dict(each) for each in MEASURED_TOLERATIONS],
        "containers": [container],
    }


def canary_event(run_id: str, name: str, at: str) -> dict[str, Any]:
    """Return an event that proves, before anything is measured, that events reach Cloud Logging.

    Args:
        run_id: of the run.
        name: unique.
        at: now, RFC 3339 with seconds.
    """
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": JOB_NAMESPACE},
        "involvedObject": {"kind": "Namespace", "name": JOB_NAMESPACE, "namespace": JOB_NAMESPACE},
        "reason": "PullStudyCanary",
        "message": f"Run {run_id} checks that events arrive.",
        "type": "Normal",
        "source": {"component": "pull-study"},
        "firstTimestamp": at,
        "lastTimestamp": at,
        "count": 1,
    }
