"""A real Pulumi engine over the strict stand-ins of the providers and a local Google.

Clusters there are entries in a list, and what is inside of them is in a dict: it is checked and
compared as ever, but no API server sees it. The rehearsal's own tests have real clusters.
"""

import shutil
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
import yaml
from pulumi import automation
from pulumi.automation.events import EngineEvent, OpType
from starlette.applications import Starlette
from starlette.types import ASGIApp, Receive, Scope, Send

from infra.program import declare
from rehearsal.cluster.fleet import ClusterKey, ControlPlane, PoolSpec
from rehearsal.google import api
from rehearsal.google.environment import ENDPOINTS
from rehearsal.google.state import GoogleState
from rehearsal.pulumi.providers.gcp import GcpProvider
from rehearsal.pulumi.providers.kubernetes import KubernetesProvider
from rehearsal.pulumi.providers.properties import Props
from rehearsal.pulumi.providers.protocol import Found, Resource, Session
from rehearsal.pulumi.providers.servicer import serve
from tests.infra.stack_files import ROOT
from tools.programs import locate

PROJECT = "a-project"
MINE = "mine"
"""Name of a stack that may have any number of nodes."""
_BOUND_S = 10.0
_QUIET = {OpType.SAME, OpType.READ}
_STEPS = {
    OpType.CREATE_REPLACEMENT: "replace",
    OpType.DELETE_REPLACED: "replace",
    OpType.REPLACE: "replace",
}


class ListedClusters:
    """A fleet whose clusters are keys in a list."""

    def __init__(self) -> None:
        self.keys: list[ClusterKey] = []

    def create_cluster(self, key: ClusterKey) -> ControlPlane:
        """Note it."""
        self.keys.append(key)
        return ControlPlane(endpoint="127.0.0.1:1", ca_pem="CA", version="1.34.1")

    def delete_cluster(self, key: ClusterKey) -> None:
        """Strike it out."""
        self.keys = [other for other in self.keys if other != key]

    def create_pool(self, key: ClusterKey, pool: PoolSpec) -> None:
        """Nothing to start."""

    def resize_pool(self, key: ClusterKey, pool: str, node_count: int) -> None:
        """Nothing to start or stop."""

    def delete_pool(self, key: ClusterKey, pool: str) -> None:
        """Nothing to stop."""

    def close(self) -> None:
        """Nothing to stop."""


class ListedObjects:
    """The kubernetes stand-in, whose objects are entries in a dict instead of in a cluster.

    Attributes:
        objects: by id, what was created and not deleted.
        deleted: the ids that a deletion was asked for.
    """

    name = KubernetesProvider.name
    version = KubernetesProvider.version

    def __init__(self) -> None:
        self._real = KubernetesProvider()
        self.objects: dict[str, Props] = {}
        self.deleted: list[str] = []

    def replaced_keys(self, old: Props, new: Props) -> list[str]:
        """As the stand-in has it."""
        return self._real.replaced_keys(old, new)

    def configure(self, config: Mapping[str, str]) -> Session:
        """A session that checks and compares as the stand-in does."""
        return _ListedSession(self._real.configure(config), self)


class _ListedSession:
    def __init__(self, real: Session, listed: ListedObjects) -> None:
        self.check = real.check
        self.diff = real.diff
        self.cancel = real.cancel
        self._listed = listed

    def create(self, resource: Resource, inputs: Props) -> tuple[str, Props]:
        object_id = f"{resource.type}/{inputs['metadata']['name']}"
        self._listed.objects[object_id] = inputs
        return object_id, inputs

    def read(self, resource: Resource, resource_id: str, inputs: Props) -> Found | None:
        found = self._listed.objects.get(resource_id)
        return Found(resource_id, inputs, found) if found else None

    def update(
        self, resource: Resource, resource_id: str, state: Props, old: Props, new: Props
    ) -> Props:
        self._listed.objects[resource_id] = new
        return new

    def delete(self, resource: Resource, resource_id: str, state: Props) -> None:
        self._listed.deleted.append(resource_id)
        self._listed.objects.pop(resource_id, None)


class Counted:
    """Counts the requests that reach an app."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.requests = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Count and pass on."""
        self.requests += scope["type"] == "http"
        await self._app(scope, receive, send)


