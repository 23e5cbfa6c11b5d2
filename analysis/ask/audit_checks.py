"""The audit's checks: each turns the counts of one recording into findings. Pure."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from analysis.ask.questions.slowest import BIASED, LEAST_EXCLUDED
from analysis.ask.samples import EMPTY_FROM
from analysis.judge.audit_counts import Row

_ORDERED = 0.9
_LEANING = 0.6
_LEAST_IMAGES = 3
_MANY_IMAGES = 12
"""Fewer images are in alphabetical order too easily by chance."""
_REPEATED = 1.5
"""Repetitions of an image, on average, from which a study counts as one with repetitions."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that spoils, or may spoil, a study's numbers.

    Attributes:
        kind: short name of the problem.
        severity: 'spoils' (numbers are wrong or missing), 'weakens' (they may be), 'note'.
        count: number of events, pods, cells or images affected.
        of: the total; None where there is none.
        text: one sentence.
    """

    run: str
    stack: str
    kind: str
    severity: str
    count: int
    of: int | None
    text: str


def lost_events(row: Row) -> int:
    """Count the events that the study's pods must have had and that were not recorded.

    A pod has one (Scheduled), each of its containers four (Pulling, Pulled, Created, Started).
    """
    unseen = max(0, int(row["expected"]) - int(row["pods"]))
    return int(row["missing"]) + 5 * unseen


@dataclass(frozen=True)
class Recorded:
    """What the checks need of a recording beside its counts.

    Attributes:
        by_size, by_layers: rank correlation of the order of trials with size and with layers.
        tags: in the order of the trials.
        emptiness: unpacked bytes per compressed byte, by image where known.
        trials_s, pulling_s, settling_s: seconds of all trials, and in pulls and settling of these.
        excluded: how much longer excluded pulls took than valid ones of the same images (1: as
            long), and how many there are.
        slow: nodes that are slower than the others in all their pulls.
    """

    by_size: float
    by_layers: float
    tags: tuple[str, ...]
    emptiness: tuple[float, ...]
    images: int
    trials_s: float
    pulling_s: float
    settling_s: float
    excluded: tuple[float, int]
    slow: tuple[str, ...]


def confounded(row: Row, cluster: Recorded) -> bool:
    """Return whether each image was pulled once, in order of size."""
    return row["repetitions"] < _REPEATED and abs(cluster.by_size) >= _ORDERED


def _alphabetical(cluster: Recorded) -> bool:
    """Return whether images were pulled in nearly alphabetical order of their tags."""
    tags = cluster.tags
    if len(tags) < _MANY_IMAGES:
        return False
    ranks = np.argsort(np.argsort(tags))
    return float(np.corrcoef(np.arange(len(tags)), ranks)[0, 1]) >= _ORDERED


def found(row: Row, cluster: Recorded) -> Iterable[Finding]:
    """Yield all findings on one recording's counts."""

    def finding(kind: str, severity: str, count: int, of: int | None, text: str) -> Finding:
        return Finding(row["run"], row["stack"], kind, severity, int(count), of, text)

    for check in _CHECKS:
        yield from check(row, cluster, finding)


_Make = Callable[[str, str, int, "int | None", str], Finding]


def _nodes(row: Row, cluster: Recorded, finding: _Make) -> Iterable[Finding]:
    idle = row["all_nodes"] - row["nodes_pulled"]
    if idle > 0:
        yield finding(
            "idle-nodes", "spoils", idle, row["all_nodes"],
            f"{idle} of {row['all_nodes']} nodes never pulled an image of the study: the cluster "
            "is effectively smaller than its name says.",
        )  # fmt: skip
    if row["all_nodes"] and row["nodes"] != row["all_nodes"]:
        yield finding(
            "node-count", "weakens", row["all_nodes"], row["nodes"],
            f'Named "{row["nodes"]} nodes", but {row["all_nodes"]} nodes appear.',
        )  # fmt: skip
    if cluster.slow:
        yield finding(
            "slow-nodes", "weakens", len(cluster.slow), row["all_nodes"],
            f"Slower than the others in all their pulls: {', '.join(cluster.slow)}.",
        )  # fmt: skip
    if row["lost_nodes"]:
        yield finding(
            "node-lost", "weakens", row["lost_nodes"], None,
            f"Nodes became not ready {row['lost_nodes']} times.",
        )  # fmt: skip


