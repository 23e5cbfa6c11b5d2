"""A real Pulumi engine over the fake providers and a local Google.

Clusters are entries in a list, and the objects in them in a dict: they are checked and compared,
but no API server sees them. The rehearsal's own tests have real clusters.
"""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from pulumi import automation
from pulumi.automation.events import EngineEvent, OpType

from infra.program import declare
from rehearsal.google.environment import ENDPOINTS
from rehearsal.pulumi.providers.gcp import GcpProvider
from rehearsal.pulumi.providers.google_rest import GoogleApi, Json
from rehearsal.pulumi.providers.kubernetes import KubernetesProvider
from rehearsal.pulumi.providers.properties import Props
from rehearsal.pulumi.providers.protocol import Found, Resource, Session
from rehearsal.pulumi.providers.servicer import serve
from tests.infra.stack_files import ROOT
from tests.rehearsal.local_google import LOGIN, Google, serving
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


class ListedObjects:
    """The fake kubernetes provider with objects in a dict instead of a cluster.

    Attributes:
        objects: by id, what was created and not deleted.
        deleted: the ids of which a deletion was requested.
    """

    name = KubernetesProvider.name
    version = KubernetesProvider.version

    def __init__(self) -> None:
        self._real = KubernetesProvider()
        self.objects: dict[str, Props] = {}
        self.deleted: list[str] = []

    def replaced_keys(self, old: Props, new: Props) -> list[str]:
        """As the fake has it."""
        return self._real.replaced_keys(old, new)

    def configure(self, config: Mapping[str, str]) -> Session:
        """A session that checks and compares as the fake does."""
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


class Engine:
    """Pulumi's CLI with everything that it calls, on this machine alone.

    Attributes:
        google: the local Google.
        calls: methods and paths that the gcp provider sent it.
        inside: the objects in the clusters.
        folder: work_dir with copies of Pulumi.yaml and the stack files.
    """

    def __init__(
        self, google: Google, calls: list[str], inside: ListedObjects, folder: Path
    ) -> None:
        self.google = google
        self.calls = calls
        self.inside = inside
        self.folder = folder

    @property
    def clusters(self) -> list[str]:
        """Names of the clusters that exist."""
        return [key.name for key in self.google.fleet.clusters]

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
        """Steps of a preview by resource name, without what stays the same."""
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
        """Resources in the state by name, in Google Cloud and in the cluster."""
        deployment: Mapping[str, Any] = self.stack(name).export_stack().deployment or {}
        return {
            _name(resource["urn"]): resource
            for resource in deployment.get("resources", [])
            if _is_ours(resource["type"])
        }

    def destroy(self, name: str) -> list[str]:
        """Destroy a stack; the names of what was deleted, in that order."""
        deleted: list[str] = []

        def note(event: EngineEvent) -> None:
            if event.res_outputs_event and _is_ours(event.res_outputs_event.metadata.type):
                deleted.append(_name(event.res_outputs_event.metadata.urn))

        self.stack(name).destroy(on_event=note)
        return deleted


def _is_ours(kind: str) -> bool:
    """Whether a type is Google's or Kubernetes', not a component, a provider or the stack."""
    return not kind.startswith(("pulumi:", "pull-study:"))


def _name(urn: str) -> str:
    return urn.rpartition("::")[2]


@contextmanager
def running_engine(folder: Path, patch: pytest.MonkeyPatch) -> Iterator[Engine]:
    """Start everything; nothing is left afterwards."""
    inside = ListedObjects()
    calls = _recorded_calls(patch)
    providers = [serve(provider) for provider in (GcpProvider(), inside)]
    gcp, kubernetes = (port for _, port in providers)
    work = folder / "work"
    (work / "infra").mkdir(parents=True)
    shutil.copyfile(ROOT / "Pulumi.yaml", work / "Pulumi.yaml")
    (folder / "state").mkdir()
    with serving() as google:
        variables = {
            **{
                f"GOOGLE_{name}_CUSTOM_ENDPOINT": f"{google.url}/{path}"
                for name, path in ENDPOINTS.items()
            },
            "GOOGLE_CLOUD_PROJECT": PROJECT,
            "GOOGLE_OAUTH_ACCESS_TOKEN": LOGIN.token,
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
            yield Engine(google, calls, inside, work)
        finally:
            for server, _ in providers:
                server.stop(grace=None).wait(_BOUND_S)


def _recorded_calls(patch: pytest.MonkeyPatch) -> list[str]:
    """The calls of the gcp provider from now on."""
    calls: list[str] = []
    real = GoogleApi.call

    def call(
        api: GoogleApi, service: str, method: str, path: str, body: Any = None, **params: str
    ) -> Json:
        calls.append(f"{method} {path}")
        return real(api, service, method, path, body, **params)

    patch.setattr(GoogleApi, "call", call)
    return calls
