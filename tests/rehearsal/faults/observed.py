"""An event of a trial's pod, and a line of the exporter with it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from rehearsal.cluster.fleet import ClusterKey, LogLine

THEN = datetime(2026, 1, 1, tzinfo=UTC)


def event(number: int = 1, reason: str = "Pulled", *, namespace: str = "pull-study") -> Any:
    about = {"kind": "Pod", "namespace": namespace, "name": "pod-1"}
    return {"metadata": {"uid": f"u-{number}"}, "reason": reason, "involvedObject": about}


def line(content: Any, stream: str = "stdout") -> LogLine:
    text = content if isinstance(content, str) else json.dumps(content)
    key = ClusterKey("p", "us-central1-a", "c")
    return LogLine(key, "monitoring", "exporter-1", "exporter", stream, text, THEN)
