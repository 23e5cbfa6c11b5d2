"""`write_report`: all tables and one page about what was recorded.

Gathers what tables.py derives into the sections of a page (page.py), with plots from charts.py.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from analysis.charts import (
    STATUS_COLOURS,
    by_cluster,
    by_size,
    phase_bars,
    status_bars,
    timeline,
)
from analysis.event_table import Progress
from analysis.page import Banner, Columns, Figure, Header, Number, Page, PageTable, Section, render
from analysis.tables import OutputError, Tables, open_tables, write_tables

MOST_ROWS = 20_000
"""Pulls and cells that a page draws one by one; of more, an even sample is drawn."""

_PULL_TIMES = (
    "The kubelet's own duration of each pull, without waiting behind other pulls of the node. "
    "A dot is a pull, the large dot the median, the bar the middle half."
)

_CLUSTER = """
CREATE OR REPLACE TEMP VIEW cluster AS
SELECT run, stack,
    nodes || CASE WHEN nodes = 1 THEN ' node' ELSE ' nodes' END
        || CASE WHEN count(*) OVER (PARTITION BY run, nodes) > 1 THEN ' · ' || stack ELSE '' END
        || CASE WHEN (SELECT count(DISTINCT run) FROM stack) > 1 THEN ' · ' || run ELSE '' END
        AS cluster
FROM stack
"""


def write_report(
    runs: Sequence[Path],
    out: Path,
    *,
    images: str | None = None,
    progress: Progress | None = None,
) -> Path:
    """Write report.html and all tables of some runs into a folder; gives the page's path.

    Args:
        runs: run folders, or anything else that tables.open_tables reads.
        out: folder, made if need be.
        images: regular expression of the study's images (see pulls.derive_pulls).
        progress: told the number of events read.

    Raises:
        schema.errors.UserError: an input cannot be read, or the folder cannot be written.
    """
    with open_tables(runs, images, progress) as tables:
        write_tables(tables, out)
        html = render(make_page(tables))
    path = out / "report.html"
    try:
        path.write_text(html, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error}.", "name another folder") from None
    return path


def make_page(tables: Tables) -> Page:
    """The page about some recordings."""
    tables.database.execute(_CLUSTER)
    clusters = [
        row["cluster"]
        for row in tables.rows(
            "SELECT cluster FROM cluster JOIN stack USING (run, stack) ORDER BY run, nodes, stack"
        )
    ]
    pulls = _pulls(tables)
    marks = provenances(tables)
    data: dict[str, Columns] = {"pulls": pulls}
    sections = [
        _pull_times(clusters, pulls, marks, tables),
        _validity(clusters, marks, tables, data),
        _timelines(marks, tables, data),
        *_phases(marks, tables, data),
    ]
    return Page(
        title=_title(tables),
        lede=_lede(tables),
        banners=_banners(tables),
        numbers=_numbers(tables),
        sections=sections,
        data=data,
        footer="Written by python -m analysis report. The tables of the same folder hold every "
        "number of this page: pulls, cells and summary as CSV and Parquet, events as Parquet, "
        "and notes.csv with every line that was not an event.",
    )


def provenances(tables: Tables) -> str:
    """What was not measured, over all recordings; empty if all of it was measured."""
    kinds = sorted({r.provenance for r in tables.recordings})
    if kinds == ["measured"]:
        return ""
    if "measured" in kinds:
        rest = "; ".join(kind for kind in kinds if kind != "measured")
        return f"measured and not measured data mixed: {rest}"
    return "; ".join(kinds)


def columns(tables: Tables, query: str, values: Sequence[Any] = ()) -> Columns:
    """A query's result by column; `values` are bound to its question marks."""
    result = tables.database.execute(query, list(values))
    names = [column[0] for column in result.description or ()]
    rows = result.fetchall()
    return {name: [row[i] for row in rows] for i, name in enumerate(names)}


def _title(tables: Tables) -> str:
    runs = list(dict.fromkeys(recording.run for recording in tables.recordings))
    return f"Pull study: {', '.join(runs[:4])}{' …' if len(runs) > 4 else ''}"  # noqa: PLR2004