def _cells(row: Row, cluster: Recorded, finding: _Make) -> Iterable[Finding]:
    if row["twice"]:
        yield finding(
            "repeated-pulls", "spoils", row["surplus"], row["real_pulls"],
            f"{row['surplus']} of {row['real_pulls']} pulls are repeats on a node that pulled the "
            f"same image ({row['twice']} cells): they are not independent, and slow each other.",
        )  # fmt: skip
    ratio, count = cluster.excluded
    if count >= LEAST_EXCLUDED and not 1 / BIASED < ratio < BIASED:
        yield finding(
            "biased-exclusion", "weakens", count, row["real_pulls"],
            f"The {count} excluded pulls took {ratio:.2g} times as long as valid ones of the same "
            "images: exclusion depends on the outcome, so the valid cells are not typical.",
        )  # fmt: skip
    if row["no_pull"]:
        yield finding(
            "cells-without-pull", "spoils", row["no_pull"], row["cells"],
            f"{row['no_pull']} of {row['cells']} cells (image on node) have no recorded pull.",
        )  # fmt: skip
    if row["cached"]:
        yield finding(
            "cached-pulls", "weakens", row["cached"], row["real_pulls"] + row["cached"],
            f"{row['cached']} pods found their image on the node, so nothing was pulled.",
        )  # fmt: skip
    if row["failed"]:
        yield finding(
            "failed-pulls", "spoils", row["failed"], None,
            f"{row['failed']} pull attempts failed; a success after a failure is not a clean "
            "measurement.",
        )  # fmt: skip


def _lost(row: Row, _: Recorded, finding: _Make) -> Iterable[Finding]:
    lost = lost_events(row)
    if row["only_pulled"] or row["no_pulling"]:
        share = row["no_pulling"] / max(1, row["containers"])
        yield finding(
            "pulled-without-pulling", "spoils", row["no_pulling"], row["containers"],
            f"{share:.0%} of the containers that must have pulled have no Pulling event "
            f"({row['only_pulled']} have a Pulled event): events were lost.",
        )  # fmt: skip
    if row["no_pulled"]:
        yield finding(
            "pulling-without-pulled", "spoils", row["no_pulled"], row["containers"],
            f"{row['no_pulled']} pulls started and have no recorded end.",
        )  # fmt: skip
    if lost:
        yield finding(
            "lost-events", "spoils", lost, None,
            f"About {lost} events of the study's pods are missing; one is expected per pod "
            f"({max(int(row['expected']), int(row['pods']))} pods) and four per container.",
        )  # fmt: skip


def _disk(row: Row, _: Recorded, finding: _Make) -> Iterable[Finding]:
    if row["evicted"]:
        yield finding("evictions", "spoils", row["evicted"], None,
                      f"{row['evicted']} pods were evicted.")  # fmt: skip
    if row["pressure"]:
        yield finding("disk-pressure", "spoils", row["pressure"], None,
                      f"Nodes were short of disk ({row['pressure']} events).")  # fmt: skip
    if row["collected"]:
        yield finding(
            "garbage-collection", "weakens", row["collected"], None,
            f"Kubelets tried {row['collected']} times to remove images and freed too little: disks "
            "were nearly full, and it is unknown which layers stayed.",
        )  # fmt: skip


