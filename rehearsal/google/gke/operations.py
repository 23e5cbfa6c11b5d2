"""GKE's long-running operations, which work on clusters."""

import logging
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from rehearsal.cluster.fleet import ClusterKey, FleetError
from rehearsal.google.faults import GoogleFaults
from rehearsal.google.gke.records import place_of
from rehearsal.google.http import GoogleError, now
from rehearsal.google.state import GoogleState, Json, Kind

_LOG = logging.getLogger(__name__)
_RESOURCE_EXHAUSTED = 8


@dataclass(frozen=True, slots=True)
class Task:
    """What an operation does."""

    operation_type: str
    """GKE's name, for example CREATE_CLUSTER."""
    key: ClusterKey
    target_link: str
    work: Callable[[], None]
    """Blocks; raises FleetError or GoogleError with the reason why it fails."""
    failed: Callable[[str], None]
    """Records that reason in the resource."""
    then: Callable[[], None] = lambda: None
    """Called once the operation is DONE."""


Start = Callable[[str, Callable[[], None]], None]
"""Starts the work of a named operation, and does not wait for its end."""


def in_thread(name: str, work: Callable[[], None]) -> None:
    """Work in a thread of this name (a Start)."""
    threading.Thread(target=work, name=name, daemon=True).start()


class Operations:
    """Starts operations; those of one cluster run one after the other."""

    def __init__(self, state: GoogleState, faults: GoogleFaults, start: Start = in_thread) -> None:
        self._state = state
        self._faults = faults
        self._start = start
        self._guard = threading.Lock()
        self._locks: dict[ClusterKey, threading.Lock] = {}

    def start(self, task: Task, base_url: str) -> Json:
        """Start an operation and return it."""
        key = task.key
        name = f"operation-{uuid.uuid4()}"
        operation = {
            "name": name,
            "operationType": task.operation_type,
            "status": "RUNNING",
            "startTime": now(),
            "zone": key.location,
            "location": key.location,
            "selfLink": f"{base_url}container/v1beta1/{place_of(key)}/operations/{name}",
            "targetLink": task.target_link,
        }
        full_name = _operation_name(key.project, key.location, name)
        self._state.put(Kind.OPERATION, full_name, operation)
        self._start(name, lambda: self._run(task, full_name))
        return operation

    def get(self, project: str, location: str, name: str) -> Json:
        """Return an operation; 404 if there is none of that name."""
        full_name = _operation_name(project, location, name)
        operation = self._state.get(Kind.OPERATION, full_name)
        if operation is None:
            raise GoogleError(404, f"Not found: {full_name}.")
        return operation

    def find(self, project: str, location: str) -> list[Json]:
        """Return the operations of a location, `-` for all."""
        where = "" if location == "-" else f"{location}/"
        return self._state.find(Kind.OPERATION, f"projects/{project}/locations/{where}")

    def running(self, key: ClusterKey) -> Iterator[Json]:
        """Give the operations that work on a cluster or on its pools."""
        end = f"/clusters/{key.name}"
        for operation in self.find(key.project, key.location):
            target = operation["targetLink"].partition("/nodePools/")[0]
            if operation["status"] == "RUNNING" and target.endswith(end):
                yield operation

    def refuse_if_busy(self, key: ClusterKey, pool: str = "") -> None:
        """Refuse a change of a cluster, or of one of its pools, that must wait for an operation.

        Operations on different pools run at once.
        """
        for operation in self.running(key):
            other = operation["targetLink"].partition("/nodePools/")[2]
            if not pool or other in {"", pool}:
                raise refused(f"Cluster is running incompatible operation {operation['name']}.")

    def lock_of(self, key: ClusterKey) -> threading.Lock:
        """Return the lock of a cluster's operations, always the same one."""
        with self._guard:
            return self._locks.setdefault(key, threading.Lock())

    def _run(self, task: Task, full_name: str) -> None:
        error = ""
        with self.lock_of(task.key):
            try:
                self._faults.work(task.operation_type, task.key)
                task.work()
            except (FleetError, GoogleError) as refused:
                error = str(refused)
            except Exception as bug:  # noqa: BLE001 (a client would wait 40 minutes for the end)
                _LOG.exception("operation %s failed", full_name)
                error = f"The local Google failed: {type(bug).__name__}: {bug}"
            if error:
                with suppress(GoogleError):  # what it was about may be deleted
                    task.failed(error)
            self._end(full_name, error)
        if not error:
            task.then()

    def _end(self, full_name: str, error: str) -> None:
        def change(operation: Json) -> None:
            operation["status"] = "DONE"
            operation["endTime"] = now()
            if error:
                # Clients of different age look at one or the other.
                operation["statusMessage"] = error
                operation["error"] = {"code": _RESOURCE_EXHAUSTED, "message": error}

        self._state.update(Kind.OPERATION, full_name, change)


def refused(sentence: str) -> GoogleError:
    """Return GKE's answer to a call that cannot be carried out in the present state."""
    return GoogleError(400, sentence, status="FAILED_PRECONDITION", reason="failedPrecondition")


def _operation_name(project: str, location: str, name: str) -> str:
    return f"projects/{project}/locations/{location}/operations/{name}"
