"""What the questions are asked of: valid pulls with what distinguishes their images and clusters.

An image is its repository and tag, or its digest. What its tag states (schema.image_tag,
schema.image_variant) are attributes; two images whose attributes are equal are copies of each
other, whatever their salt.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats

from analysis.ask.effects import Matrix
from analysis.frames import Frames
from schema.image_tag import find_tag
from schema.image_variant import read_variant
from schema.run_records import Status

EMPTY_FROM = 20
"""Unpacked bytes per compressed byte from which an image counts as almost empty."""

IMAGE_ATTRIBUTES = (
    "repository", "what", "size", "layers", "compression", "files", "version", "cache"
)  # fmt: skip
"""What distinguishes pulls of images; `what` is the tag of an image whose tag states nothing, and
`cache` whether a remote repository had the image (schema.run_records.Cache)."""

CLUSTER_ATTRIBUTES = (
    "study", "nodes", "machine_type", "disk", "zone", "workload", "streaming", "preloaded",
    "unpacks",
)  # fmt: skip


def samples_of(frames: Frames) -> pd.DataFrame:
    """Return a row per pull of a valid cell, or of a cell that is warm by intent.

    Columns: cluster, kind, image (its name), digest (or ''), repetition, node, seconds, warm;
    CLUSTER_ATTRIBUTES; IMAGE_ATTRIBUTES; gb and wire_gb (unpacked and compressed, NaN if unknown).
    """
    return samples_with(frames, (Status.VALID, Status.WARM_LAYERS), frames.cells["pull_s"])


def no_samples(frames: Frames) -> str:
    """Return why no question can be asked of any cell, in a few words; empty if one can."""
    status = frames.cells["status"].astype("str")
    if (status == Status.PRELOADED.value).any():
        return ""
    cells = frames.cells[status.isin([Status.VALID.value, Status.WARM_LAYERS.value])]
    if cells["pull_s"].notna().any():
        return ""
    if cells.empty:
        return "no valid cell"
    return f"none of {len(cells)} valid cells has the kubelet's own duration of its pull"


def starts_of(frames: Frames) -> pd.DataFrame:
    """Return the same of the seconds from release to start, with the cells that are preloaded."""
    begin = frames.cells["released_at"].fillna(frames.cells["scheduled_at"])
    seconds = (frames.cells["started_at"] - begin).dt.total_seconds()
    return samples_with(frames, (Status.VALID, Status.PRELOADED), seconds)


def samples_with(frames: Frames, statuses: Sequence[Status], seconds: pd.Series) -> pd.DataFrame:
    """Return the same of any seconds of the cells with these statuses."""
    chosen = frames.cells["status"].isin([status.value for status in statuses]) & (seconds > 0)
    cells = frames.cells[chosen]
    rows = pd.DataFrame(
        {
            "cluster": cells["cluster"].astype("str"),
            "key": cells["image"].astype("str"),
            "digest": cells["image"].astype("str").str.replace(r"^[^@]*@?", "", regex=True),
            "repetition": cells["repetition"].fillna(1).astype("int64"),
            "node": cells["node"].astype("str"),
            "seconds": seconds[chosen],
            "cache": cells["cache"].astype("str"),
            "warm": cells["status"] == Status.WARM_LAYERS.value,
        }
    )
    images = frames.images.rename(columns={"image": "key", "name": "image"})
    facts = pd.concat(
        [images[["cluster", "key", "image", "repository"]], attributes(images)], axis=1
    )
    clusters = frames.clusters[["cluster", "kind", *CLUSTER_ATTRIBUTES]]
    samples = rows.merge(facts, on=["cluster", "key"]).merge(clusters, on="cluster")
    return with_turns(samples.drop(columns="key"))


def with_turns(samples: pd.DataFrame) -> pd.DataFrame:
    """Add the column `turn`: 1, 2 ... for the trials of images that are copies of each other."""
    trials = samples[["cluster", "image", "repetition", *IMAGE_ATTRIBUTES]].drop_duplicates()
    trials = trials.sort_values(["repetition", "image"])
    same = trials.groupby(["cluster", *IMAGE_ATTRIBUTES], dropna=False, sort=False)
    trials["turn"] = same.cumcount() + 1
    keys = ["cluster", "image", "repetition"]
    return samples.merge(trials[[*keys, "turn"]], on=keys)


def attributes(images: pd.DataFrame) -> pd.DataFrame:
    """Return what a frame of images says of each image: IMAGE_ATTRIBUTES but cache, gb, wire_gb."""
    rows = []
    for tag, name, layers, unpacked, wire in images[
        ["tag", "image", "layers", "unpacked_bytes", "wire_bytes"]
    ].itertuples(index=False):
        claim = find_tag(tag)
        variant = read_variant(claim) if claim else None
        gb, wire_gb = unpacked / 1e9, wire / 1e9
        version = ""
        if claim and variant and variant.content.salt != claim.salt:
            version = "v1" if claim.salt.startswith("v1") else ""
        if variant and variant.changed:
            version = f"v2, {variant.changed} layers new"
        rows.append(
            {
                "what": "" if claim else name.rpartition("/")[2],
                "size": float(claim.size_bytes) if claim else np.nan,
                "layers": layers,
                "compression": f"{variant.compression} {variant.level or ''}".strip()
                if variant
                else "",
                "files": variant.files if variant else 1,
                "version": version,
                "gb": gb,
                "wire_gb": wire_gb,
            }
        )
    columns = ["what", "size", "layers", "compression", "files", "version", "gb", "wire_gb"]
    return pd.DataFrame(rows, columns=columns, index=images.index)


def trials_of(samples: pd.DataFrame) -> pd.DataFrame:
    """Return a row per trial (cluster, image, repetition): median seconds, pulls, attributes."""
    keys = ["cluster", "image", "repetition", "turn"]
    rest = [c for c in samples.columns if c not in {*keys, "node", "seconds", "warm"}]
    trials = samples.groupby(keys, as_index=False, sort=True).agg(
        {"seconds": "median", "node": "nunique", **dict.fromkeys(rest, "first")}
    )
    return trials.rename(columns={"node": "pulls"})


def key_of(frame: pd.DataFrame, columns: Sequence[str]) -> pd.Series:
    """Return the values of several columns as one text per row."""
    rows = frame[list(columns)].itertuples(index=False)
    return pd.Series(["|".join(map(str, row)) for row in rows], index=frame.index, dtype="str")


def matrices(
    left: pd.DataFrame, right: pd.DataFrame, by: Sequence[str]
) -> tuple[Matrix, Matrix, bool]:
    """Return the pulls of two sides, trials by nodes, a row for each common value of `by`.

    Also whether both sides are of the same nodes; then their columns are the same nodes.
    """
    a, b = (
        side.assign(_key=key_of(side, by)).pivot_table(
            index="_key", columns=["cluster", "node"], values="seconds", aggfunc="mean"
        )
        for side in (left, right)
    )
    shared = a.index.intersection(b.index)
    common = a.columns.intersection(b.columns)
    paired = len(common) > 0
    if paired:
        a, b = a[common], b[common]
    return a.loc[shared].to_numpy(float), b.loc[shared].to_numpy(float), paired


def trial_order(frames: Frames, cluster: str, column: str) -> float:
    """Return Spearman's correlation of the order of trials and a column of Frames.images.

    0 if fewer than three images have a value, or it does not vary.
    """
    order = frames.trials[frames.trials["cluster"] == cluster].drop_duplicates("image")["image"]
    images = frames.images[frames.images["cluster"] == cluster].set_index("image")
    values = images[column].reindex(order).dropna()
    if len(values) < 3 or values.nunique() < 2:  # noqa: PLR2004 (a correlation)
        return 0.0
    return float(stats.spearmanr(np.arange(len(values)), values).statistic)


def emptiness(images: pd.DataFrame) -> pd.Series:
    """Return unpacked bytes per compressed byte of each row of Frames.images; NaN if unknown."""
    return images["unpacked_bytes"] / images["wire_bytes"].where(images["wire_bytes"] > 0)
