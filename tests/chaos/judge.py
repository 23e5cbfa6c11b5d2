"""Compares a run with the faults injected in it: each must show as its row of the table says.

A cell that no injected fault allows to be anything else must be valid.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from statistics import median

from rehearsal.faults.faults import Fault, node_number
from schema.errors import ExitCode
from schema.events import name_time
from schema.run_records import Phase, Source, Status
from tests.chaos.outcome import Cell, Injection, Outcome

_EARLY = timedelta(seconds=2.5)
"""The ledger accepts a node's condition two seconds after a trial: a kubelet reports it late."""
_CLOCK_TOLERANCE_S = 10.0
"""By which a busy machine delays events at most."""
_DOUBLED = (Status.REPEATED, Status.CACHED)
"""The second pod pulls too, unless it asks for the image after the first one's pull has ended."""
_SAME = ("image", "tag", "layers", "image_bytes", "nodes", "status", "reason")

Check = Callable[[Outcome, Injection], object]


@dataclass(frozen=True)
class Row:
    """How a run must show a fault."""

    check: Check
    """True where records beside the cell's status show it."""
    statuses: tuple[Status, ...] = (Status.VALID,)
    """The affected cell must have one of these, with a reason if it is not valid."""
    nearby: bool = False
    """The node's other cells may have these statuses too, from shortly before the fault on."""


def _always(_: Outcome, __: Injection) -> bool:
    return True


def _sources(fault: Fault) -> list[Source]:
    return {
        "both": [Source.WATCH, Source.EXPORTER],
        "watch": [Source.WATCH],
        "exporter": [Source.EXPORTER],
        "logging": [Source.EXPORTER],
    }[fault.word("source")]


def _unseen(outcome: Outcome, injection: Injection) -> bool:
    """No lost event is recorded, and the loss of a single source is counted."""
    uid, sources = injection.details["uid"], _sources(injection.fault)
    lost = sum(r.sources[s].lost for r in outcome.evidence for s in sources if s in r.sources)
    seen = set(outcome.cells[injection.cell].sources.get(injection.details["reason"], ()))
    return (
        not any(outcome.records_of(uid, source) for source in sources)
        and not seen & set(sources)
        and (lost > 0 or len(sources) > 1)
    )


def _twice(outcome: Outcome, injection: Injection) -> bool:
    counted = sum(s.repeated for record in outcome.evidence for s in record.sources.values())
    uid = injection.details["uid"]
    return counted > 0 and all(
        len(outcome.records_of(uid, source)) > 1 for source in _sources(injection.fault)
    )


def _late(outcome: Outcome, injection: Injection) -> bool:
    wait = timedelta(seconds=injection.fault.number("s"))
    for source in _sources(injection.fault):
        records = outcome.records_of(injection.details["uid"], source)
        at = name_time(str(records[0].event["metadata"]["name"])) if records else None
        if at is None or records[0].received_at - at < wait:
            return False
    return True


def _gap(source: Source, word: str = "") -> Check:
    return lambda outcome, _: any(g.source is source and word in g.reason for g in outcome.gaps)


def _expired(outcome: Outcome, injection: Injection) -> bool:
    """A watch of events that expires loses nothing and is no gap; another is one."""
    is_gap = bool(_gap(Source.WATCH, "410")(outcome, injection))
    return is_gap != (injection.fault.word("resource") == "events")


def _loss_counted(outcome: Outcome, injection: Injection) -> bool:
    """The ledger's loss is that which the cluster's end records, but for 1 % or one event."""
    if outcome.code == ExitCode.EVENT_SOURCE_DOWN or "lost" not in injection.details:
        return True
    real, counted = int(injection.details["lost"]), 0
    for record in outcome.evidence:
        count = record.sources.get(Source.EXPORTER)
        counted += count.lost if count else record.sources[Source.WATCH].seen
    return real > 0 and abs(counted - real) <= max(1.0, 0.01 * int(injection.details["events"]))


