"""The Compute API, as far as a GKE study calls it: quotas, instance groups of pools, their nodes.

Limits are generous; put a QUOTA resource named `projects/P/regions/R`, or `projects/P` for those of
the project, of the form {metric: limit} into the state to lower one. Usage is that of the clusters.
"""

import re

from rehearsal.cluster.fleet import node_name
from rehearsal.google.collections import default_account
from rehearsal.google.http import Endpoint, GoogleError
from rehearsal.google.state import GoogleState, Json, Kind
from rehearsal.machine.web import Call

_REGIONS = """
    africa-south1 asia-east1 asia-east2 asia-northeast1 asia-northeast2 asia-northeast3
    asia-south1 asia-south2 asia-southeast1 asia-southeast2 australia-southeast1
    australia-southeast2 europe-central2 europe-north1 europe-north2 europe-southwest1
    europe-west10 europe-west12 europe-west2 europe-west3 europe-west4 europe-west6 europe-west8
    europe-west9 me-central1 me-central2 me-west1 northamerica-northeast1 northamerica-northeast2
    northamerica-south1 southamerica-east1 southamerica-west1 us-east4 us-east5 us-south1 us-west1
    us-west2 us-west3 us-west4
"""
ZONE_LETTERS = dict.fromkeys(_REGIONS.split(), "abc") | {
    "europe-west1": "bcd",
    "us-central1": "abcf",
    "us-east1": "bcd",
}
"""Letters of a region's zones: https://cloud.google.com/compute/docs/regions-zones, 2026."""

_ZONE = re.compile(r"(?P<region>[a-z]+-[a-z]+\d+)-(?P<letter>[a-z])")
_SHARED_CORE = {"e2-micro": 2, "e2-small": 2, "e2-medium": 2, "f1-micro": 1, "g1-small": 1}
_CUSTOM = re.compile(r"(?:(?:n1|n2|n2d|n4|e2)-)?custom-(\d+)-\d+(?:-ext)?")
_FAMILIES = (
    "a2|a3|a4|c2|c2d|c3|c3d|c4|c4a|c4d|e2|g2|g4|h3|h4d|m1|m2|m3|m4|n1|n2|n2d|n4|n4a|n4d|"
    "t2a|t2d|x4|z3"
)
_PREDEFINED = re.compile(
    rf"(?:{_FAMILIES})-(?:standard|highmem|highcpu|highgpu|megagpu|ultragpu|ultramem|megamem|"
    r"hypermem|highlssd|standardlssd)-(\d+)[a-z-]*"
)
_LIMITS = {
    "CPUS": 20_000,
    "N2_CPUS": 20_000,
    "DISKS_TOTAL_GB": 400_000,
    "SSD_TOTAL_GB": 200_000,
    "LOCAL_SSD_TOTAL_GB": 400_000,
    "INSTANCES": 6_000,
    "IN_USE_ADDRESSES": 6_000,
    "PREEMPTIBLE_CPUS": 0,
    "PREEMPTIBLE_LOCAL_SSD_GB": 0,
}
"""Spot nodes count against the ordinary quotas where none was granted for them."""
_CPUS = ("CPUS", "N2_CPUS", "PREEMPTIBLE_CPUS")
_PROJECT_LIMITS = {"CPUS_ALL_REGIONS": 20_000}
_GROUP = re.compile(r"zones/(?P<zone>[^/]+)/instanceGroupManagers/(?P<name>[^/]+)$")
_LOCAL_SSD_GB = 375
_PLATFORM = "Intel Skylake"


def region_of(location: str) -> str:
    """Return the region of a zone or region; 400 if there is no such zone or region."""
    match = _ZONE.fullmatch(location)
    region = match["region"] if match else location
    if region not in ZONE_LETTERS or (match and match["letter"] not in ZONE_LETTERS[region]):
        raise GoogleError(400, f'Location "{location}" does not exist.')
    return region


def is_zone(location: str) -> bool:
    """Return whether a location has the form of a zone's name."""
    return _ZONE.fullmatch(location) is not None


def zones_of(region: str) -> list[str]:
    """Return the zones of a region, or of a zone's region; 400 if there is no such region."""
    region = region_of(region)
    return [f"{region}-{letter}" for letter in ZONE_LETTERS[region]]


