"""What `python -m experiment run` does: plan a run or open one, ask, carry it out, show the result.

It puts the parts together and talks to the user; what a run does is in experiment.run_study.
"""

import json
import os
import secrets
import sys
import traceback
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import typer
from rich.console import Console

from analysis.report import write_report
from experiment.errors import InternalError, Interrupted, PlanError
from experiment.ledger import last_attempts
from experiment.plan import expected_cost, order_trials
from experiment.preflight import check_disk, check_programs
from experiment.progress import Progress
from experiment.registry import resolve_images
from experiment.run_folder import RunFolder
from experiment.run_study import StudyRun
from experiment.stack_cluster import StackCluster
from experiment.stack_files import copy_stack_files
from experiment.stacks import StackFacts, stack_facts
from experiment.summary import closing_table, image_lines
from schema.errors import ExitCode, UserError
from schema.names import REHEARSAL_VARIABLE
from schema.run_records import CellRecord, Rehearsal, RunRecord, Status
from schema.study import load_study

RUNS = Path("data/runs")
"""Where runs are kept, below the folder that the command is started in."""

_PLAIN_WIDTH = 120
_PACKAGES = ("pull-study", "pulumi", "pulumi-gcp", "pulumi-kubernetes")


@dataclass(frozen=True, slots=True)
class NewRun:
    """What the user asked for."""

    stack: str
    study: Path
    run_id: str
    """Empty for one of study, stack and time."""
    seed: int | None
    """None for a new one."""


@dataclass(frozen=True, slots=True)
class Planned:
    """A run with its folder, ready to go."""

    folder: RunFolder
    record: RunRecord
    facts: StackFacts
    attempt: int
    """1, or a later one for a run that is resumed."""


def begin(wanted: NewRun) -> Planned:
    """Plan a new run: resolve its images, order them, make its folder.

    Raises:
        UserError: the study, the stack, the run's name or an image is not to be had.
    """
    started_at = datetime.now(UTC)
    study = load_study(wanted.study)
    default = f"{study.name[:20]}-{wanted.stack[:15].rstrip('-')}-{started_at:%m%d-%H%M%S}"
    seed = secrets.randbelow(2**31) if wanted.seed is None else wanted.seed
    progress = Progress(_console(), lambda _line: None)
    with progress.phase("plan"):
        progress.now("resolving the study's images")
        trials = order_trials(study, resolve_images(study), seed)
    folder = RunFolder.create(RUNS, wanted.run_id or default)
    copy_stack_files(wanted.stack, folder.pulumi_dir)
    facts = stack_facts(wanted.stack, folder.pulumi_dir)
    versions = {name: version(name) for name in _PACKAGES} | {"python": sys.version.split()[0]}
    record = RunRecord(
        run_id=folder.path.name,
        started_at=started_at,
        stack=wanted.stack,
        study=study,
        study_file=wanted.study.name,
        seed=seed,
        trials=trials,
        versions=versions,
        rehearsal=_rehearsal(),
    )
    folder.write_run(record)
    return Planned(folder, record, facts, attempt=1)


def go_on(run: str) -> Planned:
    """Open a run that was begun.

    Raises:
        PlanError: there is no such run, or it was rehearsed and this is not, or the reverse.
    """
    folder = RunFolder.open(RUNS, run)
    record = folder.read_run()
    if record.rehearsal != _rehearsal():
        was = f"rehearsed at scale {record.rehearsal.scale:g}" if record.rehearsal else "real"
        raise PlanError(
            f"The run {record.run_id} was {was}, and its other half must not be anything else.",
            f"python -m experiment run --resume {record.run_id}"
            + (f" --rehearse --scale {record.rehearsal.scale:g}" if record.rehearsal else ""),
        )
    attempt = 1 + max((trial.attempt for trial in folder.trials()), default=1)
    return Planned(folder, record, stack_facts(record.stack, folder.pulumi_dir), attempt)


