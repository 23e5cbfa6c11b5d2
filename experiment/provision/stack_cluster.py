"""The cluster of a Pulumi stack.

StudyRun decides when a cluster is created and deleted; a class here does it and checks it. Pulumi's
report is no evidence, so the GKE API is asked after each step.
"""

import time
from datetime import datetime, timedelta
from enum import StrEnum
from functools import cached_property
from pathlib import Path

from experiment.errors import (
    Failure,
    InternalError,
    PreflightError,
    ProvisionError,
    RunError,
    TeardownError,
)
from experiment.provision.cluster_state import ClusterState
from experiment.provision.gke_cluster import GkeCluster, persist
from experiment.provision.google_api import GoogleApi
from experiment.provision.provider_messages import explain, failure_of, remaining, scope_of
from experiment.provision.pulumi_stack import StudyStack
from experiment.provision.stack_files import set_deadline, set_zones
from experiment.provision.stack_settings import StackFacts, exported_deadline, stack_facts
from experiment.terminal.progress import Say, silent
from experiment.waiting import Clock, now, wait_until
from schema.errors import UserError
from schema.run_records import ZoneAttempt
from schema.stack_outputs import StackOutputs

_GONE_S = 300
_TEARDOWN_S = 1800.0
"""How long a failed `pulumi destroy` is tried again before GKE is asked to delete the cluster."""
_NEW_ACCOUNT_S = 30.0
"""Pause until services know an account or grant that was just created: seconds, now and then a
minute (https://cloud.google.com/iam/docs/access-change-propagation)."""


class Presence(StrEnum):
    """How much of a stack's cluster exists."""

    NOTHING = "nothing"
    PARTS = "parts"
    """Left by a killed or failed command; can only be destroyed."""
    WHOLE = "whole"
    """Everything that the stack declares, running."""


