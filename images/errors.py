"""What can go wrong with an image that its user can mend."""

from schema.errors import ExitCode, UserError


class PlanError(UserError):
    """An image was asked for that cannot be made."""


class BadReferenceError(UserError):
    """A reference is not REGISTRY/REPOSITORY[:TAG][@DIGEST]."""


class BaseError(UserError):
    """The base of an image is missing or cannot be used."""


class CredentialsError(UserError):
    """A registry asks for credentials that were not found or that it does not accept."""

    exit_code = ExitCode.PREFLIGHT


class RegistryError(UserError):
    """A registry cannot be reached, refuses, or answers against its protocol."""

    exit_code = ExitCode.PREFLIGHT


class NotInRegistryError(RegistryError):
    """A registry has no such image or blob."""


class BadImageError(RegistryError):
    """What a name stands for is not a container image that a node could run."""


class TagExistsError(UserError):
    """The tag names another image already."""


class DigestError(RegistryError):
    """What a registry holds or says is not what its digest promises."""


class VerifyError(UserError):
    """An image is not what it says it is."""

    exit_code = ExitCode.INCOMPLETE
