"""The command line's request, validated before anything heavy is imported.

Rules of options and between options; nothing here uses a cluster, a registry or a cloud.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from experiment.errors import PlanError
from experiment.provision.stack_files import require_stack, stack_names
from experiment.run_folder import RunFolder
from schema.errors import shortened
from schema.names import SPANS_VARIABLE
from schema.output import Output
from schema.run_records import ExistingCluster
from schema.study import Order, Study, Workload, load_study

RUNS_VARIABLE = "PULL_STUDY_RUNS"
"""Environment: the folder of all runs; `--runs` sets it, also for the runs that a run starts."""


def runs_folder() -> Path:
    """Return the folder of all runs, relative to the working directory."""
    return Path(os.environ.get(RUNS_VARIABLE) or "data/runs")


LARGEST_OF_ALL = 256
"""Nodes of the largest stack of --all-sizes; a larger one costs so much that it has to be named."""
_ZONE = re.compile(r"[a-z]+-[a-z]+\d+-[a-z]")
"""As infra.settings has it."""
_FASTEST = 1000
_EXAMPLE = "pull-study run --stack size-4 --study studies/smoke.yaml --rehearse"


@dataclass(frozen=True, slots=True)
class NewRuns:
    """One new run, or one on each of several stacks; None and empty for options not given."""

    stacks: tuple[str, ...]
    study: Path | None
    order: Order | None = None
    seed: int | None = None
    repeat: int | None = None
    repeat_clusters: int = 1
    """Of each stack, a run each."""
    staging: bool = True
    workload: Workload | None = None
    zones: tuple[str, ...] = ()
    """Override those of the stacks."""
    budget_usd: float | None = None
    run_id: str = ""
    existing: ExistingCluster | None = None


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How a run is carried out and shown."""

    keep_cluster: bool = False
    assume_yes: bool = False
    """Do not ask for confirmation."""
    quiet: bool = False
    json_log: bool = False
    output: Output = Output.TABLE
    """Of the closing table; other forms than a table send everything else to standard error."""
    parallel: int = 1
    """Number of clusters at the same time."""
    spans: Path | None = None
    """File with the spans of the nodes' containerds; by default the environment's."""

    def spans_file(self) -> Path | None:
        """Return that file; None if nothing names one."""
        named = os.environ.get(SPANS_VARIABLE, "")
        return self.spans or (Path(named) if named else None)

    def child_arguments(self) -> list[str]:
        """Return the options of each of several runs, which the parent has confirmed and shows."""
        child = replace(self, assume_yes=True, json_log=True, quiet=False, parallel=1)
        flags = {
            "--keep-cluster": child.keep_cluster,
            "--yes": child.assume_yes,
            "--json-log": child.json_log,
            "--quiet": child.quiet,
        }
        spans = ["--spans", str(self.spans)] if self.spans else []
        return [*(flag for flag, given in flags.items() if given), *spans]


def chosen_stacks(named: list[str] | None, *, all_sizes: bool) -> tuple[str, ...]:
    """Return the selected stacks, each once.

    Raises:
        PlanError: both --stack and --all-sizes are given.
    """
    if named and all_sizes:
        raise PlanError(
            "--all-sizes and --stack exclude each other.",
            "leave one of them out",
        )
    if all_sizes:
        sizes = (name for name in stack_names() if re.fullmatch(r"size-\d+", name))
        return tuple(name for name in sizes if int(name[len("size-") :]) <= LARGEST_OF_ALL)
    return tuple(dict.fromkeys(named or ()))


def with_default_kubeconfig(arguments: Sequence[str]) -> list[str]:
    """Return a command line in which a --kubeconfig without a value has the file that kubectl uses.

    Raises:
        PlanError: $KUBECONFIG names several files.
    """
    found = list(arguments)
    for at, (word, following) in enumerate(pairwise([*found, "-"])):
        if word == "--kubeconfig" and following.startswith("-"):
            found[at] = f"--kubeconfig={_default_kubeconfig()}"
    return found


def _default_kubeconfig() -> str:
    named = [name for name in os.environ.get("KUBECONFIG", "").split(os.pathsep) if name]
    if len(named) > 1:
        raise PlanError(
            f"$KUBECONFIG names {len(named)} files, and a run reads one: {', '.join(named)}.",
            f"--kubeconfig {named[0]}",
        )
    return named[0] if named else str(Path.home() / ".kube" / "config")


def existing_cluster(
    kubeconfig: Path | None, context: str, selector: str
) -> ExistingCluster | None:
    """Return the cluster of --kubeconfig, None without it.

    Raises:
        PlanError: there is no such file, or an option requires it.
    """
    if kubeconfig is None:
        if context or selector:
            raise PlanError(
                "--context and --node-selector require --kubeconfig.",
                "--kubeconfig ~/.kube/config",
            )
        return None
    if not kubeconfig.is_file():
        raise PlanError(
            f"There is no kubeconfig at {kubeconfig}.",
            f"ls -l {kubeconfig}",
        )
    return ExistingCluster(kubeconfig=str(kubeconfig.resolve()), context=context, selector=selector)


