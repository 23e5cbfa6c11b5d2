"""What the user asked for, checked before anything heavy is loaded.

It knows options and the rules between them, and no cluster, registry or cloud.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiment.errors import PlanError
from experiment.provision.stack_files import require_stack, stack_names
from schema.run_records import ExistingCluster
from schema.study import Order, Study, load_study

RUNS = Path("data/runs")
"""Where runs are kept, below the folder that the command is started in."""

_FASTEST = 1000
_EXAMPLE = "python -m experiment run --stack size-4 --study studies/smoke.yaml --rehearse"


@dataclass(frozen=True, slots=True)
class NewRuns:
    """One new run, or one on each of several stacks; None and empty where nothing was said."""

    stacks: tuple[str, ...]
    study: Path | None
    order: Order | None = None
    seed: int | None = None
    repeat: int | None = None
    staging: bool = True
    budget_usd: float | None = None
    run_id: str = ""
    existing: ExistingCluster | None = None

    def read_study(self) -> Study:
        """The study's file, with what the options change.

        Raises:
            schema.study.StudyError: the file is missing or malformed.
        """
        if self.study is None:
            raise PlanError("A new run needs to know what to pull.", _EXAMPLE)
        study = load_study(self.study)
        changed = {
            name: value
            for name, value in {"order": self.order, "repetitions": self.repeat}.items()
            if value is not None
        }
        return study.model_copy(update=changed)


@dataclass(frozen=True, slots=True)
class Manner:
    """How a run is to be carried out and shown."""

    keep_cluster: bool = False
    agreed: bool = False
    """To the cost, in advance."""
    quiet: bool = False
    json_log: bool = False
    parallel: int = 1
    """Clusters at once, of several."""


def chosen_stacks(named: list[str] | None, *, all_sizes: bool) -> tuple[str, ...]:
    """The stacks that options name, each once.

    Raises:
        PlanError: both ways of naming are used.
    """
    if named and all_sizes:
        raise PlanError(
            "--all-sizes is every stack named size-N, so --stack has no place beside it.",
            "leave one of them out",
        )
    if all_sizes:
        return tuple(name for name in stack_names() if re.fullmatch(r"size-\d+", name))
    return tuple(dict.fromkeys(named or ()))


def existing_cluster(
    kubeconfig: Path | None, context: str, selector: str
) -> ExistingCluster | None:
    """The cluster that options name, None if they name none.

    Raises:
        PlanError: there is no such file, or an option has no meaning without it.
    """
    if kubeconfig is None:
        if context or selector:
            raise PlanError(
                "--context and --node-selector tell of a cluster that is there already, and no "
                "kubeconfig says how to reach it.",
                "--kubeconfig ~/.kube/config",
            )
        return None
    if not kubeconfig.is_file():
        raise PlanError(
            f"There is no kubeconfig at {kubeconfig}, so the cluster cannot be reached.",
            f"ls -l {kubeconfig}",
        )
    return ExistingCluster(kubeconfig=str(kubeconfig.resolve()), context=context, selector=selector)


def check_new(new: NewRuns) -> None:
    """A new run knows what to pull and where; the study can be read.

    Raises:
        UserError: it does not.
    """
    if new.study is None or not (new.stacks or new.existing):
        raise PlanError("A new run needs to know what to pull and where.", _EXAMPLE)
    if new.stacks and new.existing:
        raise PlanError(
            "--stack makes a cluster and --kubeconfig names one that is there already, so a run "
            "has one of them.",
            "leave one of them out",
        )
    new.read_study()
    for stack in new.stacks:
        require_stack(stack)


def check_resumed(new: NewRuns) -> None:
    """Nothing is said beside --resume that the run's plan says already.

    Raises:
        PlanError: something is.
    """
    planned = (new.stacks, new.study, new.order, new.repeat, new.run_id, new.existing)
    if any(planned) or new.seed is not None or not new.staging:
        raise PlanError(
            "--resume goes on with a run as it was planned, so --stack, --study, --order, --seed, "
            "--repeat, --no-staging, --kubeconfig and --run-id have no place beside it.",
            "leave them out, or begin a new run",
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
    """The arguments of rehearsal.session.session that were given.

    Raises:
        PlanError: one is of a rehearsal and this is none, or its value cannot be.
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
            f"--{option} belongs to a rehearsal, and a real cluster cannot follow it.",
            f"leave --{option} out, or add --rehearse",
        )
    _check_scale(scale)
    _check_speed(speed, nodes)
    return given


def _check_scale(scale: float | None) -> None:
    if scale is not None and not 0 < scale <= 1:
        raise PlanError(
            f"--scale {scale:g} is no fraction of the images' bytes; it must be above 0 and at "
            "most 1.",
            "--scale 0.01",
        )


def _check_speed(speed: float | None, nodes: str | None) -> None:
    if speed is None:
        return
    if not 1 <= speed <= _FASTEST:
        raise PlanError(
            f"--speed {speed:g} is no such number: simulated nodes keep to the clock (1) or are up "
            f"to {_FASTEST} times as fast.",
            "--speed 20",
        )
    if nodes != "simulated" and speed != 1:
        raise PlanError(
            f"Real nodes pull as fast as they can, so --speed {speed:g} needs simulated ones.",
            "--nodes simulated",
        )
