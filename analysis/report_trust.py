"""The report's sections on which numbers count: cells by status, and the audit."""

from dataclasses import replace

from analysis.audit import GRADE_RULE, Audit
from analysis.page import Figure, PageTable, Section
from analysis.report_parts import Draft, make_table
from analysis.run_charts import STATUS_COLOURS, status_bars

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
    return Section(
        "audit",
        "How far the recordings can be trusted",
        [GRADE_RULE],
        tables=[grades, replace(findings, open=in_full)] if findings.rows else [grades],
    )
