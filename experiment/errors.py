"""Every error that ends a run, with its exit code, and the names of the failures behind them.

An error's class is the phase that it ended; its failure is the cause, where known. A failure's
name, exit code, fix and retries are in CATALOGUE alone, from which docs/reference.md is generated.
Messages follow schema.errors. Nothing here retries: the modules named in the entries do.
"""

import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from schema.errors import ExitCode, UserError
from schema.run_records import CellRecord, Status


class Failure(StrEnum):
    """Names of causes."""

    QUOTA = "quota"
    NO_CAPACITY = "no capacity"
    PERMISSION = "permission"
    API_OFF = "API off"
    IMAGE_MISSING = "image missing"
    REGISTRY_THROTTLED = "registry throttled"
    NODE_LOST = "node lost"
    DISK_PRESSURE = "disk pressure"
    EVICTED = "evicted"
    EVENT_SOURCE_DOWN = "event source down"
    DEADLINE = "deadline"
    BUDGET = "budget"
    INTERRUPTED = "interrupted"
    PROVIDER_ERROR = "provider error"


@dataclass(frozen=True, slots=True)
class Entry:
    """What is known of one failure."""

    exit_code: ExitCode
    meaning: str
    retried: str
    """What is retried, how often, and by whom."""
    fix: str


_AGAIN = "pull-study run --resume RUN measures these trials again"

CATALOGUE: Mapping[Failure, Entry] = {
    Failure.QUOTA: Entry(
        ExitCode.QUOTA,
        "Google's quota for the region is too small for the stack.",
        "a region's quota: in the stack's zones of other regions; else never",
        "request more under IAM & Admin, Quotas, or choose a smaller stack or another zone",
    ),
    Failure.NO_CAPACITY: Entry(
        ExitCode.NO_CAPACITY,
        "No zone of the stack has such machines at the moment, though the quota allows them.",
        "in the next of the stack's zones, once what was made is deleted; never in the same one: a "
        "second `up` can report the broken cluster as healthy",
        "try later, or name more zones: --zone ZONE, repeatedly, or the stack's pull-study:zones",
    ),
    Failure.PERMISSION: Entry(
        ExitCode.PERMISSION,
        "The account lacks permissions, or there are no credentials.",
        "never",
        "gcloud auth application-default login, and the roles of docs/running-on-gke.md",
    ),
    Failure.API_OFF: Entry(
        ExitCode.API_OFF,
        "A Google API is disabled in the project.",
        "never",
        "gcloud services enable API --project PROJECT, then wait a minute",
    ),
    Failure.IMAGE_MISSING: Entry(
        ExitCode.IMAGE_MISSING,
        "A registry does not have an image, or not for linux/amd64.",
        "never: a kubelet's first refusal ends the cell",
        "correct the study, or pull-study-images build --study STUDY",
    ),
    Failure.REGISTRY_THROTTLED: Entry(
        ExitCode.REGISTRY_THROTTLED,
        "A registry answers that there are too many requests.",
        "when digests are read: 3 times, by skopeo; in a trial never, since a retried pull is no "
        "measurement",
        "log in to the registry, use a mirror (Artifact Registry), or wait",
    ),
    Failure.NODE_LOST: Entry(
        ExitCode.NODE_LOST,
        "A node was not Ready, or deleted, while it pulled.",
        "never within a run",
        _AGAIN,
    ),
    Failure.DISK_PRESSURE: Entry(
        ExitCode.DISK_PRESSURE,
        "A node was short of disk while it pulled.",
        "never within a run",
        "pulumi config set pull-study:diskSizeGb GB, or split the study",
    ),
    Failure.EVICTED: Entry(
        ExitCode.EVICTED,
        "A node evicted the pod that pulled, mostly for lack of disk.",
        "never within a run",
        "pulumi config set pull-study:diskSizeGb GB, or split the study",
    ),
    Failure.EVENT_SOURCE_DOWN: Entry(
        ExitCode.EVENT_SOURCE_DOWN,
        "Events do not arrive: by the watch, by the exporter, or in Cloud Logging.",
        "the watch: listed again for as long as the run lasts; Cloud Logging: for 2 minutes",
        "kubectl -n monitoring logs deployment/event-exporter; later: pull-study collect RUN",
    ),
    Failure.DEADLINE: Entry(
        ExitCode.DEADLINE,
        "A trial exceeded its timeout: 180 s plus its bytes at 20 MB/s.",
        "never within a run",
        _AGAIN,
    ),
    Failure.BUDGET: Entry(
        ExitCode.BUDGET,
        "The next trial would have cost more than --budget-usd allows.",
        "never: the cluster is taken down",
        "pull-study run --resume RUN --budget-usd USD",
    ),
    Failure.INTERRUPTED: Entry(
        ExitCode.INTERRUPTED,
        "Ctrl-C, SIGTERM or a closed terminal.",
        "never: the cluster is taken down",
        "pull-study run --resume RUN",
    ),
    Failure.PROVIDER_ERROR: Entry(
        ExitCode.PROVIDER_ERROR,
        "Pulumi, one of its providers, or an API behind them failed in another way.",
        "429 and 503 of Google's APIs: by the provider; no answer, 429 and 5xx of the cluster's "
        "API server: for six minutes",
        "pulumi preview --stack STACK shows the plan; the run's run.log has the steps",
    ),
}
"""Meaning, retries and fix of each failure."""