class StackCluster:
    """The cluster of a Pulumi stack (a Cluster).

    Args:
        stack: its name.
        work_dir: holds the Pulumi files, or the run's copies of them.
        facts: the stack's settings; by default read from work_dir.
        say: shows progress.
        clock: for waits.

    Attributes:
        least_hours: from now to the deadline of a cluster that is used again; 0 to keep it.

    Raises:
        UserError: the stack's file or one of its settings is not valid.
    """

    def __init__(
        self,
        stack: str,
        work_dir: Path,
        facts: StackFacts | None = None,
        say: Say = silent,
        clock: Clock = time,
    ) -> None:
        self.name = stack
        self.work_dir = work_dir
        self.facts = facts = facts or stack_facts(stack, work_dir)
        self.say = say
        self.zone_attempts: tuple[ZoneAttempt, ...] = ()
        self._clock = clock
        self._came_up = False
        self.node_count = facts.node_count
        self.machine_type = facts.machine_type
        self.disk_gb = facts.disk_gb
        self.usd_per_hour = facts.usd_per_hour
        self.usd_per_byte = facts.usd_per_byte
        self.price_note = facts.price_note
        self.least_hours = 0
        self.exists = False
        self.fresh = True
        self.created_at: datetime | None = None
        self.taking_down = "taking the cluster down, so that it costs nothing"

    @property
    def description(self) -> str:
        """Nodes and where they are."""
        facts = self.facts
        nodes = f"{facts.node_count} x {facts.machine_type}"
        zones = " or ".join(facts.zones)
        return f"{nodes} in {zones} of project {facts.project}"

    @cached_property
    def stack(self) -> StudyStack:
        """The Pulumi stack, opened when first needed."""
        return StudyStack(self.name, self.work_dir, self.facts.project, self.say)

    @cached_property
    def api(self) -> GoogleApi:
        """The client of Google's APIs, opened when first needed."""
        return GoogleApi(self.facts.project)

    @property
    def gke(self) -> GkeCluster:
        """The cluster as GKE has it."""
        return GkeCluster(
            self.api,
            self.name,
            self.facts.cluster_name,
            self.facts.location,
            self.facts.usd_per_hour,
            lambda line: self.say(line),  # noqa: PLW0108 (the owner sets `say` later)
            self._clock,
        )

    def recover(self, *, resumed: bool) -> None:
        """Clean up after a killed command; a resumed run keeps its cluster if that is whole."""
        zones = self.facts.zones
        try:
            self._clean_up(zones, resumed=resumed)
        finally:
            self._use(zones)

    def _clean_up(self, zones: tuple[str, ...], *, resumed: bool) -> None:
        presence = self.repair()
        self.exists = presence is not Presence.NOTHING
        if presence is Presence.WHOLE and not (resumed and self.facts.zones == zones):
            self.exists = False
            raise PreflightError(
                f"The stack {self.name} is already up in {self.facts.zones[0]}; its nodes may hold "
                "images, so pulls would not be cold.",
                self._destroy_command(),
            )
        if presence is Presence.WHOLE:
            self.fresh = False
            self.say("the cluster of the interrupted run still exists and is used again")
            self._move_deadline()
        elif presence is Presence.PARTS:
            self.say("removing what an earlier command left of the cluster")
            self.teardown()

    def _move_deadline(self) -> None:
        """Let the next `up` move a deadline that is nearer than `least_hours`."""
        until = now().replace(second=0, microsecond=0)
        until += timedelta(hours=self.least_hours)
        known = exported_deadline(self.stack.outputs())
        if self.least_hours and (known is None or known < until):
            set_deadline(self.name, self.work_dir, f"{until:%Y-%m-%dT%H:%MZ}")
            self.say(f"it will be deleted at {until:%Y-%m-%dT%H:%MZ}, later than planned before")

    def repair(self) -> Presence:
        """Make the state match the cloud after a command was killed at any moment.

        Stale locks are removed, pending operations settled, missing resources adopted. While GKE
        works on the cluster, it is waited for.

        Raises:
            UserError: the stack is in use, GKE works on the cluster for more than 20 minutes, or a
                cluster of this name is not of this program.
        """
        found = self.gke.settled()
        self.created_at = found.created_at if found else None
        self._follow(found)
        self.stack.recover()
        if found is not None and not self.stack.knows_cluster():
            self.say(f"the cluster {found.name} is missing in the state and is adopted")
            self.stack.adopt()
        if found is None and not self.stack.is_up():
            return Presence.NOTHING
        if found is not None and found.changing:
            raise PreflightError(
                f"GKE is still working on the cluster {found.name} ({found.why_unhealthy}), so it "
                "was left as it is.",
                "repeat the command later; gcloud container operations list "
                f"--project {self.facts.project} shows what runs",
                failure=Failure.PROVIDER_ERROR,
            )
        return Presence.WHOLE if self._is_whole(found) else Presence.PARTS

    def find(self) -> ClusterState | None:
        """Return the cluster as GKE reports it.

        Raises:
            OwnershipError: a cluster of this name is not of this program.
        """
        return self.gke.find()

    def provision(self) -> StackOutputs:
        """Bring the cluster up in the first of the stack's zones that has room for it.

        What a zone without room leaves is deleted before the next one is tried. The run's copy of
        the stack's file then names the zone that was found, so that a resumed run stays there.
        """
        zones = left = self.facts.zones
        self.zone_attempts = tuple[ZoneAttempt, ...]()
        while True:
            started_at = now()
            try:
                outputs = self._provision_here()
            except ProvisionError as error:
                self._note_attempt(started_at, error.problem)
                if len(zones) == 1:
                    raise
                left = remaining(left, scope_of(error.problem))
                self.say("what was made there is deleted" + (f"; next: {left[0]}" if left else ""))
                self._leave_zone()
                self._use(left or zones)
                if not left:
                    tried = [attempt.zone for attempt in self.zone_attempts]
                    error.add_note(f"Tried: {', '.join(tried)}; nothing is left there.")
                    raise
            else:
                self._note_attempt(started_at, "")
                self._use(self.facts.zones[:1])
                return outputs

    def _leave_zone(self) -> None:
        try:
            self.teardown()
        except RunError as error:
            if self.exists:
                raise
            self.say(error.problem)  # what is left costs nothing by the hour

    def _note_attempt(self, started_at: datetime, problem: str) -> None:
        attempt = ZoneAttempt(
            zone=self.facts.zones[0], started_at=started_at, ended_at=now(), problem=problem
        )
        self.zone_attempts = (*self.zone_attempts, attempt)
        if len(self.facts.zones) > 1 or len(self.zone_attempts) > 1:
            minutes = (attempt.ended_at - started_at).total_seconds() / 60
            outcome = problem or "the cluster is up"
            self.say(f"zone {attempt.zone}, after {minutes:.1f} min: {outcome}")

    def _provision_here(self) -> StackOutputs:
        """`pulumi up`, then check with the GKE API that cluster and pools are healthy."""
        self.exists = True
        try:
            outputs = self._up()
        except ProvisionError as error:
            found = self._found()
            # The official provider says of a pool without nodes only that it is in error.
            if error.failure is Failure.PROVIDER_ERROR and found and found.broken:
                raise self._broken(
                    f"The stack {self.name} was not brought up", found.why_unhealthy
                ) from error
            raise
        found = self.gke.settled()
        if found is None or not found.healthy:
            raise self._broken(
                f"Pulumi reports the stack {self.name} up",
                found.why_unhealthy if found else "missing",
            )
        self._came_up = True
        return outputs

    def teardown(self) -> None:
        """`pulumi destroy` of everything, proved by the GKE API; tried for half an hour.

        What fails then is left to GKE's own deletion of the cluster, which alone costs money.

        Raises:
            TeardownError: the cluster exists, or may exist.
            RunError: the cluster is deleted, but other resources of the stack may be left.
        """
        problem = persist(self._destroy, _TEARDOWN_S, self.say, self._clock)
        if problem is not None:
            self._delete_by_gke(problem)
        self.exists = False

    def kept(self) -> str:
        """Return what is kept by GKE, what it costs an hour, and the command that deletes it."""
        left = self.gke.left()
        if not left:
            return (
                f"No cluster of the stack {self.name} exists, so there is none to keep; to delete "
                f"what else there may be: {self._destroy_command()}"
            )
        return f"Kept, as requested: {left}; to delete it: {self._destroy_command()}"

    def standing(self) -> str:
        """Return what exists by GKE, what it costs an hour, and the command that deletes it."""
        left = self.gke.left()
        return f"Note: {left}; to delete it: {self._destroy_command()}" if left else ""

    def _broken(self, pulumi: str, shown: str) -> ProvisionError:
        fix = (
            f"pull-study destroy --stack {self.name}, then try again; gcloud container "
            f"operations list --project {self.facts.project} shows what failed"
        )
        if failure := failure_of(shown):
            fix = explain(shown, self.name).fix
        return ProvisionError(
            f"{pulumi}; GKE reports the cluster {self.facts.cluster_name} as {shown}.",
            fix,
            failure=failure or Failure.PROVIDER_ERROR,
        )

    def _follow(self, found: ClusterState | None) -> None:
        """Let the program name the zone in which the cluster is."""
        if found is not None and found.location != self.facts.location:
            self.say(f"the cluster {found.name} is in {found.location}")
            self._use(found.zones[:1] or (found.location,))

    def _use(self, zones: tuple[str, ...]) -> None:
        """Write the zones into the copy of the stack's file, and read it again."""
        if zones != self.facts.zones:
            set_zones(self.name, self.work_dir, zones)
            self.facts = stack_facts(self.name, self.work_dir)

    def _found(self) -> ClusterState | None:
        """The cluster as GKE reports it; None also if GKE does not answer."""
        try:
            return self.gke.find()
        except RunError:
            return None

    def _is_whole(self, found: ClusterState | None) -> bool:
        """GKE runs it, and the program declares nothing that is missing."""
        if found is None or not found.healthy or self.stack.outputs() is None:
            return False
        return not any(change.op == "create" for change in self.stack.changes())

    def _up(self) -> StackOutputs:
        try:
            return self.stack.up()
        except ProvisionError:
            if not self._may_succeed_now():
                raise
        return self.stack.up()

    def _may_succeed_now(self) -> bool:
        """Whether what made `up` fail is over: a conflict, a new account, a busy control plane."""
        if self.stack.met_conflict:
            # What a killed provider created is missing in the state; `recover` finds clusters only.
            # Creating another resource of the same name is refused.
            return bool(self.stack.adopt())
        if self.stack.met_new_account:
            self.say("a service does not know an account yet that was just created; trying again")
            self._clock.sleep(_NEW_ACCOUNT_S)
            return True
        found = self._found()
        if found is None or found.status != "RECONCILING":
            return False
        # A zonal API server does not answer while GKE resizes it for the nodes that were added.
        found = self.gke.settled()
        return found is not None and found.healthy

    def _destroy(self) -> None:
        try:
            if not self._came_up:
                self._adopt_all()
            self.stack.destroy()
        except UserError:
            raise
        except Exception as error:  # the cluster must come down whatever happened
            raise InternalError(f"Internal error in the teardown: {error!r}.") from error
        finally:
            self._came_up = False  # another try adopts what this one left
        self._await_deletion()

    def _adopt_all(self) -> None:
        """Adopt everything that exists, so that destroying leaves nothing behind."""
        found = self.find()
        self._follow(found)
        self.stack.recover()
        try:
            self.stack.adopt()
        except ProvisionError as error:
            if found is not None and not self.stack.knows_cluster():
                raise ProvisionError(
                    f"The cluster {found.name} is missing in the state of {self.name} and could "
                    f"not be adopted: {error.problem}",
                    self.gke.delete_command(),
                    failure=error.failure,
                ) from error
            self.say(f"resources missing in the state could not be searched for: {error.problem}")

    def _await_deletion(self) -> None:
        left = ""

        def deleted() -> bool:
            nonlocal left
            left = self.gke.left()
            return not left

        if not wait_until(deleted, _GONE_S, 1, self._clock, longest_pause_s=10):
            raise ProvisionError(
                f"Pulumi reports the stack {self.name} destroyed, but {left}.",
                self.gke.delete_command(),
                failure=Failure.PROVIDER_ERROR,
            )

    def _delete_by_gke(self, problem: RunError) -> None:
        """Delete what costs money where Pulumi cannot; raise what is left.

        Raises:
            TeardownError: the cluster exists, or may exist.
            RunError: nothing that costs money by the hour may be left.
        """
        self.say("Pulumi could not delete the stack; GKE is asked to delete its cluster")
        try:
            self.gke.delete()
        except RunError as error:
            self.say(error.problem)
        why = problem.problem
        if left := self.gke.left():
            raise TeardownError(
                f"The stack {self.name} was not deleted, and {left}: {why}",
                f"{self.gke.delete_command()}, then {self._destroy_command()}",
            ) from problem
        self.exists = False
        raise RunError(
            f"The cluster of the stack {self.name} is deleted, but Pulumi could not delete the "
            f"rest of the stack ({self._rest}): {why}",
            self._destroy_command(),
            failure=problem.failure or Failure.PROVIDER_ERROR,
        ) from problem

    @property
    def _rest(self) -> str:
        """What a stack has besides its cluster."""
        rest = "accounts, grants, scheduler jobs"
        if not self.facts.remote_repository:
            return rest
        return f"{rest}, and the remote repository, whose storage costs money"

    def _destroy_command(self) -> str:
        return f"pull-study destroy --stack {self.name}"
