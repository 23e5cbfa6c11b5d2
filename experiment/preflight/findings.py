"""What a check before a run found: the words that the checks share."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from experiment.errors import Failure


class Level(StrEnum):
    """What a finding means for the run."""

    OK = "ok"
    WARNING = "warning"
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found."""

    check: str
    level: Level
    text: str
    fix: str = ""
    failure: Failure | None = None


def ok(check: str, text: str) -> Finding:
    """All is well."""
    return Finding(check, Level.OK, text)


def warning(check: str, text: str, fix: str) -> Finding:
    """The run can go on; its results or its cost may suffer."""
    return Finding(check, Level.WARNING, text, fix)


def stop(check: str, text: str, fix: str = "", failure: Failure | None = None) -> Finding:
    """The run cannot go on."""
    return Finding(check, Level.STOP, text, fix, failure)


def listed(names: Sequence[str]) -> str:
    """Names as a part of a sentence."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
