"""The place of an OpenTelemetry Collector: keeps the spans that the real nodes' containerds send.

It takes OTLP/HTTP (https://opentelemetry.io/docs/specs/otlp/#otlphttp) in Protobuf, containerd's
default, and appends each request to a file as one line of OTLP in JSON, the form of the Collector's
file exporter (open-telemetry/opentelemetry-collector-contrib, exporter/fileexporter, format json).
"""

import base64
import json
import threading
from pathlib import Path
from typing import Any

from aiohttp import web
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from rehearsal.machine.web import Call, route

PATH = "/v1/traces"
_IDS = ("traceId", "spanId", "parentSpanId")
_PROTOBUF = "application/x-protobuf"


def span_route(file: Path) -> web.RouteDef:
    """Return the route to which containerds send their spans; the file gets a line a request."""
    lock = threading.Lock()

    def keep(call: Call) -> web.Response:
        request = ExportTraceServiceRequest()
        try:
            request.ParseFromString(call.raw)
        except DecodeError as error:
            return web.Response(status=400, text=str(error))
        with lock, file.open("ab", buffering=0) as lines:
            lines.write(to_json(request).encode() + b"\n")
        answer = ExportTraceServiceResponse().SerializeToString()
        return web.Response(body=answer, content_type=_PROTOBUF)

    return route("POST", PATH, keep)


def to_json(request: ExportTraceServiceRequest) -> str:
    """Return OTLP's JSON, whose ids are hexadecimal where Protobuf's JSON has base64."""
    content = MessageToDict(request, use_integers_for_enums=True)
    for of_resource in content.get("resourceSpans", []):
        for of_scope in of_resource.get("scopeSpans", []):
            for span in of_scope.get("spans", []):
                for part in (span, *span.get("links", [])):
                    _hexadecimal(part)
    return json.dumps(content, separators=(",", ":"))


def _hexadecimal(part: dict[str, Any]) -> None:
    for name in _IDS:
        if name in part:
            part[name] = base64.b64decode(part[name]).hex()
