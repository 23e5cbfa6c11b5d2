"""Faults of events on their way: lost, twice, late, overtaken, on the watch or in the log.

Both ways share one decision per event, so that a fault of `both` strikes the same events on each.
Only events about the trials' pods are struck: the canary and the cluster's own pass untouched.
"""

import heapq
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

from rehearsal.cloud_logging.entries import json_object
from rehearsal.cluster.fleet import LogLine, WriteLog
from rehearsal.faults.faults import Fault, Faults
from rehearsal.faults.trials import Place
from schema.names import JOB_NAMESPACE

WATCH, EXPORTER = "watch", "exporter"
_KINDS = ("event-lost", "event-duplicated", "event-late", "event-out-of-order")
_ENTRIES = ("entry-never", "entry-late")
_OVERTAKEN_S = 2.0
"""An event that nothing overtakes goes on after this long."""
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of one event on one way."""

    lost: bool = False
    copies: int = 1
    late_s: float = 0.0
    behind: int = 0
    entry_late_s: float = 0.0


class EventFaults:
    """Decides about events, each once.

    Args:
        faults: that were asked for.
        place: where a pod of JOB_NAMESPACE belongs.
    """

    def __init__(self, faults: Faults, place: Callable[[str], Place | None]) -> None:
        self._faults = faults
        self._place = place
        self._guard = threading.Lock()
        self._decided: dict[tuple[str, str], Fault | None] = {}

    def verdict(self, event: dict[str, Any], way: str) -> Verdict:
        """What becomes of an event (core/v1 in the API's or the exporter's form) on this way."""
        found = dict(self._strikes(event, way))
        late, behind = found.get("event-late"), found.get("event-out-of-order")
        entry_late = found.get("entry-late")
        return Verdict(
            lost="event-lost" in found or "entry-never" in found,
            copies=2 if "event-duplicated" in found else 1,
            late_s=late.number("s") if late else 0.0,
            behind=int(behind.number("behind")) if behind else 0,
            entry_late_s=entry_late.number("s") if entry_late else 0.0,
        )

    def _strikes(self, event: dict[str, Any], way: str) -> Iterator[tuple[str, Fault]]:
        about = event.get("involvedObject") or {}
        if about.get("kind") != "Pod" or about.get("namespace") != JOB_NAMESPACE:
            return
        place = self._place(about.get("name", ""))
        if place is None:
            return
        for name in (*_KINDS, *(_ENTRIES if way == EXPORTER else ())):
            fault = self._decide(name, event, place) if self._faults.of(name) else None
            if fault and fault.word("source") in {way, "both"}:
                yield name, fault

    def _decide(self, name: str, event: dict[str, Any], place: Place) -> Fault | None:
        uid, reason = event["metadata"]["uid"], str(event.get("reason", ""))
        with self._guard:
            key = (name, uid)
            if key not in self._decided:
                fault = self._faults.strike(
                    name,
                    trial=place.trial,
                    node=place.node,
                    key=reason,
                    about=lambda fault: fault.word("reason") in {"", reason},
                    pod=event["involvedObject"]["name"],
                    reason=reason,
                    uid=uid,
                )
                self._decided[key] = fault
            return self._decided[key]


class Later:
    """Does things at later times, in the order of these times, in a thread of its own."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._number = itertools.count()
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._ended = False
        self._thread: threading.Thread | None = None

    def put(self, delay_s: float, action: Callable[[], None]) -> None:
        """Do this after a while."""
        with self._changed:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="later", daemon=True)
                self._thread.start()
            heapq.heappush(self._due, (time.monotonic() + delay_s, next(self._number), action))
            self._changed.notify()

    def stop(self) -> None:
        """Do nothing more."""
        with self._changed:
            self._ended = True
            self._changed.notify()

    def _run(self) -> None:
        while action := self._next():
            action()

    def _next(self) -> Callable[[], None] | None:
        with self._changed:
            while not self._ended:
                wait = self._due[0][0] - time.monotonic() if self._due else None
                if wait is not None and wait <= 0:
                    return heapq.heappop(self._due)[2]
                self._changed.wait(wait)
        return None


class Way(Generic[T]):
    """Hands events on as their verdicts say. Safe to use from several threads.

    Args:
        emit: gets each event as often and as late as it is to arrive.
        later: does what is late.
    """

    def __init__(self, emit: Callable[[T], None], later: Later) -> None:
        self._emit = emit
        self._later = later
        self._guard = threading.Lock()
        self._held: list[list[Any]] = []

    def put(self, item: T, verdict: Verdict = Verdict()) -> None:
        """Take one event, or anything else that goes the same way."""
        if verdict.lost:
            return
        if verdict.late_s:
            self._later.put(verdict.late_s, lambda: self._pass(item, verdict))
        elif verdict.behind:
            self._hold(item, verdict)
        else:
            self._pass(item, verdict)

    def _hold(self, item: T, verdict: Verdict) -> None:
        entry = [verdict.behind, item, verdict]
        with self._guard:
            self._held.append(entry)
        self._later.put(_OVERTAKEN_S, lambda: self._release([entry]))

    def _pass(self, item: T, verdict: Verdict) -> None:
        for _ in range(verdict.copies):
            self._emit(item)
        with self._guard:
            for entry in self._held:
                entry[0] -= 1
            free = [entry for entry in self._held if entry[0] <= 0]
        self._release(free)

    def _release(self, entries: list[list[Any]]) -> None:
        for entry in entries:
            with self._guard:
                if entry not in self._held:
                    continue
                self._held.remove(entry)
            for _ in range(entry[2].copies):
                self._emit(entry[1])


def disturbed_log(write_log: WriteLog, faults: EventFaults, later: Later) -> WriteLog:
    """The exporter's lines on their way into Cloud Logging, as the faults have it.

    An event that the exporter is late with is printed late; an entry that is late was printed in
    time and is shown late.
    """

    def print_now(line: LogLine) -> None:
        write_log(replace(line, at=datetime.now(UTC)))

    in_time, printed_late = Way[LogLine](write_log, later), Way[LogLine](print_now, later)

    def write(line: LogLine) -> None:
        event = json_object(line.text) if line.stream == "stdout" else None
        verdict = faults.verdict(event, EXPORTER) if event else Verdict()
        if verdict.entry_late_s and not verdict.lost:
            later.put(verdict.entry_late_s, lambda: in_time.put(line))
        elif verdict.late_s or verdict.behind:
            printed_late.put(line, verdict)
        else:
            in_time.put(line, verdict)

    return write
