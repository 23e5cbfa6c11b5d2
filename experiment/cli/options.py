"""Options that the commands share; experiment.plan.request has their rules."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from schema.study import Order

_WHAT = "What to run"
_CLUSTER = "Cluster and money"
_REHEARSAL = "Rehearsal"
_AGAIN = "Name and resume"
_SCREEN = "Terminal"

Stacks = Annotated[
    list[str] | None,
    typer.Option(
        "--stack",
        help="Cluster to measure on: one of Pulumi.*.yaml, such as size-4; may be given again.",
        rich_help_panel=_WHAT,
    ),
]
AllSizes = Annotated[
    bool,
    typer.Option(
        "--all-sizes", help="Every stack named size-N, smallest first.", rich_help_panel=_WHAT
    ),
]
StudyFile = Annotated[
    Path | None,
    typer.Option(
        help="What to pull: a file of studies/, or the original's JSON.", rich_help_panel=_WHAT
    ),
]
OrderOption = Annotated[
    Order | None,
    typer.Option(help="Of the images, in place of the study's.", rich_help_panel=_WHAT),
]
Seed = Annotated[
    int | None,
    typer.Option(help="Of the images' order; default: a new one, recorded.", rich_help_panel=_WHAT),
]
Repeat = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=100,
        help="Pull every image so often, each time cold, in place of the study's number.",
        rich_help_panel=_WHAT,
    ),
]
Staging = Annotated[
    bool,
    typer.Option(
        help="Make each trial's Job while the one before it pulls.", rich_help_panel=_WHAT
    ),
]
Parallel = Annotated[
    int,
    typer.Option(min=1, max=16, help="Clusters at once, of several.", rich_help_panel=_CLUSTER),
]
BudgetUsd = Annotated[
    float | None,
    typer.Option(
        min=0,
        help="Stop before the trial that would make the cluster cost more, and take it down.",
        rich_help_panel=_CLUSTER,
    ),
]
KeepCluster = Annotated[
    bool,
    typer.Option(
        "--keep-cluster",
        help="Leave the cluster up; it goes on costing money.",
        rich_help_panel=_CLUSTER,
    ),
]
Kubeconfig = Annotated[
    Path | None,
    typer.Option(
        help="Measure on a cluster that is there already, in place of a stack's.",
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
        help="Label selector of that cluster's nodes; default: all that are Ready and take pods.",
        rich_help_panel=_CLUSTER,
    ),
]
Rehearse = Annotated[
    bool,
    typer.Option(
        "--rehearse",
        help="Run against a local Google on this machine; it is free.",
        rich_help_panel=_REHEARSAL,
    ),
]
Nodes = Annotated[
    Literal["real", "simulated"] | None,
    typer.Option(
        help="Rehearsed nodes: real ones (kubelet and containerd; default), or simulated ones.",
        rich_help_panel=_REHEARSAL,
    ),
]
Speed = Annotated[
    float | None,
    typer.Option(
        help="Simulated nodes work so many times faster than the clock; default 1.",
        rich_help_panel=_REHEARSAL,
    ),
]
Fault = Annotated[
    list[str] | None,
    typer.Option(
        help="Make this go wrong, NAME[:ARGS] as docs/faults.md has them; may be given again.",
        rich_help_panel=_REHEARSAL,
    ),
]
Faults = Annotated[
    Path | None,
    typer.Option(help="File of such faults, one a line.", rich_help_panel=_REHEARSAL),
]
RateLimits = Annotated[
    bool | None,
    typer.Option(
        "--rate-limits/--no-rate-limits",
        help="Keep or lift Kubernetes' own client-side rate limits; default: keep.",
        rich_help_panel=_REHEARSAL,
    ),
]
Scale = Annotated[
    float | None,
    typer.Option(
        help="Rehearsed images hold this fraction of their tags' bytes; default 0.01, or 1 on "
        "simulated nodes.",
        rich_help_panel=_REHEARSAL,
    ),
]
RunId = Annotated[
    str,
    typer.Option(help="Name of the run; default: study, stack, time.", rich_help_panel=_AGAIN),
]
Resume = Annotated[
    str,
    typer.Option(
        help="Go on with this run: measure only what has no valid cells yet.",
        rich_help_panel=_AGAIN,
    ),
]
Quiet = Annotated[
    bool,
    typer.Option(
        "--quiet", "-q", help="Print the result and errors alone.", rich_help_panel=_SCREEN
    ),
]
JsonLog = Annotated[
    bool,
    typer.Option("--json-log", help="Print one JSON object a line.", rich_help_panel=_SCREEN),
]
Yes = Annotated[
    bool,
    typer.Option("--yes", "-y", help="Do not ask before the cost.", rich_help_panel=_SCREEN),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.", rich_help_panel=_SCREEN)]
Run = Annotated[str, typer.Argument(help="Id of a run, or its folder.", show_default=False)]
