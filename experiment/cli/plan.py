"""`python -m experiment plan`: what runs would do, before anything is made, as tables or as JSON.

It resolves images and computes; it makes no folder and no cluster.
"""

import json
import secrets
from collections.abc import Sequence
from typing import Any

import typer
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from experiment.plan.cost import SOURCE, Estimate, Range, run_estimate
from experiment.plan.open_run import Place, places, rehearsal_record
from experiment.plan.registry import resolve_copies, resolve_images
from experiment.plan.request import NewRuns
from experiment.plan.trial_order import disk_bytes, order_trials, removals, unpacked_bytes
from experiment.preflight.capacity import IMAGE_GC_SHARE, room_bytes
from experiment.terminal.grid import short_name
from experiment.terminal.views import make_console
from schema.run_records import PlannedTrial
from schema.study import Order, Study

_WARM_SHARE = 0.01
"""Above it the ledger calls a cell warm (experiment.collect.ledger)."""
_MEASURED = (
    "pull time of every image on every node by the kubelet's own word, with and without waiting",
    "phases of every cell: released, scheduled, pulling, pulled, created, started, finished",
    "events by the runner's watch and through Cloud Logging, reconciled",
    "bytes received and written by every node around each trial",
    "time and cost of every phase of the run",
)


def show_plans(new: NewRuns, *, as_json: bool) -> None:
    """Print the plan of a study on each of the stacks.

    Raises:
        UserError: the study or a stack cannot be read, or an image is not to be had.
    """
    study = new.read_study()
    seed = secrets.randbelow(2**31) if new.seed is None else new.seed
    images, copies = resolve_images(study), resolve_copies(study)
    trials = order_trials(study, images, seed, copies)
    orders = {
        order: order_trials(study.model_copy(update={"order": order}), images, seed, copies)
        for order in Order
    }
    plans = places(new)
    if as_json:
        typer.echo(json.dumps(plan_data(study, seed, trials, orders, plans), indent=2))
        return
    console = make_console()
    for part in plan_page(study, seed, trials, orders, plans):
        console.print(part)


def plan_data(
    study: Study,
    seed: int,
    trials: Sequence[PlannedTrial],
    orders: dict[Order, tuple[PlannedTrial, ...]],
    stacks: dict[str, Place],
) -> dict[str, Any]:
    """The plan as JSON: bytes and seconds as numbers, ranges as lowest, expected, highest."""
    rehearsal = rehearsal_record()
    again = removals(trials)
    return {
        "study": study.name,
        "order": study.order,
        "seed": seed,
        "repetitions": study.repetitions,
        "repeat_by": study.repeat_by,
        "rehearsal": rehearsal.model_dump() if rehearsal else None,
        "trials": [_trial_data(trial, trial.trial in again) for trial in trials],
        "orders": [_order_data(order, each) for order, each in orders.items()],
        "disk_bytes": disk_bytes(trials),
        "stacks": [_stack_data(name, place, trials) for name, place in stacks.items()],
        "rates": SOURCE,
        "measured": list(_MEASURED),
    }


def _trial_data(trial: PlannedTrial, removed_before: bool) -> dict[str, Any]:
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


def _order_data(order: Order, trials: Sequence[PlannedTrial]) -> dict[str, Any]:
    return {
        "order": order,
        "warm_bytes": sum(trial.warm_bytes for trial in trials),
        "bytes": sum(trial.image.compressed_bytes for trial in trials),
        "warm_trials": sum(_is_warm(trial) for trial in trials),
        "trials": len(trials),
    }


def _stack_data(name: str, place: Place, trials: Sequence[PlannedTrial]) -> dict[str, Any]:
    estimate = _estimate(place, trials)
    return {
        "stack": name,
        "nodes": place.node_count,
        "machine_type": place.machine_type,
        "where": place.told,
        "cells": len(trials) * place.node_count,
        "disk_gb": place.disk_gb,
        "disk_room_bytes": round(room_bytes(place.disk_gb)),
        "fits": disk_bytes(trials) <= room_bytes(place.disk_gb),
        "usd_per_hour": place.usd_per_hour,
        "hours": _range_data(estimate.hours),
        "usd": _range_data(estimate.usd),
        "trial_s": [_range_data(each) for each in estimate.trial_s],
    }