def _retried(outcome: Outcome, injection: Injection) -> object:
    fault = injection.fault
    status = "no answer" if fault.how == "reset" else f"{fault.number('status'):.0f}"
    return re.search(rf"requests to the API server retried \(.*\b{status}: \d", outcome.log)


def _release_took(outcome: Outcome, injection: Injection) -> bool:
    """Every pod of the trial waited from release to its binding as long as the fault."""
    waits = _waits_for_binding(outcome, injection)
    return bool(waits) and min(waits) >= 0.8 * injection.fault.number("ms") / 1000


def _release_went_on(outcome: Outcome, injection: Injection) -> bool:
    """Every pod of the trial was bound while the fault lasted."""
    waits = _waits_for_binding(outcome, injection)
    return bool(waits) and max(waits) < injection.fault.number("s")


def _waits_for_binding(outcome: Outcome, injection: Injection) -> list[float]:
    return [
        (cell.phases.scheduled_at - cell.phases.released_at).total_seconds()
        for at, cell in outcome.cells.items()
        if at[0] == injection.cell[0] and cell.phases.scheduled_at and cell.phases.released_at
    ]


def _slow(outcome: Outcome, injection: Injection) -> bool:
    trial, node = injection.cell
    peers = [c.pull_s for (t, n), c in outcome.cells.items() if t == trial and n != node]
    usual = median(seconds for seconds in peers if seconds)
    pull_s = outcome.cells[injection.cell].pull_s or 0
    return pull_s > injection.fault.number("factor") / 2 * usual


def _clock_named(outcome: Outcome, injection: Injection) -> bool:
    ahead_s = injection.fault.number("minutes") * 60
    return any(
        node_number(node) == injection.cell[1] and abs(offset_s + ahead_s) < _CLOCK_TOLERANCE_S
        for record in outcome.evidence
        for node, offset_s in record.clock_offsets_s.items()
    )


def _lost_from_then_on(outcome: Outcome, injection: Injection) -> bool:
    cells = _node_cells(outcome, injection, early=timedelta())
    return all(outcome.cells[at].status is Status.NODE_LOST for at in cells)


def _collected(outcome: Outcome, _: Injection) -> bool:
    phases = [phase for phase in outcome.phases if phase.phase is Phase.COLLECT]
    complete = bool(outcome.evidence) and all(record.complete for record in outcome.evidence)
    return complete and bool(phases) and all(phase.error is None for phase in phases)


def _doubled(outcome: Outcome, injection: Injection) -> bool:
    to = injection.cell[0], int(injection.fault.number("to"))
    return outcome.cells[to].status in _DOUBLED


def _resumed(outcome: Outcome, _: Injection) -> bool:
    return _whole(outcome) and 2 in {cell.attempt for cell in outcome.cells.values()}


def _provision_took(outcome: Outcome, injection: Injection) -> bool:
    took = [p.ended_at - p.started_at for p in outcome.phases if p.phase is Phase.PROVISION]
    return bool(took) and max(took) >= timedelta(seconds=injection.fault.number("s"))


def _whole(outcome: Outcome) -> bool:
    return bool(outcome.cells) and outcome.valid == set(outcome.cells)


