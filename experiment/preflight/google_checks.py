"""Checks of a project: credentials, clock, APIs, permissions, places, quotas. They only read."""

from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta

from experiment.errors import Failure
from experiment.preflight.findings import Finding, listed, ok, permissions_finding, stop, warning
from experiment.preflight.place_checks import (
    check_account,
    check_network,
    check_preloaded,
    check_scheduler,
    check_zones,
)
from experiment.preflight.quota_checks import check_quotas
from experiment.provision.google_api import GoogleApi
from experiment.provision.stack_settings import StackFacts

_CLOCK_WARNS = timedelta(seconds=2)
"""Google's Date header has whole seconds."""
_CLOCK_STOPS = timedelta(minutes=2)
"""Google refuses tokens of a clock that is minutes off, and events would be searched for in a wrong
period."""
_ProjectCheck = Callable[[GoogleApi, StackFacts], Iterable[Finding]]
_PROJECT_CHECKS: tuple[_ProjectCheck, ...] = (
    check_zones,
    check_scheduler,
    check_network,
    check_account,
    check_preloaded,
    check_quotas,
)


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
        return (
            self.check_credentials,
            self.check_apis,
            self.check_permissions,
            *map(self._asking, _PROJECT_CHECKS),
        )

    def _asking(self, check: _ProjectCheck) -> Callable[[], Iterable[Finding]]:
        """Return a check without arguments, under its own name."""

        def asking() -> Iterable[Finding]:
            return check(self._api, self._facts) if self._api else ()

        asking.__name__ = check.__name__
        return asking

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
        path = f"projects/{self._facts.project}/services"
        services = self._api.get_all(
            "SERVICE_USAGE", path, "services", filter="state:ENABLED", pageSize="200"
        )
        on = {service["config"]["name"] for service in services}
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
        yield permissions_finding(
            missing,
            len(required),
            f"the project {self._facts.project}",
            "ask for the roles of docs/running-on-gke.md",
        )


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
