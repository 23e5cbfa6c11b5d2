"""A stack's settings before it is up, and what infra knows about a running cluster.

Reads the copies of experiment.provision.stack_files; calls neither Pulumi nor Google.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import yaml

from experiment.errors import PlanError
from experiment.provision.cluster_state import ClusterState
from infra.components.cluster import kubeconfig, nodes_account
from infra.components.expiry import EXPORT_FORMAT, LABEL_FORMAT, expiry_account
from infra.config import parse_settings
from infra.needs import StackNeeds, stack_needs
from infra.prices import (
    CLUSTER_USD_PER_HOUR,
    LOCAL_SSD_GB,
    LOGS_FREE_GIB,
    LOGS_USD_PER_GIB,
    MACHINE_TYPES,
    PRICES,
    nat_usd,
    usd_per_hour,
)
from infra.program import cluster_usd_per_hour
from infra.settings import NAMESPACE, Settings
from schema.names import PROJECT_VARIABLE
from schema.stack_outputs import StackOutputs


@dataclass(frozen=True, slots=True)
class StackFacts:
    """A stack's settings, as the runner needs them."""

    project: str
    location: str
    zones: tuple[str, ...]
    """In order of preference; all nodes are in the first."""
    cluster_name: str
    node_count: int
    machine_type: str
    disk_gb: int
    """Of a measured node, where images are unpacked: local SSDs, or else the boot disk."""
    disk: str
    """What holds a node's images: `local-ssd`, or the type of its boot disk."""
    streaming: bool
    """Image streaming is on."""
    preloaded: str
    """Disk image of the measured nodes' secondary boot disks, `projects/P/global/images/NAME`;
    empty for none."""
    remote_repository: str
    """Registry whose images are pulled through `remote_name`; empty for none."""
    remote_name: str
    """What replaces that registry in names of images."""
    parallel_unpacks: int
    """Layers that the measured nodes unpack at once; 0 for containerd's own choice."""
    flux_operator: bool
    """The stack installs the Flux Operator."""
    usd_per_hour: float
    """Of the cluster, and of Cloud NAT for private nodes."""
    usd_per_byte: float
    """Of what a node pulls through Cloud NAT; 0 for nodes with public addresses."""
    price_note: str
    """What these prices cover, and what they do not, in sentences."""
    deadline: str
    """When a new cluster is deleted: `after 12 hours` or `at 2026-11-25T03:00Z`."""
    deadline_chosen: bool
    """The stack's file sets deadlineHours or expiresAt."""
    needs: StackNeeds
    """What it requires of Google before it can be created."""


def stack_facts(stack: str, work_dir: Path, zones: Sequence[str] = ()) -> StackFacts:
    """Read the settings of a stack's file in a folder.

    Args:
        stack: its name.
        work_dir: has the file.
        zones: override those of the file, if not empty.

    Raises:
        infra.config.SettingsError: a setting is not valid.
        PlanError: the stack's file cannot be read.
    """
    path = work_dir / f"Pulumi.{stack}.yaml"
    try:
        config = (yaml.safe_load(path.read_text("utf-8")) or {}).get("config") or {}
    except (OSError, yaml.YAMLError, AttributeError) as error:
        raise PlanError(f"The stack file {path} cannot be read: {error}.", f"cat {path}") from error
    prefix = f"{NAMESPACE}:"
    values = {
        key.removeprefix(prefix): value if isinstance(value, str) else json.dumps(value)
        for key, value in config.items()
        if key.startswith(prefix)
    }
    if zones:
        values["zones"] = json.dumps(list(zones))
    project = str(config.get("gcp:project") or os.environ.get(PROJECT_VARIABLE, ""))
    settings = parse_settings(values, stack=stack, project=project, now=datetime.now(UTC))
    nat = nat_usd if settings.private_nodes else lambda *_: 0.0
    return StackFacts(
        project=settings.project,
        location=settings.location,
        zones=settings.zones,
        cluster_name=settings.cluster_name,
        node_count=settings.node_count,
        machine_type=settings.machine_type,
        disk_gb=settings.local_ssd_count * LOCAL_SSD_GB or settings.disk_size_gb,
        disk="local-ssd" if settings.local_ssd_count else settings.disk_type,
        streaming=settings.image_streaming,
        preloaded=settings.preloaded_disk,
        remote_repository=settings.remote_repository,
        remote_name=settings.pull_through_name,
        parallel_unpacks=settings.parallel_unpacks,
        flux_operator=settings.flux_operator_image != "",
        usd_per_hour=cluster_usd_per_hour(settings) + nat(settings.node_count, 1, 0),
        usd_per_byte=nat(1, 0, 2**30) / 2**30,
        price_note=_price_note(settings),
        deadline=_deadline(settings),
        deadline_chosen=bool({"deadline_hours", "expires_at"} & settings.model_fields_set),
        needs=stack_needs(settings),
    )


