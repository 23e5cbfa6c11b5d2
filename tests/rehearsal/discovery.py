"""Compares exchanges with Google's discovery documents, which google-api-python-client carries.

Checked are path, verb, query, request and answer: unknown fields, types, enums, formats. A request
that is refused may be wrong, since that may be why; one that is accepted may not. What the local
Google says that it does not know (501) is no answer of Google's, but a gap.
"""

from __future__ import annotations

import base64
import binascii
import functools
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import googleapiclient  # type: ignore[import-untyped]

Json = dict[str, Any]
APIS = {
    "artifacts": "artifactregistry",
    "compute": "compute",
    "container": "container",
    "crm": "cloudresourcemanager",
    "iam": "iam",
    "logging": "logging",
    "scheduler": "cloudscheduler",
    "serviceusage": "serviceusage",
    "storage": "storage",
}
"""Google's name of the API by the first part of the local Google's path."""
_DOCUMENTS = Path(googleapiclient.__file__).parent / "discovery_cache" / "documents"
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)")
_FORMATS = {
    "date-time": _TIME,
    "google-datetime": _TIME,
    "google-duration": re.compile(r"-?\d+(\.\d{1,9})?s"),
    "int64": re.compile(r"-?\d+"),
    "uint64": re.compile(r"\d+"),
}
_TYPES: dict[str, Any] = {
    "boolean": bool,
    "integer": int,
    "number": (int, float),
    "string": str,
}


@dataclass(frozen=True)
class Exchange:
    """A request and its answer, as rehearsal.google.recorder writes them."""

    method: str
    path: str
    query: list[tuple[str, str]]
    request: str
    status: int
    answer: str

    def __str__(self) -> str:
        return f"{self.method} {self.path} -> {self.status}"


def _read(path: Path) -> Iterator[Exchange]:
    if path.exists():
        with path.open(encoding="utf-8") as lines:
            for line in lines:
                found = json.loads(line)
                yield Exchange(**{**found, "query": [tuple(pair) for pair in found["query"]]})


def expect_documented(exchanges: Path, *, gaps: bool = False) -> None:
    """Fail if an exchange of a recorder's file is not as documented, or a gap unless allowed."""
    found = dict.fromkeys(
        f"{exchange}: {problem}"
        for exchange in _read(exchanges)
        for problem in problems(exchange, gaps=gaps)
    )
    assert not found, "\n".join(["Not as Google documents it:", *found])


def problems(exchange: Exchange, *, gaps: bool = False) -> list[str]:
    """What of one exchange is not as documented; of other paths than the APIs' nothing."""
    first, _, rest = exchange.path.lstrip("/").partition("/")
    if first not in APIS:
        return []
    if exchange.status == 501:
        return [] if gaps else ["the local Google does not know this"]
    document = _document(APIS[first], rest.partition("/")[0])
    if document is None:
        return ["there is no such version of this API"]
    # the documents of two APIs begin with the API's name, the others with the version
    path = f"{first}/{rest}" if document.service_path else rest
    method = document.method(exchange.method, path)
    if method is None:
        return ["there is no such method"]
    refused = exchange.status >= 400
    answer = _error_form(exchange) if refused else document.answer(method, exchange)
    return answer if refused else [*document.request(method, exchange), *answer]


