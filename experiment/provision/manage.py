"""What the commands about clusters do, beside a run: list, status, destroy, recover, extend, sweep.

`list`, `status` and `sweep` ask Google alone and need no state; the others mend and use Pulumi's
state, on copies of the committed files. How a stack's cluster is brought up and down safely is in
experiment.provision.stack_cluster.
"""

import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import typer

from experiment.errors import Interrupted, PlanError, PreflightError, RunError, TeardownError
from experiment.interrupts import signals_interrupt
from experiment.kube import Kube
from experiment.provision.google_api import ClusterState, GoogleApi
from experiment.provision.pulumi_stack import Change
from experiment.provision.stack_cluster import Presence, StackCluster
from experiment.provision.stack_files import copy_stack_files, set_deadline
from experiment.provision.stack_settings import cluster_kubeconfig, price_of, stack_facts
from schema.names import PROJECT_LABEL, PROJECT_VARIABLE

Say = Callable[[str], None]

_LABEL_FORM = "%Y-%m-%dt%H-%Mz"
_EXPORT_FORM = "%Y-%m-%dT%H:%M:%SZ"
_POOL_LABEL = "cloud.google.com/gke-nodepool"
_LONGEST_LIFE = timedelta(days=30)
_HOUR = timedelta(hours=1)
_MOVED_BY_A_DEADLINE = {
    "gcp:cloudscheduler/job:Job": {"schedule"},
    "gcp:container/cluster:Cluster": {"resourceLabels", "effectiveLabels", "pulumiLabels"},
}
"""Properties that a new deadline changes, by type."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A cluster of this program."""

    cluster: ClusterState
    stack: str
    deadline: datetime | None
    """None if its label tells none."""
    age: timedelta
    usd_per_hour: float | None

    @property
    def expired(self) -> bool:
        """Its deadline is over, and nobody else is deleting it."""
        over = self.deadline is not None and self.deadline <= datetime.now(UTC)
        return over and self.cluster.status != "STOPPING"

    def line(self) -> str:
        """It, in one line."""
        cost = "price unknown" if self.usd_per_hour is None else f"{self.usd_per_hour:.2f} USD/h"
        until = f"{self.deadline:%Y-%m-%dT%H:%MZ}" if self.deadline else "no deadline"
        return (
            f"{self.stack:<24} {self.cluster.status:<13} {self.cluster.location:<18} "
            f"{_hours(self.age):>8} old  until {until:<17}  {cost}"
        )


def project_of(option: str) -> str:
    """The project to look into.

    Raises:
        PlanError: none is named.
    """
    project = option or os.environ.get(PROJECT_VARIABLE, "")
    if not project:
        raise PlanError(
            "No Google Cloud project is named, so there is nowhere to look.",
            f"--project PROJECT_ID, or: export {PROJECT_VARIABLE}=PROJECT_ID",
        )
    return project


def listed(api: GoogleApi) -> list[Listed]:
    """All clusters of this program in a project, wherever they are.

    Raises:
        RunError: Google refused or did not answer.
    """
    return [
        _listed(cluster)
        for cluster in api.clusters()
        if cluster.labels.get("project") == PROJECT_LABEL
    ]


def show_list(project: str, say: Say) -> None:
    """Tell of all clusters of this program."""
    api = GoogleApi(project)
    found = listed(api)
    if not found:
        say(f"There is no cluster of this program in the project {project}.")
        return
    for each in found:
        say(each.line())
    total = sum(each.usd_per_hour or 0 for each in found)
    say(f"Together about {total:.2f} US dollars an hour at list prices.")


