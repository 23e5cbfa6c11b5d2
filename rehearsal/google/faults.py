"""Faults of Google's APIs: calls that are refused out of turn, operations that fail or never end.

It is asked before each call and before each operation's work; what it raises goes out as Google
would send it. The sentences are Google's own, as users report them. Nothing real is done by a call
or an operation that a fault struck.
"""

import threading
from collections.abc import Callable
from functools import partial

from rehearsal.cluster.fleet import ClusterKey, FleetError
from rehearsal.faults.faults import NO_FAULTS, Fault, Faults
from rehearsal.google.http import Call, GoogleError

_STATUS = {"google-conflict": 409, "google-quota": 403, "google-unavailable": 503}


class GoogleFaults:
    """What strikes the local Google.

    Args:
        faults: that were asked for.
        ending: what is stuck for ever ends with it.
    """

    def __init__(self, faults: Faults = NO_FAULTS, ending: threading.Event | None = None) -> None:
        self._faults = faults
        self._ending = ending or threading.Event()

    def refuse(self, call: Call) -> None:
        """Let a call pass.

        Raises:
            GoogleError: a fault strikes it.
        """
        for name in (*_STATUS, "google-error"):
            fault = self._faults.strike(
                name, about=partial(_is_about, call), call=f"{call.method} {call.url_path}"
            )
            if fault:
                raise _refusal(fault, call)

    def work(self, operation_type: str, key: ClusterKey) -> None:
        """Let an operation's work begin, after a while where it is stuck.

        Raises:
            FleetError: a fault strikes it; the sentence becomes the operation's error.
        """
        struck = self._strike_operation("google-stuck", operation_type, key)
        if struck:
            self._ending.wait(struck.number("s") or None)
        struck = self._strike_operation("google-operation-failed", operation_type, key)
        if struck:
            raise FleetError(struck.word("message") or _stock_out(key))

    def archive_delay_s(self) -> float:
        """How long after a cluster's deletion the log sinks write."""
        fault = self._faults.strike("sink-late")
        return fault.number("s") if fault else 0.0

    def _strike_operation(self, name: str, operation_type: str, key: ClusterKey) -> Fault | None:
        return self._faults.strike(
            name,
            about=lambda fault: fault.word("type") in {"", operation_type},
            operation=operation_type,
            cluster=key.name,
        )


def guarded(faults: GoogleFaults, guard: Callable[[Call], None]) -> Callable[[Call], None]:
    """A guard of routes (google_http.Endpoint.route) that faults come before."""

    def refuse(call: Call) -> None:
        faults.refuse(call)
        guard(call)

    return refuse


def _is_about(call: Call, fault: Fault) -> bool:
    # The path's end: `clusters` is a cluster's creation and not that of a pool in it.
    path = fault.word("path")
    return fault.word("method") in {"", call.method} and call.url_path.endswith(path)


def _refusal(fault: Fault, call: Call) -> GoogleError:
    message = fault.word("message") or _sentence(fault, call)
    if fault.name == "google-error":
        return GoogleError(int(fault.number("status")), message, reason=fault.word("reason"))
    return GoogleError(_STATUS[fault.name], message)


def _sentence(fault: Fault, call: Call) -> str:
    project = call.path.get("project", "P")
    sentences = {
        "google-conflict": f"Already exists: {_named(call)}.",
        # https://github.com/GoogleCloudPlatform/cloud-ops-sandbox/issues/44
        "google-quota": (
            'Insufficient regional quota to satisfy request: resource "CPUS": request requires '
            "'64.0' and is short '40.0'. project has a quota of '24.0' with '24.0' available. View "
            "and manage quotas at "
            f"https://console.cloud.google.com/iam-admin/quotas?usage=USED&project={project}."
        ),
        "google-unavailable": "The service is currently unavailable.",
    }
    return sentences.get(fault.name, "A fault was asked for.")


def _named(call: Call) -> str:
    """What a call would make, as GKE writes it."""
    path = call.url_path.partition("/projects/")[2]
    body = call.body.get("cluster") or call.body.get("nodePool") or call.body
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
