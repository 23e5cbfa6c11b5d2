"""Every error that ends a run, grouped by the phase that it ends, each with its exit code.

Their messages follow schema.errors: what is wrong, where, why it matters, and the cure.
"""

from schema.errors import ExitCode, UserError


class PlanError(UserError):
    """The study, the stack or the options do not make a run."""

    exit_code = ExitCode.USAGE


class PreflightError(UserError):
    """A check before the first cost failed; nothing was created."""

    exit_code = ExitCode.PREFLIGHT


class RegistryError(PreflightError):
    """An image cannot be read from its registry."""


class ProvisionError(UserError):
    """The cluster did not come up as declared."""

    exit_code = ExitCode.PROVISION


class MeasureError(UserError):
    """Measuring failed as a whole; what was measured is kept."""

    exit_code = ExitCode.MEASURE


class TeardownError(UserError):
    """The cluster may still exist and cost money."""

    exit_code = ExitCode.TEARDOWN


class InternalError(UserError):
    """A mistake of ours."""

    exit_code = ExitCode.INTERNAL


class Interrupted(UserError):
    """Ctrl-C or SIGTERM."""

    exit_code = ExitCode.INTERRUPTED
