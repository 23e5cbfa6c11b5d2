"""Errors that a user can fix."""

from schema.errors import ExitCode, UserError


class PlanError(UserError):
    """The requested image cannot be made, for example since its base cannot be used."""


class BadReferenceError(UserError):
    """A reference is not REGISTRY/REPOSITORY[:TAG][@DIGEST]."""


class CredentialsError(UserError):
    """A registry requires credentials that were not found or that it does not accept."""

    exit_code = ExitCode.PREFLIGHT


class RegistryError(UserError):
    """A registry cannot be reached, refuses a request, or violates its protocol."""

    exit_code = ExitCode.PREFLIGHT


class NotInRegistryError(RegistryError):
    """A registry has no such image or blob."""


class BadImageError(RegistryError):
    """A reference does not name a container image that a node can run."""


class TagExistsError(UserError):
    """The tag names another image already."""


class DigestError(RegistryError):
    """Content in a registry does not match its digest."""


class Interrupted(UserError):
    """Ctrl-C or SIGTERM."""

    exit_code = ExitCode.INTERRUPTED


class VerifyError(UserError):
    """An image does not match its manifest or tag."""

    exit_code = ExitCode.INCOMPLETE
