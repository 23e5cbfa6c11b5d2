"""Classifies messages of Google and Pulumi as failures of the catalogue. Pure.

A message is recognised by what Google documents or the official provider prints, most specific
first. A message that is not recognised is quoted as a provider error: a wrong name would lead to a
wrong fix.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from experiment.errors import CATALOGUE, Failure

_LONGEST = 400
_CALL_SITE = r"sdk-v2/provider\d*\.go:\d+: sdk\.helper_schema: |: provider=google(?:-beta)?@[\d.]+"
"""Where in the official provider's source an error was printed, and by which version."""
_CONFLICT = r"already ?exists|Error 409|^409 "
_REGIONAL = r"\bin region\b|regional quota|the region '"
_NOT_YET_KNOWN = (
    r"service account \S+ does not exist"
    r"|actAs['\"]? denied on service account|lacks IAM permission ['\"]iam\.serviceAccounts\.actAs"
    r"|does not have access to service account"
)
"""400 and 403 of services that do not know an account or a grant of some seconds ago (for example
GoogleCloudPlatform/genai-for-marketing issue 139, privacysandbox/aggregation-service issue 47)."""


@dataclass(frozen=True, slots=True)
class Explained:
    """A classified message of Google or Pulumi."""

    failure: Failure
    why: str
    """The cause, as the end of "... did not come up: "; without a full stop."""
    fix: str
    """The command or step that fixes it."""


class Scope(StrEnum):
    """Where a lack of machines or of quota holds."""

    ZONE = "zone"
    REGION = "region"
    PROJECT = "project"


@dataclass(frozen=True, slots=True)
class _Sign:
    failure: Failure
    pattern: str
    why: str
    fix: str = ""
    """Groups of the pattern are in braces; empty for the catalogue's."""


_SIGNS: Sequence[_Sign] = (
    _Sign(
        Failure.PROVIDER_ERROR,
        r"IP_SPACE_EXHAUSTED|IP space of \S+ is exhausted",
        "a range of addresses has no room for another node or its pods",
        "if the pods' range is full (each node takes a /24 of it), set a smaller number, which is "
        "a larger range: pulumi config set pull-study:podRangePrefix NUMBER --stack STACK; if the "
        "subnet is full, delete other clusters of its region",
    ),
    _Sign(
        Failure.NO_CAPACITY,
        r"RESOURCE_POOL_EXHAUSTED|STOCKOUT|GCE_STOCKOUT|does not have (?:enough|sufficient)"
        r" (?:resources|capacity)|not have enough resources|out of (?:capacity|resources)",
        "the zone has no such machines at the moment, although the quota allows them",
    ),
    _Sign(
        Failure.API_OFF,
        r"(?P<api>[a-z]+\.googleapis\.com) has not been used in project (?P<project>[\w.:-]+)",
        "the API {api} is not enabled in the project {project}",
        "gcloud services enable {api} --project {project}, then wait a minute",
    ),
    _Sign(
        Failure.API_OFF,
        r"SERVICE_DISABLED|accessNotConfigured|it is disabled|API has not been used",
        "an API is not enabled in the project",
    ),
    _Sign(
        Failure.PROVIDER_ERROR,
        r"Error 429|^429 |rate.?limit.?exceeded|too many requests",
        "Google kept rejecting requests as too many",
        "wait some minutes, then repeat the command",
    ),
    _Sign(
        Failure.QUOTA,
        r"[Qq]uota '?(?P<metric>[A-Z][A-Z0-9_]+)'? (?:was )?exceeded|"
        r"Insufficient (?:regional )?quota to satisfy request: resource \"(?P<resource>[A-Z0-9_]+)",
        "the region's quota {metric}{resource} is too small for this stack",
    ),
    _Sign(
        Failure.QUOTA,
        r"quota ?exceeded|GCE_QUOTA_EXCEEDED|insufficient (?:regional )?quota|exceeds? quota"
        r"|quota limit|limit 'CPUS",
        "a quota is too small for this stack",
    ),
    _Sign(
        Failure.PERMISSION,
        r"[Rr]equired \"?'?(?P<permission>[a-z]+\.[\w.]+?)'?\"? permission",
        "the account has no permission {permission}",
        "give it a role with {permission} (docs/running-on-gke.md lists the roles)",
    ),
    _Sign(
        Failure.PERMISSION,
        r"PERMISSION_DENIED|insufficientPermissions|Error 40[13]|^40[13] |forbidden"
        r"|does not have permission|has no \S+ permission|missing required authentication"
        r"|could not find default credentials|invalid_grant|oauth2: cannot fetch token",
        "the account has no permission, or is not logged in",
    ),
    _Sign(
        Failure.PROVIDER_ERROR,
        _CONFLICT,
        "a resource of the same name exists but is not in the state",
        "pull-study recover --stack STACK",
    ),
    _Sign(
        Failure.PROVIDER_ERROR,
        r"the Pulumi CLI was killed",
        "its operations were not finished",
        "pull-study recover --stack STACK, then repeat the command",
    ),
    _Sign(
        Failure.PROVIDER_ERROR,
        r"timeout while waiting|timed out|context deadline exceeded|DEADLINE_EXCEEDED",
        "Google did not finish in time",
        "pull-study recover --stack STACK shows what exists",
    ),
    _Sign(
        Failure.PROVIDER_ERROR,
        r"connection refused|no such host|Connection reset|Cannot reach|error reading from server"
        r"|EOF|transport is closing|did not begin responding",
        "a provider died, or Google could not be reached",
        "pull-study recover --stack STACK, then repeat the command",
    ),
    _Sign(
        Failure.PROVIDER_ERROR,
        r"Error 50[0234]|^50[0234] |backendError|UNAVAILABLE|internalError|try again (?:later|in)",
        "Google's API was not available",
        "wait some minutes, then repeat the command",
    ),
)


