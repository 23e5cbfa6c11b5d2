"""GKE makes a control plane larger when a cluster has more nodes than it was made for.

The operation UPGRADE_MASTER begins when the one that added the nodes is DONE; the cluster is
RECONCILING meanwhile, every change is refused, and the API server of a zonal cluster does not
answer. https://github.com/hashicorp/terraform-provider-google/issues/1643 and /3385,
https://github.com/terraform-google-modules/terraform-google-kubernetes-engine/issues/776,
https://github.com/kubernetes/kubernetes/issues/71693, https://github.com/scylladb/scylla-operator
/issues/9. Users report one to five minutes; a rehearsal's are as short as its options say.
"""

import bisect
import threading

from rehearsal.cluster.fleet import ClusterKey, Fleet
from rehearsal.google.compute import is_zone
from rehearsal.google.gke.operations import Operations, Task
from rehearsal.google.gke.records import ClusterRecords, node_count, path_of
from rehearsal.google.http import GoogleError
from rehearsal.google.state import Json

_MOST_NODES = (5, 10, 100, 250, 500)
"""Of each size of control plane: Kubernetes' cluster/gce/config-common.sh, get-master-size."""


class ControlPlanes:
    """Resizes of the clusters of a fleet, each `resize_s` long; none if that is 0."""

    def __init__(
        self, records: ClusterRecords, fleet: Fleet, operations: Operations, resize_s: float
    ) -> None:
        self._records = records
        self._fleet = fleet
        self._operations = operations
        self._resize_s = resize_s
        self._guard = threading.Lock()

    def fit(self, key: ClusterKey, base_url: str) -> None:
        """Start a resize if a cluster's nodes need it and no other operation runs."""
        if not self._resize_s:
            return
        with self._guard:
            try:
                record = self._records.get(key)
            except GoogleError:  # deleted meanwhile
                return
            need = plane_size(node_count(record))
            if need <= record["planeSize"] or any(self._operations.running(key)):
                return

            def change(record: Json) -> None:
                record["planeSize"] = need

            self._records.change(key, change)
            task = Task(
                operation_type="UPGRADE_MASTER",
                key=key,
                target_link=f"{base_url}container/v1beta1/{path_of(key)}",
                work=lambda: self._fleet.resize_control_plane(
                    key, self._resize_s, reachable=not is_zone(key.location)
                ),
                failed=lambda reason: self._records.fail(key, reason),
            )
            self._operations.start(task, base_url)


def plane_size(nodes: int) -> int:
    """Return the size of control plane that GKE makes for a number of nodes, from 0."""
    return bisect.bisect_left(_MOST_NODES, nodes)
