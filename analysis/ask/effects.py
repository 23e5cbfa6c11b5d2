"""Effects with 95 % intervals that know what varies: nodes, trials and clusters. Pure.

Pulls of one node share its disk and place, pulls of one trial its moment, trials of one cluster its
hardware and day. An interval here holds all of these that differ between the two sides; where one
of them cannot be estimated (one trial each, one cluster each) there is no interval, only the
observed difference. docs/analysis.md has the measured coverage.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, stats
from statsmodels.regression.linear_model import WLS, RegressionResults
from statsmodels.tools.tools import add_constant

LEAST_NODES = 3
"""With fewer nodes than this on a side, nothing is concluded."""

LEVEL = 0.95
_DRAWS = 300
_SEED = 20241110

Matrix = NDArray[np.float64]
"""Trials by nodes, in seconds; nan where there is no pull."""

STATISTICS: dict[str, Callable[[Matrix], Matrix]] = {
    "median": lambda values: _over_nodes(np.median, np.nanmedian, values),
    "mean": lambda values: _over_nodes(np.mean, np.nanmean, values),
    "p95": lambda values: _over_nodes(
        partial(np.quantile, q=0.95), partial(np.nanquantile, q=0.95), values
    ),
    "max": lambda values: _over_nodes(np.max, np.nanmax, values),
}
"""Statistics of pull times over nodes, the last axis."""


def _over_nodes(whole: Callable[..., Any], holes: Callable[..., Any], values: Matrix) -> Matrix:
    # The functions that pass over nan take ten times as long.
    function = whole if np.isfinite(values).all() else holes
    return np.asarray(function(values, axis=-1))


@dataclass(frozen=True, slots=True)
class Effect:
    """A ratio of times (1: no difference) with its interval.

    Attributes:
        low, high: nan if the data have no interval; `why` then says what cannot be estimated.
        log_value, error, freedom: of the logarithm: value, standard error, degrees of freedom.
        nodes: of the smaller side. trials: on the smaller side. clusters: on the smaller side.
    """

    value: float
    low: float = float("nan")
    high: float = float("nan")
    error: float = float("nan")
    freedom: float = float("nan")
    nodes: int = 0
    trials: int = 0
    clusters: int = 1
    why: str = ""

    @property
    def answered(self) -> bool:
        """Whether there is an interval."""
        return bool(np.isfinite(self.low))

    @property
    def clear(self) -> bool:
        """Whether the interval excludes 1."""
        return self.answered and not self.low <= 1 <= self.high

    def at(self, level: float) -> "Effect":
        """Return the same effect with an interval of another level (0.99: wider)."""
        if not self.answered:
            return self
        low, high = _interval(np.log(self.value), self.error, self.freedom, level)
        return replace(self, low=low, high=high)

    def inverse(self) -> "Effect":
        """Return 1 / ratio: the other side is the base."""
        return replace(self, value=1 / self.value, low=1 / self.high, high=1 / self.low)

    def percent(self) -> str:
        """As a change: '+3.1 % (+0.2 … +6.0 %)', or without an interval '+3.1 %'."""
        value, low, high = ((v - 1) * 100 for v in (self.value, self.low, self.high))
        text = f"{signed(value)} %"
        return f"{text} ({signed(low)} … {signed(high)} %)" if self.answered else text

    def times(self) -> str:
        """As a factor: '1.03 times (1.00 … 1.06)'."""
        text = f"{self.value:.3g} times"
        return f"{text} ({self.low:.3g} … {self.high:.3g})" if self.answered else text

    def basis(self) -> str:
        """Return what it rests on: '6 trials a side, 16 nodes, 1 cluster a side'."""
        return ", ".join(
            f"{count} {noun}{'s' * (count != 1)}{side}"
            for count, noun, side in (
                (self.trials, "trial", " a side"), (self.nodes, "node", ""),
                (self.clusters, "cluster", ""),
            )
        )  # fmt: skip


def signed(value: float) -> str:
    """Return one decimal with a sign; a minus sign, not a hyphen."""
    return f"{value:+.1f}".replace("-", "\u2212")


def of_log(
    value: float, error: float, freedom: float, *, nodes: int, trials: int, clusters: int = 1
) -> Effect:
    """Return the effect of a logarithm with its standard error and degrees of freedom."""
    low, high = _interval(value, error, freedom, LEVEL)
    return Effect(
        float(np.exp(value)), low, high, float(error), float(freedom), nodes, trials, clusters
    )


def _interval(value: float, error: float, freedom: float, level: float) -> tuple[float, float]:
    reach = float(stats.t.ppf((1 + level) / 2, freedom)) * error
    return float(np.exp(value - reach)), float(np.exp(value + reach))


def ratio(
    a: Matrix,
    b: Matrix,
    *,
    paired: bool,
    statistic: str = "median",
    spread: tuple[float, int] | None = None,
) -> Effect:
    """Return the geometric mean over trials of b / a.

    Two sources of variance: trials (their spread) and nodes (a bootstrap that draws whole nodes,
    the same ones for all trials, and for both sides if `paired`).

    Args:
        a: seconds of one side, trials by nodes; row i of `b` is paired with row i of `a`.
        b: of the other side.
        paired: column j is the same node on both sides.
        statistic: a key of STATISTICS, over nodes.
        spread: variance of a trial's log ratio and its degrees of freedom, pooled over comparisons
            like this one; by default that of these trials.
    """
    rng = np.random.default_rng(_SEED)
    nodes = min(int(np.isfinite(side).any(0).sum()) for side in (a, b))
    rows = log_ratios(a, b, paired=paired, statistic=statistic)
    value, trials = float(rows.mean()), len(rows)
    seen = Effect(float(np.exp(value)), nodes=nodes, trials=trials)
    if nodes < LEAST_NODES:
        return replace(seen, why=f"{nodes} node{'s' * (nodes != 1)} on a side")
    if trials < 2:  # noqa: PLR2004 (a spread)
        return replace(seen, why="one trial each")
    i = rng.integers(0, a.shape[1], (_DRAWS, a.shape[1]))
    j = i if paired else rng.integers(0, b.shape[1], (_DRAWS, b.shape[1]))
    draws = log_ratios(a[:, i], b[:, j], paired=paired, statistic=statistic).T
    draws = draws[np.isfinite(draws).all(1)]
    if len(draws) < _DRAWS // 2:
        return replace(seen, why="too few nodes pulled the same images")
    # What all trials share by their nodes, apart from what each trial's pulls vary by themselves.
    fair = nodes / (nodes - 1)
    node = max(0.0, trials * draws.mean(1).var() - draws.var(0).mean()) / (trials - 1) * fair
    variance, freedom = spread or (float(rows.var(ddof=1)), trials - 1)
    trial = variance / trials
    return of_log(
        value, np.sqrt(node + trial), _freedom((node, nodes - 1), (trial, freedom)),
        nodes=nodes, trials=trials,
    )  # fmt: skip


def _freedom(*parts: tuple[float, float]) -> float:
    """Return Satterthwaite's degrees of freedom of a sum of (variance, freedom)."""
    total = sum(variance for variance, _ in parts)
    below = sum(variance**2 / freedom for variance, freedom in parts)
    return float(total**2 / below) if below > 0 else min(freedom for _, freedom in parts)