def _deadline(settings: Settings) -> str:
    if settings.expires_at is not None:
        return f"at {settings.expires_at:%Y-%m-%dT%H:%MZ}"
    return f"after {settings.deadline_hours} hours"


def _price_note(settings: Settings) -> str:
    network = "Cloud NAT with the study's bytes" if settings.private_nodes else "public addresses"
    disks = "the secondary boot disks, " if settings.preloaded_disk else ""
    stored = PRICES["registry_per_gb_month"]["usd"]
    cache = f"the remote repository's storage ({stored:.2f} USD a GB and month), "
    disks += cache if settings.remote_repository else ""
    archive = PRICES["archive_per_gb_month"]["usd"]
    return (
        f"List prices of nodes, disks, {network} and GKE's fee. Not included: {disks}logs above "
        f"{LOGS_FREE_GIB} GiB a month ({LOGS_USD_PER_GIB:.2f} USD a GiB), the archive of events "
        f"({archive:.2f} USD a GB and month, deleted objects for 7 more days), what a registry "
        "outside Google charges, discounts and taxes."
    )


def price_of(cluster: ClusterState) -> float | None:
    """Return a running cluster's list price in USD an hour; None for unknown machine types."""
    if any(pool.machine_type not in MACHINE_TYPES for pool in cluster.pools):
        return None
    pools = (
        usd_per_hour(
            pool.machine_type,
            nodes=pool.node_count,
            disk_type=pool.disk_type,
            disk_gb=pool.disk_gb,
            ssds=pool.local_ssds,
        )
        for pool in cluster.pools
    )
    return round(CLUSTER_USD_PER_HOUR + sum(pools), 2)


def cluster_kubeconfig(cluster: ClusterState) -> str:
    """Return the kubeconfig (YAML) of a running cluster; it holds no credential."""
    return kubeconfig(cluster.name, cluster.endpoint, cluster.authority)


def repository_path(name: str) -> str:
    """Return the API's name of a remote repository, from the one that images begin with."""
    if not name:
        return ""
    host, project, repository = name.split("/")
    region = host.removesuffix("-docker.pkg.dev")
    return f"projects/{project}/locations/{region}/repositories/{repository}"


def account_ids(stack: str) -> tuple[str, str]:
    """Return the ids of a stack's service accounts."""
    return nodes_account(stack), expiry_account(stack)


def label_deadline(label: str) -> datetime | None:
    """Return the time in a cluster's label `expires`; None if it is not one."""
    try:
        return datetime.strptime(label, LABEL_FORMAT).replace(tzinfo=UTC)
    except ValueError:
        return None


def exported_deadline(outputs: StackOutputs | None) -> datetime | None:
    """Return the time in a stack's export `expires_at`; None if there is none."""
    if not outputs or not outputs.expires_at:
        return None
    return datetime.strptime(outputs.expires_at, EXPORT_FORMAT).replace(tzinfo=UTC)
