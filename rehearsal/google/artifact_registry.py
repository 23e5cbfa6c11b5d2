"""Artifact Registry's remote repositories, by Google's discovery document (artifactregistry v1).

A repository takes requests for images below its own name and leads them to what stands for its
upstream; what it holds afterwards is what `Cache` reports. An operation is done at once.
"""

import re
import threading
from collections import defaultdict
from typing import Protocol

from aiohttp import web

from rehearsal.google.collections import Collection
from rehearsal.google.compute import region_of
from rehearsal.google.http import Endpoint, GoogleError, body_of, now
from rehearsal.google.state import GoogleState, Json, Kind
from rehearsal.machine.web import Call, route
from rehearsal.real_nodes.mirror import refuse

_REPOSITORIES = "/artifacts/v1/projects/{project}/locations/{location}/repositories"
_ID = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")
_CHANGEABLE = frozenset({"description", "labels"})
_DIGEST = re.compile(r"(?P<image>.+)/manifests/(?P<digest>sha256:[0-9a-f]{64})")


class Cache(Protocol):
    """The content of remote repositories, by their full names."""

    def open(self, repository: str) -> None:
        """Make an empty one."""

    def close(self, repository: str) -> None:
        """Delete one with its content."""

    def target(self, repository: str, path: str) -> str:
        """Return the URL that answers a request for `path`, below /v2/ and the repository."""

    def images(self, repository: str) -> list[tuple[str, str]]:
        """Return (image, digest) of what it holds."""


class Requested:
    """Remote repositories of simulated nodes: they hold the manifests that nodes asked for."""

    def __init__(self) -> None:
        self._images: dict[str, set[tuple[str, str]]] = defaultdict(set)
        self._lock = threading.Lock()

    def open(self, repository: str) -> None:
        self.close(repository)

    def close(self, repository: str) -> None:
        with self._lock:
            self._images.pop(repository, None)

    def target(self, repository: str, path: str) -> str:
        match = _DIGEST.fullmatch(path)
        if match:
            with self._lock:
                self._images[repository].add((match["image"], match["digest"]))
        return f"/v2/{path}"

    def images(self, repository: str) -> list[tuple[str, str]]:
        with self._lock:
            return sorted(self._images[repository])


class ArtifactRegistry:
    """The API's methods over a state, and the repositories' answers to nodes."""

    def __init__(self, state: GoogleState, cache: Cache) -> None:
        self._state = state
        self._cache = cache
        self._repositories = Collection(
            state=state,
            kind=Kind.REPOSITORY,
            path=_REPOSITORIES,
            id_of=lambda call: call.query.get("repositoryId", call.query.get("repository_id", "")),
            on_create=self._create,
            on_change=_change,
            missing='Requested entity was not found: "{name}".',
            taken="the repository already exists",
            plural="repositories",
        )

    def routes(self) -> list[Endpoint]:
        """Return the endpoints below /artifacts/."""
        one, own = f"{_REPOSITORIES}/{{id}}", self._repositories
        return [
            Endpoint("POST", _REPOSITORIES, lambda call: _done(call, own.create(call))),
            Endpoint("GET", _REPOSITORIES, own.list),
            Endpoint("GET", f"{one}/dockerImages", self._images),
            Endpoint("GET", one, own.get),
            Endpoint("PATCH", one, own.patch),
            Endpoint("DELETE", one, self._delete),
        ]

    def image_routes(self) -> list[web.RouteDef]:
        """Return what answers nodes; must come before a registry that stands for all others."""
        path = r"/v2/{project:[a-z][a-z0-9-]+}/{id:pull-through-[a-z0-9-]+}/{path:.+}"
        return [route("GET", path, self._lead)]  # aiohttp answers HEAD by it too

    def hosts(self, project: str, region: str) -> list[str]:
        """Return the registry's name where a project has remote repositories in a region."""
        found = self._state.find(Kind.REPOSITORY, f"projects/{project}/locations/{region}/")
        return [f"{region}-docker.pkg.dev"] if found else []

    def _create(self, call: Call, name: str) -> Json:
        body = body_of(call)
        region_of(call.path["location"])
        if not _ID.fullmatch(name.rpartition("/")[2]):
            raise GoogleError(400, f"invalid repository id in {name!r}")
        upstream = body.get("remoteRepositoryConfig", {}).get("commonRepository", {}).get("uri", "")
        kind = (body.get("format"), body.get("mode"))
        if kind != ("DOCKER", "REMOTE_REPOSITORY") or not upstream.startswith("https://"):
            raise GoogleError(501, f"The local Google has no repositories of the form {body}.")
        self._cache.open(name)
        at = now()
        location, project = call.path["location"], call.path["project"]
        return {
            **body,
            "name": name,
            "createTime": at,
            "updateTime": at,
            "registryUri": f"{location}-docker.pkg.dev/{project}/{name.rpartition('/')[2]}",
        }

    def _delete(self, call: Call) -> Json:
        name = self._repositories.get(call)["name"]
        self._repositories.delete(call)
        self._cache.close(name)
        return _done(call, {})

    def _images(self, call: Call) -> Json:
        repository = self._repositories.get(call)
        name, uri = repository["name"], repository["registryUri"]
        return {
            "dockerImages": [
                {
                    "name": f"{name}/dockerImages/{image.replace('/', '%2F')}@{digest}",
                    "uri": f"{uri}/{image}@{digest}",
                }
                for image, digest in self._cache.images(name)
            ]
        }

    def _lead(self, call: Call) -> web.Response:
        project, own = call.path["project"], call.path["id"]
        found = [
            each["name"]
            for each in self._state.find(Kind.REPOSITORY, f"projects/{project}/locations/")
            if each["name"].endswith(f"/{own}")
        ]
        if not found:
            return refuse(404, "NAME_UNKNOWN", f"Repository {own!r} not found")
        location = self._cache.target(found[0], call.path["path"])
        return web.Response(status=307, headers={"Location": location})


def _change(call: Call, _present: Json) -> Json:
    mask = call.query.get("updateMask", "").split(",")
    for field in mask:
        if field not in _CHANGEABLE:
            raise GoogleError(400, f"The field '{field}' cannot be updated.")
    return {**{field: body_of(call).get(field) for field in mask}, "updateTime": now()}


def _done(call: Call, response: Json) -> Json:
    project, location = call.path["project"], call.path["location"]
    name = f"projects/{project}/locations/{location}/operations/done"
    return {"name": name, "done": True, "response": response}
