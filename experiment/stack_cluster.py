"""The cluster that a run measures on: what StudyRun asks of it, and the one that a stack makes.

StudyRun decides when a cluster is made and when it ends; a class here does it and checks it. That
Pulumi says so is no evidence, hence the GKE API is asked after each step.
"""

import time
from functools import cached_property
from pathlib import Path
from typing import Protocol

from experiment.errors import PreflightError, ProvisionError, TeardownError
from experiment.google_cloud import GkeApi
from experiment.stacks import Say, StackFacts, StudyStack
from schema.stack_outputs import StackOutputs

_GONE_S = 60


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
        self._work_dir = work_dir
        self._facts = facts
        self._say = say
        self.node_count = facts.node_count
        self.exists = False
        self.fresh = True

    @cached_property
    def _stack(self) -> StudyStack:
        return StudyStack(self._name, self._work_dir, self._say)

    @cached_property
    def _api(self) -> GkeApi:
        return GkeApi(self._facts.project)

    def recover(self, *, resumed: bool) -> None:
        """Mend what a killed run left; a cluster of an interrupted run is ended."""
        self._stack.recover()
        found = self._api.find(self._facts.location, self._facts.cluster_name)
        if self._stack.is_up():
            self._take_over(resumed=resumed)
        elif found is not None:
            raise PreflightError(
                f"There is a cluster {found.name} ({found.status}) that the stack {self._name} "
                "does not know of, and its name is needed.",
                self._delete_command(),
            )

    def _take_over(self, *, resumed: bool) -> None:
        if not resumed:
            raise PreflightError(
                f"The stack {self._name} is up already, so its nodes may hold images and a pull "
                "on them would not be cold.",
                f"pulumi destroy --stack {self._name}",
            )
        self.exists = True
        self._say("removing what the interrupted run left of its cluster")
        self._stack.destroy()

    def provision(self) -> StackOutputs:
        """`pulumi up`, and the GKE API's word that cluster and pools are sound."""
        self.exists = True
        outputs = self._stack.up()
        state = self._api.find(outputs.location, outputs.cluster_name)
        if state is None or not state.sound:
            shown = f"{state.status}: {state.detail} {state.pools}" if state else "not there"
            raise ProvisionError(
                f"Pulumi calls the stack {self._name} up, but the cluster "
                f"{outputs.cluster_name} is {shown}.",
                f"gcloud container operations list --project {outputs.project}",
            )
        return outputs

    def teardown(self) -> None:
        """`pulumi destroy`, and the GKE API's word that the cluster is gone."""
        self._stack.destroy()
        end = time.monotonic() + _GONE_S
        while left := self._api.find(self._facts.location, self._facts.cluster_name):
            if time.monotonic() > end:
                raise TeardownError(
                    f"Pulumi calls the stack {self._name} destroyed, but the cluster {left.name} "
                    f"is still there ({left.status}) and costs money.",
                    self._delete_command(),
                )
            time.sleep(2)
        self.exists = False

    def kept(self) -> str:
        """What a kept cluster costs an hour, and the command that ends it."""
        return (
            f"The cluster {self._facts.cluster_name} is kept and costs about "
            f"{self._facts.usd_per_hour:.2f} US dollars an hour; to end it: "
            f"pulumi destroy --stack {self._name}"
        )

    def _delete_command(self) -> str:
        facts = self._facts
        return (
            f"gcloud container clusters delete {facts.cluster_name} --location {facts.location} "
            f"--project {facts.project}"
        )
