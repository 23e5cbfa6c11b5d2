"""Commands about a run's folder: the ledger as a grid, its time, its events read again."""

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from analysis.judge.wall_time import lines, rows, run_wall_time
from experiment.collect.archive import collect_archive
from experiment.collect.cloud_logging import LATE_ENTRIES_S
from experiment.collect.judge import collect_late, judge_all
from experiment.collect.span_file import collect_spans
from experiment.errors import PlanError, cell_failure, ledger_exit_code
from experiment.plan.request import runs_folder
from experiment.run_folder import RunFolder
from experiment.terminal.grid import Reason, columns, legend, reasons, row, short_name, verdict
from experiment.terminal.views import make_console
from schema.inert import visible
from schema.output import Output, OutputRow, print_tables
from schema.run_records import CellRecord, RunRecord, Status

_LABEL_WIDTH = 34
_LONGEST_REASON = 400
_CLOCK_SHOWN_S = 2.0


def show_ledger(run: str, output: Output = Output.TABLE) -> int:
    """Print a run's cells as a grid and why cells are excluded; return the ledger's exit code.

    Raises:
        PlanError: there is no such run, or none of its cells is judged yet.
    """
    folder = RunFolder.open(runs_folder(), run)
    record = folder.read_run()
    cells = folder.last_cells()
    if not cells:
        raise PlanError(
            f"The run {record.run_id} has no judged cells yet.",
            f"pull-study run --resume {record.run_id}",
        )
    if output is not Output.TABLE:
        print_tables(output, _ledger_rows(folder, record, cells))
    else:
        console = make_console()
        _print_grid(console, record, cells)
        for line in _source_lines(folder, record):
            console.print(escape(line), highlight=False, soft_wrap=True)
    return ledger_exit_code(cells)


def _ledger_rows(
    folder: RunFolder, record: RunRecord, cells: Sequence[CellRecord]
) -> dict[str, list[OutputRow]]:
    """Return the ledger's tables by name."""
    notes = [record.sources_note] if record.sources_note else []
    return {
        "cells": [
            {
                "run": cell.run,
                "rehearsal": record.rehearsal.nodes if record.rehearsal else None,
                "trial": cell.trial,
                "repetition": cell.repetition,
                "image": cell.reference,
                "node": cell.node,
                "status": cell.status,
                "failure": cell_failure(cell),
                "reason": cell.reason,
            }
            for cell in cells
        ],
        "sources": [
            {
                "attempt": each.attempt,
                "at": each.at,
                "complete": each.complete,
                "source": source,
                **count.model_dump(),
            }
            for each in folder.evidence()
            for source, count in each.sources.items()
        ],
        "clocks": [
            {"attempt": each.attempt, "node": node, "behind_s": seconds}
            for each in folder.evidence()
            for node, seconds in each.clock_offsets_s.items()
        ],
        "gaps": [gap.model_dump() for gap in folder.gaps()],
        "notes": [{"text": text} for text in (*notes, *record.warnings)],
    }


def _print_grid(console: Console, record: RunRecord, cells: Sequence[CellRecord]) -> None:
    nodes = _nodes(cells)
    by_trial = {
        number: {cell.node: cell.status for cell in own}
        for number, own in groupby(sorted(cells, key=_trial), key=_trial)
    }
    per_column = columns(len(nodes), console.width - _LABEL_WIDTH - 12)
    plain = not console.encoding.lower().startswith("utf")
    rehearsed = f" (a rehearsal: {record.rehearsal.nodes} nodes)" if record.rehearsal else ""
    console.print(
        escape(
            f"Run {record.run_id}{rehearsed}: {len(record.trials)} trials x {len(nodes)} nodes of "
            f"{record.stack}"
        ),
        highlight=False,
        soft_wrap=True,
    )
    for trial in record.trials:
        statuses = by_trial.get(trial.trial, {})
        marks: list[str] = [statuses.get(node, "") for node in nodes]
        valid = sum(status == Status.VALID for status in marks)
        label = f"{trial.trial:>3} {short_name(trial.image)}"
        if record.study.repetitions > 1:
            label += f" #{trial.repetition}"
        text = Text(f"{label[:_LABEL_WIDTH]:<{_LABEL_WIDTH}} ")
        text.append(row(marks, per_column, plain=plain)).append(f" {valid}/{len(nodes)}")
        console.print(text, soft_wrap=True)
    used = {str(cell.status) for cell in cells}
    used |= {""} if len(by_trial) < len(record.trials) else set()
    console.print(escape(legend(sorted(used), per_column, plain=plain)), highlight=False)
    console.print(verdict(cells, len(record.trials) * len(nodes)), highlight=False)
    if excluded := reasons(cells):
        console.print(_reason_table(excluded))


