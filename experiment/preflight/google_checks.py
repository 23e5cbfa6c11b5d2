"""Checks of a project: credentials, clock, APIs, permissions, zone, quotas. They only read."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import timedelta

from experiment.errors import Failure
from experiment.preflight.findings import Finding, listed, ok, stop, warning
from experiment.provision.google_api import GoogleApi
from experiment.provision.stack_settings import StackFacts

_CLOCK_WARNS = timedelta(seconds=2)
"""Google's Date header has whole seconds."""
_CLOCK_STOPS = timedelta(minutes=2)
"""Google refuses tokens of a clock that is minutes off, and events would be searched for in a wrong
period."""


class GoogleChecks:
    """Checks of a project before a stack is created in it.

    Args:
        facts: of the stack.
    """

    def __init__(self, facts: StackFacts) -> None:
        self._facts = facts
        self._api: GoogleApi | None = None

    def all(self) -> tuple[Callable[[], Iterable[Finding]], ...]:
        """Return the checks in order; without credentials only the first one yields findings."""
        return (self.check_credentials, self.check_apis, self.check_permissions, self.check_quotas)

    def close(self) -> None:
        """Close the connections."""
        if self._api is not None:
            self._api.close()

    def check_credentials(self) -> Iterator[Finding]:
        """Check the credentials and the clock."""
        api = GoogleApi(self._facts.project)
        found = api.get("RESOURCE_MANAGER", f"projects/{self._facts.project}")
        self._api = api
        if found is None:
            yield stop(
                "credentials",
                f"The project {self._facts.project} does not exist or this account may not see it.",
                "export GOOGLE_CLOUD_PROJECT=my-project",
                Failure.PERMISSION,
            )
            return
        yield ok("credentials", f"valid for the project {api.project}")
        yield from clock_finding(api.ahead)

    def check_apis(self) -> Iterator[Finding]:
        """Check that the required APIs are enabled."""
        if self._api is None:
            return
        on: set[str] = set()
        page = ""
        while True:
            answer = self._api.get(
                "SERVICE_USAGE",
                f"projects/{self._facts.project}/services",
                filter="state:ENABLED",
                pageSize="200",
                **({"pageToken": page} if page else {}),
            )
            answer = answer or {}
            on |= {service["config"]["name"] for service in answer.get("services", [])}
            page = answer.get("nextPageToken", "")
            if not page:
                break
        off = [name for name in self._facts.needs.apis if name not in on]
        if off:
            yield stop(
                "APIs",
                f"{listed(off)} not enabled in the project {self._facts.project}, and the stack "
                "needs them.",
                f"gcloud services enable --project {self._facts.project} {' '.join(off)}",
                Failure.API_OFF,
            )
        else:
            yield ok("APIs", f"all {len(self._facts.needs.apis)} required APIs are enabled")

    def check_permissions(self) -> Iterator[Finding]:
        """Check that the caller has the permissions of Pulumi and the runner."""
        if self._api is None:
            return
        required = self._facts.needs.permissions
        missing = sorted(set(required) - self._api.test_permissions(required))
        if missing:
            yield stop(
                "permissions",
                f"Missing permissions on the project {self._facts.project}: {listed(missing)}.",
                "ask for the roles of docs/running-on-gke.md",
                Failure.PERMISSION,
            )
        else:
            yield ok("permissions", f"all {len(required)} required permissions are granted")

    def check_quotas(self) -> Iterator[Finding]:
        """Check that the zone exists and that the region's quotas suffice."""
        if self._api is None:
            return
        needs = self._facts.needs
        region = self._api.get("COMPUTE", f"projects/{self._facts.project}/regions/{needs.region}")
        zones = {str(zone).rpartition("/")[2] for zone in (region or {}).get("zones", [])}
        if needs.zone not in zones:
            yield stop(
                "zone",
                f"Google Cloud has no zone {needs.zone}"
                + (f"; the region has {listed(sorted(zones))}." if zones else "."),
                f"pulumi config set --path 'pull-study:zones[0]' {min(zones, default='ZONE')}",
            )
            return
        quotas = {quota["metric"]: quota for quota in (region or {}).get("quotas", [])}
        for metric, need in needs.quotas.items():
            if need:
                yield self._quota(metric, need, quotas)

    def _quota(self, metric: str, need: int, quotas: Mapping[str, Mapping[str, float]]) -> Finding:
        where = f"in {self._facts.needs.region}"
        if metric not in quotas:
            return warning(
                "quotas",
                f"Google reports no quota {metric} {where}; the stack needs {need}.",
                "see IAM & Admin, Quotas",
            )
        limit, usage = quotas[metric]["limit"], quotas[metric]["usage"]
        free = limit - usage
        if need > free:
            return stop(
                "quotas",
                f"The stack needs {need} of {metric} {where}, but only {free:.0f} of {limit:.0f} "
                "are free.",
                f"request {usage + need:.0f} {metric} under IAM & Admin, Quotas, or choose a "
                "smaller stack or another zone",
                Failure.QUOTA,
            )
        return ok("quotas", f"{metric} {where}: {need} needed, {free:.0f} of {limit:.0f} free")


def clock_finding(ahead: timedelta | None) -> Iterator[Finding]:
    """Judge the clock difference.

    Args:
        ahead: by how much this machine's clock is ahead of Google's.
    """
    if ahead is None:
        return
    seconds = (
        f"{abs(ahead.total_seconds()):.0f} s {'ahead of' if ahead > timedelta(0) else 'behind'}"
    )
    if abs(ahead) > _CLOCK_STOPS:
        yield stop(
            "clock",
            f"This machine's clock is {seconds} Google's, so tokens would be refused and events "
            "searched for in the wrong period.",
            "timedatectl set-ntp true",
        )
    elif abs(ahead) > _CLOCK_WARNS:
        yield warning(
            "clock",
            f"This machine's clock is {seconds} Google's; times of the runner and of the nodes "
            "differ by that much.",
            "timedatectl set-ntp true",
        )
    else:
        yield ok("clock", "this machine's clock agrees with Google's within a second")
