"""What a project finds where: zones, machine types, disk images, network, account, Scheduler.

Everything exists but for what `_WITHOUT_N1` and `WITHOUT_SCHEDULER` name. To take something away,
put an ABSENT resource of its name, such as `projects/P/global/networks/default` or
`zones/Z/machineTypes/n1-standard-16`, into the state.
"""

from rehearsal.google.collections import default_account
from rehearsal.google.compute import ZONE_LETTERS, cpus_of, is_zone, region_of
from rehearsal.google.http import Endpoint, GoogleError
from rehearsal.google.state import GoogleState, Json, Kind
from rehearsal.machine.web import Call

_WITHOUT_N1 = {"europe-north2", "northamerica-south1"}
"""Regions without a price for N1 in Google's price list (Cyclenerd/google-cloud-pricing-cost-
calculator, pricing.yml, 2025-03)."""
WITHOUT_SCHEDULER = {"northamerica-south1", "southamerica-west1"}
"""Regions that https://cloud.google.com/scheduler/docs/locations does not list, 2026."""
_PLATFORMS = [
    "Intel Cascade Lake",
    "Intel Ice Lake",
    "Intel Broadwell",
    "Intel Haswell",
    "Intel Skylake",
]


def check_machine(state: GoogleState, zone: str, config: Json) -> None:
    """Refuse nodes of a machine type or on a CPU platform that a zone does not have."""
    name, platform = config["machineType"], config.get("minCpuPlatform")
    if not _has_machine_type(state, zone, name):
        sentence = f'Machine type with name "{name}" does not exist in zone "{zone}".'
        raise GoogleError(400, sentence)
    if platform and platform not in _PLATFORMS:
        # https://github.com/poseidon/typhoon/issues/438
        raise GoogleError(
            400,
            f"Invalid value for field 'resource.minCpuPlatform': '{platform}'. CPU platform "
            "unavailable in requested zone. Valid options for this zone are: "
            f"{', '.join(_PLATFORMS)}.",
        )


def _has_machine_type(state: GoogleState, zone: str, name: str) -> bool:
    if name.startswith("n1-") and region_of(zone) in _WITHOUT_N1:
        return False
    return state.get(Kind.ABSENT, f"zones/{zone}/machineTypes/{name}") is None


class Places:
    """Reads of Compute Engine, IAM and Cloud Scheduler that answer what exists where."""

    def __init__(self, state: GoogleState) -> None:
        self._state = state

    def routes(self) -> list[Endpoint]:
        """Return the endpoints."""
        project = "/compute/beta/projects/{project}"
        zone = f"{project}/zones/{{zone}}"
        account = r"{account:\d+-compute@developer\.gserviceaccount\.com}"
        return [
            Endpoint("GET", zone, self._zone),
            Endpoint("GET", f"{zone}/machineTypes/{{type}}", self._machine_type),
            Endpoint("GET", f"{project}/global/images/{{image}}", self._image),
            Endpoint("GET", f"{project}/global/networks/{{network}}", self._network),
            Endpoint("GET", f"/iam/v1/projects/{{project}}/serviceAccounts/{account}",
                     self._account),
            Endpoint("GET", "/scheduler/v1/projects/{project}/locations", self._locations),
        ]  # fmt: skip

    def _zone(self, call: Call) -> Json:
        zone = _known_zone(call)
        return {
            "kind": "compute#zone",
            "name": zone,
            "region": f"regions/{region_of(zone)}",
            "status": "UP",
            "availableCpuPlatforms": _PLATFORMS,
        }

    def _machine_type(self, call: Call) -> Json:
        zone, name = _known_zone(call), call.path["type"]
        if not _has_machine_type(self._state, zone, name):
            raise _not_found(f"projects/{call.path['project']}/zones/{zone}/machineTypes/{name}")
        return {
            "kind": "compute#machineType",
            "name": name,
            "zone": zone,
            "guestCpus": cpus_of(name, zone),
        }

    def _image(self, call: Call) -> Json:
        """Return a disk image; an IMAGE resource in the state changes fields of it."""
        name = f"projects/{call.path['project']}/global/images/{call.path['image']}"
        if self._is_absent(name):
            raise _not_found(name)
        changed = self._state.get(Kind.IMAGE, name) or {}
        return {
            "kind": "compute#image",
            "name": call.path["image"],
            "status": "READY",
            "diskSizeGb": "50",
            **changed,
        }

    def _network(self, call: Call) -> Json:
        name = f"projects/{call.path['project']}/global/networks/{call.path['network']}"
        if call.path["network"] != "default" or self._is_absent(name):
            raise _not_found(name)
        return {"kind": "compute#network", "name": "default", "autoCreateSubnetworks": True}

    def _account(self, call: Call) -> Json:
        project, email = call.path["project"], call.path["account"]
        name = f"projects/{project}/serviceAccounts/{email}"
        if email != default_account(project) or self._is_absent(name):
            raise GoogleError(404, f"Unknown service account {email}")
        changed = self._state.get(Kind.SERVICE_ACCOUNT, name) or {}
        return {"name": name, "projectId": project, "email": email, **changed}

    def _locations(self, call: Call) -> Json:
        project = call.path["project"]
        return {
            "locations": [
                {"name": f"projects/{project}/locations/{region}", "locationId": region}
                for region in ZONE_LETTERS
                if region not in WITHOUT_SCHEDULER
            ]
        }

    def _is_absent(self, name: str) -> bool:
        return self._state.get(Kind.ABSENT, name) is not None


def _known_zone(call: Call) -> str:
    zone = call.path["zone"]
    try:
        region_of(zone)
    except GoogleError as error:
        raise _not_found(f"projects/{call.path['project']}/zones/{zone}") from error
    if not is_zone(zone):
        raise _not_found(f"projects/{call.path['project']}/zones/{zone}")
    return zone


def _not_found(what: str) -> GoogleError:
    return GoogleError(404, f"The resource '{what}' was not found")
