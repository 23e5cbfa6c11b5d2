"""`destroy`, `recover` and `extend`: they repair and use Pulumi's state of a stack.

They work on copies of the committed files.
"""

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from experiment.errors import (
    Failure,
    Interrupted,
    OwnershipError,
    PlanError,
    PreflightError,
    ProvisionError,
    RunError,
    TeardownError,
)
from experiment.interrupts import signals_interrupt
from experiment.provision.cluster_state import ClusterState
from experiment.provision.manage.footprint import Footprint, footprint
from experiment.provision.pulumi_stack import Change
from experiment.provision.stack_cluster import Presence, StackCluster
from experiment.provision.stack_files import copy_stack_files, set_deadline
from experiment.provision.stack_settings import exported_deadline, repository_path
from experiment.terminal.confirm import confirm
from experiment.terminal.progress import Say
from experiment.waiting import Clock, wait_until

_LISTS_LAG_S = 60.0
_LONGEST_LIFE = timedelta(days=30)
_HOUR = timedelta(hours=1)
_MOVED_BY_A_DEADLINE = {
    "gcp:cloudscheduler/job:Job": {"schedule"},
    "gcp:container/cluster:Cluster": {
        "resourceLabels",
        "effectiveLabels",
        "pulumiLabels",
        "maintenancePolicy",
    },
    "gcp:projects/iAMMember:IAMMember": {"condition"},
}
"""Properties that a new deadline changes, by type."""
_MOVES = {"update", "create-replacement", "replace", "delete-replaced"}
"""A grant with another condition replaces it."""


def destroy(stack: str, say: Say, *, assume_yes: bool, clock: Clock = time) -> None:
    """Delete everything of a stack, whatever its state; the archive stays.

    What Google's lists have of it is compared before and after.

    Raises:
        TeardownError: something may be left that costs money.
        RunError: something may be left that costs nothing.
        UserError: the stack cannot be used.
    """
    with _opened(stack, say, clock) as cluster, signals_interrupt():
        found = _found(cluster, say)
        what = f"the cluster {found.name} ({found.status})" if found else "everything that is left"
        if not assume_yes:
            confirm(f"Delete {what} of the stack {stack}?", "nothing was deleted")
        before = _footprint(cluster)
        try:
            cluster.teardown()
        except RunError as error:
            if (left := _footprint(cluster)).items:
                error.add_note(f"Google's lists have: {left.named()}. By hand: {left.commands()}")
            raise
        left = _await_nothing(cluster, clock)
        for line in left.unread:
            say(f"Whether anything is left could not be checked everywhere: {line}")
        if left.items:
            raise _left_behind(stack, left)
        if before.items:
            say(f"Deleted, by Google's lists: {before.counted()}.")
        unread = " that could be read" if left.unread else ""
        say(f"The stack {stack} is deleted; only its archive of events is left{unread}.")


def _found(cluster: StackCluster, say: Say) -> ClusterState | None:
    """The cluster, for the question; None also if Google does not answer now: teardown waits."""
    try:
        return cluster.find()
    except OwnershipError:
        raise
    except RunError as error:
        say(f"Whether the cluster exists is unknown: {error.problem}")
        return None


def _footprint(cluster: StackCluster) -> Footprint:
    facts = cluster.facts
    repository = repository_path(facts.remote_name)
    return footprint(cluster.api, cluster.name, facts.cluster_name, repository)


def _await_nothing(cluster: StackCluster, clock: Clock) -> Footprint:
    """Look until nothing is left, for a minute: Google's lists may lag behind."""
    left = _footprint(cluster)

    def is_nothing() -> bool:
        nonlocal left
        left = _footprint(cluster)
        return not left.items

    if left.items:
        wait_until(is_nothing, _LISTS_LAG_S, 5.0, clock, longest_pause_s=20.0)
    return left


def _left_behind(stack: str, left: Footprint) -> RunError:
    problem = f"The stack {stack} is deleted, but Google's lists still have: {left.named()}."
    if any(item.costs for item in left.items):
        return TeardownError(problem, left.commands())
    return RunError(problem, left.commands(), failure=Failure.PROVIDER_ERROR)


