"""Judges the attempts of a run from what its folder holds, now or at any later time.

Judging anew adds lines to the ledger; the last line of a cell counts. So entries of Cloud Logging
that come late, or out of the archive, can still make an excluded cell valid, or a valid one not.
"""

from collections.abc import Callable
from datetime import UTC, datetime

from experiment.collect.cloud_logging import Collection, LogReader
from experiment.collect.ledger import Circumstances, make_ledger
from experiment.collect.merge_events import clock_offsets, merge_events, reconcile
from experiment.run_folder import RunFolder
from schema.evidence_records import EvidenceRecord
from schema.run_records import CellRecord, GapRecord, RunRecord, Source, TrialRecord


def judge(
    folder: RunFolder,
    record: RunRecord,
    attempt: int,
    *,
    complete: bool,
    waited_s: float = 0.0,
) -> list[CellRecord]:
    """Put an attempt's recorded trials into the ledger, and how complete their events are.

    Args:
        folder: of the run.
        record: its plan.
        attempt: to judge.
        complete: whether Cloud Logging is known to hold what the watch saw; records can show it.
        waited_s: how long it was waited for.

    Returns:
        The cells; none where the attempt recorded no trial.
    """
    every = folder.trials()
    trials = [trial for trial in every if trial.attempt == attempt]
    if not trials:
        return []
    records = folder.events()
    events = merge_events(records)
    gaps = _gaps_of(folder.gaps(), trials)
    rehearsal = record.rehearsal
    known = Circumstances(
        trials=every,
        removals=folder.removals(),
        remover=record.remover,
        nodes=folder.nodes(),
        jobs=folder.jobs(),
        gaps=gaps,
        scale=rehearsal.scale if rehearsal else 1.0,
        speed=record.speed,
    )
    cells = make_ledger(
        record.run_id,
        record.trials,
        trials,
        events,
        folder.node_names(attempt),
        known=known,
    )
    folder.add_cells(cells)
    exporter = bool(record.outputs and record.outputs.exporter_namespace)
    agreed = reconcile(records, trials, gaps, exporter=exporter)
    offsets = clock_offsets(events)
    folder.add_evidence(
        EvidenceRecord(
            attempt=attempt,
            at=datetime.now(UTC),
            complete=complete or (exporter and agreed.sources[Source.EXPORTER].lost == 0),
            waited_s=waited_s,
            sources=agreed.sources,
            seen_by_several=agreed.seen_by_several,
            seen_by_one=agreed.seen_by_one,
            seen_by_none=agreed.seen_by_none,
            clock_offsets_s={node: offset.total_seconds() for node, offset in offsets.items()},
        )
    )
    return cells


def judge_all(folder: RunFolder, record: RunRecord, *, complete: bool) -> None:
    """Judge every attempt anew."""
    for attempt in sorted({trial.attempt for trial in folder.trials()}):
        judge(folder, record, attempt, complete=complete)


def collect_late(
    folder: RunFolder,
    record: RunRecord,
    timeout_s: float,
    progress: Callable[[int, int], None],
) -> bool:
    """Read Cloud Logging again for all of a run, and judge every attempt anew.

    Args:
        folder: of the run.
        record: its plan and its stack's outputs.
        timeout_s: how long to wait for entries that are still missing.
        progress: told after each reading how many events are there of those expected.

    Returns:
        Whether Cloud Logging now holds every event that the watch saw.

    Raises:
        PreflightError: there are no Google credentials.
        MeasureError: Cloud Logging refused.
    """
    complete = True
    if record.outputs and record.outputs.log_filter:
        reader = LogReader(record.outputs, record.started_at)
        try:
            complete = Collection(folder, reader).run(timeout_s, progress)
        finally:
            reader.close()
    judge_all(folder, record, complete=complete)
    return complete


def _gaps_of(gaps: list[GapRecord], trials: list[TrialRecord]) -> list[GapRecord]:
    """Those that touch the time of these trials."""
    begins = [trial.released_at for trial in trials if trial.released_at]
    ends = [trial.last_finished_at for trial in trials if trial.last_finished_at]
    if not begins:
        return []
    begin, end = min(begins), max([*ends, *begins])
    return [gap for gap in gaps if gap.until >= begin and gap.since <= end]
