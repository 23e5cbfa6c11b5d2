"""The cluster that a run measures on: the interface, and the cluster of a Pulumi stack.

StudyRun decides when a cluster is created and deleted; a class here does it and checks it. Pulumi's
report is no evidence, so the GKE API is asked after each step.
"""

from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Protocol

from experiment.errors import Failure, PreflightError, ProvisionError, RunError, TeardownError
from experiment.provision.google_api import ClusterState, GoogleApi
from experiment.provision.provider_messages import failure_of
from experiment.provision.pulumi_stack import StudyStack
from experiment.provision.stack_settings import StackFacts, stack_facts
from experiment.terminal.progress import Say, silent
from experiment.waiting import wait_until
from schema.names import PROJECT_LABEL
from schema.stack_outputs import StackOutputs

_GONE_S = 60


class Presence(StrEnum):
    """How much of a stack's cluster exists."""

    NOTHING = "nothing"
    PARTS = "parts"
    """Left by a killed or failed command; can only be destroyed."""
    WHOLE = "whole"
    """Everything that the stack declares, running."""


class Cluster(Protocol):
    """Where a run measures."""

    say: Say
    """Called with each step; the owner of the run's terminal sets it."""
    name: str
    """Of the stack, or of the existing cluster."""
    node_count: int
    """Measured nodes: N of the study."""
    machine_type: str
    """Of the measured nodes."""
    disk_gb: int
    """Of a measured node, where images are unpacked."""
    usd_per_hour: float
    """List price of the whole cluster; 0 if unknown."""
    exists: bool
    """Something may exist that teardown must delete."""
    fresh: bool
    """The nodes can hold no image but their original ones; known after provisioning."""

    @property
    def description(self) -> str:
        """Nodes and where they are."""

    def recover(self, *, resumed: bool) -> None:
        """Clean up after a killed run, and refuse a cluster that this run must not use.

        Args:
            resumed: the run measured before; a running cluster is its own and is kept if healthy.

        Raises:
            UserError: the cluster cannot be used.
        """

    def provision(self) -> StackOutputs:
        """Bring it up as declared; one that is already up is only confirmed.

        Raises:
            UserError: it did not come up.
        """

    def teardown(self) -> None:
        """Delete it, and verify that it is deleted.

        Raises:
            UserError: something may be left.
        """

    def kept(self) -> str:
        """Return what a kept cluster costs, and how to delete it."""


