"""`load`: what recordings hold, as pandas DataFrames. Everything after judging works on these.

COLUMNS declares every column with its kind and meaning; docs/analysis.md has the same table.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.judge.cells import PHASE_TIMES, image_parts
from analysis.judge.wall_time import PARTS, WallTime
from analysis.read.load_runs import Recording
from analysis.read.provenance import kind_of
from analysis.read.read_records import RunFolder
from analysis.tables import Tables, open_tables
from schema.study import Workload

KINDS = {
    "name": "category",
    "text": "str",
    "whole": "Int64",
    "number": "float64",
    "truth": "boolean",
    "time": "datetime64[ns, UTC]",
}
"""Kind of a column to its pandas dtype; a missing value is NA, NaN or NaT."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a frame; `kind` is a key of KINDS. Seconds end in _s, bytes in _bytes."""

    name: str
    kind: str
    meaning: str


def _declared(text: str) -> tuple[Column, ...]:
    """Read lines of `name kind meaning`."""
    return tuple(Column(*line.split(maxsplit=2)) for line in text.strip().splitlines())


_ORIGIN = """
run name the run's id, or the folder's name
stack name name of the cluster's settings; may be empty
nodes whole cluster size
machine_type name of the nodes; empty if unknown
provenance name `measured`, or what was not real
"""

_ZONE = "zone name of the nodes; empty if unknown"

_IMAGE = """
image name as the events name it
tag name of the image
layers whole as the tag claims
size_bytes whole unpacked bytes as the tag claims
image_bytes whole compressed bytes as the kubelet reported
"""

_PULL = """
pull_s number seconds of the pull, without waiting for other pulls of the node
pull_and_wait_s number the same with waiting
"""

_STATISTICS = "".join(
    f"{prefix}{name}_{statistic} number {statistic} over {what}\n"
    for prefix, what in (("", "all successful pulls"), ("valid_", "valid cells"))
    for name in ("pull_s", "pull_and_wait_s")
    for statistic in ("min", "median", "mean", "p95", "max")
)

_BYTES = """
received_bytes whole growth of the node's network counter during the trial
written_bytes whole growth of the node's disk counter during the trial
disk_bytes whole growth of the node's image disk during the trial
"""

COLUMNS: Mapping[str, tuple[Column, ...]] = {
    "pulls": _declared(
        f"""{_ORIGIN.strip()}
{_ZONE}
file name file with the event
{_IMAGE.strip()}
node name where it ran
pod text name of the pod
pod_uid text uid of the pod
job text name of the Job; empty if unknown
repetition whole which pull of the image on the node, by Job
outcome name pulled, cached, failed or not ended
{_PULL.strip()}
pulling_s number Pulling to Pulled, by the events' clocks
started_at time start of the pull
ended_at time end of the pull
status name of the cell
reason text why the cell is excluded; empty if it is valid"""
    ),
    "cells": _declared(
        f"""{_ORIGIN.strip()}
{_ZONE}
trial whole number of the trial, from 1
repetition whole of the image
{_IMAGE.strip()}
warm_bytes whole compressed bytes of layers that were on the node
cache name whether a remote repository had the image: cold, warm, unproved; empty without one
node name one cell is one image on one node
pod text name of the pod
pod_uid text uid of the pod
cluster_uid name uid of the cluster; several if a run was resumed
status name valid, or the kind of exclusion
reason text why it is excluded
marks text what affected it without excluding it
{_PULL.strip()}
scheduling_s number released to bound
waiting_s number bound to Pulling; of a MiniCluster with init_s
init_s number of a MiniCluster: its init container's start, which copies Flux, to Pulling
pulling_s number Pulling to Pulled
creating_s number Pulled to Created
starting_s number Created to Started
running_s number Started to the container's end
settling_s number the program's end to the container's end
completing_s number the container's end to Job complete
started_to_complete_s number Started to Job complete
fetch_s number all of the pull but unpack_s, by containerd's spans; with it about pull_s
unpack_s number at least one layer was being unpacked
overlap_s number the part of unpack_s in which something was fetched too
read_bytes whole what the pod read of its image's files, if its study reads
reading_s number listing the files and reading them
read_10_s number from the start of reading until a tenth of the bytes was read
read_50_s number until half was read
read_100_s number until all was read
ready_10_s number released to Started, by the runner's and the node's clock, and read_10_s
ready_50_s number the same with read_50_s
ready_100_s number the same with read_100_s
{_BYTES.strip()}
trial_s number seconds of the trial, from the end of the one before
trial_usd number USD of the whole cluster for the trial
usd number the cell's share of it
"""
        + "".join(f"{name}_at time when it was {name}\n" for name in PHASE_TIMES)
    ),
    "summary": _declared(
        f"""{_ORIGIN.strip()}
{_ZONE}
{_IMAGE.strip()}
warm_bytes whole median over cells
n whole successful pulls
nodes_pulled whole nodes with one
cells whole image on node
excluded whole cells that are not valid
valid_n whole valid cells
valid_nodes whole nodes with one
{_STATISTICS.strip()}
{_BYTES.strip()}
ready_10_s_median number median over valid and preloaded cells
ready_50_s_median number the same
ready_100_s_median number the same
trial_s number seconds of the image's trials
usd number USD of the cluster for them"""
    ),
    "events": _declared(
        f"""{_ORIGIN.strip()}
file name where it was read
source name who saw it, joined by +
uid text of the event
reason name such as Pulling
type name Normal or Warning
count whole how often it happened
kind name of the object
namespace name of the object
object text name of the object
object_uid text uid of the object
container name of the pod
component name that reported it
node name where it happened
at time first time
clock name source of `at`: name, event-time or first-seen
last_at time last time
job text of the pod
job_uid text of the pod
image name that the message names
pull_s number seconds that the message states
pull_and_wait_s number the same with waiting
image_bytes whole that the message states
cached truth whether the image was on the node
message text as printed"""
    ),
}
"""The public frames: name to columns."""


