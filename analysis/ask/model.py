"""A model of pull time, and its predictions for other images. Pure, on statsmodels.

pull_s = a + b · unpacked GB + c · layers + d · compressed GB + e · log2(nodes), fitted to the
medians of trials by least squares of the relative error; the weights come from the fitted values.
Intervals of predictions come from errors on images that were left out of the fit, one at a time. A
feature that does not vary, or varies only together with another one, is left out, and the model
lists it. Outside the convex hull of the data nothing is predicted.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import optimize

from analysis.ask.effects import relative_fit
from analysis.ask.samples import EMPTY_FROM, no_samples, samples_of, trials_of
from analysis.frames import Frames
from schema.errors import UserError
from schema.output import OutputRow

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
class Image:
    """An image that somebody asks about; None where something is unknown."""

    name: str
    layers: float | None = None
    unpacked_bytes: float | None = None
    wire_bytes: float | None = None


@dataclass(frozen=True, slots=True)
class Term:
    """One coefficient, in seconds per unit of its feature, with its 95 % interval."""

    name: str
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Model:
    """A fitted model.

    Attributes:
        terms: the intercept first, then the features that stayed.
        left_out: features that were left out, and why.
        points: the trials' features (a column for each of FEATURES), whose hull is where it holds.
        pulls: number of pulls behind the trials' medians.
        nodes: number of nodes with these pulls.
        images: names of the images.
        unseen: ratios true / expected of pulls of images left out of the fit.
        unseen_images: the same for each image's median.
        spread: each pull over the median of its trial.
        overhead: seconds of a trial beyond its slowest pull: intercept, per unpacked GB, and the
            2.5 % and 97.5 % quantiles of the residuals.
        emptiness: unpacked bytes per compressed byte of the emptiest image; nan if unknown.
        provenance: of the data.
    """

    terms: tuple[Term, ...]
    left_out: Mapping[str, str]
    points: pd.DataFrame
    pulls: int
    nodes: int
    images: tuple[str, ...]
    unseen: tuple[float, ...]
    unseen_images: tuple[float, ...]
    spread: tuple[float, ...]
    overhead: tuple[float, float, float, float]
    emptiness: float
    provenance: str

    @property
    def unseen_error(self) -> float:
        """Median relative error (0.1: 10 %) on images left out of the fit."""
        return float(np.median(np.abs(np.asarray(self.unseen) - 1)))

    @property
    def caution(self) -> str:
        """Return a sentence if the images of the data were almost empty; else ''."""
        if not self.emptiness >= EMPTY_FROM:
            return ""
        return (
            f"The data are zero-filled images (up to {self.emptiness:.0f} times smaller "
            "compressed): a real image moves more bytes and takes longer."
        )

    def expected(self, features: Mapping[str, float]) -> float:
        """Return the expected pull time in seconds."""
        level, *terms = self.terms
        return level.value + sum(term.value * features[term.name] for term in terms)

    def outside(self, features: Mapping[str, float]) -> list[str]:
        """Say why an image is outside the data: a feature out of range, or their combination.

        Features that were left out count too: one that did not vary predicts nothing elsewhere.
        """
        known = self.points.dropna(axis=1)
        far = [
            f"{name} {features[name]:.4g} (the data range from {x.min():.4g} to {x.max():.4g})"
            for name, x in known.items()
            if not (x.min() * (1 - _SLACK) <= features[name] <= x.max() * (1 + _SLACK))
        ]
        used = [term.name for term in self.terms[1:]]
        if far or not used or _in_hull(known[used], np.array([features[name] for name in used])):
            return far
        both = " with ".join(f"{name} {features[name]:.4g}" for name in used)
        return [f"{both} (no images of the data surround this combination)"]


def _in_hull(points: pd.DataFrame, point: Vector) -> bool:
    """Return whether a point is a weighted mean of the data's points, up to _SLACK."""
    unique = points.drop_duplicates().to_numpy(float)
    scale = np.ptp(unique, axis=0)
    unique, point = unique / scale, point / scale
    near = np.vstack([unique.T, -unique.T])
    bound = np.concatenate([point + _SLACK * 10, -point + _SLACK * 10])
    found = optimize.linprog(
        np.zeros(len(unique)), A_ub=near, b_ub=bound, A_eq=np.ones((1, len(unique))), b_eq=[1.0]
    )
    return bool(found.status == 0)


