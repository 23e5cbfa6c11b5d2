"""Google's REST APIs in one local server: the one place where Google is replaced.

Holds the parts of the APIs that Pulumi's gcp provider and the runner call, each below the path that
the provider's custom endpoints name. Any other call answers 501 and names itself, so that a gap is
seen and never mistaken for Google's answer.
"""

from collections.abc import Callable
from typing import Protocol

from aiohttp import web

from rehearsal.cloud_logging.entries import LogStore
from rehearsal.cluster.fleet import Fleet
from rehearsal.google.access.iam import Iam
from rehearsal.google.access.login import Login
from rehearsal.google.artifact_registry import ArtifactRegistry, Cache, Requested
from rehearsal.google.collections import Services, is_enabled, service_accounts
from rehearsal.google.compute import Compute
from rehearsal.google.faults import GoogleFaults, guarded
from rehearsal.google.gke.clusters import Clusters
from rehearsal.google.gke.made import Made
from rehearsal.google.gke.operations import Start, in_thread
from rehearsal.google.http import Endpoint, GoogleError
from rehearsal.google.places import Places
from rehearsal.google.scheduler import Clock, Scheduler
from rehearsal.google.state import GoogleState, Json
from rehearsal.google.storage import Sinks, Storage
from rehearsal.machine.web import Call

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
_WITHOUT_TOKEN = {"token"}


class _Api(Protocol):
    def routes(self) -> list[Endpoint]: ...


class LocalGoogle:
    """All APIs over one state.

    Attributes:
        endpoints: of all APIs; what none of them has is unknown.
        guard: sees each call first.
        routes: of a server.
        clock: calls what is due by the clock, once it is started.
        resize_s: how long GKE takes to make a control plane larger; 0 for no such thing.
        start: starts the work of GKE's operations.
        login: whose token callers need; a new one by default.
        registry: Artifact Registry, whose `image_routes` answer nodes.
    """

    def __init__(
        self,
        fleet: Fleet,
        *,
        state: GoogleState | None = None,
        logs: LogStore | None = None,
        faults: GoogleFaults | None = None,
        base_url: str = "http://localhost/",
        resize_s: float = 0.0,
        start: Start = in_thread,
        login: Login | None = None,
        cache: Cache | None = None,
    ) -> None:
        state, login = state or GoogleState(), login or Login()
        faults = faults or GoogleFaults()
        faults.limit_quotas(state)
        clusters = Clusters(state, fleet, faults, resize_s, start)

        sinks = Sinks(state, logs or LogStore())
        self.registry = ArtifactRegistry(state, cache or Requested())
        scheduler = Scheduler(state, clusters.delete_by_key, base_url)
        self.clock = Clock(sinks.tick, scheduler.tick)
        apis: tuple[_Api, ...] = (
            clusters,
            self.registry,
            Compute(state),
            Made(state),
            Places(state),
            Iam(state, login),
            service_accounts(state),
            Storage(state),
            sinks,
            scheduler,
            Services(state),
        )
        self.guard = guarded(faults, _guard(state, login))
        self.endpoints = [endpoint for api in apis for endpoint in api.routes()]
        unknown = [
            Endpoint("*", f"/{first}/{{path:.*}}", _refuse_unknown)
            for first in (*_APIS, "serviceusage", "storage", "upload")
        ]
        self.routes: list[web.RouteDef] = [
            *(endpoint.route(self.guard) for endpoint in self.endpoints),
            *(endpoint.route(lambda _call: None) for endpoint in unknown),
        ]


def _guard(state: GoogleState, login: Login) -> Callable[[Call], None]:
    """Return what refuses calls without the token, and calls of an API that is disabled."""

    def refuse(call: Call) -> None:
        first = call.url_path.lstrip("/").partition("/")[0]
        if first not in _WITHOUT_TOKEN and not login.accepts(call.authorization):
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


def _refuse_unknown(call: Call) -> Json:
    raise GoogleError(501, f"The local Google does not know {call.method} {call.url_path}.")
