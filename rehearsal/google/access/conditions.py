"""IAM conditions on a resource and the time, in the part of CEL that grants of a cluster need.

    expression = conjunction { "||" conjunction }
    conjunction = term { "&&" term }
    term = ATTRIBUTE ("==" | "!=") STRING | ATTRIBUTE "." ("startsWith" | "endsWith") "(" STRING ")"
        | "request.time < timestamp(" STRING ")"

Everything else is refused when a policy is written, never ignored.
https://docs.cloud.google.com/iam/docs/conditions-attribute-reference
https://docs.cloud.google.com/iam/docs/conditions-resource-attributes
"""

import re
from collections.abc import Mapping
from datetime import datetime

from rehearsal.cluster.fleet import ClusterKey
from rehearsal.google.compute import is_zone
from rehearsal.google.http import GoogleError
from rehearsal.google.state import Json

_STRING = r"""(?:"(?P<double>[^"\\]*)"|'(?P<single>[^'\\]*)')"""
_TERM = re.compile(
    r"\s*resource\.(?P<attribute>name|service|type)\s*(?:(?P<operator>==|!=)\s*"
    rf"|\.(?P<function>startsWith|endsWith)\(\s*){_STRING}\s*(?P<end>\)?)\s*"
)
_TIME = re.compile(rf"\s*request\.time\s*<\s*timestamp\(\s*{_STRING}\s*\)\s*")


def attributes_of(key: ClusterKey, at: datetime) -> dict[str, str]:
    """Return a request's attributes as conditions see them: zonal clusters are named by `zones`."""
    place = "zones" if is_zone(key.location) else "locations"
    return {
        "name": f"projects/{key.project}/{place}/{key.location}/clusters/{key.name}",
        "service": "container.googleapis.com",
        "type": "container.googleapis.com/Cluster",
        "time": at.isoformat(),
    }


def check_condition(condition: Json) -> None:
    """Refuse a condition that Google refuses, or that cannot be evaluated here."""
    if not condition.get("title"):
        raise GoogleError(400, "A condition must have a title.")
    holds(condition, {"name": "", "service": "", "type": "", "time": "1970-01-01T00:00:00Z"})


def holds(condition: Json, resource: Mapping[str, str]) -> bool:
    """Return whether a condition is true of a resource with these attributes."""
    alternatives = str(condition.get("expression", "")).split("||")
    parsed = [[_term(text, resource) for text in each.split("&&")] for each in alternatives]
    return any(all(terms) for terms in parsed)


def _term(text: str, resource: Mapping[str, str]) -> bool:
    if match := _TIME.fullmatch(text):
        before = _moment(match["double"] or match["single"] or "")
        return datetime.fromisoformat(resource["time"]) < before
    match = _TERM.fullmatch(text)
    if match is None or bool(match["function"]) != bool(match["end"]):
        raise GoogleError(501, f"The local Google cannot evaluate the condition {text.strip()}.")
    value = resource[match["attribute"]]
    wanted = match["double"] or match["single"] or ""
    if match["function"] == "startsWith":
        return value.startswith(wanted)
    if match["function"]:
        return value.endswith(wanted)
    return (value == wanted) == (match["operator"] == "==")


def _moment(text: str) -> datetime:
    try:
        return datetime.strptime(text, "%Y-%m-%dT%H:%M:%S%z")
    except ValueError as error:
        raise GoogleError(400, f"{text!r} is not a time in RFC 3339.") from error