@dataclass(frozen=True, slots=True)
class Prediction:
    """Predicted times as (expected, low, high) in seconds, with a 95 % interval."""

    pull_s: tuple[float, float, float]
    job_s: tuple[float, float, float]


def prediction_row(model: Model, image: Image, nodes: int, prediction: Prediction) -> OutputRow:
    """Return a prediction with what it rests on, as a row of `predict --output`."""
    pull, job = prediction.pull_s, prediction.job_s
    return {
        "image": image.name,
        "nodes": nodes,
        **dict(zip(("pull_s", "pull_low_s", "pull_high_s"), pull, strict=True)),
        **dict(zip(("job_s", "job_low_s", "job_high_s"), job, strict=True)),
        "fitted_cells": model.pulls,
        "fitted_images": len(model.images),
        "fitted_nodes": model.nodes,
        "provenance": model.provenance,
        "unseen_error": model.unseen_error,
        "caution": model.caution,
    }


def features_of(image: Image, nodes: int) -> dict[str, float]:
    """Return an image's features by name; nan where one is unknown."""
    return {
        "unpacked GB": (image.unpacked_bytes or np.nan) / 1e9,
        "layers": float(image.layers or np.nan),
        "compressed GB": (image.wire_bytes or np.nan) / 1e9,
        "log2(nodes)": float(np.log2(nodes)),
    }


def fit(frames: Frames) -> Model:
    """Fit the valid cells of recordings of one kind.

    Raises:
        ModelError: recordings of several kinds, or too few pulls or images of known size.
    """
    kinds = sorted(set(frames.clusters["kind"]))
    if len(kinds) != 1:
        raise ModelError(
            f"A model of {' and '.join(kinds) or 'no data'} is meaningless: measured and rehearsed "
            "pulls cannot be mixed.",
            "name inputs of one kind",
        )
    return fit_samples(samples_of(frames), _overhead(frames), no_samples(frames))


def fit_samples(
    samples: pd.DataFrame,
    overhead: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0),
    why: str = "",
) -> Model:
    """Fit samples (samples.samples_of) of one kind; `why` says why there are none.

    Raises:
        ModelError: too few pulls or images of known size for the features that vary.
    """
    known = samples[~samples["warm"] & samples["gb"].notna() & samples["layers"].notna()]
    images = known["image"].nunique()
    if images < LEAST_IMAGES or len(known) < LEAST_PULLS:
        raise ModelError(
            f"A model needs {LEAST_PULLS} valid cells of {LEAST_IMAGES} images of known size; "
            f"there are {len(known)} of {images}{f' ({why})' if why else ''}.",
            "name more runs, or runs of images whose tags state layers and size",
        )
    trials = trials_of(known)
    points = pd.DataFrame(
        {
            "unpacked GB": trials["gb"],
            "layers": trials["layers"],
            "compressed GB": trials["wire_gb"],
            "log2(nodes)": np.log2(trials["nodes"].astype(float)),
        }
    )
    used, left_out = _choose(points, images)
    design = np.column_stack([np.ones(len(points)), points[used]])
    y = trials["seconds"].to_numpy(float)
    done = relative_fit(y, design)
    intervals = done.conf_int()
    terms = [
        Term(name, float(value), float(low), float(high))
        for name, value, (low, high) in zip(
            ["intercept", *used], done.params, intervals, strict=True
        )
    ]
    unseen = [ratios for ratios in _unseen(design, trials, known) if len(ratios)]
    medians = known.groupby(["cluster", "image", "repetition"])["seconds"].transform("median")
    empty = (known["gb"] / known["wire_gb"]).max()
    return Model(
        tuple(terms),
        left_out,
        points,
        len(known),
        len(known[["cluster", "node"]].drop_duplicates()),
        tuple(sorted(set(known["image"]))),
        tuple(float(ratio) for ratios in unseen for ratio in ratios),
        tuple(float(np.median(ratios)) for ratios in unseen),
        tuple((known["seconds"] / medians).tolist()),
        overhead,
        float(empty),
        str(known["kind"].iloc[0]),
    )


