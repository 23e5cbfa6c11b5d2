"""The audit's checks: each looks at one recording's counts and says what they spoil. Pure."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.ask.answers import EMPTY_FROM
from analysis.ask.study_data import Cluster, Image

_ORDERED = 0.9
_LEANING = 0.6
_LEAST_IMAGES = 3
_MANY_IMAGES = 12
"""Fewer come in some order by chance, or because there is a reason for it."""
_REPEATED = 1.5
"""Turns of an image, on average, from which on a study counts as one with repetitions."""

Row = dict[str, Any]
"""The counts of one recording (audit.py); 0 where nothing was counted."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that spoils, or may spoil, a study's numbers.

    Attributes:
        kind: short name, the same for the same trouble everywhere.
        severity: 'spoils' (numbers are wrong or missing), 'weakens' (they may be), 'note'.
        count: how many.
        of: of how many; None where that means nothing.
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
    """Events that pods of the study must have had: missing steps, and pods without any."""
    unseen = max(0, int(row["expected"]) - int(row["pods"]))
    return int(row["missing"]) + 5 * unseen


def _order(cluster: Cluster, property_of: Callable[[Image], float | None]) -> float:
    """Rank correlation (Spearman) of an image's turn with a property; 0 with too few images."""
    values = []
    for name in dict.fromkeys(trial.image for trial in cluster.trials):
        image = cluster.images.get(name)
        value = property_of(image) if image else None
        if value:
            values.append(value)
    if len(values) < _LEAST_IMAGES or len(set(values)) < 2:  # noqa: PLR2004 (a comparison)
        return 0.0
    places, counts = np.unique(values, return_inverse=True, return_counts=True)[1:]
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[places]  # equal values share their mean rank
    return float(np.corrcoef(np.arange(len(ranks)), ranks)[0, 1])


def _by_size(image: Image) -> float | None:
    return image.unpacked_bytes or image.wire_bytes


def _by_layers(image: Image) -> float | None:
    return image.layers


def confounded(row: Row, cluster: Cluster) -> bool:
    """Whether images came once and in the order of their size."""
    return row["repetitions"] < _REPEATED and abs(_order(cluster, _by_size)) >= _ORDERED


def _alphabetical(cluster: Cluster) -> bool:
    """Whether images came in the alphabetical order of their tags, but for a few."""
    tags = list(dict.fromkeys(trial.tag for trial in cluster.trials))
    if len(tags) < _MANY_IMAGES:
        return False
    ranks = np.argsort(np.argsort(tags))
    return float(np.corrcoef(np.arange(len(tags)), ranks)[0, 1]) >= _ORDERED


def found(row: Row, cluster: Cluster) -> Iterable[Finding]:
    """All findings on one recording's counts."""

    def finding(kind: str, severity: str, count: int, of: int | None, text: str) -> Finding:
        return Finding(row["run"], row["stack"], kind, severity, int(count), of, text)

    for check in _CHECKS:
        yield from check(row, cluster, finding)


_Make = Callable[[str, str, int, "int | None", str], Finding]


def _nodes(row: Row, _: Cluster, finding: _Make) -> Iterable[Finding]:
    idle = row["all_nodes"] - row["nodes_pulled"]
    if idle > 0:
        yield finding(
            "idle-nodes", "spoils", idle, row["all_nodes"],
            f"{idle} of {row['all_nodes']} nodes never pulled an image of the study: the cluster "
            "is in truth smaller than it is called.",
        )  # fmt: skip
    if row["all_nodes"] and row["nodes"] != row["all_nodes"]:
        yield finding(
            "node-count", "weakens", row["all_nodes"], row["nodes"],
            f"The recording is called {row['nodes']} nodes and names {row['all_nodes']}.",
        )  # fmt: skip
    if row["lost_nodes"]:
        yield finding(
            "node-lost", "weakens", row["lost_nodes"], None,
            f"Nodes became not ready {row['lost_nodes']} times.",
        )  # fmt: skip


def _cells(row: Row, _: Cluster, finding: _Make) -> Iterable[Finding]:
    if row["twice"]:
        yield finding(
            "repeated-pulls", "spoils", row["surplus"], row["real_pulls"],
            f"{row['surplus']} of {row['real_pulls']} pulls repeat a node that had pulled the "
            f"image ({row['twice']} cells): they are not independent, and they slowed each other.",
        )  # fmt: skip
    if row["no_pull"]:
        yield finding(
            "cells-without-pull", "spoils", row["no_pull"], row["cells"],
            f"{row['no_pull']} of {row['cells']} cells (image on node) have no recorded pull.",
        )  # fmt: skip
    if row["cached"]:
        yield finding(
            "cached-pulls", "weakens", row["cached"], row["real_pulls"] + row["cached"],
            f"{row['cached']} pods found their image on the node: nothing was pulled.",
        )  # fmt: skip
    if row["failed"]:
        yield finding(
            "failed-pulls", "spoils", row["failed"], None,
            f"{row['failed']} attempts at pulling failed; a later success is no clean measurement.",
        )  # fmt: skip


def _lost(row: Row, _: Cluster, finding: _Make) -> Iterable[Finding]:
    lost = lost_events(row)
    if row["only_pulled"] or row["no_pulling"]:
        share = row["no_pulling"] / max(1, row["pods"])
        yield finding(
            "pulled-without-pulling", "spoils", row["no_pulling"], row["pods"],
            f"{share:.0%} of the pods that must have pulled have no Pulling event "
            f"({row['only_pulled']} have a Pulled): events were lost.",
        )  # fmt: skip
    if row["no_pulled"]:
        yield finding(
            "pulling-without-pulled", "spoils", row["no_pulled"], row["pods"],
            f"{row['no_pulled']} pulls were begun and have no recorded end.",
        )  # fmt: skip
    if lost:
        yield finding(
            "lost-events", "spoils", lost, None,
            f"About {lost} events of the study's pods are missing, five being expected of each "
            f"pod ({max(int(row['expected']), int(row['pods']))} pods).",
        )  # fmt: skip


