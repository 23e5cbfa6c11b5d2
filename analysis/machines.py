"""What machines cost and where their limits are: the roofs that a pull runs under.

Prices are of us-central1, on demand, in USD an hour; n1-standard-16 and n1-standard-64 are the
original study's own figures (2024-09). Limits are the makers' figures, not measurements; each says
its source. A machine that is not listed has no price, and the page says so.
"""

USD_PER_HOUR = {
    "n1-standard-4": 0.19,
    "n1-standard-8": 0.38,
    "n1-standard-16": 0.76,
    "n1-standard-32": 1.52,
    "n1-standard-64": 3.03,
    "n2-standard-16": 0.7769,
    "n2-standard-32": 1.5539,
    "n2-standard-64": 3.1078,
    "e2-standard-16": 0.5361,
}

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
"""Highest egress of the machine type; ingress is not promised to be more
(https://cloud.google.com/compute/docs/network-bandwidth)."""

DISK_BYTES_PER_S = 168 * 2**20
"""Writing to a boot disk of 100 GB pd-balanced, GKE's default: 140 MiB/s for any such disk and
0.28 MiB/s a GB (https://cloud.google.com/compute/docs/disks/performance)."""

GUNZIP_BYTES_PER_S = 400e6
"""Bytes that one core of gunzip gives: containerd unpacks layer after layer, one core each. An
order of magnitude: zlib's inflate gives 250 to 600 MB/s, most for zeros."""
