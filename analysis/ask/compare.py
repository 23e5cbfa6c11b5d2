"""Two recordings side by side: the ratio of each image, one effect over all, and a verdict.

Images are matched by repository and tag (or digest); with patterns for two repositories by what
they are copies of. Nodes that pulled on both sides are paired. With one cluster a side the
difference of all images is observed, not inferred: then it counts in --fail-if only beyond what two
runs of one study differed by.
"""

import math
import re
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.ask.effects import (
    LEAST_NODES,
    LEVEL,
    STATISTICS,
    Effect,
    log_ratios,
    of_log,
    ratio,
)
from analysis.ask.questions.cluster_contrasts import between_clusters
from analysis.ask.samples import IMAGE_ATTRIBUTES, key_of, matrices, with_turns
from analysis.csv_files import write_csv
from schema.errors import UserError
from schema.output import OutputRow

REPEAT_ERROR, REPEAT_FREEDOM = 0.037, 5
"""Standard deviation of the logarithm by which medians of two runs of one study differed.

The original study's run2 against run1, 16 nodes, six images: -4.2, 0, +3.7, +6.3, +1.7, +3.1 %.
"""

_CONDITION = re.compile(
    r"(?P<statistic>median|mean|p95|max) +(?P<change>slower|faster) +by +"
    r"(?P<percent>\d+(\.\d+)?) *%"
)


class CompareError(UserError):
    """Two recordings cannot be compared."""


@dataclass(frozen=True, slots=True)
class Condition:
    """The condition of --fail-if: a statistic of the second side beyond a margin."""

    statistic: str
    slower: bool
    percent: float

    def met(self, effect: Effect, level: float) -> bool:
        """Return whether an effect is beyond the margin with confidence `level`."""
        wide = effect.at(level)
        if not wide.answered:
            return False
        if self.slower:
            return wide.low > 1 + self.percent / 100
        return wide.high < 1 - self.percent / 100


@dataclass(frozen=True, slots=True)
class Row:
    """One image: nodes and seconds on both sides (a first, b second), and the ratio b / a."""

    image: str
    n_a: int
    n_b: int
    a: float
    b: float
    effect: Effect
    """Its interval assumes that one trial varies as in the original study (REPEAT_ERROR)."""


@dataclass(frozen=True)
class Comparison:
    """All images, and one effect over them: the geometric mean of their ratios."""

    name_a: str
    name_b: str
    statistic: str
    rows: tuple[Row, ...]
    overall: Effect
    clusters: tuple[int, int]
    moved: tuple[str, ...]
    """Images whose digest differs between the sides."""
    provenance: str
    left_out: tuple[tuple[str, str], ...] = ()
    """Images that cannot be compared, each with the reason."""


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
    first: pd.DataFrame,
    second: pd.DataFrame,
    *,
    statistic: str = "median",
    images: tuple[str | None, str | None] = (None, None),
    recorded: tuple[Collection[str], Collection[str]] = ((), ()),
    empty: tuple[str, str] = ("", ""),
    mixed: bool = False,
) -> Comparison:
    """Compare two sides (samples.samples_of).

    Args:
        first: pulls of the first side.
        second: of the second side.
        statistic: a key of effects.STATISTICS, over nodes.
        images: for each side a regular expression of its images.
        recorded: the names of each side's images, also of those without a valid cell.
        empty: for each side why it has no pulls (samples.no_samples).
        mixed: also compare different kinds of data, for example measured with simulated.

    Raises:
        CompareError: the sides are of different kinds or have no image in common, the statistic is
            unknown, or a pattern is malformed.
    """
    if statistic not in STATISTICS:
        raise CompareError(
            f"--statistic {statistic!r} is unknown.", f"name one of {', '.join(STATISTICS)}"
        )
    kinds = sorted({*first["kind"], *second["kind"]})
    if len(kinds) > 1 and not mixed:
        raise CompareError(
            f"The two sides are {' and '.join(kinds)}: a difference between these says nothing "
            "about clusters.",
            "compare two measurements or two rehearsals of one kind, or add --mixed",
        )
    a, b = (_chosen(side, pattern) for side, pattern in zip((first, second), images, strict=True))
    key = ["image"] if images == (None, None) else _COPIES
    left, right = (side.assign(match=key_of(side, key)) for side in (a, b))
    shared = sorted(set(left["match"]) & set(right["match"]), key=lambda m: (_size(left, m), m))
    if not shared:
        why = "".join(
            f" Of the {name} side {text}."
            for name, text in zip(("first", "second"), empty, strict=True)
            if text
        )
        raise CompareError(
            f"The two sides have no image in common with valid cells: "
            f"{left['match'].nunique()} images on one side, {right['match'].nunique()} on the "
            f"other.{why}",
            "pull-study-analysis audit shows why cells are excluded; --images-first and "
            "--images-second compare two repositories",
        )
    left, right = (_numbered(side[side["match"].isin(shared)]) for side in (left, right))
    rows = tuple(
        _row(left[left["match"] == m], right[right["match"] == m], statistic) for m in shared
    )
    overall = _overall(left, right, statistic)
    named = " and ".join(kinds) if kinds != ["measured"] else ""
    return Comparison(
        _names(a, images[0]), _names(b, images[1]), statistic, rows, overall,
        (left["cluster"].nunique(), right["cluster"].nunique()), _moved(left, right), named,
        _left_out((a, b), (left, right), images, recorded),
    )  # fmt: skip


