"""Effect sizes with confidence intervals. Pure, on numpy.

The unit of a pull study is the node: pulls of one node share its disk, its network card and its
place. So intervals come from the cluster bootstrap, which draws whole nodes with replacement
(Davison and Hinkley, Bootstrap Methods and their Application, 1997, section 3.8), percentile
intervals at 95 %. An image is represented by its median over nodes; images have equal weight.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DRAWS = 1000
"""Bootstrap replicates."""

LEAST_NODES = 3
"""With fewer nodes than this on a side, nothing is concluded."""

_SEED = 20241110

Matrix = NDArray[np.float64]
"""Nodes by images; nan where there is no pull."""


@dataclass(frozen=True, slots=True)
class Effect:
    """An estimate and its 95 % interval; `n` nodes on the smaller side."""

    value: float
    low: float
    high: float
    n: int

    def percent(self) -> str:
        """A ratio as a change: '+3.1 % (+0.2 … +6.0 %)'."""
        value, low, high = ((v - 1) * 100 for v in (self.value, self.low, self.high))
        return f"{signed(value)} % ({signed(low)} … {signed(high)} %)"

    def share(self) -> str:
        """A share: '31 % (29 … 33 %)'."""
        digits = 0 if abs(self.value) >= 0.01 else 2  # noqa: PLR2004 (a per cent)
        value, low, high = (f"{v * 100:.{digits}f}" for v in (self.value, self.low, self.high))
        return f"{value} % ({low} … {high} %)".replace("-", "\u2212")

    def times(self) -> str:
        """A ratio as a factor: '1.03 times (1.00 … 1.06)'."""
        return f"{self.value:.3g} times ({self.low:.3g} … {self.high:.3g})"


def signed(value: float) -> str:
    """Return one decimal with a sign; a minus sign, not a hyphen."""
    return f"{value:+.1f}".replace("-", "\u2212")


@dataclass(frozen=True, slots=True)
class Pulls:
    """Durations of one cluster.

    Attributes:
        nodes: the cluster's size.
        names: names of the nodes that pulled (rows of `seconds`).
        images: names of the images (columns of `seconds`).
        seconds: pull times, nodes by images; nan where there is no pull.
    """

    nodes: int
    names: tuple[str, ...]
    images: tuple[str, ...]
    seconds: Matrix

    def of(self, images: Sequence[str]) -> Matrix:
        """Return the columns of these images, in this order: nodes by `images`, seconds."""
        place = {image: column for column, image in enumerate(self.images)}
        return self.seconds[:, [place[image] for image in images]]


def to_pulls(nodes: int, rows: Sequence[tuple[str, str, float]]) -> Pulls:
    """Arrange (node, image, seconds) as Pulls; several pulls of a cell become their mean."""
    names = sorted({node for node, _, _ in rows})
    images = sorted({image for _, image, _ in rows})
    row_of = {name: number for number, name in enumerate(names)}
    column_of = {name: number for number, name in enumerate(images)}
    total = np.zeros((len(names), len(images)))
    count = np.zeros_like(total)
    for node, image, seconds in rows:
        total[row_of[node], column_of[image]] += seconds
        count[row_of[node], column_of[image]] += 1
    mean = np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)
    return Pulls(nodes, tuple(names), tuple(images), mean)


def ratio(over: Pulls, under: Pulls, key: Callable[[str], str] = str) -> Effect | None:
    """Return the geometric mean over images of the ratio of medians `over` / `under`.

    Args:
        over: numerator.
        under: denominator.
        key: images of equal key are compared; by default images of one name.

    Returns:
        A ratio (1: no difference); None if the sides have no image in common or too few nodes.
    """
    left, right = ({key(image): image for image in side.images} for side in (over, under))
    shared = sorted(left.keys() & right.keys())
    if not shared:
        return None
    a, b = over.of([left[k] for k in shared]), under.of([right[k] for k in shared])
    if min(len(a), len(b)) < LEAST_NODES:
        return None
    generator = np.random.default_rng(_SEED)
    value = _log_ratio(a[None], b[None])[0]
    drawn = _log_ratio(_draw(a, generator), _draw(b, generator))
    return _effect(value, drawn, min(len(a), len(b)))


def per_doubling(clusters: Sequence[Pulls]) -> Effect | None:
    """Return the factor by which pulls take longer when the cluster doubles, all images equal.

    Least squares of log median duration on log2 of the cluster's size, with an intercept for each
    image. None without two sizes of LEAST_NODES nodes.
    """
    usable = [pulls for pulls in clusters if len(pulls.seconds) >= LEAST_NODES]
    if len({pulls.nodes for pulls in usable}) < 2:  # noqa: PLR2004 (two points make a line)
        return None
    images = sorted({image for pulls in usable for image in pulls.images})
    generator = np.random.default_rng(_SEED)
    sizes = np.log2([pulls.nodes for pulls in usable])
    value = _slope(sizes, [_medians(pulls, images, None) for pulls in usable])[0]
    drawn = _slope(sizes, [_medians(pulls, images, generator) for pulls in usable])
    if not np.isfinite(value):
        return None
    return _effect(value, drawn, min(len(pulls.seconds) for pulls in usable))


def of_nodes(pulls: Pulls, statistic: Callable[[Matrix], Matrix]) -> Effect | None:
    """Return a statistic of one cluster's pulls, with its bootstrap interval over nodes.

    Args:
        pulls: of the cluster.
        statistic: takes seconds of shape (replicates, nodes, images), nan where there is no pull,
            and returns one number per replicate, shape (replicates,).

    Returns:
        None with too few nodes, or if the statistic is mostly undefined.
    """
    if len(pulls.seconds) < LEAST_NODES:
        return None
    value = float(statistic(pulls.seconds[None])[0])
    drawn = statistic(_draw(pulls.seconds, np.random.default_rng(_SEED)))
    drawn = drawn[np.isfinite(drawn)]
    if not np.isfinite(value) or len(drawn) < DRAWS // 2:
        return None
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Effect(value, float(low), float(high), len(pulls.seconds))


def spread(pulls: Pulls, images: Sequence[str]) -> float:
    """Return the variation between nodes: interquartile range over median, median of images.

    nan if no image has a pull on LEAST_NODES nodes.
    """
    seconds = pulls.of([image for image in images if image in pulls.images])
    known = seconds[:, np.isfinite(seconds).sum(0) >= LEAST_NODES]
    if not known.size:
        return float("nan")
    q1, q2, q3 = np.nanquantile(known, [0.25, 0.5, 0.75], axis=0)
    return float(np.median((q3 - q1) / q2))


def _effect(value: float, drawn: Matrix, n: int) -> Effect | None:
    drawn = drawn[np.isfinite(drawn)]
    if not np.isfinite(value) or len(drawn) < DRAWS // 2:
        return None
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Effect(float(np.exp(value)), float(np.exp(low)), float(np.exp(high)), n)


def _draw(matrix: Matrix, generator: np.random.Generator) -> Matrix:
    """Draw nodes with replacement: replicates by nodes by images."""
    chosen = generator.integers(0, len(matrix), (DRAWS, len(matrix)))
    return np.asarray(matrix[chosen])


def _log_ratio(a: Matrix, b: Matrix) -> Matrix:
    return nan_mean(np.log(nan_median(a, 1)) - np.log(nan_median(b, 1)), 1)


def _medians(pulls: Pulls, images: Sequence[str], generator: np.random.Generator | None) -> Matrix:
    """Return log medians, replicates by images; nan for an image that was not pulled."""
    source = pulls.seconds[None] if generator is None else _draw(pulls.seconds, generator)
    medians = np.log(nan_median(source, 1))
    out = np.full((len(medians), len(images)), np.nan)
    place = {image: column for column, image in enumerate(images)}
    out[:, [place[image] for image in pulls.images]] = medians
    return out


def _slope(sizes: Matrix, medians: Sequence[Matrix]) -> Matrix:
    """Return for each replicate the common slope of y on size within images."""
    y = np.stack(medians, axis=1)  # replicates, clusters, images
    x = np.where(np.isnan(y), np.nan, sizes[None, :, None])
    x = x - nan_mean(x, 1)[:, None, :]
    y = y - nan_mean(y, 1)[:, None, :]
    above, below = np.nansum(x * y, axis=(1, 2)), np.nansum(x * x, axis=(1, 2))
    return np.asarray(np.divide(above, below, out=np.full_like(above, np.nan), where=below > 0))


def nan_median(values: Matrix, axis: int) -> Matrix:
    """np.nanmedian that returns nan without a warning where there is no value."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return np.asarray(np.nanmedian(values, axis=axis))