def _lede(tables: Tables) -> str:
    (row,) = tables.rows(
        "SELECT min(started_at) AS begin, count(DISTINCT image) AS images FROM pulls"
    )
    (stacks,) = tables.rows("SELECT list(DISTINCT nodes ORDER BY nodes) AS nodes FROM stack")
    sizes = ", ".join(str(size) for size in stacks["nodes"])
    when = f", recorded from {row['begin']:%d %B %Y %H:%M} UTC" if row["begin"] else ""
    images = "1 image" if row["images"] == 1 else f"{row['images']} images"
    return (
        f"How long nodes of Kubernetes took to pull {images}, on clusters of {sizes} nodes{when}."
    )


def _banners(tables: Tables) -> list[Banner]:
    banners = []
    for recording in tables.recordings:
        rehearsal = recording.rehearsal
        if rehearsal is None:
            continue
        simulated = rehearsal.nodes == "simulated"
        head = f"{recording.run}: {'simulated nodes' if simulated else 'a rehearsal'}."
        what = (
            "No image was pulled: the durations are a simulation's and say nothing about a cluster."
            if simulated
            else "Real pulls by real kubelets, on one machine: they say nothing about a cloud."
        )
        scale = f" Images held {rehearsal.scale:g} of the bytes that their tags claim."
        banners.append(
            Banner(head, what + scale + (f" {rehearsal.note}" if rehearsal.note else ""))
        )
    return banners


def _numbers(tables: Tables) -> list[Number]:
    (row,) = tables.rows("""
        SELECT (SELECT count(*) FROM cells) AS cells,
            (SELECT count(*) FROM cells WHERE status = 'valid') AS valid,
            (SELECT count(*) FROM pulls WHERE outcome = 'pulled') AS pulled,
            (SELECT count(*) FROM event) AS events,
            (SELECT count(DISTINCT (rec, node)) FROM studied_pull WHERE outcome = 'pulled') AS nodes,
            (SELECT count(*) FROM stack_nodes) AS all_nodes
    """)
    notes = tables.notes
    unreadable = notes.total("unreadable")
    return [
        Number("Valid cells", f"{row['valid']:,}", f"of {row['cells']:,} (image × node)"),
        Number("Successful pulls", f"{row['pulled']:,}", "of the study's images"),
        Number("Nodes that pulled", f"{row['nodes']:,}", f"of {row['all_nodes']:,} nodes"),
        Number(
            "Events read",
            f"{row['events']:,}",
            f"{unreadable:,} unreadable lines" if unreadable else "no unreadable line",
        ),
    ]


def _excluded(tables: Tables) -> str:
    rows = tables.rows("SELECT status, count(*) AS n FROM cells GROUP BY status ORDER BY n DESC")
    valid = sum(row["n"] for row in rows if row["status"] == "valid")
    every = sum(row["n"] for row in rows)
    reasons = ", ".join(f"{row['n']} {row['status']}" for row in rows if row["status"] != "valid")
    text = f"n = {valid} valid cells of {every}"
    return f"{text}; excluded: {reasons}." if reasons else f"{text}; none excluded."


