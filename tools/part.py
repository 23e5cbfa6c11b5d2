"""What a look at the machine finds of one part that a rehearsal needs: there, or how to get it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Part:
    """One program or package, found or not."""

    name: str
    found: bool
    version: str
    """As the program or the package's manager tells it; empty where it is missing or unknown."""
    origin: str
    """Where it was found: a path; empty where it is missing."""
    fix: str
    """The command that gets it; empty where it was found."""
