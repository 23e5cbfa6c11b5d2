"""The cluster that a run measures on: what StudyRun asks of it, and the one that a stack makes.

StudyRun decides when a cluster is made and when it ends; a class here does it and checks it. That
Pulumi says so is no evidence, hence the GKE API is asked after each step.
"""

import time
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Protocol

from experiment.errors import Failure, PreflightError, ProvisionError, RunError, TeardownError
from experiment.provision.google_api import ClusterState, GoogleApi
from experiment.provision.provider_messages import failure_of
from experiment.provision.pulumi_stack import Say, StudyStack
from experiment.provision.stack_settings import StackFacts
from schema.names import PROJECT_LABEL
from schema.stack_outputs import StackOutputs

_GONE_S = 60


class Presence(StrEnum):
    """What there is of a stack's cluster."""

    NOTHING = "nothing"
    PARTS = "parts"
    """What a killed or failed command left; no use but to be taken down."""
    WHOLE = "whole"
    """Everything that the stack declares, running."""


class Cluster(Protocol):
    """Where a run measures."""

    node_count: int
    """Measured nodes: N of the study."""
    exists: bool
    """Something may be there that teardown must end."""
    fresh: bool
    """No image can be on the nodes but those that they came with; known after provisioning."""

    def recover(self, *, resumed: bool) -> None:
        """Mend what a killed run left, and refuse a cluster that is not this run's to use.

        Args:
            resumed: the run measured before; a cluster that lives is its own, and stays if sound.

        Raises:
            UserError: the cluster cannot be used.
        """

    def provision(self) -> StackOutputs:
        """Bring it up as declared; one that is up already is only confirmed.

        Raises:
            UserError: it did not come up.
        """

    def teardown(self) -> None:
        """Take it down, and make sure that it is gone.

        Raises:
            UserError: something may be left.
        """

    def kept(self) -> str:
        """Sentence for a cluster that stays: what that costs, and how to end it."""


