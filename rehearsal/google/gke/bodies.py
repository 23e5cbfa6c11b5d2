"""Clusters and node pools as GKE creates them from requests: checks and defaults. Pure.

Requests are parsed strictly as GKE's own message types, so a misspelt field or a wrong enum value
is refused. Defaults are those that Pulumi's gcp provider needs. Deliberately left out: Autopilot,
autoscaling, GPUs, networks other than `default`.
"""

import hashlib
import ipaddress
import re
from datetime import datetime, timedelta
from typing import Any

from google.protobuf.json_format import MessageToDict, ParseDict, ParseError

from rehearsal.google.compute import cpus_of, is_zone, region_of, zones_of
from rehearsal.google.http import GoogleError
from rehearsal.google.state import Json

DEFAULT_POOL = "default-pool"
_NAME = re.compile(r"[a-z](?:[-a-z0-9]{0,38}[a-z0-9])?")
_MOST_NODES_A_ZONE = 1000
_LONGEST_EXCLUSION = timedelta(days=90)
_NODE_PREFIX = 24
"""Each node has a /24 of the pods' range at the default of 110 pods a node."""
_SCOPES = [
    f"https://www.googleapis.com/auth/{scope}"
    for scope in (
        "devstorage.read_only",
        "logging.write",
        "monitoring",
        "service.management.readonly",
        "servicecontrol",
        "trace.append",
    )
]


def read_message(message: Any, body: Json) -> Json:
    """Return a request's JSON without fields at their default, enums by name; 400 if it is wrong.

    `message` is GKE's type, from google.cloud.container_v1beta1.types.
    """
    try:
        parsed = ParseDict(body, message.pb()())
    except ParseError as error:
        sentence = str(error).split("\n")[0].rstrip(".")
        raise GoogleError(400, f"Invalid JSON payload received. {sentence}.") from error
    canonical: Json = MessageToDict(parsed)
    return canonical


