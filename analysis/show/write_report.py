"""`write_report`: all tables and one page about the recordings.

Tables are written and closed before statsmodels and scipy are imported, since their 150 MB would
be on top of the memory that judging takes.
"""
# ruff: noqa: PLC0415 (see above)

from collections.abc import Sequence
from pathlib import Path

from analysis.judge.audit_counts import audit_counts
from analysis.read.event_table import Progress
from analysis.read.manifests import read_manifests
from analysis.show.drawing import Drawing
from analysis.tables import open_tables, write_tables


def write_report(
    runs: Sequence[Path],
    out: Path,
    *,
    images: str | None = None,
    manifests: Path | None = None,
    progress: Progress | None = None,
) -> Path:
    """Write report.html and all tables into a folder; return the page's path.

    Args:
        runs: run folders, or anything else that tables.open_tables reads.
        out: folder, created if missing.
        images: regular expression of the study's images (see pulls.derive_pulls).
        manifests: file of manifests, for the section on similarity; runs of this project have
            their own.
        progress: called with the number of events read.

    Raises:
        schema.errors.UserError: an input cannot be read, or the folder cannot be written.
    """
    saved = read_manifests(manifests) if manifests else []
    with Drawing() as drawing:
        with open_tables(runs, images, progress) as tables:
            write_tables(tables, out)
            tables.shrink()
            counts = audit_counts(tables.database)
            from analysis.frames import frames_of

            frames = frames_of(tables)
        from analysis.show.report import make_page, planned_manifests, write_page

        page = make_page(tables, frames, counts, saved or planned_manifests(tables))
        return write_page(page, out / "report.html", drawing)