def _orders(row: Row, cluster: Recorded, finding: _Make) -> Iterable[Finding]:
    if not row["images"] or row["repetitions"] >= _REPEATED:
        return
    order, layers = cluster.by_size, cluster.by_layers
    if confounded(row, cluster):
        way = "ascending" if order > 0 else "descending"
        yield finding(
            "confounded-order", "weakens", row["images"], None,
            f"Each image was pulled once, in {way} order of size (rank correlation {order:.2f}): "
            "effects of size cannot be separated from time, a filling disk or a warming cache.",
        )  # fmt: skip
    if abs(layers) >= _LEANING:
        yield finding(
            "confounded-layers", "weakens", row["images"], None,
            f"Images with {'few' if layers > 0 else 'many'} layers were pulled first (rank "
            f"correlation {layers:.2f}): effects of layers cannot be separated from time.",
        )  # fmt: skip
    if _alphabetical(cluster):
        yield finding(
            "fixed-order", "weakens", row["images"], None,
            "Images were pulled in alphabetical order of their tags, not in random order: later "
            "images met fuller disks and warmer caches.",
        )  # fmt: skip
    if not confounded(row, cluster):
        yield finding(
            "no-repetition", "note", 1, None,
            "Each image had one trial: the variation between trials is unknown.",
        )  # fmt: skip


def _method(row: Row, cluster: Recorded, finding: _Make) -> Iterable[Finding]:
    if row["waited"]:
        yield finding(
            "waiting", "weakens", row["waited"], row["real_pulls"],
            f"{row['waited']} pulls waited for other pulls on their node, at most "
            f"{row['longest_wait']:.0f} s: pull times with and without waiting must not be mixed.",
        )  # fmt: skip
    if row["mutable"]:
        yield finding(
            "mutable-tags", "weakens", row["mutable"], row["images"],
            f"{row['mutable']} of {row['images']} images are named by tag alone: it is not proved "
            "that every node pulled the same bytes.",
        )  # fmt: skip
    moved = row["moved"] + (row["differ"] if row["alike"] else 0)
    if moved:
        yield finding(
            "moved-tags", "spoils", moved, row["images"],
            f"{moved} images had different sizes on nodes of one architecture: their tags moved.",
        )  # fmt: skip
    elif row["differ"]:
        yield finding(
            "sizes-differ", "weakens", row["differ"], row["images"],
            f"{row['differ']} images had different sizes on different nodes: either their tags "
            "moved, or the nodes have different architectures, which no list of nodes tells.",
        )  # fmt: skip
    yield from _orders(row, cluster, finding)
    empty = [ratio for ratio in cluster.emptiness if ratio >= EMPTY_FROM]
    if empty:
        yield finding(
            "empty-images", "spoils", len(empty), cluster.images,
            f"{len(empty)} images are almost empty, up to {max(empty):.0f} times smaller on the "
            "wire than on the disk: they measure unpacking and the disk, never the network.",
        )  # fmt: skip


def _time(row: Row, cluster: Recorded, finding: _Make) -> Iterable[Finding]:
    if row["coarse"]:
        yield finding(
            "coarse-clock", "note", row["coarse"], row["events"],
            f"{row['coarse']} events carry whole seconds only.",
        )  # fmt: skip
    if row["by_name"]:
        yield finding(
            "whole-seconds", "note", row["by_name"], row["events"],
            f"{row['by_name']} events have whole seconds in their timestamps and nanoseconds in "
            "their names; the nanoseconds are used here.",
        )  # fmt: skip
    if cluster.trials_s > 0 and cluster.pulling_s > 0:
        other = 1 - cluster.pulling_s / cluster.trials_s
        yield finding(
            "not-pulling", "note", round(other * cluster.trials_s), round(cluster.trials_s),
            f"{other:.0%} of the trials' {cluster.trials_s:.0f} s were not pulling "
            f"({cluster.settling_s:.0f} s were settling): a Job takes longer than its pulls.",
        )  # fmt: skip


def _nothing(row: Row, _: Recorded, finding: _Make) -> Iterable[Finding]:
    if not row["cells"]:
        yield finding(
            "nothing-measured", "spoils", 0, None, "No pull of a study's image was recorded."
        )


_CHECKS: Sequence[Callable[[Row, Recorded, _Make], Iterable[Finding]]] = (
    _nothing,
    _nodes,
    _cells,
    _lost,
    _disk,
    _method,
    _time,
)
