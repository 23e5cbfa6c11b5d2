"""The report's sections on validity: cells by status, and the audit."""

from dataclasses import replace

from analysis.ask.audit import GRADE_RULE, Audit
from analysis.show.conditions import differences
from analysis.show.page import Figure, PageTable, Section
from analysis.show.report_parts import Draft, columns_of, make_table
from analysis.show.run_charts import STATUS_COLOURS, status_bars

_MOST_REASONS = 200


def validity(draft: Draft) -> Section:
    """Return the section on valid and excluded cells."""
    counts = draft.frames.cells.groupby(["cluster", "status"], observed=True, as_index=False).size()
    counts = counts.astype({"cluster": "str", "status": "str"}).rename(columns={"size": "cells"})
    statuses = draft.data["statuses"] = columns_of(counts)
    if not statuses["cells"]:
        return Section("validity", "Valid cells", ["There are no cells."])
    order = list(STATUS_COLOURS)
    statuses["rank"] = [order.index(status) for status in statuses["status"]]
    table = _reasons(draft)
    text = (
        "A cell is one image on one node. It is valid if there is evidence of exactly one real "
        "pull on that node, with start and end; every other cell is excluded, with the reason."
    )
    figure = Figure(
        "statuses",
        "Outcome of each cell",
        status_bars(draft.labels, [s for s in order if s in statuses["status"]], draft.mark),
        ["statuses"],
        draft.counted() + differences(draft),
        provenance=draft.mark,
    )
    return Section(
        "validity",
        "Valid cells",
        [text],
        figures=[figure],
        tables=[table] if table.rows else [],
    )


def _reasons(draft: Draft) -> PageTable:
    cells = draft.frames.cells
    bad = cells[cells["status"] != "valid"]
    keys = ["cluster", "status", "reason"]
    rows = bad.groupby(keys, observed=True, as_index=False).agg(
        n=("node", "size"), node=("node", lambda nodes: min(nodes.astype("str")))
    )
    rows = rows.sort_values(["cluster", "n"], ascending=[True, False]).head(_MOST_REASONS)
    body = [[str(r.cluster), r.status, r.reason, f"{r.n:,}", r.node] for r in rows.itertuples()]
    caption = "Why cells are excluded; cells.csv has a row for each cell"
    names = ("Cluster", "Status", "Reason", "Cells#", "Example node")
    return make_table(caption, names, body, draft.mark)


def audited(draft: Draft, audits: list[Audit], *, in_full: bool = False) -> Section:
    """Return the section with grades and findings; `in_full` never folds the findings."""
    grades = make_table(
        "Grade of each recording",
        ("Recording", "Grade", "Valid cells#", "Findings: spoils#", "Findings: weakens#"),
        [
            [
                one.label,
                one.grade,
                f"{one.valid:,} of {one.cells:,}",
                str(sum(f.severity == "spoils" for f in one.findings)),
                str(sum(f.severity == "weakens" for f in one.findings)),
            ]
            for one in audits
        ],
        draft.mark,
    )
    findings = make_table(
        "Findings: spoils = numbers are wrong or missing, weakens = they may be",
        ("Recording", "Finding", "Severity", "Meaning"),
        [
            [one.label, finding.kind, finding.severity, finding.text]
            for one in audits
            for finding in one.findings
        ],
        draft.mark,
    )
    shown = [grades, replace(findings, open=in_full), _evidence(draft), _gaps(draft), _marks(draft)]
    return Section(
        "audit",
        "Quality of the recordings",
        [GRADE_RULE, *_several_clusters(draft), *_notes(draft)],
        tables=[table for table in shown if table.rows],
    )


def _several_clusters(draft: Draft) -> list[str]:
    """Report runs that were resumed on another cluster."""
    return [
        f"The cells of {recording.run} come from {len(recording.folder.clusters)} clusters, since "
        "the run was resumed: differences between its trials may be differences between clusters."
        for recording in draft.tables.recordings
        if recording.folder and len(recording.folder.clusters) > 1
    ]


def _notes(draft: Draft) -> list[str]:
    """Report runs without an exporter, and what the runner warned of."""
    records = [each.folder.record for each in draft.tables.recordings if each.folder]
    return [
        f"{record.run_id}: {note}"
        for record in records
        for note in (record.sources_note, *record.warnings)
        if note
    ]


def _evidence(draft: Draft) -> PageTable:
    """Return the table of events by source, for runs of this project."""
    rows = []
    for recording in draft.tables.recordings:
        for one in recording.folder.evidence if recording.folder else ():
            offsets = ", ".join(f"{n} {s:+.1f} s" for n, s in sorted(one.clock_offsets_s.items()))
            rows += [
                [
                    recording.run,
                    str(one.attempt),
                    source.value,
                    *(f"{n:,}" for n in (count.seen, count.lost, count.repeated, count.gaps)),
                    "yes" if one.complete else "no",
                    f"{one.seen_by_none:,}",
                    offsets or "none",
                ]
                for source, count in sorted(one.sources.items())
            ]
    names = ("Run", "Attempt#", "Source", "Seen#", "Lost#", "Repeated#", "Gaps#", "Log complete",
             "Seen by no source#", "Clock offsets")  # fmt: skip
    return make_table("Events of the trials' pods, by source", names, rows, draft.mark)


def _gaps(draft: Draft) -> PageTable:
    """Return the table of periods in which a source may have missed events."""
    rows = [
        [
            recording.run,
            gap.source.value,
            f"{gap.since:%Y-%m-%d %H:%M:%S}",
            f"{(gap.until - gap.since).total_seconds():.1f}",
            "no, it resumed where it stopped" if gap.recovered else "possible",
            gap.reason,
        ]
        for recording in draft.tables.recordings
        for gap in (recording.folder.gaps if recording.folder else ())
    ]
    names = ("Run", "Source", "Start (UTC)", "Duration (s)#", "Events missed", "Reason")
    return make_table("Gaps in the event sources", names, rows, draft.mark)


def _marks(draft: Draft) -> PageTable:
    """Return the table of marks: what affected cells without excluding them."""
    marked = draft.frames.cells[draft.frames.cells["marks"] != ""]
    rows = marked.groupby(["cluster", "marks", "status"], observed=True, as_index=False).agg(
        n=("node", "size"), node=("node", lambda nodes: min(nodes.astype("str")))
    )
    rows = rows.sort_values("n", ascending=False).head(_MOST_REASONS)
    body = [[str(r.cluster), r.marks, r.status, f"{r.n:,}", r.node] for r in rows.itertuples()]
    names = ("Cluster", "Mark", "Status", "Cells#", "Example node")
    return make_table("Marks on cells; a mark does not exclude a cell", names, body, draft.mark)
