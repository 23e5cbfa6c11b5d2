"""What Google Cloud offers, as far as settings are checked against it and clusters are priced.

Google has no offline list of these, and the gcp provider lets an unknown zone or machine type
through to a failure minutes later. Read off Google's public pages on the dates below; a new zone or
machine type is one line. It deliberately holds no discounts, spot prices or taxes.
"""

from dataclasses import dataclass

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


_N1_SSDS = (1, 2, 3, 4, 5, 6, 7, 8, 16, 24)
PRICES_SOURCE = (
    "us-central1, on demand, USD an hour: n1-standard-16 and n1-standard-64 are the original "
    "study's figures (2024-09); the others are Google's list prices by vCPU and GB "
    "(https://cloud.google.com/compute/vm-instance-pricing), n1 0.031611 and 0.004237, "
    "n2 0.031611 and 0.004237, e2 0.021812 and 0.002923, as known in 2026-06"
)
MACHINE_TYPES = {
    "n1-standard-2": MachineType(2, 0.0950, _N1_SSDS),
    "n1-standard-4": MachineType(4, 0.1900, _N1_SSDS),
    "n1-standard-8": MachineType(8, 0.3800, _N1_SSDS),
    "n1-standard-16": MachineType(16, 0.76, _N1_SSDS),
    "n1-standard-32": MachineType(32, 1.5200, _N1_SSDS),
    "n1-standard-64": MachineType(64, 3.03, _N1_SSDS),
    "n1-standard-96": MachineType(96, 4.5600, _N1_SSDS),
    "n2-standard-4": MachineType(4, 0.1942, (1, 2, 4, 8, 16, 24)),
    "n2-standard-8": MachineType(8, 0.3885, (1, 2, 4, 8, 16, 24)),
    "n2-standard-16": MachineType(16, 0.7769, (2, 4, 8, 16, 24)),
    "n2-standard-32": MachineType(32, 1.5539, (4, 8, 16, 24)),
    "n2-standard-64": MachineType(64, 3.1078, (8, 16, 24)),
    "e2-standard-2": MachineType(2, 0.0670),
    "e2-standard-4": MachineType(4, 0.1340),
    "e2-standard-8": MachineType(8, 0.2681),
    "e2-standard-16": MachineType(16, 0.5361),
}
CLUSTER_USD_PER_HOUR = 0.10
"""GKE's management fee (https://cloud.google.com/kubernetes-engine/pricing, 2026-06)."""
DISK_USD_PER_GB_MONTH = {"pd-standard": 0.04, "pd-balanced": 0.10, "pd-ssd": 0.17}
"""us-central1 (https://cloud.google.com/compute/disks-image-pricing, 2026-06)."""
LOCAL_SSD_USD_PER_GB_MONTH = 0.08
"""us-central1 (https://cloud.google.com/compute/disks-image-pricing, 2026-06)."""
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
    disks = disk_gb * DISK_USD_PER_GB_MONTH[disk_type]
    local = ssds * LOCAL_SSD_GB * LOCAL_SSD_USD_PER_GB_MONTH
    return nodes * (MACHINE_TYPES[machine_type].usd_per_hour + (disks + local) / HOURS_PER_MONTH)
