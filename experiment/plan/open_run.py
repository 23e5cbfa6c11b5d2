"""Creates runs from the command line's request, or reopens one for --resume.

Nothing here costs anything: images are resolved in registries, and an existing cluster is read.
"""

import json
import os
import re
import secrets
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version

from experiment.errors import PlanError
from experiment.plan.cost import own_deadline
from experiment.plan.registry import resolve_copies, resolve_images, resolve_view
from experiment.plan.request import NewRuns, run_ids, runs_folder
from experiment.plan.trial_order import order_trials, through
from experiment.provision.cluster import Cluster
from experiment.provision.existing_cluster import ExistingCluster
from experiment.provision.stack_cluster import StackCluster
from experiment.provision.stack_files import (
    copy_stack_files,
    require_stack,
    set_deadline,
    set_lifetime,
    set_zones,
)
from experiment.provision.stack_settings import stack_facts
from experiment.run_folder import RunFolder
from experiment.terminal.progress import Progress, View
from schema.names import REHEARSAL_VARIABLE
from schema.run_records import PlannedTrial, Rehearsal, RunRecord
from schema.study import Study

_PYTHON = sys.version.split()[0]
_PACKAGES = ("pull-study", "pulumi", "pulumi-gcp", "pulumi-kubernetes")


@dataclass(frozen=True, slots=True)
class Planned:
    """A run with its folder and its cluster, ready to start."""

    folder: RunFolder
    record: RunRecord
    cluster: Cluster
    attempt: int
    """1, or a later one for a resumed run."""
    reopened: bool = False
    """Its digests were resolved by an earlier command."""


def begin(new: NewRuns, study: Study, view: View) -> list[Planned]:
    """Plan new runs, one for each cluster: resolve the images once, order them, create the folders.

    All of them get the same digests, seed and order, so that only the clusters differ.

    Raises:
        UserError: a stack, a run's name or an image is not valid or missing.
    """
    seed = secrets.randbelow(2**31) if new.seed is None else new.seed
    progress = Progress(view, lambda _line: None)
    with progress.phase("plan"):
        progress.now("resolving the study's images")
        trials = resolve_trials(study, seed)
    started_at = datetime.now(UTC)

    places = [(stack, n) for n in range(1, new.repeat_clusters + 1) for stack in new.stacks]
    named = dict(zip(places or [("", 1)], run_ids(new), strict=True)) if new.run_id else {}

    def planned(name: str, number: int = 1, existing: ExistingCluster | None = None) -> Planned:
        own = f"{study.name[:20]}-{name[:15].rstrip('-')}-{started_at:%m%d-%H%M%S}"
        own += f"-c{number}" if new.repeat_clusters > 1 else ""
        filed = existing or _as_filed(name)
        require_operator(trials, filed)
        run_id = named.get(("", 1) if existing else (name, number), own)
        folder = RunFolder.create(runs_folder(), run_id)
        deadline_hours = own_deadline(filed, trials)
        if existing:
            existing.hold_for(folder.path)
        cluster = existing or _copied_stack(name, folder, new.zones, deadline_hours)
        record = RunRecord(
            run_id=folder.path.name,
            started_at=started_at,
            stack=name,
            study=study,
            study_file=new.study.name if new.study else "",
            seed=seed,
            trials=own_names(trials, cluster),
            versions={each: version(each) for each in _PACKAGES} | {"python": _PYTHON},
            rehearsal=rehearsal_record(),
            existing=existing.choice if existing else None,
            warnings=existing.warnings if existing else (),
            staging=new.staging,
            budget_usd=new.budget_usd,
            deadline_hours=deadline_hours,
        )
        folder.write_run(record)
        return Planned(folder, record, cluster, attempt=1)

    if new.existing:
        existing = ExistingCluster(new.existing)
        return [planned(_plain_name(existing), existing=existing)]
    return [planned(stack, number) for stack, number in places]


def require_operator(trials: Sequence[PlannedTrial], cluster: Cluster) -> None:
    """Refuse MiniClusters on a stack that does not install their operator.

    Raises:
        PlanError: it would fail on the cluster, which costs money by then.
    """
    if not any(trial.view for trial in trials) or not isinstance(cluster, StackCluster):
        return
    if not cluster.facts.flux_operator:
        raise PlanError(
            f"The stack {cluster.name} has no Flux Operator, and the study runs MiniClusters.",
            "--stack size-16-minicluster, or --workload job",
        )