@dataclass(frozen=True)
class Frames:
    """Recordings as frames.

    Attributes:
        pulls, cells, summary, events: see COLUMNS.
        clusters: a row per recorded cluster: `cluster` (a unique label such as '16 nodes'), run,
            stack, study, nodes, machine_type, disk, zone, workload, streaming, preloaded, kind,
            provenance, scale, speed and own_s (schema.run_records), own (a run of this project),
            contrasts (that its study names), roofs (schema.run_records.RoofRecord, one a node);
            total_s, clock_s (wall time), explained (share of it).
        images: a row per cluster and image: cluster, image, name (repository:tag, or
            repository@digest), label (its tag, or its name where several images have the tag),
            registry, repository, tag, layers, unpacked_bytes, wire_bytes (compressed),
            received_bytes and written_bytes (counted by nodes); NaN if unknown.
        trials: a row per trial: cluster, trial, attempt, image, node, total_s, usd, shift_s, and
            the seconds of each part of the wall time (wall_time.PARTS).
        wall: cluster, part, seconds.
    """

    pulls: pd.DataFrame
    cells: pd.DataFrame
    summary: pd.DataFrame
    events: pd.DataFrame
    clusters: pd.DataFrame
    images: pd.DataFrame
    trials: pd.DataFrame
    wall: pd.DataFrame


def load(paths: Sequence[Path | str], images: str | None = None) -> Frames:
    """Read recordings and return them as frames.

    Args:
        paths: run folders, folders in the layout of the original study, or files with events.
        images: regular expression of the study's images.

    Raises:
        schema.errors.UserError: an input cannot be read (tables.open_tables).
    """
    with open_tables([Path(path) for path in paths], images) as tables:
        return frames_of(tables, events=True)


def frames_of(tables: Tables, *, events: bool = False) -> Frames:
    """Return open tables as frames; without `events` that frame is empty, to save memory."""
    public = {
        name: typed(tables.frame(name, limit=None if name != "events" or events else 0), columns)
        for name, columns in COLUMNS.items()
    }
    clusters = _clusters(tables)
    names = clusters.set_index(["run", "stack"])["cluster"]
    for frame in public.values():
        keys = pd.MultiIndex.from_frame(frame[["run", "stack"]].astype(str))
        frame.insert(0, "cluster", pd.Categorical(names.reindex(keys), list(clusters["cluster"])))
    labels = dict(zip(clusters["rec"], clusters["cluster"], strict=True))
    times = {labels[rec]: time for rec, time in tables.times.items()}
    return Frames(
        **public,
        clusters=clusters.drop(columns="rec"),
        images=_images(tables, public["cells"], clusters),
        trials=pd.DataFrame(_trials(times), columns=[*_TRIAL, *PARTS]),
        wall=pd.DataFrame(
            [(c, part, s) for c, time in times.items() for part, s in time.parts.items()],
            columns=["cluster", "part", "seconds"],
        ),
    )


def typed(frame: pd.DataFrame, columns: Sequence[Column]) -> pd.DataFrame:
    """Return a frame with exactly these columns, each with the dtype of its kind."""
    found: dict[str, Any] = {}
    for column in columns:
        values = frame[column.name]
        if column.kind == "time":
            found[column.name] = pd.to_datetime(values, utc=True).astype(KINDS["time"])
        elif column.kind in {"name", "text"}:
            found[column.name] = values.astype("str").fillna("").astype(KINDS[column.kind])
        else:
            found[column.name] = values.astype(KINDS[column.kind])
    return pd.DataFrame(found, columns=[column.name for column in columns])


_LABEL = """
SELECT rec, run, stack, nodes, machine_type, zone, provenance, speed, own_s,
    nodes || CASE WHEN nodes = 1 THEN ' node' ELSE ' nodes' END
        || CASE WHEN count(*) OVER (PARTITION BY run, nodes) > 1 THEN ' · ' || stack ELSE '' END
        || CASE WHEN (SELECT count(DISTINCT run) > 1 AND count(*) > count(DISTINCT nodes)
                FROM stack)
            THEN ' · ' || run ELSE '' END
        AS cluster
FROM stack ORDER BY run, nodes, stack
"""

