"""Two recordings side by side: for each image, the ratio of pull times with an interval.

Images are matched by tag, so that two registries can be compared. Each bootstrap replicate draws
the nodes of both sides. Measured and rehearsed pulls are compared only on request.
"""

import csv
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from analysis.ask.effects import DRAWS, LEAST_NODES, Effect, Matrix
from analysis.ask.study_data import Cluster
from analysis.judge.cells import image_parts
from schema.errors import UserError

STATISTICS: dict[str, Callable[[Matrix], Matrix]] = {
    "median": lambda values: np.asarray(np.median(values, axis=-1)),
    "mean": lambda values: np.asarray(np.mean(values, axis=-1)),
    "p95": lambda values: np.asarray(np.quantile(values, 0.95, axis=-1)),
    "max": lambda values: np.asarray(np.max(values, axis=-1)),
}
"""Statistics of pull times in seconds over nodes, the last axis; the other axes stay."""

_CONDITION = re.compile(
    r"(?P<statistic>median|mean|p95|max) +(?P<change>slower|faster) +by +"
    r"(?P<percent>\d+(\.\d+)?) *%"
)
_SEED = 20241110


class CompareError(UserError):
    """Two recordings cannot be compared."""


@dataclass(frozen=True, slots=True)
class Condition:
    """The condition of --fail-if: a statistic of the second side beyond a limit."""

    statistic: str
    slower: bool
    percent: float

    def met(self, effect: Effect | None) -> bool:
        """Return whether a ratio is beyond the limit and its interval excludes 1."""
        if effect is None:
            return False
        if self.slower:
            return effect.value > 1 + self.percent / 100 and effect.low > 1
        return effect.value < 1 - self.percent / 100 and effect.high < 1


@dataclass(frozen=True, slots=True)
class Row:
    """One image: nodes and seconds on both sides (a first, b second), and the ratio b / a."""

    tag: str
    n_a: int
    n_b: int
    a: float
    b: float
    effect: Effect | None
    """None with fewer than LEAST_NODES nodes on a side."""


@dataclass(frozen=True)
class Comparison:
    """All images, and the geometric mean of their ratios."""

    name_a: str
    name_b: str
    statistic: str
    pulls: str
    rows: tuple[Row, ...]
    overall: Effect | None
    provenance: str


def parse_condition(text: str) -> Condition:
    """Read a condition such as `median slower by 10 %`.

    Raises:
        CompareError: it has another form.
    """
    match = _CONDITION.fullmatch(text.strip())
    if match is None:
        raise CompareError(
            f"--fail-if {text!r} is not a condition.",
            "write it as 'median slower by 10 %' (median, mean, p95 or max; slower or faster)",
        )
    return Condition(match["statistic"], match["change"] == "slower", float(match["percent"]))


def compare(
    a: Sequence[Cluster],
    b: Sequence[Cluster],
    *,
    statistic: str = "median",
    every: bool = False,
    images: tuple[str | None, str | None] = (None, None),
    mixed: bool = False,
) -> Comparison:
    """Compare two sides.

    Args:
        a: clusters of the first side; their nodes are pooled.
        b: clusters of the second side.
        statistic: a key of STATISTICS.
        every: compare all successful pulls, not only those of valid cells.
        images: for each side a regular expression of its images.
        mixed: also compare different kinds of data, for example measured with simulated.

    Raises:
        CompareError: the sides are of different kinds or have no image in common, or the
            statistic is unknown.
    """
    if statistic not in STATISTICS:
        raise CompareError(
            f"--statistic {statistic!r} is unknown.",
            f"name one of {', '.join(STATISTICS)}",
        )
    kinds = sorted({cluster.kind for cluster in (*a, *b)})
    if len(kinds) > 1 and not mixed:
        raise CompareError(
            f"The two sides are {' and '.join(kinds)}: a difference between these says nothing "
            "about clusters.",
            "compare two measurements or two rehearsals of one kind, or add --mixed",
        )
    left, right = (
        _by_tag(side, every=every, images=pattern)
        for side, pattern in zip((a, b), images, strict=True)
    )
    shared = sorted(left.keys() & right.keys(), key=lambda tag: (_size(tag), tag))
    if not shared:
        what = "successful pulls" if every else "valid cells"
        raise CompareError(
            f"The two sides have no image in common with {what}: {len(left)} images on one side, "
            f"{len(right)} on the other.",
            "python -m analysis audit shows why cells are excluded"
            + ("" if every else "; --all compares all successful pulls"),
        )
    generator = np.random.default_rng(_SEED)
    function = STATISTICS[statistic]
    rows, logs = [], []
    for tag in shared:
        row, log = _row(tag, left[tag], right[tag], function, generator)
        rows.append(row)
        logs.append(log)
    certain = [log for log, row in zip(logs, rows, strict=True) if row.effect]
    overall = None
    if certain:
        values = [row.effect.value for row in rows if row.effect]
        drawn = np.exp(np.mean(certain, axis=0))
        low, high = np.quantile(drawn, [0.025, 0.975])
        least = min(min(row.n_a, row.n_b) for row in rows if row.effect)
        mean = float(np.exp(np.mean(np.log(values))))
        overall = Effect(mean, float(low), float(high), least)
    pulls = "all successful pulls" if every else "valid cells"
    known = sorted({cluster.provenance for cluster in (*a, *b)})
    provenance = "" if known == ["measured"] else " and ".join(known)
    return Comparison(
        _names(a, images[0]), _names(b, images[1]), statistic, pulls, tuple(rows), overall,
        provenance,
    )  # fmt: skip