_CELL_FAILURES = {
    Status.NODE_LOST: Failure.NODE_LOST,
    Status.DISK_PRESSURE: Failure.DISK_PRESSURE,
    Status.EVICTED: Failure.EVICTED,
}
_REGISTRY_SIGNS = (
    (Failure.REGISTRY_THROTTLED, r"toomanyrequests|too many requests|rate limit|\b429\b"),
    (Failure.PERMISSION, r"unauthori[sz]ed|denied|authentication required|\b40[13]\b"),
    (Failure.IMAGE_MISSING, r"manifest.?unknown|name.?unknown|not found|InvalidImageName|\b404\b"),
)


def registry_failure(text: str) -> Failure | None:
    """Return the failure in a registry's refusal, or in a kubelet's report of it."""
    found = (failure for failure, sign in _REGISTRY_SIGNS if re.search(sign, text, re.IGNORECASE))
    return next(found, None)


def cell_failure(cell: CellRecord) -> Failure | None:
    """Return why a cell is excluded, where that has a name."""
    if cell.status in {Status.FAILED, Status.RETRIED}:
        return registry_failure(cell.reason)
    if cell.status is Status.ABORTED and "deadline" in cell.reason:
        return Failure.DEADLINE
    return _CELL_FAILURES.get(cell.status)


def ledger_exit_code(cells: Iterable[CellRecord]) -> ExitCode:
    """Return OK if no cell is excluded, the code of a failure that explains all, or INCOMPLETE."""
    failures = {cell_failure(cell) for cell in cells if not cell.status.intended}
    if not failures:
        return ExitCode.OK
    failure = failures.pop() if len(failures) == 1 else None
    return CATALOGUE[failure].exit_code if failure else ExitCode.INCOMPLETE


def worst(codes: Iterable[int]) -> int:
    """Return the exit code to end with after several runs.

    What may still cost money comes first, then interrupts, internal errors, failures and
    incomplete runs.
    """
    first = (ExitCode.TEARDOWN, ExitCode.INTERRUPTED, ExitCode.INTERNAL)
    last = (ExitCode.INCOMPLETE, ExitCode.OK)

    def rank(code: int) -> tuple[int, int]:
        if code in first:
            return 0, first.index(ExitCode(code))
        return (2, last.index(ExitCode(code))) if code in last else (1, code)

    return min(codes, key=rank, default=ExitCode.OK)


class RunError(UserError):
    """The root of the errors of a run.

    Args:
        problem: one sentence: what is wrong, where, and why it matters.
        fix: the command or step that fixes it; by default the failure's.
        failure: the cause, where known; it then decides the exit code.
    """

    def __init__(self, problem: str, fix: str = "", *, failure: Failure | None = None) -> None:
        super().__init__(problem, fix or (CATALOGUE[failure].fix if failure else ""))
        self.failure = failure
        if failure:
            self.exit_code = CATALOGUE[failure].exit_code


class PlanError(RunError):
    """The study, the stack or the options do not make a run."""

    exit_code = ExitCode.USAGE


class PreflightError(RunError):
    """A check before the first cost failed; nothing was created."""

    exit_code = ExitCode.PREFLIGHT


class OwnershipError(PreflightError):
    """Something belongs to another program or is in use by another process; it is left alone."""


class GuardError(RunError):
    """A stack would break a guard of infra/policy.py."""

    exit_code = ExitCode.GUARD


class RegistryError(PreflightError):
    """An image cannot be read from its registry."""


class ProvisionError(RunError):
    """The cluster did not come up as declared."""

    exit_code = ExitCode.PROVISION


class MeasureError(RunError):
    """Measuring failed as a whole; what was measured is kept."""

    exit_code = ExitCode.MEASURE


class FolderError(MeasureError):
    """The run's folder cannot be written: its disk is full, or fails."""


class BudgetError(MeasureError):
    """The next trial would cost more than the budget; the cluster is taken down."""

    def __init__(self, problem: str, fix: str = "") -> None:
        super().__init__(problem, fix, failure=Failure.BUDGET)


class TeardownError(RunError):
    """The cluster may still exist and cost money; the exit code says so whatever the cause."""

    exit_code = ExitCode.TEARDOWN


class InternalError(RunError):
    """A bug of this program."""

    exit_code = ExitCode.INTERNAL


class Interrupted(RunError):
    """Ctrl-C, SIGTERM or a closed terminal."""

    def __init__(self, problem: str, fix: str = "") -> None:
        super().__init__(problem, fix, failure=Failure.INTERRUPTED)


def one_line(error: BaseException) -> str:
    """Return the first line of an error's text, or its type where it has none."""
    return (str(error) or type(error).__name__).splitlines()[0]


def print_error(text: str) -> None:
    """Print a line to standard error; never fail, even where that is closed."""
    try:
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()
    except (OSError, ValueError, AttributeError):
        pass  # nothing is left to write to