class StackCluster:
    """The cluster of a Pulumi stack (a Cluster).

    Args:
        stack: its name.
        work_dir: holds the run's copies of the Pulumi files.
        facts: what the stack's settings say.
        say: told what happens, a line each.
    """

    def __init__(self, stack: str, work_dir: Path, facts: StackFacts, say: Say) -> None:
        self._name = stack
        self.work_dir = work_dir
        self._facts = facts
        self._say = say
        self._came_up = False
        self.node_count = facts.node_count
        self.exists = False
        self.fresh = True

    @cached_property
    def stack(self) -> StudyStack:
        """Pulumi's side of it, opened when first needed."""
        return StudyStack(self._name, self.work_dir, self._facts.project, self._say)

    @cached_property
    def api(self) -> GoogleApi:
        """Google's side of it, opened when first needed."""
        return GoogleApi(self._facts.project)

    def recover(self, *, resumed: bool) -> None:
        """Mend what a killed command left; a resumed run keeps its cluster if that is whole."""
        presence = self.mend()
        self.exists = presence is not Presence.NOTHING
        if presence is Presence.WHOLE and not resumed:
            self.exists = False
            raise PreflightError(
                f"The stack {self._name} is up already, so its nodes may hold images and a pull "
                "on them would not be cold.",
                f"python -m experiment destroy --stack {self._name}",
            )
        if presence is Presence.WHOLE:
            self.fresh = False
            self._say("the cluster of the interrupted run lives and is used again")
        elif presence is Presence.PARTS:
            self._say("removing what an earlier command left of the cluster")
            self.teardown()

    def mend(self) -> Presence:
        """Make the state say what there is, after a command was killed at any moment.

        Dead locks are cleared, what was under way is settled, what the state does not know is
        taken into it.

        Raises:
            UserError: the stack is in use, or a cluster of this name is not of this program.
        """
        found = self.find()
        self.stack.recover()
        if found is not None and not self.stack.knows_cluster():
            self._say(f"the cluster {found.name} is unknown to the state, and is taken into it")
            self.stack.adopt()
        if found is None and not self.stack.is_up():
            return Presence.NOTHING
        return Presence.WHOLE if self._is_whole(found) else Presence.PARTS

    def find(self) -> ClusterState | None:
        """The cluster as GKE shows it.

        Raises:
            PreflightError: there is one of this name that is not of this program.
        """
        found = self.api.find(self._facts.location, self._facts.cluster_name)
        wanted = {"project": PROJECT_LABEL, "stack": self._name}
        if found is None or wanted.items() <= found.labels.items():
            return found
        raise PreflightError(
            f"There is a cluster {found.name} in {found.location} whose labels are not of this "
            f"program and the stack {self._name}, so it is left alone; but its name is needed.",
            f"use another project or zone, or {self._delete_command()}",
        )

    def provision(self) -> StackOutputs:
        """`pulumi up`, and the GKE API's word that cluster and pools are sound."""
        self.exists = True
        try:
            outputs = self._up()
        except ProvisionError as error:
            found = self._found()
            if error.failure is Failure.PROVIDER_ERROR and found and found.status == "ERROR":
                raise self._broken(
                    f"The stack {self._name} was not brought up", found.why_unsound
                ) from None
            raise
        found = self.api.find(outputs.location, outputs.cluster_name)
        if found is None or not found.sound:
            raise self._broken(
                f"Pulumi calls the stack {self._name} up",
                found.why_unsound if found else "not there",
            )
        self._came_up = True
        return outputs

    def teardown(self) -> None:
        """`pulumi destroy` of all that there is, and the GKE API's word that it is gone."""
        if not self._came_up:
            self._know_all()
        self.stack.destroy()
        self._await_gone()
        self.exists = False
        self._came_up = False

    def kept(self) -> str:
        """What a kept cluster costs an hour, and the command that ends it."""
        return (
            f"The cluster {self._facts.cluster_name} is kept and costs about "
            f"{self._facts.usd_per_hour:.2f} US dollars an hour; to end it: "
            f"python -m experiment destroy --stack {self._name}"
        )

    def _broken(self, pulumi: str, shown: str) -> ProvisionError:
        return ProvisionError(
            f"{pulumi}; GKE calls the cluster {self._facts.cluster_name} {shown}.",
            f"python -m experiment destroy --stack {self._name}, then try again; gcloud container "
            f"operations list --project {self._facts.project} shows what failed",
            failure=failure_of(shown) or Failure.PROVIDER_ERROR,
        )

    def _found(self) -> ClusterState | None:
        """The cluster as GKE shows it; None too where GKE does not answer."""
        try:
            return self.api.find(self._facts.location, self._facts.cluster_name)
        except RunError:
            return None

    def _is_whole(self, found: ClusterState | None) -> bool:
        """GKE runs it, and the program wants nothing that is not there."""
        if found is None or not found.sound or self.stack.outputs() is None:
            return False
        return not any(change.op == "create" for change in self.stack.changes())

    def _up(self) -> StackOutputs:
        try:
            return self.stack.up()
        except ProvisionError:
            # A killed provider leaves what it made unknown to the state, and unknown to `recover`
            # where it is no cluster: the next creation of the same name is refused.
            if not self.stack.met_conflict or not self.stack.adopt():
                raise
        return self.stack.up()

    def _know_all(self) -> None:
        """Put all that exists into the state, so that destroying leaves nothing behind."""
        found = self.find()
        self.stack.recover()
        try:
            self.stack.adopt()
        except ProvisionError as error:
            if found is not None and not self.stack.knows_cluster():
                raise TeardownError(
                    f"The cluster {found.name} is unknown to the state of {self._name} and could "
                    f"not be taken into it: {error.problem}",
                    self._delete_command(),
                ) from None
            self._say(f"what the state does not know could not be looked for: {error.problem}")

    def _await_gone(self) -> None:
        end = time.monotonic() + _GONE_S
        while left := self._left():
            if time.monotonic() > end:
                raise TeardownError(
                    f"Pulumi calls the stack {self._name} destroyed, but {left}.",
                    self._delete_command(),
                )
            time.sleep(1)

    def _left(self) -> str:
        """What is still there, as the end of a sentence; empty for nothing."""
        try:
            left = self.api.find(self._facts.location, self._facts.cluster_name)
        except RunError as error:
            return f"whether its cluster is gone is not known: {error.problem.rstrip('.')}"
        if left is None:
            return ""
        return f"the cluster {left.name} is still there ({left.status}) and costs money"

    def _delete_command(self) -> str:
        facts = self._facts
        return (
            f"gcloud container clusters delete {facts.cluster_name} --location {facts.location} "
            f"--project {facts.project}"
        )
