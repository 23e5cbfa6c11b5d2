"""Finds Kubernetes events in decoded JSON, however deep a collector has wrapped them.

Collectors put an event into a field of their own: `event` (eventrouter), `body` (OpenTelemetry),
`line` (Loki), `_source` (Elasticsearch), `responseObject` (audit log), `log` (docker),
`jsonPayload` (Cloud Logging) and more; as an object or as text. An event is known by what only
events have, so the names of these fields are not listed here.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec

from analysis.read.event_form import Event

UNDECODABLE = (msgspec.MsgspecError, UnicodeError, RecursionError)
"""UnicodeError: a text within a text may hold half a surrogate pair."""

DEEPEST = 48
"""Levels of wrappers and lists; the deepest known (OTLP in a text in a list) has nine wrappers."""

_ATTEMPTS = 5_000
"""Places of one text at which an object is tried in vain; each can cost the length of the text."""

_SHADOWED = {"requestObject": "responseObject", "old_event": "event"}
"""Fields that repeat, in an older version, what another field of the same object has."""

_decode = msgspec.json.Decoder().decode
_text_decoder = json.JSONDecoder()
_LINE_WITH_BRACE = re.compile(r"^\s*\{", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Read:
    """An event as read.

    Attributes:
        event: the event.
        source: how it was recorded: 'watch', 'exporter', 'native', 'kubectl' or 'collector' (within
            an object of a collector of logs, or of an audit log).
        cluster: the cluster that a Cloud Logging entry names; empty for other formats.
    """

    event: Event
    source: str
    cluster: str = ""


class _Place(NamedTuple):
    source: str
    cluster: str = ""


def find_events(value: Any) -> Iterator[Read | str]:
    """Yield the events in a decoded JSON or YAML value; of one that is damaged, what is wrong."""
    yield from _walk(value, _Place("kubectl"), set(), DEEPEST)


def objects_in(text: str) -> Iterator[tuple[int, int, Any]]:
    """Yield the JSON objects in a text that is not JSON as a whole: start, end and value."""
    position = attempts = 0
    while attempts < _ATTEMPTS and (start := text.find("{", position)) >= 0:
        try:
            value, end = _text_decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            attempts += 1
            position = _next_object(text, start + 1)
            continue
        yield start, end, value
        position = end


def _next_object(text: str, start: int) -> int:
    """Return where the next object may start: at a line, or at an event's usual first field."""
    match = _LINE_WITH_BRACE.search(text, start)
    places = (text.find('{"metadata"', start), match.end() - 1 if match else -1)
    return min((place for place in places if place >= 0), default=len(text))


def _walk(value: Any, place: _Place, seen: set[int], levels: int) -> Iterator[Read | str]:
    if isinstance(value, str):
        if levels and _may_hold_event(value):
            for inner in _objects(value):
                yield from _walk(inner, place, seen, levels - 1)
        return
    if not isinstance(value, dict | list) or not levels or id(value) in seen:
        return
    seen.add(id(value))  # YAML's aliases can repeat an object without end
    if isinstance(value, list):
        for item in value:
            yield from _walk(item, place, seen, levels - 1)
        return
    if {"involvedObject", "regarding"} & value.keys():
        event = _as_event(value)
        yield event if isinstance(event, str) else Read(event, *place)
        return
    place = _place(value, place)
    for name, child in value.items():
        if _SHADOWED.get(name) in value and value[_SHADOWED[name]]:
            continue
        yield from _walk(child, place, seen, levels - 1)


def _may_hold_event(text: str) -> bool:
    return "{" in text and ("involvedObject" in text or "regarding" in text)


def _objects(text: str) -> Iterator[Any]:
    try:
        yield _decode(text)
    except UNDECODABLE:
        for _, _, value in objects_in(text):
            yield value


_OF_KUBECTL = frozenset({"items", "object", "kind", "apiVersion", "metadata", "type"})


def _place(value: dict[str, Any], place: _Place) -> _Place:
    """Return how the events within an object were recorded."""
    name = value.get("logName")
    if isinstance(name, str):
        native = name.endswith(("%2Fevents", "/events"))
        resource = value.get("resource")
        labels = resource.get("labels") if isinstance(resource, dict) else None
        cluster = labels.get("cluster_name", "") if isinstance(labels, dict) else ""
        return _Place("native" if native else "exporter", str(cluster))
    if place.source == "kubectl" and not value.keys() <= _OF_KUBECTL:
        return _Place("collector")
    return place


def _as_event(value: dict[str, Any]) -> Event | str:
    if "regarding" in value:  # events.k8s.io/v1 has other names for some fields
        value = value | {
            "involvedObject": value["regarding"],
            "message": value.get("note"),
            "source": value.get("deprecatedSource"),
            "firstTimestamp": value.get("deprecatedFirstTimestamp"),
            "lastTimestamp": value.get("deprecatedLastTimestamp"),
            "count": value.get("deprecatedCount"),
            "reportingComponent": value.get("reportingController"),
        }
    try:
        return msgspec.convert(value, Event, strict=False)
    except UNDECODABLE as error:
        return f"an event with a field of the wrong type: {error}"
