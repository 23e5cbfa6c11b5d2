"""A stack's cluster as GKE has it: found, waited for, deleted. Pulumi's state is not asked."""

from collections.abc import Callable

from experiment.errors import Failure, OwnershipError, RunError
from experiment.provision.cluster_state import ClusterState
from experiment.provision.google_api import GoogleApi
from experiment.terminal.progress import Say
from experiment.waiting import Clock, wait_until
from schema.names import PROJECT_LABEL

_SETTLES_S = 1200.0
"""Longest wait for GKE to end its work on a cluster. A resize of a zonal control plane takes some
minutes (hashicorp/terraform-provider-google issues 3385 and 7823); an upgrade up to a quarter of an
hour."""
_DELETION_ACCEPTED_S = 600.0
_LONGEST_PAUSE_S = 30.0


class GkeCluster:
    """The cluster of one stack in one project.

    Args:
        api: of the project.
        stack: its name, in the cluster's labels.
        name: of the cluster.
        location: zone or region where the stack's settings put it.
        usd_per_hour: its list price.
        say: shows progress.
        clock: for waits.
    """

    def __init__(  # noqa: PLR0917
        self,
        api: GoogleApi,
        stack: str,
        name: str,
        location: str,
        usd_per_hour: float,
        say: Say,
        clock: Clock,
    ) -> None:
        self._api = api
        self._stack = stack
        self._name = name
        self._location = location
        self._usd_per_hour = usd_per_hour
        self._say = say
        self._clock = clock

    def find(self) -> ClusterState | None:
        """Return the stack's cluster, in whichever location it is; None if there is none.

        Raises:
            OwnershipError: a cluster of this name in the stack's location is not this program's.
            RunError: Google refused or did not answer.
        """
        found = self._api.find(self._location, self._name)
        if found is not None and not self._is_ours(found):
            raise OwnershipError(
                f"The cluster {found.name} in {found.location} has the name that the stack "
                f"{self._stack} needs, but not its labels; it was left alone.",
                f"use another project or zone, or {self.delete_command()}",
            )
        return found or next(iter(self._elsewhere()), None)

    def settled(self) -> ClusterState | None:
        """Wait while GKE works on the cluster, at most 20 minutes; return it as it then is.

        Raises:
            OwnershipError: as `find`.
            RunError: Google refused, or did not answer to the end.
        """
        found: ClusterState | None = None
        problem: RunError | None = None
        shown = ""

        def is_settled() -> bool:
            nonlocal found, problem, shown
            try:
                found, problem = self.find(), None
                doing = self._doing(found)
            except RunError as error:
                if error.failure is not Failure.PROVIDER_ERROR:
                    raise
                problem, doing = error, error.problem
            if doing and doing != shown:
                self._say(f"waiting until GKE is done, up to {_SETTLES_S / 60:.0f} min: {doing}")
            shown = doing
            return not doing

        wait_until(is_settled, _SETTLES_S, 2.0, self._clock, longest_pause_s=_LONGEST_PAUSE_S)
        if problem is not None:
            raise problem
        return found

    def delete(self) -> None:
        """Delete the cluster with all its nodes by the GKE API alone; wait until it is deleted.

        Raises:
            OwnershipError: as `find`.
            RunError: it still exists, or Google refused.
        """
        found = self.find()
        if found is None:
            return
        problem: RunError | None = None

        def is_accepted() -> bool:
            nonlocal problem
            try:
                self._api.begin_deletion(found.location, found.name)
            except RunError as error:  # GKE refuses during another operation on the cluster
                problem = error
                return error.failure is not Failure.PROVIDER_ERROR
            problem = None
            return True

        wait_until(
            is_accepted, _DELETION_ACCEPTED_S, 5.0, self._clock, longest_pause_s=_LONGEST_PAUSE_S
        )
        if problem is not None:
            raise problem
        self._api.await_deletion(found.location, found.name, self._clock)

    def left(self) -> str:
        """Return what still exists and what it costs, as a clause; empty for nothing."""
        price = f"{self._usd_per_hour:.2f} USD an hour"
        try:
            left = self.find()
        except RunError as error:
            why = error.problem.rstrip(".")
            return (
                f"whether the cluster {self._name} exists is unknown ({why}); it costs about "
                f"{price} while it does"
            )
        if left is None:
            return ""
        return (
            f"the cluster {left.name} in {left.location} exists ({left.status}) and costs about "
            f"{price}"
        )

    def delete_command(self) -> str:
        """Return the command that deletes the cluster without Pulumi."""
        return (
            f"gcloud container clusters delete {self._name} --location {self._location} "
            f"--project {self._api.project}"
        )

    def _doing(self, found: ClusterState | None) -> str:
        """What GKE does with the cluster, for the user; empty if it is at rest, broken or none."""
        if found is None or found.broken:
            return ""
        operations = self._api.running_operations(found.location, found.name)
        if not operations and not found.changing:
            return ""
        return f"the cluster {found.name} is {found.status}" + (
            f", with {' and '.join(operations)} running" if operations else ""
        )

    def _elsewhere(self) -> list[ClusterState]:
        """Clusters of the stack in other locations; each asked for, since lists may lag behind."""
        listed = [
            each
            for each in self._api.clusters()
            if each.name == self._name and each.location != self._location and self._is_ours(each)
        ]
        asked = (self._api.find(each.location, each.name) for each in listed)
        return [found for found in asked if found is not None]

    def _is_ours(self, found: ClusterState) -> bool:
        labels = {"project": PROJECT_LABEL, "stack": self._stack}
        return labels.items() <= found.labels.items()


def persist(
    action: Callable[[], None],
    lasting_s: float,
    say: Say,
    clock: Clock,
) -> RunError | None:
    """Carry out an action until it succeeds; return the last error, None for success.

    Args:
        action: raises RunError where it fails.
        lasting_s: how long failures that may pass are met with another try, with growing pauses.
        say: shows each failure.
        clock: for the pauses.

    Raises:
        OwnershipError: another program's or process's; it is not tried again.
    """
    problem: RunError | None = None

    def is_done() -> bool:
        nonlocal problem
        try:
            action()
        except OwnershipError:
            raise
        except RunError as error:
            final = error.failure in {Failure.PERMISSION, Failure.API_OFF}
            if not final and (problem is None or error.problem != problem.problem):
                say(f"{error.problem} Trying again, for {lasting_s / 60:.0f} minutes at most.")
            problem = error
            return final
        problem = None
        return True

    wait_until(is_done, lasting_s, 10.0, clock, longest_pause_s=300.0)
    return problem
