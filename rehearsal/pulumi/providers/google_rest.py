"""Calls to Google's REST APIs as the gcp provider makes them, on the custom endpoints alone.

Retried: 429, 502, 503 and reads that got no answer, with a growing pause, up to the call's deadline
or two minutes. Everything else fails at once with the API's own message. Deliberately without
Google's client libraries and without a default endpoint: nothing here can reach the real Google.
"""

import copy
import json
import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import requests

from rehearsal.pulumi.providers.base import ProviderError

_RETRIED = frozenset({429, 502, 503})
_RETRY_S = 120.0
_LONGEST_PAUSE_S = 5.0
_REQUEST_S = 60.0
_DEFAULT_TIMEOUT_S = 40 * 60.0  # the official provider's for a cluster

_ENDPOINTS = {
    "container": "container",
    "compute": "compute",
    "iamBeta": "IAM service accounts",
    "resourceManager": "Cloud Resource Manager",
    "storage": "Cloud Storage",
    "logging": "Cloud Logging",
    "cloudScheduler": "Cloud Scheduler",
    "artifactRegistry": "Artifact Registry",
    "serviceUsage": "Service Usage",
}
"""Services by the name that their custom endpoint has in the provider's configuration."""

Json = dict[str, Any]
_T = TypeVar("_T")


class ApiError(ProviderError):
    """Google refused a call.

    Attributes:
        status: the HTTP status.
        said: the API's message.
    """

    def __init__(self, status: int, said: str, reason: str) -> None:
        super().__init__(f"googleapi: Error {status}: {said}{f', {reason}' if reason else ''}")
        self.status = status
        self.said = said


class OperationError(ProviderError):
    """A long-running operation ended with an error."""


@dataclass(frozen=True, slots=True)
class GcpConfig:
    """The gcp provider's configuration: its arguments first, then the environment."""

    values: Mapping[str, str]

    def get(self, key: str, *variables: str) -> str:
        """A configured value, else the first of the environment variables that is set, else ''."""
        return self.values.get(key) or next(filter(None, map(os.environ.get, variables)), "")

    def json(self, key: str, default: _T) -> _T:
        """A configured value that is no string, which arrives as JSON."""
        text = self.values.get(key)
        if not text:
            return default
        value: _T = json.loads(text)
        return value

    def project(self) -> str:
        """The default project."""
        return self.get(
            "project", "GOOGLE_PROJECT", "GOOGLE_CLOUD_PROJECT", "GCLOUD_PROJECT",
            "CLOUDSDK_CORE_PROJECT",
        )  # fmt: skip

    def location(self) -> str:
        """The default zone, or the region where no zone is set."""
        zone = self.get("zone", "GOOGLE_ZONE", "GCLOUD_ZONE", "CLOUDSDK_COMPUTE_ZONE")
        return zone or self.region()

    def region(self) -> str:
        """The default region."""
        return self.get("region", "GOOGLE_REGION", "GCLOUD_REGION", "CLOUDSDK_COMPUTE_REGION")

    def endpoint(self, service: str) -> str:
        """The base URL of a service, with a slash at its end.

        Raises:
            ProviderError: no custom endpoint is set.
        """
        snake = "".join(f"_{char}" if char.isupper() else char.upper() for char in service)
        variable = f"GOOGLE_{snake}_CUSTOM_ENDPOINT"
        url = self.get(f"{service}CustomEndpoint", variable)
        if not url:
            raise ProviderError(
                f"No endpoint of {_ENDPOINTS[service]} is set, and the stand-in of the gcp "
                f"provider never calls the real one; set {variable} or install the official plugin."
            )
        return url if url.endswith("/") else f"{url}/"

    def token(self) -> str:
        """The access token.

        Raises:
            ProviderError: none is set.
        """
        token = self.get("accessToken", "GOOGLE_OAUTH_ACCESS_TOKEN")
        if not token:
            raise ProviderError(
                "google: could not find default credentials; set GOOGLE_OAUTH_ACCESS_TOKEN."
            )
        return token

    def poll_s(self) -> float:
        """The longest pause between two looks at an operation."""
        text = self.get("pollInterval") or "1s"
        units = {"ms": 0.001, "s": 1.0, "m": 60.0}
        for unit, seconds in units.items():
            number = text.removesuffix(unit)
            if number != text and number.replace(".", "", 1).isdigit():
                return float(number) * seconds
        raise ProviderError(f"gcp:pollInterval is {text!r}, which is no duration such as 1s.")


