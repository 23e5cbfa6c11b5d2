"""What is wrong with a recorded study: findings with counts, and a grade for each recording.

The checks look for defects that were found in measured studies (docs/method.md). A finding gives
a count, a total and its consequence.
"""

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from analysis.ask.audit_checks import Finding, Recorded, Row, confounded, found, lost_events
from analysis.ask.questions.slowest import excluded_ratio, slow_nodes
from analysis.ask.samples import emptiness, samples_of, trial_order
from analysis.frames import Frames
from analysis.tables import OutputError, Tables
from schema.inert import csv_cell

GRADES = "ABCDF"
_SHARES = (0.95, 0.8, 0.6, 0.3)
"""Least shares of valid cells for the grades A, B, C, D."""

_WAITED_S = 1.0
_LOST_SHARE = 0.01

GRADE_RULE = (
    "A: at least 95 % of the cells are valid; B: 80 %, C: 60 %, D: 30 %, F: fewer. One grade lower "
    "if more than 1 % of the events of the study's pods were lost, and one lower if images were "
    "pulled in order of size without repetition. B at best with a finding that spoils."
)


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
bound_pod AS (
    SELECT k.rec, k.object_uid, bool_or(e.reason = 'Scheduled') AS scheduled
    FROM known AS k JOIN event AS e USING (rec, object_uid) GROUP BY ALL
),
steps AS (  -- of each container; what has no container's name is about a volume, or all are so
    SELECT k.rec, k.object_uid, e.container,
        bool_or(e.reason = 'Pulling') AS pulling,
        bool_or(e.reason = 'Pulled' AND e.cached IS NOT TRUE) AS pulled,
        bool_or(e.reason = 'Pulled' AND e.cached IS TRUE) AS cached,
        bool_or(e.reason = 'Created') AS created,
        bool_or(e.reason = 'Started') AS started,
        bool_or(e.reason IN ('Failed', 'BackOff')) AS failed
    FROM known AS k JOIN event AS e USING (rec, object_uid)
    WHERE e.reason IN ('Pulling', 'Pulled', 'Created', 'Started', 'Failed', 'BackOff')
        AND NOT starts_with(e.container, 'spec.initContainers')
    GROUP BY ALL
),
containers AS (
    SELECT rec, object_uid, scheduled,
        coalesce(pulling, false) AS pulling, coalesce(pulled, false) AS pulled,
        coalesce(cached, false) AS cached, coalesce(created, false) AS created,
        coalesce(started, false) AS started, coalesce(failed, false) AS failed,
        container = '' AND count(*) OVER (PARTITION BY rec, object_uid) > 1 AS volume,
        row_number() OVER (PARTITION BY rec, object_uid ORDER BY failed, container) = 1 AS first
    FROM bound_pod LEFT JOIN steps USING (rec, object_uid)
),
lost AS (
    SELECT rec, count(*) FILTER (first) AS pods, count(*) AS containers,
        count(*) FILTER (NOT pulling AND NOT cached) AS no_pulling,
        count(*) FILTER (pulling AND NOT pulled AND NOT cached AND NOT failed) AS no_pulled,
        count(*) FILTER (pulled AND NOT pulling) AS only_pulled,
        sum(first::INT + CASE WHEN volume THEN 2 ELSE 4 END) FILTER (NOT failed) AS due,
        sum((first AND NOT scheduled)::INT + (NOT cached AND NOT pulling)::INT
            + (NOT cached AND NOT pulled)::INT
            + (NOT volume AND NOT created)::INT + (NOT volume AND NOT started)::INT)
            FILTER (NOT failed) AS missing
    FROM containers GROUP BY rec
),
named AS (
    SELECT rec, job_uid, max(regexp_extract(pod, '-([0-9]+)-[a-z0-9]{5}$', 1)::INT) + 1 AS pods
    FROM pod WHERE regexp_matches(pod, '-[0-9]+-[a-z0-9]{5}$')
        AND (rec, job_uid) IN (SELECT (rec, job_uid) FROM studied_pull WHERE job_uid <> '')
    GROUP BY ALL
),
completions AS (  -- the last pods of a Job may have no event: use what is usual for the cluster
    SELECT rec, sum(greatest(pods, usual)) AS pods
    FROM named JOIN (SELECT rec, mode(pods) AS usual FROM named GROUP BY rec) USING (rec)
    GROUP BY rec
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
sizes AS (  -- of images by tag; an index by digest has a size for each architecture
    SELECT rec, count(*) FILTER (most > 1) AS moved, count(*) FILTER (most = 1) AS differ FROM (
        SELECT rec, image, count(DISTINCT image_bytes) AS sizes FROM studied_pull
        WHERE image_bytes IS NOT NULL AND NOT contains(image, '@sha256:') GROUP BY ALL
    ) JOIN (
        SELECT rec, image, max(sizes) AS most FROM (
            SELECT rec, image, count(DISTINCT image_bytes) AS sizes FROM studied_pull
            WHERE image_bytes IS NOT NULL GROUP BY rec, image, node
        ) GROUP BY ALL
    ) USING (rec, image)
    WHERE sizes > 1 GROUP BY rec
),
trouble AS (
    SELECT rec,
        count(*) FILTER (reason = 'Evicted') AS evicted,
        count(*) FILTER (reason IN ('NodeHasDiskPressure', 'EvictionThresholdMet')) AS pressure,
        count(*) FILTER (reason IN ('FreeDiskSpaceFailed', 'ImageGCFailed')) AS collected,
        count(*) FILTER (reason = 'NodeNotReady') AS lost_nodes,
        count(*) FILTER (clock = 'first-seen' AND kind = 'Pod') AS coarse,
        count(*) FILTER (clock = 'name' AND kind = 'Pod') AS by_name, count(*) AS events
    FROM event GROUP BY rec
),
judged AS (
    SELECT rec, count(*) AS cells, count(*) FILTER (status IN ('valid', 'preloaded')) AS valid,
        -- One image whose Job ran twice by mistake does not make a study with repetitions.
        count(DISTINCT (image, repetition)) / count(DISTINCT image) AS repetitions,
        count(*) FILTER (status = 'missing-events' AND pod IS NULL) AS no_pull
    FROM cell GROUP BY rec
),
listed AS (SELECT rec, count(*) AS all_nodes FROM stack_nodes GROUP BY rec)
SELECT s.rec, s.run, s.stack, s.nodes, s.provenance, lost.* EXCLUDE (rec),
    completions.pods AS expected, pulls.* EXCLUDE (rec), twice.cells AS twice,
    twice.surplus, sizes.* EXCLUDE (rec), trouble.* EXCLUDE (rec), judged.* EXCLUDE (rec), all_nodes
FROM stack AS s
LEFT JOIN lost USING (rec) LEFT JOIN completions USING (rec) LEFT JOIN pulls USING (rec)
LEFT JOIN twice USING (rec) LEFT JOIN sizes USING (rec) LEFT JOIN trouble USING (rec)
LEFT JOIN judged USING (rec) LEFT JOIN listed USING (rec)
ORDER BY s.rec
"""

_SAME_EVENTS = """
SELECT a.run AS run, a.stack AS stack, b.run AS other, b.stack AS other_stack, count(*) AS n
FROM (SELECT s.run, s.stack, rec, uid FROM event JOIN stack AS s USING (rec)) AS a
JOIN (SELECT s.run, s.stack, rec, uid FROM event JOIN stack AS s USING (rec)) AS b
    ON a.uid = b.uid AND a.rec < b.rec
GROUP BY ALL ORDER BY ALL
"""


def audit(tables: Tables, frames: Frames) -> list[Audit]:
    """Audit each recording, in the order of the tables' recordings."""
    labels = frames.clusters.set_index(["run", "stack"])["cluster"]
    samples = samples_of(frames)
    same = tables.rows(_SAME_EVENTS)
    kinds = {(r.run, r.stack): {node.architecture for node in r.node_list if node.architecture}
             for r in tables.recordings}  # fmt: skip
    result = tables.database.execute(_COUNTS, {"waited": _WAITED_S})
    names = [column[0] for column in result.description or ()]
    audits = []
    for values in result.fetchall():
        row: Row = {n: 0 if v is None else v for n, v in zip(names, values, strict=True)}
        label = labels[row["run"], row["stack"]]
        cluster = _recorded(frames, samples, label)
        row["alike"] = len(kinds.get((row["run"], row["stack"]), ())) == 1
        findings = [*found(row, cluster), *_copies(row, same), *_lines(row, tables)]
        spoiled = any(f.severity == "spoils" for f in findings)
        audits.append(
            Audit(
                row["run"],
                row["stack"],
                label,
                row["provenance"],
                row["cells"],
                row["valid"],
                _grade(row, cluster, spoiled=spoiled),
                tuple(sorted(findings, key=lambda f: _SEVERITIES.index(f.severity))),
            )
        )
    return audits


def _recorded(frames: Frames, samples: pd.DataFrame, label: str) -> Recorded:
    trials = frames.trials[frames.trials["cluster"] == label]
    images = frames.images[frames.images["cluster"] == label]
    tags = images.set_index("image")["tag"].reindex(trials["image"].drop_duplicates()).dropna()
    ratios = emptiness(images).dropna()
    return Recorded(
        by_size=trial_order(frames, label, "unpacked_bytes")
        or trial_order(frames, label, "wire_bytes"),
        by_layers=trial_order(frames, label, "layers"),
        tags=tuple(tags),
        emptiness=tuple(ratios),
        images=len(images),
        trials_s=float(trials["total_s"].sum()),
        pulling_s=float(trials["pull"].sum()),
        settling_s=float(trials["settling"].sum()),
        excluded=excluded_ratio(frames.pulls[frames.pulls["cluster"] == label]),
        slow=tuple(node for _, node, _ in slow_nodes(samples[samples["cluster"] == label])[0]),
    )


_SEVERITIES = ("spoils", "weakens", "note")


def _grade(row: Row, cluster: Recorded, *, spoiled: bool) -> str:
    if not row["cells"]:
        return "F"
    share = row["valid"] / row["cells"]
    place = next((i for i, least in enumerate(_SHARES) if share >= least), len(_SHARES))
    place += lost_events(row) > _LOST_SHARE * max(1, row["due"])
    place += confounded(row, cluster)
    place = max(place, int(spoiled))
    return GRADES[min(place, len(GRADES) - 1)]


def _copies(row: Row, same: Sequence[Row]) -> Iterable[Finding]:
    for pair in same:
        if (pair["run"], pair["stack"]) == (row["run"], row["stack"]):
            other = f"{pair['other']}/{pair['other_stack']}".rstrip("/")
            yield Finding(
                row["run"], row["stack"], "copied-events", "spoils", pair["n"], None,
                f"{pair['n']} events are also in {other}: one recording was counted twice.",
            )  # fmt: skip


def _lines(row: Row, tables: Tables) -> Iterable[Finding]:
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
            f"The exporter reports that it dropped {discarded} events as too old "
            "(maxEventAgeSeconds).",
        )  # fmt: skip
    if unreadable:
        yield Finding(
            row["run"], row["stack"], "unreadable-lines", "weakens", unreadable, None,
            f"{unreadable} lines or parts of lines could not be read; notes.csv lists them.",
        )  # fmt: skip


def write_findings(audits: Sequence[Audit], path: Path) -> Path:
    """Write all findings as CSV, one row each.

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
                    row = (*known, f.kind, f.severity, f.count, of, f.text)
                    writer.writerow(map(csv_cell, row))
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error}.", "name another folder") from error
    return path
