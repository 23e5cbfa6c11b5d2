"""Reads the spans that the nodes' containerds sent: when each pull fetched and unpacked.

The file has OTLP's JSON, an object a line, as the file exporter of an OpenTelemetry Collector
writes it. Of each call of PullImage it keeps the span and what is within it in the same trace;
names are those of containerd 2.4.2 (core/unpack/unpacker.go, core/remotes/docker/resolver.go), for
its transfer service as for pulls of its client. What is no such span is passed over.
"""

import time
from collections.abc import Collection, Iterator
from pathlib import Path

import msgspec

from experiment.run_folder import RunFolder
from experiment.waiting import Clock, wait_until
from schema.run_records import SpanKind, SpanRecord, TrialRecord

LATE_SPANS_S = 10.0
"""Longest wait for spans: containerd sends them each 5 s, and a Collector writes in batches."""
_LONGEST_LINE = 64 << 20
_KINDS = {
    "PullImage": SpanKind.PULL,
    "UnpackHandler": SpanKind.FETCH,  # of the manifest and the configuration
    "fetchLayer": SpanKind.FETCH,
    "HTTPRequest": SpanKind.FETCH,
    "unpackLayer": SpanKind.UNPACK,
}
"""By the end of the span's name."""


class _Form(msgspec.Struct, rename="camel"):
    pass


class _Value(_Form):
    string_value: str = ""


class _Attribute(_Form):
    key: str
    value: _Value = msgspec.field(default_factory=_Value)


class _Span(_Form):
    trace_id: str
    name: str
    start_time_unix_nano: str
    end_time_unix_nano: str
    attributes: list[_Attribute] = []


class _Scope(_Form):
    spans: list[_Span] = []


class _Resource(_Form):
    attributes: list[_Attribute] = []


class _OfResource(_Form):
    resource: _Resource = msgspec.field(default_factory=_Resource)
    scope_spans: list[_Scope] = []


class _Line(_Form):
    resource_spans: list[_OfResource] = []


def collect_spans(
    file: Path, folder: RunFolder, attempt: int, *, patient: bool, clock: Clock = time
) -> str:
    """Add the spans of an attempt's pulls to the run's folder; return a warning or nothing.

    Args:
        file: OTLP's JSON lines; it may still be written.
        folder: of the run; has the attempt's nodes and trials.
        attempt: which one.
        patient: wait for spans that are not there yet.
        clock: for tests.

    Raises:
        FolderError: the folder cannot be written.
    """
    nodes = folder.node_names(attempt)
    trials = [trial for trial in folder.trials() if trial.attempt == attempt]
    known = {_key(span) for span in folder.spans()}
    found: list[SpanRecord] = []
    problem = ""

    def complete() -> bool:
        nonlocal found, problem
        try:
            found, problem = read_spans(file, nodes), ""
        except OSError as error:
            found, problem = [], f"The spans of {file} cannot be read: {error.strerror}."
        found = [span for span in _of_trials(found, trials) if _key(span) not in known]
        return sum(span.kind is SpanKind.PULL for span in found) >= len(nodes) * len(trials)

    wait_until(complete, LATE_SPANS_S if patient else 0, 0.5, clock)
    folder.add(*found)
    if not problem and trials and not found:
        problem = f"{file} has no spans of this run's pulls: fetch_s and unpack_s stay empty."
    return problem


def read_spans(file: Path, nodes: Collection[str]) -> list[SpanRecord]:
    """Return the spans of pulls on these nodes.

    Raises:
        OSError: the file cannot be read.
    """
    pulls: dict[tuple[str, str], list[SpanRecord]] = {}
    parts: list[SpanRecord] = []
    for span in _spans(file, frozenset(nodes)):
        if span.kind is not SpanKind.PULL:
            parts.append(span)
        elif span.image:
            pulls.setdefault((span.node, span.trace), []).append(span)
    within = (
        part
        for part in parts
        if any(
            pull.begin_ns <= part.begin_ns < pull.end_ns
            for pull in pulls.get((part.node, part.trace), ())
        )
    )
    return [*(pull for several in pulls.values() for pull in several), *within]


def _spans(file: Path, nodes: Collection[str]) -> Iterator[SpanRecord]:
    decoder = msgspec.json.Decoder(_Line)
    with file.open("rb") as lines:
        while line := lines.readline(_LONGEST_LINE):
            try:
                decoded = decoder.decode(line)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                continue  # half a line, or another signal
            for of_resource in decoded.resource_spans:
                node = _node(of_resource.resource, nodes)
                for scope in of_resource.scope_spans if node else ():
                    yield from filter(None, (_record(span, node) for span in scope.spans))


def _node(resource: _Resource, nodes: Collection[str]) -> str:
    """Return the measured node that a resource is; empty for another. GCE's host names are long."""
    names = {each.key: each.value.string_value for each in resource.attributes}
    name = names.get("k8s.node.name") or names.get("host.name", "")
    return next((each for each in (name, name.partition(".")[0]) if each in nodes), "")


def _record(span: _Span, node: str) -> SpanRecord | None:
    kind = _KINDS.get(span.name.rpartition("/")[2].rpartition(".")[2])
    try:
        begin, end = int(span.start_time_unix_nano), int(span.end_time_unix_nano)
    except ValueError:
        return None
    if kind is None or not 0 < begin <= end < 2**63:
        return None
    texts = {each.key: each.value.string_value for each in span.attributes}
    return SpanRecord(
        node=node,
        trace=span.trace_id,
        kind=kind,
        begin_ns=begin,
        end_ns=end,
        image=texts.get("image.ref", ""),
        layer=texts.get("layer.media.digest", ""),
    )


def _of_trials(spans: Collection[SpanRecord], trials: Collection[TrialRecord]) -> list[SpanRecord]:
    """Return the spans of traces that pull the trials' images."""
    digests = {trial.reference.rpartition("@")[2] for trial in trials}
    wanted = {
        (span.node, span.trace)
        for span in spans
        if span.kind is SpanKind.PULL and span.image.rpartition("@")[2] in digests
    }
    return [span for span in spans if (span.node, span.trace) in wanted]


def _key(span: SpanRecord) -> tuple[object, ...]:
    return (span.node, span.trace, span.kind, span.begin_ns, span.layer)
