"""What was not real in a recording, in words. Pure, and imports nothing that takes time."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from schema.run_records import Rehearsal

_MOST_FAULTS = 3


def describe_rehearsal(rehearsal: "Rehearsal | None") -> str:
    """In words: 'measured', or what was not real; `kind_of` is the part that decides.

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
        more.append(f"with faults that were asked for: {named}")
    return f"{text} ({'; '.join(more)})" if more else text


def kind_of(provenance: str) -> str:
    """What decides whether two recordings can be compared: how nodes and images came about."""
    return provenance.partition(" (")[0]


def watermark_text(provenance: str) -> str:
    """What stands across a plot of data that were not measured: SIMULATED NODES, for example."""
    return kind_of(provenance).partition(",")[0].upper()
