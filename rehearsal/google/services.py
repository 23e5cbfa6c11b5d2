"""Service Usage and Artifact Registry: which APIs a project uses, and its repositories.

What is in a repository is the local registry's business.
"""

from rehearsal.google.http import Call, Endpoint, GoogleError, required
from rehearsal.google.iam import policy_routes, project_number
from rehearsal.google.operations import now
from rehearsal.google.places import region_of
from rehearsal.google.state import AlreadyExistsError, GoogleState, Json, Kind

ALWAYS_ENABLED = (
    "artifactregistry",
    "cloudresourcemanager",
    "cloudscheduler",
    "compute",
    "container",
    "iam",
    "logging",
    "serviceusage",
    "storage",
)
"""APIs of a project that no one has disabled; googleapis.com comes after each."""


def is_enabled(state: GoogleState, project: str, api: str) -> bool:
    """Whether a project uses an API, such as `container.googleapis.com`."""
    service = state.get(Kind.SERVICE, f"projects/{project}/services/{api}")
    if service is not None:
        return bool(service["state"] == "ENABLED")
    return api.removesuffix(".googleapis.com") in ALWAYS_ENABLED


class Services:
    """Service Usage over a state."""

    def __init__(self, state: GoogleState) -> None:
        self._state = state

    def routes(self) -> list[Endpoint]:
        """Routes below /serviceusage/."""
        services = "/serviceusage/{version}/projects/{project}/services"
        return [
            Endpoint("POST", f"{services}/{{service}}:enable", self.enable),
            Endpoint("POST", f"{services}/{{service}}:disable", self.disable),
            Endpoint("GET", services, self.list_services),
            Endpoint("GET", f"{services}/{{service}}", self.get),
        ]

    def enable(self, call: Call) -> Json:
        """Enable an API; done at once."""
        return self._set(call, "ENABLED")

    def disable(self, call: Call) -> Json:
        """Disable an API; done at once."""
        return self._set(call, "DISABLED")

    def get(self, call: Call) -> Json:
        """One API."""
        return self._service(call.path["project"], call.path["service"])

    def list_services(self, call: Call) -> Json:
        """The project's APIs, with filter=state:ENABLED those that are enabled."""
        project = call.path["project"]
        known = self._state.find(Kind.SERVICE, f"projects/{project}/services/")
        names = {service["config"]["name"] for service in known}
        names |= {f"{name}.googleapis.com" for name in ALWAYS_ENABLED}
        services = [self._service(project, name) for name in sorted(names)]
        wanted = call.query.get("filter", "").removeprefix("state:")
        return {"services": [item for item in services if wanted in {"", item["state"]}]}

    def _set(self, call: Call, service_state: str) -> Json:
        project, name = call.path["project"], call.path["service"]
        service = {**self._service(project, name), "state": service_state}
        self._state.put(Kind.SERVICE, f"projects/{project}/services/{name}", service)
        return {"name": "operations/noop.DONE_OPERATION", "done": True, "response": service}

    def _service(self, project: str, name: str) -> Json:
        parent = f"projects/{project_number(project)}"
        enabled = is_enabled(self._state, project, name)
        return {
            "name": f"{parent}/services/{name}",
            "parent": parent,
            "config": {"name": name},
            "state": "ENABLED" if enabled else "DISABLED",
        }


class Repositories:
    """Artifact Registry's repositories over a state; what is in them is the local registry's."""

    def __init__(self, state: GoogleState) -> None:
        self._state = state

    def routes(self) -> list[Endpoint]:
        """Routes below /artifacts/."""
        place = "/artifacts/{version}/projects/{project}/locations/{location}/repositories"
        one = f"{place}/{{repository}}"
        return [
            *policy_routes(self._state, one),
            Endpoint("POST", place, self.create),
            Endpoint("GET", place, self.list_repositories),
            Endpoint("GET", one, self.get),
            Endpoint("PATCH", one, self.patch),
            Endpoint("DELETE", one, self.delete),
        ]

    def create(self, call: Call) -> Json:
        """Make a repository; done at once."""
        time = now()
        region_of(call.path["location"])
        # Pulumi's provider writes it in one way, Google's own clients in the other.
        spelling = "repositoryId" if "repositoryId" in call.query else "repository_id"
        name = f"{_repositories(call)}{required(call.query, spelling)}"
        repository = {"mode": "STANDARD_REPOSITORY", **call.body}
        repository |= {"name": name, "createTime": time, "updateTime": time}
        try:
            self._state.create(Kind.REPOSITORY, name, repository)
        except AlreadyExistsError:
            raise GoogleError(409, "the repository already exists") from None
        return _done(call, repository)

    def get(self, call: Call) -> Json:
        """One repository."""
        repository = self._state.get(Kind.REPOSITORY, _repository(call))
        if repository is None:
            raise GoogleError(404, "Requested entity was not found.")
        return repository

    def list_repositories(self, call: Call) -> Json:
        """The repositories of a location."""
        return {"repositories": self._state.find(Kind.REPOSITORY, _repositories(call))}

    def patch(self, call: Call) -> Json:
        """Change fields of a repository."""
        self.get(call)
        sent = {**call.body, "name": _repository(call), "updateTime": now()}
        return self._state.update(Kind.REPOSITORY, _repository(call), lambda old: old.update(sent))

    def delete(self, call: Call) -> Json:
        """Delete a repository; done at once."""
        self.get(call)
        self._state.delete(Kind.REPOSITORY, _repository(call))
        return _done(call, {})


def _done(call: Call, response: Json) -> Json:
    place = f"projects/{call.path['project']}/locations/{call.path['location']}"
    return {"name": f"{place}/operations/done", "done": True, "response": response}


def _repositories(call: Call) -> str:
    return f"projects/{call.path['project']}/locations/{call.path['location']}/repositories/"


def _repository(call: Call) -> str:
    return f"{_repositories(call)}{call.path['repository']}"