def fingerprint(*parts: object) -> str:
    """Return eight hexadecimal digits that depend on all parts."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:8]


def new_cluster(project: str, location: str, sent: Json) -> Json:
    """Return the cluster of a create request, with its pools; 400 if GKE refuses it."""
    region = region_of(location)
    zonal = is_zone(location)
    _check_cluster(sent)
    cluster = {
        "addonsConfig": {
            "networkPolicyConfig": {"disabled": True},
            "gcePersistentDiskCsiDriverConfig": {"enabled": True},
        },
        "autopilot": {},
        "autoscaling": {"autoscalingProfile": "BALANCED"},
        "binaryAuthorization": {},
        "databaseEncryption": {"state": "DECRYPTED"},
        "defaultMaxPodsConstraint": {"maxPodsPerNode": "110"},
        "legacyAbac": {},
        "location": location,
        "locations": [location] if zonal else zones_of(region)[:3],
        "loggingConfig": {
            "componentConfig": {"enableComponents": ["SYSTEM_COMPONENTS", "WORKLOADS"]}
        },
        "loggingService": "logging.googleapis.com/kubernetes",
        "monitoringConfig": {
            "componentConfig": {"enableComponents": ["SYSTEM_COMPONENTS"]},
            "managedPrometheusConfig": {"enabled": True},
        },
        "monitoringService": "monitoring.googleapis.com/kubernetes",
        "network": "default",
        "nodePoolDefaults": {
            "nodeConfigDefaults": {"loggingConfig": {"variantConfig": {"variant": "DEFAULT"}}}
        },
        "notificationConfig": {"pubsub": {}},
        "releaseChannel": {"channel": "REGULAR"},
        "securityPostureConfig": {"mode": "BASIC", "vulnerabilityMode": "VULNERABILITY_DISABLED"},
        "shieldedNodes": {"enabled": True},
        "subnetwork": "default",
        "zone": location,
        **sent,
        "maintenancePolicy": maintenance(sent.get("maintenancePolicy", {})),
        **_networks(project, region, sent),
    }
    cluster["id"] = f"rehearsal-{fingerprint(project, location, sent['name'])}"
    cluster["nodePools"] = [new_pool(cluster, project, pool) for pool in _declared_pools(sent)]
    cluster["initialNodeCount"] = cluster["nodePools"][0]["initialNodeCount"]
    cluster.pop("nodeConfig", None)
    return cluster


def maintenance(policy: Json) -> Json:
    """Return a maintenance policy with the version by which a change of it names it.

    https://docs.cloud.google.com/kubernetes-engine/docs/concepts/maintenance-windows-and-exclusions
    """
    window = policy.get("window", {})
    for name, exclusion in window.get("maintenanceExclusions", {}).items():
        start, end = (datetime.fromisoformat(exclusion[key]) for key in ("startTime", "endTime"))
        if not timedelta(0) < end - start <= _LONGEST_EXCLUSION:
            days = _LONGEST_EXCLUSION.days
            sentence = f"Maintenance exclusion {name} must end within {days} days of its start."
            raise GoogleError(400, sentence)
    if "dailyMaintenanceWindow" in window:
        window["dailyMaintenanceWindow"]["duration"] = "PT4H0M0S"
    return {**policy, "resourceVersion": fingerprint(policy.get("window"))}


def new_pool(cluster: Json, project: str, sent: Json) -> Json:
    """Return the node pool of a create request; 400 if GKE refuses it."""
    config = {**_node_defaults(), **sent.get("config", {})}
    pool = {
        "initialNodeCount": 0,
        "locations": cluster["locations"],
        "management": {"autoRepair": True, "autoUpgrade": True},
        "maxPodsConstraint": {"maxPodsPerNode": "110"},
        "podIpv4CidrSize": _NODE_PREFIX,
        "upgradeSettings": {"maxSurge": 1, "strategy": "SURGE"},
        **sent,
        "config": config,
        "networkConfig": {
            "podIpv4CidrBlock": cluster["clusterIpv4Cidr"],
            "podRange": cluster["ipAllocationPolicy"]["clusterSecondaryRangeName"],
            **sent.get("networkConfig", {}),
        },
    }
    check_pool(cluster, pool)
    pool["instanceGroupUrls"] = [
        f"https://www.googleapis.com/compute/v1/projects/{project}/zones/{zone}/"
        f"instanceGroupManagers/gke-{cluster['name']}-{pool['name']}-"
        f"{fingerprint(cluster['name'], pool['name'], zone)}-grp"
        for zone in pool["locations"]
    ]
    return pool


def check_pool(cluster: Json, pool: Json) -> None:
    """Refuse a pool that GKE refuses."""
    config = pool["config"]
    zone = pool["locations"][0]
    if not _NAME.fullmatch(pool.get("name", "")):
        raise GoogleError(400, f'Invalid value for field "node_pool.name": "{pool.get("name")}".')
    if region_of(zone) != region_of(cluster["location"]):
        raise GoogleError(400, f'Zone "{zone}" is not in the region of the cluster.')
    cpus_of(config["machineType"], zone)
    threads = config.get("advancedMachineFeatures", {}).get("threadsPerCore", "1")
    if threads not in {"1", "2"}:
        sentence = f"threads_per_core must be 1 or 2 for machine type {config['machineType']}"
        raise GoogleError(400, f"{sentence}, not {threads}.")
    smallest_disk = 10
    if config["diskSizeGb"] < smallest_disk:
        raise GoogleError(400, "Disk size must be at least 10 GB.")
    check_management(cluster, pool["management"])
    check_size(pool["initialNodeCount"])


def check_size(node_count: int) -> None:
    """Refuse a number of nodes in one zone below 0 or above 1000."""
    if not 0 <= node_count <= _MOST_NODES_A_ZONE:
        sentence = f"Node pool size must be 0 to {_MOST_NODES_A_ZONE} nodes per zone"
        raise GoogleError(400, f"{sentence}, not {node_count}.")


def check_management(cluster: Json, management: Json) -> None:
    """Refuse a pool without upgrades or repair in a release channel."""
    channel = cluster["releaseChannel"].get("channel", "UNSPECIFIED")
    if channel == "UNSPECIFIED":
        return
    if not (management.get("autoUpgrade") and management.get("autoRepair")):
        sentence = "Auto_upgrade and auto_repair cannot be false when release_channel"
        raise GoogleError(400, f"{sentence} {channel} is set.")


def check_version(running: str, requested: str) -> None:
    """Refuse another Kubernetes version than the one that this machine runs.

    `requested` is a version, its beginning, or an alias; empty for the default.
    """
    have, want = (f"{version}.".replace("-gke", "") for version in (running, requested))
    if requested not in {"", "-", "latest"} and not have.startswith(want):
        sentence = f'Version "{requested}" is unsupported: this machine runs {running}.'
        raise GoogleError(400, sentence)


def check_room(cluster: Json, node_count: int) -> None:
    """Refuse more nodes than the pod range has addresses for."""
    pods = cluster["clusterIpv4Cidr"]
    room = 1 << max(0, _NODE_PREFIX - int(pods.partition("/")[2]))
    if node_count > room:
        sentence = f"The pod range {pods} has addresses for {room} nodes, not for {node_count}"
        raise GoogleError(400, f"{sentence}: IP space is exhausted.", reason="ipSpaceExhausted")


def _check_cluster(sent: Json) -> None:
    name = sent.get("name", "")
    if not _NAME.fullmatch(name):
        sentence = "must be 1 to 40 lower-case letters, digits and -, beginning with a letter"
        raise GoogleError(400, f'Invalid value for field "cluster.name": "{name}": {sentence}.')
    if "nodePools" in sent and ("initialNodeCount" in sent or "nodeConfig" in sent):
        sentence = "cluster.node_pools cannot be used with initial_node_count or node_config"
        raise GoogleError(400, f"{sentence}.")
    if not sent.get("nodePools") and sent.get("initialNodeCount", 0) < 1:
        raise GoogleError(400, "Cluster.initial_node_count must be greater than zero.")
    if sent.get("autopilot", {}).get("enabled"):
        raise GoogleError(501, "The local Google has no Autopilot clusters.")


def _declared_pools(sent: Json) -> list[Json]:
    if sent.get("nodePools"):
        pools: list[Json] = sent["nodePools"]
        return pools
    pool = {"name": DEFAULT_POOL, "initialNodeCount": sent["initialNodeCount"]}
    if "nodeConfig" in sent:
        pool["config"] = sent["nodeConfig"]
    return [pool]


def _node_defaults() -> Json:
    return {
        "diskSizeGb": 100,
        "diskType": "pd-balanced",
        "imageType": "COS_CONTAINERD",
        "kubeletConfig": {},
        "machineType": "e2-medium",
        "metadata": {"disable-legacy-endpoints": "true"},
        "oauthScopes": _SCOPES,
        "serviceAccount": "default",
        "shieldedInstanceConfig": {"enableIntegrityMonitoring": True},
    }


def _networks(project: str, region: str, sent: Json) -> Json:
    policy = sent.get("ipAllocationPolicy", {})
    requested = policy.get("clusterIpv4CidrBlock") or sent.get("clusterIpv4Cidr") or "/14"
    pods = _range(requested, "10.64.0.0")
    services = _range(policy.get("servicesIpv4CidrBlock") or "/20", "34.118.224.0")
    endpoints = sent.get("controlPlaneEndpointsConfig", {})
    return {
        "clusterIpv4Cidr": pods,
        "servicesIpv4Cidr": services,
        "ipAllocationPolicy": {
            "clusterSecondaryRangeName": f"gke-{sent['name']}-pods-{fingerprint(sent['name'])}",
            "stackType": "IPV4",
            "useIpAliases": True,
            **policy,
            "clusterIpv4Cidr": pods,
            "clusterIpv4CidrBlock": pods,
            "servicesIpv4Cidr": services,
            "servicesIpv4CidrBlock": services,
        },
        "networkConfig": {
            "network": f"projects/{project}/global/networks/default",
            "subnetwork": f"projects/{project}/regions/{region}/subnetworks/default",
            "defaultSnatStatus": {},
            "serviceExternalIpsConfig": {},
            **sent.get("networkConfig", {}),
        },
        "controlPlaneEndpointsConfig": {
            "dnsEndpointConfig": {},
            **endpoints,
            "ipEndpointsConfig": {
                "enabled": True,
                "enablePublicEndpoint": True,
                **endpoints.get("ipEndpointsConfig", {}),
            },
        },
    }


def _range(requested: str, base: str) -> str:
    """Return a range of the size `/14` at a base address; a full range as it is."""
    try:
        text = f"{base}{requested}" if requested.startswith("/") else requested
        return str(ipaddress.ip_network(text, strict=False))
    except ValueError as error:
        raise GoogleError(400, f"Invalid CIDR block: {error}.") from error
