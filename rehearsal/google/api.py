"""Google's REST APIs in one local server: the one place where Google is replaced.

Holds the parts of the APIs that Pulumi's gcp provider and the runner call, each below the path that
the provider's custom endpoints name. A call that is not among them answers 501 and names itself, so
that a gap is seen and never taken for Google's answer.
"""

from collections.abc import Callable
from typing import Protocol

from starlette.routing import Route

from rehearsal.cloud_logging.store import LogStore
from rehearsal.cluster.fleet import ClusterKey, Fleet
from rehearsal.google.clusters import Clusters
from rehearsal.google.compute import Compute
from rehearsal.google.faults import GoogleFaults, guarded
from rehearsal.google.http import Call, Endpoint, GoogleError
from rehearsal.google.iam import Iam
from rehearsal.google.roles import Roles
from rehearsal.google.scheduler import Scheduler
from rehearsal.google.scheduler_clock import Clock
from rehearsal.google.services import Repositories, Services, is_enabled
from rehearsal.google.sinks import Sinks
from rehearsal.google.state import GoogleState, Json
from rehearsal.google.storage import Storage

_APIS = {
    "artifacts": "artifactregistry",
    "compute": "compute",
    "container": "container",
    "crm": "cloudresourcemanager",
    "iam": "iam",
    "logging": "logging",
    "scheduler": "cloudscheduler",
}
"""API by the first part of the path, of those that a project can have disabled."""
_OPEN = {"token", "tokeninfo"}
"""First parts of paths that need no token."""
_EVERY_METHOD = ("GET", "POST", "PUT", "PATCH", "DELETE")


class _Api(Protocol):
    def routes(self) -> list[Endpoint]: ...


def routes(
    state: GoogleState,
    fleet: Fleet,
    logs: LogStore | None = None,
    faults: GoogleFaults | None = None,
    *,
    clock: Clock | None = None,
    base_url: str = "http://localhost/",
) -> list[Route]:
    """The routes of the local Google: `/token` and the like, and all below the APIs' first parts.

    Ends what a killed server left running in this state: call it once a server.

    Args:
        state: what Google knows.
        fleet: runs the clusters.
        logs: archived by the log sinks, if given.
        faults: what strikes calls and operations; nothing by default.
        clock: gets what is to be done by the clock; by default nothing is.
        base_url: where this server answers, for links in what is done by the clock.
    """
    faults = faults or GoogleFaults()
    clock = clock or Clock()

    clusters = Clusters(state, fleet, lambda: None, faults)
    clusters.end_interrupted()

    def delete_cluster(project: str, location: str, name: str, base_url: str) -> Json:
        return clusters.delete_by_key(ClusterKey(project, location, name), base_url)

    sinks, scheduler = Sinks(state, logs), Scheduler(state, delete_cluster, base_url)
    clock.add(sinks.tick)
    clock.add(scheduler.tick)
    parts: tuple[_Api, ...] = (
        clusters,
        Compute(state),
        Iam(state),
        Roles(state),
        Storage(state),
        sinks,
        scheduler,
        Services(state),
        Repositories(state),
    )
    guard = guarded(faults, _guard(state))
    known = [endpoint.route(guard) for part in parts for endpoint in part.routes()]
    unknown = [
        Endpoint(method, f"/{api}/{{path:path}}", _unknown(method))
        for api in (*_APIS, "serviceusage", "storage", "upload")
        for method in _EVERY_METHOD
    ]
    return [*known, *(endpoint.route(lambda _call: None) for endpoint in unknown)]


def _guard(state: GoogleState) -> Callable[[Call], None]:
    def refuse(call: Call) -> None:
        first = call.url_path.lstrip("/").partition("/")[0]
        if first not in _OPEN and not call.authorization.startswith("Bearer "):
            sentence = (
                "Request is missing required authentication credential. Expected OAuth 2 access "
                "token."
            )
            raise GoogleError(401, sentence)
        project = call.path.get("project")
        if first in _APIS and project not in {None, "-"}:
            api = f"{_APIS[first]}.googleapis.com"
            if not is_enabled(state, str(project), api):
                sentence = (
                    f"{api} has not been used in project {project} before or it is disabled. "
                    f"Enable it: gcloud services enable {api} --project {project}"
                )
                raise GoogleError(403, sentence, reason="accessNotConfigured")

    return refuse


def _unknown(method: str) -> Callable[[Call], Json]:
    def refuse(call: Call) -> Json:
        raise GoogleError(501, f"The local Google does not know {method} {call.url_path}.")

    return refuse