def _choose(points: pd.DataFrame, images: int) -> tuple[list[str], dict[str, str]]:
    used: list[str] = []
    left_out: dict[str, str] = {}
    for name in FEATURES:
        x = points[name]
        if x.isna().any():
            left_out[name] = "unknown for some images"
        elif np.ptp(x) <= 1e-9 * max(1.0, float(x.abs().max())):
            left_out[name] = "does not vary"
        elif used and _explained(points[used], x) > _COLLINEAR:
            left_out[name] = f"varies only together with {' and '.join(used)}"
        elif name != "log2(nodes)" and len(used) + 2 >= images:
            left_out[name] = f"too few images ({images}) to tell it apart"
        else:
            used.append(name)
    return used, left_out


def _explained(others: pd.DataFrame, x: pd.Series) -> float:
    design = np.column_stack([np.ones(len(x)), others])
    rest = x - design @ np.linalg.lstsq(design, x, rcond=None)[0]
    return float(1 - (rest**2).sum() / ((x - x.mean()) ** 2).sum())


def _unseen(design: Vector, trials: pd.DataFrame, pulls: pd.DataFrame) -> list[Vector]:
    """Return for each image true / expected of its pulls, by a fit without it."""
    found: list[Vector] = []
    keys = ["cluster", "image", "repetition"]
    y = trials["seconds"].to_numpy(float)
    for image in sorted(set(trials["image"])):
        away = (trials["image"] != image).to_numpy()
        if np.linalg.matrix_rank(design[away]) < design.shape[1]:
            continue
        params = relative_fit(y[away], design[away]).params
        expected = trials[keys][~away].assign(expected=design[~away] @ params)
        both = pulls[pulls["image"] == image].merge(expected, on=keys)
        both = both[both["expected"] > 0]
        found.append((both["seconds"] / both["expected"]).to_numpy(float))
    return found


def _overhead(frames: Frames) -> tuple[float, float, float, float]:
    trials = frames.trials[frames.trials["pull"] > 0].merge(
        frames.images[["cluster", "image", "unpacked_bytes"]], on=["cluster", "image"]
    )
    if trials.empty:
        return 0.0, 0.0, 0.0, 0.0
    x = trials["unpacked_bytes"].fillna(0).to_numpy(float) / 1e9
    y = (trials["total_s"] - trials["runner"] - trials["pull"]).to_numpy(float)
    slope, level = np.polyfit(x, y, 1) if np.ptp(x) else (0.0, np.median(y))
    less, more = np.quantile(y - level - slope * x, [0.025, 0.975])
    return float(level), float(slope), float(less), float(more)


def predict(model: Model, image: Image, nodes: int, *, extrapolate: bool = False) -> Prediction:
    """Predict the pull time on one node and the time of the whole Job, with intervals.

    Raises:
        ModelError: a feature of the image is unknown, or is outside the data's range and
            `extrapolate` is not set.
    """
    features = features_of(image, nodes)
    known = model.points.dropna(axis=1).columns
    unknown = [name for name in known if not np.isfinite(features[name])]
    if unknown:
        raise ModelError(
            f"The model needs {', '.join(unknown)} of {image.name}, which is unknown.",
            "give --layers, --compressed-bytes or --unpacked-bytes",
        )
    outside = model.outside(features)
    if outside and not extrapolate:
        raise ModelError(
            f"{image.name} is outside the data: {'; '.join(outside)}. The model is "
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