def _reason_table(excluded: Sequence[Reason]) -> Table:
    table = Table(title="Excluded", title_justify="left")
    for name in ("cells", "status", "failure", "reason of the first"):
        table.add_column(name, justify="right" if name == "cells" else "left", overflow="fold")
    for reason in excluded:
        example = escape(visible(reason.example[:_LONGEST_REASON]))  # the table needs its width
        table.add_row(str(reason.cells), reason.status, reason.failure, example)
    return table


def _trial(cell: CellRecord) -> int:
    return cell.trial


def _nodes(cells: Sequence[CellRecord]) -> list[str]:
    """In the order of the ledger; a resumed run may have nodes of several clusters."""
    return list(dict.fromkeys(cell.node for cell in cells))


def show_time(run: str, output: Output = Output.TABLE) -> None:
    """Print where the wall time of a run went.

    Raises:
        PlanError: there is no such run, or no phase of it has ended.
    """
    folder = RunFolder.open(runs_folder(), run)
    record, phases = folder.read_run(), folder.phases()
    if not phases:
        raise PlanError(
            f"No phase of the run {record.run_id} has ended yet.",
            f"pull-study run --resume {record.run_id}",
        )
    shares = run_wall_time(record, phases, folder.trials(), folder.cells(), folder.evidence())
    if output is not Output.TABLE:
        print_tables(output, rows(shares))
        return
    for line in lines(shares):
        typer.echo(line)


def collect_again(
    run: str, *, from_archive: bool, spans: Path | None = None, output: Output = Output.TABLE
) -> int:
    """Read a run's events again, judge its cells again, show the ledger; return its exit code.

    Args:
        run: id or folder.
        from_archive: read the archive bucket instead of Cloud Logging.
        spans: file with the spans of the nodes' containerds, to read first.
        output: of the ledger.

    Raises:
        UserError: there is no such run, another process works on it, or Google refused.
    """
    folder = RunFolder.open(runs_folder(), run)
    with folder.lock():
        if spans:
            for attempt in range(1, folder.last_attempt() + 1):
                if warning := collect_spans(spans, folder, attempt, patient=False):
                    typer.echo(f"Warning: {warning}", err=True)
        _collect_again(folder, from_archive=from_archive)
    return show_ledger(run, output)


def _collect_again(folder: RunFolder, *, from_archive: bool) -> None:
    record = folder.read_run()
    if from_archive:
        new = collect_archive(folder, record)
        typer.echo(f"{new} new events from the archive.", err=True)
        judge_all(folder, record, complete=_was_complete(folder))
    else:
        before = sum(1 for _ in folder.events())
        complete = collect_late(folder, record, LATE_ENTRIES_S, _show_collected)
        new = sum(1 for _ in folder.events()) - before
        if record.existing:
            text = "The cluster has no Cloud Logging: judged again by the watch's events."
        else:
            state = "has every event of the watch" if complete else "still lacks some"
            text = f"{new} new events; Cloud Logging {state}."
        typer.echo(text, err=True)


def _show_collected(found: int, expected: int) -> None:
    """Called after each reading."""
    typer.echo(f"{found} of the {expected} events of the watch are in Cloud Logging", err=True)


def _was_complete(folder: RunFolder) -> bool:
    evidence = folder.evidence()
    return bool(evidence) and evidence[-1].complete


def _source_lines(folder: RunFolder, record: RunRecord) -> list[str]:
    """What each source saw and lost, by attempt as last judged, and warnings."""
    last = {evidence.attempt: evidence for evidence in folder.evidence()}
    lines = [record.sources_note] if record.sources_note else []
    lines += [f"Warning: {warning}" for warning in record.warnings]
    for attempt, evidence in sorted(last.items()):
        counts = "; ".join(
            f"{source} saw {count.seen} and lost {count.lost}"
            + (f", {count.repeated} of them twice" if count.repeated else "")
            for source, count in evidence.sources.items()
        )
        whole = "" if evidence.complete else "; Cloud Logging was not complete in time"
        named = f"Events of attempt {attempt}" if len(last) > 1 else "Events"
        lines.append(
            f"{named}: {counts or 'none'}; {evidence.seen_by_several} seen by several sources, "
            f"{evidence.seen_by_one} by one, {evidence.seen_by_none} by none{whole}."
        )
        lines += [
            f"The clock of {node} is {abs(seconds):.0f} s {'behind' if seconds > 0 else 'ahead'}."
            for node, seconds in evidence.clock_offsets_s.items()
            if abs(seconds) >= _CLOCK_SHOWN_S
        ]
    lines += [
        f"Gap of {(gap.until - gap.since).total_seconds():.1f} s in the source {gap.source} at "
        f"{gap.since:%H:%M:%S}: {gap.reason}."
        for gap in folder.gaps()
    ]
    return lines