def recover(stack: str, say: Say, *, clock: Clock = time) -> None:
    """Make the state match the cloud after a command was killed, and show the result.

    Raises:
        UserError: the stack cannot be used.
    """
    with _opened(stack, say, clock) as cluster, signals_interrupt():
        presence = cluster.repair()
        if presence is Presence.NOTHING:
            left = _footprint(cluster)
            for line in left.unread:
                say(f"Whether anything exists could not be checked everywhere: {line}")
            if left.items:
                say(f"The state of the stack {stack} is empty, but this is left: {left.named()}.")
                say(f"To delete it: pull-study destroy --stack {stack}")
            elif not left.unread:
                say(f"Nothing of the stack {stack} exists.")
            return
        found = cluster.find()
        shown = f"its cluster is {found.status}" if found else "it has no cluster"
        if presence is Presence.WHOLE:
            say(f"The stack {stack} is complete, and {shown}.")
        else:
            say(f"The stack {stack} exists in part, and {shown}; a run would delete it first.")
        say(f"To delete it: pull-study destroy --stack {stack}")


def extend(stack: str, hours: int, say: Say, *, clock: Clock = time) -> None:
    """Move the deadline of a cluster that is up, by one `up` that changes nothing else.

    Raises:
        PreflightError: the stack is not complete, or the `up` would change more.
        ProvisionError: the `up` failed; the cluster is still there.
        UserError: the stack cannot be used.
    """
    with _opened(stack, say, clock) as cluster, signals_interrupt():
        if cluster.repair() is not Presence.WHOLE:
            raise PreflightError(
                f"The stack {stack} is not up, so it has no deadline.",
                "pull-study list",
            )
        until = _later(cluster, hours)
        set_deadline(stack, cluster.work_dir, f"{until:%Y-%m-%dT%H:%MZ}")
        changes = cluster.stack.changes()
        if other := [change for change in changes if not _is_of_the_deadline(change)]:
            names = ", ".join(change.resource.urn.rpartition("::")[2] for change in other)
            raise PreflightError(
                f"The files of the stack {stack} have changed since its cluster was created; "
                f"moving the deadline would also change {names}.",
                f"pulumi preview --stack {stack} --diff",
            )
        try:
            cluster.stack.up()
        except ProvisionError as error:
            raise ProvisionError(
                f"The deadline of the stack {stack} may not have been moved: {error.problem}",
                "pull-study list shows the deadline; then repeat the command",
                failure=error.failure,
            ) from error
        say(f"The cluster of {stack} will be deleted at {until:%Y-%m-%dT%H:%MZ}.")


def _later(cluster: StackCluster, hours: int) -> datetime:
    """The current deadline plus these hours."""
    now = datetime.now(UTC)
    current = max(exported_deadline(cluster.stack.outputs()) or now, now)
    until = current.replace(second=0, microsecond=0) + timedelta(hours=hours)
    if until > now + _LONGEST_LIFE:
        most = int((now + _LONGEST_LIFE - current) / _HOUR)
        raise PlanError(
            f"With {hours} more hours the cluster would exist until {until:%Y-%m-%dT%H:%MZ}; the "
            f"maximum is {_LONGEST_LIFE.days} days from now.",
            f"--hours {max(most, 1)}",
        )
    return until


def _is_of_the_deadline(change: Change) -> bool:
    allowed = _MOVED_BY_A_DEADLINE.get(change.resource.type)
    return allowed is not None and change.op in _MOVES and set(change.keys) <= allowed


@contextmanager
def _opened(stack: str, say: Say, clock: Clock) -> Iterator[StackCluster]:
    """A stack's cluster, on temporary copies of its files.

    Raises:
        Interrupted: Ctrl-C; it says what is up.
        ProvisionError: that of the block, with what is up.
    """
    with tempfile.TemporaryDirectory(prefix="pull-study-") as folder:
        work_dir = Path(folder)
        copy_stack_files(stack, work_dir)
        # A deadline in the file that has passed must not prevent deleting the cluster.
        set_deadline(stack, work_dir, "")
        cluster = StackCluster(stack, work_dir, say=say, clock=clock)
        try:
            yield cluster
        except ProvisionError as error:
            if note := cluster.standing():
                error.add_note(note)
            raise
        except KeyboardInterrupt as error:
            left = cluster.gke.left() or (
                f"the stack {stack} has no cluster, but other resources of it may exist"
            )
            raise Interrupted(
                f"Interrupted; {left}.", f"pull-study destroy --stack {stack}"
            ) from error