class GoogleApi:
    """One configured way to Google, with a deadline. Safe to use from many threads."""

    def __init__(self, config: GcpConfig) -> None:
        self.config = config
        self._local = threading.local()
        self._end = time.monotonic() + _DEFAULT_TIMEOUT_S

    def within(self, timeout_s: float) -> "GoogleApi":
        """The same, for calls that end in this many seconds; 0 for the default of 40 minutes."""
        bounded = copy.copy(self)
        bounded._end = time.monotonic() + (timeout_s or _DEFAULT_TIMEOUT_S)  # noqa: SLF001
        return bounded

    def _session(self) -> requests.Session:
        if not hasattr(self._local, "session"):
            self._local.session = requests.Session()
            self._local.session.trust_env = False  # no proxy, no netrc: the calls are local
        session: requests.Session = self._local.session
        return session

    def pause(self, seconds: float, waited_for: str) -> None:
        """Sleep.

        Raises:
            ProviderError: the deadline would be over.
        """
        if time.monotonic() + seconds > self._end:
            raise ProviderError(f"timeout while waiting for {waited_for}")
        time.sleep(seconds)

    def call(
        self,
        service: str,
        method: str,
        path: str,
        *,
        body: Mapping[str, Any] | None = None,
        params: Mapping[str, str] | None = None,
    ) -> Json:
        """One call.

        Raises:
            ApiError: Google refused it.
            ProviderError: Google cannot be reached, or nothing is configured.
        """
        url = self.config.endpoint(service) + path
        headers = {"Authorization": f"Bearer {self.config.token()}"}
        retries_end = min(self._end, time.monotonic() + _RETRY_S)
        pause = 0.1
        while True:
            last = time.monotonic() + pause > retries_end
            try:
                response = self._session().request(
                    method, url, json=body, params=params, headers=headers, timeout=_REQUEST_S
                )
            except requests.RequestException as error:
                # A write may have arrived although its answer did not: only reads go again.
                if last or method != "GET":
                    raise ProviderError(f"Cannot reach {url}: {error}") from error
            else:
                if response.status_code not in _RETRIED or last:
                    return _answer(response)
            time.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE_S)

    def find(self, service: str, path: str, params: Mapping[str, str] | None = None) -> Json | None:
        """GET, or None if there is no such thing."""
        try:
            return self.call(service, "GET", path, params=params)
        except ApiError as error:
            if error.status == requests.codes.not_found:
                return None
            raise

    def remove(self, service: str, path: str) -> Json | None:
        """DELETE, or None if it is gone already."""
        try:
            return self.call(service, "DELETE", path)
        except ApiError as error:
            if error.status == requests.codes.not_found:
                return None
            raise

    def wait(
        self, service: str, operation: Json, path: Callable[[str], str], waited_for: str
    ) -> None:
        """Wait until an operation is done.

        Args:
            service: of the operation.
            operation: as the call that started it answered.
            path: the operation's path from its name.
            waited_for: what is being done, for a sentence.

        Raises:
            OperationError: it is done and failed.
        """
        pause = 0.05
        while not (operation.get("status") == "DONE" or operation.get("done")):
            self.pause(pause, waited_for)
            pause = min(pause * 1.5, self.config.poll_s())
            operation = self.call(service, "GET", path(operation["name"]))
        said = operation.get("statusMessage") or operation.get("error", {}).get("message")
        if said:
            raise OperationError(f"Error waiting for {waited_for}: {said}")


def _answer(response: requests.Response) -> Json:
    try:
        content = response.json() if response.content else {}
    except requests.JSONDecodeError:
        content = {}
    if response.ok:
        return content if isinstance(content, dict) else {}
    error = content.get("error", {}) if isinstance(content, dict) else {}
    if not isinstance(error, dict):
        error = {"message": str(error)}
    reasons = [str(each.get("reason", "")) for each in error.get("errors", [])]
    reason = next(filter(None, reasons), str(error.get("status", "")))
    raise ApiError(response.status_code, error.get("message") or response.reason, reason)