def _estimate(place: Place, trials: Sequence[PlannedTrial]) -> Estimate:
    return run_estimate(trials, place.node_count, place.usd_per_hour)


def _range_data(values: Range) -> dict[str, float]:
    return dict(zip(("lowest", "expected", "highest"), (round(v, 3) for v in values), strict=True))


def _is_warm(trial: PlannedTrial) -> bool:
    return trial.warm_bytes > _WARM_SHARE * trial.image.compressed_bytes


def plan_page(
    study: Study,
    seed: int,
    trials: Sequence[PlannedTrial],
    orders: dict[Order, tuple[PlannedTrial, ...]],
    stacks: dict[str, Place],
) -> list[RenderableType]:
    """The plan as tables and sentences."""
    rehearsal = rehearsal_record()
    seeded = f", seed {seed}" if study.order is Order.SHUFFLED else ""
    head = (
        f"Study {study.name}: {len(trials)} trials, order {study.order}{seeded}, "
        f"{study.repetitions} of each image."
    )
    told = [head]
    if rehearsal:
        told.append(
            f"In a rehearsal ({rehearsal.note}), so bytes are of its images; hours and costs are "
            "those of the run on Google Cloud."
        )
    return [
        *map(escape, told),
        _trial_table(trials),
        _order_table(orders),
        _stack_table(stacks, trials),
        escape(f"Rates: {SOURCE}."),
        escape("Measured: " + "; ".join(_MEASURED) + "."),
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


def _order_table(orders: dict[Order, tuple[PlannedTrial, ...]]) -> Table:
    table = _table(
        "Layers that earlier images leave on the nodes, by order",
        ("order", "warm", "of", "trials that are warm"),
        words={"order"},
    )
    for order, trials in orders.items():
        data = _order_data(order, trials)
        table.add_row(
            order,
            _bytes(data["warm_bytes"]),
            _bytes(data["bytes"]),
            f"{data['warm_trials']} of {data['trials']}",
        )
    return table


def _stack_table(stacks: dict[str, Place], trials: Sequence[PlannedTrial]) -> RenderableType:
    table = _table(
        "Clusters",
        ("stack", "nodes", "cells", "disk", "hours", "US dollars", "an hour"),
        words={"stack"},
    )
    needed = disk_bytes(trials)
    totals = [0.0, 0.0, 0.0]
    for name, place in stacks.items():
        estimate = _estimate(place, trials)
        room = room_bytes(place.disk_gb)
        fits = "" if needed <= room else " TOO SMALL"
        totals = [total + usd for total, usd in zip(totals, estimate.usd, strict=True)]
        table.add_row(
            name,
            f"{place.node_count} x {place.machine_type}",
            str(len(trials) * place.node_count),
            f"{_bytes(needed)} of {_bytes(round(room))}{fits}",
            _told(estimate.hours),
            _told(estimate.usd),
            f"{place.usd_per_hour:.2f}",
        )
    note = (
        f"Disk: room is what a node has before the kubelet removes images, at {IMAGE_GC_SHARE:.0%}."
    )
    together = f" All together: {totals[1]:.2f} US dollars ({totals[0]:.2f} to {totals[2]:.2f})."
    return Group(table, escape(note + (together if len(stacks) > 1 else "")))


def _table(title: str, names: Sequence[str], words: set[str]) -> Table:
    table = Table(title=title, title_justify="left")
    for name in names:
        table.add_column(name, justify="left" if name in words else "right", overflow="fold")
    return table


def _told(values: Range) -> str:
    low, expected, high = values
    return f"{expected:.2f} ({low:.2f} to {high:.2f})"


def _bytes(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"  # noqa: PLR2004
