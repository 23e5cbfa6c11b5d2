"""How a kubelet records events: counted, filtered and limited as client-go does it.

Follows k8s.io/client-go 0.34.1, tools/record: EventCorrelator (events_cache.go) with its defaults,
and a kubelet's eventRecordQPS 50 with eventBurst 100. Similar events are not combined and caches
are not limited: no pod of a study has that many. Events go out one after another, so a slow API
server delays those behind. All windows are in the node's own seconds.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from rehearsal.cluster.kubernetes import ClusterError, Object
from rehearsal.simulated_nodes.clock import Clock
from rehearsal.simulated_nodes.messages import EventText

Send = Callable[[Object, bool], Awaitable[None]]
"""Sends an event; with True one that exists already and has a new count."""

SPAM_BURST, SPAM_PER_S = 25, 1 / 300
QPS, BURST = 50.0, 100
_MICROSECOND = timedelta(microseconds=1)
"""By which two events of one node differ at least, or their names would be the same."""
_QUEUE = 1000
"""maxQueuedEvents of the broadcaster, which drops what exceeds it."""


@dataclass(slots=True)
class TokenBucket:
    """A rate limit: `burst` tokens at once, then `rate` a second."""

    rate: float
    burst: float
    at: float = 0.0
    tokens: float = field(init=False)

    def __post_init__(self) -> None:
        self.tokens = self.burst

    def take(self, now: float) -> bool:
        self._fill(now)
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True

    def reserve(self, now: float) -> float:
        """Take a token, on credit if need be; return when it may be used."""
        self._fill(now)
        self.tokens -= 1
        return now + max(0.0, -self.tokens / self.rate)

    def _fill(self, now: float) -> None:
        self.tokens = min(self.burst, self.tokens + (now - self.at) * self.rate)
        self.at = now


class Correlator:
    """Decides whether an event is sent, counted up, or skipped."""

    def __init__(self) -> None:
        self._seen: dict[str, Object] = {}
        self._buckets: dict[str, TokenBucket] = {}

    def correlate(self, event: Object, now: float) -> Object | None:
        """Return the event to send, with a count above 1 if it exists already; None to skip it."""
        key = _key(event, "source", "involvedObject", "type", "reason", "message")
        if seen := self._seen.get(key):
            event = {
                **event,
                "metadata": seen["metadata"],
                "firstTimestamp": seen["firstTimestamp"],
                "count": seen["count"] + 1,
            }
        self._seen[key] = event
        about = _key(event, "source", "involvedObject", "type")
        bucket = self._buckets.setdefault(about, TokenBucket(SPAM_PER_S, SPAM_BURST, at=now))
        return event if bucket.take(now) else None


class Recorder:
    """The event recorder of one node's kubelet."""

    def __init__(self, node: str, clock: Clock, send: Send, annotations: dict[str, str]) -> None:
        self._node = node
        self._clock = clock
        self._send = send
        self._annotations = annotations
        self._correlator = Correlator()
        self._bucket = TokenBucket(QPS, BURST, at=clock.now())
        self._queue: asyncio.Queue[tuple[float, Object]] = asyncio.Queue(_QUEUE)
        self._last = datetime.min.replace(tzinfo=UTC)

    def record(self, about: Object, text: EventText, instant: float) -> None:
        """Queue an event about an object, of an instant."""
        at = self._last = max(self._clock.at(instant), self._last + _MICROSECOND)
        event = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {
                "name": event_name(about["name"], at),
                "namespace": about.get("namespace") or "default",
                "annotations": self._annotations,
            },
            "involvedObject": about,
            "reason": text.reason,
            "message": text.message,
            "type": text.kind,
            "source": {"component": "kubelet", "host": self._node},
            "firstTimestamp": timestamp(at),
            "lastTimestamp": timestamp(at),
            "count": 1,
            "reportingComponent": "kubelet",
            "reportingInstance": self._node,
        }
        try:
            self._queue.put_nowait((instant, event))
        except asyncio.QueueFull:
            self._clock.report.lose(f"the event queue of {self._node} was full")

    async def run(self) -> None:
        """Send events, one after another, until cancelled; one that is refused is counted lost."""
        while True:
            instant, event = await self._queue.get()
            now = self._clock.now()
            result = self._correlator.correlate(event, now)
            if result is None:
                continue
            if (may := self._bucket.reserve(now)) > now:
                await self._clock.until(may)
            try:
                await self._send(result, result["count"] > 1)
            except ClusterError as error:
                self._clock.report.lose(str(error))
            else:
                self._clock.arrived(instant)


def event_name(name: str, at: datetime) -> str:
    """Return an event's name as client-go forms it: the object's, and nanoseconds in hex."""
    return f"{name}.{nanoseconds(at):x}"


def nanoseconds(at: datetime) -> int:
    """Since 1970, exact to the microsecond."""
    return int(at.timestamp()) * 10**9 + at.microsecond * 1000


def timestamp(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%S}Z"


def _key(event: Object, *fields: str) -> str:
    return repr([event[field] for field in fields])
