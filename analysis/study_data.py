"""A recorded study as its questions need it: clusters with their pulls and turns. Reads tables.py.

A turn is one image's go on the whole cluster (a trial): from the binding of its first pod until
its Job was complete.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import zip_longest
from typing import Any

from analysis.cells import image_parts
from analysis.effects import Pulls, to_pulls
from analysis.load_runs import Recording
from analysis.machines import USD_PER_HOUR
from analysis.tables import Tables

PAUSE_S = 60.0
"""A longer gap between two turns is a pause of the people, not a cost of the study."""

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

_PULLS = """
SELECT p.rec, p.node, p.image, p.pull_s, p.pull_and_wait_s, c.status = 'valid' AS valid
FROM studied_pull AS p
LEFT JOIN cell AS c ON c.rec = p.rec AND c.image = p.image AND c.node = p.node
    AND c.pod_uid = p.object_uid
WHERE p.outcome = 'pulled' AND p.pull_s IS NOT NULL
ORDER BY p.rec, p.image, p.node, p.ended_ns, p.object_uid
"""

_TURNS = """
SELECT c.rec, trial, c.image,
    min(least(scheduled_ns, pulling_ns, pulled_ns)) / 1e9 AS begin_s,
    max(greatest(job_complete_ns, finished_ns, started_ns, pulled_ns)) / 1e9 AS end_s,
    max(started_ns) / 1e9 AS started_s,
    max(job_complete_ns) / 1e9 AS complete_s,
    (SELECT max(pull_s) FROM studied_pull AS p
        WHERE p.rec = c.rec AND p.image = c.image AND p.outcome = 'pulled') AS slowest_s,
    median(image_bytes) AS image_bytes
FROM cell AS c
GROUP BY ALL  -- a turn that was interrupted before anything of it ended is none
HAVING begin_s IS NOT NULL AND end_s IS NOT NULL
ORDER BY c.rec, trial
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
        tag: with the repository's name, what is the same image in two registries.
        layers: as the tag claims, None if it claims none.
        unpacked_bytes: bytes that land on the disk: the tag's claim, at a rehearsal's scale.
        wire_bytes: compressed bytes as the kubelet reported, None if it did not.
    """

    name: str
    registry: str
    tag: str
    layers: int | None
    unpacked_bytes: float | None
    wire_bytes: float | None

    @property
    def label(self) -> str:
        """Short name for people."""
        return self.tag or self.name.rpartition("/")[2]


@dataclass(frozen=True)
class Turn:
    """One image's go on a cluster; moments in seconds since 1970."""

    trial: int
    image: str
    begin_s: float
    end_s: float
    started_s: float | None
    complete_s: float | None
    slowest_s: float | None
    """Duration of the longest pull in it."""


@dataclass(frozen=True)
class Cluster:
    """A recorded cluster.

    Attributes:
        label: name on the page.
        study: what was run: the study's name, or the name of the recording's run.
        nodes: size of the cluster.
        provenance: 'measured', or what was not.
        streaming: its images were streamed.
        valid: pulls of valid cells.
        every: all successful pulls; of several on a node the mean.
        turns: in their order.
        images: those pulled here, by name.
    """

    label: str
    run: str
    stack: str
    study: str
    nodes: int
    machine_type: str
    provenance: str
    streaming: bool
    valid: Pulls
    every: Pulls
    turns: tuple[Turn, ...]
    images: dict[str, Image]

    @property
    def measured(self) -> bool:
        """Whether it was a measurement, not a rehearsal."""
        return self.provenance == "measured"

    @cached_property
    def wall_s(self) -> float:
        """How long the turns took, with the gaps between them, but without long pauses."""
        return sum(wall_parts(self).values())

    @cached_property
    def pulling_s(self) -> float:
        """Sum over the turns of the longest pull: what the wall time would be at the least."""
        return sum(turn.slowest_s or 0.0 for turn in self.turns)


