"""What was not real in a recording, in words. Pure, and fast to import."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from schema.run_records import Rehearsal

_MOST_FAULTS = 3


def describe_rehearsal(rehearsal: "Rehearsal | None") -> str:
    """Return 'measured', or in words what was not real.

    For example `simulated nodes, images at 0.01 of their size (20 times as fast as the clock)`.
    """
    if rehearsal is None:
        return "measured"
    text = "simulated nodes" if rehearsal.nodes == "simulated" else "rehearsed on one machine"
    if rehearsal.scale != 1:
        text += f", images at {rehearsal.scale:g} of their size"
    more = []
    if rehearsal.speed != 1:
        more.append(f"{rehearsal.speed:g} times as fast as the clock")
    if rehearsal.faults:
        names = list(dict.fromkeys(fault.partition(":")[0] for fault in rehearsal.faults))
        rest = len(names) - _MOST_FAULTS
        named = ", ".join(names[:_MOST_FAULTS]) + (f" and {rest} more" if rest > 0 else "")
        more.append(f"with injected faults: {named}")
    return f"{text} ({'; '.join(more)})" if more else text


def kind_of(provenance: str) -> str:
    """Return the kind of nodes and images; only recordings of one kind are compared."""
    return provenance.partition(" (")[0]


def watermark_text(provenance: str) -> str:
    """Return the watermark of a plot of data that were not measured: SIMULATED NODES."""
    return kind_of(provenance).partition(",")[0].upper()
