"""The report's sections on which numbers count: cells by status, and the audit."""

from dataclasses import replace

from analysis.judge.audit import GRADE_RULE, Audit
from analysis.show.page import Figure, PageTable, Section
from analysis.show.report_parts import Draft, make_table
from analysis.show.run_charts import STATUS_COLOURS, status_bars

_MOST_REASONS = 200


def validity(draft: Draft) -> Section:
    """Valid and excluded cells, with reasons."""
    statuses = draft.data["statuses"] = draft.columns("""
        SELECT cluster, status, count(*) AS cells FROM cells JOIN cluster USING (run, stack)
        GROUP BY ALL ORDER BY ALL
    """)
    if not statuses["cells"]:
        return Section("validity", "Which numbers count", ["There are no cells to judge."])
    order = list(STATUS_COLOURS)
    statuses["rank"] = [order.index(status) for status in statuses["status"]]
    table = _reasons(draft)
    text = (
        "A cell is one image on one node. It is valid on evidence of exactly one real pull that "
        "was begun and ended there; any other cell is excluded, with the reason."
    )
    figure = Figure(
        "statuses",
        "Cells by what became of them",
        status_bars(draft.labels, [s for s in order if s in statuses["status"]], draft.mark),
        ["statuses"],
        draft.counted(),
        provenance=draft.mark,
    )
    return Section(
        "validity",
        "Which numbers count",
        [text],
        figures=[figure],
        tables=[table] if table.rows else [],
    )


def _reasons(draft: Draft) -> PageTable:
    rows = draft.tables.rows(f"""
        SELECT cluster, status, reason, count(*) AS n, min(node) AS node
        FROM cells JOIN cluster USING (run, stack) WHERE status <> 'valid'
        GROUP BY run, cells.nodes, cluster, status, reason
        ORDER BY run, cells.nodes, cluster, n DESC, status, reason LIMIT {_MOST_REASONS}
    """)
    body = [[r["cluster"], r["status"], r["reason"], f"{r['n']:,}", r["node"]] for r in rows]
    caption = "Why cells are excluded; cells.csv has a row for each of them"
    names = ("Cluster", "Status", "Reason", "Cells#", "For example on node")
    return make_table(caption, names, body, draft.mark)


def audited(draft: Draft, audits: list[Audit], *, in_full: bool = False) -> Section:
    """Grades and findings; `in_full` never folds the findings."""
    grades = make_table(
        "Grade of each recording",
        ("Recording", "Grade", "Valid cells#", "Findings that spoil numbers#", "that weaken them#"),
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
        "What was found",
        ("Recording", "Finding", "Weight", "What it means"),
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
        "How far the recordings can be trusted",
        [GRADE_RULE, *_several_clusters(draft)],
        tables=[table for table in shown if table.rows],
    )


def _several_clusters(draft: Draft) -> list[str]:
    """A run that was resumed on another cluster has cells of both."""
    return [
        f"The cells of {recording.run} are from {len(recording.folder.clusters)} clusters, since "
        "the run was resumed: what differs between its trials may differ between these."
        for recording in draft.tables.recordings
        if recording.folder and len(recording.folder.clusters) > 1
    ]


def _evidence(draft: Draft) -> PageTable:
    """What each source saw of the events of this project's own runs."""
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
             "Seen by none#", "Clocks that differ")  # fmt: skip
    return make_table("Events of the trials' pods, by source", names, rows, draft.mark)


def _gaps(draft: Draft) -> PageTable:
    """Stretches of time in which a source may have missed events."""
    rows = [
        [
            recording.run,
            gap.source.value,
            f"{gap.since:%Y-%m-%d %H:%M:%S}",
            f"{(gap.until - gap.since).total_seconds():.1f}",
            "nothing, it went on where it was cut" if gap.recovered else "perhaps",
            gap.reason,
        ]
        for recording in draft.tables.recordings
        for gap in (recording.folder.gaps if recording.folder else ())
    ]
    names = ("Run", "Source", "Since (UTC)", "For (s)#", "Missed", "Reason")
    return make_table("Gaps in what the sources saw", names, rows, draft.mark)


def _marks(draft: Draft) -> PageTable:
    """What touched cells without excluding them."""
    rows = draft.tables.rows(f"""
        SELECT cluster, marks, status, count(*) AS n, min(node) AS node
        FROM cells JOIN cluster USING (run, stack) WHERE marks <> ''
        GROUP BY ALL ORDER BY n DESC, cluster, marks, status LIMIT {_MOST_REASONS}
    """)
    body = [[r["cluster"], r["marks"], r["status"], f"{r['n']:,}", r["node"]] for r in rows]
    names = ("Cluster", "Mark", "Status", "Cells#", "For example on node")
    return make_table("Marks on cells, which exclude none", names, body, draft.mark)
