"""Speed and memory, measured: `make bench` runs every module of this folder.

A benchmark is a module with `measure() -> list[Figure]`. Nothing here is asserted: a machine's mood
is no defect. docs/benchmarks.md keeps the figures of one machine with the command that made them.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured figure."""

    what: str
    value: float
    unit: str
    target: str = ""
    """The target, in words; empty if there is none."""
