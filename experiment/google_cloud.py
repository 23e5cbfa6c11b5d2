"""What the GKE API says of clusters, asked directly: Pulumi's state is not evidence.

After a failed create the state can call a broken cluster fine, and after a killed provider it does
not know one that exists. This module only reads.
"""

import os
from dataclasses import dataclass

import google.auth
import google.auth.exceptions
import requests
from google.auth.transport.requests import AuthorizedSession

from experiment.errors import PreflightError, ProvisionError
from schema.names import CONTAINER_ENDPOINT_VARIABLE

_GKE = "https://container.googleapis.com/v1beta1/"
_SCOPE = "https://www.googleapis.com/auth/cloud-platform"
_TIMEOUT_S = 60
_NOT_FOUND = 404


@dataclass(frozen=True, slots=True)
class ClusterState:
    """A cluster as the API shows it."""

    name: str
    location: str
    status: str
    """RUNNING, PROVISIONING, RECONCILING, STOPPING, ERROR or DEGRADED."""
    detail: str
    pools: dict[str, str]
    """Status by pool name."""

    @property
    def sound(self) -> bool:
        """The cluster and all its pools run."""
        return self.status == "RUNNING" and set(self.pools.values()) <= {"RUNNING"}


class GkeApi:
    """Reads clusters of one project.

    Raises:
        PreflightError: there are no Google credentials.
    """

    def __init__(self, project: str) -> None:
        self._base = os.environ.get(CONTAINER_ENDPOINT_VARIABLE, _GKE)
        self._project = project
        try:
            credentials, _ = google.auth.default(scopes=[_SCOPE])
        except google.auth.exceptions.DefaultCredentialsError:
            raise PreflightError(
                "There are no Google credentials, so no cluster can be made or looked for.",
                "gcloud auth application-default login",
            ) from None
        self._session = AuthorizedSession(credentials)

    def find(self, location: str, name: str) -> ClusterState | None:
        """One cluster, None if there is none of that name.

        Raises:
            ProvisionError: the API refused or did not answer.
        """
        url = f"{self._base}projects/{self._project}/locations/{location}/clusters/{name}"
        try:
            answer = self._session.get(url, timeout=_TIMEOUT_S)
            if answer.status_code == _NOT_FOUND:
                return None
            answer.raise_for_status()
            cluster = answer.json()
        except (requests.RequestException, google.auth.exceptions.GoogleAuthError) as error:
            raise ProvisionError(
                f"The GKE API of project {self._project} did not say whether the cluster {name} "
                f"exists: {error}.",
                f"gcloud container clusters list --project {self._project}",
            ) from None
        return ClusterState(
            name=cluster["name"],
            location=cluster["location"],
            status=cluster.get("status", "UNKNOWN"),
            detail=cluster.get("statusMessage", ""),
            pools={pool["name"]: pool.get("status", "") for pool in cluster.get("nodePools", [])},
        )
