"""What is wrong with a recorded study: findings with counts, and a grade for each recording.

Looks for what measured studies were found to suffer from (docs/method.md). It judges evidence, not
people: a finding says how many, of how many, and what it spoils.
"""

import csv
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from analysis.answers import EMPTY_FROM
from analysis.study_data import Cluster, load_clusters
from analysis.tables import OutputError, Tables

GRADES = "ABCDF"
_SHARES = (0.95, 0.8, 0.6, 0.3)
"""Shares of valid cells from which on a recording has A, B, C, D."""

_ORDERED = 0.9
_LEAST_IMAGES = 3
_WAITED_S = 1.0
_LOST_SHARE = 0.01

GRADE_RULE = (
    "A: at least 95 % of the cells are valid; B 80 %, C 60 %, D 30 %, F below. One grade less "
    "where more than 1 % of the events of the study's pods were lost, and one less "
    "where images came in the order of their size without repetition."
)


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that spoils, or may spoil, a study's numbers.

    Attributes:
        kind: short name, the same for the same trouble everywhere.
        severity: 'spoils' (numbers are wrong or missing), 'weakens' (they may be), 'note'.
        count: how many.
        of: of how many; None where that means nothing.
        text: one sentence.
    """

    run: str
    stack: str
    kind: str
    severity: str
    count: int
    of: int | None
    text: str


@dataclass(frozen=True)
class Audit:
    """A recording's findings and grade."""

    run: str
    stack: str
    label: str
    provenance: str
    cells: int
    valid: int
    grade: str
    findings: tuple[Finding, ...]


_COUNTS = """
WITH bound AS (
    SELECT p.rec, p.object_uid, p.node, p.pod, j.image
    FROM pod AS p JOIN (
        SELECT DISTINCT rec, job_uid, image FROM studied_pull WHERE job_uid <> ''
    ) AS j USING (rec, job_uid)
),
known AS (
    SELECT rec, object_uid FROM bound UNION SELECT rec, object_uid FROM studied_pull
),
steps AS (
    SELECT k.rec, k.object_uid,
        count(*) FILTER (e.reason = 'Scheduled') > 0 AS scheduled,
        count(*) FILTER (e.reason = 'Pulling') > 0 AS pulling,
        count(*) FILTER (e.reason = 'Pulled' AND e.cached IS NOT TRUE) > 0 AS pulled,
        count(*) FILTER (e.reason = 'Pulled' AND e.cached) > 0 AS cached,
        count(*) FILTER (e.reason = 'Created') > 0 AS created,
        count(*) FILTER (e.reason = 'Started') > 0 AS started,
        count(*) FILTER (e.reason IN ('Failed', 'BackOff')) > 0 AS failed
    FROM known AS k JOIN event AS e USING (rec, object_uid) GROUP BY ALL
),
lost AS (
    SELECT rec, count(*) AS pods,
        count(*) FILTER (pulling) AS pulling,
        count(*) FILTER (pulled) AS pulled,
        count(*) FILTER (NOT pulling AND NOT cached) AS no_pulling,
        count(*) FILTER (pulling AND NOT pulled AND NOT cached AND NOT failed) AS no_pulled,
        count(*) FILTER (pulled AND NOT pulling) AS only_pulled,
        count(*) FILTER (NOT failed) AS sound,
        sum((NOT scheduled)::INT + (NOT cached AND NOT pulling)::INT
            + (NOT cached AND NOT pulled)::INT + (NOT created)::INT + (NOT started)::INT)
            FILTER (NOT failed) AS missing
    FROM steps GROUP BY rec
),
completions AS (
    SELECT rec, sum(pods) AS pods FROM (
        SELECT rec, job_uid, max(regexp_extract(pod, '-([0-9]+)-[a-z0-9]{5}$', 1)::INT) + 1 AS pods
        FROM pod WHERE regexp_matches(pod, '-[0-9]+-[a-z0-9]{5}$')
            AND (rec, job_uid) IN (SELECT (rec, job_uid) FROM studied_pull WHERE job_uid <> '')
        GROUP BY ALL
    ) GROUP BY rec
),
pulls AS (
    SELECT rec,
        count(*) FILTER (outcome = 'pulled') AS real_pulls,
        count(*) FILTER (outcome = 'cached') AS cached,
        count(*) FILTER (outcome = 'pulled' AND pull_and_wait_s - pull_s > $waited) AS waited,
        max(pull_and_wait_s - pull_s) AS longest_wait,
        count(DISTINCT node) FILTER (outcome = 'pulled') AS nodes_pulled,
        count(DISTINCT image) FILTER (NOT contains(image, '@sha256:')) AS mutable,
        count(DISTINCT image) AS images,
        sum(failed) FILTER (turn = 1) AS failed
    FROM studied_pull GROUP BY rec
),
twice AS (
    SELECT rec, count(*) AS cells, sum(n - 1) AS surplus FROM (
        SELECT rec, image, node, repetition, count(*) AS n FROM studied_pull
        WHERE outcome = 'pulled' GROUP BY ALL HAVING count(*) > 1
    ) GROUP BY rec
),
moved AS (
    SELECT rec, count(*) AS images FROM (
        SELECT rec, image FROM studied_pull WHERE image_bytes IS NOT NULL
        GROUP BY ALL HAVING count(DISTINCT image_bytes) > 1
    ) GROUP BY rec
),
trouble AS (
    SELECT rec,
        count(*) FILTER (reason = 'Evicted') AS evicted,
        count(*) FILTER (reason IN ('NodeHasDiskPressure', 'EvictionThresholdMet')) AS pressure,
        count(*) FILTER (reason IN ('FreeDiskSpaceFailed', 'ImageGCFailed')) AS collected,
        count(*) FILTER (reason = 'NodeNotReady') AS lost_nodes,
        count(*) FILTER (clock = 'first-seen' AND kind = 'Pod') AS coarse, count(*) AS events
    FROM event GROUP BY rec
),
judged AS (
    SELECT rec, count(*) AS cells, count(*) FILTER (status = 'valid') AS valid,
        max(repetition) AS repetitions,
        count(*) FILTER (status = 'missing-events' AND pod IS NULL) AS no_pull
    FROM cell GROUP BY rec
),
listed AS (SELECT rec, count(*) AS all_nodes FROM stack_nodes GROUP BY rec)
SELECT s.rec, s.run, s.stack, s.nodes, s.provenance, c.cluster, lost.* EXCLUDE (rec),
    completions.pods AS expected, pulls.* EXCLUDE (rec), twice.cells AS twice,
    twice.surplus, moved.images AS moved, trouble.* EXCLUDE (rec), judged.* EXCLUDE (rec), all_nodes
FROM stack AS s JOIN cluster AS c USING (rec)
LEFT JOIN lost USING (rec) LEFT JOIN completions USING (rec) LEFT JOIN pulls USING (rec)
LEFT JOIN twice USING (rec) LEFT JOIN moved USING (rec) LEFT JOIN trouble USING (rec)
LEFT JOIN judged USING (rec) LEFT JOIN listed USING (rec)
ORDER BY s.run, s.nodes, s.stack
"""

