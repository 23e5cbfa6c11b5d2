import json
from pathlib import Path
from typing import Any

import pytest

from experiment.collect.span_file import LATE_SPANS_S, collect_spans, read_spans
from experiment.run_folder import RunFolder
from schema.run_records import SpanKind
from tests.experiment.cells import trial_record
from tests.experiment.fakes import FakeClock

UNPACKER = "pkg.unpack.unpacker"


def attribute(key: str, value: str) -> dict[str, Any]:
    return {"key": key, "value": {"stringValue": value}}


def span(name: str, begin: int, end: int, trace: str = "t1", **attributes: str) -> dict[str, Any]:
    return {
        "traceId": trace,
        "spanId": "0102030405060708",
        "name": name,
        "kind": 2,
        "startTimeUnixNano": str(begin),
        "endTimeUnixNano": str(end),
        "attributes": [
            {"key": "layer.media.size", "value": {"intValue": "5"}},
            *(attribute(key.replace("_", "."), value) for key, value in attributes.items()),
        ],
        "status": {},
    }


def line(*spans: dict[str, Any], host: str = "node-1") -> str:
    resource = {"attributes": [attribute("host.name", host), attribute("service.name", "c")]}
    scopes = [{"scope": {"name": "s"}, "spans": [each]} for each in spans]
    return json.dumps({"resourceSpans": [{"resource": resource, "scopeSpans": scopes}]}) + "\n"


def pull(reference: str, trace: str = "t1", begin: int = 100) -> list[dict[str, Any]]:
    return [
        span(
            f"{UNPACKER}.fetchLayer", begin + 10, begin + 20, trace, layer_media_digest="sha256:a"
        ),
        span(
            f"{UNPACKER}.unpackLayer", begin + 10, begin + 90, trace, layer_media_digest="sha256:a"
        ),
        span("runtime.v1.ImageService/PullImage", begin, begin + 100, trace, image_ref=reference),
    ]


def test_a_pulls_spans_are_found_wherever_they_are_and_all_else_is_passed_over(
    tmp_path: Path,
) -> None:
    file = tmp_path / "spans.jsonl"
    fetch, unpack, call = pull("r@sha256:1")
    file.write_text(
        line(fetch)
        + line(span("runtime.v1.RuntimeService/ListContainers", 100, 200))
        + '{"resourceMetrics": []}\n{"resourceSpans": 1}\nno json\n\n'
        + line(*pull("r@sha256:1"), host="another")
        + line(span("remotes.docker.resolver.HTTPRequest", 300, 400))  # of a push, or later
        + line(span("remotes.docker.resolver.HTTPRequest", 105, 110))
        + line(unpack, call, host="node-1.c.project.internal")
        + line(call)[:40]
    )
    found = read_spans(file, ["node-1", "node-2"])
    assert [(each.kind, each.begin_ns, each.end_ns, each.layer) for each in found] == [
        (SpanKind.PULL, 100, 200, ""),
        (SpanKind.FETCH, 110, 120, "sha256:a"),
        (SpanKind.FETCH, 105, 110, ""),
        (SpanKind.UNPACK, 110, 190, "sha256:a"),
    ]
    assert {each.node for each in found} == {"node-1"}


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    run.write_nodes([{"metadata": {"name": f"node-{number}"}} for number in (1, 2)], 1)
    run.add(trial_record(1, 2))
    return run


def test_spans_of_the_runs_images_are_added_once(folder: RunFolder, tmp_path: Path) -> None:
    file = tmp_path / "spans.jsonl"
    reference = folder.trials()[0].reference
    other = pull("r@sha256:other", "t2", 500)
    file.write_text(line(*pull(reference), *other) + line(*pull(reference), host="node-2"))
    for _ in range(2):
        clock = FakeClock()
        collect_spans(file, folder, 1, patient=True, clock=clock)
        kinds = [each.kind for each in folder.spans()]
        assert (len(kinds), kinds.count(SpanKind.PULL)) == (6, 2)


def test_late_spans_are_waited_for_and_missing_ones_are_told(
    folder: RunFolder, tmp_path: Path
) -> None:
    file = tmp_path / "spans.jsonl"
    clock = FakeClock()
    begin = clock.monotonic()
    assert "cannot be read" in collect_spans(file, folder, 1, patient=True, clock=clock)
    assert clock.monotonic() - begin >= LATE_SPANS_S
    file.write_text(line(span("runtime.v1.RuntimeService/Status", 1, 2)))
    begin = clock.monotonic()
    warning = collect_spans(file, folder, 1, patient=False, clock=clock)
    assert warning.endswith("has no spans of this run's pulls: fetch_s and unpack_s stay empty.")
    assert clock.monotonic() - begin < 1
