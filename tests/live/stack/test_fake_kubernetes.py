"""The fake kubernetes provider against a real API server."""

import base64
import os
from collections.abc import Iterator

import pytest

from infra.components.cluster import kubeconfig
from rehearsal.cluster import control_plane
from rehearsal.cluster.control_plane import LocalControlPlane
from rehearsal.machine import processes, web
from rehearsal.machine.home import Home
from rehearsal.machine.programs import write_plugin
from rehearsal.machine.tokens import PATH, token_route
from rehearsal.pulumi.providers.kubernetes import KubernetesSession
from rehearsal.pulumi.providers.kubernetes_api import ClusterApi
from rehearsal.pulumi.providers.properties import Props
from rehearsal.pulumi.providers.protocol import Resource

pytestmark = [pytest.mark.live, pytest.mark.full]

NAMESPACE = Resource("kubernetes:core/v1:Namespace", "namespace", 60)
CONFIG_MAP = Resource("kubernetes:core/v1:ConfigMap", "configuration", 60)


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KubernetesSession]:
    folder = tmp_path_factory.mktemp("plane")
    home = Home(folder / "home")
    home.folder.mkdir()
    write_plugin(home)
    path = f"{home.programs}{os.pathsep}{os.environ['PATH']}"
    try:
        with web.serving([token_route(home)]) as url, pytest.MonkeyPatch.context() as patch:
            patch.setenv("PATH", path)
            plane = control_plane.start(folder / "cluster", reviewer=url + PATH)
            api = ClusterApi(_kubeconfig(plane))
            yield KubernetesSession(api, delete_unreachable=False)
    finally:
        processes.stop(folder)


def _kubeconfig(plane: LocalControlPlane) -> str:
    """The kubeconfig of `infra`: authority inline, credential by a plugin."""
    authority = base64.b64encode(plane.authority.read_bytes()).decode()
    return kubeconfig("c", plane.public.endpoint, authority)


def _named(labels: dict[str, str]) -> Props:
    return {"metadata": {"name": "monitoring", "labels": labels}}


def test_creates_changes_and_deletes(session: KubernetesSession) -> None:
    old, new = _named({"team": "a"}), _named({})
    resource_id, outputs = session.create(NAMESPACE, old)
    assert resource_id == "monitoring"
    assert outputs["metadata"]["labels"]["team"] == "a"
    found = session.read(NAMESPACE, resource_id, old)
    assert found is not None
    assert session.diff(NAMESPACE, found.outputs, found.inputs, old).changes == []
    outputs = session.update(NAMESPACE, resource_id, outputs, old, new)
    assert "team" not in outputs["metadata"]["labels"]
    inside = {"metadata": {"name": "c", "namespace": "monitoring"}, "data": {"a": "1"}}
    inside_id, _ = session.create(CONFIG_MAP, inside)
    assert inside_id == "monitoring/c"
    session.delete(NAMESPACE, resource_id, outputs)
    assert session.read(NAMESPACE, resource_id, old) is None
    assert session.read(CONFIG_MAP, inside_id, inside) is None
