"""The base of all errors that a user can fix, and the exit codes of every program.

Every message is one sentence with what is wrong, where and why it matters, followed by the
command that fixes it. A program prints the message alone; a traceback is for our own mistakes.
"""

from enum import IntEnum


class ExitCode(IntEnum):
    """What a program's exit code means; one code a cause."""

    OK = 0
    """Everything requested was done; for a run: every cell is valid."""
    INTERNAL = 1
    """An internal error: please report it with the run's folder."""
    USAGE = 2
    """Bad input: an unknown stack, a malformed study, a wrong option."""
    INCOMPLETE = 3
    """The run ended, but cells are excluded, for several or other reasons; the ledger has them."""
    PREFLIGHT = 4
    """A check before the first cost failed; nothing was created."""
    PROVISION = 5
    """The cluster did not come up as declared; it was removed again."""
    MEASURE = 6
    """Measuring failed as a whole; what was measured is in the run's folder."""
    TEARDOWN = 7
    """The cluster, or a disk or address of it, may still exist and cost money; the message says how
    to remove it."""
    DIFFERENT = 8
    """Two recordings differ by more than --fail-if allows."""
    BUDGET = 9
    """The next trial would have cost more than the budget; torn down, measured cells kept."""
    QUOTA = 10
    """Google's quota is too small for the stack."""
    NO_CAPACITY = 11
    """No zone of the stack has such machines at the moment."""
    PERMISSION = 12
    """The account lacks permissions, or there are no credentials."""
    API_OFF = 13
    """A Google API is disabled in the project."""
    IMAGE_MISSING = 14
    """A registry does not have an image."""
    REGISTRY_THROTTLED = 15
    """A registry answers that there are too many requests."""
    NODE_LOST = 16
    """The run ended; every excluded cell's node was not Ready, or deleted."""
    DISK_PRESSURE = 17
    """The run ended; every excluded cell's node was short of disk."""
    EVICTED = 18
    """The run ended; every excluded cell's pod was evicted."""
    EVENT_SOURCE_DOWN = 19
    """Events do not arrive, so pulls could not be proved."""
    DEADLINE = 20
    """The run ended; every excluded cell's trial exceeded its timeout."""
    PROVIDER_ERROR = 21
    """Pulumi, one of its providers, or an API behind them failed in another way."""
    GUARD = 22
    """A stack would break a guard of this repository: infra/policy.py, infra/limits.yaml."""
    INTERRUPTED = 130
    """Interrupted by Ctrl-C, SIGTERM or a closed terminal; torn down, what was measured is kept."""


def shortened(text: object, most: int = 100) -> str:
    """Return what a user typed as it is quoted in a sentence: at most `most` characters."""
    shown = str(text)
    return shown if len(shown) <= most else f"{shown[:most]}... ({len(shown)} characters)"


class UserError(Exception):
    """An error that the user can fix; notes (`add_note`) are printed between problem and fix.

    Args:
        problem: one sentence: what is wrong, where, and why it matters.
        fix: the command or step that fixes it; empty if there is none.
    """

    exit_code: ExitCode = ExitCode.USAGE

    def __init__(self, problem: str, fix: str = "") -> None:
        super().__init__(problem)
        self.problem = problem
        self.fix = fix

    def __str__(self) -> str:
        notes: list[str] = getattr(self, "__notes__", [])
        fix = [f"Fix: {self.fix}"] if self.fix else []
        return "\n  ".join([self.problem, *notes, *fix])
