"""Options shared by the commands; experiment.plan.request has their rules."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from schema.names import SPANS_VARIABLE
from schema.program import finite
from schema.study import Order, Workload

_WHAT = "What to run"
_CLUSTER = "Cluster and money"
_REHEARSAL = "Rehearsal"
_RUN = "Name and resume"
_SCREEN = "Terminal"

Runs = Annotated[
    Path | None,
    typer.Option(
        help="Folder of all runs; default: data/runs.", envvar="PULL_STUDY_RUNS", show_default=False
    ),
]
Stacks = Annotated[
    list[str] | None,
    typer.Option(
        "--stack",
        help="Stack to measure on: NAME of a Pulumi.NAME.yaml, such as size-4; repeatable.",
        rich_help_panel=_WHAT,
    ),
]
AllSizes = Annotated[
    bool,
    typer.Option(
        "--all-sizes", help="The stacks size-4 to size-256, smallest first.", rich_help_panel=_WHAT
    ),
]
StudyFile = Annotated[
    Path | None,
    typer.Option(
        help="Study file (studies/), or the original study's JSON.", rich_help_panel=_WHAT
    ),
]
OrderOption = Annotated[
    Order | None,
    typer.Option(help="Image order; overrides the study file.", rich_help_panel=_WHAT),
]
WorkloadOption = Annotated[
    Workload | None,
    typer.Option(
        help="What runs the image on each node; overrides the study file.", rich_help_panel=_WHAT
    ),
]
Seed = Annotated[
    int | None,
    typer.Option(
        min=0,
        max=2**63 - 1,
        help="Shuffle seed; default: random, recorded in run.json.",
        rich_help_panel=_WHAT,
    ),
]
Repeat = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=100,
        help="Cold pulls per image; overrides the study file.",
        rich_help_panel=_WHAT,
    ),
]
RepeatClusters = Annotated[
    int,
    typer.Option(
        min=1,
        max=20,
        help="Clusters of each stack, one after the other, a run each.",
        rich_help_panel=_CLUSTER,
    ),
]
Staging = Annotated[
    bool,
    typer.Option(
        help="Create each trial's Job while the previous trial pulls.", rich_help_panel=_WHAT
    ),
]
Zones = Annotated[
    list[str] | None,
    typer.Option(
        "--zone",
        help="Zone to try, in this order; repeatable; overrides the stack's zones.",
        rich_help_panel=_CLUSTER,
    ),
]
Parallel = Annotated[
    int,
    typer.Option(
        min=1,
        max=16,
        envvar="PULL_STUDY_PARALLEL",
        help="Number of clusters at the same time.",
        rich_help_panel=_CLUSTER,
    ),
]
Spans = Annotated[
    Path | None,
    typer.Option(
        envvar=SPANS_VARIABLE,
        help="File to which an OpenTelemetry Collector writes the spans of the nodes' containerds: "
        "says how long each pull fetched and unpacked.",
        rich_help_panel=_WHAT,
    ),
]
BudgetUsd = Annotated[
    float | None,
    typer.Option(
        min=0,
        callback=finite,
        envvar="PULL_STUDY_BUDGET_USD",
        help="Stop, and take the cluster down, before the trial that would exceed this cost.",
        rich_help_panel=_CLUSTER,
    ),
]
KeepCluster = Annotated[
    bool,
    typer.Option(
        "--keep-cluster",
        help="Leave the cluster up; it continues to cost money.",
        rich_help_panel=_CLUSTER,
    ),
]
Kubeconfig = Annotated[
    Path | None,
    typer.Option(
        help="Measure on an existing cluster instead of a stack's; default file: kubectl's.",
        rich_help_panel=_CLUSTER,
    ),
]
Context = Annotated[
    str,
    typer.Option(
        help="Context of the kubeconfig; default: its current one.", rich_help_panel=_CLUSTER
    ),
]
NodeSelector = Annotated[
    str,
    typer.Option(
        help="Label selector of its nodes; default: all that are Ready and accept pods.",
        rich_help_panel=_CLUSTER,
    ),
]
Rehearse = Annotated[
    bool,
    typer.Option(
        "--rehearse",
        help="Run against a local Google on this machine, at no cost.",
        rich_help_panel=_REHEARSAL,
    ),
]
Nodes = Annotated[
    Literal["real", "simulated"] | None,
    typer.Option(
        help="Nodes of a rehearsal: real (kubelet and containerd; default) or simulated.",
        rich_help_panel=_REHEARSAL,
    ),
]
Speed = Annotated[
    float | None,
    typer.Option(
        callback=finite,
        help="Speed of simulated nodes as a multiple of the clock; default 1.",
        rich_help_panel=_REHEARSAL,
    ),
]
Fault = Annotated[
    list[str] | None,
    typer.Option(
        help="Fault to inject: NAME[:ARGS] as in docs/faults.md; repeatable.",
        rich_help_panel=_REHEARSAL,
    ),
]
Faults = Annotated[
    Path | None,
    typer.Option(help="File of faults, one per line.", rich_help_panel=_REHEARSAL),
]
RateLimits = Annotated[
    bool | None,
    typer.Option(
        "--rate-limits/--no-rate-limits",
        help="Apply Kubernetes' client-side rate limits; default: apply.",
        rich_help_panel=_REHEARSAL,
    ),
]
Scale = Annotated[
    float | None,
    typer.Option(
        callback=finite,
        help="Size of rehearsed images as a fraction of their tags' bytes; default 0.01, or 1 on "
        "simulated nodes.",
        rich_help_panel=_REHEARSAL,
    ),
]
RunId = Annotated[
    str,
    typer.Option(help="Id of the run; default: study, stack and time.", rich_help_panel=_RUN),
]
Resume = Annotated[
    str,
    typer.Option(
        help="Resume this run: measure only what has no valid cells yet.",
        rich_help_panel=_RUN,
    ),
]
Quiet = Annotated[
    bool,
    typer.Option(
        "--quiet", "-q", help="Print only the result and errors.", rich_help_panel=_SCREEN
    ),
]
JsonLog = Annotated[
    bool,
    typer.Option(
        "--json-log",
        help="Print the run's progress as one JSON object per line.",
        rich_help_panel=_SCREEN,
    ),
]
Yes = Annotated[
    bool,
    typer.Option(
        "--yes",
        "-y",
        envvar="PULL_STUDY_YES",
        help="Do not ask for confirmation.",
        rich_help_panel=_SCREEN,
    ),
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run", help="Show the plan, as `plan` does, and start nothing.", rich_help_panel=_WHAT
    ),
]
Run = Annotated[str, typer.Argument(help="Id of a run, or its folder.", show_default=False)]
