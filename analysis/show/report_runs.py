"""The report's sections on the runs: timeline, wall time, machines."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pandas as pd

from analysis.frames import image_name
from analysis.judge.wall_time import PARTS
from analysis.show.conditions import differences
from analysis.show.labels import counted, short_name
from analysis.show.page import Figure, PageTable, Section
from analysis.show.report_parts import MOST_ROWS, Draft, columns_of, make_table, mark_of
from analysis.show.run_charts import machine_points, timeline, wall_bars


def timelines(draft: Draft) -> Section:
    """Return the section with a timeline for each cluster."""
    figures = []
    for number, cluster in enumerate(draft.clusters):
        name = f"cells-{number}"
        label = cluster["cluster"]
        cells = _timeline(draft, cluster)
        draft.data[name] = columns_of(cells)
        drawn = int(cells["pulling"].notna().sum())
        if not drawn:
            continue
        nodes = sorted(set(cells["node"]))
        figures.append(
            Figure(
                f"timeline-{number}",
                f"Timeline of each node: {label}",
                timeline(name, nodes, mark_of(cluster)),
                [name],
                f"{drawn:,} cells with a recorded pull. {draft.counted(label)}",
                marks=4 * drawn,
                provenance=mark_of(cluster),
                choice=label,
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


def _timeline(draft: Draft, cluster: pd.Series) -> pd.DataFrame:
    """Return at most MOST_ROWS cells of a cluster, sorted by node, image and time.

    Columns: node, image, status; scheduled, pulling, pulled, started, ran (the program ended) and
    finished (the container ended), in seconds since the first pod was bound; waiting_s, pull_s.
    Where simulated nodes run faster than the clock, the seconds are those that the run represents.
    """
    cells = draft.of(draft.frames.cells, cluster["cluster"])
    trials = draft.of(draft.frames.trials, cluster["cluster"])
    last = trials[trials["attempt"] == trials.groupby("trial")["attempt"].transform("max")]
    shift = cells["trial"].map(last.drop_duplicates("trial").set_index("trial")["shift_s"])
    speed, own_s = cluster["speed"], cluster["own_s"]
    steps = ("scheduled", "pulling", "pulled", "started")
    at = {name: _epoch(cells[f"{name}_at"]) for name in steps}
    bound = at["scheduled"].fillna(at["pulling"])
    scheduled = bound + shift.astype("float64")
    scheduled = scheduled - scheduled.min()
    waiting = cells["waiting_s"].fillna(0.0)  # unknown if the node's clock is off
    pulling = (scheduled + waiting).where(at["pulling"].notna())
    pulled = pulling + speed * (at["pulled"] - at["pulling"])
    started = pulled + speed * (at["started"] - at["pulled"])
    finished = started + cells["running_s"].fillna(cells["started_to_complete_s"])
    ran = started + own_s + cells["reading_s"].fillna(0.0)
    frame = pd.DataFrame(
        {
            "node": cells["node"].astype("str"),
            "image": draft.short_images(cells["image"]),
            "status": cells["status"].astype("str"),
            "scheduled": scheduled.round(2),
            "pulling": pulling.round(2),
            "pulled": pulled.round(2),
            "started": started.round(2),
            "ran": ran.where(~(ran > finished), finished).round(2),
            "finished": finished.round(2),
            "waiting_s": cells["waiting_s"].round(3),
            "pull_s": cells["pull_s"].round(3),
        }
    )
    return frame.sort_values(["node", "image", "scheduled"], ignore_index=True).head(MOST_ROWS)


def _epoch(times: pd.Series) -> pd.Series:
    return (times - pd.Timestamp(0, tz="UTC")).dt.total_seconds()


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
    frames = draft.frames
    clusters = frames.clusters[frames.clusters["total_s"] > 0]
    if clusters.empty:
        return Section("wall", "Wall time", ["No trial has both a start and an end."])
    wall = frames.wall.pivot_table(index="cluster", columns="part", values="seconds", aggfunc="sum")
    together = wall.loc[clusters["cluster"], list(PARTS)]
    caption = _explained(draft, clusters) + differences(draft)
    figures = [_wall_figure(draft, "wall-time", "Wall time breakdown", together, caption=caption)]
    for number, (_, cluster) in enumerate(clusters.iterrows()):
        mine = draft.of(frames.trials, cluster["cluster"])
        if mine.empty:
            continue
        rows = mine[list(PARTS)].set_axis([_trial_name(row) for row in mine.itertuples()])
        figures.append(
            _wall_figure(
                draft,
                f"trials-{number}",
                f"Wall time of each trial: {cluster['cluster']}",
                rows,
                caption=f"n = {counted(len(mine), 'trial')}, each from the end of the previous one "
                "to its own end.",
                cluster=cluster,
            )
        )
    return Section(
        "wall",
        "Wall time",
        [_WALL_TEXT, *_faster_clock(clusters)],
        figures=figures,
        tables=_phases(draft),
        choice_label="Cluster",
    )


def _explained(draft: Draft, clusters: pd.DataFrame) -> str:
    trials = int(draft.frames.trials["cluster"].isin(clusters["cluster"]).sum())
    least = clusters.loc[clusters["explained"].idxmin()]
    text = f"n = {counted(trials, 'trial')}. Explained: {least['explained'] * 100:.1f} %"
    text += f" (minimum, {least['cluster']}). " if len(clusters) > 1 else ". "
    if not clusters["own"].all():
        text += "For foreign recordings only the trials are known; pauses of more than a minute "
        text += "between trials are not counted."
    return text.strip()


def _faster_clock(clusters: pd.DataFrame) -> list[str]:
    fast = clusters[(clusters["total_s"] - clusters["clock_s"]).abs() > 1]
    return [
        f"By the clock {c.cluster} took {c.clock_s:.0f} s: its simulated nodes ran faster than the "
        f"clock, and their time is scaled to {c.total_s:.0f} s in total."
        for c in fast.itertuples()
    ]


def _trial_name(trial: Any) -> str:
    again = f" (attempt {trial.attempt})" if trial.attempt > 1 else ""
    name = image_name(trial.image).rpartition("/")[2]
    return f"{trial.trial}: {short_name(name.rpartition(':')[2])}{again}"


def _wall_figure(
    draft: Draft,
    key: str,
    title: str,
    rows: pd.DataFrame,
    *,
    caption: str,
    cluster: pd.Series | None = None,
) -> Figure:
    """Return a figure of rows of seconds by part, a bar a row."""
    rows = rows.set_axis(_unique(list(rows.index)))
    parts = [part for part in PARTS if (rows[part] > 0).any()]
    totals = rows.sum(axis=1)
    long = rows[parts].rename_axis("row").reset_index().melt("row", var_name="part",
                                                             value_name="seconds")  # fmt: skip
    long["share"] = (long["seconds"] / long["row"].map(totals)).round(5)
    long["seconds"] = long["seconds"].round(3)
    long["rank"] = long["part"].map(PARTS.index)
    bars = long[long["seconds"] > 0]
    draft.data[key] = columns_of(bars)
    mark = draft.mark if cluster is None else mark_of(cluster)
    table = make_table(
        "Wall time breakdown",
        ("Bar", "Total (s)#", *(f"{part} (s)#" for part in parts)),
        [
            [name, f"{totals[name]:.1f}", *(f"{seconds:.1f}" for seconds in row)]
            for name, row in zip(rows.index, rows[parts].to_numpy(), strict=True)
        ],
        mark,
    )
    return Figure(key, title, wall_bars(key, list(rows.index), parts, mark), [key], caption,
                  marks=len(bars), provenance=mark, table=table,
                  choice="" if cluster is None else cluster["cluster"])  # fmt: skip


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
    frames = draft.frames
    spent = frames.trials.groupby("cluster").agg(seconds=("total_s", "sum"), usd=("usd", _all_usd))
    priced = frames.clusters.join(spent, on="cluster").dropna(subset=["usd"])
    priced = priced[priced["machine_type"] != ""]
    types = priced.groupby(["study", "nodes", "kind"])["machine_type"].transform("nunique")
    rows = priced[types > 1]
    if rows.empty:
        return []
    draft.data["machines"] = {
        "cluster": list(rows["cluster"]),
        "machine": [f"{row.nodes} × {row.machine_type}" for row in rows.itertuples()],
        "minutes": [round(seconds / 60, 2) for seconds in rows["seconds"]],
        "usd": [round(usd, 3) for usd in rows["usd"]],
    }
    table = make_table(
        "Wall time and price of the same study on different machines",
        ("Cluster", "Machine", "Wall time (s)#", "Price (USD)#"),
        [
            [r.cluster, r.machine_type, f"{r.seconds:.0f}", f"{r.usd:.2f}"]
            for r in rows.itertuples()
        ],
        draft.mark,
    )
    figure = Figure(
        "machine-points",
        "Machine types: time and price",
        machine_points(draft.mark),
        ["machines"],
        f"n = {len(rows)} clusters. List prices on demand, us-central1; lower left is better."
        + differences(draft),
        provenance=draft.mark,
        table=table,
    )
    return [Section("machines", "Machine types and price", figures=[figure])]


def _all_usd(costs: pd.Series) -> float:
    return float(costs.sum()) if costs.notna().all() else float("nan")