def log_ratios(a: Matrix, b: Matrix, *, paired: bool, statistic: str) -> Matrix:
    """Return for each trial the logarithm of b / a; paired medians are those of nodes' ratios.

    The first axis is the trial, the last one the node.
    """
    function = STATISTICS[statistic]
    with _quiet():
        if paired and statistic == "median":
            return function(np.log(b) - np.log(a))
        return np.asarray(np.log(function(b)) - np.log(function(a)))


def node_error(a: Matrix) -> float:
    """Return the standard error of a cluster's mean log median, from its nodes."""
    n = a.shape[1]
    draws = np.random.default_rng(_SEED).integers(0, n, (100, n))
    with _quiet():
        drawn = np.nanmean(STATISTICS["median"](np.log(a)[:, draws]), axis=0)
    return float(np.nanstd(drawn) * np.sqrt(n / max(1, n - 1)))


def line_over_clusters(y: pd.Series, errors: pd.Series, x: Matrix) -> tuple[float, float, float]:
    """Return slope, standard error and degrees of freedom of y over x; a row is one cluster.

    Clusters vary beyond what their nodes explain (`errors`): by the moment estimator of Paule and
    Mandel (1982), with the t interval of Knapp and Hartung (2003).
    """
    known, within = np.asarray(y, float), np.asarray(errors, float) ** 2
    design = add_constant(np.asarray(x, float))
    freedom = len(known) - design.shape[1]

    def fitted(between: float) -> RegressionResults:
        return WLS(known, design, weights=1 / (within + between)).fit()

    def excess(between: float) -> float:
        return float(fitted(between).scale) - 1

    floor, most = 1e-12, 10 * float(known.var()) + 1e-6
    between = optimize.brentq(excess, floor, most) if excess(floor) > 0 > excess(most) else floor
    fit = fitted(between)
    error = np.sqrt(fit.normalized_cov_params[1, 1] * max(1.0, fit.scale))
    return float(fit.params[1]), float(error), freedom


