"""Calls to Google's REST APIs at the custom endpoints.

Retries 429, 502, 503 and reads without an answer, with a growing pause, up to the call's deadline
or two minutes. Everything else fails at once with the API's own message. Without a default
endpoint, so that nothing here can reach the real Google.
"""

import copy
import hashlib
import json
import os
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import requests

from rehearsal.pulumi.providers.protocol import ProviderError

_RETRIED = frozenset({429, 502, 503})
_RETRY_S = 120.0
_LONGEST_PAUSE_S = 5.0
_LONGEST_POLL_S = 1.0
_REQUEST_S = 60.0
_DEFAULT_TIMEOUT_S = 40 * 60.0  # the official provider's for a cluster

Json = dict[str, Any]


class ApiError(ProviderError):
    """Google refused a call with this HTTP status and message."""

    def __init__(self, status: int, message: str, reason: str) -> None:
        super().__init__(f"googleapi: Error {status}: {message}{f', {reason}' if reason else ''}")
        self.status = status
        self.message = message


class OperationError(ProviderError):
    """A long-running operation ended with an error."""


class GoogleApi:
    """Google for one configuration of the provider, with a deadline. Thread-safe.

    Args:
        project: the provider's project, which resources without one of their own get.
        environment: holds GOOGLE_..._CUSTOM_ENDPOINT and GOOGLE_OAUTH_ACCESS_TOKEN.
    """

    def __init__(self, project: str, environment: Mapping[str, str] = os.environ) -> None:
        self._project = project
        self._environment = environment
        self._local = threading.local()
        self._end = time.monotonic() + _DEFAULT_TIMEOUT_S

    def within(self, timeout_s: float) -> "GoogleApi":
        """Return a copy whose calls end in this many seconds; 0 for the default of 40 minutes."""
        bounded = copy.copy(self)
        bounded._end = time.monotonic() + (timeout_s or _DEFAULT_TIMEOUT_S)  # noqa: SLF001
        return bounded

    def project_of(self, inputs: Mapping[str, Any]) -> str:
        """Return the project of a resource, else the provider's."""
        project = inputs.get("project") or self._project
        if not project:
            raise ProviderError("project: required field is not set; set it on the provider.")
        return str(project)

    def _endpoint(self, service: str) -> str:
        variable = f"GOOGLE_{service}_CUSTOM_ENDPOINT"
        url = self._environment.get(variable)
        if not url:
            raise ProviderError(
                f"{variable} is not set, and the fake gcp provider never calls the real Google; "
                "set it or install the official plugin."
            )
        return url.removesuffix("/") + "/"

    def _token(self) -> str:
        token = self._environment.get("GOOGLE_OAUTH_ACCESS_TOKEN")
        if not token:
            raise ProviderError(
                "google: could not find default credentials; set GOOGLE_OAUTH_ACCESS_TOKEN."
            )
        return token

    def _session(self) -> requests.Session:
        if not hasattr(self._local, "session"):
            self._local.session = requests.Session()
            self._local.session.trust_env = False  # no proxy, no netrc: the calls are local
        session: requests.Session = self._local.session
        return session

    def pause(self, seconds: float, waited_for: str) -> None:
        """Sleep, or raise ProviderError if that would pass the deadline."""
        if time.monotonic() + seconds > self._end:
            raise ProviderError(f"timeout while waiting for {waited_for}")
        time.sleep(seconds)

    def call(
        self,
        service: str,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        **params: str,
    ) -> Json:
        """Make one call.

        Args:
            service: as in the name of its custom endpoint's variable, for example CONTAINER.
            method: HTTP method.
            path: below the endpoint.
            body: JSON.
            params: of the query.

        Raises:
            ApiError: Google refused it.
            ProviderError: Google cannot be reached, or nothing is configured.
        """
        return self._send(method, self._endpoint(service) + path, params, json=body)

    def upload(
        self, service: str, path: str, meta: Mapping[str, Any], media_type: str, media: bytes
    ) -> Json:
        """Upload a file with its metadata, in one request."""
        parts = urlsplit(self._endpoint(service) + path)
        # Google's clients put /upload before the path of the endpoint.
        url = parts._replace(path=f"/upload{parts.path}").geturl()
        data, kind = _related(json.dumps(meta), media_type, media)
        params = {"uploadType": "multipart"}
        return self._send("POST", url, params, data=data, headers={"Content-Type": kind})

    def _send(
        self,
        method: str,
        url: str,
        params: Mapping[str, str],
        *,
        json: Mapping[str, Any] | None = None,
        data: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Json:
        headers = {**(headers or {}), "Authorization": f"Bearer {self._token()}"}
        retries_end = min(self._end, time.monotonic() + _RETRY_S)
        pause = 0.1
        while True:
            last = time.monotonic() + pause > retries_end
            try:
                response = self._session().request(
                    method,
                    url,
                    json=json,
                    data=data,
                    params=params,
                    headers=headers,
                    timeout=_REQUEST_S,
                )
            except requests.RequestException as error:
                # A write without an answer may have arrived: only reads are retried.
                if last or method != "GET":
                    raise ProviderError(f"Cannot reach {url}: {error}") from error
            else:
                if response.status_code not in _RETRIED or last:
                    return _answer(response)
            time.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE_S)

    def find(self, service: str, path: str, **params: str) -> Json | None:
        """GET; None if it does not exist."""
        return self._unless_missing(service, "GET", path, **params)

    def remove(self, service: str, path: str) -> Json | None:
        """DELETE; None if it does not exist."""
        return self._unless_missing(service, "DELETE", path)

    def _unless_missing(self, service: str, method: str, path: str, **params: str) -> Json | None:
        try:
            return self.call(service, method, path, None, **params)
        except ApiError as error:
            if error.status == requests.codes.not_found:
                return None
            raise

    def wait(
        self, service: str, operation: Json, path: Callable[[str], str], waited_for: str
    ) -> None:
        """Wait until an operation is done; `path` makes its path from its name.

        Raises:
            OperationError: it failed.
        """
        pause = 0.05
        while not (operation.get("status") == "DONE" or operation.get("done")):
            self.pause(pause, waited_for)
            pause = min(pause * 1.5, _LONGEST_POLL_S)
            operation = self.call(service, "GET", path(operation["name"]))
        message = operation.get("statusMessage") or operation.get("error", {}).get("message")
        if message:
            raise OperationError(f"Error waiting for {waited_for}: {message}")


def _related(meta: str, media_type: str, media: bytes) -> tuple[bytes, str]:
    """Return a multipart/related body of metadata and content, and its type."""
    boundary = f"pulumi{hashlib.sha256(media).hexdigest()}"
    start = (
        f"--{boundary}\r\nContent-Type: application/json\r\n\r\n{meta}\r\n"
        f"--{boundary}\r\nContent-Type: {media_type}\r\n\r\n"
    )
    body = start.encode() + media + f"\r\n--{boundary}--\r\n".encode()
    return body, f"multipart/related; boundary={boundary}"


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
