"""Makes a run of what was asked for, or opens one that was begun: its folder, its plan, its place.

Nothing here costs anything: images are read from registries, and a cluster that is there already is
looked at.
"""

import json
import os
import re
import secrets
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version

from experiment.errors import PlanError
from experiment.plan.registry import resolve_copies, resolve_images
from experiment.plan.request import RUNS, NewRuns
from experiment.plan.trial_order import order_trials
from experiment.provision.existing_cluster import BorrowedCluster
from experiment.provision.pulumi_stack import Say
from experiment.provision.stack_cluster import Cluster, StackCluster
from experiment.provision.stack_files import PROJECT_DIR, copy_stack_files
from experiment.provision.stack_settings import StackFacts, stack_facts
from experiment.run_folder import RunFolder
from experiment.terminal.progress import Progress, View
from schema.names import REHEARSAL_VARIABLE
from schema.run_records import PlannedTrial, Rehearsal, RunRecord
from schema.study import Study

_PACKAGES = ("pull-study", "pulumi", "pulumi-gcp", "pulumi-kubernetes")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a run measures: on the cluster of a stack, or on one that is there already."""

    facts: StackFacts | None
    borrowed: BorrowedCluster | None = None

    @property
    def node_count(self) -> int:
        """N of the study."""
        return self._one.node_count

    @property
    def machine_type(self) -> str:
        """Of the measured nodes."""
        return self._one.machine_type

    @property
    def usd_per_hour(self) -> float:
        """List price of the whole cluster; 0 where only its owner knows it."""
        return self.facts.usd_per_hour if self.facts else 0.0

    @property
    def disk_gb(self) -> int:
        """Of a measured node, where images are unpacked."""
        return self._one.disk_gb

    @property
    def told(self) -> str:
        """Nodes and where they are."""
        nodes = f"{self.node_count} x {self.machine_type}"
        if self.facts:
            return f"{nodes} in {self.facts.location} of project {self.facts.project}"
        return f"{nodes} of the cluster {self.borrowed.name if self.borrowed else ''}"

    @property
    def _one(self) -> StackFacts | BorrowedCluster:
        one = self.facts or self.borrowed
        assert one is not None  # noqa: S101 (a place is one of the two)
        return one


@dataclass(frozen=True, slots=True)
class Planned:
    """A run with its folder, ready to go."""

    folder: RunFolder
    record: RunRecord
    place: Place
    attempt: int
    """1, or a later one for a run that is resumed."""

    def cluster(self, say: Say) -> Cluster:
        """What the run does with its cluster; `say` is told each step."""
        if self.place.borrowed:
            self.place.borrowed.say = say
            return self.place.borrowed
        assert self.place.facts is not None  # noqa: S101 (a place is one of the two)
        return StackCluster(self.record.stack, self.folder.pulumi_dir, self.place.facts, say)


def begin(new: NewRuns, view: View) -> list[Planned]:
    """Plan new runs, one on each stack: resolve their images once, order them, make folders.

    All of them get the same digests, seed and order, so that clusters differ in nothing else.

    Raises:
        UserError: the study, a stack, a run's name or an image is not to be had.
    """
    assert new.study is not None  # noqa: S101 (request.check_new saw to it)
    study = new.read_study()
    seed = secrets.randbelow(2**31) if new.seed is None else new.seed
    progress = Progress(view, lambda _line: None)
    with progress.phase("plan"):
        progress.now("resolving the study's images")
        trials = resolve_trials(study, seed)
    if new.existing:
        place = Place(None, BorrowedCluster(new.existing))
        return [_begin_one(new, place, study, seed, trials)]
    return [_begin_one(new, stack, study, seed, trials) for stack in new.stacks]


def _begin_one(
    new: NewRuns, where: str | Place, study: Study, seed: int, trials: tuple[PlannedTrial, ...]
) -> Planned:
    assert new.study is not None  # noqa: S101 (request.check_new saw to it)
    started_at = datetime.now(UTC)
    stack = where if isinstance(where, str) else _name_of(where)
    run_id = f"{study.name[:20]}-{stack[:15].rstrip('-')}-{started_at:%m%d-%H%M%S}"
    if new.run_id:
        run_id = new.run_id if len(new.stacks) <= 1 else f"{new.run_id}-{stack}"
    folder = RunFolder.create(RUNS, run_id)
    if isinstance(where, str):
        copy_stack_files(stack, folder.pulumi_dir)
        where = Place(stack_facts(stack, folder.pulumi_dir))
    record = RunRecord(
        run_id=folder.path.name,
        started_at=started_at,
        stack=stack,
        study=study,
        study_file=new.study.name,
        seed=seed,
        trials=trials,
        versions={name: version(name) for name in _PACKAGES} | {"python": sys.version.split()[0]},
        rehearsal=rehearsal_record(),
        existing=new.existing,
        staging=new.staging,
        budget_usd=new.budget_usd,
    )
    folder.write_run(record)
    return Planned(folder, record, where, attempt=1)


def _name_of(place: Place) -> str:
    name = place.borrowed.name if place.borrowed else ""
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    return f"existing-{plain[-30:].strip('-')}"


def places(new: NewRuns) -> dict[str, Place]:
    """Where new runs would measure, by stack, or the cluster that is there already by its name.

    Raises:
        UserError: a stack cannot be read, or the cluster not be reached.
    """
    if new.existing:
        place = Place(None, BorrowedCluster(new.existing))
        return {_name_of(place): place}
    return {stack: Place(stack_facts(stack, PROJECT_DIR)) for stack in new.stacks}


def resolve_trials(study: Study, seed: int) -> tuple[PlannedTrial, ...]:
    """The trials of a study in their order, with digests and layers from the registries.

    Raises:
        RegistryError: an image is not to be had.
    """
    return order_trials(study, resolve_images(study), seed, resolve_copies(study))


def go_on(run_name: str, budget_usd: float | None = None) -> Planned:
    """Open a run that was planned or begun.

    Raises:
        PlanError: there is no such run, or it was rehearsed and this is not, or the reverse.
    """
    folder = RunFolder.open(RUNS, run_name)
    record = folder.read_run()
    _refuse_mixture(record, rehearsal_record())
    if budget_usd is not None:
        record = record.model_copy(update={"budget_usd": budget_usd})
        folder.write_run(record)
    # A run of which no phase ended is a new one: nothing was made for it that could be its own.
    attempt = 1 + folder.last_attempt()
    place = (
        Place(None, BorrowedCluster(record.existing))
        if record.existing
        else Place(stack_facts(record.stack, folder.pulumi_dir))
    )
    return Planned(folder, record, place, attempt)


def _refuse_mixture(record: RunRecord, now: Rehearsal | None) -> None:
    def kind(rehearsal: Rehearsal | None) -> tuple[object, ...]:
        return (rehearsal.nodes, rehearsal.scale, rehearsal.speed) if rehearsal else ()

    if kind(record.rehearsal) == kind(now):
        return
    was = record.rehearsal
    told = f"rehearsed on {was.nodes} nodes at scale {was.scale:g}" if was else "real"
    raise PlanError(
        f"The run {record.run_id} was {told}, and its other half must not be anything else.",
        f"python -m experiment run --resume {record.run_id}" + (" --rehearse" if was else ""),
    )


def rehearsal_record() -> Rehearsal | None:
    """What is not the real thing here, None on Google Cloud."""
    text = os.environ.get(REHEARSAL_VARIABLE)
    return Rehearsal.model_validate(json.loads(text)) if text else None
