"""Whether a run found what was done to it: each fault under its name, and nothing else. Pure.

For every kind there is one rule: what of the run must show a strike, and which statuses its cell
may have. A cell that no strike allows to be anything else must be valid.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median

from rehearsal.faults.faults import node_number
from schema.errors import ExitCode
from schema.events import name_time
from schema.run_records import CellRecord, EventRecord, Phase, Source, Status
from tests.chaos.outcome import Cell, Outcome, Strike

_PULL_EVENTS = {"Pulling", "Pulled"}
_LOSS_TOLERANCE = 0.01
_CLOCK_TOLERANCE_S = 10.0
_NEXT_IN_TIME = timedelta(seconds=2.5)


@dataclass(frozen=True)
class Finding:
    """What became of one fault that was asked for."""

    fault: str
    strikes: int
    found: str
    """How the run shows it; empty if it does not show it as it must."""
    wanted: str = ""
    """What was looked for and is not there."""


@dataclass(frozen=True)
class Shown:
    """What a rule found of one strike."""

    how: str
    """Empty if the run does not show it."""
    allowed: dict[Cell, set[Status]]
    """Statuses that a struck cell may have beside valid."""


Rule = Callable[[Outcome, Strike], Shown]


def findings(outcome: Outcome, asked: tuple[str, ...]) -> list[Finding]:
    """What became of each fault that was asked for."""
    return [_finding(outcome, text) for text in asked]


def invented(outcome: Outcome) -> list[str]:
    """Cells that are excluded although nothing that struck them allows it."""
    allowed: dict[Cell, set[Status]] = defaultdict(set)
    for strike in outcome.strikes:
        for cell, statuses in RULES[strike.fault.name](outcome, strike).allowed.items():
            allowed[cell] |= statuses
    return [
        f"trial {at[0]} node {at[1]}: {cell.status}: {cell.reason}"
        for at, cell in sorted(outcome.cells.items())
        if cell.status is not Status.VALID and cell.status not in allowed[at]
    ]


def differences(outcome: Outcome, undisturbed: Outcome) -> list[str]:
    """Where the tables differ from an undisturbed run's in the cells that are valid in both."""
    told: list[str] = []
    same = ("image", "tag", "layers", "image_bytes", "nodes", "status", "reason")
    for at in sorted(outcome.valid & undisturbed.valid):
        ours, theirs = outcome.rows.get(at, {}), undisturbed.rows.get(at, {})
        told += [
            f"{at}: {name} is {ours.get(name)!r}, not {theirs.get(name)!r}"
            for name in same
            if ours.get(name) != theirs.get(name)
        ]
    missing = set(undisturbed.cells) - set(outcome.cells)
    return told + [f"{at}: the cell is not there" for at in sorted(missing)]


def _finding(outcome: Outcome, text: str) -> Finding:
    strikes = [strike for strike in outcome.strikes if strike.fault.text == text]
    if not strikes:
        return Finding(text, 0, "", "it did not strike")
    shown = {RULES[strike.fault.name](outcome, strike).how: strike for strike in strikes}
    if "" in shown:
        kind = strikes[0].fault.kind
        where = f"trial {shown[''].trial} node {shown[''].node} {shown[''].hit}"
        return Finding(text, len(strikes), "", f"{kind.shows} ({where})")
    return Finding(text, len(strikes), "; ".join(sorted(shown)))


def _cell(outcome: Outcome, strike: Strike) -> CellRecord | None:
    return outcome.cells.get(strike.cell)


def _status(*statuses: Status) -> Rule:
    """The struck cell has one of these statuses."""

    def rule(outcome: Outcome, strike: Strike) -> Shown:
        cell = _cell(outcome, strike)
        found = cell is not None and cell.status in statuses and bool(cell.reason)
        return Shown(str(cell.status) if cell and found else "", {strike.cell: set(statuses)})

    return rule


def _valid(how: Callable[[Outcome, Strike, CellRecord], str]) -> Rule:
    """The struck cell is valid, and something else shows the strike."""

    def rule(outcome: Outcome, strike: Strike) -> Shown:
        cell = _cell(outcome, strike)
        valid = cell is not None and cell.status is Status.VALID
        return Shown(how(outcome, strike, cell) if cell and valid else "", {})

    return rule


def _run(how: Callable[[Outcome, Strike], str]) -> Rule:
    """Something of the run as a whole shows the strike, and no cell is excluded for it."""
    return lambda outcome, strike: Shown(how(outcome, strike), {})


def _event_lost(outcome: Outcome, strike: Strike) -> Shown:
    reason, source = strike.hit["reason"], strike.fault.word("source")
    cell = _cell(outcome, strike)
    lost = [Source(source)] if source != "both" else [Source.WATCH, Source.EXPORTER]
    if cell is None or set(lost) & set(cell.sources.get(reason, ())):
        return Shown("", {})
    if any(outcome.records_of(strike.hit["uid"], each) for each in lost):
        return Shown("", {})
    if source == "both" and reason in _PULL_EVENTS:
        return _status(Status.MISSING_EVENTS)(outcome, strike)
    counted = sum(record.sources[each].lost for record in outcome.evidence for each in lost)
    if cell.status is not Status.VALID or (source != "both" and not counted):
        return Shown("", {})
    return Shown(f"valid, not seen by {' and '.join(lost)}", {})


