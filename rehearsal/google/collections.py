"""Collections of resources that are created, read, changed and deleted: accounts, services.

Buckets, log sinks and scheduled jobs are such collections too, in modules of their own.
"""

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web

from rehearsal.google.http import Endpoint, GoogleError, body_of, required
from rehearsal.google.state import AlreadyExistsError, GoogleState, Json, Kind, MissingError
from rehearsal.machine.web import Call

_ACCOUNT_ID = re.compile(r"[a-z][-a-z0-9]{4,28}[a-z0-9]")
_ENABLED_BY_DEFAULT = (
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
"""APIs, without .googleapis.com, of a project in which none was enabled or disabled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Collection:
    """The resources of one kind below a path; each one's name is its path below the API's version.

    Attributes:
        path: `/API/VERSION/...` without a resource's id.
        id_of: the id that a request to create names.
        on_create: the resource, from the request and its full name.
        on_change: the fields to set, from the request and the present resource; None removes one.
        on_delete: raises GoogleError for a resource that must stay.
        missing: message of a 404; may name {id}, {name} and {project}.
        taken: message of a 409, likewise.
        reason: of a 409.
        plural: field of a list.
    """

    state: GoogleState
    kind: Kind
    path: str
    id_of: Callable[[Call], str]
    on_create: Callable[[Call, str], Json]
    on_change: Callable[[Call, Json], Json]
    on_delete: Callable[[Json], None] = lambda _resource: None
    missing: str
    taken: str
    reason: str = ""
    plural: str

    def routes(self) -> list[Endpoint]:
        """Return the endpoints; those that come first take precedence."""
        one = f"{self.path}/{{id}}"
        return [
            Endpoint("POST", self.path, self.create),
            Endpoint("GET", self.path, self.list),
            Endpoint("GET", one, self.get),
            Endpoint("PATCH", one, self.patch),
            Endpoint("DELETE", one, self.delete),
        ]

    def name(self, call: Call, resource_id: str) -> str:
        """Return a resource's full name."""
        return f"{self.path.split('/', 3)[3].format(**call.path)}/{resource_id}"

    def list(self, call: Call) -> Json:
        """List the resources that are not marked as deleted, all in one page."""
        found = self.state.find(self.kind, self.name(call, ""))
        return {self.plural: [resource for resource in found if not resource.get("deleted")]}

    def create(self, call: Call) -> Json:
        """Add a resource."""
        resource_id = self.id_of(call)
        name = self.name(call, resource_id)
        resource = self.on_create(call, name)
        try:
            self.state.create(self.kind, name, resource)
        except AlreadyExistsError as error:
            sentence = self._say(self.taken, call, name)
            raise GoogleError(409, sentence, reason=self.reason) from error
        return resource

    def get(self, call: Call) -> Json:
        """Return one resource."""
        resource = self.state.get(self.kind, self.name(call, call.path["id"]))
        if resource is None:
            raise self._not_found(call)
        return resource

    def patch(self, call: Call) -> Json:
        """Change fields of a resource."""

        def change(resource: Json) -> None:
            resource |= self.on_change(call, resource)
            for field in [field for field, value in resource.items() if value is None]:
                del resource[field]

        return self.update(call, change)

    def update(self, call: Call, change: Callable[[Json], None]) -> Json:
        """Change a resource by a function."""
        try:
            return self.state.update(self.kind, self.name(call, call.path["id"]), change)
        except MissingError as error:
            raise self._not_found(call) from error

    def delete(self, call: Call) -> Json | web.Response:
        """Remove a resource."""
        self.on_delete(self.get(call))
        self.state.delete(self.kind, self.name(call, call.path["id"]))
        return {}

    def _not_found(self, call: Call) -> GoogleError:
        return GoogleError(404, self._say(self.missing, call, self.name(call, call.path["id"])))

    def _say(self, sentence: str, call: Call, name: str) -> str:
        project = call.path.get("project", "")
        return sentence.format(id=name.rpartition("/")[2], name=name, project=project)


def project_number(project: str) -> str:
    """Return the number of a project, by number as by id: twelve digits that depend on its id."""
    if project.isdecimal():
        return project
    return str(10**11 + int(hashlib.sha256(project.encode()).hexdigest(), 16) % (9 * 10**11))


def default_account(project: str) -> str:
    """Return the e-mail address of a project's default Compute Engine service account."""
    return f"{project_number(project)}-compute@developer.gserviceaccount.com"


def service_accounts(state: GoogleState) -> Collection:
    """Return the service accounts, by e-mail address."""

    def email(call: Call) -> str:
        account_id = required(body_of(call), "accountId")
        if not _ACCOUNT_ID.fullmatch(account_id):
            sentence = (
                f'Invalid account id "{account_id}": it must be 6 to 30 lower-case letters, '
                "digits and -, beginning with a letter."
            )
            raise GoogleError(400, sentence)
        return f"{account_id}@{call.path['project']}.iam.gserviceaccount.com"

    def create(call: Call, name: str) -> Json:
        address = name.rpartition("/")[2]
        sent = body_of(call).get("serviceAccount", {})
        return {
            **{field: sent[field] for field in ("displayName", "description") if field in sent},
            "name": name,
            "projectId": call.path["project"],
            "uniqueId": str(10**20 + int(hashlib.sha256(name.encode()).hexdigest(), 16) % 10**20),
            "email": address,
            "oauth2ClientId": project_number(address),
        }

    def change(call: Call, _present: Json) -> Json:
        sent = body_of(call)
        mask = sent.get("updateMask", "").split(",")
        for field in mask:
            if field not in {"displayName", "description"}:
                raise GoogleError(400, f"The field '{field}' cannot be updated.")
        return {field: sent.get("serviceAccount", {}).get(field, "") for field in mask}

    return Collection(
        state=state,
        kind=Kind.SERVICE_ACCOUNT,
        path="/iam/v1/projects/{project}/serviceAccounts",
        id_of=email,
        on_create=create,
        on_change=change,
        missing="Service account {id} does not exist.",
        taken="Service account {id} already exists within project projects/{project}.",
        plural="accounts",
    )


def is_enabled(state: GoogleState, project: str, api: str) -> bool:
    """Return whether a project uses an API, such as `container.googleapis.com`."""
    service = state.get(Kind.SERVICE, f"projects/{project}/services/{api}")
    if service is not None:
        return bool(service["state"] == "ENABLED")
    return api.removesuffix(".googleapis.com") in _ENABLED_BY_DEFAULT


class Services:
    """Service Usage: which APIs a project uses. A change is done at once."""

    def __init__(self, state: GoogleState) -> None:
        self._state = state

    def routes(self) -> list[Endpoint]:
        """Return the endpoints below /serviceusage/."""
        services = "/serviceusage/v1/projects/{project}/services"
        one = f"{services}/{{id}}"
        return [
            Endpoint("POST", f"{one}:enable", lambda call: self._set(call, "ENABLED")),
            Endpoint("POST", f"{one}:disable", lambda call: self._set(call, "DISABLED")),
            Endpoint("GET", services, self._list),
        ]

    def _list(self, call: Call) -> Json:
        project = call.path["project"]
        known = self._state.find(Kind.SERVICE, f"projects/{project}/services/")
        names = {service["config"]["name"] for service in known}
        names |= {f"{name}.googleapis.com" for name in _ENABLED_BY_DEFAULT}
        services = [self._service(project, name) for name in sorted(names)]
        state = call.query.get("filter", "").removeprefix("state:")
        return {"services": [item for item in services if state in {"", item["state"]}]}

    def _set(self, call: Call, service_state: str) -> Json:
        project, name = call.path["project"], call.path["id"]
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
