"""Faults of Google's APIs: calls that are refused, operations that fail or never end.

Asked before each call and before each operation's work; what it raises is sent as Google would.
The sentences are Google's own, as users report them. A call or an operation with a fault changes
nothing.
"""

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus

from rehearsal.cluster.fleet import ClusterKey, FleetError
from rehearsal.faults.faults import NO_FAULTS, Fault, Faults
from rehearsal.google.compute import ZONE_LETTERS
from rehearsal.google.environment import PROJECT
from rehearsal.google.http import GoogleError, body_of
from rehearsal.google.state import GoogleState, Kind
from rehearsal.machine.web import Call

_NEW_PROJECT = {"CPUS_ALL_REGIONS": 12}
"""As users of new projects report it, some of them 32: "Quota 'CPUS_ALL_REGIONS' exceeded."."""
_NEW_REGION = {"CPUS": 24, "IN_USE_ADDRESSES": 8, "SSD_TOTAL_GB": 500}
"""https://github.com/hashicorp/terraform-provider-kubernetes/pull/354 (CPUS),
https://github.com/hashicorp/learn-terraform-provision-gke-cluster/issues/22 (SSD_TOTAL_GB)."""


class GoogleFaults:
    """The faults of the local Google; what is stuck ends with `ending`."""

    def __init__(self, faults: Faults = NO_FAULTS, ending: threading.Event | None = None) -> None:
        self._faults = faults
        self._ending = ending or threading.Event()

    def refuse(self, call: Call) -> None:
        """Raise GoogleError where a fault refuses the call."""
        fault = self._faults.inject(
            "google", about=partial(_is_about, call), call=f"{call.method} {call.url_path}"
        )
        if fault:
            raise _refusal(fault, call)

    def limit_quotas(self, state: GoogleState) -> None:
        """Give the project the quotas of a new one, if that is requested."""
        for fault in self._faults.of("new-project"):
            state.put(Kind.QUOTA, f"projects/{PROJECT}", _NEW_PROJECT)
            for region in ZONE_LETTERS:
                state.put(Kind.QUOTA, f"projects/{PROJECT}/regions/{region}", _NEW_REGION)
            self._faults.record(fault)

    def unlisted(self, created: datetime) -> tuple[bool, bool]:
        """Whether a list lacks a cluster created then, and whether it says so."""
        if self._faults.inject("list", how="zone"):
            return True, True
        age_s = (datetime.now(UTC) - created).total_seconds()
        late = self._faults.inject(
            "list", how="late", about=lambda fault: age_s < fault.number("s")
        )
        return late is not None, False

    def work(self, operation_type: str, key: ClusterKey) -> None:
        """Wait if an operation is stuck; raise FleetError, the operation's error, if it fails."""
        stuck = self._inject("stuck", operation_type, key)
        if stuck:
            self._ending.wait(stuck.number("s") or None)
        failed = self._inject("failed", operation_type, key)
        if failed:
            raise FleetError(failed.word("message") or _stock_out(key))

    def _inject(self, how: str, operation_type: str, key: ClusterKey) -> Fault | None:
        return self._faults.inject(
            "operation",
            how=how,
            about=lambda fault: fault.word("type") in {"", operation_type},
            operation=operation_type,
            cluster=key.name,
        )


def guarded(faults: GoogleFaults, guard: Callable[[Call], None]) -> Callable[[Call], None]:
    """Return a guard of routes (google.http.Endpoint.route) that injects faults first."""

    def refuse(call: Call) -> None:
        faults.refuse(call)
        guard(call)

    return refuse


def _is_about(call: Call, fault: Fault) -> bool:
    # The path's end: `clusters` is a cluster's creation and not that of a pool in it.
    path = fault.word("path")
    return fault.word("method") in {"", call.method} and call.url_path.endswith(path)


def _refusal(fault: Fault, call: Call) -> GoogleError:
    status = 403 if fault.how == "quota" else int(fault.number("status"))
    message = fault.word("message")
    if fault.how == "quota":
        # https://github.com/GoogleCloudPlatform/cloud-ops-sandbox/issues/44
        message = message or (
            'Insufficient regional quota to satisfy request: resource "CPUS": request requires '
            "'64.0' and is short '40.0'. project has a quota of '24.0' with '24.0' available. View "
            "and manage quotas at https://console.cloud.google.com/iam-admin/quotas?usage=USED"
            f"&project={call.path.get('project', 'P')}."
        )
    elif status == HTTPStatus.CONFLICT:
        message = message or f"Already exists: {_name(call)}."
    elif status == HTTPStatus.SERVICE_UNAVAILABLE:
        message = message or "The service is currently unavailable."
    return GoogleError(status, message or "An injected fault.", reason=fault.word("reason"))


def _name(call: Call) -> str:
    """Return the name of what a call would create, as GKE writes it."""
    path = call.url_path.partition("/projects/")[2]
    sent = body_of(call)
    body = sent.get("cluster") or sent.get("nodePool") or sent
    place = path.replace("/locations/", "/zones/")
    return f"projects/{place}/{body.get('name', '')}".rstrip("/")


def _stock_out(key: ClusterKey) -> str:
    # https://github.com/kubeflow/pipelines/issues/673,
    # https://github.com/tranquilitybase-io/tb-gcp/issues/589
    return (
        "Google Compute Engine: Not all instances running in IGM after 35.2s. Expected 4, running "
        "0, transitioning 4. Current errors: [ZONE_RESOURCE_POOL_EXHAUSTED]: The zone "
        f"'projects/{key.project}/zones/{key.location}' does not have enough resources available "
        "to fulfill the request. Try a different zone, or try again later."
    )