def carry_out(planned: Planned, *, keep_cluster: bool, agreed: bool) -> None:
    """Measure what has no valid cell yet, and show the result.

    Raises:
        UserError: the first problem of the run, after teardown and report.
        typer.Exit: with ExitCode.INCOMPLETE when a cell is excluded.
    """
    folder, record, facts = planned.folder, planned.record, planned.facts
    progress = Progress(_console(), lambda line: folder.log(line, datetime.now(UTC)))
    cluster = StackCluster(record.stack, folder.pulumi_dir, facts, progress.now)
    run = StudyRun(
        folder,
        record,
        cluster,
        planned.attempt,
        progress,
        preflight=lambda: _preflight(record, facts),
        keep_cluster=keep_cluster,
    )
    run.judge_unjudged()
    problem: UserError | None = None
    if run.trials_to_measure():
        _ask(record, facts, progress, agreed=agreed)
        try:
            run.run()
        except UserError as error:
            problem = error
    else:
        progress.say("Every cell is valid already; nothing is left to measure.")
    cells = _show_result(folder, progress)
    unwritten = _write_report(folder, progress) if cells else None
    if problem or unwritten:
        raise problem or unwritten  # type: ignore[misc]  # one of them is not None
    if any(cell.status is not Status.VALID for cell in cells):
        raise typer.Exit(ExitCode.INCOMPLETE)


def _preflight(record: RunRecord, facts: StackFacts) -> None:
    check_programs()
    check_disk(record.trials, facts.disk_gb)


def _console() -> Console:
    # Without a terminal nothing says how wide lines may be, and rich would cut tables at 80.
    return Console() if sys.stdout.isatty() else Console(width=_PLAIN_WIDTH)


def _rehearsal() -> Rehearsal | None:
    text = os.environ.get(REHEARSAL_VARIABLE)
    return Rehearsal.model_validate(json.loads(text)) if text else None


def _ask(record: RunRecord, facts: StackFacts, progress: Progress, *, agreed: bool) -> None:
    cost = expected_cost(record.trials, facts.usd_per_hour)
    progress.say(
        f"Run {record.run_id}: {len(record.trials)} trials on {facts.node_count} x "
        f"{facts.machine_type} in {facts.location} of project {facts.project}."
    )
    if record.rehearsal:
        progress.say(f"Rehearsed, so it costs nothing. {record.rehearsal.note}")
    else:
        progress.say(
            f"Expected: about {cost.hours:.1f} hours and {cost.usd:.2f} US dollars at list prices "
            f"({facts.usd_per_hour:.2f} an hour)."
        )
    if agreed:
        return
    if not sys.stdin.isatty():
        raise PlanError(
            "Nobody is at a terminal to agree to the cost, so nothing was started.", "--yes"
        )
    if not typer.confirm("Go on?"):
        raise Interrupted("Nothing was started.")


def _show_result(folder: RunFolder, progress: Progress) -> list[CellRecord]:
    trials = last_attempts(folder.trials())
    attempts = {trial.trial: trial.attempt for trial in trials}
    cells = [cell for cell in folder.cells() if attempts.get(cell.trial) == cell.attempt]
    if not cells:
        return []
    valid = sum(cell.status is Status.VALID for cell in cells)
    rehearsed = " of a rehearsal" if folder.read_run().rehearsal else ""
    caption = f"{valid} of {len(cells)} cells{rehearsed} are valid"
    progress.table(closing_table(image_lines(trials, cells), caption))
    return cells


def _write_report(folder: RunFolder, progress: Progress) -> UserError | None:
    try:
        page = write_report([folder.path], folder.report_dir)
    except Exception as error:  # noqa: BLE001 (what was measured must not end in a traceback)
        folder.log(traceback.format_exc(), datetime.now(UTC))
        return InternalError(
            f"The run is whole in {folder.path}, but its report could not be written: {error!r}.",
            f"report it with {folder.path / 'run.log'}; to try again: "
            f"python -m analysis report {folder.path} --out {folder.report_dir}",
        )
    progress.say(f"Report: {page}")
    return None