def own_names(trials: Sequence[PlannedTrial], cluster: Cluster) -> tuple[PlannedTrial, ...]:
    """Return trials with the images' names on a cluster, which may have a remote repository."""
    if not isinstance(cluster, StackCluster):
        return tuple(trials)
    return through(trials, cluster.facts.remote_repository, cluster.facts.remote_name)


def _copied_stack(
    stack: str, folder: RunFolder, zones: tuple[str, ...], deadline_hours: int | None
) -> StackCluster:
    copy_stack_files(stack, folder.pulumi_dir)
    if zones:
        set_zones(stack, folder.pulumi_dir, zones)
    if deadline_hours is not None:
        set_lifetime(stack, folder.pulumi_dir, deadline_hours)
    return StackCluster(stack, folder.pulumi_dir)


def _plain_name(cluster: ExistingCluster) -> str:
    plain = re.sub(r"[^a-z0-9]+", "-", cluster.name.lower()).strip("-")
    return f"existing-{plain[-30:].strip('-')}"


def clusters(new: NewRuns) -> dict[str, Cluster]:
    """Return the clusters of new runs by the name of their stack.

    Raises:
        UserError: a stack is not valid, or the existing cluster cannot be reached.
    """
    if new.existing:
        existing = ExistingCluster(new.existing)
        return {_plain_name(existing): existing}
    return {stack: _as_filed(stack, new.zones) for stack in new.stacks}


def _as_filed(stack: str, zones: tuple[str, ...] = ()) -> StackCluster:
    """The cluster of a stack's file, which no command may change."""
    folder = require_stack(stack).parent
    return StackCluster(stack, folder, stack_facts(stack, folder, zones))


def resolve_trials(study: Study, seed: int) -> tuple[PlannedTrial, ...]:
    """Return a study's trials in order, with digests and layers from the registries.

    Raises:
        RegistryError: an image cannot be read.
    """
    images, copies = resolve_images(study), resolve_copies(study)
    return order_trials(study, images, seed, copies, resolve_view(study))


def reopen(run_name: str, budget_usd: float | None = None) -> Planned:
    """Open a run that was planned or started before.

    Raises:
        PlanError: there is no such run, or one of run and command is a rehearsal and the other not.
    """
    folder = RunFolder.open(runs_folder(), run_name)
    record = folder.read_run()
    _refuse_mixture(record, rehearsal_record())
    if budget_usd is not None:
        record = record.model_copy(update={"budget_usd": budget_usd})
        folder.write_run(record)
    if record.deadline_hours is not None:
        # That of an earlier attempt may have passed, with which the file would be refused.
        set_deadline(record.stack, folder.pulumi_dir, "")
    cluster: Cluster
    if record.existing:
        cluster = ExistingCluster(record.existing)
        cluster.hold_for(folder.path)
    else:
        cluster = StackCluster(record.stack, folder.pulumi_dir)
    # Without a recorded phase there is no cluster of its own, so it counts as the first attempt.
    return Planned(folder, record, cluster, attempt=1 + folder.last_attempt(), reopened=True)


def _refuse_mixture(record: RunRecord, now: Rehearsal | None) -> None:
    def kind(rehearsal: Rehearsal | None) -> tuple[object, ...]:
        return (rehearsal.nodes, rehearsal.scale, rehearsal.speed) if rehearsal else ()

    if kind(record.rehearsal) == kind(now):
        return
    was = record.rehearsal
    shown = f"a rehearsal on {was.nodes} nodes at scale {was.scale:g}" if was else "a real run"
    raise PlanError(
        f"The run {record.run_id} was started as {shown} and must be resumed as one.",
        f"pull-study run --resume {record.run_id}" + (" --rehearse" if was else ""),
    )


def rehearsal_record() -> Rehearsal | None:
    """Return what is not real in this environment; None on Google Cloud."""
    text = os.environ.get(REHEARSAL_VARIABLE)
    return Rehearsal.model_validate(json.loads(text)) if text else None
