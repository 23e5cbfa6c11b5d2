"""The report's sections on the runs: timeline, wall time, machines."""

from collections import Counter
from collections.abc import Mapping, Sequence

from analysis.ask.study_data import Cluster, priced_alike, timeline_of
from analysis.judge.wall_time import PARTS, TrialTime
from analysis.show.labels import counted, short_name, short_names
from analysis.show.page import Columns, Figure, PageTable, Section
from analysis.show.report_parts import MOST_ROWS, Draft, make_table, mark_of
from analysis.show.run_charts import machine_points, timeline, wall_bars


def timelines(draft: Draft) -> Section:
    """Return the section with a timeline for each cluster."""
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
                f"Timeline of each node: {cluster.label}",
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
        "starting: from the end of the pull to the start of the container; container: its program; "
        "settling: from the end of the program to the end of the container (in a foreign "
        "recording: from the start of the container until the Job was complete). In blank periods "
        "the node waited for other nodes."
    )
    if not figures:
        return Section("timeline", "Timeline", ["No pull with a known time was recorded."])
    return Section("timeline", "Timeline", [text], figures=figures, choice_label="Cluster")


def _cells(draft: Draft, cluster: Cluster) -> Columns:
    columns = timeline_of(draft.tables, cluster, MOST_ROWS)
    short = short_names(columns["image"])
    return columns | {"image": [short[image] for image in columns["image"]]}


_WALL_TEXT = (
    "Every second is assigned to one part, on the path of each trial's slowest node. Removal: "
    "removing images from the nodes before a trial. Control plane: creating the Job's pods, "
    "binding them, reporting their end. Start: the kubelet's work before and after the pull. "
    "Container: its program. Settling: from the end of the program to the end of the container (in "
    "a foreign recording until its Job was complete), while the disk still writes what was pulled. "
    "Runner: the runner's own work and waits. Unexplained: no evidence."
)


def wall_time(draft: Draft) -> Section:
    """Return the section on wall time by cluster, trial and phase."""
    clusters = [cluster for cluster in draft.clusters if cluster.time.total_s > 0]
    if not clusters:
        return Section("wall", "Wall time", ["No trial has both a start and an end."])
    together = [(c.label, c.time.parts, c.time.total_s) for c in clusters]
    figures = [
        _wall_figure(
            draft, "wall-time", "Wall time breakdown", together, caption=_explained(clusters)
        ),
        *(
            _wall_figure(
                draft,
                f"trials-{number}",
                f"Wall time of each trial: {cluster.label}",
                [(_trial_name(t), t.parts, t.total_s) for t in cluster.trials],
                caption=f"n = {counted(len(cluster.trials), 'trial')}, each from the end of the "
                "previous one to its own end.",
                cluster=cluster,
            )
            for number, cluster in enumerate(clusters)
            if cluster.trials
        ),
    ]
    tables = _phases(draft)
    return Section(
        "wall",
        "Wall time",
        [_WALL_TEXT, *_faster_clock(clusters)],
        figures=figures,
        tables=tables,
        choice_label="Cluster",
    )


def _explained(clusters: Sequence[Cluster]) -> str:
    trials = sum(len(cluster.trials) for cluster in clusters)
    least = min(clusters, key=lambda cluster: cluster.time.explained)
    text = f"n = {counted(trials, 'trial')}. Explained: {least.time.explained:.1%}"
    text += f" (minimum, {least.label}). " if len(clusters) > 1 else ". "
    if any(not cluster.own for cluster in clusters):
        text += "For foreign recordings only the trials are known; pauses of more than a minute "
        text += "between trials are not counted."
    return text.strip()


def _faster_clock(clusters: Sequence[Cluster]) -> list[str]:
    fast = [c for c in clusters if abs(c.time.total_s - c.time.clock_s) > 1]
    return [
        f"By the clock {c.label} took {c.time.clock_s:.0f} s: its simulated nodes ran faster than "
        f"the clock, and their time is scaled to {c.time.total_s:.0f} s in total."
        for c in fast
    ]