def _disk(row: Row, _: Cluster, finding: _Make) -> Iterable[Finding]:
    if row["evicted"]:
        yield finding("evictions", "spoils", row["evicted"], None,
                      f"{row['evicted']} pods were evicted.")  # fmt: skip
    if row["pressure"]:
        yield finding("disk-pressure", "spoils", row["pressure"], None,
                      f"Nodes were short of disk ({row['pressure']} events).")  # fmt: skip
    if row["collected"]:
        yield finding(
            "garbage-collection", "weakens", row["collected"], None,
            f"Kubelets tried to remove images {row['collected']} times and found too little: disks "
            "were nearly full, and which layers stayed is unknown.",
        )  # fmt: skip


def _orders(row: Row, cluster: Cluster, finding: _Make) -> Iterable[Finding]:
    if not row["images"] or row["repetitions"] >= _REPEATED:
        return
    order, layers = _order(cluster, _by_size), _order(cluster, _by_layers)
    if confounded(row, cluster):
        way = "ascending" if order > 0 else "descending"
        yield finding(
            "confounded-order", "weakens", row["images"], None,
            f"Images came once and in {way} order of size (rank correlation {order:.2f}): size "
            "cannot be told from time, a filling disk or a warming cache.",
        )  # fmt: skip
    if abs(layers) >= _LEANING:
        yield finding(
            "confounded-layers", "weakens", row["images"], None,
            f"Images with {'few' if layers > 0 else 'many'} layers came first (rank correlation "
            f"{layers:.2f}): the number of layers cannot be told from time.",
        )  # fmt: skip
    if _alphabetical(cluster):
        yield finding(
            "fixed-order", "weakens", row["images"], None,
            "Images came in the alphabetical order of their tags and not in a random one: what "
            "came late met fuller disks and warmer caches.",
        )  # fmt: skip
    if not confounded(row, cluster):
        yield finding(
            "no-repetition", "note", 1, None,
            "Each image had one turn: how much a turn differs from the next is unknown.",
        )  # fmt: skip


def _method(row: Row, cluster: Cluster, finding: _Make) -> Iterable[Finding]:
    if row["waited"]:
        yield finding(
            "waiting", "weakens", row["waited"], row["real_pulls"],
            f"{row['waited']} pulls waited behind other pulls of their node, the longest "
            f"{row['longest_wait']:.0f} s: pull and pull with waiting must not be mixed.",
        )  # fmt: skip
    if row["mutable"]:
        yield finding(
            "mutable-tags", "weakens", row["mutable"], row["images"],
            f"{row['mutable']} of {row['images']} images are named by tag alone: nothing proves "
            "that every node pulled the same bytes.",
        )  # fmt: skip
    if row["moved"]:
        yield finding(
            "moved-tags", "spoils", row["moved"], row["images"],
            f"{row['moved']} images had different sizes on different nodes: their tag moved.",
        )  # fmt: skip
    yield from _orders(row, cluster, finding)
    empty = [
        i for i in cluster.images.values()
        if i.unpacked_bytes and i.wire_bytes and i.unpacked_bytes / i.wire_bytes >= EMPTY_FROM
    ]  # fmt: skip
    if empty:
        ratio = max((i.unpacked_bytes or 0) / (i.wire_bytes or 1) for i in empty)
        yield finding(
            "empty-images", "spoils", len(empty), len(cluster.images),
            f"{len(empty)} images are almost empty, up to {ratio:.0f} times smaller on the wire "
            "than on the disk: they measure unpacking and the disk, never the network.",
        )  # fmt: skip


def _time(row: Row, cluster: Cluster, finding: _Make) -> Iterable[Finding]:
    if row["coarse"]:
        yield finding(
            "coarse-clock", "note", row["coarse"], row["events"],
            f"{row['coarse']} events carry whole seconds only.",
        )  # fmt: skip
    if row["by_name"]:
        yield finding(
            "whole-seconds", "note", row["by_name"], row["events"],
            f"{row['by_name']} events have whole seconds in their times and nanoseconds in their "
            "names, which are what is used here.",
        )  # fmt: skip
    if cluster.trials_s > 0 and cluster.pulling_s > 0:
        other = 1 - cluster.pulling_s / cluster.trials_s
        settling = sum(trial.parts["settling"] for trial in cluster.trials)
        yield finding(
            "not-pulling", "note", round(other * cluster.trials_s), round(cluster.trials_s),
            f"{other:.0%} of the trials' {cluster.trials_s:.0f} s were not pulling, settling after "
            f"it {settling:.0f} s: a pull time is not the time that a Job takes.",
        )  # fmt: skip


def _nothing(row: Row, _: Cluster, finding: _Make) -> Iterable[Finding]:
    if not row["cells"]:
        yield finding(
            "nothing-measured", "spoils", 0, None, "No pull of a study's image was recorded."
        )


_CHECKS: Sequence[Callable[[Row, Cluster, _Make], Iterable[Finding]]] = (
    _nothing,
    _nodes,
    _cells,
    _lost,
    _disk,
    _method,
    _time,
)
