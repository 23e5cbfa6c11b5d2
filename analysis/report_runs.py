"""The report's sections on what happened in the runs: timeline, wall time, phases."""

from analysis.page import Columns, Figure, Section
from analysis.report_parts import MOST_ROWS, Draft, make_table, mark_of
from analysis.run_charts import machine_points, phase_bars, timeline, wall_bars
from analysis.study_data import Cluster, priced_alike, wall_parts


def timelines(draft: Draft) -> Section:
    """What each node did, a figure a cluster."""
    figures = []
    for number, cluster in enumerate(draft.clusters):
        name = f"cells-{number}"
        cells = draft.data[name] = _cells(draft, cluster)
        drawn = sum(begin is not None for begin in cells["pulling"])
        if not drawn:
            continue
        nodes = sorted(set(cells["node"]))
        figures.append(
            Figure(
                f"timeline-{number}",
                f"What each node did: {cluster.label}",
                timeline(name, nodes, mark_of(cluster)),
                [name],
                f"{drawn:,} cells with a recorded pull. {draft.counted(cluster)}",
                marks=4 * drawn,
                provenance=mark_of(cluster),
                choice=cluster.label,
            )
        )
    text = (
        "Each node is a row. Waiting: from the binding of the pod to the start of its pull; "
        "starting: from the end of the pull to the start of the container; settling: from the end "
        "of the container (its start, where the end is not recorded) until the Job was complete."
    )
    return Section("timeline", "Timeline", [text], figures=figures, choice_label="Cluster")


def _cells(draft: Draft, cluster: Cluster) -> Columns:
    return draft.columns(
        f"""
        WITH mine AS (
            SELECT *, min(coalesce(scheduled_at, pulling_at)) OVER () AS zero FROM cells
            WHERE run = ? AND stack = ?
        )
        SELECT node, coalesce(nullif(tag, ''), image) AS image, status,
            round(epoch(coalesce(scheduled_at, pulling_at) - zero), 2) AS scheduled,
            round(epoch(pulling_at - zero), 2) AS pulling,
            round(epoch(pulled_at - zero), 2) AS pulled,
            round(epoch(started_at - zero), 2) AS started,
            round(epoch(coalesce(finished_at, started_at) - zero), 2) AS finished,
            round(epoch(job_complete_at - zero), 2) AS complete,
            round(waiting_s, 3) AS waiting_s, round(pull_s, 3) AS pull_s
        FROM mine ORDER BY node, image LIMIT {MOST_ROWS}
        """,
        [cluster.run, cluster.stack],
    )


def wall_time(draft: Draft) -> Section:
    """Where the wall time went, by cluster."""
    rows = [
        (cluster, part, seconds, rank)
        for cluster in draft.clusters
        if cluster.wall_s > 0
        for rank, (part, seconds) in enumerate(wall_parts(cluster).items())
    ]
    if not rows:
        return Section("wall", "Where the wall time went", ["No turn has a begin and an end."])
    draft.data["wall"] = {
        "cluster": [cluster.label for cluster, *_ in rows],
        "part": [part for _, part, _, _ in rows],
        "seconds": [round(seconds, 1) for _, _, seconds, _ in rows],
        "share": [round(seconds / cluster.wall_s, 4) for cluster, _, seconds, _ in rows],
        "rank": [rank for *_, rank in rows],
    }
    parts = list(dict.fromkeys(part for _, part, _, _ in rows))
    table = make_table(
        "Seconds of wall time by what they went to",
        ("Cluster", "Turns#", "Wall time (s)#", *(f"{part} (s)#" for part in parts)),
        [
            [
                cluster.label,
                str(len(cluster.turns)),
                f"{cluster.wall_s:.0f}",
                *(f"{value:.0f}" for value in wall_parts(cluster).values()),
            ]
            for cluster in draft.clusters
            if cluster.wall_s > 0
        ],
        draft.mark,
    )
    turns = sum(len(cluster.turns) for cluster in draft.clusters)
    figure = Figure(
        "wall-time",
        "Wall time by what it went to",
        wall_bars(list(dict.fromkeys(c.label for c, *_ in rows)), parts, draft.mark),
        ["wall"],
        f"n = {turns} turns of an image on a cluster.",
        provenance=draft.mark,
        table=table,
    )
    text = (
        "Pulling is the longest pull of each turn: less wall time the study cannot take. Starting "
        "is what goes before and after it until the containers run, settling from the start of the "
        "last container until its Job was complete; gaps lie between turns. Pauses of more than "
        "a minute do not count."
    )
    return Section("wall", "Where the wall time went", [text], figures=[figure])


def machines(draft: Draft) -> list[Section]:
    """Time against price, where one study ran on machines of several types."""
    rows = priced_alike(draft.clusters)
    if not rows:
        return []
    draft.data["machines"] = {
        "cluster": [cluster.label for cluster, _ in rows],
        "machine": [f"{cluster.nodes} × {cluster.machine_type}" for cluster, _ in rows],
        "minutes": [round(cluster.wall_s / 60, 2) for cluster, _ in rows],
        "usd": [round(usd, 3) for _, usd in rows],
    }
    table = make_table(
        "Wall time and price of the same study on different machines",
        ("Cluster", "Machine", "Wall time (s)#", "Price (USD)#"),
        [[c.label, c.machine_type, f"{c.wall_s:.0f}", f"{usd:.2f}"] for c, usd in rows],
        draft.mark,
    )
    figure = Figure(
        "machine-points",
        "Machine types: time against price",
        machine_points(draft.mark),
        ["machines"],
        f"n = {len(rows)} clusters. List prices on demand, us-central1; lower left is better.",
        provenance=draft.mark,
        table=table,
    )
    return [Section("machines", "Machine types and their price", figures=[figure])]


def phases(draft: Draft) -> list[Section]:
    """The phases of this project's own runs."""
    rows = [
        (
            recording.run,
            phase.phase.value,
            (phase.started_at - recording.folder.record.started_at).total_seconds(),
            (phase.ended_at - recording.folder.record.started_at).total_seconds(),
            phase.error or "",
        )
        for recording in draft.tables.recordings
        if recording.folder
        for phase in recording.folder.phases
    ]
    if not rows:
        return []
    draft.data["phases"] = {
        "run": [row[0] for row in rows],
        "phase": [row[1] for row in rows],
        "begin": [round(row[2], 1) for row in rows],
        "end": [round(row[3], 1) for row in rows],
        "seconds": [round(row[3] - row[2], 1) for row in rows],
    }
    table = make_table(
        "Wall time of each phase",
        ("Run", "Phase", "Took (s)#", "Error"),
        [[row[0], row[1], f"{row[3] - row[2]:.1f}", row[4]] for row in rows],
        draft.mark,
    )
    figure = Figure(
        "phase-bars",
        "Phases of the run",
        phase_bars(
            list(dict.fromkeys(row[0] for row in rows)),
            list(dict.fromkeys(row[1] for row in rows)),
            draft.mark,
        ),
        ["phases"],
        f"n = {len(rows)} phases.",
        provenance=draft.mark,
        table=table,
    )
    text = "From the first check to the removal of the cluster, by the runner's clock."
    return [Section("phases", "Phases of the run", [text], figures=[figure])]