def cpus_of(machine_type: str, zone: str) -> int:
    """Return the number in a machine type's name; 400 if no machine type has a name of this form.

    It counts virtual CPUs, for accelerator machines accelerators.
    """
    if machine_type in _SHARED_CORE:
        return _SHARED_CORE[machine_type]
    match = _PREDEFINED.fullmatch(machine_type) or _CUSTOM.fullmatch(machine_type)
    if match is None:
        sentence = f'Machine type with name "{machine_type}" does not exist in zone "{zone}".'
        raise GoogleError(400, sentence)
    return int(match[1])


def check_quota(state: GoogleState, project: str, region: str, added: list[Json]) -> None:
    """Refuse, by a 403, pools that region or project have no quota for.

    `initialNodeCount` is what is added of each.
    """
    limits, usage = _limits(state, project, region), _usage(state, project, region)
    needs = _needs([(pool, pool["initialNodeCount"]) for pool in added], limits)
    for metric, need in needs.items():
        _check_metric("regional", metric, need, limits[metric], usage[metric])
    used, need = _project_usage(state, project), sum(needs[metric] for metric in _CPUS)
    for metric, limit in _project_limits(state, project).items():
        _check_metric("project", metric, need, limit, used)


def _check_metric(scope: str, metric: str, need: int, limit: int, used: int) -> None:
    short = used + need - limit
    if need > 0 and short > 0:
        # https://github.com/GoogleCloudPlatform/cloud-ops-sandbox/issues/44
        sentence = (
            f'Insufficient {scope} quota to satisfy request: resource "{metric}": request requires '
            f"'{need}.0' and is short '{short}.0'. project has a quota of '{limit}.0' with "
            f"'{limit - used}.0' available. View and manage quotas at "
            "https://console.cloud.google.com/iam-admin/quotas?usage=USED"
        )
        raise GoogleError(403, f"{sentence}.", reason="quotaExceeded")


class Compute:
    """The API's methods over a state."""

    def __init__(self, state: GoogleState) -> None:
        self._state = state

    def routes(self) -> list[Endpoint]:
        """Return the endpoints below /compute/."""
        project = "/compute/beta/projects/{project}"
        groups = f"{project}/zones/{{zone}}/instanceGroupManagers"
        return [
            Endpoint("GET", project, self._get_project),
            Endpoint("GET", f"{project}/regions/{{region}}", self._get_region),
            Endpoint("GET", groups, self._list_groups),
            Endpoint("GET", f"{groups}/{{group}}", self._get_group),
            Endpoint("GET", f"{project}/zones/{{zone}}/instances", self._list_instances),
        ]

    def _get_project(self, call: Call) -> Json:
        """Return the project, by number as by id, with the quotas that hold over all regions."""
        project = call.path["project"]
        used = _project_usage(self._state, project)
        return {
            "kind": "compute#project",
            "name": project,
            "defaultServiceAccount": default_account(project),
            "quotas": [
                {"metric": metric, "limit": limit, "usage": used}
                for metric, limit in _project_limits(self._state, project).items()
            ],
        }

    def _get_region(self, call: Call) -> Json:
        region = call.path["region"]
        if region not in ZONE_LETTERS:
            raise _not_found(f"regions/{region}")
        return self._region(call.path["project"], region)

    def _list_groups(self, call: Call) -> Json:
        groups = self._groups(call.path["project"], call.path["zone"])
        return {"kind": "compute#instanceGroupManagerList", "items": list(groups.values())}

    def _get_group(self, call: Call) -> Json:
        group = self._groups(call.path["project"], call.path["zone"]).get(call.path["group"])
        if group is None:
            raise _not_found(f"instanceGroupManagers/{call.path['group']}")
        return group

    def _list_instances(self, call: Call) -> Json:
        """Return the nodes of a zone, all on the platform that their pool asks for at least."""
        zone = call.path["zone"]
        items = [
            {"name": node_name(record["body"]["name"], pool["name"], number), "cpuPlatform": on}
            for record in self._state.find(Kind.CLUSTER, f"projects/{call.path['project']}/")
            for pool in record["body"]["nodePools"]
            if zone in pool["locations"]
            for on in [pool["config"].get("minCpuPlatform") or _PLATFORM]
            for number in range(1, record["sizes"][pool["name"]] + 1)
        ]
        return {"kind": "compute#instanceList", "items": items}

    def _region(self, project: str, region: str) -> Json:
        limits = _limits(self._state, project, region)
        usage = _usage(self._state, project, region)
        return {
            "kind": "compute#region",
            "name": region,
            "status": "UP",
            "zones": zones_of(region),
            "quotas": [
                {"metric": metric, "limit": limit, "usage": usage[metric]}
                for metric, limit in limits.items()
            ],
        }

    def _groups(self, project: str, zone: str) -> dict[str, Json]:
        """Return the instance groups of a zone by name: one for each pool with nodes there."""
        found = {}
        for record in self._state.find(Kind.CLUSTER, f"projects/{project}/"):
            for pool in record["body"]["nodePools"]:
                for url in pool["instanceGroupUrls"]:
                    match = _GROUP.search(url)
                    if match and match["zone"] == zone:
                        size = record["sizes"][pool["name"]]
                        found[match["name"]] = _group(url, match["name"], zone, size)
        return found