def explain(text: str, stack: str = "STACK") -> Explained:
    """Classify a message.

    Args:
        text: of the engine, a provider or an API.
        stack: for the fixes.
    """
    plain = _plain(text)
    for sign in _SIGNS:
        match = re.search(sign.pattern, plain, re.IGNORECASE)
        if match is None:
            continue
        names = {name: value or "" for name, value in match.groupdict().items()}
        fix = (sign.fix or CATALOGUE[sign.failure].fix).replace("STACK", stack)
        why = f"{sign.why.format(**names)} ({_shortened(plain)})"
        return Explained(sign.failure, why, fix.format(**names) if names else fix)
    failure = Failure.PROVIDER_ERROR
    return Explained(failure, _shortened(plain), CATALOGUE[failure].fix.replace("STACK", stack))


def failure_of(text: str) -> Failure | None:
    """Return the failure of a message, None if it is not recognised."""
    plain = _plain(text)
    found = (sign.failure for sign in _SIGNS if re.search(sign.pattern, plain, re.IGNORECASE))
    return next(found, None)


def scope_of(text: str) -> Scope | None:
    """Return where a lack of machines or quota in a message holds; None for other messages.

    Google says "in region R", "regional quota" and "regions/R" of a region, "globally" of a
    project; machines lack in a zone unless a region is named.
    """
    failure, plain = failure_of(text), _plain(text)
    regional = re.search(_REGIONAL, plain, re.IGNORECASE) is not None
    if failure is Failure.NO_CAPACITY:
        return Scope.REGION if regional else Scope.ZONE
    if failure is Failure.QUOTA:
        everywhere = re.search(r"_ALL_REGIONS|globally", plain)
        return Scope.REGION if regional and not everywhere else Scope.PROJECT
    return None


def remaining(zones: Sequence[str], scope: Scope | None) -> tuple[str, ...]:
    """Return the zones to try after the first failed for a lack of this scope.

    Args:
        zones: the one that failed, then those not tried yet.
        scope: None for a failure that another zone does not avoid.
    """
    region = zones[0].rpartition("-")[0]
    if scope is Scope.ZONE:
        return tuple(zones[1:])
    if scope is Scope.REGION:
        return tuple(zone for zone in zones[1:] if zone.rpartition("-")[0] != region)
    return ()


def is_conflict(text: str) -> bool:
    """Return whether a message says that a resource of the same name exists."""
    return re.search(_CONFLICT, _plain(text), re.IGNORECASE) is not None


def is_not_yet_known(text: str) -> bool:
    """Return whether a message is what a service says of an account that was just created."""
    return re.search(_NOT_YET_KNOWN, _plain(text), re.IGNORECASE) is not None


def _plain(text: str) -> str:
    """One line, without Pulumi's colour codes, the provider's call site and Python's tracebacks."""
    plain = re.sub(rf"<\{{%[^%]*%\}}>|{_CALL_SITE}", "", text)
    plain = plain.partition("Traceback (most recent call")[0]
    return " ".join(plain.split())


def _shortened(plain: str) -> str:
    return (plain if len(plain) <= _LONGEST else plain[: _LONGEST - 3] + "...").rstrip(". ")
