"""One cluster of a fleet on this machine, and what a test does to it as its administrator."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rehearsal.cluster.admin import ClusterAdmin
from rehearsal.cluster.fleet import ClusterKey, PoolSpec
from rehearsal.cluster.kubernetes import Object
from rehearsal.local_fleet import LocalFleet
from rehearsal.machine import programs
from rehearsal.machine.home import Home, clear, lock
from rehearsal.machine.options import Options
from rehearsal.real_nodes.registry import LocalRegistry
from schema.names import MEASURED_LABEL
from tests.until import until

KEY = ClusterKey("p", "us-central1-a", "live")
TAINTS = ((MEASURED_LABEL, "true", "NoSchedule"),)
PODS = "/api/v1/namespaces/default/pods"


def measured(count: int) -> PoolSpec:
    labels = {"cloud.google.com/gke-nodepool": "measured", MEASURED_LABEL: "true"}
    return PoolSpec("measured", count, "n1-standard-16", labels, TAINTS)


@contextmanager
def locked_home(folder: Path) -> Iterator[Home]:
    """A home that is removed at the end."""
    home = Home(folder)
    assert lock(home)
    programs.write_plugin(home)
    try:
        yield home
    finally:
        clear(home)


class Machine:
    """A fleet, and an admin client for its cluster."""

    def __init__(
        self, home: Home, options: Options, *, images: LocalRegistry | None, mirror: str
    ) -> None:
        self.home = home
        self.fleet = LocalFleet(
            home, images=images, mirror=mirror, write_log=lambda _: None, options=options
        )

    @property
    def admin(self) -> ClusterAdmin:
        return self.fleet._clusters[KEY].admin

    def get(self, path: str, **params: str) -> Any:
        return self.admin._call("GET", path, params=params)["items"]

    def nodes(self, pool: str) -> list[str]:
        selector = f"cloud.google.com/gke-nodepool={pool}"
        return sorted(
            each["metadata"]["name"] for each in self.get("/api/v1/nodes", labelSelector=selector)
        )

    def pod(self, name: str) -> Object:
        return self.admin._call("GET", f"{PODS}/{name}")

    def start(self, number: int, image: str, **changes: Any) -> str:
        """Start a pod on a measured node, as a Job's would be; return its name."""
        until(lambda: self.get("/api/v1/namespaces/default/serviceaccounts"))
        body = pod_on(self.nodes("measured")[number], image, **changes)
        return str(self.admin._call("POST", PODS, body)["metadata"]["name"])

    def delete(self, pod: str) -> None:
        self.admin._call("DELETE", f"{PODS}/{pod}", {"gracePeriodSeconds": 0})

    def end(self, pod: str) -> Object:
        """Return the pod once it has ended."""

        def ended() -> Object | None:
            found = self.pod(pod)
            return found if found["status"].get("phase") in {"Succeeded", "Failed"} else None

        found: Object = until(ended)
        return found

    def run(self, number: int, image: str, **changes: Any) -> str:
        """Run a pod to its end; return its name."""
        pod = self.start(number, image, **changes)
        self.end(pod)
        return pod

    def events(self, pod: str, *, at_least: int = 0) -> list[Object]:
        """Return the kubelet's events about a pod, oldest first."""

        def found() -> list[Object]:
            events = self.get("/api/v1/events", fieldSelector=f"involvedObject.name={pod}")
            own = [event for event in events if event["source"].get("component") == "kubelet"]
            return sorted(own, key=lambda event: str(event["metadata"]["name"]))

        until(lambda: len(found()) >= at_least)
        return found()


def texts(events: list[Object], reason: str) -> list[str]:
    return [event["message"] for event in events if event["reason"] == reason]


def pod_on(
    node: str,
    image: str,
    *,
    removes: list[str] | None = None,
    deadline_s: int = 3600,
) -> Object:
    term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
    annotations = {"pull-study/remove": json.dumps(removes)} if removes else {}
    container = {
        "name": "pull", "image": image, "command": ["sleep", "1"],
    }  # fmt: skip
    return {
        "metadata": {
            "generateName": "pull-",
            "labels": {"batch.kubernetes.io/job-name": "a-job"},
            "annotations": annotations,
        },
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 0,
            "activeDeadlineSeconds": deadline_s,
            "automountServiceAccountToken": False,
            "tolerations": [{"key": MEASURED_LABEL, "operator": "Exists"}],
            "affinity": {"nodeAffinity": required},
            "containers": [container],
        },
    }
