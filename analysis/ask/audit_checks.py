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

    A pod has one (Scheduled) if a scheduler bound it, each of its containers four (Pulling, Pulled,
    Created, Started).
    """
    unseen = max(0, int(row["expected"]) - int(row["pods"]))
    return int(row["missing"]) + int(row["pod_events"]) * unseen


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


@dataclass(frozen=True, slots=True)
class _Counted:
    """A finding wherever a count is not 0; `text` is formatted with the row."""

    kind: str
    severity: str
    count: str
    of: str
    """Name of the total's count; empty for none."""
    text: str


_COUNTED = (
    _Counted("node-lost", "weakens", "lost_nodes", "",
             "Nodes became not ready {lost_nodes} times."),
    _Counted("repeated-pulls", "spoils", "surplus", "real_pulls",
             "{surplus} of {real_pulls} pulls are repeats on a node that pulled the same image "
             "({twice} cells): they are not independent, and slow each other."),
    _Counted("cells-without-pull", "spoils", "no_pull", "cells",
             "{no_pull} of {cells} cells (image on node) have no recorded pull."),
    _Counted("cached-pulls", "weakens", "cached", "ended",
             "{cached} pods found their image on the node, so nothing was pulled."),
    _Counted("failed-pulls", "spoils", "failed", "",
             "{failed} pull attempts failed; a success after a failure is not a clean "
             "measurement."),
    _Counted("pulling-without-pulled", "spoils", "no_pulled", "containers",
             "{no_pulled} pulls started and have no recorded end."),
    _Counted("evictions", "spoils", "evicted", "", "{evicted} pods were evicted."),
    _Counted("disk-pressure", "spoils", "pressure", "",
             "Nodes were short of disk ({pressure} events)."),
    _Counted("garbage-collection", "weakens", "collected", "",
             "Kubelets tried {collected} times to remove images and freed too little: disks were "
             "nearly full, and it is unknown which layers stayed."),
    _Counted("waiting", "weakens", "waited", "real_pulls",
             "{waited} pulls waited for other pulls on their node, at most {longest_wait:.0f} s: "
             "pull times with and without waiting must not be mixed."),
    _Counted("mutable-tags", "weakens", "mutable", "images",
             "{mutable} of {images} images are named by tag alone: it is not proved that every "
             "node pulled the same bytes."),
    _Counted("coarse-clock", "note", "coarse", "events",
             "{coarse} events carry whole seconds only."),
    _Counted("whole-seconds", "note", "by_name", "events",
             "{by_name} events have whole seconds in their timestamps and nanoseconds in their "
             "names; the nanoseconds are used here."),
)  # fmt: skip


def _counted(row: Row, _: Recorded, finding: _Make) -> Iterable[Finding]:
    known = {**row, "ended": row["real_pulls"] + row["cached"]}
    for one in _COUNTED:
        if known[one.count]:
            of = known[one.of] if one.of else None
            yield finding(one.kind, one.severity, known[one.count], of, one.text.format(**known))


def _nodes(row: Row, cluster: Recorded, finding: _Make) -> Iterable[Finding]:
    every = row["all_nodes"]
    if (idle := every - row["nodes_pulled"]) > 0:
        yield finding(
            "idle-nodes", "spoils", idle, every,
            f"{idle} of {every} nodes never pulled an image of the study: the cluster is "
            "effectively smaller than its name says.",
        )  # fmt: skip
    if every and row["nodes"] != every:
        text = f'Named "{row["nodes"]} nodes", but {every} nodes appear.'
        yield finding("node-count", "weakens", every, row["nodes"], text)
    if cluster.slow:
        text = f"Slower than the others in all their pulls: {', '.join(cluster.slow)}."
        yield finding("slow-nodes", "weakens", len(cluster.slow), every, text)
    ratio, count = cluster.excluded
    if count >= LEAST_EXCLUDED and not 1 / BIASED < ratio < BIASED:
        yield finding(
            "biased-exclusion", "weakens", count, row["real_pulls"],
            f"The {count} excluded pulls took {ratio:.2g} times as long as valid ones of the same "
            "images: exclusion depends on the outcome, so the valid cells are not typical.",
        )  # fmt: skip


def _lost(row: Row, _: Recorded, finding: _Make) -> Iterable[Finding]:
    if row["only_pulled"] or row["no_pulling"]:
        share = row["no_pulling"] / max(1, row["containers"])
        yield finding(
            "pulled-without-pulling", "spoils", row["no_pulling"], row["containers"],
            f"{share:.0%} of the containers that must have pulled have no Pulling event "
            f"({row['only_pulled']} have a Pulled event): events were lost.",
        )  # fmt: skip
    if lost := lost_events(row):
        yield finding(
            "lost-events", "spoils", lost, None,
            f"About {lost} events of the study's pods are missing; one is expected per pod "
            f"({max(int(row['expected']), int(row['pods']))} pods) and four per container.",
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


def _images(row: Row, cluster: Recorded, finding: _Make) -> Iterable[Finding]:
    if moved := row["moved"] + (row["differ"] if row["alike"] else 0):
        yield finding(
            "moved-tags", "spoils", moved, row["images"],
            f"{moved} images had different sizes on nodes of one architecture: their tags moved.",
        )  # fmt: skip
    elif row["differ"]:
        yield finding(
            "sizes-differ", "weakens", row["differ"], row["images"],
            f"{row['differ']} images had different sizes on different nodes: either their tags "
            "moved, or the nodes have different architectures, which no list of nodes shows.",
        )  # fmt: skip
    if empty := [ratio for ratio in cluster.emptiness if ratio >= EMPTY_FROM]:
        yield finding(
            "empty-images", "spoils", len(empty), cluster.images,
            f"{len(empty)} images are almost empty, up to {max(empty):.0f} times smaller on the "
            "wire than on the disk: they measure unpacking and the disk, never the network.",
        )  # fmt: skip


def _time(_: Row, cluster: Recorded, finding: _Make) -> Iterable[Finding]:
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
    _nothing, _nodes, _lost, _counted, _images, _orders, _time
)  # fmt: skip
