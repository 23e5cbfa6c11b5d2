"""A recorded study as the questions need it: clusters, pulls and times. Reads tables.py."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from analysis.ask.effects import Pulls, to_pulls
from analysis.judge.cells import image_parts
from analysis.judge.wall_time import TrialTime, WallTime
from analysis.read.load_runs import Recording
from analysis.read.provenance import kind_of
from analysis.tables import Tables

EMPTY_FROM = 20
"""Unpacked bytes per compressed byte from which an image counts as almost empty."""

CLUSTER_VIEW = """
CREATE OR REPLACE TEMP VIEW cluster AS
SELECT rec, run, stack,
    nodes || CASE WHEN nodes = 1 THEN ' node' ELSE ' nodes' END
        || CASE WHEN count(*) OVER (PARTITION BY run, nodes) > 1 THEN ' · ' || stack ELSE '' END
        || CASE WHEN (SELECT count(DISTINCT run) > 1 AND count(*) > count(DISTINCT nodes)
                FROM stack)
            THEN ' · ' || run ELSE '' END
        AS cluster
FROM stack
"""
"""View (rec, run, stack, cluster); `cluster` is a unique label such as '16 nodes · size-16 · run1'.
"""

_PULLS = """
SELECT p.rec, p.node, p.image, p.pull_s, p.pull_and_wait_s, c.status = 'valid' AS valid
FROM studied_pull AS p
LEFT JOIN cell AS c ON c.rec = p.rec AND c.image = p.image AND c.node = p.node
    AND c.pod_uid = p.object_uid
WHERE p.outcome = 'pulled' AND p.pull_s IS NOT NULL
ORDER BY p.rec, p.image, p.node, p.ended_ns, p.object_uid
"""

_IMAGES = """
SELECT rec, image, median(image_bytes) AS image_bytes, median(received_bytes) AS received_bytes,
    coalesce(median(written_bytes), median(disk_bytes)) AS written_bytes
FROM cell GROUP BY ALL ORDER BY ALL
"""

_STREAMED = """
SELECT DISTINCT e.rec FROM event AS e JOIN studied AS s ON s.rec = e.rec
WHERE e.reason = 'ImageStreaming' AND contains(e.message, s.image)
    AND contains(e.message, 'backed by')
