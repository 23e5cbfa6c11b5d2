"""`pull-study run`: plan runs or reopen one, confirm, carry out, show the result.

The phases of a run are in experiment.run_study, several runs in experiment.cli.several_runs.
"""

import traceback
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict

from experiment.cli.several_runs import carry_out_all
from experiment.errors import InternalError, TeardownError, ledger_exit_code
from experiment.plan.cost import Budget, Estimate, deadline, expected_trial_s, run_estimate
from experiment.plan.open_run import Planned, begin, reopen
from experiment.plan.request import NewRuns, RunOptions
from experiment.preflight.checks import check_run, check_together
from experiment.preflight.findings import refuse
from experiment.provision.existing_cluster import ExistingCluster
from experiment.provision.stack_cluster import StackCluster
from experiment.run_folder import RunFolder
from experiment.run_study import StudyRun
from experiment.terminal.confirm import confirm
from experiment.terminal.grid import verdict
from experiment.terminal.progress import Progress, View
from experiment.terminal.summary import closing_table, image_lines
from experiment.terminal.views import choose_view
from schema.errors import UserError
from schema.run_records import CellRecord
from schema.study import Study


def run(new: NewRuns, study: Study, options: RunOptions) -> int:
    """Plan new runs, ask for confirmation, and carry them out; return the exit code.

    Raises:
        UserError: a run cannot be planned or was not confirmed, or the problem of a single run.
    """
    view = choose_view(quiet=options.quiet, json_log=options.json_log, output=options.output)
    plans = begin(new, study, view)
    if len(plans) > 1:
        progress = Progress(view, lambda _line: None)
        stacks = {planned.cluster.name: planned.cluster for planned in plans}
        refuse(check_together(list(stacks.values()), options.parallel))
        _confirm(plans, progress, options)
        return carry_out_all(plans, options, progress)
    return carry_out(plans[0], options, view)


def resume(run_name: str, budget_usd: float | None, options: RunOptions) -> int:
    """Resume a run; return the exit code.

    Raises:
        UserError: there is no such run, it was not confirmed, or the run's first problem.
    """
    view = choose_view(quiet=options.quiet, json_log=options.json_log, output=options.output)
    return carry_out(reopen(run_name, budget_usd), options, view)


def carry_out(planned: Planned, options: RunOptions, view: View) -> int:
    """Measure what has no valid cell yet, and show the result; return the exit code.

    Raises:
        UserError: another process works on the run; or its first problem, after the report. It says
            what is up.
    """
    with planned.folder.lock():
        try:
            return _carry_out(planned, options, view)
        except UserError as error:
            # An earlier attempt's cluster or another run's may be up however early this failed.
            if not isinstance(error, TeardownError) and (note := _standing(planned)):
                error.add_note(note)
            raise


def _standing(planned: Planned) -> str:
    try:
        return planned.cluster.standing()
    except UserError as error:  # without credentials for example, which is the error itself
        unknown = f"Whether its cluster is up is unknown: {error.problem}"
        return unknown if planned.attempt > 1 else ""  # a new run has made none


def _name_cluster_of_another_run(planned: Planned, progress: Progress) -> None:
    with suppress(UserError):  # this run's own cluster is deleted, by its ledger
        if note := planned.cluster.standing():
            progress.result(note)


