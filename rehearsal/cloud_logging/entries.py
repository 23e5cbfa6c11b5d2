"""Log entries in the JSON form of google.logging.v2.LogEntry, and the store that keeps them.

Lines that containers print become entries as GKE's log agent makes them: a line that is a JSON
object becomes jsonPayload and its `severity` the entry's. The agent's other special fields are not
handled. https://cloud.google.com/logging/docs/structured-logging
Events become entries of the log `events` as GKE's own exporter makes them:
https://github.com/GoogleCloudPlatform/k8s-stackdriver/tree/master/event-exporter/sinks/stackdriver
"""

import bisect
import re
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from google.cloud.logging_v2.types import LogEntry
from google.protobuf.json_format import ParseDict

from rehearsal.cluster.fleet import ClusterKey, LogLine, json_object

Json = dict[str, Any]
Key = tuple[int, str, str]
"""The order of entries: nanoseconds since 1970, insert id, log name."""

_SEVERITIES = {
    "DEFAULT", "DEBUG", "INFO", "NOTICE", "WARNING", "ERROR", "CRITICAL", "ALERT", "EMERGENCY",
}  # fmt: skip
_TIME = re.compile(
    r"(?P<time>\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d)(?:\.(?P<fraction>\d{1,9})\d*)?"
    r"(?P<zone>[Zz]|[+-]\d\d:\d\d)"
)
_BILLION = 10**9
_LEFT_OUT = {"count", "firstTimestamp", "lastTimestamp"}
"""Of an event, in GKE's own log: log_entry_factory.go, fieldBlacklist."""
_NODE_NAMESPACES = {"default", "kube-node-lease", "kube-system"}
"""Of events that are attributed to a node: monitored_resource_factory.go."""
_STARTED = "Event exporter started watching. Some events may have been lost up to this point."


class Entry:
    """A stored entry; its JSON has logName, insertId, timestamp and receiveTimestamp."""

    def __init__(self, data: Json) -> None:
        self.data = data
        self.timestamp = parse_time(data["timestamp"])
        self.received = parse_time(data["receiveTimestamp"])
        self.log_id = data["logName"].partition("/logs/")[2].replace("%2F", "/")
        self.key: Key = (self.timestamp, data["insertId"], data["logName"])

    @cached_property
    def message(self) -> Any:
        """The entry as a protobuf message; numbers in its payload are floats."""
        return ParseDict(self.data, LogEntry.pb()())


class LogStore:
    """The entries of all logs, in the order of their times. Safe for threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: list[Entry] = []
        self._keys: list[Key] = []
        self._count = 0

    def append(self, line: LogLine) -> None:
        """Add a line that a container printed."""
        self.append_entry(entry_of_line(line))

    def append_event(self, cluster: ClusterKey, event: Json | None) -> None:
        """Add an event to GKE's own log of a cluster's events; None as that log begins."""
        self.append_entry(entry_of_event(cluster, event) if event else entry_of_start(cluster))

    def append_entry(self, entry: Json) -> None:
        """Add an entry of any log, unless there is one of its log name, time and insertId.

        It gets a receiveTimestamp, and where they are missing a timestamp and an insertId that
        sorts after all earlier ones.
        """
        received = format_time(datetime.now(UTC))
        with self._lock:
            self._count += 1
            added = Entry(
                {
                    "timestamp": received,
                    "insertId": f"{self._count:016x}",
                    **entry,
                    "receiveTimestamp": received,
                }
            )
            at = bisect.bisect_left(self._keys, added.key)
            if self._keys[at : at + 1] != [added.key]:
                self._keys.insert(at, added.key)
                self._entries.insert(at, added)

    def entries(self, *, newest_first: bool = False, after: Key | None = None) -> Iterator[Entry]:
        """Iterate over the present entries, from the one that follows a key in this order."""
        with self._lock:
            if newest_first:
                end = len(self._keys) if after is None else bisect.bisect_left(self._keys, after)
                chosen = self._entries[:end][::-1]
            else:
                start = 0 if after is None else bisect.bisect_right(self._keys, after)
                chosen = self._entries[start:]
        yield from chosen


def parse_time(text: str) -> int:
    """Return nanoseconds since 1970 of an RFC 3339 time.

    Raises:
        ValueError: it is none.
    """
    match = _TIME.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not an RFC 3339 time")
    moment = datetime.fromisoformat(match["time"] + match["zone"].upper().replace("Z", "+00:00"))
    return int(moment.timestamp()) * _BILLION + int((match["fraction"] or "").ljust(9, "0"))


def format_time(moment: datetime) -> str:
    """Return RFC 3339 in UTC, with microseconds."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def entry_of_line(line: LogLine) -> Json:
    """Return the entry of a container's line, without insertId and receiveTimestamp."""
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
    if severity in _SEVERITIES:
        entry["severity"] = severity
        del payload["severity"]
    return entry | {"jsonPayload": payload}


def entry_of_event(cluster: ClusterKey, event: Json) -> Json:
    """Return the entry of a core/v1 Event, without insertId and receiveTimestamp.

    One without a time of its own has the time of its receipt.
    """
    about, namespace = event["involvedObject"], event["metadata"].get("namespace")
    kind, labels = "k8s_cluster", {}
    if about.get("kind") == "Pod" and about.get("namespace") == namespace:
        kind, labels = "k8s_pod", {"pod_name": about["name"], "namespace_name": namespace}
    elif about.get("kind") == "Node" and namespace in _NODE_NAMESPACES:
        kind, labels = "k8s_node", {"node_name": about["name"]}
    last = event.get("lastTimestamp") or (event.get("series") or {}).get("lastObservedTime")
    return {
        **_native(cluster, kind, labels),
        "severity": "WARNING" if event.get("type") == "Warning" else "INFO",
        "jsonPayload": {key: value for key, value in event.items() if key not in _LEFT_OUT},
        **({"timestamp": last} if last else {}),
    }


def entry_of_start(cluster: ClusterKey) -> Json:
    """Return the entry that says that earlier events may be missing."""
    native = _native(cluster, "k8s_cluster", {})
    return {**native, "severity": "WARNING", "textPayload": _STARTED}


def _native(cluster: ClusterKey, kind: str, labels: dict[str, str]) -> Json:
    place = {
        "project_id": cluster.project,
        "location": cluster.location,
        "cluster_name": cluster.name,
    }
    return {
        "logName": f"projects/{cluster.project}/logs/events",
        "resource": {"type": kind, "labels": {**place, **labels}},
    }
