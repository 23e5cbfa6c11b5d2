"""The rehearsal's client of an API server: paths, errors, retries, watches.

It sends and receives objects in the API's JSON form. It is asynchronous, as the simulated kubelets
are; rehearsal.cluster.admin calls it from threads.
"""

import asyncio
import itertools
import json
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from rehearsal.cluster.fleet import FleetError

Object = dict[str, Any]
"""A Kubernetes object in the API's JSON form."""

JSON = "application/json"
MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"

_WATCH_S = 300
_LONGEST_LINE = 1 << 22
_RETRIED = {429, 500, 502, 503, 504}
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.05, 5.0


class ClusterError(FleetError):
    """The cluster's API server refused or did not answer."""


class ConflictError(ClusterError):
    """The object has changed since it was read, or exists already."""


class NotThereError(ClusterError):
    """The object does not exist, or is deleted."""


class UnauthorizedError(ClusterError):
    """The API server does not accept the token, which may have ended."""


class UnavailableError(ClusterError):
    """The API server is busy or away: the same request may succeed later."""


class NoAnswerError(UnavailableError):
    """The API server does not answer."""


class _ListMeta(msgspec.Struct, rename="camel"):
    resource_version: str


class _List(msgspec.Struct):
    metadata: _ListMeta
    items: list[msgspec.Raw]


class _Change(msgspec.Struct):
    type: str
    object: msgspec.Raw


class _Version(msgspec.Struct):
    metadata: _ListMeta


def administrator(
    authority: Path | str, certificate: Path | str, key: Path | str
) -> ssl.SSLContext:
    """Return TLS settings with the administrator's certificate; all are paths of PEM files."""
    context = ssl.create_default_context(cafile=str(authority))
    context.load_cert_chain(certificate, key)
    return context


class KubernetesClient:
    """A connection to one API server, of one asyncio loop.

    Every method raises ClusterError when the API server refuses or does not answer.
    """

    def __init__(
        self,
        server: str,
        tls: ssl.SSLContext,
        *,
        connections: int,
        timeout_s: float,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self._server = server
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=connections, ssl=tls),
            timeout=aiohttp.ClientTimeout(total=timeout_s),
            headers=headers,
        )
        # watches never end, and must not keep a connection from the other requests
        self._watching = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=tls),
            timeout=aiohttp.ClientTimeout(sock_connect=10, sock_read=_WATCH_S + 60),
            headers=headers,
            read_bufsize=_LONGEST_LINE,
        )

    async def close(self) -> None:
        await self._session.close()
        await self._watching.close()

    async def request(
        self,
        method: str,
        path: str,
        body: Object | None = None,
        *,
        content: str = JSON,
        params: Mapping[str, str] | None = None,
        tries: int | None = 1,
    ) -> bytes:
        """Return the body of the answer; `tries` None repeats without limit while unavailable."""
        for attempt in itertools.count(1):
            try:
                return await self._try(method, path, body, content, params)
            except UnavailableError:
                if attempt == tries:
                    raise
            await asyncio.sleep(min(_FIRST_WAIT_S * 2 ** min(attempt - 1, 10), _LONGEST_WAIT_S))
        raise AssertionError  # for mypy: the loop has no end

    async def send(
        self,
        method: str,
        path: str,
        body: Object,
        content: str = JSON,
        *,
        tries: int | None = None,
    ) -> None:
        """Create, change or delete an object; one that is deleted or exists already is no error."""
        with suppress(NotThereError, ConflictError):
            await self.request(method, path, body, content=content, tries=tries)

    async def watch(
        self, path: str, params: Mapping[str, str] | None = None
    ) -> AsyncIterator[tuple[str, bytes]]:
        """Yield each object now and after each change: ADDED, MODIFIED or DELETED, and its JSON.

        The objects that exist come between a LISTING and a LISTED. Ends when the resource version
        is too old.
        """
        text = await self.request("GET", path, params=params)
        try:
            listed = msgspec.json.decode(text, type=_List)
        except msgspec.DecodeError as error:
            raise ClusterError(f"The list of {path} is {text[:300]!r}.") from error
        yield "LISTING", b""
        for item in listed.items:
            yield "ADDED", bytes(item)
        yield "LISTED", b""
        version = listed.metadata.resource_version
        decode = msgspec.json.Decoder(_Change).decode
        while True:
            query = {
                **(params or {}),
                "watch": "true",
                "resourceVersion": version,
                "timeoutSeconds": str(_WATCH_S),
            }
            self._refuse_if_closed(path)
            try:
                async with self._watching.get(self._server + path, params=query) as answer:
                    await _raise_for_status(answer, "watch", path)
                    async for line in answer.content:
                        change = decode(line)
                        if change.type == "ERROR":
                            return
                        found = msgspec.json.decode(change.object, type=_Version)
                        version = found.metadata.resource_version
                        yield change.type, bytes(change.object)
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                raise NoAnswerError(f"The watch of {path} ended: {error!r}.") from error
            except msgspec.DecodeError as error:
                raise ClusterError(f"The watch of {path} sent {line[:300]!r}.") from error

    async def follow(
        self, path: str, params: Mapping[str, str]
    ) -> AsyncIterator[tuple[str, bytes]]:
        """Yield as `watch` does, for ever: after an error or a disconnection all is listed again.

        The caller finds what was deleted meanwhile between a LISTING and a LISTED.
        """
        while True:
            with suppress(ClusterError):
                async for change in self.watch(path, params):
                    yield change
            await asyncio.sleep(0.2)

    async def _try(
        self,
        method: str,
        path: str,
        body: Object | None,
        content: str,
        params: Mapping[str, str] | None,
    ) -> bytes:
        self._refuse_if_closed(path)
        data = None if body is None else json.dumps(body).encode()
        try:
            async with self._session.request(
                method,
                self._server + path,
                params=params,
                data=data,
                headers={"Content-Type": content},
            ) as answer:
                await _raise_for_status(answer, method, path)
                return await answer.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise NoAnswerError(
                f"The API server at {self._server} does not answer {method} {path}: {error!r}."
            ) from error

    def _refuse_if_closed(self, path: str) -> None:
        if self._session.closed:
            raise NoAnswerError(f"{path} was not requested: the client is closed.")


async def _raise_for_status(answer: aiohttp.ClientResponse, verb: str, path: str) -> None:
    if answer.ok:
        return
    text = await answer.text(errors="replace")
    with suppress(ValueError, TypeError, KeyError):
        text = json.loads(text)["message"]
    refusal = f"The API server refused {verb} {path}: {answer.status} {text[:300]}".rstrip(" .")
    kinds: dict[int, type[ClusterError]] = {
        HTTPStatus.UNAUTHORIZED: UnauthorizedError,
        HTTPStatus.NOT_FOUND: NotThereError,
        HTTPStatus.CONFLICT: ConflictError,
        **dict.fromkeys(_RETRIED, UnavailableError),
    }
    raise kinds.get(answer.status, ClusterError)(f"{refusal}.")


def pod_path(namespace: str, name: str) -> str:
    return f"/api/v1/namespaces/{namespace}/pods/{name}"
