"""What `python -m experiment run` does: plan runs or open one, ask, carry out, show the result.

It puts the parts together and talks to the user; what a run does is in experiment.run_study, and
several runs at once are in experiment.sizes.
"""

import json
import os
import secrets
import sys
import traceback
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import typer

from analysis.report import write_report
from experiment.budget import Budget
from experiment.errors import (
    InternalError,
    Interrupted,
    PlanError,
    ledger_exit_code,
    worst,
)
from experiment.estimate import Estimate, expected_trial_s, run_estimate
from experiment.findings import Finding, Level
from experiment.ledger import last_attempts
from experiment.plan import order_trials
from experiment.preflight import examine, exit_code_of, findings_table, refuse
from experiment.progress import Progress, View
from experiment.registry import resolve_copies, resolve_images
from experiment.request import RUNS, Manner, NewRuns
from experiment.run_folder import RunFolder
from experiment.run_study import StudyRun
from experiment.stack_cluster import StackCluster
from experiment.stack_facts import StackFacts, stack_facts
from experiment.stack_files import PROJECT_DIR, copy_stack_files
from experiment.summary import closing_table, image_lines
from experiment.views import choose_view, make_console
from schema.errors import ExitCode, UserError
from schema.names import REHEARSAL_VARIABLE
from schema.run_records import CellRecord, PlannedTrial, Rehearsal, RunRecord, Status
from schema.study import Study

_PACKAGES = ("pull-study", "pulumi", "pulumi-gcp", "pulumi-kubernetes")


@dataclass(frozen=True, slots=True)
class Planned:
    """A run with its folder, ready to go."""

    folder: RunFolder
    record: RunRecord
    facts: StackFacts
    attempt: int
    """1, or a later one for a run that is resumed."""


def run(new: NewRuns, manner: Manner) -> int:
    """Plan new runs, ask, and carry them out; the exit code to end with.

    Raises:
        UserError: a run cannot be planned, nobody agreed, or the first problem of a single run.
    """
    view = choose_view(quiet=manner.quiet, json_log=manner.json_log)
    plans = begin(new, view)
    if len(plans) > 1:
        from experiment.sizes import carry_out_all  # noqa: PLC0415 (it is of several runs alone)

        return carry_out_all(plans, manner, view)
    return carry_out(plans[0], manner, view)


def resume(run_name: str, budget_usd: float | None, manner: Manner) -> int:
    """Go on with a run; the exit code to end with.

    Raises:
        UserError: there is no such run, nobody agreed, or the run's first problem.
    """
    view = choose_view(quiet=manner.quiet, json_log=manner.json_log)
    return carry_out(go_on(run_name, budget_usd), manner, view)


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
    return [_begin_one(new, stack, study, seed, trials) for stack in new.stacks]


def _begin_one(
    new: NewRuns, stack: str, study: Study, seed: int, trials: tuple[PlannedTrial, ...]
) -> Planned:
    assert new.study is not None  # noqa: S101 (request.check_new saw to it)
    started_at = datetime.now(UTC)
    run_id = f"{study.name[:20]}-{stack[:15].rstrip('-')}-{started_at:%m%d-%H%M%S}"
    if new.run_id:
        run_id = new.run_id if len(new.stacks) == 1 else f"{new.run_id}-{stack}"
    folder = RunFolder.create(RUNS, run_id)
    copy_stack_files(stack, folder.pulumi_dir)
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
        staging=new.staging,
        budget_usd=new.budget_usd,
    )
    folder.write_run(record)
    return Planned(folder, record, stack_facts(stack, folder.pulumi_dir), attempt=1)


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
    return Planned(folder, record, stack_facts(record.stack, folder.pulumi_dir), attempt)


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


def carry_out(planned: Planned, manner: Manner, view: View) -> int:
    """Measure what has no valid cell yet, and show the result; the exit code to end with.

    Raises:
        UserError: the first problem of the run, after teardown and report.
    """
    folder, record, facts = planned.folder, planned.record, planned.facts
    progress = Progress(view, lambda line: folder.log(line, datetime.now(UTC)))
    budget = Budget(record.budget_usd, facts.usd_per_hour, folder.phases)
    run_of_study = StudyRun(
        folder,
        record,
        StackCluster(record.stack, folder.pulumi_dir, facts, progress.now),
        planned.attempt,
        progress,
        preflight=lambda: _preflight(record, facts, progress),
        may_begin=budget.may_begin,
        keep_cluster=manner.keep_cluster,
    )
    run_of_study.judge_unjudged()
    waiting = run_of_study.trials_to_measure()
    problem: UserError | None = None
    if waiting:
        progress.plan(record.trials, facts.node_count, expected_trial_s)
        progress.judged(folder.cells(), folder.node_names(1))
        ask([planned], progress, manner)
        try:
            run_of_study.run()
        except UserError as error:
            problem = error
    else:
        progress.say("Every cell is valid already; nothing is left to measure.")
    cells = _show_result(folder, progress)
    unwritten = _write_report(folder, progress) if cells else None
    if problem or unwritten:
        raise problem or unwritten  # type: ignore[misc]  # one of them is not None
    return ledger_exit_code(cells)


