"""Calls about one GKE cluster and its node pools that start operations."""

from collections.abc import Callable, Mapping
from typing import Any

from rehearsal.pulumi.providers.gcp_kind import CreatedBrokenError, Pattern
from rehearsal.pulumi.providers.google_rest import ApiError, GoogleApi, Json, OperationError

NAME = Pattern(
    "[a-z]([a-z0-9-]{0,38}[a-z0-9])?",
    "up to 40 lower-case letters, digits and hyphens, beginning with a letter and not ending "
    "with a hyphen",
)
_RESTING = frozenset({"RUNNING", "ERROR", "DEGRADED", "RUNNING_WITH_ERROR"})
_BROKEN = frozenset({"ERROR", "RUNNING_WITH_ERROR"})
_INCOMPATIBLE = "incompatible operation"
_BUSY_PAUSE_S = 0.5


class Gke:
    """One cluster.

    Args:
        api: the way to Google.
        cluster: full name, projects/P/locations/L/clusters/NAME.
    """

    def __init__(self, api: GoogleApi, cluster: str) -> None:
        self._api = api
        self.cluster = cluster
        self.parent = cluster.partition("/clusters/")[0]

    def refuse_existing(self, path: str) -> None:
        """What is there already is not taken over.

        Raises:
            ApiError: there is a cluster or pool of this full name.
        """
        if self._api.find("container", path) is not None:
            raise ApiError(409, f"Already exists: {path}.", "alreadyExists")

    def created(self, path: str, make: Callable[[], None]) -> str:
        """Run the calls that make a cluster or pool; its full name.

        Raises:
            CreatedBrokenError: it is there, but an operation failed or its state is an error.
        """
        try:
            make()
        except OperationError as error:
            if self._api.find("container", path) is None:
                raise
            raise CreatedBrokenError(path, str(error)) from error
        status = self.at_rest(path)
        if status in _BROKEN:
            raise CreatedBrokenError(path, f'{path} was created in the error state "{status}"')
        return path

    def change(
        self, method: str, path: str, body: Mapping[str, Any] | None, waited_for: str
    ) -> None:
        """A call and its operation; again while GKE is busy with another one.

        Raises:
            ApiError: GKE refuses the call.
            OperationError: the operation failed.
        """

        def call() -> Json:
            return self._api.call("container", method, path, body=body)

        self._finish(call, waited_for)

    def update(self, desired: Mapping[str, Any], waited_for: str) -> None:
        """A PUT of the cluster with one `desired...` field.

        Raises:
            ApiError: GKE refuses the call.
            OperationError: the operation failed.
        """
        self.change("PUT", self.cluster, {"update": desired}, waited_for)

    def remove(self, path: str, waited_for: str) -> None:
        """Delete a cluster or pool, after whatever is going on with it.

        Raises:
            ApiError: GKE refuses the call.
            OperationError: the operation failed.
        """
        if self.at_rest(path) is not None:
            self._finish(
                lambda: self._api.remove("container", path) or {"status": "DONE"}, waited_for
            )

    def _finish(self, call: Callable[[], Json], waited_for: str) -> None:
        operation = self._patiently(call, waited_for)
        self._api.wait("container", operation, self._operation, waited_for)

    def _operation(self, name: str) -> str:
        return f"{self.parent}/operations/{name.rpartition('/')[2]}"

    def _patiently(self, call: Callable[[], Json], waited_for: str) -> Json:
        while True:
            try:
                return call()
            except ApiError as error:
                if _INCOMPATIBLE not in error.said:
                    raise
            self._api.pause(_BUSY_PAUSE_S, waited_for)

    def at_rest(self, path: str) -> str | None:
        """Wait until a cluster or pool is in no transition; its status, None if it is gone."""
        pause = 0.1
        while True:
            body = self._api.find("container", path)
            status = None if body is None else str(body.get("status", "RUNNING"))
            if status is None or status in _RESTING:
                return status
            self._api.pause(pause, f"{path} to leave the state {status}")
            pause = min(pause * 1.5, self._api.config.poll_s())
