"""`python -m experiment`: run a study on a stack, from nothing to a report.

It reads options, asks before the first cost, and ends with the exit codes of schema.errors; what
a run does is in experiment.run_study.
"""

import json
import os
import secrets
import sys
from contextlib import nullcontext
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer
from analysis.report import write_report
from rich.console import Console

import rehearsal
from experiment.errors import Interrupted, PlanError
from experiment.ledger import last_attempts
from experiment.plan import expected_cost, order_trials
from experiment.progress import Progress
from experiment.registry import resolve_images
from experiment.run_folder import RunFolder
from experiment.run_study import StudyRun
from experiment.stacks import StackFacts, copy_stack_files, require_stack, stack_facts
from experiment.summary import closing_table, image_lines
from schema.errors import ExitCode, UserError
from schema.names import REHEARSAL_VARIABLE
from schema.run_records import CellRecord, Rehearsal, RunRecord, Status
from schema.study import load_study

RUNS = Path("data/runs")
"""Where runs are kept, below the folder that the command is started in."""

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Measure how long Kubernetes nodes take to pull container images.",
)


@app.callback()
def _several_commands() -> None:
    """Keep `run` a command by name while it is the only one."""


@app.command()
def run(
    *,
    stack: Annotated[
        str, typer.Option(help="Cluster to measure on: one of Pulumi.*.yaml, such as size-4.")
    ] = "",
    study: Annotated[
        Path | None, typer.Option(help="What to pull: a file of studies/, or the original's JSON.")
    ] = None,
    rehearse: Annotated[
        bool, typer.Option(help="Run against a local Google on this machine; costs nothing.")
    ] = False,
    scale: Annotated[
        float, typer.Option(help="Rehearsed images hold this fraction of their tags' bytes.")
    ] = 0.01,
    run_id: Annotated[str, typer.Option(help="Name of the run; default: study, stack, time.")] = "",
    resume: Annotated[
        str, typer.Option(help="Go on with this run: measure only what has no valid cells yet.")
    ] = "",
    seed: Annotated[
        int | None, typer.Option(help="Of the images' order; default: a new one, recorded.")
    ] = None,
    keep_cluster: Annotated[
        bool, typer.Option(help="Leave the cluster up at the end; it goes on costing money.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before the cost.")] = False,
) -> None:
    """Bring a cluster up, pull every image of a study on every node, and write a report."""
    if rehearse and not 0 < scale <= 1:
        raise PlanError(f"--scale {scale} is not a fraction of the images' bytes.", "--scale 0.01")
    with rehearsal.session(scale=scale, keep=keep_cluster) if rehearse else nullcontext():
        if resume:
            _refuse_with_resume(stack, study, run_id, seed)
            folder = RunFolder.open(RUNS, resume)
            record = folder.read_run()
        else:
            folder, record = _new_run(stack, study, run_id, seed)
        facts = stack_facts(record.stack, folder.pulumi_dir)
        _confirm(record, facts, yes=yes)
        _execute(folder, record, facts, keep_cluster=keep_cluster)


def _new_run(
    stack: str, study: Path | None, run_id: str, seed: int | None
) -> tuple[RunFolder, RunRecord]:
    if not stack or study is None:
        raise PlanError(
            "A new run needs to know what to pull and where.",
            "python -m experiment run --stack size-4 --study studies/smoke.yaml --rehearse",
        )
    started_at = datetime.now(UTC)
    loaded = load_study(study)
    chosen = run_id or f"{loaded.name[:20]}-{stack[:15]}-{started_at:%m%d-%H%M%S}"
    seed = secrets.randbelow(2**31) if seed is None else seed
    require_stack(stack)
    _out().print("resolving the study's images ...", highlight=False)
    trials = order_trials(loaded, resolve_images(loaded), seed)
    folder = RunFolder.create(RUNS, chosen)
    copy_stack_files(stack, folder.pulumi_dir)
    record = RunRecord(
        run_id=chosen,
        started_at=started_at,
        stack=stack,
        study=loaded,
        study_file=study.name,
        seed=seed,
        trials=trials,
        versions={
            "pull-study": version("pull-study"),
            "python": sys.version.split()[0],
            "pulumi": version("pulumi"),
            "pulumi-gcp": version("pulumi-gcp"),
            "pulumi-kubernetes": version("pulumi-kubernetes"),
        },
        rehearsal=_rehearsal(),
    )
    folder.write_run(record)
    return folder, record