def _left_out(
    sides: tuple[pd.DataFrame, pd.DataFrame],
    compared: tuple[pd.DataFrame, pd.DataFrame],
    patterns: tuple[str | None, str | None],
    recorded: tuple[Collection[str], Collection[str]],
) -> tuple[tuple[str, str], ...]:
    """Return the images that one side has and the comparison has not, with the reason."""
    why: dict[str, str] = {}
    for number, name in enumerate(("first", "second")):
        valid, other = set(sides[number]["image"]), ("second", "first")[number]
        chosen = [each for each in recorded[number] if re.search(patterns[number] or "", each)]
        for image in set(chosen) - set(compared[number]["image"]):
            if image not in valid:
                why[image] = f"no valid cell on the {name} side"
            else:
                why.setdefault(image, f"no valid cell on the {other} side")
    return tuple(sorted(why.items()))


_COPIES = [name for name in IMAGE_ATTRIBUTES if name != "repository"]


def _chosen(side: pd.DataFrame, pattern: str | None) -> pd.DataFrame:
    side = side[~side["warm"]]
    if pattern is None:
        return side
    try:
        return side[side["image"].str.contains(pattern, regex=True)]
    except re.error as error:
        raise CompareError(
            f"{pattern!r} is not a regular expression: {error}.", "quote its special characters"
        ) from error


def _size(side: pd.DataFrame, match: str) -> float:
    return float(side.loc[side["match"] == match, "gb"].fillna(0).iloc[0])


def _numbered(side: pd.DataFrame) -> pd.DataFrame:
    return with_turns(side.drop(columns="turn"))


def _row(a: pd.DataFrame, b: pd.DataFrame, statistic: str) -> Row:
    function = STATISTICS[statistic]
    seconds = [side.groupby("turn")["seconds"].agg(lambda s: function(s.to_numpy(float))).mean()
               for side in (a, b)]  # fmt: skip
    label = str(
        b["image"].iloc[0] if a["image"].iloc[0] == b["image"].iloc[0] else a["image"].iloc[0]
    )
    counts = [side[["cluster", "node"]].drop_duplicates().shape[0] for side in (a, b)]
    effect = _assumed(*_sides(a, b), statistic)
    return Row(label, counts[0], counts[1], float(seconds[0]), float(seconds[1]), effect)


def _sides(a: pd.DataFrame, b: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, bool]:
    if set(a["node"]) & set(b["node"]):  # the same nodes, whatever the recordings are called
        a, b = a.assign(cluster=""), b.assign(cluster="")
    return matrices(a, b, ["match", "turn"])


def _assumed(a: np.ndarray, b: np.ndarray, paired: bool, statistic: str) -> Effect:
    """Return one image's effect; its trial and day vary as in the original study."""
    two = ratio(np.vstack([a, a]), np.vstack([b, b]), paired=paired, statistic=statistic)
    if not two.answered:
        return replace(two, trials=len(a))
    error = float(np.hypot(two.error, REPEAT_ERROR / np.sqrt(len(a))))
    freedom = error**4 / (
        two.error**4 / max(1, two.nodes - 1) + (error**2 - two.error**2) ** 2 / REPEAT_FREEDOM
    )
    return of_log(
        float(log_ratios(a, b, paired=paired, statistic=statistic).mean()), error, float(freedom),
        nodes=two.nodes, trials=len(a),
    )  # fmt: skip


def _overall(left: pd.DataFrame, right: pd.DataFrame, statistic: str) -> Effect:
    """Return the effect over all images: paired within clusters, else with clusters as the unit."""
    counts = [side["cluster"].nunique() for side in (left, right)]
    a, b, paired = _sides(left, right)
    if paired and set(left["cluster"]) == set(right["cluster"]):
        return ratio(a, b, paired=True, statistic=statistic)
    if max(counts) > 1 and statistic == "median":
        sides = pd.concat(
            [side.assign(side=number, cluster=f"{number} " + side["cluster"], repository="")
             for number, side in enumerate((left, right))]
        )  # fmt: skip
        found = between_clusters(sides, "side", 1)
        if found:
            return found
    rows = log_ratios(a, b, paired=paired, statistic=statistic)
    nodes = min(int(np.isfinite(side).any(0).sum()) for side in (a, b))
    return Effect(
        float(np.exp(np.nanmean(rows))), nodes=nodes, trials=len(rows), clusters=min(counts),
        why="one cluster each",
    )  # fmt: skip