_LOST = Row(_lost_from_then_on, (Status.NODE_LOST,), nearby=True)
_FAILED = (Status.FAILED, Status.RETRIED)
TABLE: dict[tuple[str, str], Row] = {
    ("event", "lost"): Row(_unseen),
    ("event", "twice"): Row(_twice),
    ("event", "late"): Row(_late),
    ("exporter", "restart"): Row(_gap(Source.EXPORTER)),
    ("exporter", "defaults"): Row(_loss_counted),
    ("logging", "429"): Row(_collected),
    ("logging", "token"): Row(_collected),
    ("watch", "closed"): Row(_gap(Source.WATCH, "closed")),
    ("watch", "410"): Row(_expired),
    ("api-away", ""): Row(_gap(Source.WATCH, "closed")),
    ("api", "error"): Row(_retried),
    ("api", "reset"): Row(_retried),
    ("api", "slow"): Row(_release_took),
    ("google", "error"): Row(lambda outcome, _: _whole(outcome)),
    ("operation", "stuck"): Row(_provision_took),
    ("pull", "404"): Row(_always, (Status.FAILED,)),
    ("pull", "429"): Row(_always, _FAILED),
    ("pull", "down"): Row(_always, _FAILED),
    ("cached-image", ""): Row(_always, (Status.CACHED,)),
    ("node-deleted", ""): _LOST,
    ("node-not-ready", ""): Row(_always, (Status.NODE_LOST,), nearby=True),
    ("node-slow", ""): Row(_slow),
    ("node-clock", ""): Row(_clock_named),
    ("disk-full", ""): Row(_always, (Status.EVICTED, Status.DISK_PRESSURE), nearby=True),
    ("two-pods", ""): Row(_doubled, (Status.ABORTED,)),
    ("scheduler-stalled", ""): Row(_release_went_on),
    ("process-killed", ""): Row(_resumed),
}
"""By kind and variant."""


def row_of(injection: Injection) -> Row:
    fault = injection.fault
    row = TABLE[fault.name, fault.how]
    pulled = injection.details.get("reason") in {"Pulling", "Pulled"}
    if (fault.name, fault.how) == ("event", "lost") and pulled and fault.word("source") == "both":
        return Row(row.check, (Status.MISSING_EVENTS,))
    return row


def missed(outcome: Outcome, requested: tuple[str, ...]) -> Iterator[str]:
    """Yield the requested faults that were not injected, or that the run does not show."""
    for text in requested:
        injections = [each for each in outcome.injections if each.fault.text == text]
        if not injections:
            yield f"{text}: not injected"
        for each in injections:
            row, cell = row_of(each), outcome.cells.get(each.cell)
            in_cell = each.cell[0] == 0 or each.cell[1] == 0  # of the run or of a trial
            if cell is not None:
                reason = bool(cell.reason) or cell.status is Status.VALID
                in_cell = cell.status in row.statuses and reason
            if not in_cell or not row.check(outcome, each):
                status = cell.status if cell else "no cell"
                yield f"{text}: {status}, not: {each.fault.kind.shows} ({each.cell} {each.details})"


def invented(outcome: Outcome) -> Iterator[str]:
    """Yield the excluded cells that no injected fault allows."""
    allowed: set[tuple[Cell, Status]] = set()
    for each in outcome.injections:
        row = row_of(each)
        cells = {each.cell} | (_node_cells(outcome, each, early=_EARLY) if row.nearby else set())
        allowed |= {(at, status) for at in cells for status in row.statuses}
        if each.fault.name == "two-pods":
            to = each.cell[0], int(each.fault.number("to"))
            allowed |= {(to, status) for status in _DOUBLED}
    for at, cell in sorted(outcome.cells.items()):
        if cell.status is not Status.VALID and (at, cell.status) not in allowed:
            yield f"invented: {at}: {cell.status}: {cell.reason}"


def differences(outcome: Outcome, undisturbed: Outcome) -> Iterator[str]:
    """Yield where the tables differ in cells that are valid here and in an undisturbed run."""
    for at in sorted(set(undisturbed.cells) - set(outcome.cells)):
        yield f"{at}: the cell is missing"
    for at in sorted(outcome.valid & undisturbed.valid):
        ours, theirs = outcome.rows.get(at, {}), undisturbed.rows.get(at, {})
        for name in _SAME:
            if ours.get(name) != theirs.get(name):
                yield f"{at}: {name} is {ours.get(name)!r}, not {theirs.get(name)!r}"


def _node_cells(outcome: Outcome, injection: Injection, *, early: timedelta) -> set[Cell]:
    """Return the node's cells whose pull ended after the fault, or this much earlier."""
    return {
        at
        for at, cell in outcome.cells.items()
        if at[1] == injection.cell[1]
        and not (cell.phases.pulled_at and cell.phases.pulled_at < injection.at - early)
    }
