"""A client of Google's REST APIs: Pulumi's state is not evidence.

After a failed create the state can report a broken cluster as healthy, and after a killed provider
it can lack one that exists. The variables of Pulumi's gcp provider set the endpoints here too. The
only things deleted here are what `sweep` removes without a state: clusters and scheduler jobs.
"""

import os
import re
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

import google.auth
import google.auth.exceptions
import requests
from google.auth.transport.requests import AuthorizedSession
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from experiment.errors import Failure, PreflightError, RunError
from experiment.provision.cluster_state import (
    ClusterState,
    DeadManJob,
    Json,
    read_cluster,
    read_job,
)
from experiment.provision.provider_messages import failure_of
from experiment.waiting import Clock, wait_until

_ENDPOINTS = {
    "ARTIFACT_REGISTRY": "https://artifactregistry.googleapis.com/v1/",
    "CLOUD_SCHEDULER": "https://cloudscheduler.googleapis.com/v1/",
    "COMPUTE": "https://compute.googleapis.com/compute/beta/",
    "CONTAINER": "https://container.googleapis.com/v1beta1/",
    "IAM_BETA": "https://iam.googleapis.com/v1/",
    "RESOURCE_MANAGER": "https://cloudresourcemanager.googleapis.com/v1/",
    "SERVICE_USAGE": "https://serviceusage.googleapis.com/v1/",
    "STORAGE": "https://storage.googleapis.com/storage/v1/",
}
"""Google's defaults, by the API's name in the variable GOOGLE_..._CUSTOM_ENDPOINT."""
_SCOPE = "https://www.googleapis.com/auth/cloud-platform"
_TIMEOUT_S = 60
_NOT_FOUND = 404
_CHUNK = 1 << 16
_PARALLEL = 8
_RETRIED = (429, 500, 502, 503, 504)
_DELETE_S = 1200.0
_QUOTA_PROJECT = re.compile(r"quota project|required permission to use project|764086051850")
"""In refusals of a login that may not charge its calls to the project; the number is that of
gcloud's own project (hashicorp/terraform-provider-google, issue 7351)."""
_USE_PROJECT = (
    "gcloud projects add-iam-policy-binding {0} --member user:YOU --role "
    "roles/serviceusage.serviceUsageConsumer; then gcloud auth application-default "
    "set-quota-project {0}"
)