def _moved(left: pd.DataFrame, right: pd.DataFrame) -> tuple[str, ...]:
    pairs = left[["image", "digest"]].drop_duplicates().merge(
        right[["image", "digest"]].drop_duplicates(), on="image"
    )  # fmt: skip
    known = pairs[(pairs["digest_x"] != "") & (pairs["digest_y"] != "")]
    return tuple(sorted(set(known.loc[known["digest_x"] != known["digest_y"], "image"])))


def _names(side: pd.DataFrame, images: str | None) -> str:
    names = ", ".join(dict.fromkeys(side["cluster"]))
    return f"{names} ({images})" if images else names


@dataclass(frozen=True, slots=True)
class Judgement:
    """What --fail-if decides: images beyond the margin, whether all together are, and the word."""

    images: tuple[str, ...]
    overall: bool
    text: str

    @property
    def failed(self) -> bool:
        """Whether anything is beyond the margin."""
        return self.overall or bool(self.images)


def judge(comparison: Comparison, condition: Condition) -> Judgement:
    """Judge all images and their overall effect together, at 95 % confidence for the family.

    Raises:
        CompareError: no image has enough nodes for the condition.
    """
    answered = [row for row in comparison.rows if row.effect.answered]
    if not answered:
        raise CompareError(
            f"No image has {LEAST_NODES} nodes on each side, so --fail-if cannot be evaluated.",
            "pull-study-analysis audit shows what is excluded",
        )
    # Bonferroni, one-sided: half of the error for the overall effect, half for all images.
    overall = comparison.overall
    if not overall.answered:
        overall = of_log(
            float(np.log(overall.value)), REPEAT_ERROR, REPEAT_FREEDOM, nodes=overall.nodes,
            trials=overall.trials,
        )  # fmt: skip
    share = (1 - LEVEL) / 2
    beyond = condition.met(overall, 1 - 2 * share)
    images = tuple(
        row.image for row in answered if condition.met(row.effect, 1 - 2 * share / len(answered))
    )
    wide = overall.at(1 - 2 * share)
    margin = 1 + condition.percent / 100
    if beyond:
        word = f"beyond {condition.percent:g} %"
    elif 1 / margin < wide.low and wide.high < margin:
        word = f"equivalent within {condition.percent:g} %"
    else:
        word = f"undecided at {condition.percent:g} %"
    return Judgement(images, beyond, f"all images: {word}")


def write_comparison(comparison: Comparison, out: Path) -> Path:
    """Write compare.csv into a folder, which is created if missing.

    Raises:
        OutputError: the folder cannot be written.
    """
    rows = comparison_rows(comparison)
    return write_csv(out / "compare.csv", [*rows[0]], (row.values() for row in rows))


def comparison_rows(comparison: Comparison) -> list[OutputRow]:
    """Return a row for each image, also for those not compared; numbers have six digits."""
    s = comparison.statistic
    names = ("image", "nodes_a", "nodes_b", f"{s}_a_s", f"{s}_b_s",
             "ratio", "ratio_low", "ratio_high", "note", "provenance")  # fmt: skip
    provenance = comparison.provenance or "measured"
    compared: list[tuple[object, ...]] = [
        (r.image, r.n_a, r.n_b,
         *map(_six_digits, (r.a, r.b, r.effect.value, r.effect.low, r.effect.high)), "", provenance)
        for r in comparison.rows
    ]  # fmt: skip
    left_out = [(image, *[None] * 7, why, provenance) for image, why in comparison.left_out]
    return [dict(zip(names, row, strict=True)) for row in (*compared, *left_out)]


def _six_digits(value: float) -> float | None:
    return float(f"{value:.6g}") if math.isfinite(value) else None


def lines(comparison: Comparison) -> list[str]:
    """Return the comparison as lines of text."""
    s = comparison.statistic
    head = f"{'image':40} {f'{s} first':>14} {f'{s} second':>14}  second / first (95 %)"
    text = [f"first:  {comparison.name_a}", f"second: {comparison.name_b}", head]
    for row in comparison.rows:
        change = row.effect.percent()
        if not row.effect.answered:
            change += f", too few nodes ({row.n_a}, {row.n_b})"
        text.append(f"{row.image[-40:]:40} {row.a:12.3f} s {row.b:12.3f} s  {change}")
    text += [f"{image[-40:]:40} not compared: {why}" for image, why in comparison.left_out]
    overall = comparison.overall
    why = f", observed: {overall.why}" if not overall.answered else ""
    text.append(f"{'all images':40} {'':14} {'':14}  {overall.percent()}{why}")
    text.append(
        f"Intervals of single images assume that trials vary by {REPEAT_ERROR:.1%}, as in two runs "
        "of the original study.".replace("%", " %", 1)
    )
    if min(comparison.clusters) == 1 and not overall.answered:
        text.append("One cluster each: a difference of days or hardware is part of this.")
    if comparison.moved:
        text.append(f"Another digest on the second side: {', '.join(comparison.moved)}.")
    if comparison.provenance:
        text.append(f"Not all measured: {comparison.provenance}.")
    return text
