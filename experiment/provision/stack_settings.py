"""What a stack's settings say before it is up, and what infra knows of a cluster that is there.

Reads the copies of experiment.provision.stack_files; it calls neither Pulumi nor Google.
"""

import json
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import yaml

from experiment.errors import PlanError
from experiment.provision.google_api import ClusterState
from infra.cluster import kubeconfig
from infra.config import parse_settings
from infra.needs import StackNeeds, stack_needs
from infra.prices import CLUSTER_USD_PER_HOUR, LOCAL_SSD_GB, MACHINE_TYPES, usd_per_hour
from infra.program import cluster_usd_per_hour
from infra.settings import NAMESPACE
from schema.names import PROJECT_VARIABLE


@dataclass(frozen=True, slots=True)
class StackFacts:
    """What a stack's settings say before it is up."""

    project: str
    location: str
    cluster_name: str
    node_count: int
    machine_type: str
    disk_gb: int
    """Where a measured node unpacks images: its local SSDs, or else its boot disk."""
    usd_per_hour: float
    needs: StackNeeds
    """What it asks of Google before it can be made."""


def stack_facts(stack: str, work_dir: Path) -> StackFacts:
    """Read the settings of the stack's copy in a run's folder.

    Raises:
        infra.config.SettingsError: a setting breaks a rule.
        PlanError: the stack's file cannot be read.
    """
    path = work_dir / f"Pulumi.{stack}.yaml"
    try:
        config = (yaml.safe_load(path.read_text("utf-8")) or {}).get("config") or {}
    except (OSError, yaml.YAMLError, AttributeError) as error:
        raise PlanError(f"The stack file {path} cannot be read: {error}.", f"cat {path}") from None
    prefix = f"{NAMESPACE}:"
    values = {
        key.removeprefix(prefix): value if isinstance(value, str) else json.dumps(value)
        for key, value in config.items()
        if key.startswith(prefix)
    }
    project = str(config.get("gcp:project") or os.environ.get(PROJECT_VARIABLE, ""))
    settings = parse_settings(values, stack=stack, project=project, now=datetime.now(UTC))
    return StackFacts(
        project=settings.project,
        location=settings.location,
        cluster_name=settings.cluster_name,
        node_count=settings.node_count,
        machine_type=settings.machine_type,
        disk_gb=settings.local_ssd_count * LOCAL_SSD_GB or settings.disk_size_gb,
        usd_per_hour=cluster_usd_per_hour(settings),
        needs=stack_needs(settings),
    )


def price_of(cluster: ClusterState) -> float | None:
    """US dollars an hour of a cluster that is there, at list prices; None for unknown machines."""
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
    """Kubeconfig (YAML) of a cluster that is there; it holds no credential."""
    return kubeconfig(cluster.name, cluster.endpoint, cluster.authority)
