"""A core/v1 Event as a msgspec struct with the fields that the tables need.

schema.events has the same event as a pydantic model, for the runner's few events; msgspec decodes
a hundred thousand lines per second.
"""

from datetime import datetime

import msgspec


class Metadata(msgspec.Struct, gc=False):
    """Identity of an event."""

    name: str | None = None
    namespace: str | None = None
    uid: str | None = None


class Source(msgspec.Struct, gc=False):
    """Who reported an event."""

    component: str | None = None
    host: str | None = None


class Labels(
    msgspec.Struct,
    gc=False,
    rename={
        "job_name": "batch.kubernetes.io/job-name",
        "job_uid": "batch.kubernetes.io/controller-uid",
        "old_job_name": "job-name",
        "old_job_uid": "controller-uid",
        "machine_type": "node.kubernetes.io/instance-type",
        "old_machine_type": "beta.kubernetes.io/instance-type",
    },
):
    """The labels of a Job's pods, and of a node, that the exporter repeats in its events."""

    job_name: str = ""
    job_uid: str = ""
    old_job_name: str = ""
    old_job_uid: str = ""
    machine_type: str = ""
    old_machine_type: str = ""


class Involved(msgspec.Struct, gc=False, rename={"field_path": "fieldPath"}):
    """What an event is about."""

    kind: str | None = None
    namespace: str | None = None
    name: str | None = None
    uid: str | None = None
    field_path: str | None = None
    labels: Labels | None = None


class Series(msgspec.Struct, gc=False, rename={"last_observed": "lastObservedTime"}):
    """How often an event of the newer recorder happened, and when last."""

    count: float | None = None
    last_observed: datetime | None = None


class Event(
    msgspec.Struct,
    gc=False,
    rename={
        "involved": "involvedObject",
        "first_timestamp": "firstTimestamp",
        "last_timestamp": "lastTimestamp",
        "event_time": "eventTime",
        "reporting_component": "reportingComponent",
        "reporting_instance": "reportingInstance",
    },
):
    """A core/v1 Event with the fields that the tables need; metadata, involvedObject required."""

    metadata: Metadata
    involved: Involved
    reason: str | None = None
    message: str | None = None
    type: str | None = None
    source: Source | None = None
    first_timestamp: datetime | None = None
    last_timestamp: datetime | None = None
    event_time: datetime | None = None
    count: float | None = None
    reporting_component: str | None = None
    reporting_instance: str | None = None
    series: Series | None = None