class Engine:
    """Pulumi's CLI with everything that it talks to, on this machine alone.

    Attributes:
        url: of the local Google.
        google: counts what reaches it.
        fleet: the clusters that there are.
        inside: what is in them.
        folder: work_dir with copies of Pulumi.yaml and the stack files.
    """

    def __init__(
        self, url: str, google: Counted, fleet: ListedClusters, inside: ListedObjects, folder: Path
    ) -> None:
        self.url = url
        self.google = google
        self.fleet = fleet
        self.inside = inside
        self.folder = folder

    def stack(self, name: str, changes: Mapping[str, object] | None = None) -> automation.Stack:
        """A stack as committed, with some settings changed; MINE is size-4 by another name."""
        path = self.folder / f"Pulumi.{name}.yaml"
        committed = f"Pulumi.{'size-4' if name == MINE else name}.yaml"
        shutil.copyfile(ROOT / committed, path)
        if changes:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
            content["config"] |= {f"pull-study:{key}": value for key, value in changes.items()}
            path.write_text(yaml.safe_dump(content), encoding="utf-8")
        options = automation.LocalWorkspaceOptions(work_dir=str(self.folder))
        return automation.create_or_select_stack(name, "pull-study", program=declare, opts=options)

    def preview(self, name: str, changes: Mapping[str, object] | None = None) -> dict[str, str]:
        """What a preview would do, by resource name, without what stays the same."""
        steps: dict[str, str] = {}

        def note(event: EngineEvent) -> None:
            if event.resource_pre_event and event.resource_pre_event.metadata.op not in _QUIET:
                metadata = event.resource_pre_event.metadata
                if not _is_ours(metadata.type):
                    return
                step = _STEPS.get(metadata.op, str(metadata.op.value))
                steps[_name(metadata.urn)] = step

        self.stack(name, changes).preview(on_event=note)
        return steps

    def up(self, name: str) -> automation.UpResult:
        """Bring a stack up."""
        return self.stack(name).up()

    def resources(self, name: str) -> dict[str, dict[str, Any]]:
        """By name, what the state has of a stack in Google Cloud and in the cluster."""
        deployment: Mapping[str, Any] = self.stack(name).export_stack().deployment or {}
        return {
            _name(resource["urn"]): resource
            for resource in deployment.get("resources", [])
            if _is_ours(resource["type"])
        }

    def destroy(self, name: str) -> list[str]:
        """Take a stack down; the names of what went, in the order in which it was gone."""
        gone: list[str] = []

        def note(event: EngineEvent) -> None:
            if event.res_outputs_event and _is_ours(event.res_outputs_event.metadata.type):
                gone.append(_name(event.res_outputs_event.metadata.urn))

        self.stack(name).destroy(on_event=note)
        return gone


def _is_ours(kind: str) -> bool:
    """Whether a type is of Google's or the cluster's, not a component, a provider or the stack."""
    return not kind.startswith(("pulumi:", "pull-study:"))


def _name(urn: str) -> str:
    return urn.rpartition("::")[2]


@contextmanager
def running_engine(folder: Path, patch: pytest.MonkeyPatch) -> Iterator[Engine]:
    """Start everything; nothing is left afterwards."""
    fleet = ListedClusters()
    routes = api.routes(GoogleState(folder / "google.sqlite"), fleet)
    google = Counted(Starlette(routes=routes))
    inside = ListedObjects()
    providers = [serve(provider) for provider in (GcpProvider(), inside)]
    gcp, kubernetes = (port for _, port in providers)
    work = folder / "work"
    (work / "infra").mkdir(parents=True)
    shutil.copyfile(ROOT / "Pulumi.yaml", work / "Pulumi.yaml")
    (folder / "state").mkdir()
    with _served(google) as url:
        variables = {
            **{
                f"GOOGLE_{name}_CUSTOM_ENDPOINT": f"{url}/{path}"
                for name, path in ENDPOINTS.items()
            },
            "GOOGLE_CLOUD_PROJECT": PROJECT,
            "GOOGLE_OAUTH_ACCESS_TOKEN": "none",
            "PULUMI_BACKEND_URL": f"file://{folder / 'state'}",
            "PULUMI_CONFIG_PASSPHRASE": "",
            "PULUMI_DEBUG_PROVIDERS": f"gcp:{gcp},kubernetes:{kubernetes}",
            "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
            "PULUMI_HOME": str(folder / "home"),
            "PULUMI_SKIP_UPDATE_CHECK": "true",
        }
        for name, value in variables.items():
            patch.setenv(name, value)
        patch.setenv("PATH", str(locate("pulumi").path.parent), prepend=":")
        try:
            yield Engine(url, google, fleet, inside, work)
        finally:
            for server, _ in providers:
                server.stop(grace=None).wait(_BOUND_S)


@contextmanager
def _served(app: ASGIApp) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        end = time.monotonic() + _BOUND_S
        while not server.started and time.monotonic() < end:
            time.sleep(0.01)
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(_BOUND_S)
