"""Faults of events on their way to the runner: lost, twice or late, on its watch or in the log.

All ways share one decision per event, so that a fault of `both` affects the same events on each.
Only events of the trials' pods are affected: the canary and the cluster's own pass.
"""

import heapq
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, TypeVar

from rehearsal.cluster.fleet import LogLine, WriteLog, json_object
from rehearsal.cluster.native_events import WriteEvent
from rehearsal.faults.faults import Fault, Faults
from rehearsal.faults.trials import Place
from schema.names import JOB_NAMESPACE

WATCH, EXPORTER, NATIVE = "watch", "exporter", "native"
_SOURCES = {
    WATCH: {"both", "watch"},
    EXPORTER: {"both", "exporter", "logging"},
    NATIVE: {"both", "logging"},
}
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What happens to one event on one way."""

    lost: bool = False
    copies: int = 1
    late_s: float = 0.0
    shown_late_s: float = 0.0
    """How late Cloud Logging shows an entry that was printed in time."""


class EventFaults:
    """Decides about events, each once; `place` returns the trial and node of a pod."""

    def __init__(self, faults: Faults, place: Callable[[str], Place | None]) -> None:
        self._faults = faults
        self._place = place
        self._guard = threading.Lock()
        self._decided: dict[tuple[str, str], Fault | None] = {}

    def __bool__(self) -> bool:
        return bool(self._faults.of("event"))

    def verdict(self, event: dict[str, Any], way: str) -> Verdict:
        """Decide about an event (core/v1, in the API's or the exporter's form) on this way."""
        found = {fault.how: fault for fault in self._found(event, way)}
        late = found.get("late")
        late_s = late.number("s") if late else 0.0
        shown = late is not None and late.word("source") == "logging"
        return Verdict(
            lost="lost" in found,
            copies=2 if "twice" in found else 1,
            late_s=0.0 if shown else late_s,
            shown_late_s=late_s if shown else 0.0,
        )

    def _found(self, event: dict[str, Any], way: str) -> Iterator[Fault]:
        about = event.get("involvedObject") or {}
        if not self or about.get("kind") != "Pod" or about.get("namespace") != JOB_NAMESPACE:
            return
        place = self._place(about.get("name", ""))
        if place is None:
            return
        for how in ("lost", "twice", "late"):
            fault = self._decide(how, event, place) if self._faults.of("event", how=how) else None
            if fault and fault.word("source") in _SOURCES[way]:
                yield fault

    def _decide(self, how: str, event: dict[str, Any], place: Place) -> Fault | None:
        uid, reason = event["metadata"]["uid"], str(event.get("reason", ""))
        with self._guard:
            if (how, uid) not in self._decided:
                self._decided[how, uid] = self._faults.inject(
                    "event",
                    how=how,
                    trial=place.trial,
                    node=place.node,
                    key=f"{how}/{reason}",
                    about=lambda fault: fault.word("reason") in {"", reason},
                    pod=event["involvedObject"]["name"],
                    reason=reason,
                    uid=uid,
                )
            return self._decided[how, uid]


class DelayQueue:
    """Runs actions later, in its own thread; `report` gets a line for one that fails."""

    def __init__(self, report: Callable[[str], None]) -> None:
        self._report = report
        self._changed = threading.Condition()
        self._number = itertools.count()
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._ended = False
        self._thread: threading.Thread | None = None

    def put(self, delay_s: float, action: Callable[[], None]) -> None:
        with self._changed:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="delay-queue", daemon=True)
                self._thread.start()
            heapq.heappush(self._due, (time.monotonic() + delay_s, next(self._number), action))
            self._changed.notify()

    def stop(self) -> None:
        """Drop what is not yet due."""
        with self._changed:
            self._ended = True
            self._changed.notify()

    def _run(self) -> None:
        while action := self._next():
            try:
                action()
            except Exception as error:  # noqa: BLE001 (the next actions are due all the same)
                self._report(f"a fault was not injected: {type(error).__name__}: {error}")

    def _next(self) -> Callable[[], None] | None:
        with self._changed:
            while not self._ended:
                wait = self._due[0][0] - time.monotonic() if self._due else None
                if wait is not None and wait <= 0:
                    return heapq.heappop(self._due)[2]
                self._changed.wait(wait)
        return None


def deliver(item: T, verdict: Verdict, emit: Callable[[T], None], delays: DelayQueue) -> None:
    """Pass an event on as the verdict says: not at all, twice, late."""

    def send() -> None:
        for _ in range(verdict.copies):
            emit(item)

    if verdict.lost:
        return
    if verdict.late_s:
        delays.put(verdict.late_s, send)
    else:
        send()


def faulty_events(write: WriteEvent, faults: EventFaults, delays: DelayQueue) -> WriteEvent:
    """Return a writer that delivers GKE's own log of events to Cloud Logging as the faults say."""

    def write_event(event: dict[str, Any] | None) -> None:
        verdict = faults.verdict(event, NATIVE) if event else Verdict()
        late_s = max(verdict.late_s, verdict.shown_late_s)
        deliver(event, replace(verdict, late_s=late_s), write, delays)

    return write_event


def faulty_log(write_log: WriteLog, faults: EventFaults, delays: DelayQueue) -> WriteLog:
    """Return a writer that delivers the exporter's lines to Cloud Logging as the faults say.

    An event that the exporter is late with is printed late; an entry that is late was printed in
    time and is shown late.
    """

    def print_now(line: LogLine) -> None:
        write_log(replace(line, at=datetime.now(UTC)))

    def write(line: LogLine) -> None:
        event = json_object(line.text) if line.stream == "stdout" else None
        verdict = faults.verdict(event, EXPORTER) if event else Verdict()
        if verdict.shown_late_s:
            deliver(line, replace(verdict, late_s=verdict.shown_late_s), write_log, delays)
        else:
            deliver(line, verdict, print_now if verdict.late_s else write_log, delays)

    return write