def _duplicated(outcome: Outcome, strike: Strike, _: CellRecord) -> str:
    sources = _sources(strike)
    twice = [each for each in sources if len(outcome.records_of(strike.hit["uid"], each)) > 1]
    counted = sum(each.repeated for record in outcome.evidence for each in record.sources.values())
    return "valid, repeated records counted" if twice == sources and counted else ""


def _late(outcome: Outcome, strike: Strike, _: CellRecord) -> str:
    wanted = timedelta(seconds=strike.fault.number("s"))
    for source in _sources(strike):
        struck = outcome.records_of(strike.hit["uid"], source)
        at = name_time(str(struck[0].event["metadata"]["name"])) if struck else None
        if at is None or struck[0].received_at - at < wanted:
            return ""
    return "valid, received late"


def _out_of_order(outcome: Outcome, strike: Strike, _: CellRecord) -> str:
    for source in _sources(strike):
        struck = outcome.records_of(strike.hit["uid"], source)
        if not struck or not _overtaken(outcome, struck[0]):
            return ""
    return "valid, received after later ones"


def _overtaken(outcome: Outcome, record: EventRecord) -> bool:
    """Whether a later event is recorded before this one."""
    before = outcome.events[: outcome.events.index(record)]
    at = name_time(str(record.event["metadata"]["name"]))
    times = [
        name_time(str(other.event["metadata"]["name"]))
        for other in before
        if other.source is record.source
    ]
    return at is not None and any(time > at for time in times if time)


def _sources(strike: Strike) -> list[Source]:
    asked = strike.fault.word("source")
    return [source for source in (Source.WATCH, Source.EXPORTER) if asked in {source, "both"}]


def _gap(*words: str, source: Source) -> Callable[[Outcome, Strike], str]:
    def how(outcome: Outcome, _: Strike) -> str:
        for gap in outcome.gaps:
            if gap.source is source and all(word in gap.reason for word in words):
                return f"a gap of {source}"
        return ""

    return how


def _loss_is_told(outcome: Outcome, strike: Strike) -> str:
    """The loss that the ledger states is within 1 % of what was truly lost."""
    if outcome.code == ExitCode.EVENT_SOURCE_DOWN:
        return "no event arrives, exit code 19"
    if "lost" not in strike.hit:
        return "struck"  # the moment it began; the cluster's end tells what was lost
    true, told = int(strike.hit["lost"]), 0
    for record in outcome.evidence:
        count = record.sources.get(Source.EXPORTER)
        told += count.lost if count else record.sources[Source.WATCH].seen
    if true == 0 or abs(told - true) > _LOSS_TOLERANCE * int(strike.hit["events"]):
        return ""
    return f"{told} lost are told, {true} of {strike.hit['events']} truly were"


def _repeated_requests(status: str) -> Callable[[Outcome, Strike], str]:
    def how(outcome: Outcome, _: Strike) -> str:
        # by the whole phrase, since the digits of a status may be those of a time
        told = re.search(rf"repeat \d+ requests \(.*\b{status}: \d", outcome.log)
        return "requests repeated, counted in run.log" if told else ""

    return how


def _release_took(outcome: Outcome, strike: Strike) -> str:
    """From release to scheduled every pod of the trial took as long as the fault lasts."""
    values = strike.fault.values
    wanted = float(values["s"]) if "s" in values else float(values["ms"]) / 1000
    waits = [
        (cell.phases.scheduled_at - cell.phases.released_at).total_seconds()
        for (trial, _), cell in outcome.cells.items()
        if trial == strike.trial and cell.phases.scheduled_at and cell.phases.released_at
    ]
    if not waits or min(waits) < 0.8 * wanted:
        return ""
    return "seen from release to scheduled"


def _node_wide(*statuses: Status) -> Rule:
    """The struck cell has one of these statuses, and cells of its node next to it in time may."""

    def rule(outcome: Outcome, strike: Strike) -> Shown:
        shown = _status(*statuses)(outcome, strike)
        allowed = {at: set(statuses) for at in _around(outcome, strike)}
        return Shown(shown.how, {**allowed, **shown.allowed})

    return rule


def _around(outcome: Outcome, strike: Strike) -> set[Cell]:
    """The node's cells from the strike on, and those that ended just before.

    The ledger gives what is told of a node two seconds, since a kubelet tells it late; trials of
    fast simulated nodes follow closer on each other.
    """
    return {
        at
        for at, cell in outcome.cells.items()
        if at[1] == strike.node and not _over_before(cell, strike.at - _NEXT_IN_TIME)
    }


def _over_before(cell: CellRecord, time: datetime) -> bool:
    return cell.phases.pulled_at is not None and cell.phases.pulled_at < time