def _preflight(record: RunRecord, facts: StackFacts, progress: Progress) -> None:
    findings: list[Finding] = []
    for finding in examine(record.trials, facts, record.budget_usd):
        findings.append(finding)
        progress.now(f"{finding.check}: {finding.text}")
        if finding.level is Level.WARNING:
            progress.say(f"Warning ({finding.check}): {finding.text} To mend it: {finding.cure}")
    refuse(findings)


def show_preflight(new: NewRuns, *, as_json: bool) -> int:
    """Carry out the checks of runs and print them; the exit code to end with.

    Raises:
        UserError: the study or a stack cannot be read, or an image is not to be had.
    """
    study = new.read_study()
    trials = resolve_trials(study, new.seed or 0)
    console, code = make_console(), int(ExitCode.OK)
    shown: dict[str, list[dict[str, Any]]] = {}
    for stack in new.stacks:
        findings = list(examine(trials, stack_facts(stack, PROJECT_DIR)))
        if as_json:
            shown[stack] = [asdict(finding) for finding in findings]
        else:
            console.print(findings_table(findings, f"Preflight of {stack}, {study.name}"))
        code = worst([code, exit_code_of(findings)])
    if as_json:
        typer.echo(json.dumps(shown, indent=2))
    return code


def rehearsal_record() -> Rehearsal | None:
    """What is not the real thing here, None on Google Cloud."""
    text = os.environ.get(REHEARSAL_VARIABLE)
    return Rehearsal.model_validate(json.loads(text)) if text else None


def ask(plans: Sequence[Planned], progress: Progress, manner: Manner) -> None:
    """Say what runs will take and cost, and ask before the first cent.

    Raises:
        Interrupted: the answer was no.
        PlanError: nobody is there to answer.
    """
    tell = progress.say if manner.agreed else progress.result
    for planned in plans:
        record, facts = planned.record, planned.facts
        tell(
            f"Run {record.run_id}: {len(record.trials)} trials on {facts.node_count} x "
            f"{facts.machine_type} in {facts.location} of project {facts.project}."
        )
    tell(_expectation(plans, manner))
    if manner.agreed:
        return
    if not sys.stdin.isatty():
        raise PlanError(
            "Nobody is at a terminal to agree to the cost, so nothing was started.", "--yes"
        )
    if not typer.confirm("Go on?"):
        raise Interrupted("Nothing was started.")


def _expectation(plans: Sequence[Planned], manner: Manner) -> str:
    rehearsal = plans[0].record.rehearsal
    if rehearsal:
        return f"Rehearsed, so it costs nothing. {rehearsal.note}"
    estimates = [estimate_of(planned) for planned in plans]
    low, expected, high = (sum(costs) for costs in zip(*(e.usd for e in estimates), strict=True))
    hours = (
        max(e.hours[1] for e in estimates)
        if manner.parallel > 1
        else sum(e.hours[1] for e in estimates)
    )
    kept = ", and goes on as long as the cluster is kept" if manner.keep_cluster else ""
    return (
        f"Expected: about {hours:.1f} hours and {expected:.2f} US dollars at list prices "
        f"({low:.2f} to {high:.2f}){kept}."
    )


def estimate_of(planned: Planned) -> Estimate:
    """What a run is expected to take and cost."""
    facts = planned.facts
    return run_estimate(planned.record.trials, facts.node_count, facts.usd_per_hour)


def _show_result(folder: RunFolder, progress: Progress) -> list[CellRecord]:
    trials = last_attempts(folder.trials())
    attempts = {trial.trial: trial.attempt for trial in trials}
    cells = [cell for cell in folder.cells() if attempts.get(cell.trial) == cell.attempt]
    if not cells:
        return []
    valid = sum(cell.status is Status.VALID for cell in cells)
    rehearsed = " of a rehearsal" if folder.read_run().rehearsal else ""
    caption = f"{valid} of {len(cells)} cells{rehearsed} are valid"
    lines = image_lines(trials, cells)
    progress.table(closing_table(lines, caption), [asdict(line) for line in lines])
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
    progress.result(f"Report: {page}")
    return None