def _carry_out(planned: Planned, options: RunOptions, view: View) -> int:
    folder, record, cluster = planned.folder, planned.record, planned.cluster
    progress = Progress(view, folder.log)
    cluster.say = progress.now
    planned_trials = {trial.trial: trial for trial in record.trials}
    budget = Budget(
        record.budget_usd,
        cluster,
        folder.phases,
        pulled=[planned_trials[earlier.trial] for earlier in folder.trials()],
    )
    run_of_study = StudyRun(
        folder,
        record,
        cluster,
        planned.attempt,
        progress,
        preflight=lambda: check_run(
            record.trials,
            cluster,
            record.budget_usd,
            folder.path,
            progress,
            reopened=planned.reopened,
        ),
        may_begin=budget.may_begin,
        keep_cluster=options.keep_cluster,
        spans=options.spans_file(),
    )
    run_of_study.judge_unjudged()
    waiting = run_of_study.trials_to_measure()
    if waiting:
        progress.plan(record.trials, cluster.node_count, expected_trial_s)
        progress.judged(folder.cells(), folder.node_names(1))
        if record.deadline_hours is not None and isinstance(cluster, StackCluster):
            cluster.least_hours = run_estimate(waiting, cluster).deadline_hours
        _confirm([planned], progress, options)
    else:
        progress.say("Every cell is already valid; there is nothing left to measure.")
    problem: UserError | None = None
    try:
        if waiting:
            run_of_study.run()
        else:
            run_of_study.end_leftovers()
            _name_cluster_of_another_run(planned, progress)
    except UserError as error:
        problem = error
    try:
        cells = _show_result(folder, progress)
        unwritten = _write_report(folder, progress) if cells else None
    except Exception as error:
        if problem is None:
            raise
        folder.log(f"The result cannot be shown: {error!r}")
        raise problem from None  # it may be about a cluster that costs money
    if problem or unwritten:
        raise problem or unwritten  # type: ignore[misc]  # one of them is not None
    return ledger_exit_code(cells)


def _confirm(plans: Sequence[Planned], progress: Progress, options: RunOptions) -> None:
    """Show what runs will take and cost, and ask unless --yes is given."""
    show = progress.say if options.assume_yes else progress.result
    for planned in plans:
        trials = len(planned.record.trials)
        show(f"Run {planned.record.run_id}: {trials} trials on {planned.cluster.description}.")
    show(_expectation(plans, options))
    if not options.assume_yes:
        confirm("Continue?", "nothing was started")


def _expectation(plans: Sequence[Planned], options: RunOptions) -> str:
    rehearsal = plans[0].record.rehearsal
    if rehearsal:
        return f"A rehearsal, which costs nothing. {rehearsal.note}"
    if isinstance(plans[0].cluster, ExistingCluster):
        return "The cluster exists and stays; its cost is not known."
    estimates = [estimate_of(planned) for planned in plans]
    low, expected, high = (sum(costs) for costs in zip(*(e.usd for e in estimates), strict=True))
    each: dict[str, float] = defaultdict(float)  # clusters of one stack follow each other
    for planned, estimate in zip(plans, estimates, strict=True):
        each[planned.cluster.name] += estimate.hours[1]
    hours = max(each.values()) if options.parallel > 1 else sum(each.values())
    kept = ", and more for as long as the cluster is kept" if options.keep_cluster else ""
    notes = dict.fromkeys(planned.cluster.price_note for planned in plans)
    ends = dict.fromkeys(deadline(planned.cluster, planned.record.trials) for planned in plans)
    return (
        f"Expected: about {hours:.1f} hours and {expected:.2f} USD ({low:.2f} to {high:.2f}){kept}."
        f" {' '.join(notes)} Whatever happens, Google deletes the cluster {', '.join(ends)}."
    )


def estimate_of(planned: Planned) -> Estimate:
    """Return the expected time and cost of a run."""
    return run_estimate(planned.record.trials, planned.cluster)


def _show_result(folder: RunFolder, progress: Progress) -> list[CellRecord]:
    trials, cells = folder.last_trials(), folder.last_cells()
    if not cells:
        return []
    record = folder.read_run()
    total = len(record.trials) * max(cell.nodes for cell in cells)  # also of trials to come
    caption = verdict(cells, total, " of a rehearsal" if record.rehearsal else "")
    lines = image_lines(trials, cells)
    progress.table(closing_table(lines, caption), [asdict(line) for line in lines])
    return cells


def _write_report(folder: RunFolder, progress: Progress) -> UserError | None:
    try:
        from analysis.show.write_report import write_report  # noqa: PLC0415 (pandas loads slowly)

        page = write_report([folder.path], folder.report_dir)
    except Exception as error:  # noqa: BLE001 (what was measured must not end in a traceback)
        folder.log(traceback.format_exc())
        return InternalError(
            f"The run is complete in {folder.path}, but writing its report failed: {error!r}.",
            f"report it with {folder.path / 'run.log'}; to try again: "
            f"pull-study-analysis report {folder.path} --out {folder.report_dir}",
        )
    progress.result(f"Report: {page}")
    return None
