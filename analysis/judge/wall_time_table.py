"""The wall time of every recording, and the time and cost of each trial. Reads cells.py.

A run of this project has records of it; for a foreign recording the timestamps of each Job's last
pod are collected here from the events. wall_time.py does the accounting. Creates the table
`trial_time` (rec, trial, trial_s, trial_usd, shift_s).
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import duckdb

from analysis.judge.trial_moments import Moments
from analysis.judge.wall_time import TrialTime, WallTime, account, run_wall_time
from analysis.read.bulk import make_table
from analysis.read.load_runs import Recording
from analysis.read.machines import usd_per_hour

_JOBS = """
WITH made AS (
    SELECT rec, object_uid AS job_uid, min(at_ns) AS staged_ns FROM event
    WHERE kind = 'Job' AND reason = 'SuccessfulCreate' GROUP BY ALL
),
turn AS (
    SELECT p.rec, p.image, p.job_uid,
        arg_max(
            struct_pack(node, scheduled_ns, begun_ns, ended_ns, created_ns, started_ns, outcome),
            (coalesce(started_ns, 0), coalesce(ended_ns, 0), coalesce(begun_ns, 0), object_uid)
        ) AS last
    FROM studied_pull AS p GROUP BY ALL
)
SELECT t.rec, c.trial, t.image, last.node, made.staged_ns, last.scheduled_ns,
    CASE WHEN last.outcome = 'cached' THEN last.ended_ns ELSE last.begun_ns END AS pulling_ns,
    last.ended_ns AS pulled_ns, last.started_ns,
    coalesce(job.complete_ns, last.started_ns, last.ended_ns) AS known_ns,
    last.outcome = 'failed' AS failed
FROM turn AS t
JOIN (SELECT rec, image, min(trial) AS trial FROM cell GROUP BY ALL) AS c USING (rec, image)
LEFT JOIN made USING (rec, job_uid)
LEFT JOIN job USING (rec, job_uid)
ORDER BY t.rec, known_ns, t.image, t.job_uid
"""

_TRIAL_TIME = {
    "rec": "whole",
    "trial": "whole",
    "trial_s": "real",
    "trial_usd": "real",
    "shift_s": "real",
}


def derive_times(
    database: duckdb.DuckDBPyConnection, recordings: Sequence[Recording]
) -> dict[int, WallTime]:
    """Return the wall time of every recording by rec; creates the table trial_time."""
    known = {(recording.run, recording.stack): recording for recording in recordings}
    turns: dict[int, list[Moments]] = defaultdict(list)
    for rec, trial, image, node, *moments, failed in database.execute(_JOBS).fetchall():
        turns[rec].append(_moments(trial, image, node, moments, failed=failed))
    times = {}
    stacks = database.execute("SELECT rec, run, stack, nodes, machine_type FROM stack").fetchall()
    for rec, run, stack, nodes, machine_type in stacks:
        recording = known.get((run, stack))
        if recording and recording.folder and recording.folder.phases:
            folder = recording.folder
            times[rec] = run_wall_time(
                folder.record, folder.phases, folder.trials, folder.every_cell, folder.evidence
            )
        else:
            price = usd_per_hour(machine_type)
            rate = price * nodes if price is not None and nodes else None
            times[rec] = account(turns[rec], usd_per_hour=rate)
    make_table(database, "trial_time", _TRIAL_TIME, _rows(times, known_attempts(database)))
    return times


def known_attempts(database: duckdb.DuckDBPyConnection) -> dict[tuple[int, int], int]:
    """Return by (rec, trial) the attempt that the cells of the trial come from."""
    rows = database.execute("SELECT rec, trial, max(attempt) FROM cell GROUP BY ALL").fetchall()
    return {(rec, trial): attempt for rec, trial, attempt in rows}


def _rows(
    times: Mapping[int, WallTime], attempts: Mapping[tuple[int, int], int]
) -> Iterator[tuple[Any, ...]]:
    for rec, time in times.items():
        by_trial: dict[int, list[TrialTime]] = defaultdict(list)
        for one in time.trials:
            if attempts.get((rec, one.trial)) == one.attempt:
                by_trial[one.trial].append(one)
        for trial, mine in by_trial.items():
            costs = [one.usd for one in mine if one.usd is not None]
            usd = sum(costs) if costs else None
            yield rec, trial, sum(one.total_s for one in mine), usd, mine[0].shift_s


def _moments(
    trial: int, image: str, node: str, moments: Sequence[int | None], *, failed: bool
) -> Moments:
    staged, scheduled, pulling, pulled, started, known = (
        None if moment is None else moment / 1e9 for moment in moments
    )
    return Moments(
        trial=trial,
        attempt=1,
        image=image,
        node=node,
        staged_s=staged,
        scheduled_s=scheduled,
        pulling_s=pulling,
        pulled_s=pulled,
        started_s=started,
        ended_s=known,
        known_s=known,
        failed=failed,
    )
