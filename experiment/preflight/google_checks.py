"""Checks of a project: credentials, clock, APIs, permissions, quotas. They only read."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import timedelta

from experiment.errors import Failure
from experiment.preflight.findings import Finding, listed, ok, stop, warning
from experiment.provision.google_api import GoogleApi
from experiment.provision.stack_settings import StackFacts

_CLOCK_WARNS = timedelta(seconds=2)
"""Google's Date header counts whole seconds."""
_CLOCK_STOPS = timedelta(minutes=2)
"""Google refuses tokens of a clock that is minutes off, and events would be sought in the past."""
_OTHER_FAMILIES = ("N2", "N2D", "C2", "C3", "T2D")
"""Machine families whose CPUs have a quota of their own; N1 and E2 count as CPUS."""


class GoogleChecks:
    """What Google says of a project, before a stack is made in it.

    Args:
        facts: of the stack.
    """

    def __init__(self, facts: StackFacts) -> None:
        self._facts = facts
        self._api: GoogleApi | None = None

    def all(self) -> tuple[Callable[[], Iterable[Finding]], ...]:
        """The checks, in their order; without credentials the first one stops and is alone."""
        return (self.check_credentials, self.check_apis, self.check_permissions, self.check_quotas)

    def close(self) -> None:
        """Close the connections."""
        if self._api is not None:
            self._api.close()

    def check_credentials(self) -> Iterator[Finding]:
        """There are credentials, Google takes them, and the clocks agree."""
        api = GoogleApi(self._facts.project)
        found = api.get("RESOURCE_MANAGER", f"projects/{self._facts.project}")
        self._api = api
        if found is None:
            yield stop(
                "credentials",
                f"Google knows no project {self._facts.project} that this account may see.",
                "export GOOGLE_CLOUD_PROJECT=my-project",
                Failure.PERMISSION,
            )
            return
        yield ok("credentials", f"Google knows the caller, and the project {api.project}")
        yield from clock_finding(api.ahead)

    def check_apis(self) -> Iterator[Finding]:
        """The APIs that the stack needs are switched on."""
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
                f"{listed(off)} of the project {self._facts.project} are switched off, and the "
                "stack needs them.",
                f"gcloud services enable --project {self._facts.project} {' '.join(off)}",
                Failure.API_OFF,
            )
        else:
            yield ok("APIs", f"all {len(self._facts.needs.apis)} that are needed are switched on")

    def check_permissions(self) -> Iterator[Finding]:
        """The caller may do what Pulumi and the runner do."""
        if self._api is None:
            return
        wanted = self._facts.needs.permissions
        missing = sorted(set(wanted) - self._api.test_permissions(wanted))
        if missing:
            yield stop(
                "permissions",
                f"The caller lacks {listed(missing)} on the project {self._facts.project}.",
                "ask for the roles of docs/running-on-gke.md",
                Failure.PERMISSION,
            )
        else:
            yield ok("permissions", f"the caller holds all {len(wanted)} that are needed")

    def check_quotas(self) -> Iterator[Finding]:
        """The region's quotas have room for the stack."""
        if self._api is None:
            return
        needs = self._facts.needs
        region = self._api.get("COMPUTE", f"projects/{self._facts.project}/regions/{needs.region}")
        quotas = {quota["metric"]: quota for quota in (region or {}).get("quotas", [])}
        for name, need in needs.quotas.items():
            if need:
                yield self._quota(self._metric(name, quotas), need, quotas)

    def _metric(self, name: str, quotas: Mapping[str, object]) -> str:
        family = self._facts.machine_type.partition("-")[0].upper()
        own = f"{family}_CPUS"
        return own if name == "CPUS" and family in _OTHER_FAMILIES and own in quotas else name

    def _quota(self, metric: str, need: int, quotas: Mapping[str, Mapping[str, float]]) -> Finding:
        where = f"in {self._facts.needs.region}"
        if metric not in quotas:
            return warning(
                "quotas",
                f"Google tells no quota {metric} {where}; the stack needs {need}.",
                "see IAM & Admin, Quotas",
            )
        limit, usage = quotas[metric]["limit"], quotas[metric]["usage"]
        free = limit - usage
        if need > free:
            return stop(
                "quotas",
                f"The stack needs {need} of {metric} {where} and {free:.0f} of {limit:.0f} are "
                "free.",
                f"ask for {usage + need:.0f} {metric} under IAM & Admin, Quotas, or choose a "
                "smaller stack or another zone",
                Failure.QUOTA,
            )
        return ok("quotas", f"{metric} {where}: {need} needed, {free:.0f} of {limit:.0f} free")


def clock_finding(ahead: timedelta | None) -> Iterator[Finding]:
    """What a difference of the clocks means.

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
            f"This machine's clock is {seconds} Google's, so events would be sought in a wrong "
            "stretch of time and tokens refused.",
            "timedatectl set-ntp true",
        )
    elif abs(ahead) > _CLOCK_WARNS:
        yield warning(
            "clock",
            f"This machine's clock is {seconds} Google's; times of the runner and of the nodes "
            "are that far apart.",
            "timedatectl set-ntp true",
        )
    else:
        yield ok("clock", "this machine's and Google's agree within their seconds")
