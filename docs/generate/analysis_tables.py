"""docs/columns.md: the columns of the analysis' frames and files."""

from pathlib import Path

from analysis.frames import COLUMNS, KINDS
from docs.generate.markdown import filled, table

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "columns.md"


def updated(page: str) -> str:
    """Return the page with its table as the code says."""
    rows = (
        (name, f"`{column.name}`", KINDS[column.kind], column.meaning)
        for name, columns in COLUMNS.items()
        for column in columns
    )
    return filled(page, {"columns": table(("frame", "column", "dtype", "meaning"), rows)})
