"""A Kubernetes event, read from any of the forms in which it is recorded.

The API server's core/v1 Event and the exporter's JSON differ little: the exporter puts the
object's labels, annotations and owners inside involvedObject. Both are read by one model.
"""

import re
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

_HEX = re.compile(r"[0-9a-f]{16}")

REASONS = ("Pulling", "Pulled", "Created", "Started")
"""The steps of a pod's start that a cell's evidence consists of, in their order. No event says that
the runner bound a pod; it notes that itself."""


class InvolvedObject(BaseModel):
    """What an event is about."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    kind: str = ""
    namespace: str = ""
    name: str = ""
    uid: str = ""
    fieldPath: str = ""  # noqa: N815 (the API's name)
    labels: dict[str, str] | None = None

    @property
    def is_init(self) -> bool:
        """Whether it is about an init container (k8s.io/kubernetes, pkg/kubelet/container/ref.go).

        A MiniCluster's pods have one, which may pull an image that is none of the study's.
        """
        return self.fieldPath.startswith("spec.initContainers{")


class EventSource(BaseModel):
    """Who reported an event."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    component: str | None = None
    host: str | None = None


class EventMetadata(BaseModel):
    """Identity of an event."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resourceVersion: str = ""  # noqa: N815 (the API's name)


class KubeEvent(BaseModel):
    """A core/v1 Event, as far as a pull study needs it."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    metadata: EventMetadata = EventMetadata()
    reason: str = ""
    message: str = ""
    type: str | None = None
    involved: InvolvedObject = Field(default=InvolvedObject(), alias="involvedObject")
    source: EventSource | None = None
    first_timestamp: datetime | None = Field(default=None, alias="firstTimestamp")
    last_timestamp: datetime | None = Field(default=None, alias="lastTimestamp")
    event_time: datetime | None = Field(default=None, alias="eventTime")
    count: int | None = None
    reporting_instance: str | None = Field(default=None, alias="reportingInstance")

    @property
    def node(self) -> str:
        """The node whose kubelet reported this event; empty for other reporters."""
        return (self.source.host if self.source else None) or self.reporting_instance or ""

    @property
    def at(self) -> datetime | None:
        """When it happened: the finest of the event's times (see `name_time`)."""
        return name_time(self.metadata.name) or self.event_time or self.first_timestamp


def name_time(name: str) -> datetime | None:
    """The reporter's clock from an event's name, None if the name carries none.

    client-go names events OBJECT.HEX, HEX being the reporter's clock in nanoseconds since 1970
    (k8s.io/client-go/tools/record, makeEvent). Python keeps microseconds of it.
    """
    _, dot, suffix = name.rpartition(".")
    if not dot or not _HEX.fullmatch(suffix):
        return None
    nanoseconds = int(suffix, 16)
    if not 10**18 < nanoseconds < 4 * 10**18:  # 2001 to 2096: anything else is not a clock
        return None
    seconds, rest = divmod(nanoseconds, 10**9)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest // 1000)


def parse_event(data: dict[str, Any]) -> KubeEvent:
    """Read one event object.

    Raises:
        pydantic.ValidationError: a field has a form that no Kubernetes event has.
    """
    return KubeEvent.model_validate(data)
