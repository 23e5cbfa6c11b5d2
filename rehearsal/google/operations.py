"""GKE's long-running operations: work that goes on in a thread after the answer was given.

An operation that the server's death cut short is ended with an error when the next server starts:
half-made clusters are seen as such, never as running.
"""

import logging
import threading
import uuid
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from rehearsal.cluster.fleet import ClusterKey, FleetError
from rehearsal.google.faults import GoogleFaults
from rehearsal.google.http import GoogleError
from rehearsal.google.places import is_zone
from rehearsal.google.state import GoogleState, Json, Kind

_LOG = logging.getLogger(__name__)
_RESOURCE_EXHAUSTED = 8


def now() -> str:
    """The time, as Google writes it."""
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


@dataclass(frozen=True, slots=True)
class Task:
    """What an operation does.

    Attributes:
        operation_type: GKE's name, for example CREATE_CLUSTER.
        key: the cluster that is worked on.
        target_link: URL of what is worked on.
        work: does it; blocks; raises FleetError or GoogleError with the reason why it cannot.
        failed: records the reason in the resource.
    """

    operation_type: str
    key: ClusterKey
    target_link: str
    work: Callable[[], None]
    failed: Callable[[str], None]


class Operations:
    """Starts operations and tells of them. Work on one cluster is done in turn."""

    def __init__(self, state: GoogleState, faults: GoogleFaults) -> None:
        self._state = state
        self._faults = faults
        self._turns: dict[ClusterKey, threading.Lock] = defaultdict(threading.Lock)

    def start(self, task: Task, base_url: str) -> Json:
        """Begin, and answer with the running operation."""
        key = task.key
        name = f"operation-{uuid.uuid4()}"
        where = "zones" if is_zone(key.location) else "locations"
        parent = f"projects/{key.project}/{where}/{key.location}"
        operation = {
            "name": name,
            "operationType": task.operation_type,
            "status": "RUNNING",
            "startTime": now(),
            "zone": key.location,
            "location": key.location,
            "selfLink": f"{base_url}container/v1beta1/{parent}/operations/{name}",
            "targetLink": task.target_link,
        }
        full_name = _full_name(key.project, key.location, name)
        self._state.put(Kind.OPERATION, full_name, operation)
        thread = threading.Thread(target=self._run, args=(task, full_name), name=name, daemon=True)
        thread.start()
        return operation

    def get(self, project: str, location: str, name: str) -> Json:
        """One operation.

        Raises:
            GoogleError: there is none of that name.
        """
        operation = self._state.get(Kind.OPERATION, _full_name(project, location, name))
        if operation is None:
            raise GoogleError(404, f"Not found: {_full_name(project, location, name)}.")
        return operation

    def running(self, key: ClusterKey) -> Json | None:
        """An operation that is at work on a cluster, None if there is none."""
        end = f"/clusters/{key.name}"
        for operation in self._state.find(Kind.OPERATION, _full_name(key.project, key.location)):
            target = operation["targetLink"].partition("/nodePools/")[0]
            if operation["status"] == "RUNNING" and target.endswith(end):
                return operation
        return None

    def end_interrupted(self, reason: str) -> None:
        """End what a former server left running; call it before this one starts anything."""
        for operation in self._state.find(Kind.OPERATION):
            if operation["status"] == "RUNNING":
                project = operation["targetLink"].partition("/projects/")[2].partition("/")[0]
                name = _full_name(project, operation["location"], operation["name"])
                self._end(name, reason)

    def _run(self, task: Task, full_name: str) -> None:
        error = ""
        with self._turns[task.key]:
            try:
                self._faults.work(task.operation_type, task.key)
                task.work()
            except (FleetError, GoogleError) as refused:
                error = str(refused)
            except Exception as bug:  # noqa: BLE001 (a client would wait 40 minutes for the end)
                _LOG.exception("operation %s failed", full_name)
                error = f"The local Google failed: {type(bug).__name__}: {bug}"
            if error:
                with suppress(GoogleError):  # what it was about may be gone
                    task.failed(error)
            self._end(full_name, error)

    def _end(self, full_name: str, error: str) -> None:
        def change(operation: Json) -> None:
            operation["status"] = "DONE"
            operation["endTime"] = now()
            if error:
                # Clients of different age look at one or the other.
                operation["statusMessage"] = error
                operation["error"] = {"code": _RESOURCE_EXHAUSTED, "message": error}

        self._state.update(Kind.OPERATION, full_name, change)


def _full_name(project: str, location: str, name: str = "") -> str:
    return f"projects/{project}/locations/{location}/operations/{name}"