def _two_pods(outcome: Outcome, strike: Strike) -> Shown:
    other = (strike.trial, int(strike.fault.number("to")))
    allowed = {strike.cell: {Status.ABORTED}, other: {Status.REPEATED}}
    found = all(
        at in outcome.cells and outcome.cells[at].status in statuses
        for at, statuses in allowed.items()
    )
    return Shown("aborted and repeated" if found else "", allowed)


def _gone(outcome: Outcome, strike: Strike) -> Shown:
    """The node's cells are lost from the strike on."""
    around = _around(outcome, strike)
    later = {at for at in around if not _over_before(outcome.cells[at], strike.at)}
    found = later and all(outcome.cells[at].status is Status.NODE_LOST for at in later)
    allowed = {at: {Status.NODE_LOST} for at in around}
    return Shown(f"node-lost in {len(later)} trials" if found else "", allowed)


def _slow_node(outcome: Outcome, strike: Strike, cell: CellRecord) -> str:
    peers = [
        other.pull_s
        for (trial, node), other in outcome.cells.items()
        if trial == strike.trial and node != strike.node and other.pull_s
    ]
    wanted = strike.fault.number("factor") / 2
    if not peers or cell.pull_s is None or cell.pull_s < wanted * median(peers):
        return ""
    return f"valid, {cell.pull_s / median(peers):.1f} times the median"


def _clock_off(outcome: Outcome, strike: Strike) -> str:
    for record in outcome.evidence:
        for reporter, offset_s in record.clock_offsets_s.items():
            off = offset_s + strike.fault.number("minutes") * 60
            if node_number(reporter) == strike.node and abs(off) < _CLOCK_TOLERANCE_S:
                return f"clock of {reporter} off by {-offset_s:.0f} s"
    return ""


def _valid_all_the_same(outcome: Outcome, _: Strike) -> str:
    collected = [phase for phase in outcome.phases if phase.phase is Phase.COLLECT]
    sound = bool(collected) and all(phase.error is None for phase in collected)
    complete = bool(outcome.evidence) and all(record.complete for record in outcome.evidence)
    return "reading repeated, all events collected" if sound and complete else ""


def _exit(code: int, *words: str) -> Callable[[Outcome, Strike], str]:
    def how(outcome: Outcome, _: Strike) -> str:
        told = all(word in outcome.output for word in words)
        return f"exit code {code}" if outcome.code == code and told else ""

    return how


def _resumed(outcome: Outcome, strike: Strike) -> str:
    attempts = {cell.attempt for cell in outcome.cells.values()}
    whole = bool(outcome.cells) and outcome.valid == set(outcome.cells)
    return "killed, then resumed and whole" if whole and 2 in attempts else ""


def _provision_took(outcome: Outcome, strike: Strike) -> str:
    for phase in outcome.phases:
        took = (phase.ended_at - phase.started_at).total_seconds()
        if phase.phase is Phase.PROVISION and took >= strike.fault.number("s"):
            return f"provision took {took:.0f} s"
    return ""


def _whole(outcome: Outcome, _: Strike) -> str:
    whole = bool(outcome.cells) and outcome.valid == set(outcome.cells)
    return "every cell valid" if whole and outcome.code == ExitCode.OK else ""


RULES: dict[str, Rule] = {
    "event-lost": _event_lost,
    "entry-never": _event_lost,
    "event-duplicated": _valid(_duplicated),
    "event-late": _valid(_late),
    "entry-late": _valid(_late),
    "event-out-of-order": _valid(_out_of_order),
    "exporter-restarted": _run(_gap(source=Source.EXPORTER)),
    "exporter-defaults": _run(_loss_is_told),
    "logging-throttled": _run(_valid_all_the_same),
    "page-token-expired": _run(_valid_all_the_same),
    "watch-closed": _run(_gap("closed", source=Source.WATCH)),
    "watch-expired": _run(_gap("410", source=Source.WATCH)),
    "api-slow": _run(_release_took),
    "api-throttled": _run(_repeated_requests("429")),
    "api-error": _run(_repeated_requests("500")),
    "api-reset": _run(_repeated_requests("no answer")),
    "two-pods": _two_pods,
    "scheduler-stalled": _run(_release_took),
    "node-not-ready": _node_wide(Status.NODE_LOST),
    "node-deleted": _gone,
    "node-replaced": _gone,
    "node-slow": _valid(_slow_node),
    "node-disk-full": _node_wide(Status.EVICTED, Status.DISK_PRESSURE),
    "node-clock-off": _run(_clock_off),
    "cached-image": _status(Status.CACHED),
    "image-missing": _status(Status.FAILED),
    "registry-throttled": _status(Status.FAILED, Status.RETRIED),
    "registry-down": _status(Status.FAILED, Status.RETRIED),
    "process-killed": _run(_resumed),
    "sink-late": _run(_whole),
    "google-conflict": _run(_exit(ExitCode.PROVIDER_ERROR, "Already exists")),
    "google-quota": _run(_exit(ExitCode.QUOTA, "quota")),
    "google-unavailable": _run(_whole),
    "google-error": _run(_exit(ExitCode.PERMISSION)),
    "google-operation-failed": _run(_exit(ExitCode.NO_CAPACITY, "enough resources")),
    "google-stuck": _run(_provision_took),
}
