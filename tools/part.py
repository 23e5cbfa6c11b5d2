"""One part that a rehearsal needs: found on the machine, or how to get it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Part:
    """One program or package, found or not."""

    name: str
    found: bool
    version: str
    """As the program or the package manager prints it; empty if missing or unknown."""
    origin: str
    """Its path; empty if it is missing."""
    fix: str
    """The command that installs it; empty if it was found."""
