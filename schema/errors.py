"""The root of all errors that a user can mend, and the exit codes that they end a program with.

Every message is one sentence with what is wrong, where and why it matters, followed by the
command that mends it. A program prints the message alone; a traceback is for our own mistakes.
"""

from enum import IntEnum


class ExitCode(IntEnum):
    """What a program's exit code means; one code a cause."""

    OK = 0
    """Everything asked for was done; for a run: every cell is valid."""
    INTERNAL = 1
    """A mistake of ours: please report it with the run's folder."""
    USAGE = 2
    """Bad input: an unknown stack, a malformed study, a wrong option."""
    INCOMPLETE = 3
    """The run ended, but at least one cell is excluded; the ledger says which and why."""
    PREFLIGHT = 4
    """A check before the first cost failed; nothing was created."""
    PROVISION = 5
    """The cluster did not come up as declared; it was removed again."""
    MEASURE = 6
    """Measuring failed as a whole; what was measured is in the run's folder."""
    TEARDOWN = 7
    """The cluster may still exist and cost money; the message says how to remove it."""
    DIFFERENT = 8
    """Two recordings differ by what a comparison was told to fail for."""
    INTERRUPTED = 130
    """Interrupted by Ctrl-C or SIGTERM; torn down, and what was measured was kept."""


class UserError(Exception):
    """Something that the user can mend.

    Args:
        problem: one sentence: what is wrong, where, and why it matters.
        cure: the command or step that mends it; empty if there is none.
    """

    exit_code: ExitCode = ExitCode.USAGE

    def __init__(self, problem: str, cure: str = "") -> None:
        super().__init__(problem)
        self.problem = problem
        self.cure = cure

    def __str__(self) -> str:
        return f"{self.problem}\n  To mend it: {self.cure}" if self.cure else self.problem
