"""What the sections of a report share: the data, captions, and tables."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import pandas as pd

from analysis.ask.samples import samples_of
from analysis.frames import Frames
from analysis.show.labels import short_names
from analysis.show.page import Columns, Header, PageTable
from analysis.tables import Tables

MOST_ROWS = 20_000
"""Pulls or cells that a page draws; of more, an even sample is drawn, and the caption says so."""


@dataclass
class Draft:
    """A report in progress.

    Attributes:
        tables: all tables, for what only the recordings' own records have.
        frames: what was recorded.
        data: data sets by name; sections add what their figures draw.
    """

    tables: Tables
    frames: Frames
    data: dict[str, Columns] = field(default_factory=dict)

    @property
    def labels(self) -> list[str]:
        """Labels of the clusters, by their nodes."""
        return [row["cluster"] for row in self.clusters]

    @property
    def clusters(self) -> list[pd.Series]:
        """The rows of Frames.clusters, by their nodes."""
        ordered = self.frames.clusters.sort_values("nodes", kind="stable")
        return [row for _, row in ordered.iterrows()]

    def images(self, images: pd.Series) -> pd.Series:
        """Return the labels of images that are named as in the events, or as in Frames.images."""
        every = self.frames.images
        known = {**dict(zip(every["name"], every["label"], strict=True)),
                 **dict(zip(every["image"], every["label"], strict=True))}  # fmt: skip
        names = images.astype("str")
        return names.map(known).fillna(names)

    def short_images(self, images: pd.Series) -> pd.Series:
        """Return short labels of images (see `images`), the same in all plots."""
        labels = self.images(images)
        return labels.map(self._short).fillna(labels)

    @cached_property
    def samples(self) -> pd.DataFrame:
        """What the questions are asked of (samples.samples_of)."""
        return samples_of(self.frames)

    @cached_property
    def _short(self) -> dict[str, str]:
        return short_names(self.frames.images["label"])

    @property
    def mark(self) -> str:
        """What was not measured, over all clusters; empty if everything was measured."""
        kinds = sorted(set(self.frames.clusters["provenance"]))
        if kinds in ([], ["measured"]):
            return ""
        if "measured" in kinds:
            rest = "; ".join(kind for kind in kinds if kind != "measured")
            return f"mixed: measured, and {rest}"
        return "; ".join(kinds)

    @property
    def size_title(self) -> str:
        """Title of an axis of image sizes by tag; rehearsed images hold a fraction of that."""
        scales = sorted(set(self.frames.clusters["scale"]))
        if scales in ([], [1.0]):
            return "image size (GB, unpacked)"
        held = " or ".join(f"{scale:g}" for scale in scales if scale != 1)
        return f"image size by its tag (GB; rehearsed images held {held} of it)"

    def of(self, frame: pd.DataFrame, cluster: str) -> pd.DataFrame:
        """Return the rows of one cluster."""
        return frame[frame["cluster"] == cluster]

    def counted(self, cluster: str | None = None) -> str:
        """Return n and exclusions for a caption, of one cluster or of all."""
        cells = self.frames.cells if cluster is None else self.of(self.frames.cells, cluster)
        counts = cells["status"].astype("str").value_counts()
        valid = int(counts.get("valid", 0))
        reasons = ", ".join(f"{n} {status}" for status, n in counts.items() if status != "valid")
        text = f"n = {valid:,} valid cells of {len(cells):,}"
        return f"{text}; excluded: {reasons}." if reasons else f"{text}; none excluded."


def columns_of(frame: pd.DataFrame) -> Columns:
    """Return a frame as columns of plain Python values; None for a missing one."""
    return {
        str(name): [None if pd.isna(value) else value for value in values.tolist()]
        for name, values in frame.items()
    }


def mark_of(cluster: pd.Series) -> str:
    """Return what was not measured in a cluster; empty if it was measured."""
    return "" if cluster["provenance"] == "measured" else str(cluster["provenance"])


def make_table(
    caption: str, names: Sequence[str], rows: Sequence[Sequence[str]], mark: str = ""
) -> PageTable:
    """Return a table of the page; a header that ends in '#' is that of a column of numbers."""
    header = [Header(name.rstrip("#"), number=name.endswith("#")) for name in names]
    return PageTable(caption, header, rows, mark)
