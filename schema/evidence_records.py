"""The record of how complete a run's events are: evidence.jsonl, a line each time it is judged."""

from datetime import datetime

from pydantic import BaseModel, ConfigDict

from schema.run_records import Source

CLOCK_OFF_S = 5.0
"""Clocks that differ by more are off: an event reaches the watch within a second or two."""


class SourceCount(BaseModel):
    """What one source returned of an attempt's events."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    seen: int
    """Events, each counted once."""
    lost: int
    """Events that another source saw and this one missed."""
    repeated: int
    """Records of an update that this source had already returned."""
    gaps: int


class EvidenceRecord(BaseModel):
    """How complete an attempt's events are: the sources reconciled, when it was judged.

    Events are those about the pods of its trials. A source that gave none is not among `sources`:
    a cluster that is not on GKE has no native log.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    attempt: int
    at: datetime
    complete: bool
    """Cloud Logging held every event that the watch saw, before the deadline."""
    waited_s: float
    """For late entries of Cloud Logging."""
    sources: dict[Source, SourceCount]
    seen_by_several: int
    seen_by_one: int
    seen_by_none: int
    """Events that must have been, by the pods' own states, and that no source saw."""
    clock_offsets_s: dict[str, float] = {}
    """By reporter: the runner's clock less its own, where they differ."""
