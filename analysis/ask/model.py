"""A model of pull time, and its predictions for other images. Pure, on numpy.

pull_s = a + b · unpacked GB + c · layers + d · compressed GB + e · log2(nodes), by least squares of
the relative error (weights 1/pull_s²), since a long pull varies more than a short one. Standard
errors are cluster-robust over nodes (Cameron and Miller, A Practitioner's Guide to Cluster-Robust
Inference, 2015, equation 9 with the CR1 factor). Intervals of predictions come from errors on
images that were left out of the fit, one at a time. A feature that does not vary, or varies only
together with another one, is left out, and the model lists it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.ask.study_data import Cluster, Image
from schema.errors import UserError

FEATURES = ("unpacked GB", "layers", "compressed GB", "log2(nodes)")
"""What a pull may depend on; of features that vary together, the first one stays."""

LEAST_IMAGES = 3
LEAST_PULLS = 12
_COLLINEAR = 0.98
"""A feature is left out if the earlier ones explain more than this share of it."""

_SLACK = 1e-3

Vector = NDArray[np.float64]


class ModelError(UserError):
    """No model can be fitted, or it cannot make this prediction."""


@dataclass(frozen=True, slots=True)
class Term:
    """One coefficient, in seconds per unit of its feature."""

    name: str
    value: float
    error: float
    """Cluster-robust standard error."""


@dataclass(frozen=True)
class Model:
    """A fitted model.

    Attributes:
        terms: the intercept first, then the features that stayed.
        left_out: features that were left out, and why.
        ranges: least and most of every feature in the data, including those left out.
        pulls: number of pulls fitted.
        nodes: number of nodes with these pulls.
        images: names of the images.
        unseen: ratios true / expected of pulls of images left out of the fit.
        unseen_images: the same for each image's median.
        spread: each pull over the median of its image on its cluster.
        overhead: seconds of a trial beyond its slowest pull: intercept, per unpacked GB, and the
            2.5 % and 97.5 % quantiles of the residuals.
        provenance: of the data.
        selection: which pulls were fitted.
    """

    terms: tuple[Term, ...]
    left_out: Mapping[str, str]
    ranges: Mapping[str, tuple[float, float]]
    pulls: int
    nodes: int
    images: tuple[str, ...]
    unseen: tuple[float, ...]
    unseen_images: tuple[float, ...]
    spread: tuple[float, ...]
    overhead: tuple[float, float, float, float]
    provenance: str
    selection: str

    @property
    def unseen_error(self) -> float:
        """Median relative error (0.1: 10 %) on images left out of the fit."""
        return float(np.median(np.abs(np.asarray(self.unseen) - 1)))

    def expected(self, features: Mapping[str, float]) -> float:
        """Return the expected pull time in seconds."""
        level, *terms = self.terms
        return level.value + sum(term.value * features[term.name] for term in terms)

    def outside(self, features: Mapping[str, float]) -> list[str]:
        """List the features outside the range of the data, each as part of a sentence.

        Features that were left out count too: one that did not vary predicts nothing elsewhere.
        """
        return [
            f"{name} {features[name]:.4g} (the data range from {least:.4g} to {most:.4g})"
            for name, (least, most) in self.ranges.items()
            if not (least * (1 - _SLACK) <= features[name] <= most * (1 + _SLACK))
            and np.isfinite(features[name])
        ]


@dataclass(frozen=True, slots=True)
class Prediction:
    """Predicted times as (expected, low, high) in seconds, with a 95 % interval."""

    pull_s: tuple[float, float, float]
    job_s: tuple[float, float, float]


@dataclass(frozen=True)
class _Data:
    y: Vector
    x: Vector
    image: NDArray[np.int64]
    node: NDArray[np.int64]
    images: tuple[str, ...]


def fit(clusters: Sequence[Cluster]) -> Model:
    """Fit clusters of one provenance: their valid cells, or all pulls if these are too few.

    Raises:
        ModelError: clusters of several provenances, or too few pulls or images of known size.
    """
    kinds = sorted({cluster.kind for cluster in clusters})
    if len(kinds) != 1:
        raise ModelError(
            f"A model of {' and '.join(kinds) or 'no data'} is meaningless: measured and rehearsed "
            "pulls cannot be mixed.",
            "name inputs of one kind",
        )
    for selection in ("valid cells", "all successful pulls"):
        data = _gather(clusters, valid=selection == "valid cells")
        if len(data.images) >= LEAST_IMAGES and len(data.y) >= LEAST_PULLS:
            return _fit(data, clusters, kinds[0], selection)
    raise ModelError(
        f"A model needs {LEAST_PULLS} pulls of {LEAST_IMAGES} images of known size; there are "
        f"{len(data.y)} pulls of {len(data.images)}.",
        "name more runs, or runs of images whose tags state layers and size",
    )


def features_of(image: Image, nodes: int) -> dict[str, float]:
    """Return an image's features by name; nan where one is unknown."""
    return {
        "unpacked GB": (image.unpacked_bytes or np.nan) / 1e9,
        "layers": float(image.layers or np.nan),
        "compressed GB": (image.wire_bytes or np.nan) / 1e9,
        "log2(nodes)": float(np.log2(nodes)),
    }


