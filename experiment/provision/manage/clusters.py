"""`list` and `sweep`: they ask Google alone and need no state of Pulumi's."""

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from experiment.errors import Interrupted, PlanError, RunError, TeardownError
from experiment.kube import Kube, is_ready
from experiment.provision.cluster_state import ClusterState, DeadManJob
from experiment.provision.google_api import GoogleApi
from experiment.provision.stack_settings import cluster_kubeconfig, label_deadline, price_of
from experiment.terminal.confirm import confirm
from experiment.terminal.progress import Say
from experiment.waiting import Clock
from schema.errors import UserError
from schema.names import PROJECT_LABEL, PROJECT_VARIABLE
from schema.output import Output, print_rows

_PATIENCE_S = 10.0
_POOL_LABEL = "cloud.google.com/gke-nodepool"
_HOUR = timedelta(hours=1)
_COLUMNS = (
    *("stack", "cluster", "status", "location", "age_hours", "deadline", "expired"),
    *("usd_per_hour", "usd_so_far", "notes"),
)


@dataclass(frozen=True, slots=True)
class Listed:
    """A cluster of this program."""

    cluster: ClusterState
    stack: str
    deadline: datetime | None
    """None without a valid label."""
    age: timedelta
    usd_per_hour: float | None

    @property
    def expired(self) -> bool:
        """Its deadline has passed, and it is not being deleted."""
        over = self.deadline is not None and self.deadline <= datetime.now(UTC)
        return over and self.cluster.status != "STOPPING"

    @property
    def usd(self) -> float | None:
        """What it has cost so far; None if its price is unknown."""
        return None if self.usd_per_hour is None else self.usd_per_hour * (self.age / _HOUR)

    def row(self) -> dict[str, object]:
        """Return the cluster as a row: `_COLUMNS` without notes."""
        state = self.cluster
        values = (
            *(self.stack, state.name, state.status, state.location, self.age / _HOUR),
            *(self.deadline, self.expired, self.usd_per_hour, self.usd),
        )
        return dict(zip(_COLUMNS, values, strict=False))

    def line(self) -> str:
        """Return the cluster in one line."""
        cost = "price unknown"
        if self.usd is not None:
            cost = f"{self.usd_per_hour:.2f} USD/h, {self.usd:.2f} USD so far"
        until = f"{self.deadline:%Y-%m-%dT%H:%MZ}" if self.deadline else "no deadline"
        return (
            f"{self.stack:<24} {self.cluster.status:<13} {self.cluster.location:<18} "
            f"{_hours(self.age):>8} old  until {until:<17}  {cost}"
        )


def project_of(option: str) -> str:
    """Return the project to search.

    Raises:
        PlanError: none is given.
    """
    project = option or os.environ.get(PROJECT_VARIABLE, "")
    if not project:
        raise PlanError(
            "No Google Cloud project is given.",
            f"--project PROJECT_ID, or: export {PROJECT_VARIABLE}=PROJECT_ID",
        )
    return project


def listed(api: GoogleApi, say: Say) -> list[Listed]:
    """Return all clusters of this program in a project; warn of zones that GKE cannot reach.

    Raises:
        RunError: Google refused or did not answer.
    """
    clusters = api.clusters()
    if api.unlisted:
        say(
            f"Warning: GKE cannot reach {', '.join(api.unlisted)} now; a cluster there is not in "
            "this list, may exist, and costs money. Fix: repeat this command later."
        )
    return [_listed(each) for each in clusters if each.labels.get("project") == PROJECT_LABEL]


def show_list(
    project: str, say: Say, output: Output = Output.TABLE, warn: Say | None = None
) -> None:
    """Show all clusters of this program with their state, Ready nodes, deadline and cost.

    Also dead-man jobs that failed, and those that no cluster has.

    Args:
        project: to search.
        say: shows a line of the list.
        output: other forms than a table print the clusters as rows.
        warn: shows what is no cluster, if `output` is not a table.

    Raises:
        RunError: Google refused or did not answer.
    """
    api = GoogleApi(project)
    as_table = output is Output.TABLE
    if not as_table:
        say = warn or say
    found = listed(api, say)
    try:
        jobs = api.dead_man_jobs()
    except RunError as error:
        say(f"The dead-man jobs cannot be read: {error.problem}")
        jobs = None
    if not found and not api.unlisted:
        say(f"The project {project} has no cluster of this program.")
    rows = []
    for each in found:
        notes = [*_problems(each.cluster, jobs), *_nodes(each.cluster)]
        rows.append(each.row() | {"notes": notes})
        for line in (each.line(), *(f"  {note}" for note in notes)) if as_table else ():
            say(line)
    if not as_table:
        print_rows(output, rows, _COLUMNS)
    there = {(each.cluster.location, each.cluster.name) for each in found}
    for job in jobs or ():
        if (job.location, job.cluster) not in there and job.location not in api.unlisted:
            say(
                f"The dead-man job {job.name} in {job.region} is for a cluster that does not "
                f"exist in {job.location}; to delete it unless that cluster is being created: "
                f"gcloud scheduler jobs delete {job.name} --location {job.region} "
                f"--project {project}"
            )
    if not found:
        return
    total = sum(each.usd_per_hour or 0 for each in found)
    say(f"Total: about {total:.2f} USD an hour at list prices.")
    say("To delete one: pull-study destroy --stack STACK")