_SAME_EVENTS = """
SELECT a.run AS run, a.stack AS stack, b.run AS other, b.stack AS other_stack, count(*) AS n
FROM (SELECT s.run, s.stack, rec, uid FROM event JOIN stack AS s USING (rec)) AS a
JOIN (SELECT s.run, s.stack, rec, uid FROM event JOIN stack AS s USING (rec)) AS b
    ON a.uid = b.uid AND a.rec < b.rec
GROUP BY ALL ORDER BY ALL
"""

_Row = dict[str, Any]


def audit(tables: Tables) -> list[Audit]:
    """Examine each recording."""
    clusters = {(c.run, c.stack): c for c in load_clusters(tables)}
    same = tables.rows(_SAME_EVENTS)
    result = tables.database.execute(_COUNTS, {"waited": _WAITED_S})
    names = [column[0] for column in result.description or ()]
    audits = []
    for values in result.fetchall():
        row: _Row = {n: 0 if v is None else v for n, v in zip(names, values, strict=True)}
        cluster = clusters[row["run"], row["stack"]]
        findings = [*_found(row, cluster), *_copies(row, same), *_lines(row, tables)]
        audits.append(
            Audit(
                row["run"],
                row["stack"],
                row["cluster"],
                row["provenance"],
                row["cells"],
                row["valid"],
                _grade(row, cluster),
                tuple(sorted(findings, key=lambda f: _SEVERITIES.index(f.severity))),
            )
        )
    return audits


_SEVERITIES = ("spoils", "weakens", "note")


def _grade(row: _Row, cluster: Cluster) -> str:
    if not row["cells"]:
        return "F"
    share = row["valid"] / row["cells"]
    place = next((i for i, least in enumerate(_SHARES) if share >= least), len(_SHARES))
    place += _lost_events(row) > _LOST_SHARE * max(1, 5 * row["sound"])
    place += _confounded(row, cluster)
    return GRADES[min(place, len(GRADES) - 1)]


def _lost_events(row: _Row) -> int:
    """Events that pods of the study must have had: missing steps, and pods without any."""
    unseen = max(0, int(row["expected"]) - int(row["pods"]))
    return int(row["missing"]) + 5 * unseen