"""


@dataclass(frozen=True)
class Image:
    """An image of the study.

    Attributes:
        name: as the events name it.
        registry: host of its registry.
        tag: identifies the same image in two registries.
        layers: as the tag claims, None if it claims none.
        unpacked_bytes: bytes on the disk: the tag's claim, at a rehearsal's scale.
        wire_bytes: compressed bytes as the kubelet reported, None if it did not.
        received_bytes: bytes that a node received during the trial, by its own counter; None if
            unknown.
        written_bytes: bytes that it wrote to its disk, by its own counter, or else the growth of
            its image disk; None if unknown.
    """

    name: str
    registry: str
    tag: str
    layers: int | None
    unpacked_bytes: float | None
    wire_bytes: float | None
    received_bytes: float | None = None
    written_bytes: float | None = None

    @property
    def label(self) -> str:
        """The tag, or the last part of a name without one."""
        return self.tag or self.name.rpartition("/")[2]

    @property
    def moved_bytes(self) -> float | None:
        """Bytes over the network in one pull: as nodes counted them, else the compressed bytes."""
        return self.received_bytes if self.received_bytes is not None else self.wire_bytes

    @property
    def stored_bytes(self) -> float | None:
        """Bytes to the disk in one pull: as nodes counted them, else the unpacked bytes."""
        return self.written_bytes if self.written_bytes is not None else self.unpacked_bytes


@dataclass(frozen=True)
class Cluster:
    """A recorded cluster.

    Attributes:
        label: name on the page.
        study: what was run: the study's name, or the name of the recording's run.
        nodes: size of the cluster.
        provenance: 'measured', or what was not.
        streaming: its images were streamed.
        own: it is a run of this project, whose phases are known.
        valid: pulls of valid cells.
        every: all successful pulls; of several on a node the mean.
        time: where its wall time went, by trial and together.
        images: those of the study, by name.
    """

    label: str
    run: str
    stack: str
    study: str
    nodes: int
    machine_type: str
    provenance: str
    streaming: bool
    own: bool
    valid: Pulls
    every: Pulls
    time: WallTime
    images: dict[str, Image]

    @property
    def kind(self) -> str:
        """The kind of data; only clusters of one kind are compared (provenance.kind_of)."""
        return kind_of(self.provenance)

    @property
    def measured(self) -> bool:
        """Whether it was a measurement, not a rehearsal."""
        return self.provenance == "measured"

    @property
    def trials(self) -> tuple[TrialTime, ...]:
        """Times of the trials, in their order."""
        return self.time.trials

    @property
    def trials_s(self) -> float:
        """How long the trials took, with the gaps between them, but without long pauses."""
        return sum(trial.total_s for trial in self.trials)

    @property
    def pulling_s(self) -> float:
        """Seconds of that in pulls: a lower bound for the trials."""
        return sum(trial.parts["pull"] for trial in self.trials)

    @property
    def trials_usd(self) -> float | None:
        """USD for the cluster while the trials ran; None without a price."""
        costs = [trial.usd for trial in self.trials]
        return sum(cost for cost in costs if cost is not None) if None not in costs else None


def emptiest(clusters: Sequence[Cluster]) -> Image | None:
    """Return the image with the most unpacked bytes per compressed one, if at least EMPTY_FROM."""
    images = [image for cluster in clusters for image in cluster.images.values()]
    worst = max(images, key=emptiness, default=None)
    return worst if worst is not None and emptiness(worst) >= EMPTY_FROM else None


def emptiness(image: Image) -> float:
    """Return unpacked bytes per compressed byte; 0 if either is unknown."""
    if not image.unpacked_bytes or not image.wire_bytes:
        return 0.0
    return image.unpacked_bytes / image.wire_bytes


def load_clusters(tables: Tables) -> list[Cluster]:
    """Return all recorded clusters, by study and size; creates the view `cluster`."""
    tables.database.execute(CLUSTER_VIEW)
    recordings = {(r.run, r.stack): r for r in tables.recordings}
    streamed = {row["rec"] for row in tables.rows(_STREAMED)}
    pulls: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for row in tables.rows(_PULLS):
        pulls[row["rec"]].append(row)
    images: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for row in tables.rows(_IMAGES):
        images[row["rec"]].append(row)
    query = "SELECT * FROM stack JOIN cluster USING (rec, run, stack) ORDER BY run, nodes, stack"
    clusters = [
        _cluster(
            row,
            recordings.get((row["run"], row["stack"])),
            pulls[row["rec"]],
            images[row["rec"]],
            time=tables.times[row["rec"]],
            streaming=row["rec"] in streamed,
        )
        for row in tables.rows(query)
    ]
    return sorted(clusters, key=lambda c: (c.study, c.nodes, c.run, c.stack))


def _cluster(
    row: dict[str, Any],
    recording: Recording | None,
    pulls: list[dict[str, Any]],
    images: list[dict[str, Any]],
    *,
    time: WallTime,
    streaming: bool,
) -> Cluster:
    scale = recording.scale if recording else 1.0
    study = recording.folder.record.study.name if recording and recording.folder else row["run"]
    every = [(pull["node"], pull["image"], pull["pull_s"]) for pull in pulls]
    valid = [(pull["node"], pull["image"], pull["pull_s"]) for pull in pulls if pull["valid"]]
    return Cluster(
        label=row["cluster"],
        run=row["run"],
        stack=row["stack"],
        study=study,
        nodes=row["nodes"],
        machine_type=row["machine_type"],
        provenance=row["provenance"],
        streaming=streaming,
        own=bool(recording and recording.folder and recording.folder.phases),
        valid=to_pulls(row["nodes"], valid),
        every=to_pulls(row["nodes"], every),
        time=time,
        images={image["image"]: _image(image, scale) for image in images},
    )


def _image(row: dict[str, Any], scale: float) -> Image:
    name = row["image"]
    repository, tag, layers, size = image_parts(name)
    return Image(
        name=name,
        registry=repository.partition("/")[0],
        tag=tag,
        layers=layers,
        unpacked_bytes=size * scale if size is not None else None,
        wire_bytes=row["image_bytes"],
        received_bytes=row["received_bytes"],
        written_bytes=row["written_bytes"],
    )


def priced_alike(clusters: Sequence[Cluster]) -> list[tuple[Cluster, float]]:
    """Return (cluster, USD while its trials ran) of studies that ran on several machine types.

    Only clusters of one size and kind are paired; clusters without a price are left out.
    """
    priced = [(c, c.trials_usd) for c in clusters if c.trials and c.machine_type]
    types: dict[tuple[str, int, str], set[str]] = defaultdict(set)
    for cluster, usd in priced:
        if usd is not None:
            types[cluster.study, cluster.nodes, cluster.kind].add(cluster.machine_type)
    return [
        (cluster, usd)
        for cluster, usd in priced
        if usd is not None and len(types[cluster.study, cluster.nodes, cluster.kind]) > 1
    ]


_TIMELINE = """
WITH placed AS (
    SELECT cells.*, speed, own_s, epoch(coalesce(scheduled_at, pulling_at)) + shift_s AS bound,
        bound - min(bound) OVER () AS scheduled, scheduled + epoch(pulling_at) - epoch(
            coalesce(scheduled_at, pulling_at)) AS pulling
    FROM cells JOIN stack USING (run, stack) JOIN trial_time USING (rec, trial)
    WHERE run = ? AND stack = ?
),
pulls AS (  -- a second on a node that runs N times faster than the clock counts N
    SELECT *, pulling + speed * epoch(pulled_at - pulling_at) AS pulled FROM placed
),
starts AS (
    SELECT *, pulled + speed * epoch(started_at - pulled_at) AS started FROM pulls
),
ended AS (  -- of a foreign recording the completion of the Job is all that there is
    SELECT *, started + coalesce(running_s, started_to_complete_s) AS finished FROM starts
)
SELECT node, coalesce(nullif(tag, ''), image) AS image, status,
    round(scheduled, 2) AS scheduled, round(pulling, 2) AS pulling, round(pulled, 2) AS pulled,
    round(started, 2) AS started, round(least(started + own_s, finished), 2) AS ran,
    round(finished, 2) AS finished,
    round(waiting_s, 3) AS waiting_s, round(pull_s, 3) AS pull_s
FROM ended ORDER BY node, image, ended.scheduled LIMIT ?
"""


def timeline_of(tables: Tables, cluster: Cluster, most: int) -> dict[str, list[Any]]:
    """Return at most `most` cells of a cluster as columns, sorted by node, image and time.

    Columns: node, image, status; scheduled, pulling, pulled, started, ran (the program ended) and
    finished (the container ended), in seconds since the first pod was bound; waiting_s, pull_s.
    Where simulated nodes run faster than the clock, the seconds are those that the run represents.
    """
    result = tables.database.execute(_TIMELINE, [cluster.run, cluster.stack, most])
    names = [column[0] for column in result.description or ()]
    rows = result.fetchall()
    return {name: [row[i] for row in rows] for i, name in enumerate(names)}