def show_status(stack: str, say: Say) -> None:
    """Tell of one stack's cluster: what GKE, its nodes and its deadline say."""
    with _opened(stack, say) as cluster:
        found = cluster.find()
        if found is None:
            say(f"The stack {stack} has no cluster.")
            return
        each = _listed(found)
        trouble = "" if found.sound else f": GKE calls it {found.why_unsound}"
        say(f"{found.name} in {found.location} is {found.status}{trouble}")
        for line in _nodes(found):
            say(line)
        if each.deadline:
            left = each.deadline - datetime.now(UTC)
            say(
                f"It deletes itself at {each.deadline:%Y-%m-%dT%H:%MZ} "
                + (f"(in {_hours(left)})." if left > timedelta() else "(which has passed).")
            )
        if each.usd_per_hour is not None:
            so_far = each.usd_per_hour * (each.age / _HOUR)
            say(
                f"It costs about {each.usd_per_hour:.2f} US dollars an hour, so far "
                f"{so_far:.2f} in {_hours(each.age)}."
            )
        say(f"To end it: python -m experiment destroy --stack {stack}")


def destroy(stack: str, say: Say, *, agreed: bool) -> None:
    """Take down all that there is of a stack, whatever state it is in; the archive stays.

    Raises:
        TeardownError: something may be left.
        UserError: the stack cannot be used.
    """
    with _opened(stack, say) as cluster, signals_interrupt():
        found = cluster.find()
        what = f"the cluster {found.name} ({found.status})" if found else "what is left"
        _ask(f"Destroy {what} of the stack {stack}?", agreed=agreed)
        cluster.teardown()
        say(f"Nothing of the stack {stack} is left but its archive of events.")


def recover(stack: str, say: Say) -> None:
    """Make the state say what there is, after a command was killed, and tell what that is.

    Raises:
        UserError: the stack cannot be used.
    """
    with _opened(stack, say) as cluster, signals_interrupt():
        presence = cluster.mend()
        if presence is Presence.NOTHING:
            say(f"Nothing of the stack {stack} is there.")
            return
        found = cluster.find()
        shown = f"its cluster is {found.status}" if found else "it has no cluster"
        if presence is Presence.WHOLE:
            say(f"The stack {stack} is whole, and {shown}.")
        else:
            say(f"The stack {stack} is there in parts, and {shown}; a run would begin by")
            say("removing them.")
        say(f"To end it: python -m experiment destroy --stack {stack}")


def extend(stack: str, hours: int, say: Say) -> None:
    """Move the deadline of a cluster that is up, by one `up` that changes nothing else.

    Raises:
        PreflightError: the stack is not whole, or the `up` would change more.
        UserError: the stack cannot be used.
    """
    with _opened(stack, say) as cluster, signals_interrupt():
        if cluster.mend() is not Presence.WHOLE:
            raise PreflightError(
                f"The stack {stack} is not up, so it has no deadline to move.",
                f"python -m experiment status --stack {stack}",
            )
        until = _later(cluster, hours)
        set_deadline(stack, cluster.work_dir, f"{until:%Y-%m-%dT%H:%MZ}")
        changes = cluster.stack.changes()
        if other := [change for change in changes if not _is_of_the_deadline(change)]:
            names = ", ".join(change.resource.urn.rpartition("::")[2] for change in other)
            raise PreflightError(
                f"The files of the stack {stack} are not those that its cluster was made of, and "
                f"moving the deadline would change {names} as well.",
                f"pulumi preview --stack {stack} --diff",
            )
        cluster.stack.up()
        say(f"The cluster of {stack} now deletes itself at {until:%Y-%m-%dT%H:%MZ}.")


def sweep(project: str, say: Say, *, agreed: bool) -> None:
    """Delete all clusters of this program whose deadline has passed, with what deletes them.

    Raises:
        TeardownError: one of them could not be deleted.
        RunError: Google refused or did not answer.
    """
    api = GoogleApi(project)
    found = listed(api)
    for each in found:
        say(each.line() + ("  expired" if each.expired else ""))
    expired = [each for each in found if each.expired]
    if not expired:
        say(f"No cluster of this program in the project {project} is past its deadline.")
        return
    _ask(f"Delete {len(expired)} of them, with all their nodes?", agreed=agreed)
    _delete(api, expired, say)