def predict(model: Model, image: Image, nodes: int, *, extrapolate: bool = False) -> Prediction:
    """Predict the pull time on one node and the time of the whole Job, with intervals.

    Raises:
        ModelError: a feature of the image is unknown, or is outside the data's range and
            `extrapolate` is not set.
    """
    features = features_of(image, nodes)
    unknown = [t.name for t in model.terms[1:] if not np.isfinite(features[t.name])]
    if unknown:
        raise ModelError(
            f"The model needs {', '.join(unknown)} of {image.name}, which is unknown.",
            "give --layers, --compressed-bytes or --unpacked-bytes",
        )
    outside = model.outside(features)
    if outside and not extrapolate:
        raise ModelError(
            f"{image.name} is outside the range of the data: {'; '.join(outside)}. The model is "
            "not valid there.",
            "predict it nevertheless with --extrapolate",
        )
    pull = model.expected(features)
    if pull <= 0:
        raise ModelError(
            f"The model predicts {pull:.3g} s for {image.name}, which is impossible: the image is "
            "too far from the data.",
            "name runs with images of about its size",
        )
    low, high = np.quantile(np.asarray(model.unseen), [0.025, 0.975])
    few, many = np.quantile(np.asarray(model.unseen_images), [0.025, 0.975])
    # The expected slowest of n nodes, by how nodes differ in pulling one image.
    slowest = float(np.quantile(np.asarray(model.spread), (nodes - 0.5) / nodes))
    level, slope, less, more = model.overhead
    overhead = level + slope * features["unpacked GB"]
    return Prediction(
        (pull, float(pull * low), float(pull * high)),
        (
            pull * slowest + max(0.0, overhead),
            float(pull * min(few, 1.0)) * slowest + max(0.0, overhead + less),
            float(pull * max(many, 1.0)) * slowest + max(0.0, overhead + more),
        ),
    )


def _gather(clusters: Sequence[Cluster], *, valid: bool) -> _Data:
    rows = []
    nodes = 0
    names: dict[str, int] = {}
    for cluster in clusters:
        pulls = cluster.valid if valid else cluster.every
        for column, name in enumerate(pulls.images):
            image = cluster.images.get(name)
            if image is None or not image.unpacked_bytes or not image.layers:
                continue
            features = features_of(image, cluster.nodes)
            number = names.setdefault(image.tag or name, len(names))
            rows += [
                (seconds, *features.values(), number, nodes + row)
                for row, seconds in enumerate(pulls.seconds[:, column])
                if np.isfinite(seconds) and seconds > 0
            ]
        nodes += len(pulls.seconds)
    table = np.array(rows, dtype=float).reshape(-1, len(FEATURES) + 3)
    seen = np.unique(table[:, -2]).astype(int)
    return _Data(
        table[:, 0],
        table[:, 1:-2],
        table[:, -2].astype(np.int64),
        table[:, -1].astype(np.int64),
        tuple(name for name, number in names.items() if number in seen),
    )


