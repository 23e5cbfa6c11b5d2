"""How a kubelet records events: combined, counted, filtered and limited as client-go does it.

Follows k8s.io/client-go 0.34.1, tools/record: EventCorrelator (events_cache.go) with its defaults,
and a kubelet's eventRecordQPS 50 with eventBurst 100. Events go out one after another, so a full
bucket or a slow API server delays those behind. All windows are in the node's own seconds.

The caches have no limit of 4096 entries here: no node of a study has so many.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from rehearsal.simulated_nodes.clock import Clock
from rehearsal.simulated_nodes.messages import EventText

Object = dict[str, Any]
Send = Callable[[Object, bool], Awaitable[None]]
"""Sends an event; with True one that is there already and has a new count."""

AGGREGATE_EVENTS, AGGREGATE_S = 10, 600.0
SPAM_BURST, SPAM_PER_S = 25, 1 / 300
QPS, BURST = 50.0, 100
_MICROSECOND = timedelta(microseconds=1)
"""By which two events of one node differ at least, or their names would be the same."""
_QUEUE = 1000
"""maxQueuedEvents of the broadcaster, which drops what comes beyond."""


@dataclass(slots=True)
class TokenBucket:
    """A rate limit: so many at once, so many more a second.

    Attributes:
        rate: tokens a second.
        burst: most tokens.
    """

    rate: float
    burst: float
    tokens: float = field(init=False)
    at: float = 0.0

    def __post_init__(self) -> None:
        self.tokens = self.burst

    def take(self, now: float) -> bool:
        """Take a token if there is one."""
        self._fill(now)
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True

    def reserve(self, now: float) -> float:
        """Take a token, on credit if need be; when it may be used."""
        self._fill(now)
        self.tokens -= 1
        return now + max(0.0, -self.tokens / self.rate)

    def _fill(self, now: float) -> None:
        self.tokens = min(self.burst, self.tokens + (now - self.at) * self.rate)
        self.at = now


@dataclass(slots=True)
class _Similar:
    """Events that differ by their message alone."""

    messages: set[str]
    last: float


class Correlator:
    """Decides what becomes of an event: sent, counted up, combined, or skipped.

    It is pure but for what it remembers.
    """

    def __init__(self) -> None:
        self._similar: dict[str, _Similar] = {}
        self._seen: dict[str, Object] = {}
        self._buckets: dict[str, TokenBucket] = {}

    def correlate(self, event: Object, now: float, name: str) -> Object | None:
        """The event to send, with a count above 1 if it is there already; None to send nothing."""
        event, key = self._aggregate(event, now, name)
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

    def _aggregate(self, event: Object, now: float, name: str) -> tuple[Object, str]:
        group = _key(event, "source", "involvedObject", "type", "reason")
        similar = self._similar.get(group)
        if similar is None or now - similar.last > AGGREGATE_S:
            similar = self._similar[group] = _Similar(set(), now)
        similar.messages.add(event["message"])
        similar.last = now
        if len(similar.messages) < AGGREGATE_EVENTS:
            return event, _key(event, "source", "involvedObject", "type", "reason", "message")
        similar.messages.pop()
        combined = {
            **event,
            "metadata": {**event["metadata"], "name": name},
            "firstTimestamp": event["lastTimestamp"],
            "message": f"(combined from similar events): {event['message']}",
        }
        return combined, group


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
        self.offset = timedelta(0)
        """By which the node's clock is ahead."""
        self._last = datetime.min.replace(tzinfo=UTC)
        self.dropped = 0
        """Events that found the queue full, or were too similar."""

    def record(self, about: Object, saying: EventText, instant: float) -> None:
        """Say something about an object at an instant; it is sent soon after."""
        at = max(self._clock.at(instant) + self.offset, self._last + _MICROSECOND)
        self._last = at
        event = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {
                "name": event_name(about["name"], at),
                "namespace": about.get("namespace") or "default",
                "annotations": self._annotations,
            },
            "involvedObject": about,
            "reason": saying.reason,
            "message": saying.message,
            "type": saying.kind,
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
            self.dropped += 1

    async def run(self) -> None:
        """Send events, one after another, for ever."""
        while True:
            instant, event = await self._queue.get()
            now = self._clock.now()
            name = event_name(event["involvedObject"]["name"], self._clock.at(now) + self.offset)
            result = self._correlator.correlate(event, now, name)
            if result is None:
                self.dropped += 1
                continue
            if (may := self._bucket.reserve(now)) > now:
                await self._clock.until(may)
            await self._send(result, result["count"] > 1)
            self._clock.told(instant)


def event_name(name: str, at: datetime) -> str:
    """An event's name, as client-go forms it: the object's, and the clock's nanoseconds in hex."""
    return f"{name}.{nanoseconds(at):x}"


def nanoseconds(at: datetime) -> int:
    """Since 1970, exact to the microsecond."""
    return int(at.timestamp()) * 10**9 + at.microsecond * 1000


def timestamp(at: datetime) -> str:
    """As Kubernetes writes times: whole seconds."""
    return f"{at:%Y-%m-%dT%H:%M:%S}Z"


def _key(event: Object, *fields: str) -> str:
    return repr([event[field] for field in fields])