def read_study(new: NewRuns, *, keep_cluster: bool = False) -> Study:
    """Check that a new run has a study and a place, and read the study with the options applied.

    Raises:
        UserError: one is missing, or the study is not valid.
    """
    if new.study is None or not (new.stacks or new.existing):
        raise PlanError(
            "A new run needs --study and one of --stack, --all-sizes and --kubeconfig.", _EXAMPLE
        )
    if new.stacks and new.existing:
        raise PlanError(
            "--stack and --kubeconfig exclude each other: a run creates a cluster or uses an "
            "existing one.",
            "leave one of them out",
        )
    if new.zones and new.existing:
        raise PlanError(
            "--zone and --kubeconfig exclude each other: an existing cluster stays where it is.",
            "leave one of them out",
        )
    for zone in new.zones:
        if not _ZONE.fullmatch(zone):
            raise PlanError(f"{shortened(zone)!r} is not a zone.", "--zone us-central1-a")
    if new.repeat_clusters > 1 and (new.existing or keep_cluster):
        other = "--kubeconfig" if new.existing else "--keep-cluster"
        raise PlanError(
            f"--repeat-clusters and {other} exclude each other: a stack has one cluster at a time, "
            "so each must be deleted before the next is created.",
            "leave one of them out",
        )
    study = load_study(new.study)
    for stack in new.stacks:
        require_stack(stack)
    if new.run_id:
        for run_id in run_ids(new):
            RunFolder.check_new(runs_folder(), run_id)
    return _overridden(study, new)


def _overridden(study: Study, new: NewRuns) -> Study:
    overrides = {"order": new.order, "repetitions": new.repeat, "workload": new.workload}
    given = {name: value for name, value in overrides.items() if value is not None}
    try:
        return Study.model_validate(study.model_dump() | given)
    except ValidationError as error:
        reason = str(error.errors()[0]["msg"]).removeprefix("Value error, ")
        raise PlanError(
            f"The study {new.study} cannot be run with the workload {new.workload}: {reason}.",
            f"edit {new.study} (studies/minicluster.yaml shows the form), or leave out --workload",
        ) from error


def run_ids(new: NewRuns) -> list[str]:
    """Return the ids of runs that --run-id names, one for each cluster of each stack."""
    several = len(new.stacks) > 1
    names = [f"{new.run_id}-{stack}" for stack in new.stacks] if several else [new.run_id]
    if new.repeat_clusters == 1:
        return names
    return [f"{name}-c{n}" for n in range(1, new.repeat_clusters + 1) for name in names]


def check_resumed(new: NewRuns, *, dry_run: bool = False) -> None:
    """Refuse options that would change the plan of a resumed run.

    Raises:
        PlanError: one is given.
    """
    if dry_run:
        raise PlanError(
            "--dry-run shows the plan of a new run; a resumed one has its plan already.",
            "pull-study ledger RUN shows what is still to measure",
        )
    if new.zones:
        raise PlanError(
            "--resume continues a run in the zone where it measured; it cannot be combined with "
            "--zone, since pull times of two zones are not comparable.",
            "leave --zone out, or start a new run",
        )
    planned = (new.stacks, new.study, new.order, new.repeat, new.run_id, new.existing)
    if (
        any(planned)
        or new.workload
        or new.repeat_clusters > 1
        or new.seed is not None
        or not new.staging
    ):
        raise PlanError(
            "--resume continues a run as it was planned; it cannot be combined with --stack, "
            "--study, --workload, --order, --seed, --repeat, --repeat-clusters, --no-staging, "
            "--kubeconfig or --run-id.",
            "leave them out, or start a new run",
        )


def rehearsal_options(
    *,
    rehearse: bool,
    nodes: str | None = None,
    speed: float | None = None,
    fault: list[str] | None = None,
    faults: Path | None = None,
    rate_limits: bool | None = None,
    scale: float | None = None,
) -> dict[str, Any]:
    """Return the given arguments of rehearsal.session.session.

    Raises:
        PlanError: one is given without --rehearse, or its value is not valid.
    """
    given = {
        "nodes": nodes,
        "speed": speed,
        "rate_limits": rate_limits,
        "scale": scale,
        "faults": (*(fault or ()), *([f"@{faults}"] if faults else ())) or None,
    }
    given = {name: value for name, value in given.items() if value is not None}
    if given and not rehearse:
        first = next(iter(given))
        option = {"rate_limits": "no-rate-limits", "faults": "fault"}.get(first, first)
        raise PlanError(
            f"--{option} is an option of rehearsals and requires --rehearse.",
            f"leave --{option} out, or add --rehearse",
        )
    _check_scale(scale)
    _check_speed(speed, nodes)
    return given


def _check_scale(scale: float | None) -> None:
    if scale is not None and not 0 < scale <= 1:
        raise PlanError(
            f"--scale must be above 0 and at most 1, not {scale:g}.",
            "--scale 0.01",
        )


def _check_speed(speed: float | None, nodes: str | None) -> None:
    if speed is None:
        return
    if not 1 <= speed <= _FASTEST:
        raise PlanError(
            f"--speed must be between 1 and {_FASTEST}, not {speed:g}.",
            "--speed 20",
        )
    if nodes != "simulated" and speed != 1:
        raise PlanError(
            f"--speed {speed:g} requires simulated nodes; real ones cannot be sped up.",
            "--nodes simulated",
        )
