import json
from pathlib import Path

import requests
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from rehearsal.machine import web
from rehearsal.real_nodes.spans import PATH, span_route


def request() -> ExportTraceServiceRequest:
    made = ExportTraceServiceRequest()
    scope = made.resource_spans.add().scope_spans.add()
    made.resource_spans[0].resource.attributes.add(key="host.name").value.string_value = "node-1"
    span = scope.spans.add(
        trace_id=bytes(range(16)),
        span_id=bytes(range(8)),
        parent_span_id=b"\xff" * 8,
        name="a",
        kind=Span.SPAN_KIND_SERVER,
        start_time_unix_nano=1,
        end_time_unix_nano=2**60,
    )
    span.attributes.add(key="size").value.int_value = 2**40
    span.links.add(trace_id=b"\x01" * 16, span_id=b"\x02" * 8)
    return made


def test_spans_are_kept_in_the_form_of_a_collectors_file(tmp_path: Path) -> None:
    file = tmp_path / "spans.jsonl"
    with web.serving([span_route(file)]) as url:
        for _ in range(2):
            answer = requests.post(
                f"{url}{PATH}",
                data=request().SerializeToString(),
                headers={"Content-Type": "application/x-protobuf"},
                timeout=20,
            )
            assert answer.status_code == 200
            assert answer.headers["Content-Type"] == "application/x-protobuf"
            ExportTraceServiceResponse.FromString(answer.content)
        assert requests.post(f"{url}{PATH}", data=b"\xff", timeout=20).status_code == 400
    lines = file.read_text().splitlines()
    assert len(lines) == 2
    (of_resource,) = json.loads(lines[0])["resourceSpans"]
    assert of_resource["resource"]["attributes"][0]["value"] == {"stringValue": "node-1"}
    (span,) = of_resource["scopeSpans"][0]["spans"]
    # https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding
    assert span["traceId"] == "000102030405060708090a0b0c0d0e0f"
    assert (span["spanId"], span["parentSpanId"]) == ("0001020304050607", "ff" * 8)
    assert span["links"] == [{"traceId": "01" * 16, "spanId": "02" * 8}]
    assert (span["kind"], span["endTimeUnixNano"]) == (2, str(2**60))
    assert span["attributes"][0]["value"] == {"intValue": str(2**40)}