class StackCluster:
    """The cluster of a Pulumi stack (a Cluster).

    Args:
        stack: its name.
        work_dir: holds the Pulumi files, or the run's copies of them.
        facts: the stack's settings; by default read from work_dir.
        say: shows progress.

    Raises:
        UserError: the stack's file or one of its settings is not valid.
    """

    def __init__(
        self, stack: str, work_dir: Path, facts: StackFacts | None = None, say: Say = silent
    ) -> None:
        self.name = stack
        self.work_dir = work_dir
        self.facts = facts = facts or stack_facts(stack, work_dir)
        self.say = say
        self._came_up = False
        self.node_count = facts.node_count
        self.machine_type = facts.machine_type
        self.disk_gb = facts.disk_gb
        self.usd_per_hour = facts.usd_per_hour
        self.exists = False
        self.fresh = True

    @property
    def description(self) -> str:
        """Nodes and where they are."""
        facts = self.facts
        nodes = f"{facts.node_count} x {facts.machine_type}"
        return f"{nodes} in {facts.location} of project {facts.project}"

    @cached_property
    def stack(self) -> StudyStack:
        """The Pulumi stack, opened when first needed."""
        return StudyStack(self.name, self.work_dir, self.facts.project, self.say)

    @cached_property
    def api(self) -> GoogleApi:
        """The client of Google's APIs, opened when first needed."""
        return GoogleApi(self.facts.project)

    def recover(self, *, resumed: bool) -> None:
        """Clean up after a killed command; a resumed run keeps its cluster if that is whole."""
        presence = self.repair()
        self.exists = presence is not Presence.NOTHING
        if presence is Presence.WHOLE and not resumed:
            self.exists = False
            raise PreflightError(
                f"The stack {self.name} is already up; its nodes may hold images, so pulls would "
                "not be cold.",
                f"python -m experiment destroy --stack {self.name}",
            )
        if presence is Presence.WHOLE:
            self.fresh = False
            self.say("the cluster of the interrupted run still exists and is used again")
        elif presence is Presence.PARTS:
            self.say("removing what an earlier command left of the cluster")
            self.teardown()

    def repair(self) -> Presence:
        """Make the state match the cloud after a command was killed at any moment.

        Stale locks are removed, pending operations settled, missing resources adopted.

        Raises:
            UserError: the stack is in use, or a cluster of this name is not of this program.
        """
        found = self.find()
        self.stack.recover()
        if found is not None and not self.stack.knows_cluster():
            self.say(f"the cluster {found.name} is missing in the state and is adopted")
            self.stack.adopt()
        if found is None and not self.stack.is_up():
            return Presence.NOTHING
        return Presence.WHOLE if self._is_whole(found) else Presence.PARTS

    def find(self) -> ClusterState | None:
        """Return the cluster as GKE reports it.

        Raises:
            PreflightError: a cluster of this name is not of this program.
        """
        found = self.api.find(self.facts.location, self.facts.cluster_name)
        labels = {"project": PROJECT_LABEL, "stack": self.name}
        if found is None or labels.items() <= found.labels.items():
            return found
        raise PreflightError(
            f"The cluster {found.name} in {found.location} has the name that the stack {self.name} "
            "needs, but not its labels; it was left alone.",
            f"use another project or zone, or {self._delete_command()}",
        )

    def provision(self) -> StackOutputs:
        """`pulumi up`, then check with the GKE API that cluster and pools are healthy."""
        self.exists = True
        try:
            outputs = self._up()
        except ProvisionError as error:
            found = self._found()
            if error.failure is Failure.PROVIDER_ERROR and found and found.status == "ERROR":
                raise self._broken(
                    f"The stack {self.name} was not brought up", found.why_unhealthy
                ) from error
            raise
        found = self.api.find(outputs.location, outputs.cluster_name)
        if found is None or not found.healthy:
            raise self._broken(
                f"Pulumi reports the stack {self.name} up",
                found.why_unhealthy if found else "missing",
            )
        self._came_up = True
        return outputs

    def teardown(self) -> None:
        """`pulumi destroy` of everything, then check with the GKE API that it is deleted."""
        if not self._came_up:
            self._adopt_all()
        self.stack.destroy()
        self._await_deletion()
        self.exists = False
        self._came_up = False

    def kept(self) -> str:
        """Return what a kept cluster costs an hour, and the command that deletes it."""
        return (
            f"The cluster {self.facts.cluster_name} is kept and costs about "
            f"{self.facts.usd_per_hour:.2f} USD an hour; to delete it: "
            f"python -m experiment destroy --stack {self.name}"
        )

    def _broken(self, pulumi: str, shown: str) -> ProvisionError:
        return ProvisionError(
            f"{pulumi}; GKE reports the cluster {self.facts.cluster_name} as {shown}.",
            f"python -m experiment destroy --stack {self.name}, then try again; gcloud container "
            f"operations list --project {self.facts.project} shows what failed",
            failure=failure_of(shown) or Failure.PROVIDER_ERROR,
        )

    def _found(self) -> ClusterState | None:
        """The cluster as GKE reports it; None also if GKE does not answer."""
        try:
            return self.api.find(self.facts.location, self.facts.cluster_name)
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
            # What a killed provider created is missing in the state; `recover` finds clusters only.
            # Creating another resource of the same name is refused.
            if not self.stack.met_conflict or not self.stack.adopt():
                raise
        return self.stack.up()

    def _adopt_all(self) -> None:
        """Adopt everything that exists, so that destroying leaves nothing behind."""
        found = self.find()
        self.stack.recover()
        try:
            self.stack.adopt()
        except ProvisionError as error:
            if found is not None and not self.stack.knows_cluster():
                raise TeardownError(
                    f"The cluster {found.name} is missing in the state of {self.name} and could "
                    f"not be adopted: {error.problem}",
                    self._delete_command(),
                ) from error
            self.say(f"resources missing in the state could not be searched for: {error.problem}")

    def _await_deletion(self) -> None:
        left = ""

        def deleted() -> bool:
            nonlocal left
            left = self._left()
            return not left

        if not wait_until(deleted, _GONE_S, 1):
            raise TeardownError(
                f"Pulumi reports the stack {self.name} destroyed, but {left}.",
                self._delete_command(),
            )

    def _left(self) -> str:
        """What still exists, as the end of a sentence; empty for nothing."""
        try:
            left = self.api.find(self.facts.location, self.facts.cluster_name)
        except RunError as error:
            return f"whether its cluster is deleted is unknown: {error.problem.rstrip('.')}"
        if left is None:
            return ""
        return f"the cluster {left.name} still exists ({left.status}) and costs money"

    def _delete_command(self) -> str:
        facts = self.facts
        return (
            f"gcloud container clusters delete {facts.cluster_name} --location {facts.location} "
            f"--project {facts.project}"
        )
