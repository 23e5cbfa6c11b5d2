"""What `python -m experiment run` does: plan runs or open one, ask, carry out, show the result.

It puts the parts together and talks to the user; what a run does is in experiment.run_study, and
several runs at once are in experiment.cli.several_runs.
"""

import json
import sys
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import typer

from analysis.show.report import write_report
from experiment.collect.ledger import last_attempts
from experiment.errors import InternalError, Interrupted, PlanError, ledger_exit_code, worst
from experiment.plan.budget import Budget
from experiment.plan.cost import Estimate, expected_trial_s, run_estimate
from experiment.plan.open_run import Place, Planned, begin, go_on, places, resolve_trials
from experiment.plan.request import RUNS, Manner, NewRuns
from experiment.preflight.checks import (
    check_disk_here,
    examine,
    examine_existing,
    exit_code_of,
    findings_table,
    refuse,
)
from experiment.preflight.findings import Finding, Level
from experiment.run_folder import RunFolder
from experiment.run_study import StudyRun
from experiment.terminal.progress import Progress, View
from experiment.terminal.summary import closing_table, image_lines
from experiment.terminal.views import choose_view, make_console
from schema.errors import ExitCode, UserError
from schema.run_records import CellRecord, PlannedTrial, Status


def run(new: NewRuns, manner: Manner) -> int:
    """Plan new runs, ask, and carry them out; the exit code to end with.

    Raises:
        UserError: a run cannot be planned, nobody agreed, or the first problem of a single run.
    """
    view = choose_view(quiet=manner.quiet, json_log=manner.json_log)
    plans = begin(new, view)
    if len(plans) > 1:
        from experiment.cli.several_runs import carry_out_all  # noqa: PLC0415 (it is of several runs alone)

        return carry_out_all(plans, manner, view)
    return carry_out(plans[0], manner, view)


def resume(run_name: str, budget_usd: float | None, manner: Manner) -> int:
    """Go on with a run; the exit code to end with.

    Raises:
        UserError: there is no such run, nobody agreed, or the run's first problem.
    """
    view = choose_view(quiet=manner.quiet, json_log=manner.json_log)
    return carry_out(go_on(run_name, budget_usd), manner, view)


def carry_out(planned: Planned, manner: Manner, view: View) -> int:
    """Measure what has no valid cell yet, and show the result; the exit code to end with.

    Raises:
        UserError: the first problem of the run, after teardown and report.
    """
    folder, record, place = planned.folder, planned.record, planned.place
    progress = Progress(view, lambda line: folder.log(line, datetime.now(UTC)))
    budget = Budget(record.budget_usd, place.usd_per_hour, folder.phases)
    run_of_study = StudyRun(
        folder,
        record,
        planned.cluster(progress.now),
        planned.attempt,
        progress,
        preflight=lambda: _preflight(planned, progress),
        may_begin=budget.may_begin,
        keep_cluster=manner.keep_cluster,
    )
    run_of_study.judge_unjudged()
    waiting = run_of_study.trials_to_measure()
    if waiting:
        progress.plan(record.trials, place.node_count, expected_trial_s)
        progress.judged(folder.cells(), folder.node_names(1))
        ask([planned], progress, manner)
    else:
        progress.say("Every cell is valid already; nothing is left to measure.")
    problem: UserError | None = None
    try:
        if waiting:
            run_of_study.run()
        else:
            run_of_study.end_leftovers()
    except UserError as error:
        problem = error
    cells = _show_result(folder, progress)
    unwritten = _write_report(folder, progress) if cells else None
    if problem or unwritten:
        raise problem or unwritten  # type: ignore[misc]  # one of them is not None
    return ledger_exit_code(cells)


def _preflight(planned: Planned, progress: Progress) -> None:
    found: list[Finding] = []
    record, place = planned.record, planned.place
    for finding in findings_of(record.trials, place, record.budget_usd, planned.folder.path):
        found.append(finding)
        progress.now(f"{finding.check}: {finding.text}")
        if finding.level is Level.WARNING:
            progress.say(f"Warning ({finding.check}): {finding.text} Fix: {finding.fix}")
    refuse(found)


def findings_of(
    trials: Sequence[PlannedTrial],
    place: Place,
    budget_usd: float | None = None,
    folder: Path = RUNS,
) -> Iterator[Finding]:
    """What can be checked of a run before it costs anything."""
    yield from check_disk_here(folder, len(trials) * place.node_count)
    if place.borrowed:
        yield from examine_existing(trials, place.borrowed)
    elif place.facts:
        yield from examine(trials, place.facts, budget_usd)


def show_preflight(new: NewRuns, *, as_json: bool) -> int:
    """Carry out the checks of runs and print them; the exit code to end with.

    Raises:
        UserError: the study or a stack cannot be read, or an image is not to be had.
    """
    study = new.read_study()
    trials = resolve_trials(study, new.seed or 0)
    console, code = make_console(), int(ExitCode.OK)
    shown: dict[str, list[dict[str, Any]]] = {}
    for stack, place in places(new).items():
        findings = list(findings_of(trials, place))
        if as_json:
            shown[stack] = [asdict(finding) for finding in findings]
        else:
            console.print(findings_table(findings, f"Preflight of {stack}, {study.name}"))
        code = worst([code, exit_code_of(findings)])
    if as_json:
        typer.echo(json.dumps(shown, indent=2))
    return code


def ask(plans: Sequence[Planned], progress: Progress, manner: Manner) -> None:
    """Say what runs will take and cost, and ask before the first cent.

    Raises:
        Interrupted: the answer was no.
        PlanError: nobody is there to answer.
    """
    tell = progress.say if manner.agreed else progress.result
    for planned in plans:
        trials = len(planned.record.trials)
        tell(f"Run {planned.record.run_id}: {trials} trials on {planned.place.told}.")
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
    if not plans[0].place.facts:
        return (
            "The cluster is there already: nothing is made or taken down, and what it costs is its "
            "owner's to know."
        )
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
    place = planned.place
    return run_estimate(planned.record.trials, place.node_count, place.usd_per_hour)


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