def _order(cluster: Cluster) -> float:
    """Rank correlation (Spearman) of an image's turn with its size; 0 with too few images."""
    sizes = [
        cluster.images[turn.image].unpacked_bytes or cluster.images[turn.image].wire_bytes
        for turn in sorted(cluster.turns, key=lambda turn: turn.begin_s)
    ]
    known = [size for size in sizes if size]
    if len(set(known)) < _LEAST_IMAGES:
        return 0.0
    ranks = np.unique(known, return_inverse=True)[1].astype(float)
    return float(np.corrcoef(np.arange(len(ranks)), ranks)[0, 1])


def _confounded(row: _Row, cluster: Cluster) -> bool:
    return row["repetitions"] <= 1 and abs(_order(cluster)) >= _ORDERED


def _found(row: _Row, cluster: Cluster) -> Iterable[Finding]:
    def finding(kind: str, severity: str, count: int, of: int | None, text: str) -> Finding:
        return Finding(row["run"], row["stack"], kind, severity, int(count), of, text)

    for check in _CHECKS:
        yield from check(row, cluster, finding)


_Make = Callable[[str, str, int, "int | None", str], Finding]


def _nodes(row: _Row, _: Cluster, finding: _Make) -> Iterable[Finding]:
    idle = row["all_nodes"] - row["nodes_pulled"]
    if idle > 0:
        yield finding(
            "idle-nodes", "spoils", idle, row["all_nodes"],
            f"{idle} of {row['all_nodes']} nodes never pulled an image of the study: the cluster "
            "is in truth smaller than it is called.",
        )  # fmt: skip
    if row["all_nodes"] and row["nodes"] != row["all_nodes"]:
        yield finding(
            "node-count", "weakens", row["all_nodes"], row["nodes"],
            f"The recording is called {row['nodes']} nodes and names {row['all_nodes']}.",
        )  # fmt: skip
    if row["lost_nodes"]:
        yield finding(
            "node-lost", "weakens", row["lost_nodes"], None,
            f"Nodes became not ready {row['lost_nodes']} times.",
        )  # fmt: skip


def _cells(row: _Row, _: Cluster, finding: _Make) -> Iterable[Finding]:
    if row["twice"]:
        yield finding(
            "repeated-pulls", "spoils", row["surplus"], row["real_pulls"],
            f"{row['surplus']} of {row['real_pulls']} pulls repeat a node that had pulled the "
            f"image ({row['twice']} cells): they are not independent, and they slowed each other.",
        )  # fmt: skip
    if row["no_pull"]:
        yield finding(
            "cells-without-pull", "spoils", row["no_pull"], row["cells"],
            f"{row['no_pull']} of {row['cells']} cells (image on node) have no recorded pull.",
        )  # fmt: skip
    if row["cached"]:
        yield finding(
            "cached-pulls", "weakens", row["cached"], row["real_pulls"] + row["cached"],
            f"{row['cached']} pods found their image on the node: nothing was pulled.",
        )  # fmt: skip
    if row["failed"]:
        yield finding(
            "failed-pulls", "spoils", row["failed"], None,
            f"{row['failed']} attempts at pulling failed; a later success is no clean measurement.",
        )  # fmt: skip


def _lost(row: _Row, _: Cluster, finding: _Make) -> Iterable[Finding]:
    lost = _lost_events(row)
    if row["only_pulled"] or row["no_pulling"]:
        share = row["no_pulling"] / max(1, row["pods"])
        yield finding(
            "pulled-without-pulling", "spoils", row["no_pulling"], row["pods"],
            f"{share:.0%} of the pods that must have pulled have no Pulling event "
            f"({row['only_pulled']} have a Pulled): events were lost.",
        )  # fmt: skip
    if row["no_pulled"]:
        yield finding(
            "pulling-without-pulled", "spoils", row["no_pulled"], row["pods"],
            f"{row['no_pulled']} pulls were begun and have no recorded end.",
        )  # fmt: skip
    if lost:
        yield finding(
            "lost-events", "spoils", lost, None,
            f"About {lost} events of the study's pods are missing, five being expected of each "
            f"pod ({max(int(row['expected']), int(row['pods']))} pods).",
        )  # fmt: skip


def _disk(row: _Row, _: Cluster, finding: _Make) -> Iterable[Finding]:
    if row["evicted"]:
        yield finding("evictions", "spoils", row["evicted"], None,
                      f"{row['evicted']} pods were evicted.")  # fmt: skip
    if row["pressure"]:
        yield finding("disk-pressure", "spoils", row["pressure"], None,
                      f"Nodes were short of disk ({row['pressure']} events).")  # fmt: skip
    if row["collected"]:
        yield finding(
            "garbage-collection", "weakens", row["collected"], None,
            f"Kubelets tried to remove images {row['collected']} times and found too little: disks "
            "were nearly full, and which layers stayed is unknown.",
        )  # fmt: skip


