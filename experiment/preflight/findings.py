"""The result of a preflight check, and what a list of results means for the run."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from rich.markup import escape
from rich.table import Table

from experiment.errors import CATALOGUE, Failure, PreflightError
from schema.errors import ExitCode


class Level(StrEnum):
    """What a finding means for the run."""

    OK = "ok"
    WARNING = "warning"
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check."""

    check: str
    level: Level
    text: str
    fix: str = ""
    failure: Failure | None = None


def ok(check: str, text: str) -> Finding:
    """Return a finding without a problem."""
    return Finding(check, Level.OK, text)


def warning(check: str, text: str, fix: str) -> Finding:
    """Return a finding that may affect results or cost; the run can start."""
    return Finding(check, Level.WARNING, text, fix)


def stop(check: str, text: str, fix: str = "", failure: Failure | None = None) -> Finding:
    """Return a finding with which the run cannot start."""
    return Finding(check, Level.STOP, text, fix, failure)


def permissions_finding(missing: Sequence[str], required: int, where: str, fix: str) -> Finding:
    """Judge permissions on a project or a cluster.

    Args:
        missing: those that are not granted.
        required: number of all that a run needs.
        where: on what.
        fix: how to get them.
    """
    if missing:
        text = f"Missing permissions on {where}: {listed(missing)}."
        return stop("permissions", text, fix, Failure.PERMISSION)
    return ok("permissions", f"all {required} required permissions are granted")


def listed(names: Sequence[str]) -> str:
    """Return names as a part of a sentence."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def refuse(findings: Iterable[Finding]) -> None:
    """Stop the run if a finding does.

    Raises:
        PreflightError: the first finding that stops, with the number of the others.
    """
    stops = [finding for finding in findings if finding.level is Level.STOP]
    if stops:
        first, others = stops[0], len(stops) - 1
        more = f" ({others} more checks failed: pull-study preflight)" if others else ""
        raise PreflightError(f"{first.text}{more}", first.fix, failure=first.failure)


def exit_code_of(findings: Iterable[Finding]) -> int:
    """Return OK, or the code of the first finding that stops: its failure's, else PREFLIGHT."""
    for finding in findings:
        if finding.level is Level.STOP:
            known = CATALOGUE[finding.failure].exit_code if finding.failure else None
            return int(known or ExitCode.PREFLIGHT)
    return int(ExitCode.OK)


_COLOURS = {Level.OK: "green", Level.WARNING: "yellow", Level.STOP: "red"}


def findings_table(findings: Iterable[Finding], title: str) -> Table:
    """Return a table with a row each, and the fix of each problem."""
    table = Table(title=title, title_justify="left", show_header=False, show_edge=False)
    for name in ("level", "check", "finding"):
        table.add_column(name, overflow="fold")
    for finding in findings:
        fix = f"\nFix: {finding.fix}" if finding.fix else ""
        named = f" ({finding.failure})" if finding.failure else ""
        table.add_row(
            f"[{_COLOURS[finding.level]}]{finding.level}[/]",
            finding.check,
            escape(f"{finding.text}{named}{fix}"),
        )
    return table