def _delete(api: GoogleApi, expired: Sequence[Listed], say: Say) -> None:
    problems: list[str] = []
    begun: list[Listed] = []
    for each in expired:
        try:
            api.begin_deletion(each.cluster.location, each.cluster.name)
            begun.append(each)
            say(f"deleting {each.cluster.name} in {each.cluster.location}")
        except RunError as error:
            problems.append(error.problem)
    for each in begun:
        try:
            api.await_deletion(each.cluster.location, each.cluster.name)
            api.delete_job(_region(each.cluster.location), each.cluster.name)
            say(
                f"{each.cluster.name} is gone; what costs nothing (accounts, sink, archive) stays "
                f"until: python -m experiment destroy --stack {each.stack}"
            )
        except RunError as error:
            problems.append(error.problem)
    if problems:
        raise TeardownError(
            " ".join(problems), f"gcloud container clusters list --project {api.project}"
        )


def _listed(cluster: ClusterState) -> Listed:
    now = datetime.now(UTC)
    return Listed(
        cluster=cluster,
        stack=cluster.labels.get("stack", "?"),
        deadline=_moment(cluster.labels.get("expires", "")),
        age=now - (cluster.created_at or now),
        usd_per_hour=price_of(cluster),
    )


def _moment(label: str) -> datetime | None:
    try:
        return datetime.strptime(label, _LABEL_FORM).replace(tzinfo=UTC)
    except ValueError:
        return None


def _nodes(found: ClusterState) -> Iterator[str]:
    """A line a pool: how many of its nodes are Ready."""
    if not found.endpoint:
        return
    nodes = Kube(cluster_kubeconfig(found)).nodes("")
    for pool in found.pools:
        own = [node for node in nodes if node["metadata"]["labels"].get(_POOL_LABEL) == pool.name]
        ready = sum(_is_ready(node["status"].get("conditions", [])) for node in own)
        yield (
            f"pool {pool.name}: {ready} of {pool.node_count} {pool.machine_type} Ready, "
            f"{pool.status}"
        )


def _is_ready(conditions: Sequence[dict[str, str]]) -> bool:
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def _later(cluster: StackCluster, hours: int) -> datetime:
    """The deadline as it is now, and so many hours."""
    outputs = cluster.stack.outputs()
    now = datetime.now(UTC)
    known = now
    if outputs and outputs.expires_at:
        known = datetime.strptime(outputs.expires_at, _EXPORT_FORM).replace(tzinfo=UTC)
    until = max(known, now).replace(second=0, microsecond=0) + timedelta(hours=hours)
    if until > now + _LONGEST_LIFE:
        most = int((now + _LONGEST_LIFE - max(known, now)) / _HOUR)
        raise PlanError(
            f"With {hours} hours more the cluster would live until {until:%Y-%m-%dT%H:%MZ}, and "
            f"{_LONGEST_LIFE.days} days from now are the most.",
            f"--hours {max(most, 1)}",
        )
    return until


def _is_of_the_deadline(change: Change) -> bool:
    allowed = _MOVED_BY_A_DEADLINE.get(change.resource.type, set())
    return change.op == "update" and set(change.keys) <= allowed


def _ask(question: str, *, agreed: bool) -> None:
    if agreed:
        return
    if not sys.stdin.isatty():
        raise PlanError("Nobody is at a terminal to agree, so nothing was deleted.", "--yes")
    if not typer.confirm(question):
        raise Interrupted("Nothing was deleted.")


def _hours(time: timedelta) -> str:
    return f"{time / _HOUR:.1f} h"


def _region(location: str) -> str:
    return location.rpartition("-")[0] if location.count("-") > 1 else location


@contextmanager
def _opened(stack: str, say: Say) -> Iterator[StackCluster]:
    """A stack's cluster, on copies of its files that are gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="pull-study-") as folder:
        work_dir = Path(folder)
        copy_stack_files(stack, work_dir)
        # A deadline in the files that has passed must not keep anybody from ending the cluster.
        set_deadline(stack, work_dir, "")
        yield StackCluster(stack, work_dir, stack_facts(stack, work_dir), say)