def nan_mean(values: Matrix, axis: int) -> Matrix:
    """np.nanmean that returns nan without a warning where there is no value."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return np.asarray(np.nanmean(values, axis=axis))


@dataclass(frozen=True, slots=True)
class Line:
    """Coefficients of a linear model, each with its 95 % interval, and how much it explains."""

    names: tuple[str, ...]
    values: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    explained: float
    """R squared of the medians, beyond the clusters' intercepts."""

    def text(self, name: str, digits: int = 2) -> str:
        """Return one coefficient with its interval: '6.73 (6.51 … 6.97)'."""
        i = self.names.index(name)
        values = (self.values[i], self.low[i], self.high[i])
        value, low, high = (f"{v:.{digits}f}".replace("-", "\u2212") for v in values)
        return f"{value} ({low} … {high})"


def fit_line(
    clusters: Sequence[Pulls], features: Mapping[str, tuple[float, ...]], names: Sequence[str]
) -> Line | None:
    """Fit an image's median duration in seconds to its features, with an intercept per cluster.

    Args:
        clusters: pulls by cluster.
        features: by image, a number for each of `names`.
        names: of the features, in their order.

    Returns:
        Coefficients in seconds per unit of the feature; None if the data do not separate the
        features.
    """
    usable = [pulls for pulls in clusters if len(pulls.seconds) >= LEAST_NODES]
    rows = [
        (number, image)
        for number, pulls in enumerate(usable)
        for image in pulls.images
        if image in features
    ]
    if not rows:
        return None
    design = np.array(
        [
            [*features[image], *(float(number == k) for k in range(len(usable)))]
            for number, image in rows
        ]
    )
    if len(rows) <= design.shape[1] or np.linalg.matrix_rank(design) < design.shape[1]:
        return None
    generator = np.random.default_rng(_SEED)
    y = _outcomes(usable, rows, None)[0]
    beta = _solve(design, y)
    drawn = np.array([_solve(design, one) for one in _outcomes(usable, rows, generator)])
    drawn = drawn[np.isfinite(drawn).all(axis=1)]
    if not np.isfinite(beta).all() or len(drawn) < DRAWS // 2:
        return None
    k = len(names)
    levels = np.array([[float(number == c) for c in range(len(usable))] for number, _ in rows])
    centred = y - levels @ (np.linalg.pinv(levels) @ y)
    explained = 1 - float(np.sum((y - design @ beta) ** 2) / np.sum(centred**2))
    low, high = np.quantile(drawn[:, :k], [0.025, 0.975], axis=0)
    return Line(tuple(names), _floats(beta[:k]), _floats(low), _floats(high), explained)


def _solve(design: Matrix, y: Matrix) -> Matrix:
    """Solve least squares over the known rows; nan if there are too few."""
    known = np.isfinite(y)
    beta, _, rank, _ = np.linalg.lstsq(design[known], y[known], rcond=None)
    return np.asarray(beta) if rank == design.shape[1] else np.full(design.shape[1], np.nan)


def _outcomes(
    clusters: Sequence[Pulls],
    rows: Sequence[tuple[int, str]],
    generator: np.random.Generator | None,
) -> Matrix:
    """Return median durations, replicates by rows."""
    medians = []
    for pulls in clusters:
        source = pulls.seconds[None] if generator is None else _draw(pulls.seconds, generator)
        medians.append(nan_median(source, 1))
    columns = [{image: i for i, image in enumerate(pulls.images)} for pulls in clusters]
    return np.stack([medians[n][:, columns[n][image]] for n, image in rows], axis=1)


def _floats(values: Matrix) -> tuple[float, ...]:
    return tuple(float(value) for value in values)