def _method(row: _Row, cluster: Cluster, finding: _Make) -> Iterable[Finding]:
    if row["waited"]:
        yield finding(
            "waiting", "weakens", row["waited"], row["real_pulls"],
            f"{row['waited']} pulls waited behind other pulls of their node, the longest "
            f"{row['longest_wait']:.0f} s: pull and pull with waiting must not be mixed.",
        )  # fmt: skip
    if row["mutable"]:
        yield finding(
            "mutable-tags", "weakens", row["mutable"], row["images"],
            f"{row['mutable']} of {row['images']} images are named by tag alone: nothing proves "
            "that every node pulled the same bytes.",
        )  # fmt: skip
    if row["moved"]:
        yield finding(
            "moved-tags", "spoils", row["moved"], row["images"],
            f"{row['moved']} images had different sizes on different nodes: their tag moved.",
        )  # fmt: skip
    order = _order(cluster)
    if _confounded(row, cluster):
        way = "ascending" if order > 0 else "descending"
        yield finding(
            "confounded-order", "weakens", row["images"], None,
            f"Images came once and in {way} order of size (rank correlation {order:.2f}): size "
            "cannot be told from time, a filling disk or a warming cache.",
        )  # fmt: skip
    elif row["repetitions"] <= 1 and row["images"]:
        yield finding(
            "no-repetition", "note", 1, None,
            "Each image had one turn: how much a turn differs from the next is unknown.",
        )  # fmt: skip
    empty = [
        i for i in cluster.images.values()
        if i.unpacked_bytes and i.wire_bytes and i.unpacked_bytes / i.wire_bytes >= EMPTY_FROM
    ]  # fmt: skip
    if empty:
        ratio = max((i.unpacked_bytes or 0) / (i.wire_bytes or 1) for i in empty)
        yield finding(
            "empty-images", "spoils", len(empty), len(cluster.images),
            f"{len(empty)} images are almost empty, up to {ratio:.0f} times smaller on the wire "
            "than on the disk: they measure unpacking and the disk, never the network.",
        )  # fmt: skip
    if row["coarse"]:
        yield finding(
            "coarse-clock", "note", row["coarse"], row["events"],
            f"{row['coarse']} events carry whole seconds only.",
        )  # fmt: skip


def _nothing(row: _Row, _: Cluster, finding: _Make) -> Iterable[Finding]:
    if not row["cells"]:
        yield finding(
            "nothing-measured", "spoils", 0, None, "No pull of a study's image was recorded."
        )


_CHECKS: Sequence[Callable[[_Row, Cluster, _Make], Iterable[Finding]]] = (
    _nothing,
    _nodes,
    _cells,
    _lost,
    _disk,
    _method,
)


def _copies(row: _Row, same: Sequence[_Row]) -> Iterable[Finding]:
    for pair in same:
        if (pair["run"], pair["stack"]) == (row["run"], row["stack"]):
            other = f"{pair['other']}/{pair['other_stack']}".rstrip("/")
            yield Finding(
                row["run"], row["stack"], "copied-events", "spoils", pair["n"], None,
                f"{pair['n']} events are in {other} too: one recording was counted twice.",
            )  # fmt: skip


def _lines(row: _Row, tables: Tables) -> Iterable[Finding]:
    files = {
        str(file)
        for recording in tables.recordings
        if recording.run == row["run"] and recording.stack in {"", row["stack"]}
        for file in recording.files
    }
    discarded = sum(tables.notes.total("discarded", file) for file in files)
    unreadable = sum(tables.notes.total("unreadable", file) for file in files)
    if discarded:
        yield Finding(
            row["run"], row["stack"], "discarded-events", "spoils", discarded, None,
            f"The exporter itself says that it dropped {discarded} events as too old "
            "(maxEventAgeSeconds).",
        )  # fmt: skip
    if unreadable:
        yield Finding(
            row["run"], row["stack"], "unreadable-lines", "weakens", unreadable, None,
            f"{unreadable} lines or parts of lines cannot be read; notes.csv lists them.",
        )  # fmt: skip


def write_findings(audits: Sequence[Audit], path: Path) -> Path:
    """All findings as CSV, a row each.

    Raises:
        OutputError: the file cannot be written.
    """
    names = ("run", "stack", "provenance", "grade", "cells", "valid", "kind", "severity", "count",
             "of", "text")  # fmt: skip
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(names)
            for one in audits:
                known = (one.run, one.stack, one.provenance, one.grade, one.cells, one.valid)
                for f in one.findings:
                    of = "" if f.of is None else f.of
                    writer.writerow([*known, f.kind, f.severity, f.count, of, f.text])
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error}.", "name another folder") from None
    return path