def load_clusters(tables: Tables) -> list[Cluster]:
    """All recorded clusters, by study and size."""
    tables.database.execute(CLUSTER_VIEW)
    recordings = {(r.run, r.stack): r for r in tables.recordings}
    streamed = {row["rec"] for row in tables.rows(_STREAMED)}
    pulls: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for row in tables.rows(_PULLS):
        pulls[row["rec"]].append(row)
    turns: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for row in tables.rows(_TURNS):
        turns[row["rec"]].append(row)
    query = "SELECT * FROM stack JOIN cluster USING (rec, run, stack) ORDER BY run, nodes, stack"
    clusters = [
        _cluster(
            row,
            recordings.get((row["run"], row["stack"])),
            pulls[row["rec"]],
            turns[row["rec"]],
            streaming=row["rec"] in streamed,
        )
        for row in tables.rows(query)
    ]
    return sorted(clusters, key=lambda c: (c.study, c.nodes, c.run, c.stack))


def _cluster(
    row: dict[str, Any],
    recording: Recording | None,
    pulls: list[dict[str, Any]],
    turns: list[dict[str, Any]],
    *,
    streaming: bool,
) -> Cluster:
    scale = recording.scale if recording else 1.0
    study = recording.folder.record.study.name if recording and recording.folder else row["run"]
    every = [(pull["node"], pull["image"], pull["pull_s"]) for pull in pulls]
    valid = [(pull["node"], pull["image"], pull["pull_s"]) for pull in pulls if pull["valid"]]
    names = ("trial", "image", "begin_s", "end_s", "started_s", "complete_s", "slowest_s")
    return Cluster(
        label=row["cluster"],
        run=row["run"],
        stack=row["stack"],
        study=study,
        nodes=row["nodes"],
        machine_type=row["machine_type"],
        provenance=row["provenance"],
        streaming=streaming,
        valid=to_pulls(row["nodes"], valid),
        every=to_pulls(row["nodes"], every),
        turns=tuple(Turn(**{name: turn[name] for name in names}) for turn in turns),
        images={turn["image"]: _image(turn["image"], turn["image_bytes"], scale) for turn in turns},
    )


def _image(name: str, wire_bytes: float | None, scale: float) -> Image:
    repository, tag, layers, size = image_parts(name)
    return Image(
        name=name,
        registry=repository.partition("/")[0],
        tag=tag,
        layers=layers,
        unpacked_bytes=size * scale if size is not None else None,
        wire_bytes=wire_bytes,
    )


def wall_parts(cluster: Cluster) -> dict[str, float]:
    """Seconds of the wall time by what they went to; together they are `wall_s`.

    pulling: the longest pull of each turn; settling: from the last container's start until its Job
    was complete, or until the next turn began; starting: the rest of the turns; gaps: between the
    turns, long pauses left out.
    """
    parts = dict.fromkeys(("pulling", "starting", "settling", "gaps"), 0.0)
    turns = sorted(cluster.turns, key=lambda turn: turn.begin_s)
    until = float("-inf")
    for turn, after in zip_longest(turns, turns[1:]):
        begin = max(turn.begin_s, until)
        end = max(begin, turn.end_s if after is None else min(turn.end_s, after.begin_s))
        pulling = min(turn.slowest_s or 0.0, end - begin)
        settling = 0.0
        if turn.started_s is not None and turn.complete_s is not None:
            settling = min(max(0.0, end - turn.started_s), end - begin - pulling)
        parts["pulling"] += pulling
        parts["settling"] += settling
        parts["starting"] += end - begin - pulling - settling
        if 0 < begin - until <= PAUSE_S:
            parts["gaps"] += begin - until
        until = max(until, end)
    return parts


def priced_alike(clusters: Sequence[Cluster]) -> list[tuple[Cluster, float]]:
    """Clusters whose study ran on another machine type too, at the same size, with their price.

    USD of all nodes for the wall time, at list price; clusters of machines without one are left
    out.
    """
    priced = [cluster for cluster in clusters if cluster.machine_type in USD_PER_HOUR]
    types: dict[tuple[str, int, str], set[str]] = defaultdict(set)
    for cluster in priced:
        types[cluster.study, cluster.nodes, cluster.provenance].add(cluster.machine_type)
    return [
        (c, c.wall_s / 3600 * USD_PER_HOUR[c.machine_type] * c.nodes)
        for c in priced
        if len(types[c.study, c.nodes, c.provenance]) > 1
    ]
