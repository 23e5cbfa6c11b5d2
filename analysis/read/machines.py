"""Prices of machines, and the limits of their network, disk and processor.

Prices are those of stacks (infra/prices.yaml has sources and dates). Limits are published figures,
not measurements; each names its source. A machine that is not listed has no price.
"""

from functools import cache
from pathlib import Path

import yaml

PRICES = Path(__file__).parents[2] / "infra" / "prices.yaml"


@cache
def usd_per_hour(machine_type: str) -> float | None:
    """Return the list price of one machine in USD, on demand, in us-central1; None if unknown."""
    listed = yaml.safe_load(PRICES.read_text("utf-8"))["machine_types_per_hour"].get(machine_type)
    return None if listed is None else float(listed["usd"])


NETWORK_BYTES_PER_S = {
    "n1-standard-4": 10e9 / 8,
    "n1-standard-8": 16e9 / 8,
    "n1-standard-16": 32e9 / 8,
    "n1-standard-32": 32e9 / 8,
    "n1-standard-64": 32e9 / 8,
    "n2-standard-16": 32e9 / 8,
    "n2-standard-32": 32e9 / 8,
    "n2-standard-64": 32e9 / 8,
    "e2-standard-16": 16e9 / 8,
}
"""Maximum egress of the machine type; ingress has no higher guarantee
(https://cloud.google.com/compute/docs/network-bandwidth)."""

DISK_BYTES_PER_S = 168 * 2**20
"""Writing to a boot disk of 100 GB pd-balanced, GKE's default: 140 MiB/s for any such disk and
0.28 MiB/s a GB (https://cloud.google.com/compute/docs/disks/performance)."""

GUNZIP_BYTES_PER_S = 400e6
"""Output of gunzip on one core: containerd unpacks one layer after the other, on one core. An order
of magnitude: zlib's inflate gives 250 to 600 MB/s, most for zeros."""