def _fit(data: _Data, clusters: Sequence[Cluster], provenance: str, selection: str) -> Model:
    used, left_out = _choose(data)
    design = np.column_stack([np.ones(len(data.y)), data.x[:, used]])
    beta, covariance = _solve(design, data.y, data.node)
    errors = np.sqrt(np.diag(covariance))
    columns = [FEATURES[i] for i in used]
    terms = [
        Term(name, float(value), float(error))
        for name, value, error in zip(["intercept", *columns], beta, errors, strict=True)
    ]
    unseen = [ratios for ratios in _unseen(design, data) if ratios]
    known = [bool(np.isfinite(column).all()) for column in data.x.T]
    ranges = {
        name: (float(x.min()), float(x.max()))
        for name, x, ok in zip(FEATURES, data.x.T, known, strict=True)
        if ok
    }
    return Model(
        tuple(terms),
        left_out,
        ranges,
        len(data.y),
        len(np.unique(data.node)),
        data.images,
        tuple(ratio for ratios in unseen for ratio in ratios),
        tuple(float(np.median(ratios)) for ratios in unseen),
        tuple(_spread(data)),
        _overhead(clusters),
        provenance,
        selection,
    )


def _choose(data: _Data) -> tuple[list[int], dict[str, str]]:
    used: list[int] = []
    left_out: dict[str, str] = {}
    for i, name in enumerate(FEATURES):
        x = data.x[:, i]
        if not np.isfinite(x).all():
            left_out[name] = "unknown for some images"
        elif np.ptp(x) <= 1e-9 * max(1.0, float(np.abs(x).max())):
            left_out[name] = "does not vary"
        elif _explained(data.x[:, used], x) > _COLLINEAR:
            left_out[name] = f"varies only together with {' and '.join(FEATURES[u] for u in used)}"
        else:
            used.append(i)
    return used, left_out


def _explained(others: Vector, x: Vector) -> float:
    design = np.column_stack([np.ones(len(x)), others])
    fitted = design @ np.linalg.lstsq(design, x, rcond=None)[0]
    return float(1 - np.sum((x - fitted) ** 2) / np.sum((x - x.mean()) ** 2))


def _solve(design: Vector, y: Vector, node: NDArray[np.int64]) -> tuple[Vector, Vector]:
    weights = 1 / y
    a, b = design * weights[:, None], y * weights
    inverse = np.linalg.pinv(a.T @ a)
    beta = inverse @ a.T @ b
    scores = a * (b - a @ beta)[:, None]
    groups = np.unique(node, return_inverse=True)[1]
    count = int(groups.max()) + 1
    sums = np.zeros((count, design.shape[1]))
    np.add.at(sums, groups, scores)
    n, k = design.shape
    factor = count / max(1, count - 1) * (n - 1) / max(1, n - k)
    return beta, factor * inverse @ (sums.T @ sums) @ inverse


def _unseen(design: Vector, data: _Data) -> list[list[float]]:
    """Return for each image true / expected of its pulls, by a fit without it."""
    found: list[list[float]] = []
    for image in np.unique(data.image):
        away = data.image != image
        beta = np.linalg.lstsq(
            design[away] / data.y[away, None], np.ones(int(away.sum())), rcond=None
        )[0]
        expected = design[~away] @ beta
        good = expected > 0
        found.append((data.y[~away][good] / expected[good]).tolist())
    return found


def _spread(data: _Data) -> list[float]:
    """Return each pull over the median of its image at its cluster size."""
    groups = np.unique(np.column_stack([data.image, data.x[:, -1]]), axis=0, return_inverse=True)[1]
    ratios: list[float] = []
    for group in range(int(groups.max()) + 1):
        mine = data.y[groups.ravel() == group]
        ratios += (mine / np.median(mine)).tolist()
    return ratios


def _overhead(clusters: Sequence[Cluster]) -> tuple[float, float, float, float]:
    rows = [
        (
            (cluster.images[trial.image].unpacked_bytes or 0) / 1e9,
            trial.total_s - trial.parts["runner"] - trial.parts["pull"],
        )
        for cluster in clusters
        for trial in cluster.trials
        if trial.parts["pull"] > 0 and trial.image in cluster.images
    ]
    if not rows:
        return 0.0, 0.0, 0.0, 0.0
    x, y = np.array(rows).T
    slope, level = np.polyfit(x, y, 1) if np.ptp(x) else (0.0, np.median(y))
    less, more = np.quantile(y - level - slope * x, [0.025, 0.975])
    return float(level), float(slope), float(less), float(more)
