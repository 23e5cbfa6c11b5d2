"""Where the local Google has machines: regions, zones, the forms of machine types.

Names only: which machine a zone really has, and what it costs, is not known here. A name that this
module refuses Google refuses too; one that it lets through may still not exist.
"""

import re

from rehearsal.google.http import GoogleError

_ABC = "abc"
ZONE_LETTERS = {
    **dict.fromkeys(
        (
            "africa-south1",
            "asia-east1",
            "asia-east2",
            "asia-northeast1",
            "asia-northeast2",
            "asia-northeast3",
            "asia-south1",
            "asia-south2",
            "asia-southeast1",
            "asia-southeast2",
            "australia-southeast1",
            "australia-southeast2",
            "europe-central2",
            "europe-north1",
            "europe-north2",
            "europe-southwest1",
            "europe-west2",
            "europe-west3",
            "europe-west4",
            "europe-west6",
            "europe-west8",
            "europe-west9",
            "europe-west10",
            "europe-west12",
            "me-central1",
            "me-central2",
            "me-west1",
            "northamerica-northeast1",
            "northamerica-northeast2",
            "northamerica-south1",
            "southamerica-east1",
            "southamerica-west1",
            "us-east4",
            "us-east5",
            "us-south1",
            "us-west1",
            "us-west2",
            "us-west3",
            "us-west4",
        ),
        _ABC,
    ),
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


def region_of(location: str) -> str:
    """The region of a zone or region.

    Raises:
        GoogleError: there is no such zone or region.
    """
    match = _ZONE.fullmatch(location)
    region = match["region"] if match else location
    if region not in ZONE_LETTERS or (match and match["letter"] not in ZONE_LETTERS[region]):
        raise GoogleError(400, f'Location "{location}" does not exist.')
    return region


def is_zone(location: str) -> bool:
    """Whether a location has the form of a zone's name."""
    return _ZONE.fullmatch(location) is not None


def zones_of(region: str) -> list[str]:
    """The zones of a region, or of a zone's region.

    Raises:
        GoogleError: there is no such region.
    """
    region = region_of(region)
    return [f"{region}-{letter}" for letter in ZONE_LETTERS[region]]


def cpus_of(machine_type: str, zone: str) -> int:
    """The number in a machine type's name: virtual CPUs, for accelerator machines accelerators.

    Raises:
        GoogleError: no machine type has a name of this form.
    """
    if machine_type in _SHARED_CORE:
        return _SHARED_CORE[machine_type]
    match = _PREDEFINED.fullmatch(machine_type) or _CUSTOM.fullmatch(machine_type)
    if match is None:
        sentence = f'Machine type with name "{machine_type}" does not exist in zone "{zone}".'
        raise GoogleError(400, sentence)
    return int(match[1])