class GoogleApi:
    """Calls of Google's REST APIs for one project.

    Args:
        project: Google Cloud project id.

    Raises:
        PreflightError: there are no Google credentials.
    """

    def __init__(self, project: str) -> None:
        self.project = project
        self.ahead: timedelta | None = None
        """By how much this machine's clock was ahead of Google's at the last response, from a
        header with whole seconds."""
        self.unlisted: tuple[str, ...] = ()
        """Zones that GKE could not reach when it listed clusters last."""
        try:
            # A user's own login has no quota project, and several APIs refuse it without one.
            credentials, _ = google.auth.default(scopes=[_SCOPE], quota_project_id=project)
        except google.auth.exceptions.DefaultCredentialsError as error:
            raise PreflightError(
                "There are no Google credentials.",
                "gcloud auth application-default login",
                failure=Failure.PERMISSION,
            ) from error
        self._session = AuthorizedSession(credentials)
        retry = Retry(
            total=4,
            backoff_factor=0.5,
            status_forcelist=_RETRIED,
            allowed_methods=["GET"],
            raise_on_status=False,
        )
        for scheme in ("https://", "http://"):
            self._session.mount(scheme, HTTPAdapter(max_retries=retry))

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def get(self, api: str, path: str, **params: str) -> Json | None:
        """Read; None if the name does not exist.

        Args:
            api: key of the endpoint, such as CONTAINER.
            path: below the endpoint.
            params: of the query.

        Raises:
            RunError: Google refused or did not answer; its failure has the cause.
        """
        answer = self._call("GET", api, path, params)
        return None if answer is None else dict(answer.json())

    def get_all(self, api: str, path: str, key: str, **params: str) -> Iterator[Json]:
        """Yield the elements of a list, of all its pages.

        Args:
            api: key of the endpoint.
            path: below the endpoint.
            key: of the elements in the answer, such as `services`.
            params: of the query.

        Raises:
            RunError: as `get`; also if there is no such list, which is not an empty one.
        """
        page: dict[str, str] = {}
        while True:
            answer = self._page(api, path, **params, **page)
            yield from answer.get(key, [])
            if not answer.get("nextPageToken"):
                return
            page = {"pageToken": answer["nextPageToken"]}

    def test_permissions(self, permissions: Sequence[str]) -> set[str]:
        """Return which of some permissions the caller has on the project.

        Raises:
            RunError: as `get`.
        """
        path = f"projects/{self.project}:testIamPermissions"
        body = {"permissions": list(permissions)}
        answer = self._call("POST", "RESOURCE_MANAGER", path, {}, body)
        return set() if answer is None else set(answer.json().get("permissions", []))

    def grants(self) -> list[tuple[str, str]]:
        """Return role and member of each grant on the project, those with a condition included.

        Raises:
            RunError: as `get`.
        """
        path = f"projects/{self.project}:getIamPolicy"
        body = {"options": {"requestedPolicyVersion": 3}}
        answer = self._call("POST", "RESOURCE_MANAGER", path, {}, body)
        bindings = [] if answer is None else answer.json().get("bindings", [])
        return [(each["role"], member) for each in bindings for member in each.get("members", ())]

    def get_aggregated(self, collection: str) -> Iterator[Json]:
        """Yield a project's resources of Compute Engine in all zones and regions, and global ones.

        Args:
            collection: such as `disks`.

        Raises:
            RunError: as `get`.
        """
        path = f"projects/{self.project}/aggregated/{collection}"
        page: dict[str, str] = {}
        while True:
            answer = self._page("COMPUTE", path, **page)
            for scope in answer.get("items", {}).values():
                yield from scope.get(collection, ())
            if not answer.get("nextPageToken"):
                return
            page = {"pageToken": answer["nextPageToken"]}

    def get_lines(self, api: str, path: str, **params: str) -> Iterator[bytes]:
        """Read a text line by line; nothing if the name does not exist.

        Raises:
            RunError: as `get`.
        """
        answer = self._call("GET", api, path, params, stream=True)
        if answer is not None:
            with answer:
                yield from answer.iter_lines(_CHUNK)

    def delete(self, api: str, path: str) -> Json | None:
        """Delete; None if the name does not exist.

        Raises:
            RunError: as `get`.
        """
        answer = self._call("DELETE", api, path, {})
        if answer is None:
            return None
        return dict(answer.json()) if answer.content else {}

    def find(self, location: str, name: str) -> ClusterState | None:
        """Return one cluster, None if the name does not exist.

        Raises:
            RunError: as `get`.
        """
        path = f"projects/{self.project}/locations/{location}/clusters/{name}"
        found = self.get("CONTAINER", path)
        return None if found is None else read_cluster(found)

    def clusters(self) -> list[ClusterState]:
        """Return all clusters of the project, in every location, sorted by name.

        `unlisted` then has the zones that GKE could not reach: their clusters may be missing.

        Raises:
            RunError: as `get`.
        """
        answer = self._page("CONTAINER", f"projects/{self.project}/locations/-/clusters")
        self.unlisted = tuple(answer.get("missingZones", ()))
        found = [read_cluster(cluster) for cluster in answer.get("clusters", ())]
        return sorted(found, key=lambda cluster: (cluster.name, cluster.location))

    def running_operations(self, location: str, name: str) -> list[str]:
        """Return the types of the operations that GKE carries out on a cluster and its pools.

        Raises:
            RunError: as `get`.
        """
        path = f"projects/{self.project}/locations/{location}/operations"
        return sorted(
            str(operation.get("operationType", "an operation"))
            for operation in self.get_all("CONTAINER", path, "operations")
            if operation.get("status") != "DONE"
            and f"{operation.get('targetLink', '')}/".partition(f"/clusters/{name}/")[1]
        )

    def _page(self, api: str, path: str, **params: str) -> Json:
        answer = self.get(api, path, **params)
        if answer is None:
            raise RunError(
                f"Google does not know the list {path}, so its elements cannot be checked.",
                "upgrade this program; the API's address may have changed",
                failure=Failure.PROVIDER_ERROR,
            )
        return answer

    def begin_deletion(self, location: str, name: str) -> None:
        """Start the deletion of a cluster with all its nodes.

        Raises:
            RunError: as `get`; GKE refuses during another operation on the cluster.
        """
        self.delete("CONTAINER", f"projects/{self.project}/locations/{location}/clusters/{name}")

    def await_deletion(self, location: str, name: str, clock: Clock = time) -> None:
        """Wait until a cluster is deleted.

        Raises:
            RunError: as `get`, or it still exists after 20 minutes.
        """
        deleted = wait_until(
            lambda: self.find(location, name) is None, _DELETE_S, 0.25, clock, longest_pause_s=10.0
        )
        if not deleted:
            raise RunError(
                f"The cluster {name} still exists {_DELETE_S / 60:.0f} minutes after its deletion "
                "started, and costs money.",
                f"gcloud container clusters delete {name} --location {location} "
                f"--project {self.project}",
                failure=Failure.PROVIDER_ERROR,
            )

    def dead_man_jobs(self) -> list[DeadManJob]:
        """Return the jobs that delete clusters of this program, of every region, sorted by name.

        Raises:
            RunError: as `get`.
        """
        places = f"projects/{self.project}/locations"
        regions = [
            str(place["locationId"])
            for place in self.get_all("CLOUD_SCHEDULER", places, "locations")
        ]

        def jobs_in(region: str) -> list[Json]:
            return list(self.get_all("CLOUD_SCHEDULER", f"{places}/{region}/jobs", "jobs"))

        with ThreadPoolExecutor(_PARALLEL) as pool:
            found = [read_job(job) for jobs in pool.map(jobs_in, regions) for job in jobs]
        return sorted((job for job in found if job), key=lambda job: (job.name, job.region))

    def delete_job(self, region: str, name: str) -> bool:
        """Delete a Cloud Scheduler job; return whether it existed.

        Raises:
            RunError: as `get`.
        """
        path = f"projects/{self.project}/locations/{region}/jobs/{name}"
        return self.delete("CLOUD_SCHEDULER", path) is not None

    def _call(
        self,
        method: str,
        api: str,
        path: str,
        params: dict[str, str],
        body: Json | None = None,
        *,
        stream: bool = False,
    ) -> requests.Response | None:
        base = os.environ.get(f"GOOGLE_{api}_CUSTOM_ENDPOINT", _ENDPOINTS[api])
        url = base + path
        try:
            answer: requests.Response = self._session.request(
                method, url, params=params, json=body, timeout=_TIMEOUT_S, stream=stream
            )
        except (requests.RequestException, google.auth.exceptions.GoogleAuthError) as error:
            raise RunError(
                f"Google did not answer {method} {path}: {error}.",
                "check the connection to googleapis.com, and log in again: "
                "gcloud auth application-default login",
                failure=Failure.PROVIDER_ERROR,
            ) from error
        self._compare_clocks(answer)
        if answer.status_code == _NOT_FOUND:
            return None
        if not answer.ok:
            message = _message(answer)
            raise RunError(
                f"Google refused {method} {path}: {message.rstrip('.')}.",
                _USE_PROJECT.format(self.project) if _QUOTA_PROJECT.search(message) else "",
                failure=failure_of(f"{answer.status_code} {message}") or Failure.PROVIDER_ERROR,
            )
        return answer

    def _compare_clocks(self, answer: requests.Response) -> None:
        with suppress(KeyError, ValueError):
            theirs = parsedate_to_datetime(answer.headers["Date"]) + timedelta(seconds=0.5)
            self.ahead = datetime.now(UTC) - answer.elapsed / 2 - theirs


def _message(answer: requests.Response) -> str:
    """Google's message with its reason."""
    try:
        error = answer.json()["error"]
        reasons = {str(each.get("reason", "")) for each in error.get("errors", [])} - {""}
        return f"{error['message']} ({', '.join(sorted(reasons)) or error.get('status', '')})"
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"{answer.status_code} {answer.reason}"