def over_clusters(effects: Sequence[Effect]) -> Effect:
    """Combine effects that were each estimated within one cluster, weighted by their precision."""
    answered = [effect for effect in effects if effect.answered]
    if len(answered) < 2:  # noqa: PLR2004 (a combination)
        return answered[0] if answered else max(effects, key=lambda effect: effect.trials)
    logs = np.log([effect.value for effect in answered])
    variances = np.array([effect.error**2 for effect in answered])
    weights = 1 / variances / (1 / variances).sum()
    value = float(weights @ logs)
    excess = float(((logs - value) ** 2 / variances).sum() / (len(answered) - 1))
    freedom = _freedom(
        *((w**2 * v, e.freedom) for w, v, e in zip(weights, variances, answered, strict=True))
    )
    return of_log(
        value,
        np.sqrt(weights**2 @ variances * max(1.0, excess)),
        freedom if excess <= 1 else min(freedom, len(answered) - 1),
        nodes=sum(effect.nodes for effect in answered),
        trials=sum(effect.trials for effect in answered),
        clusters=len(answered),
    )


@dataclass(frozen=True, slots=True)
class Slope:
    """Seconds per unit of a feature, with its 95 % interval and degrees of freedom."""

    value: float
    low: float
    high: float
    freedom: int

    def text(self, digits: int = 2) -> str:
        """Return it with its interval: '6.73 (6.51 … 6.97)'."""
        return "{} ({} … {})".format(
            *(f"{v:.{digits}f}".replace("-", "\u2212") for v in (self.value, self.low, self.high))
        )


def relative_fit(y: Matrix, design: Matrix) -> RegressionResults:
    """Fit seconds by least squares of the relative error.

    The weights come from the fitted values, since weights of the noisy response bias it low.
    """
    weights = np.ones_like(y)
    for _ in range(4):
        fit = WLS(y, design, weights=weights).fit()
        expected = np.maximum(fit.fittedvalues, 0.05 * np.median(y))
        weights = 1 / expected**2
    return WLS(y, design, weights=weights).fit()


def slope(y: Matrix, groups: ArrayLike, x: Matrix, node: tuple[float, int]) -> Slope | None:
    """Return the seconds that one unit of x adds within groups; a row is the median of one trial.

    Args:
        y: seconds.
        groups: of each row; rows of one group differ in x alone.
        x: the feature.
        node: standard error of the logarithm that all rows share by their nodes, and its degrees of
            freedom (node_error).

    Returns:
        None if x does not vary within groups or there are too few trials for an interval.
    """
    levels = np.equal.outer(np.asarray(groups), np.unique(groups)).astype(float)
    design = np.column_stack([x, levels])
    freedom = len(y) - design.shape[1]
    if freedom < 1 or np.linalg.matrix_rank(design) < design.shape[1]:
        return None
    fit = relative_fit(np.asarray(y, float), design)
    value, trial = float(fit.params[0]), float(fit.bse[0]) ** 2
    shared = (value * node[0]) ** 2
    reach = float(stats.t.ppf((1 + LEVEL) / 2, _freedom((trial, freedom), (shared, node[1]))))
    reach *= float(np.sqrt(trial + shared))
    return Slope(value, value - reach, value + reach, freedom)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence numpy's warning of an empty slice, whose nan is meant."""
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        yield
