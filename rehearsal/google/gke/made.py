"""What GKE makes in Compute Engine for its clusters: machines, disks and firewall rules.

They are made and deleted with their cluster. To leave something behind, put a DISK, ADDRESS or
FIREWALL resource of its full name into the state, such as `projects/P/zones/Z/disks/NAME`.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterator

from rehearsal.cluster.fleet import node_name
from rehearsal.google.http import Endpoint
from rehearsal.google.state import GoogleState, Json, Kind
from rehearsal.machine.web import Call


class Made:
    """Lists of Compute Engine over a state."""

    def __init__(self, state: GoogleState) -> None:
        self._state = state

    def routes(self) -> list[Endpoint]:
        """Return the endpoints below /compute/."""
        project = "/compute/beta/projects/{project}"
        return [
            Endpoint("GET", f"{project}/aggregated/instances", self._instances),
            Endpoint("GET", f"{project}/aggregated/disks", self._disks),
            Endpoint("GET", f"{project}/aggregated/addresses", self._addresses),
            Endpoint("GET", f"{project}/global/firewalls", self._firewalls),
        ]

    def _instances(self, call: Call) -> Json:
        return _by_scope("instances", list(self._nodes(call.path["project"])))

    def _disks(self, call: Call) -> Json:
        project = call.path["project"]
        boot = list(self._nodes(project))  # a node's boot disk has its name, zone and labels
        return _by_scope("disks", [*boot, *self._left(Kind.DISK, project)])

    def _addresses(self, call: Call) -> Json:
        return _by_scope("addresses", self._left(Kind.ADDRESS, call.path["project"]))

    def _firewalls(self, call: Call) -> Json:
        project = call.path["project"]
        rules = [
            {"name": f"gke-{name}-{_digest(name)}-{what}"}
            for record in self._state.find(Kind.CLUSTER, f"projects/{project}/")
            for name in [record["body"]["name"]]
            for what in ("all", "exkubelet", "inkubelet", "vms")
        ]
        return {"items": [*rules, *self._left(Kind.FIREWALL, project)]}

    def _nodes(self, project: str) -> Iterator[Json]:
        """Give the nodes, with the labels that GKE gives to machines and disks."""
        for record in self._state.find(Kind.CLUSTER, f"projects/{project}/"):
            cluster = record["body"]
            labels = {"goog-k8s-cluster-name": cluster["name"], **cluster.get("resourceLabels", {})}
            for pool in cluster["nodePools"]:
                for zone in pool["locations"]:
                    for number in range(1, record["sizes"][pool["name"]] + 1):
                        yield {
                            "name": node_name(cluster["name"], pool["name"], number),
                            "zone": f"projects/{project}/zones/{zone}",
                            "labels": labels,
                        }

    def _left(self, kind: Kind, project: str) -> list[Json]:
        return self._state.find(kind, f"projects/{project}/")


def _by_scope(collection: str, found: list[Json]) -> Json:
    scopes: defaultdict[str, list[Json]] = defaultdict(list)
    for each in found:
        place = str(each.get("zone") or each.get("region") or "global")
        scopes["/".join(place.split("/")[-2:])].append(each)
    return {"items": {scope: {collection: some} for scope, some in scopes.items()}}


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:8]