def sweep(project: str, say: Say, *, assume_yes: bool, clock: Clock = time) -> None:
    """Delete all clusters of this program whose deadline has passed, and their scheduler jobs.

    Raises:
        TeardownError: one of them could not be deleted.
        Interrupted: Ctrl-C.
        RunError: Google refused or did not answer.
    """
    api = GoogleApi(project)
    found = listed(api, say)
    for each in found:
        say(each.line() + ("  expired" if each.expired else ""))
    expired = [each for each in found if each.expired]
    if not expired:
        say(f"No listed cluster of this program in {project} is past its deadline.")
        return
    if not assume_yes:
        confirm(f"Delete {len(expired)} of them, with all their nodes?", "nothing was deleted")
    try:
        _delete(api, expired, say, clock)
    except KeyboardInterrupt as error:
        raise Interrupted(
            "Interrupted; a deletion that began goes on, the other clusters exist and cost money.",
            "pull-study list",
        ) from error


def _delete(api: GoogleApi, expired: Sequence[Listed], say: Say, clock: Clock) -> None:
    problems: list[str] = []
    started: list[Listed] = []
    for each in expired:
        try:
            api.begin_deletion(each.cluster.location, each.cluster.name)
            started.append(each)
            say(f"deleting {each.cluster.name} in {each.cluster.location}")
        except RunError as error:
            problems.append(error.problem)
    for each in started:
        try:
            api.await_deletion(each.cluster.location, each.cluster.name, clock)
        except RunError as error:
            problems.append(error.problem)
            continue
        say(
            f"{each.cluster.name} is deleted; accounts, sink, archive and, if the stack has one, "
            "its remote repository, whose storage costs money, are left to: "
            f"pull-study destroy --stack {each.stack}"
        )
        _delete_jobs(api, each.cluster, say)
    if problems:
        raise TeardownError(
            " ".join(problems), f"gcloud container clusters list --project {api.project}"
        )


def _delete_jobs(api: GoogleApi, deleted: ClusterState, say: Say) -> None:
    try:
        for job in api.dead_man_jobs():
            if (job.location, job.cluster) == (deleted.location, deleted.name):
                api.delete_job(job.region, job.name)
    except RunError as error:
        say(f"  its dead-man jobs are left, 0.10 USD a month each at most: {error.problem}")


def _listed(cluster: ClusterState) -> Listed:
    now = datetime.now(UTC)
    return Listed(
        cluster=cluster,
        stack=cluster.labels.get("stack", "?"),
        deadline=label_deadline(cluster.labels.get("expires", "")),
        age=now - (cluster.created_at or now),
        usd_per_hour=price_of(cluster),
    )


def _nodes(found: ClusterState) -> Iterator[str]:
    """A line for each pool: how many of its nodes are Ready."""
    if not found.endpoint:
        return
    kube = Kube(cluster_kubeconfig(found), patience_s=_PATIENCE_S)
    try:
        nodes = kube.nodes("")
    except UserError as error:
        yield f"its nodes cannot be read: {error.problem}"
        return
    finally:
        kube.close()
    for pool in found.pools:
        own = [node for node in nodes if node["metadata"]["labels"].get(_POOL_LABEL) == pool.name]
        yield (
            f"pool {pool.name}: {sum(map(is_ready, own))} of {pool.node_count} "
            f"{pool.machine_type} Ready, {pool.status}"
        )


def _problems(cluster: ClusterState, jobs: Sequence[DeadManJob] | None) -> Iterator[str]:
    """A line if it is not healthy, and for each reason why Google may not delete it in time."""
    if not cluster.healthy:
        yield f"GKE reports it as {cluster.why_unhealthy}"
    if jobs is None:
        return
    own = [job for job in jobs if (job.location, job.cluster) == (cluster.location, cluster.name)]
    if not own:
        yield "it has no dead-man job: Google will not delete it at its deadline"
    for job in own:
        if job.problem:
            yield f"the dead-man job {job.name} may not delete it: {job.problem}"


def _hours(time: timedelta) -> str:
    return f"{time / _HOUR:.1f} h"
