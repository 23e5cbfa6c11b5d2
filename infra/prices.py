"""Machine types and list prices, from infra/prices.yaml.

The gcp provider accepts an unknown machine type, which then fails minutes later on the cluster. A
new machine type is one line of the table. No discounts, spot prices or taxes.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml


@dataclass(frozen=True, slots=True)
class MachineType:
    """One machine type.

    Attributes:
        vcpus: hardware threads, at two threads per core.
        usd_per_hour: on demand, us-central1.
        local_ssd_counts: numbers of local SSDs of 375 GB that it can have besides 0.
        cpu_quota: Compute Engine's regional metric that its vCPUs count against.
    """

    vcpus: int
    usd_per_hour: float
    local_ssd_counts: tuple[int, ...] = ()
    cpu_quota: str = "CPUS"


PRICES: Mapping[str, Any] = yaml.safe_load(
    (Path(__file__).parent / "prices.yaml").read_text(encoding="utf-8")
)
"""infra/prices.yaml: every figure with its source and date."""

MACHINE_TYPES = {
    # The last number in each of these names is that of its vCPUs, also in c3-standard-22-lssd.
    name: MachineType(
        vcpus=int(re.findall(r"-(\d+)", name)[-1]),
        usd_per_hour=row["usd"],
        local_ssd_counts=tuple(row.get("local_ssds", ())),
        cpu_quota=row.get("cpu_quota", "CPUS"),
    )
    for name, row in PRICES["machine_types_per_hour"].items()
}
CLUSTER_USD_PER_HOUR: float = PRICES["cluster_per_hour"]["usd"]
"""GKE's management fee, the same for a zonal and a regional control plane."""
LOGS_USD_PER_GIB: float = PRICES["logs_per_gib"]["usd"]
LOGS_FREE_GIB = 50
"""Of a project and month."""
LOCAL_SSD_GB = 375
_NODES_BY_THE_HOUR = 32
"""Up to which Cloud NAT costs by the node; above, a gateway has one price."""
HOURS_PER_MONTH = 730
"""Google's own divisor from a month's price to an hour's."""


def usd_per_hour(
    machine_type: str,
    *,
    nodes: int = 1,
    disk_type: str = "pd-balanced",
    disk_gb: int = 100,
    ssds: int = 0,
    spot: bool = False,
    private: bool = False,
) -> float:
    """Return the list price of equal nodes, with disks and public addresses, in USD an hour.

    Spot nodes cost less, by a discount that changes daily; they are priced as on demand, but for
    their addresses. Private nodes have no address; `nat_usd` has what they cost instead.
    """
    row = "address_of_spot_per_hour" if spot else "address_per_hour"
    address = 0.0 if private else PRICES[row]["usd"]
    prices = PRICES["disks_per_gb_month"]
    disks = disk_gb * prices[disk_type]["usd"]
    local = ssds * LOCAL_SSD_GB * prices["local-ssd"]["usd"]
    return nodes * (
        MACHINE_TYPES[machine_type].usd_per_hour
        + float(disks + local) / HOURS_PER_MONTH
        + float(address)
    )


def nat_usd(nodes: int, hours: float, bytes_per_node: int) -> float:
    """Return what Cloud NAT costs private nodes: gateway, its one address, and traffic.

    Args:
        nodes: that use the gateway.
        hours: of its use.
        bytes_per_node: what each pulls; NAT costs for traffic in both directions.
    """
    gateway = PRICES["nat_per_hour"]
    hourly = gateway["most"] if nodes > _NODES_BY_THE_HOUR else gateway["node"]
    count = 1 if nodes > _NODES_BY_THE_HOUR else nodes
    traffic = nodes * bytes_per_node / 2**30 * PRICES["nat_per_gib"]["usd"]
    return float(hours * (count * hourly["usd"] + PRICES["address_per_hour"]["usd"]) + traffic)
