"""`pull-study`: commands, options and exit codes (schema.errors).

Each command imports its module when it runs: Pulumi and Google's clients take seconds to load,
which --help and a mistyped option must not cost. Only `--rehearse` imports the rehearsal.
"""
# ruff: noqa: PLC0415 (see above)

import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Annotated, Any

import typer

from experiment.cli import clusters, files
from experiment.cli import options as opt
from experiment.errors import Interrupted
from experiment.plan import request
from experiment.provision.stack_files import node_count
from schema.errors import ExitCode
from schema.logs import LogLevel
from schema.output import Output, OutputOption
from schema.program import Level, Verbose, Version, common, make_app, run_app

app = make_app(
    "Measure how long Kubernetes nodes take to pull container images.",
    epilog="Exit codes: "
    + "; ".join(f"{code.value} {code.name.lower().replace('_', ' ')}" for code in ExitCode)
    + ". docs/reference.md says what each means.",
)


@app.callback()
def before(
    *,
    version: Version = False,
    verbose: Verbose = False,
    log_level: Level = LogLevel.WARNING,
    runs: opt.Runs = None,
) -> None:
    """Options before the command."""
    common(version=version, verbose=verbose, log_level=log_level)
    if runs is not None:
        os.environ[request.RUNS_VARIABLE] = str(runs)


@app.command()
def run(
    *,
    stack: opt.Stacks = None,
    all_sizes: opt.AllSizes = False,
    study: opt.StudyFile = None,
    workload: opt.WorkloadOption = None,
    order: opt.OrderOption = None,
    seed: opt.Seed = None,
    repeat: opt.Repeat = None,
    repeat_clusters: opt.RepeatClusters = 1,
    staging: opt.Staging = True,
    zone: opt.Zones = None,
    parallel: opt.Parallel = 1,
    budget_usd: opt.BudgetUsd = None,
    keep_cluster: opt.KeepCluster = False,
    spans: opt.Spans = None,
    kubeconfig: opt.Kubeconfig = None,
    context: opt.Context = "",
    node_selector: opt.NodeSelector = "",
    rehearse: opt.Rehearse = False,
    nodes: opt.Nodes = None,
    speed: opt.Speed = None,
    fault: opt.Fault = None,
    faults: opt.Faults = None,
    rate_limits: opt.RateLimits = None,
    scale: opt.Scale = None,
    run_id: opt.RunId = "",
    resume: opt.Resume = "",
    quiet: opt.Quiet = False,
    json_log: opt.JsonLog = False,
    output: OutputOption = Output.TABLE,
    yes: opt.Yes = False,
    dry_run: opt.DryRun = False,
) -> None:
    """Create a cluster, pull every image of a study on every node, and write a report."""
    rehearsed = request.rehearsal_options(
        rehearse=rehearse,
        nodes=nodes,
        speed=speed,
        fault=fault,
        faults=faults,
        rate_limits=rate_limits,
        scale=scale,
    )
    new = request.NewRuns(
        stacks=request.chosen_stacks(stack, all_sizes=all_sizes),
        study=study,
        workload=workload,
        order=order,
        seed=seed,
        repeat=repeat,
        repeat_clusters=repeat_clusters,
        zones=tuple(zone or ()),
        staging=staging,
        budget_usd=budget_usd,
        run_id=run_id,
        existing=request.existing_cluster(kubeconfig, context, node_selector),
    )
    options = request.RunOptions(
        keep_cluster=keep_cluster,
        assume_yes=yes,
        quiet=quiet,
        json_log=json_log,
        output=output,
        parallel=parallel,
        spans=spans,
    )
    if resume:
        request.check_resumed(new, dry_run=dry_run)
        rehearsed = _recorded_options(resume, rehearsed) if rehearse else {}
    else:
        content = request.read_study(new, keep_cluster=keep_cluster)
    largest = max((node_count(stack) or 0 for stack in new.stacks), default=0)
    with _cloud(rehearse=rehearse, keep=keep_cluster, node_count=largest or None, **rehearsed):
        if dry_run:
            from experiment.cli.plan import show_plans

            show_plans(new, content, output=output)
            return
        from experiment.cli import run as command

        if resume:
            code = command.resume(resume, budget_usd, options)
        else:
            code = command.run(new, content, options)
    raise typer.Exit(code)