_STREAMED = """
SELECT DISTINCT e.rec FROM event AS e JOIN studied AS s ON s.rec = e.rec
WHERE e.reason = 'ImageStreaming' AND (
        contains(e.message, s.image)
        OR contains(e.message, regexp_replace(s.image, ':[^:@/]+@', '@'))
    )
    AND contains(e.message, 'backed by')
"""


_PRELOADED = "SELECT DISTINCT rec FROM cell WHERE status = 'preloaded'"


def _clusters(tables: Tables) -> pd.DataFrame:
    found = tables.database.execute(_LABEL).df()
    recordings = {(r.run, r.stack): r for r in tables.recordings}
    streamed = {rec for (rec,) in tables.database.execute(_STREAMED).fetchall()}
    preloaded = {rec for (rec,) in tables.database.execute(_PRELOADED).fetchall()}
    facts = [
        _facts(row, recordings.get((row.run, row.stack)), tables.times[row.rec])
        for row in found.itertuples()
    ]
    found["streaming"] = found["rec"].isin(streamed)
    found["preloaded"] = found["rec"].isin(preloaded)
    found["kind"] = [kind_of(provenance) for provenance in found["provenance"]]
    found = pd.concat([found, pd.DataFrame(facts, columns=_FACTS, index=found.index)], axis=1)
    return found.sort_values(["study", "nodes", "run", "stack"], ignore_index=True)


_FACTS = (
    "study", "disk", "workload", "unpacks", "scale", "own", "contrasts", "roofs", "total_s",
    "clock_s",
    "explained",
)  # fmt: skip


def _facts(row: Any, recording: Recording | None, time: WallTime) -> tuple[Any, ...]:
    folder = recording.folder if recording else None
    listed = recording.node_list if recording else ()
    study = folder.record.study if folder else None
    return (
        study.name if study else row.run,
        ",".join(sorted({node.disk for node in listed if node.disk})),
        _workload(folder),
        ",".join(sorted({node.unpacks for node in listed})) or "1",
        recording.scale if recording else 1.0,
        bool(folder and folder.phases),
        tuple(contrast.value for contrast in study.contrasts) if study else (),
        folder.record.roofs if folder else (),
        time.total_s,
        time.clock_s,
        time.explained,
    )


def _workload(folder: RunFolder | None) -> str:
    """Return what ran the images; empty for a recording that does not say."""
    if folder is None:
        return ""
    return Workload.MINICLUSTER if folder.record.view else Workload.JOB


def _images(tables: Tables, cells: pd.DataFrame, clusters: pd.DataFrame) -> pd.DataFrame:
    scale = clusters.set_index("cluster")["scale"].to_dict()
    medians = cells.groupby(["cluster", "image"], observed=True, as_index=False).agg(
        wire_bytes=("image_bytes", "median"),
        received_bytes=("received_bytes", "median"),
        written_bytes=("written_bytes", "median"),
        disk_bytes=("disk_bytes", "median"),
    )
    written = medians.pop("disk_bytes")
    medians["written_bytes"] = medians["written_bytes"].fillna(written)
    planned = {
        trial.image.reference: trial.image
        for recording in tables.recordings
        for trial in (recording.folder.record.trials if recording.folder else ())
    }
    rows = []
    for cluster, image, wire in medians[["cluster", "image", "wire_bytes"]].itertuples(index=False):
        repository, tag, layers, size = image_parts(image)
        plan = planned.get(image)
        known_layers = layers or (len(plan.layers) if plan else None)
        known_wire = wire if pd.notna(wire) else (plan.compressed_bytes if plan else None)
        rows.append(
            (image_name(image), repository.partition("/")[0], repository, tag, known_layers,
             size * scale[cluster] if size is not None else None, known_wire)
        )  # fmt: skip
    names = (
        "name", "registry", "repository", "tag", "layers", "unpacked_bytes", "wire_bytes"
    )  # fmt: skip
    facts = pd.DataFrame(rows, columns=names, index=medians.index)
    numbers = ["layers", "unpacked_bytes", "wire_bytes", "received_bytes", "written_bytes"]
    joined = medians.drop(columns="wire_bytes").join(facts)
    joined["cluster"] = joined["cluster"].astype("str")
    joined["image"] = joined["image"].astype("str")
    shared = joined.groupby("tag")["name"].transform("nunique") > 1
    joined["label"] = joined["name"].where(shared | (joined["tag"] == ""), joined["tag"])
    return joined.astype(dict.fromkeys(numbers, "float64"))


def image_name(image: str) -> str:
    """Return what identifies an image: repository:tag, or repository@digest without a tag."""
    repository, tag, _, _ = image_parts(image)
    return f"{repository}:{tag}" if tag else image


_TRIAL = ("cluster", "trial", "attempt", "image", "node", "total_s", "usd", "shift_s")


def _trials(times: Mapping[str, WallTime]) -> Iterator[tuple[Any, ...]]:
    for cluster, time in times.items():
        for one in time.trials:
            usd = float("nan") if one.usd is None else one.usd
            yield (
                cluster, one.trial, one.attempt, one.image, one.node, one.total_s, usd, one.shift_s,
                *(one.parts[part] for part in PARTS),
            )  # fmt: skip
