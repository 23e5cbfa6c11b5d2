"""What must be so before a run costs anything: a finding for each check, with its fix.

A finding is ok, a warning, or stops the run. It makes nothing. Checks that need the cluster are in
the prepare phase (experiment.measure.run_trials).
"""

import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from experiment.errors import CATALOGUE, PreflightError, RunError
from experiment.plan.cost import run_estimate
from experiment.plan.registry import still_there
from experiment.preflight.capacity import (
    check_cost,
    check_disk,
    check_exporter,
    check_registry_limits,
)
from experiment.preflight.findings import Finding, Level, listed, ok, stop
from experiment.preflight.google_checks import GoogleChecks
from experiment.provision.existing_cluster import BorrowedCluster
from experiment.provision.stack_settings import StackFacts
from schema.errors import ExitCode
from schema.run_records import PlannedImage, PlannedTrial

_PROGRAMS = {
    "pulumi": "see https://www.pulumi.com/docs/install/, or run make setup",
    "gke-gcloud-auth-plugin": "gcloud components install gke-gcloud-auth-plugin",
    "skopeo": "apt-get install skopeo (or brew install skopeo)",
}
_PARALLEL = 4
_LEAST_FREE_BYTES = 50_000_000
_BYTES_PER_CELL = 20_000
"""Twice what a cell's events, records and its part of the report take."""
_FILES = 200

Check = Callable[[], Iterable[Finding]]


def examine(
    trials: Sequence[PlannedTrial], facts: StackFacts, budget_usd: float | None = None
) -> Iterator[Finding]:
    """Carry out every check of a run on a stack, one after another.

    Args:
        trials: the plan.
        facts: of the stack.
        budget_usd: what the run may cost.
    """
    google = GoogleChecks(facts)
    needs = facts.needs
    estimate = run_estimate(trials, facts.node_count, facts.usd_per_hour)
    try:
        yield from _carried_out((check_programs, *google.all(), digest_check(trials)))
    finally:
        google.close()
    yield from check_registry_limits(trials, facts.node_count, private_nodes=needs.private_nodes)
    yield from check_disk(trials, facts.disk_gb)
    yield from check_exporter(needs.exporter, facts.node_count)
    yield from check_cost(estimate, budget_usd, needs.deadline_hours)


def examine_existing(trials: Sequence[PlannedTrial], cluster: BorrowedCluster) -> Iterator[Finding]:
    """Carry out every check of a run on a cluster that is there already."""

    def check_cluster() -> Iterator[Finding]:
        yield from cluster.findings(trials)

    yield from _carried_out((check_cluster, digest_check(trials)))
    yield from check_registry_limits(trials, cluster.node_count, private_nodes=False)
    yield from check_disk(trials, cluster.disk_gb)


def _carried_out(checks: Iterable[Check]) -> Iterator[Finding]:
    """An error that a check meets is a finding too."""
    for check in checks:
        try:
            yield from check()
        except RunError as error:
            name = check.__name__.removeprefix("check_")
            yield stop(name, error.problem, error.fix, error.failure)


def refuse(findings: Iterable[Finding]) -> None:
    """End the run if a finding stops it.

    Raises:
        PreflightError: the first that stops, with the number of the others.
    """
    stops = [finding for finding in findings if finding.level is Level.STOP]
    if stops:
        first, others = stops[0], len(stops) - 1
        more = f" ({others} more checks failed: python -m experiment preflight)" if others else ""
        raise PreflightError(f"{first.text}{more}", first.fix, failure=first.failure)


def exit_code_of(findings: Iterable[Finding]) -> int:
    """OK, or the code of the first finding that stops: its failure's, else PREFLIGHT."""
    for finding in findings:
        if finding.level is Level.STOP:
            known = CATALOGUE[finding.failure].exit_code if finding.failure else None
            return int(known or ExitCode.PREFLIGHT)
    return int(ExitCode.OK)


_COLOURS = {Level.OK: "green", Level.WARNING: "yellow", Level.STOP: "red"}


def findings_table(findings: Iterable[Finding], title: str) -> Table:
    """A line each, and the fix below what is not well."""
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


def check_programs() -> Iterator[Finding]:
    """The programs that a run calls are on PATH."""
    for program, fix in _PROGRAMS.items():
        where = shutil.which(program)
        if where is None:
            yield stop(
                "programs", f"{program} is not on PATH, and a run cannot do without it.", fix
            )
        else:
            yield ok("programs", f"{program} is {where}")


def check_disk_here(folder: Path, cells: int) -> Iterator[Finding]:
    """The disk of the run's folder has room for the records of so many cells."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    disk = os.statvfs(there)
    free, files = disk.f_bavail * disk.f_frsize, disk.f_favail if disk.f_files else _FILES
    needed = _LEAST_FREE_BYTES + cells * _BYTES_PER_CELL
    if free < needed or files < _FILES:
        yield stop(
            "disk here",
            f"The disk of {there} has {free / 1e6:.0f} MB and {files} files free; the run's "
            f"records need up to {needed / 1e6:.0f} MB and {_FILES} files.",
            f"free space: df -h {there}; df -i {there}",
        )
    else:
        yield ok("disk here", f"{free / 1e9:.1f} GB are free in {there}")


def digest_check(trials: Sequence[PlannedTrial]) -> Check:
    """A check that every digest of a plan is still in its registry."""
    images = list({trial.image.digest: trial.image for trial in trials}.values())

    def check_registry() -> Iterator[Finding]:
        with ThreadPoolExecutor(_PARALLEL) as pool:
            problems = [found for found in pool.map(_missing, images) if found]
        for error in problems[:3]:
            yield stop("registry", error.problem, error.fix, error.failure)
        if not problems:
            hosts = sorted({image.repository.partition("/")[0] for image in images})
            yield ok("registry", f"{len(images)} digests are present in {listed(hosts)}")

    return check_registry


def _missing(image: PlannedImage) -> RunError | None:
    try:
        still_there(image)
    except RunError as error:
        return error
    return None
