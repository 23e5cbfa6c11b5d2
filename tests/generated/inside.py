"""The objects in the clusters: they are deleted with their cluster, and then unreachable."""

from __future__ import annotations

import yaml

from rehearsal.cluster.fleet import ClusterKey
from rehearsal.pulumi.providers.kubernetes import KubernetesProvider
from rehearsal.pulumi.providers.properties import Props
from rehearsal.pulumi.providers.protocol import Found, ProviderError, Resource
from tests.generated.google import Google

_KUBECONFIG = yaml.safe_dump(
    {
        "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:1"}}],
        "users": [{"name": "c", "user": {}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "c"}}],
        "current-context": "c",
    }
)


class Inside:
    """A session of the kubernetes provider; checks and differences are the rehearsal's own."""

    def __init__(self, google: Google) -> None:
        self._google = google
        real = KubernetesProvider().configure({"kubeconfig": _KUBECONFIG})
        self.check = real.check
        self.diff = real.diff
        self._objects: dict[ClusterKey, dict[str, Props]] = {}

    def _here(self) -> dict[str, Props]:
        clusters = self._google.fleet.clusters
        self._objects = {key: each for key, each in self._objects.items() if key in clusters}
        if not clusters:
            raise ProviderError("configured Kubernetes cluster is unreachable: no such host")
        return self._objects.setdefault(next(iter(clusters)), {})

    def create(self, resource: Resource, inputs: Props) -> tuple[str, Props]:
        object_id = f"{resource.type}/{resource.name}"
        self._here()[object_id] = inputs
        return object_id, inputs

    def read(self, resource: Resource, resource_id: str, inputs: Props) -> Found | None:
        found = self._here().get(resource_id)
        return Found(resource_id, inputs, found) if found else None

    def update(
        self, resource: Resource, resource_id: str, state: Props, old: Props, new: Props
    ) -> Props:
        self._here()[resource_id] = new
        return new

    def delete(self, resource: Resource, resource_id: str, state: Props) -> None:
        self._here().pop(resource_id, None)

    def cancel(self) -> None:
        """Nothing waits."""
