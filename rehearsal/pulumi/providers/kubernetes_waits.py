"""When a Kubernetes object counts as ready, and why it is not.

As the official provider waits: workloads until their new pods are available, a deletion until the
object is gone. Jobs, services and volumes are deliberately not waited for: no study declares one.
"""

import time
from collections.abc import Callable, Mapping
from threading import Event
from typing import Any

from rehearsal.pulumi.providers.base import ProviderError
from rehearsal.pulumi.providers.kubernetes_api import ClusterApi
from rehearsal.pulumi.providers.properties import Props

_DEFAULT_S = 600.0  # the official provider's
_SHORTEST_S, _LONGEST_S = 0.1, 2.0
_REASONS = 5


class NeverReadyError(Exception):
    """It did not become ready in time. The arguments are the reasons, a sentence each."""


def timeout_of(body: Mapping[str, Any], custom_s: float) -> float:
    """Seconds to wait: customTimeouts, else the annotation, else ten minutes."""
    annotations = body.get("metadata", {}).get("annotations") or {}
    return custom_s or float(annotations.get("pulumi.com/timeoutSeconds", _DEFAULT_S))


def _unready_deployment(body: Props) -> str | None:
    desired = body.get("spec", {}).get("replicas", 1)
    status = body.get("status", {})
    counts = [status.get(key, 0) for key in ("updatedReplicas", "replicas", "availableReplicas")]
    if all(count == desired for count in counts):
        return None
    return f"{counts[2]} of {desired} replicas are available ({counts[0]} of the new template)"


def _unready_daemon_set(body: Props) -> str | None:
    status = body.get("status", {})
    desired = status.get("desiredNumberScheduled", 0)
    counts = [status.get(key, 0) for key in ("updatedNumberScheduled", "numberAvailable")]
    if all(count == desired for count in counts):
        return None
    return f"{counts[1]} of {desired} pods are available ({counts[0]} of the new template)"


def _unready_stateful_set(body: Props) -> str | None:
    desired = body.get("spec", {}).get("replicas", 1)
    status = body.get("status", {})
    counts = [status.get(key, 0) for key in ("updatedReplicas", "readyReplicas")]
    if all(count == desired for count in counts):
        return None
    return f"{counts[1]} of {desired} replicas are ready ({counts[0]} of the new template)"


_UNREADY: Mapping[str, Callable[[Props], str | None]] = {
    "Deployment": _unready_deployment,
    "DaemonSet": _unready_daemon_set,
    "StatefulSet": _unready_stateful_set,
}


def unready(body: Props) -> str | None:
    """What an object still lacks, None if it is ready."""
    check = _UNREADY.get(str(body.get("kind")))
    if check is None or not str(body.get("apiVersion")).startswith("apps/"):
        return None
    if body.get("metadata", {}).get("annotations", {}).get("pulumi.com/skipAwait") == "true":
        return None
    generation = body.get("metadata", {}).get("generation", 0)
    if body.get("status", {}).get("observedGeneration", 0) < generation:
        return "its controller has not looked at it yet"
    return check(body)


def wait_ready(api: ClusterApi, body: Props, timeout_s: float, cancelled: Event) -> Props:
    """Wait until an object is ready; returns it as it is then.

    Raises:
        NeverReadyError: it is not, in time, or the user cancelled.
        ProviderError: it is gone, or the cluster does not answer.
    """
    end = time.monotonic() + timeout_s
    pause = _SHORTEST_S
    lacking = unready(body)
    while lacking is not None:
        if cancelled.is_set() or time.monotonic() + pause > end:
            said = "the command was cancelled" if cancelled.is_set() else f"{timeout_s:g} s passed"
            name = body["metadata"]["name"]
            raise NeverReadyError(f"{body['kind']} {name}: {lacking} when {said}",
                                  *_reasons(api, body))  # fmt: skip
        cancelled.wait(pause)
        pause = min(pause * 1.3, _LONGEST_S)
        body = _again(api, body)
        lacking = unready(body)
    return body


def _again(api: ClusterApi, body: Props) -> Props:
    metadata = body["metadata"]
    found = api.find(body["apiVersion"], body["kind"], metadata.get("namespace"), metadata["name"])
    if found is None:
        raise ProviderError(f"{body['kind']} {metadata['name']} was deleted by somebody else.")
    return found


def _reasons(api: ClusterApi, body: Props) -> list[str]:
    """Why: what its pods wait for, and the latest warnings about them."""
    labels = body.get("spec", {}).get("selector", {}).get("matchLabels", {})
    namespace = body["metadata"].get("namespace")
    selector = ",".join(f"{key}={value}" for key, value in labels.items())
    pods = api.objects("v1", "Pod", namespace, label_selector=selector) if labels else []
    names = {pod["metadata"]["name"] for pod in pods} | {body["metadata"]["name"]}
    events = api.objects("v1", "Event", namespace, field_selector="type=Warning")
    warnings = [
        f"[{event['involvedObject'].get('kind')}/{event['involvedObject'].get('name')}] "
        f"{event.get('reason')}: {event.get('message')}"
        for event in events
        if event.get("involvedObject", {}).get("name") in names
    ]
    return [*_waiting(pods), *dict.fromkeys(warnings)][:_REASONS]


def _waiting(pods: list[Props]) -> list[str]:
    found: list[str] = []
    for pod in pods:
        status, name = pod.get("status", {}), pod["metadata"]["name"]
        found += [
            f"Pod {name}: {condition['reason']}: {condition.get('message', '')}"
            for condition in status.get("conditions", [])
            if condition.get("status") == "False" and condition.get("reason") == "Unschedulable"
        ]
        for container in status.get("containerStatuses", []):
            waiting = container.get("state", {}).get("waiting")
            if waiting:
                said = f"{waiting.get('reason')}: {waiting.get('message', '')}"
                found.append(f"Pod {name}, container {container['name']}: {said}")
    return found


def wait_gone(
    find: Callable[[], Props | None], subject: str, timeout_s: float, cancelled: Event
) -> None:
    """Wait until an object is gone.

    Raises:
        ProviderError: it is still there after the time, or the user cancelled.
    """
    end = time.monotonic() + timeout_s
    pause = _SHORTEST_S
    while (body := find()) is not None:
        if cancelled.is_set() or time.monotonic() + pause > end:
            finalizers = body.get("metadata", {}).get("finalizers") or []
            finalizers += body.get("spec", {}).get("finalizers") or []
            raise ProviderError(
                f"{subject} is still being deleted; what holds it: {finalizers or 'its contents'}."
            )
        cancelled.wait(pause)
        pause = min(pause * 1.3, _LONGEST_S)