def _pulls(tables: Tables) -> Columns:
    (row,) = tables.rows("SELECT count(*) AS n FROM pulls WHERE outcome = 'pulled'")
    every = max(1, -(-row["n"] // MOST_ROWS))
    return columns(
        tables,
        f"""
        SELECT cluster, coalesce(nullif(tag, ''), image) AS image,
            coalesce(size_bytes, image_bytes) / 1e9 AS size_gb, layers, node,
            round(pull_s, 4) AS pull_s, round(pull_and_wait_s, 4) AS wait_s, status,
            status = 'valid' AS valid,
            coalesce(format('{{:.4g}} GB', coalesce(size_bytes, image_bytes) / 1e9), '?') AS size
        FROM (SELECT *, row_number() OVER (ORDER BY run, stack, image, node, pod_uid) AS turn
            FROM pulls WHERE outcome = 'pulled') JOIN cluster USING (run, stack)
        WHERE turn % {every} = 0 ORDER BY size_gb, cluster, image
    """,
    )


def _pull_times(clusters: Sequence[str], pulls: Columns, marks: str, tables: Tables) -> Section:
    if not pulls["pull_s"]:
        return Section(
            "times",
            "Pull times",
            ["No pull of the study's images was recorded: there is no time to show."],
        )
    sizes = list(dict.fromkeys(pulls["size"]))
    sizes_gb = [size for size in pulls["size_gb"] if size]
    caption = _excluded(tables)
    count = len(pulls["pull_s"])
    table = _summary_table(tables, marks)
    return Section(
        "times",
        "Pull times",
        [_PULL_TIMES],
        figures=[
            Figure(
                "by-cluster",
                "Pull time by cluster size, for each image size",
                by_cluster(clusters, sizes, pulls["pull_s"], marks),
                ["pulls"],
                caption,
                marks=count,
                provenance=marks,
                table=table,
            ),
            Figure(
                "by-size",
                "Pull time by image size, for each cluster",
                by_size(clusters, sizes_gb, pulls["pull_s"], marks),
                ["pulls"],
                caption,
                marks=count,
                provenance=marks,
            ),
        ],
    )


def _summary_table(tables: Tables, marks: str) -> PageTable:
    rows = tables.rows("""
        SELECT cluster, coalesce(nullif(tag, ''), image) AS image, n, s.nodes_pulled,
            pull_s_median, pull_s_p95, pull_s_max, cells, valid_n, valid_pull_s_median
        FROM summary AS s JOIN cluster USING (run, stack)
        ORDER BY s.size_bytes, s.image, s.nodes, s.stack
    """)
    head = [
        Header("Cluster"),
        Header("Image"),
        *(
            Header(name, number=True)
            for name in (
                "Pulls",
                "On nodes",
                "Median (s)",
                "95 % (s)",
                "Max (s)",
                "Valid cells",
                "Median of valid (s)",
            )
        ),
    ]
    body = [
        [
            row["cluster"],
            row["image"],
            str(row["n"]),
            str(row["nodes_pulled"]),
            seconds(row["pull_s_median"]),
            seconds(row["pull_s_p95"]),
            seconds(row["pull_s_max"]),
            f"{row['valid_n']} of {row['cells']}",
            seconds(row["valid_pull_s_median"]),
        ]
        for row in rows
    ]
    return PageTable("Pull times by image and cluster", head, body, marks)


def seconds(value: float | None) -> str:
    """A duration for people; a dash where there is none."""
    if value is None:
        return "–"
    return f"{value:.3f}" if value < 10 else f"{value:.1f}"  # noqa: PLR2004 (three digits or so)


def _validity(
    clusters: Sequence[str], marks: str, tables: Tables, data: dict[str, Columns]
) -> Section:
    data["statuses"] = columns(
        tables,
        """
        SELECT cluster, status, count(*) AS cells FROM cells JOIN cluster USING (run, stack)
        GROUP BY ALL ORDER BY ALL
    """,
    )
    order = list(STATUS_COLOURS)
    data["statuses"]["rank"] = [order.index(status) for status in data["statuses"]["status"]]
    rows = tables.rows("""
        SELECT cluster, status, reason, count(*) AS n, min(node) AS node, min(image) AS image
        FROM cells JOIN cluster USING (run, stack) WHERE status <> 'valid'
        GROUP BY cluster, status, reason, nodes ORDER BY nodes, cluster, n DESC, status, reason LIMIT 200
    """)
    table = PageTable(
        "Why cells are excluded (cells.csv has a row for each of them)",
        [
            Header("Cluster"),
            Header("Status"),
            Header("Reason"),
            Header("Cells", number=True),
            Header("For example on node"),
        ],
        [
            [row["cluster"], row["status"], row["reason"], str(row["n"]), row["node"]]
            for row in rows
        ],
        marks,
    )
    return Section(
        "validity",
        "Which numbers count",
        [
            "A cell is one image on one node. It is valid on evidence of exactly one real pull that "
            "was begun and ended there; any other cell is excluded, with the reason."
        ],
        figures=[
            Figure(
                "statuses",
                "Cells by what became of them",
                status_bars(clusters, marks),
                ["statuses"],
                _excluded(tables),
                provenance=marks,
            )
        ],
        tables=[table] if rows else [],
    )


def _timelines(marks: str, tables: Tables, data: dict[str, Columns]) -> Section:
    figures = []
    for number, row in enumerate(
        tables.rows(
            "SELECT run, stack, cluster FROM cluster JOIN stack USING (run, stack) ORDER BY run, nodes, stack"
        )
    ):
        name = f"timeline-{number}"
        cells = _timeline_data(tables, row)
        if not cells["node"]:
            continue
        data[name] = cells
        nodes = sorted(set(cells["node"]))
        figures.append(
            Figure(
                name,
                f"What each node did: {row['cluster']}",
                timeline(name, nodes, marks),
                [name],
                f"{len(cells['node'])} cells with a recorded pull on {len(nodes)} nodes.",
                marks=4 * len(cells["node"]),
                provenance=marks,
                choice=str(row["cluster"]),
            )
        )
    text = (
        "Each node is a row. Waiting is from the binding of the pod to the start of its pull, "
        "starting from the end of the pull to the start of the container, settling from the "
        "container's end until the Job was complete. Gaps are time in which no cell was under way."
    )
    return Section("timeline", "Timeline", [text], figures=figures, choice_label="Cluster")


def _timeline_data(tables: Tables, stack: dict[str, Any]) -> Columns:
    return columns(
        tables,
        f"""
        WITH mine AS (SELECT *, min(coalesce(scheduled_at, pulling_at)) OVER () AS zero FROM cells
            WHERE run = ? AND stack = ?
            AND coalesce(scheduled_at, pulling_at) IS NOT NULL)
        SELECT node, coalesce(nullif(tag, ''), image) AS image, status,
            round(epoch(coalesce(scheduled_at, pulling_at) - zero), 3) AS scheduled,
            round(epoch(pulling_at - zero), 3) AS pulling,
            round(epoch(pulled_at - zero), 3) AS pulled,
            round(epoch(started_at - zero), 3) AS started,
            round(epoch(coalesce(finished_at, started_at) - zero), 3) AS finished,
            round(epoch(job_complete_at - zero), 3) AS complete,
            round(waiting_s, 3) AS waiting_s, round(pull_s, 3) AS pull_s
        FROM mine ORDER BY node, scheduled LIMIT {MOST_ROWS}
    """,
        [stack["run"], stack["stack"]],
    )


def _phases(marks: str, tables: Tables, data: dict[str, Columns]) -> list[Section]:
    rows = [
        (
            recording.run,
            phase.phase.value,
            (phase.started_at - recording.folder.record.started_at),
            (phase.ended_at - recording.folder.record.started_at),
            phase.error or "",
        )
        for recording in tables.recordings
        if recording.folder
        for phase in recording.folder.phases
    ]
    if not rows:
        return []
    data["phases"] = {
        "run": [row[0] for row in rows],
        "phase": [row[1] for row in rows],
        "begin": [round(row[2].total_seconds(), 1) for row in rows],
        "end": [round(row[3].total_seconds(), 1) for row in rows],
        "seconds": [round((row[3] - row[2]).total_seconds(), 1) for row in rows],
    }
    table = PageTable(
        "Wall time of each phase",
        [Header("Run"), Header("Phase"), Header("Took (s)", number=True), Header("Error")],
        [[row[0], row[1], f"{(row[3] - row[2]).total_seconds():.1f}", row[4]] for row in rows],
        marks,
    )
    return [
        Section(
            "phases",
            "Where the run's time went",
            ["From the first check to the removal of the cluster, by the runner's clock."],
            figures=[
                Figure(
                    "phase-bars",
                    "Phases of the run",
                    phase_bars(marks),
                    ["phases"],
                    f"{len(rows)} phases.",
                    provenance=marks,
                    table=table,
                )
            ],
        )
    ]
