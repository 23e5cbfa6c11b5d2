"""What the sections of a report share: the data, captions, and tables."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from analysis.ask.study_data import Cluster
from analysis.show.page import Columns, Header, PageTable
from analysis.tables import Tables

MOST_ROWS = 20_000
"""Pulls or cells that a page draws; of more, an even sample is drawn, and the caption says so."""


@dataclass
class Draft:
    """A report in progress.

    Attributes:
        tables: all tables.
        clusters: recorded clusters, by run and size.
        data: data sets by name; sections add what their figures draw.
    """

    tables: Tables
    clusters: Sequence[Cluster]
    data: dict[str, Columns] = field(default_factory=dict)

    @property
    def labels(self) -> list[str]:
        """Labels of the clusters, in order."""
        return [cluster.label for cluster in self.clusters]

    @property
    def mark(self) -> str:
        """What was not measured, over all clusters; empty if everything was measured."""
        kinds = sorted({cluster.provenance for cluster in self.clusters})
        if kinds in ([], ["measured"]):
            return ""
        if "measured" in kinds:
            rest = "; ".join(kind for kind in kinds if kind != "measured")
            return f"mixed: measured, and {rest}"
        return "; ".join(kinds)

    @property
    def size_title(self) -> str:
        """Title of an axis of image sizes by tag; rehearsed images hold a fraction of that."""
        scales = sorted({recording.scale for recording in self.tables.recordings})
        if scales in ([], [1.0]):
            return "image size (GB, unpacked)"
        held = " or ".join(f"{scale:g}" for scale in scales if scale != 1)
        return f"image size by its tag (GB; rehearsed images held {held} of it)"

    def columns(self, query: str, values: Sequence[Any] = ()) -> Columns:
        """Return a query's result by column; `values` are bound to its question marks."""
        result = self.tables.database.execute(query, list(values))
        names = [column[0] for column in result.description or ()]
        rows = result.fetchall()
        return {name: [row[i] for row in rows] for i, name in enumerate(names)}

    def counted(self, cluster: Cluster | None = None) -> str:
        """Return n and exclusions for a caption, of one cluster or of all."""
        where = "WHERE run = ? AND stack = ?" if cluster else ""
        values = [cluster.run, cluster.stack] if cluster else []
        rows = self.tables.database.execute(
            f"SELECT status, count(*) AS n FROM cells {where} GROUP BY status ORDER BY n DESC, 1",
            values,
        ).fetchall()
        valid = sum(n for status, n in rows if status == "valid")
        every = sum(n for _, n in rows)
        reasons = ", ".join(f"{n} {status}" for status, n in rows if status != "valid")
        text = f"n = {valid:,} valid cells of {every:,}"
        return f"{text}; excluded: {reasons}." if reasons else f"{text}; none excluded."


def mark_of(cluster: Cluster) -> str:
    """Return what was not measured in a cluster; empty if it was measured."""
    return "" if cluster.measured else cluster.provenance


def make_table(
    caption: str, names: Sequence[str], rows: Sequence[Sequence[str]], mark: str = ""
) -> PageTable:
    """Return a table of the page; a header that ends in '#' is that of a column of numbers."""
    header = [Header(name.rstrip("#"), number=name.endswith("#")) for name in names]
    return PageTable(caption, header, rows, mark)
