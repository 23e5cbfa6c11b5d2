"""What is wrong with a recorded study: findings with counts, and a grade for each recording.

The checks look for defects that were found in measured studies (docs/method.md). A finding gives
a count, a total and its consequence.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from analysis.ask.audit_checks import Finding, Recorded, confounded, found, lost_events
from analysis.ask.questions.slowest import excluded_ratio, slow_nodes
from analysis.ask.samples import emptiness, samples_of, trial_order
from analysis.csv_files import write_csv
from analysis.frames import Frames
from analysis.judge.audit_counts import Counts, Row
from analysis.tables import Tables
from schema.output import OutputRow

GRADES = "ABCDF"
_SHARES = (0.95, 0.8, 0.6, 0.3)
"""Least shares of valid cells for the grades A, B, C, D."""

_LOST_SHARE = 0.01

GRADE_RULE = (
    "A: at least 95 % of the cells are valid; B: 80 %, C: 60 %, D: 30 %, F: fewer. One grade lower "
    "if more than 1 % of the events of the study's pods were lost, and one lower if images were "
    "pulled in order of size without repetition. B at best with a finding that spoils."
)


@dataclass(frozen=True)
class Audit:
    """A recording's findings and grade."""

    run: str
    stack: str
    label: str
    provenance: str
    cells: int
    valid: int
    grade: str
    findings: tuple[Finding, ...]


def audit(
    tables: Tables, frames: Frames, counts: Counts, samples: pd.DataFrame | None = None
) -> list[Audit]:
    """Audit each recording, in the order of the tables' recordings.

    Args:
        tables: for their recordings and notes; may be closed.
        frames: of the tables.
        counts: of the same.
        samples: samples_of(frames), where the caller has them.
    """
    labels = frames.clusters.set_index(["run", "stack"])["cluster"]
    samples = samples_of(frames) if samples is None else samples
    kinds = {(r.run, r.stack): {node.architecture for node in r.node_list if node.architecture}
             for r in tables.recordings}  # fmt: skip
    audits = []
    for counted in counts.recordings:
        row = dict(counted)
        label = labels[row["run"], row["stack"]]
        cluster = _recorded(frames, samples, label)
        row["alike"] = len(kinds.get((row["run"], row["stack"]), ())) == 1
        findings = [*found(row, cluster), *_copies(row, counts.copies), *_lines(row, tables)]
        spoiled = any(f.severity == "spoils" for f in findings)
        audits.append(
            Audit(
                row["run"],
                row["stack"],
                label,
                row["provenance"],
                row["cells"],
                row["valid"],
                _grade(row, cluster, spoiled=spoiled),
                tuple(sorted(findings, key=lambda f: _SEVERITIES.index(f.severity))),
            )
        )
    return audits


def _recorded(frames: Frames, samples: pd.DataFrame, label: str) -> Recorded:
    trials = frames.trials[frames.trials["cluster"] == label]
    images = frames.images[frames.images["cluster"] == label]
    tags = images.set_index("image")["tag"].reindex(trials["image"].drop_duplicates()).dropna()
    ratios = emptiness(images).dropna()
    return Recorded(
        by_size=trial_order(frames, label, "unpacked_bytes")
        or trial_order(frames, label, "wire_bytes"),
        by_layers=trial_order(frames, label, "layers"),
        tags=tuple(tags),
        emptiness=tuple(ratios),
        images=len(images),
        trials_s=float(trials["total_s"].sum()),
        pulling_s=float(trials["pull"].sum()),
        settling_s=float(trials["settling"].sum()),
        excluded=excluded_ratio(frames.pulls[frames.pulls["cluster"] == label]),
        slow=tuple(node for _, node, _ in slow_nodes(samples[samples["cluster"] == label])[0]),
    )


_SEVERITIES = ("spoils", "weakens", "note")


def _grade(row: Row, cluster: Recorded, *, spoiled: bool) -> str:
    if not row["cells"]:
        return "F"
    share = row["valid"] / row["cells"]
    place = next((i for i, least in enumerate(_SHARES) if share >= least), len(_SHARES))
    place += lost_events(row) > _LOST_SHARE * max(1, row["due"])
    place += confounded(row, cluster)
    place = max(place, int(spoiled))
    return GRADES[min(place, len(GRADES) - 1)]


def _copies(row: Row, same: Sequence[Row]) -> Iterable[Finding]:
    for pair in same:
        if (pair["run"], pair["stack"]) == (row["run"], row["stack"]):
            other = f"{pair['other']}/{pair['other_stack']}".rstrip("/")
            yield Finding(
                row["run"], row["stack"], "copied-events", "spoils", pair["n"], None,
                f"{pair['n']} events are also in {other}: one recording was counted twice.",
            )  # fmt: skip


def _lines(row: Row, tables: Tables) -> Iterable[Finding]:
    files = {
        str(file)
        for recording in tables.recordings
        if recording.run == row["run"] and recording.stack in {"", row["stack"]}
        for file in recording.files
    }
    discarded = sum(tables.notes.total("discarded", file) for file in files)
    unreadable = sum(tables.notes.total("unreadable", file) for file in files)
    if discarded:
        yield Finding(
            row["run"], row["stack"], "discarded-events", "spoils", discarded, None,
            f"The exporter reports that it dropped {discarded} events as too old "
            "(maxEventAgeSeconds).",
        )  # fmt: skip
    if unreadable:
        yield Finding(
            row["run"], row["stack"], "unreadable-lines", "weakens", unreadable, None,
            f"{unreadable} lines or parts of lines could not be read; notes.csv lists them.",
        )  # fmt: skip


FINDING_COLUMNS = (
    *("run", "stack", "provenance", "grade", "cells", "valid"),
    *("kind", "severity", "count", "of", "text"),
)


def finding_rows(audits: Sequence[Audit]) -> list[OutputRow]:
    """Return all findings, one row each, with `FINDING_COLUMNS`."""
    return [
        {name: getattr(a if name in FINDING_COLUMNS[:6] else f, name) for name in FINDING_COLUMNS}
        for a in audits
        for f in a.findings
    ]


def write_findings(audits: Sequence[Audit], path: Path) -> Path:
    """Write all findings as CSV, one row each.

    Raises:
        OutputError: the file cannot be written.
    """
    return write_csv(path, FINDING_COLUMNS, (row.values() for row in finding_rows(audits)))
