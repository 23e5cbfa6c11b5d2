"""`pull-study plan`: what a run would do, as tables or as JSON.

It resolves images and computes; it creates neither folder nor cluster.
"""

import secrets
from collections.abc import Iterable, Mapping, Sequence

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from analysis.ask.power import EFFECTS, Question
from analysis.ask.power import SOURCE as VARIATION
from experiment.collect.status_rules import WARM_SHARE
from experiment.plan.cost import SOURCE, Estimate, Range, deadline, run_estimate
from experiment.plan.open_run import (
    clusters,
    own_names,
    rehearsal_record,
    require_operator,
    resolve_trials,
)
from experiment.plan.questions import planned_questions
from experiment.plan.request import NewRuns
from experiment.plan.trial_order import disk_bytes, removals, unpacked_bytes
from experiment.preflight.capacity import IMAGE_GC_SHARE, room_bytes
from experiment.provision.cluster import Cluster
from experiment.provision.existing_cluster import ExistingCluster
from experiment.terminal.grid import short_name
from experiment.terminal.views import make_console
from schema.output import Output, OutputRow, print_tables
from schema.run_records import PlannedTrial
from schema.study import Order, Study, Workload

MINICLUSTERS_ADD = (
    "MiniClusters: each pod copies Flux to its node's disk before the pull, which took 19 to 25 s "
    "in the original study and counts in hours and cost, not in pull times. The image of Flux is "
    "on every node before the first trial."
)


def show_plans(new: NewRuns, study: Study, *, output: Output) -> None:
    """Print the plan of a study on each of the stacks.

    Raises:
        UserError: a stack is not valid, or an image cannot be read.
    """
    seed = secrets.randbelow(2**31) if new.seed is None else new.seed
    trials = resolve_trials(study, seed)
    where = clusters(new)
    for cluster in where.values():
        require_operator(trials, cluster)
    if output is not Output.TABLE:
        print_tables(output, plan_rows(study, seed, trials, where, new.repeat_clusters))
        return
    console = make_console()
    for part in plan_page(study, seed, trials, where, new.repeat_clusters):
        console.print(part)


def plan_rows(
    study: Study,
    seed: int,
    trials: Sequence[PlannedTrial],
    where: Mapping[str, Cluster],
    clusters_each: int = 1,
) -> dict[str, list[OutputRow]]:
    """Return the plan's tables by name; bytes and seconds as numbers, ranges as three columns."""
    rehearsal = rehearsal_record()
    again = removals(trials)
    whole: OutputRow = {
        "study": study.name,
        "workload": study.workload,
        "order": study.order,
        "seed": seed,
        "repetitions": study.repetitions,
        "repeat_by": study.repeat_by,
        "rehearsal": rehearsal.nodes if rehearsal else None,
        "disk_bytes": disk_bytes(trials),
        "clusters_of_each_stack": clusters_each,
        "rates": SOURCE,
        "assumed": VARIATION,
    }
    return {
        "study": [whole],
        "trials": [_trial_row(trial, trial.trial in again) for trial in trials],
        "clusters": [_stack_row(name, cluster, trials) for name, cluster in where.items()],
        "durations": [
            {"stack": name, "trial": trial.trial, **_range("trial_s", seconds)}
            for name, cluster in where.items()
            for trial, seconds in zip(trials, _estimate(cluster, trials).trial_s, strict=True)
        ],
        "questions": [
            {
                "contrast": question.contrast,
                "answered": question.answered,
                "why": question.why,
                "rests_on": question.basis,
                **{
                    f"finds_{e:g}": power for e, power in zip(EFFECTS, question.power, strict=False)
                },
            }
            for question in planned_questions(study, trials, [*where.values()] * clusters_each)
        ],
    }


def _trial_row(trial: PlannedTrial, removed_before: bool) -> OutputRow:
    image = trial.image
    return {
        "trial": trial.trial,
        "repetition": trial.repetition,
        "reference": image.reference,
        "digest": image.digest,
        "layers": len(image.layers),
        "compressed_bytes": image.compressed_bytes,
        "unpacked_bytes": unpacked_bytes(image),
        "warm_bytes": trial.warm_bytes,
        "warm": _is_warm(trial),
        "image_removed_before": removed_before,
    }


def _stack_row(name: str, cluster: Cluster, trials: Sequence[PlannedTrial]) -> OutputRow:
    estimate = _estimate(cluster, trials)
    usd = estimate.usd if cluster.usd_per_hour else (None, None, None)
    return {
        "stack": name,
        "nodes": cluster.node_count,
        "machine_type": cluster.machine_type,
        "where": cluster.description,
        "cells": len(trials) * cluster.node_count,
        "disk_gb": cluster.disk_gb,
        "disk_room_bytes": round(room_bytes(cluster.disk_gb)),
        "fits": disk_bytes(trials) <= room_bytes(cluster.disk_gb),
        "usd_per_hour": cluster.usd_per_hour or None,
        **_range("hours", estimate.hours),
        **_range("usd", usd),
        "traffic_usd": round(estimate.traffic_usd, 2) if cluster.usd_per_hour else None,
        "usd_covers": cluster.price_note,
        "left_out": cluster.left_out if isinstance(cluster, ExistingCluster) else {},
        "deleted": deadline(cluster, trials),
    }


def _estimate(cluster: Cluster, trials: Sequence[PlannedTrial]) -> Estimate:
    return run_estimate(own_names(trials, cluster), cluster)


