"""What Google Cloud offers, as far as settings are checked against it and clusters are priced.

Google has no offline list of these, and the gcp provider lets an unknown zone or machine type
through to a failure minutes later. Zones are below, prices in infra/prices.yaml; a new zone or
machine type is one line. It deliberately holds no discounts, spot prices or taxes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ZONES_SOURCE = "https://cloud.google.com/compute/docs/regions-zones, as known in 2026-06"
_ZONE_LETTERS = {
    "africa-south1": "abc",
    "asia-east1": "abc",
    "asia-east2": "abc",
    "asia-northeast1": "abc",
    "asia-northeast2": "abc",
    "asia-northeast3": "abc",
    "asia-south1": "abc",
    "asia-south2": "abc",
    "asia-southeast1": "abc",
    "asia-southeast2": "abc",
    "australia-southeast1": "abc",
    "australia-southeast2": "abc",
    "europe-central2": "abc",
    "europe-north1": "abc",
    "europe-north2": "abc",
    "europe-southwest1": "abc",
    "europe-west1": "bcd",
    "europe-west10": "abc",
    "europe-west12": "abc",
    "europe-west2": "abc",
    "europe-west3": "abc",
    "europe-west4": "abc",
    "europe-west6": "abc",
    "europe-west8": "abc",
    "europe-west9": "abc",
    "me-central1": "abc",
    "me-central2": "abc",
    "me-west1": "abc",
    "northamerica-northeast1": "abc",
    "northamerica-northeast2": "abc",
    "northamerica-south1": "abc",
    "southamerica-east1": "abc",
    "southamerica-west1": "abc",
    "us-central1": "abcf",
    "us-east1": "bcd",
    "us-east4": "abc",
    "us-east5": "abc",
    "us-south1": "abc",
    "us-west1": "abc",
    "us-west2": "abc",
    "us-west3": "abc",
    "us-west4": "abc",
}
REGIONS = frozenset(_ZONE_LETTERS)
ZONES = frozenset(
    f"{region}-{letter}" for region, letters in _ZONE_LETTERS.items() for letter in letters
)


@dataclass(frozen=True, slots=True)
class MachineType:
    """One machine type.

    Attributes:
        vcpus: hardware threads, at two threads per core.
        usd_per_hour: on demand, us-central1.
        local_ssd_counts: numbers of local SSDs of 375 GB that it takes besides 0.
    """

    vcpus: int
    usd_per_hour: float
    local_ssd_counts: tuple[int, ...] = ()


PRICES: Mapping[str, Any] = yaml.safe_load(
    (Path(__file__).parent / "prices.yaml").read_text(encoding="utf-8")
)
"""infra/prices.yaml: every figure with its source and date."""

_N1_SSDS = (1, 2, 3, 4, 5, 6, 7, 8, 16, 24)
_LOCAL_SSDS = {
    **{f"n1-standard-{vcpus}": _N1_SSDS for vcpus in (2, 4, 8, 16, 32, 64, 96)},
    "n2-standard-4": (1, 2, 4, 8, 16, 24),
    "n2-standard-8": (1, 2, 4, 8, 16, 24),
    "n2-standard-16": (2, 4, 8, 16, 24),
    "n2-standard-32": (4, 8, 16, 24),
    "n2-standard-64": (8, 16, 24),
}
"""https://cloud.google.com/compute/docs/disks/local-ssd, as known in 2026-06."""
MACHINE_TYPES = {
    # Every one of these names ends in its number of vCPUs.
    name: MachineType(int(name.rpartition("-")[2]), price["usd"], _LOCAL_SSDS.get(name, ()))
    for name, price in PRICES["machine_types_per_hour"].items()
}
CLUSTER_USD_PER_HOUR: float = PRICES["cluster_per_hour"]["usd"]
"""GKE's management fee, the same for a zonal and a regional control plane."""
LOCAL_SSD_GB = 375
HOURS_PER_MONTH = 730
"""By which Google turns a month's price into an hour's."""


def usd_per_hour(
    machine_type: str,
    *,
    nodes: int = 1,
    disk_type: str = "pd-balanced",
    disk_gb: int = 100,
    ssds: int = 0,
) -> float:
    """List price of some equal nodes, with boot disks and local SSDs, in USD an hour.

    Spot nodes cost less, by a discount that changes daily: their price here is the list price.
    """
    prices = PRICES["disks_per_gb_month"]
    disks = disk_gb * prices[disk_type]["usd"]
    local = ssds * LOCAL_SSD_GB * prices["local-ssd"]["usd"]
    return nodes * (
        MACHINE_TYPES[machine_type].usd_per_hour + float(disks + local) / HOURS_PER_MONTH
    )