def _trial_name(trial: TrialTime) -> str:
    again = f" (attempt {trial.attempt})" if trial.attempt > 1 else ""
    return f"{trial.trial}: {short_name(trial.tag)}{again}"


_Rows = Sequence[tuple[str, Mapping[str, float], float]]


def _wall_figure(
    draft: Draft,
    key: str,
    title: str,
    rows: _Rows,
    *,
    caption: str,
    cluster: Cluster | None = None,
) -> Figure:
    names = _unique([name for name, _, _ in rows])
    parts = [part for part in PARTS if any(seconds[part] > 0 for _, seconds, _ in rows)]
    bars = [
        (name, part, seconds[part], seconds[part] / total if total else 0.0, PARTS.index(part))
        for name, (_, seconds, total) in zip(names, rows, strict=True)
        for part in parts
        if seconds[part] > 0
    ]
    draft.data[key] = {
        "row": [bar[0] for bar in bars],
        "part": [bar[1] for bar in bars],
        "seconds": [round(bar[2], 3) for bar in bars],
        "share": [round(bar[3], 5) for bar in bars],
        "rank": [bar[4] for bar in bars],
    }
    mark = mark_of(cluster) if cluster else draft.mark
    table = make_table(
        "Wall time breakdown",
        ("Bar", "Total (s)#", *(f"{part} (s)#" for part in parts)),
        [
            [name, f"{total:.1f}", *(f"{seconds[part]:.1f}" for part in parts)]
            for name, (_, seconds, total) in zip(names, rows, strict=True)
        ],
        mark,
    )
    return Figure(key, title, wall_bars(key, names, parts, mark), [key], caption,
                  marks=len(bars), provenance=mark, table=table,
                  choice=cluster.label if cluster else "")  # fmt: skip


def _unique(names: Sequence[str]) -> list[str]:
    """Make names unique: a second one of a kind gets a number."""
    seen: Counter[str] = Counter()
    unique = []
    for name in names:
        seen[name] += 1
        unique.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return unique


def _phases(draft: Draft) -> list[PageTable]:
    """Return the phases of this project's runs with their waits, by the runner's clock."""
    rows = []
    for recording in draft.tables.recordings:
        for phase in recording.folder.phases if recording.folder else ():
            name = phase.phase.value + (f", attempt {phase.attempt}" if phase.attempt > 1 else "")
            took = (phase.ended_at - phase.started_at).total_seconds()
            rows.append([recording.run, name, f"{took:.1f}", phase.error or ""])
            rows += [
                [recording.run, f"– {step.name}",
                 f"{(step.ended_at - step.started_at).total_seconds():.1f}", ""]
                for step in phase.steps
            ]  # fmt: skip
    names = ("Run", "Phase, and its waits", "Duration (s)#", "Error")
    return [make_table("Wall time of each phase", names, rows, draft.mark)] if rows else []


def machines(draft: Draft) -> list[Section]:
    """Return the section on time and price, if one study ran on several machine types."""
    rows = priced_alike(draft.clusters)
    if not rows:
        return []
    draft.data["machines"] = {
        "cluster": [cluster.label for cluster, _ in rows],
        "machine": [f"{cluster.nodes} × {cluster.machine_type}" for cluster, _ in rows],
        "minutes": [round(cluster.trials_s / 60, 2) for cluster, _ in rows],
        "usd": [round(usd, 3) for _, usd in rows],
    }
    table = make_table(
        "Wall time and price of the same study on different machines",
        ("Cluster", "Machine", "Wall time (s)#", "Price (USD)#"),
        [[c.label, c.machine_type, f"{c.trials_s:.0f}", f"{usd:.2f}"] for c, usd in rows],
        draft.mark,
    )
    figure = Figure(
        "machine-points",
        "Machine types: time and price",
        machine_points(draft.mark),
        ["machines"],
        f"n = {len(rows)} clusters. List prices on demand, us-central1; lower left is better.",
        provenance=draft.mark,
        table=table,
    )
    return [Section("machines", "Machine types and price", figures=[figure])]