def _group(url: str, name: str, zone: str, size: int) -> Json:
    return {
        "kind": "compute#instanceGroupManager",
        "name": name,
        "zone": zone,
        "selfLink": url,
        "instanceGroup": url.replace("/instanceGroupManagers/", "/instanceGroups/"),
        "baseInstanceName": name.removesuffix("-grp"),
        "targetSize": size,
        "status": {"isStable": True},
    }


def _not_found(what: str) -> GoogleError:
    return GoogleError(404, f"The resource '{what}' was not found.")


def _limits(state: GoogleState, project: str, region: str) -> dict[str, int]:
    return _LIMITS | (state.get(Kind.QUOTA, f"projects/{project}/regions/{region}") or {})


def _project_limits(state: GoogleState, project: str) -> dict[str, int]:
    return _PROJECT_LIMITS | (state.get(Kind.QUOTA, f"projects/{project}") or {})


def _project_usage(state: GoogleState, project: str) -> int:
    """Return the virtual CPUs of all regions, which the project's one quota counts."""
    regions = {region_of(pool["locations"][0]) for pool, _ in _pools(state, project)}
    usage = [_usage(state, project, region) for region in regions]
    return sum(each[metric] for each in usage for metric in _CPUS)


def _usage(state: GoogleState, project: str, region: str) -> dict[str, int]:
    pools = [
        (pool, size)
        for pool, size in _pools(state, project)
        if region_of(pool["locations"][0]) == region
    ]
    return _needs(pools, _limits(state, project, region))


def _pools(state: GoogleState, project: str) -> list[tuple[Json, int]]:
    """Return all pools, with their nodes in each zone."""
    return [
        (pool, record["sizes"][pool["name"]])
        for record in state.find(Kind.CLUSTER, f"projects/{project}/")
        for pool in record["body"]["nodePools"]
    ]


def _needs(pools: list[tuple[Json, int]], limits: dict[str, int]) -> dict[str, int]:
    """Return sums over (pool, nodes in each of its zones)."""
    needs = dict.fromkeys(_LIMITS, 0)
    for pool, size in pools:
        nodes = size * len(pool["locations"])
        config = pool["config"]
        local = config.get("ephemeralStorageLocalSsdConfig", {}).get("localSsdCount", 0)
        spot = config.get("spot")
        family = "N2_CPUS" if config["machineType"].startswith("n2-") else "CPUS"
        cpus = "PREEMPTIBLE_CPUS" if spot and limits["PREEMPTIBLE_CPUS"] else family
        needs[cpus] += nodes * cpus_of(config["machineType"], pool["locations"][0])
        granted = spot and limits["PREEMPTIBLE_LOCAL_SSD_GB"]
        ssds = "PREEMPTIBLE_LOCAL_SSD_GB" if granted else "LOCAL_SSD_TOTAL_GB"
        needs[ssds] += nodes * local * _LOCAL_SSD_GB
        needs["INSTANCES"] += nodes
        needs["IN_USE_ADDRESSES"] += 0 if pool["networkConfig"].get("enablePrivateNodes") else nodes
        on_ssd = config["diskType"] in {"pd-ssd", "pd-balanced"}
        needs["SSD_TOTAL_GB" if on_ssd else "DISKS_TOTAL_GB"] += nodes * config["diskSizeGb"]
    return needs
