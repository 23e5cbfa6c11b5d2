"""A log entry: the JSON form of google.logging.v2.LogEntry, with its times read once.

Makes entries of lines that containers printed, as GKE's log agent does: a line that is a JSON
object becomes jsonPayload and its `severity` the entry's. Of the agent's other special fields none
is treated apart. https://cloud.google.com/logging/docs/structured-logging
"""

import re
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from google.cloud.logging_v2.types import LogEntry
from google.protobuf.json_format import ParseDict

from rehearsal.cluster.fleet import LogLine, json_object

Json = dict[str, Any]
Key = tuple[int, str, str]
"""What entries are ordered by: nanoseconds since 1970, insert id, log name."""
SEVERITIES = {
    "DEFAULT": 0,
    "DEBUG": 100,
    "INFO": 200,
    "NOTICE": 300,
    "WARNING": 400,
    "ERROR": 500,
    "CRITICAL": 600,
    "ALERT": 700,
    "EMERGENCY": 800,
}
"""google.logging.type.LogSeverity."""

_TIME = re.compile(
    r"(?P<day>\d{4}-\d\d-\d\d)"
    r"(?:[Tt](?P<time>\d\d:\d\d:\d\d)(?:\.(?P<fraction>\d{1,9})\d*)?(?P<zone>[Zz]|[+-]\d\d:\d\d))?"
)
_BILLION = 10**9


class Entry:
    """An entry as it is kept.

    Args:
        data: JSON of the entry; with logName, insertId, timestamp and receiveTimestamp.

    Attributes:
        data: the same.
        timestamp: nanoseconds since 1970.
        received: nanoseconds since 1970 at which Cloud Logging had it.
        key: what tells it from all others, and orders them.
    """

    def __init__(self, data: Json) -> None:
        self.data = data
        self.timestamp = parse_time(data["timestamp"])
        self.received = parse_time(data["receiveTimestamp"])
        self.key: Key = (self.timestamp, data["insertId"], data["logName"])

    @property
    def log_id(self) -> str:
        """The part of the log's name that comes after `logs/`, unescaped."""
        return log_id(self.data["logName"])

    @cached_property
    def message(self) -> Any:
        """The entry as a protobuf message; numbers in its payload are floats."""
        return ParseDict(self.data, LogEntry.pb()())


def log_id(log_name: str) -> str:
    """`cloudaudit.googleapis.com/activity` of `projects/P/logs/cloudaudit...%2Factivity`."""
    return log_name.partition("/logs/")[2].replace("%2F", "/").replace("%2f", "/")


def parse_time(text: str) -> int:
    """Nanoseconds since 1970 of an RFC 3339 time or an ISO 8601 date.

    Raises:
        ValueError: it is neither.
    """
    match = _TIME.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not an RFC 3339 time")
    zone = (match["zone"] or "Z").upper().replace("Z", "+00:00")
    moment = datetime.fromisoformat(f"{match['day']}T{match['time'] or '00:00:00'}{zone}")
    return int(moment.timestamp()) * _BILLION + int((match["fraction"] or "").ljust(9, "0"))


def format_time(moment: datetime) -> str:
    """RFC 3339 in UTC, with microseconds."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def entry_of_line(line: LogLine) -> Json:
    """The entry of a container's line; insertId and receiveTimestamp are the store's."""
    cluster = line.cluster
    entry = {
        "logName": f"projects/{cluster.project}/logs/{line.stream}",
        "resource": {
            "type": "k8s_container",
            "labels": {
                "project_id": cluster.project,
                "location": cluster.location,
                "cluster_name": cluster.name,
                "namespace_name": line.namespace_name,
                "pod_name": line.pod_name,
                "container_name": line.container_name,
            },
        },
        "timestamp": format_time(line.at),
        "severity": "ERROR" if line.stream == "stderr" else "INFO",
    }
    payload = json_object(line.text)
    if payload is None:
        return entry | {"textPayload": line.text}
    severity = str(payload.get("severity", "")).upper()
    if severity in SEVERITIES:
        entry["severity"] = severity
        del payload["severity"]
    return entry | {"jsonPayload": payload}
