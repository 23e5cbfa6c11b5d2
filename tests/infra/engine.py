"""A real Pulumi engine over the strict stand-ins of the providers and a local Google.

Clusters there are entries in a list, so what is inside of them is left out (`--exclude`): the
rehearsal's own tests have real ones.
"""

import shutil
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import uvicorn
import yaml
from pulumi import automation
from pulumi.automation.events import EngineEvent, OpType
from starlette.applications import Starlette
from starlette.types import ASGIApp, Receive, Scope, Send

from infra.program import declare
from rehearsal import google_api
from rehearsal.environment import ENDPOINTS
from rehearsal.fleet import ClusterKey, ControlPlane, PoolSpec
from rehearsal.google_state import GoogleState
from rehearsal.providers.gcp import GcpProvider
from rehearsal.providers.kubernetes import KubernetesProvider
from rehearsal.providers.servicer import serve
from tests.infra.stack_files import ROOT
from tools.programs import locate

PROJECT = "a-project"
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
        folder: work_dir with copies of Pulumi.yaml and the stack files.
    """

    def __init__(self, url: str, google: Counted, fleet: ListedClusters, folder: Path) -> None:
        self.url = url
        self.google = google
        self.fleet = fleet
        self.folder = folder

    def stack(self, name: str, changes: dict[str, object] | None = None) -> automation.Stack:
        """A stack as committed, with some settings changed."""
        path = self.folder / f"Pulumi.{name}.yaml"
        shutil.copyfile(ROOT / path.name, path)
        if changes:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
            content["config"] |= {f"pull-study:{key}": value for key, value in changes.items()}
            path.write_text(yaml.safe_dump(content), encoding="utf-8")
        options = automation.LocalWorkspaceOptions(work_dir=str(self.folder))
        return automation.create_or_select_stack(name, "pull-study", program=declare, opts=options)

    def preview(self, name: str, changes: dict[str, object] | None = None) -> dict[str, str]:
        """What a preview would do, by resource name, without what stays the same."""
        steps: dict[str, str] = {}

        def note(event: EngineEvent) -> None:
            if event.resource_pre_event and event.resource_pre_event.metadata.op not in _QUIET:
                metadata = event.resource_pre_event.metadata
                step = _STEPS.get(metadata.op, str(metadata.op.value))
                steps[metadata.urn.rpartition("::")[2]] = step

        self.stack(name, changes).preview(on_event=note, exclude=[_inside(name)])
        return steps

    def up(self, name: str) -> automation.UpResult:
        """Bring all but the cluster's inside up."""
        return self.stack(name).up(exclude=[_inside(name)])


def _inside(stack: str) -> str:
    return f"urn:pulumi:{stack}::pull-study::**kubernetes:**::**"


@contextmanager
def running_engine(folder: Path, patch: pytest.MonkeyPatch) -> Iterator[Engine]:
    """Start everything; nothing is left afterwards."""
    fleet = ListedClusters()
    routes = google_api.routes(GoogleState(folder / "google.sqlite"), fleet)
    google = Counted(Starlette(routes=routes))
    providers = [serve(provider) for provider in (GcpProvider(), KubernetesProvider())]
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
            yield Engine(url, google, fleet, work)
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