@app.command()
def plan(
    *,
    stack: opt.Stacks = None,
    all_sizes: opt.AllSizes = False,
    study: opt.StudyFile = None,
    workload: opt.WorkloadOption = None,
    order: opt.OrderOption = None,
    seed: opt.Seed = None,
    repeat: opt.Repeat = None,
    repeat_clusters: opt.RepeatClusters = 1,
    zone: opt.Zones = None,
    kubeconfig: opt.Kubeconfig = None,
    context: opt.Context = "",
    node_selector: opt.NodeSelector = "",
    rehearse: opt.Rehearse = False,
    scale: opt.Scale = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show what a run would do: trials, bytes, disk, hours and cost. Creates nothing."""
    rehearsed = request.rehearsal_options(rehearse=rehearse, scale=scale)
    new = request.NewRuns(
        stacks=request.chosen_stacks(stack, all_sizes=all_sizes),
        study=study,
        workload=workload,
        order=order,
        seed=seed,
        repeat=repeat,
        repeat_clusters=repeat_clusters,
        zones=tuple(zone or ()),
        existing=request.existing_cluster(kubeconfig, context, node_selector),
    )
    content = request.read_study(new)
    with _cloud(rehearse=rehearse, **rehearsed):
        from experiment.cli.plan import show_plans

        show_plans(new, content, output=output)


@app.command()
def preflight(
    *,
    stack: opt.Stacks = None,
    all_sizes: opt.AllSizes = False,
    study: opt.StudyFile = None,
    workload: opt.WorkloadOption = None,
    repeat: opt.Repeat = None,
    zone: opt.Zones = None,
    parallel: opt.Parallel = 1,
    kubeconfig: opt.Kubeconfig = None,
    context: opt.Context = "",
    node_selector: opt.NodeSelector = "",
    rehearse: opt.Rehearse = False,
    scale: opt.Scale = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Check what a run needs before it costs anything; show each problem with its fix."""
    rehearsed = request.rehearsal_options(rehearse=rehearse, scale=scale)
    new = request.NewRuns(
        stacks=request.chosen_stacks(stack, all_sizes=all_sizes),
        study=study,
        workload=workload,
        repeat=repeat,
        zones=tuple(zone or ()),
        existing=request.existing_cluster(kubeconfig, context, node_selector),
    )
    content = request.read_study(new)
    with _cloud(rehearse=rehearse, **rehearsed):
        from experiment.cli.preflight import show_preflight

        code = show_preflight(new, content, parallel=parallel, output=output)
    raise typer.Exit(code)


@app.command()
def ledger(run: opt.Run, *, output: OutputOption = Output.TABLE) -> None:
    """Show a run's cells as a grid, image by node, and why cells are excluded."""
    from experiment.cli.results import show_ledger

    raise typer.Exit(show_ledger(run, output=output))


@app.command()
def time(run: opt.Run, *, output: OutputOption = Output.TABLE) -> None:
    """Show where the wall time of a run went."""
    from experiment.cli.results import show_time

    show_time(run, output=output)


@app.command()
def collect(
    run: opt.Run,
    *,
    from_archive: Annotated[
        bool,
        typer.Option(
            "--from-archive", help="Read the archive bucket, which the log sink fills hours later."
        ),
    ] = False,
    spans: opt.Spans = None,
    rehearse: opt.Rehearse = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Read a run's events again from Cloud Logging, and judge its cells again."""
    rehearsed = _recorded_options(run, {}) if rehearse else {}
    with _cloud(rehearse=rehearse, **rehearsed):
        from experiment.cli.results import collect_again

        code = collect_again(run, from_archive=from_archive, spans=spans, output=output)
    raise typer.Exit(code)


app.add_typer(clusters.app)
app.add_typer(files.app)


@contextmanager
def _cloud(*, rehearse: bool, **options: Any) -> Iterator[None]:
    """Google Cloud, or the local Google of a rehearsal."""
    try:
        with _rehearsal(**options) if rehearse else nullcontext():
            yield
    except KeyboardInterrupt as error:
        fix = "if a cluster may be up: pull-study list"
        raise Interrupted("Interrupted.", fix) from error


def _rehearsal(**options: Any) -> AbstractContextManager[object]:
    from rehearsal.session import session

    return session(**options)


def _recorded_options(run: str, given: dict[str, Any]) -> dict[str, Any]:
    """Return the rehearsal options recorded in the run, overridden by the command line."""
    from experiment.run_folder import RunFolder

    record = RunFolder.open(request.runs_folder(), run).read_run().rehearsal
    if record is None:
        return given
    return {"nodes": record.nodes, "scale": record.scale, "speed": record.speed} | given


def main() -> None:
    """Run the command line."""
    run_app(lambda: app(args=request.with_default_kubeconfig(sys.argv[1:])))
