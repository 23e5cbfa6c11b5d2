"""Judges the attempts of a run from what its folder holds, now or at any later time.

Judging again adds lines to the ledger; the last line of a cell counts. So entries of Cloud Logging
that come late, or from the archive, can still make an excluded cell valid, or a valid one not.
"""

from collections.abc import Callable
from contextlib import closing

from experiment.collect.cloud_logging import Collection, LogReader
from experiment.collect.ledger import RunHistory, make_ledger
from experiment.collect.merge_events import index_events, merge_events, reconcile
from experiment.run_folder import RunFolder
from experiment.waiting import now
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
    """Judge an attempt's recorded trials: add their cells and how complete their events are.

    Args:
        folder: of the run.
        record: its plan.
        attempt: to judge.
        complete: whether Cloud Logging is known to hold what the watch saw; records can show it.
        waited_s: how long late entries were waited for.

    Returns:
        The cells; none where the attempt recorded no trial.

    Raises:
        FolderError: the ledger cannot be written.
    """
    all_trials = folder.trials()
    trials = [trial for trial in all_trials if trial.attempt == attempt]
    if not trials:
        return []
    events = index_events(merge_events(folder.events()), trials)
    gaps = _gaps_of(folder.gaps(), trials)
    rehearsal = record.rehearsal
    history = RunHistory(
        trials=all_trials,
        removals=folder.removals(),
        # the remover's pods measure the roofs
        present=[image for image in (record.roofs and record.remover, record.view) if image],
        remover=record.remover,
        nodes=folder.nodes(),
        jobs=folder.jobs(),
        gaps=gaps,
        lists=folder.repository_lists(),
        scale=rehearsal.scale if rehearsal else 1.0,
        speed=record.speed,
        preloaded=bool(record.outputs and record.outputs.preloaded_image),
        shares=record.study.read,
        spans=folder.spans(),
    )
    cells = make_ledger(
        record.run_id,
        record.trials,
        trials,
        events,
        folder.node_names(attempt),
        history=history,
    )
    folder.add(*cells)
    exporter = bool(record.outputs and record.outputs.exporter_deployment)
    no_logging = bool(record.existing)
    reconciled = reconcile(folder.events(), trials, gaps, exporter=exporter)
    folder.add(
        EvidenceRecord(
            attempt=attempt,
            at=now(),
            complete=complete
            or no_logging
            or (exporter and reconciled.sources[Source.EXPORTER].lost == 0),
            waited_s=waited_s,
            sources=reconciled.sources,
            seen_by_several=reconciled.seen_by_several,
            seen_by_one=reconciled.seen_by_one,
            seen_by_none=reconciled.seen_by_none,
            clock_offsets_s={
                node: offset.total_seconds() for node, offset in events.offsets.items()
            },
        )
    )
    return cells


def judge_all(folder: RunFolder, record: RunRecord, *, complete: bool) -> None:
    """Judge every attempt again."""
    for attempt in sorted({trial.attempt for trial in folder.trials()}):
        judge(folder, record, attempt, complete=complete)


def collect_late(
    folder: RunFolder,
    record: RunRecord,
    timeout_s: float,
    progress: Callable[[int, int], None],
) -> bool:
    """Read Cloud Logging again for all of a run, and judge every attempt again.

    Args:
        folder: of the run.
        record: its plan and its stack's outputs.
        timeout_s: how long to wait for entries that are still missing.
        progress: called after each reading with the number of events found and expected.

    Returns:
        Whether Cloud Logging now holds every event that the watch saw.

    Raises:
        PreflightError: there are no Google credentials.
        MeasureError: Cloud Logging refused.
    """
    if not (record.outputs and record.outputs.log_filter):
        judge_all(folder, record, complete=True)
        return True
    complete = False
    try:
        with closing(LogReader(record.outputs, record.started_at)) as reader:
            complete = Collection(folder, reader).run(timeout_s, progress)
    finally:  # also what was read before a refusal counts
        judge_all(folder, record, complete=complete)
    return complete


def _gaps_of(gaps: list[GapRecord], trials: list[TrialRecord]) -> list[GapRecord]:
    """Return the gaps within the time of these trials."""
    begins = [trial.released_at for trial in trials if trial.released_at]
    ends = [trial.last_finished_at for trial in trials if trial.last_finished_at]
    if not begins:
        return []
    begin, end = min(begins), max([*ends, *begins])
    return [gap for gap in gaps if gap.until >= begin and gap.since <= end]