def _range(name: str, values: Iterable[float | None]) -> OutputRow:
    rounded = (None if value is None else round(value, 3) for value in values)
    return dict(
        zip((f"{name}_lowest", f"{name}_expected", f"{name}_highest"), rounded, strict=True)
    )


def _is_warm(trial: PlannedTrial) -> bool:
    return trial.warm_bytes > WARM_SHARE * trial.image.compressed_bytes


def plan_page(
    study: Study,
    seed: int,
    trials: Sequence[PlannedTrial],
    where: Mapping[str, Cluster],
    clusters_each: int = 1,
) -> list[RenderableType]:
    """Return the plan as tables and sentences."""
    rehearsal = rehearsal_record()
    seeded = f", seed {seed}" if study.order is Order.SHUFFLED else ""
    title = f"Study {study.name}: {len(trials)} trials, order {study.order}{seeded}"
    head = [f"{title}, repetitions per image: {study.repetitions}."]
    if rehearsal:
        head.append(
            f"A rehearsal ({rehearsal.note}): bytes are those of its images; hours and cost those "
            "of the run on Google Cloud."
        )
    if study.workload is Workload.MINICLUSTER:
        head.append(MINICLUSTERS_ADD)
    return [
        *map(escape, head),
        _trial_table(trials),
        _stack_table(where, trials, clusters_each),
        _question_table(planned_questions(study, trials, [*where.values()] * clusters_each)),
        escape(f"Rates: {SOURCE}."),
    ]


def _trial_table(trials: Sequence[PlannedTrial]) -> Table:
    table = _table(
        "Trials",
        ("trial", "image", "digest", "layers", "compressed", "unpacked", "warm", "before"),
        words={"image", "digest", "before"},
    )
    again = removals(trials)
    for trial in trials:
        image = trial.image
        share = trial.warm_bytes / max(image.compressed_bytes, 1)
        warm = f"{share:.1%}{' warm-layers' if _is_warm(trial) else ''}" if share else ""
        table.add_row(
            str(trial.trial),
            short_name(image).strip(),
            image.digest.removeprefix("sha256:")[:12],
            str(len(image.layers)),
            _bytes(image.compressed_bytes),
            _bytes(unpacked_bytes(image)),
            warm,
            "removed" if trial.trial in again else "",
        )
    return table


def _stack_table(
    where: Mapping[str, Cluster], trials: Sequence[PlannedTrial], clusters_each: int
) -> RenderableType:
    table = _table(
        "Clusters",
        ("stack", "nodes", "cells", "disk", "hours", "USD", "USD an hour"),
        words={"stack"},
    )
    needed = disk_bytes(trials)
    totals = [0.0, 0.0, 0.0]
    for name, cluster in where.items():
        estimate = _estimate(cluster, trials)
        room = room_bytes(cluster.disk_gb)
        fits = "" if needed <= room else " TOO SMALL"
        totals = [
            total + clusters_each * usd for total, usd in zip(totals, estimate.usd, strict=True)
        ]
        table.add_row(
            name,
            f"{cluster.node_count} x {cluster.machine_type}",
            str(len(trials) * cluster.node_count),
            f"{_bytes(needed)} of {_bytes(round(room))}{fits}",
            _shown(estimate.hours),
            _shown(estimate.usd) if cluster.usd_per_hour else "unknown",
            f"{cluster.usd_per_hour:.2f}" if cluster.usd_per_hour else "unknown",
        )
    lines = [
        f"Disk: available on a node before the kubelet removes images, at {IMAGE_GC_SHARE:.0%}."
    ]
    lines += dict.fromkeys(f"USD: {each.price_note}" for each in where.values() if each.price_note)
    if len(where) * clusters_each > 1:
        per = f", {clusters_each} clusters of each stack" if clusters_each > 1 else ""
        lines.append(f"Total{per}: {totals[1]:.2f} USD ({totals[0]:.2f} to {totals[2]:.2f}).")
    lines += [
        f"{name}: {each.warnings[0]}"
        for name, each in where.items()
        if isinstance(each, ExistingCluster) and each.warnings
    ]
    ends = [f"{name} {end}" for name, each in where.items() if (end := deadline(each, trials))]
    if ends:
        lines.append(f"Whatever happens, Google deletes {', '.join(ends)}.")
    return Group(table, *map(escape, lines))


def _question_table(found: Sequence[Question]) -> RenderableType:
    if not found:
        return "Questions: the study varies nothing that the analysis compares."
    effects = [f"finds {effect:.0%}".replace("%", " %") for effect in EFFECTS]
    table = _table(
        "Questions", ("contrast", *effects, "rests on"), words={"contrast", "rests on"}
    )  # fmt: skip
    for question in found:
        powers = [f"{power:.0%}".replace("%", " %") for power in question.power]
        rest = question.basis if question.answered else f"no answer: {question.why}"
        table.add_row(question.contrast, *(powers or ["", ""]), rest)
    meaning = (
        "Finds: probability that an effect of that size is found, between two sides, over the "
        "range of sizes or layers, or with each doubling of the nodes."
    )
    lines = [meaning, f"Assumed: {VARIATION}."]
    if any("one cluster each" in question.why for question in found):
        lines.append("Fix: --repeat-clusters 3")
    return Group(table, *map(escape, lines))


def _table(title: str, names: Sequence[str], words: set[str]) -> Table:
    table = Table(title=title, title_justify="left")
    for name in names:
        table.add_column(name, justify="left" if name in words else "right", overflow="fold")
    return table


def _shown(values: Range) -> str:
    low, expected, high = values
    return f"{expected:.2f} ({low:.2f} to {high:.2f})"


def _bytes(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"  # noqa: PLR2004