@functools.cache
def _document(api: str, version: str) -> _Document | None:
    path = _DOCUMENTS / f"{api}.{version}.json"
    return _Document(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else None


class _Document:
    """One API."""

    def __init__(self, content: Json) -> None:
        self.service_path: str = content["servicePath"]
        self._parameters: Json = content["parameters"]
        self._schemas: Json = content["schemas"]
        self._methods = [
            (method["httpMethod"], _pattern(self.service_path, method), method)
            for method in _methods(content)
        ]

    def method(self, verb: str, path: str) -> Json | None:
        """The method of a request."""
        for each, pattern, method in self._methods:
            if each == verb and pattern.fullmatch(path):
                return method
        return None

    def request(self, method: Json, exchange: Exchange) -> list[str]:
        """What is wrong in query and body."""
        known = {**self._parameters, **method.get("parameters", {})}
        # Google also takes a parameter's name in its proto file; the official provider sends
        # repository_id (observed), which the document of artifactregistry names repositoryId.
        named = {
            re.sub("_([a-z])", lambda match: match[1].upper(), name) for name, _ in exchange.query
        }
        found = [f"query: unknown parameter {name}" for name in sorted(named - known.keys())]
        found += [
            f"query: {name} is missing"
            for name, parameter in known.items()
            if parameter.get("required") and parameter["location"] == "query" and name not in named
        ]
        found += [
            f"query: {name}={value} is none of {known[name]['enum']}"
            for name, value in exchange.query
            if value not in known.get(name, {}).get("enum", [value])
        ]
        return found + self._body("request", method.get("request"), exchange.request)

    def answer(self, method: Json, exchange: Exchange) -> list[str]:
        """What is wrong in the answer's body."""
        if ("alt", "media") in exchange.query:
            return [] if method.get("supportsMediaDownload") else ["there is no media of this"]
        return self._body("answer", method.get("response"), exchange.answer)

    def _body(self, where: str, schema: Json | None, text: str) -> list[str]:
        if schema is None or not text:
            return [f"{where}: there must be no body"] if text else []
        return list(self._compare(json.loads(text), schema, where))

    def _compare(self, value: Any, schema: Json, where: str) -> Iterator[str]:
        if value is None and where.startswith("request"):  # a PATCH removes a field so
            return
        schema = self._schemas[schema["$ref"]] if "$ref" in schema else schema
        kind = schema["type"]
        if kind == "object":
            yield from self._compare_object(value, schema, where)
        elif kind == "array":
            if not isinstance(value, list):
                yield f"{where} is no list: {value!r}"
                return
            for item in value:
                yield from self._compare(item, schema["items"], f"{where}[]")
        elif kind != "any" and not _fits(value, schema):
            wanted = schema.get("enum") or schema.get("format") or kind
            yield f"{where} is {value!r}, not of {wanted}"

    def _compare_object(self, value: Any, schema: Json, where: str) -> Iterator[str]:
        if not isinstance(value, dict):
            yield f"{where} is no object: {value!r}"
            return
        fields, other = schema.get("properties", {}), schema.get("additionalProperties")
        for name, item in value.items():
            inner = fields.get(name, other)
            if inner is None:
                yield f"{where}.{name} is unknown"
            else:
                yield from self._compare(item, inner, f"{where}.{name}")


def _methods(resource: Json) -> Iterator[Json]:
    yield from resource.get("methods", {}).values()
    for inner in resource.get("resources", {}).values():
        yield from _methods(inner)


def _pattern(service_path: str, method: Json) -> re.Pattern[str]:
    path = service_path + (method.get("flatPath") or method["path"])
    parts = re.split(r"\{[^}]+\}", path)
    return re.compile("[^/:]+".join(map(re.escape, parts)))


def _fits(value: Any, schema: Json) -> bool:
    kind, form = schema["type"], schema.get("format", "")
    if isinstance(value, bool) != (kind == "boolean") or not isinstance(value, _TYPES[kind]):
        return False
    if kind != "string":
        return True
    if form == "byte":
        return _is_base64(value)
    pattern = _FORMATS.get(form)
    return value in schema.get("enum", [value]) and (not pattern or bool(pattern.fullmatch(value)))


def _is_base64(text: str) -> bool:
    try:
        base64.b64decode(text, validate=True)
    except binascii.Error:
        return False
    return True


def _error_form(exchange: Exchange) -> list[str]:
    """What is wrong in an error: https://cloud.google.com/apis/design/errors#http_mapping."""
    try:
        error = json.loads(exchange.answer)["error"]
        right = error["code"] == exchange.status and isinstance(error["message"], str)
    except (ValueError, KeyError, TypeError):
        right = False
    return [] if right else [f"the error has not Google's form: {exchange.answer[:200]}"]