def _refuse_with_resume(stack: str, study: Path | None, run_id: str, seed: int | None) -> None:
    if stack or study or run_id or seed is not None:
        raise PlanError(
            "--resume goes on with a run as it was planned, so --stack, --study, --run-id and "
            "--seed have no place beside it.",
            "leave them out, or begin a new run",
        )


def _rehearsal() -> Rehearsal | None:
    text = os.environ.get(REHEARSAL_VARIABLE)
    return Rehearsal.model_validate(json.loads(text)) if text else None


def _confirm(record: RunRecord, facts: StackFacts, *, yes: bool) -> None:
    cost = expected_cost(record.trials, facts.usd_per_hour)
    out = _out()
    out.print(
        f"Run {record.run_id}: {len(record.trials)} trials on {facts.node_count} x "
        f"{facts.machine_type} in {facts.location}, project {facts.project}.",
        f"On Google Cloud about {cost.hours:.1f} hours and {cost.usd:.2f} US dollars "
        f"({facts.usd_per_hour:.2f} an hour).",
        sep="\n",
        highlight=False,
    )
    if record.rehearsal:
        out.print(f"Rehearsed: {record.rehearsal.note}", highlight=False)
    if yes:
        return
    if not sys.stdin.isatty():
        raise PlanError(
            "Nobody is at a terminal to agree to the cost, so nothing was started.", "--yes"
        )
    if not typer.confirm("Go on?"):
        raise Interrupted("Nothing was started.")


def _execute(
    folder: RunFolder, record: RunRecord, facts: StackFacts, *, keep_cluster: bool
) -> None:
    attempt = 1 + max((trial.attempt for trial in folder.trials()), default=0)
    progress = Progress(_out(), lambda line: folder.log(line, datetime.now(UTC)))
    study_run = StudyRun(folder, record, facts, attempt, progress, keep_cluster=keep_cluster)
    problem: UserError | None = None
    if attempt > 1 and not study_run.trials_to_measure():
        progress.say("Every cell is valid already; nothing is left to measure.")
    else:
        try:
            study_run.run()
        except UserError as error:
            problem = error
    cells = _show_result(folder, progress)
    if problem is not None:
        raise problem
    if any(cell.status is not Status.VALID for cell in cells):
        raise typer.Exit(ExitCode.INCOMPLETE)


def _show_result(folder: RunFolder, progress: Progress) -> list[CellRecord]:
    trials = last_attempts(folder.trials())
    attempts = {trial.trial: trial.attempt for trial in trials}
    cells = [cell for cell in folder.cells() if attempts.get(cell.trial) == cell.attempt]
    if not cells:
        return []
    valid = sum(cell.status is Status.VALID for cell in cells)
    rehearsed = folder.read_run().rehearsal
    caption = f"{valid} of {len(cells)} cells valid" + (" (rehearsed)" if rehearsed else "")
    progress.table(closing_table(image_lines(trials, cells), caption))
    page = write_report([folder.path], folder.report_dir)
    progress.say(f"Report: {page}")
    return cells


def _out() -> Console:
    return Console(soft_wrap=False)


def main() -> None:
    """Run the command line; a user's mistake ends with its sentence and its exit code."""
    try:
        app(standalone_mode=False)
    except UserError as error:
        typer.echo(f"Error: {error}", err=True)
        sys.exit(error.exit_code)
    except typer.Exit as ended:
        sys.exit(ended.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        typer.echo("Error: Interrupted before anything was started.", err=True)
        sys.exit(ExitCode.INTERRUPTED)
