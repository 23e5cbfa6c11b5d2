"""The Compute API, as far as a GKE study asks it: places, quotas, the instance groups of pools.

Limits are generous; a test or a user lowers one by putting a QUOTA resource named
`projects/P/regions/R` of the form {metric: limit} into the state. Usage is that of the clusters.
"""

import re

from rehearsal.google.http import Call, Endpoint, GoogleError
from rehearsal.google.places import ZONE_LETTERS, cpus_of, region_of, zones_of
from rehearsal.google.state import GoogleState, Json, Kind

_LIMITS = {
    "CPUS": 20_000,
    "DISKS_TOTAL_GB": 400_000,
    "SSD_TOTAL_GB": 200_000,
    "LOCAL_SSD_TOTAL_GB": 400_000,
    "INSTANCES": 6_000,
    "IN_USE_ADDRESSES": 6_000,
}
_GROUP = re.compile(r"zones/(?P<zone>[^/]+)/instanceGroupManagers/(?P<name>[^/]+)$")
_LOCAL_SSD_GB = 375


def check_quota(state: GoogleState, project: str, region: str, added: list[Json]) -> None:
    """Refuse pools that the region has no quota for.

    Args:
        state: holds the limits and what is in use.
        project: project id.
        region: of the pools.
        added: pools whose initialNodeCount is what comes on top.

    Raises:
        GoogleError: 403, the first metric that is short.
    """
    limits, usage = _limits(state, project, region), _usage(state, project, region)
    needs = _needs([(pool, pool["initialNodeCount"]) for pool in added])
    for metric, need in needs.items():
        short = usage[metric] + need - limits[metric]
        if need > 0 and short > 0:
            sentence = (
                f"Insufficient regional quota to satisfy request: resource '{metric}': request "
                f"requires '{need}.0' and is short '{short}.0'. project has a quota of "
                f"'{limits[metric]}.0' with '{limits[metric] - usage[metric]}.0' available"
            )
            raise GoogleError(403, f"{sentence}.", reason="quotaExceeded")


class Compute:
    """The API's methods over a state."""

    def __init__(self, state: GoogleState) -> None:
        self._state = state

    def routes(self) -> list[Endpoint]:
        """Routes below /compute/."""
        project = "/compute/{version}/projects/{project}"
        groups = f"{project}/zones/{{zone}}/instanceGroupManagers"
        return [
            Endpoint("GET", project, self.get_project),
            Endpoint("GET", f"{project}/regions", self.list_regions),
            Endpoint("GET", f"{project}/regions/{{region}}", self.get_region),
            Endpoint("GET", f"{project}/zones", self.list_zones),
            Endpoint("GET", f"{project}/zones/{{zone}}", self.get_zone),
            Endpoint("GET", groups, self.list_groups),
            Endpoint("GET", f"{groups}/{{group}}", self.get_group),
        ]

    def get_project(self, call: Call) -> Json:
        """The project; its own quotas are not modelled, the regions' are."""
        return {"kind": "compute#project", "name": call.path["project"], "quotas": []}

    def list_regions(self, call: Call) -> Json:
        """All regions with their quotas."""
        regions = [self._region(call.path["project"], region) for region in sorted(ZONE_LETTERS)]
        return {"kind": "compute#regionList", "items": regions}

    def get_region(self, call: Call) -> Json:
        """One region with its quotas."""
        region = call.path["region"]
        if region not in ZONE_LETTERS:
            raise _not_found(f"regions/{region}")
        return self._region(call.path["project"], region)

    def list_zones(self, _call: Call) -> Json:
        """All zones."""
        zones = [zone for region in sorted(ZONE_LETTERS) for zone in zones_of(region)]
        return {"kind": "compute#zoneList", "items": [_zone(zone) for zone in zones]}

    def get_zone(self, call: Call) -> Json:
        """One zone."""
        zone = call.path["zone"]
        if all(zone not in zones_of(region) for region in ZONE_LETTERS):
            raise _not_found(f"zones/{zone}")
        return _zone(zone)

    def list_groups(self, call: Call) -> Json:
        """The instance groups of a zone: one for each pool with nodes there."""
        groups = self._groups(call.path["project"], call.path["zone"])
        return {"kind": "compute#instanceGroupManagerList", "items": list(groups.values())}

    def get_group(self, call: Call) -> Json:
        """One instance group."""
        group = self._groups(call.path["project"], call.path["zone"]).get(call.path["group"])
        if group is None:
            raise _not_found(f"instanceGroupManagers/{call.path['group']}")
        return group

    def _region(self, project: str, region: str) -> Json:
        limits, usage = (
            _limits(self._state, project, region),
            _usage(self._state, project, region),
        )
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


def _zone(zone: str) -> Json:
    return {"kind": "compute#zone", "name": zone, "region": region_of(zone), "status": "UP"}


def _not_found(what: str) -> GoogleError:
    return GoogleError(404, f"The resource '{what}' was not found.")


def _limits(state: GoogleState, project: str, region: str) -> dict[str, int]:
    return _LIMITS | (state.get(Kind.QUOTA, f"projects/{project}/regions/{region}") or {})


def _usage(state: GoogleState, project: str, region: str) -> dict[str, int]:
    pools = [
        (pool, record["sizes"][pool["name"]])
        for record in state.find(Kind.CLUSTER, f"projects/{project}/")
        for pool in record["body"]["nodePools"]
        if region_of(pool["locations"][0]) == region
    ]
    return _needs(pools)


def _needs(pools: list[tuple[Json, int]]) -> dict[str, int]:
    """Sums over (pool, nodes in each of its zones)."""
    needs = dict.fromkeys(_LIMITS, 0)
    for pool, size in pools:
        nodes = size * len(pool["locations"])
        config = pool["config"]
        local = config.get("ephemeralStorageLocalSsdConfig", {}).get("localSsdCount", 0)
        needs["CPUS"] += nodes * cpus_of(config["machineType"], pool["locations"][0])
        needs["LOCAL_SSD_TOTAL_GB"] += nodes * local * _LOCAL_SSD_GB
        needs["INSTANCES"] += nodes
        needs["IN_USE_ADDRESSES"] += 0 if pool["networkConfig"].get("enablePrivateNodes") else nodes
        on_ssd = config["diskType"] in {"pd-ssd", "pd-balanced"}
        needs["SSD_TOTAL_GB" if on_ssd else "DISKS_TOTAL_GB"] += nodes * config["diskSizeGb"]
    return needs