def _names(side: Sequence[Cluster], images: str | None) -> str:
    names = ", ".join(f"{c.run}/{c.stack}".rstrip("/") for c in side)
    return f"{names} ({images})" if images else names


def _size(tag: str) -> int:
    return image_parts(f"x:{tag}")[3] or 0


def _by_tag(side: Sequence[Cluster], *, every: bool, images: str | None) -> dict[str, Matrix]:
    found: dict[str, list[Matrix]] = {}
    for cluster in side:
        pulls = cluster.every if every else cluster.valid
        for column, name in enumerate(pulls.images):
            if images and not re.search(images, name):
                continue
            seconds = pulls.seconds[:, column]
            tag = image_parts(name)[1] or name
            found.setdefault(tag, []).append(seconds[np.isfinite(seconds)])
    return {tag: np.concatenate(parts) for tag, parts in found.items()}


def _row(
    tag: str,
    a: Matrix,
    b: Matrix,
    statistic: Callable[[Matrix], Matrix],
    generator: np.random.Generator,
) -> tuple[Row, Matrix]:
    value_a, value_b = float(statistic(a)), float(statistic(b))
    if min(len(a), len(b)) < LEAST_NODES or min(value_a, value_b) <= 0:
        return Row(tag, len(a), len(b), value_a, value_b, None), np.zeros(DRAWS)
    drawn_a = statistic(a[generator.integers(0, len(a), (DRAWS, len(a)))])
    drawn_b = statistic(b[generator.integers(0, len(b), (DRAWS, len(b)))])
    logs = np.log(drawn_b) - np.log(drawn_a)
    low, high = np.exp(np.quantile(logs, [0.025, 0.975]))
    effect = Effect(value_b / value_a, float(low), float(high), min(len(a), len(b)))
    return Row(tag, len(a), len(b), value_a, value_b, effect), logs


def judge(comparison: Comparison, condition: Condition) -> list[str]:
    """Return the tags of the images that meet a condition.

    Raises:
        CompareError: no image has enough nodes for the condition.
    """
    if not any(row.effect for row in comparison.rows):
        raise CompareError(
            f"No image has {LEAST_NODES} nodes on each side, so --fail-if cannot be evaluated.",
            "--all compares all successful pulls; python -m analysis audit shows what is excluded",
        )
    return [row.tag for row in comparison.rows if condition.met(row.effect)]


def write_comparison(comparison: Comparison, out: Path) -> Path:
    """Write compare.csv into a folder, which is created if missing."""
    out.mkdir(parents=True, exist_ok=True)
    path = out / "compare.csv"
    s = comparison.statistic
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(
            ["tag", "nodes_a", "nodes_b", f"{s}_a_s", f"{s}_b_s", "ratio", "ratio_low",
             "ratio_high", "provenance"]
        )  # fmt: skip
        for row in comparison.rows:
            e = row.effect
            ratio = [f"{v:.6g}" for v in (e.value, e.low, e.high)] if e else ["", "", ""]
            times = [f"{row.a:.6g}", f"{row.b:.6g}"]
            provenance = comparison.provenance or "measured"
            writer.writerow([row.tag, row.n_a, row.n_b, *times, *ratio, provenance])
    return path


def lines(comparison: Comparison) -> list[str]:
    """Return the comparison as lines of text."""
    s = comparison.statistic
    head = f"{'image':40} {f'{s} first':>14} {f'{s} second':>14}  second / first (95 %)"
    text = [f"first:  {comparison.name_a}", f"second: {comparison.name_b}", head]
    for row in comparison.rows:
        ratio = row.effect.percent() if row.effect else f"too few nodes ({row.n_a}, {row.n_b})"
        text.append(f"{row.tag[-40:]:40} {row.a:12.3f} s {row.b:12.3f} s  {ratio}")
    if comparison.overall:
        text.append(f"{'all images':40} {'':14} {'':14}  {comparison.overall.percent()}")
    if comparison.provenance:
        text.append(f"Not all measured: {comparison.provenance}.")
    return text
