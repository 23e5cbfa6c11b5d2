"""The simulated kubelets' client of the API server: asyncio, many requests at once.

It sends and receives objects in the API's JSON form, and decodes only the fields below. Writes are
retried while the server is busy or away, as client-go does; a deleted object is no error.
"""

import asyncio
import itertools
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import suppress
from http import HTTPStatus

import aiohttp
import msgspec

from rehearsal.cluster.admin import Object

_CONNECTIONS = 8
"""Enough for all that an API server on a few cores can do; more would only crowd out the runner's
and the scheduler's requests, which on a real cluster do not share its cores with the kubelets."""
_TIMEOUT = aiohttp.ClientTimeout(total=60)
_WATCH_S = 300
_LONGEST_LINE = 1 << 22
_RETRIED = {429, 500, 502, 503, 504}
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.05, 5.0
EVENT_TRIES = 25
"""A minute and a half; client-go's recorder gives up after 12 tries, 10 s apart."""


class LostWriteError(Exception):
    """A write was refused, or failed at every allowed attempt."""


class Meta(msgspec.Struct, rename="camel"):
    """metadata of an object, as far as a simulated kubelet needs it."""

    name: str
    uid: str = ""
    namespace: str = ""
    resource_version: str = ""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    deletion_timestamp: str | None = None
    deletion_grace_period_seconds: int | None = None


class Container(msgspec.Struct, rename="camel"):
    name: str
    image: str
    image_pull_policy: str = "IfNotPresent"
    command: list[str] = []


class PodSpec(msgspec.Struct, rename="camel"):
    containers: list[Container]
    node_name: str = ""
    active_deadline_seconds: int | None = None


class Phase(msgspec.Struct):
    phase: str = ""


class Pod(msgspec.Struct):
    metadata: Meta
    spec: PodSpec
    status: Phase


class Condition(msgspec.Struct):
    type: str
    status: str


class Endpoint(msgspec.Struct, frozen=True):
    """Where a kubelet answers."""

    port: int = msgspec.field(default=0, name="Port")


class Endpoints(msgspec.Struct, rename="camel", frozen=True):
    kubelet_endpoint: Endpoint = Endpoint()


class NodeStatus(msgspec.Struct, rename="camel"):
    capacity: dict[str, str] = {}
    conditions: list[Condition] = []
    daemon_endpoints: Endpoints = Endpoints()


class Node(msgspec.Struct):
    metadata: Meta
    status: NodeStatus


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


class KubeletApi:
    """The administrator's connection to one cluster, of one asyncio loop."""

    def __init__(self, server: str, *, authority: str, certificate: str, key: str) -> None:
        context = ssl.create_default_context(cafile=authority)
        context.load_cert_chain(certificate, key)
        self._server = server
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=_CONNECTIONS, ssl=context),
            timeout=_TIMEOUT,
            read_bufsize=_LONGEST_LINE,
        )
        # watches never end, and must not keep a connection from the writes
        self._watching = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=context), read_bufsize=_LONGEST_LINE
        )

    async def close(self) -> None:
        await self._session.close()
        await self._watching.close()

    async def send(
        self,
        method: str,
        path: str,
        body: Object,
        content: str = "application/json",
        *,
        tries: int | None = None,
    ) -> None:
        """Create, change or delete an object; one that is deleted or exists already is no error.

        Retries without limit unless `tries` is given, as a kubelet does for what it must report.
        """
        data = json.dumps(body).encode()
        for attempt in itertools.count():
            try:
                async with self._session.request(
                    method, self._server + path, data=data, headers={"Content-Type": content}
                ) as answer:
                    if answer.ok or answer.status in (HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT):
                        await answer.read()
                        return
                    failure = f"{method} {path}: {answer.status} {(await answer.text())[:300]}"
                    if answer.status not in _RETRIED:
                        raise LostWriteError(failure)
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                failure = f"{method} {path}: {error!r}"
            if attempt + 1 == tries:
                raise LostWriteError(failure)
            await asyncio.sleep(min(_FIRST_WAIT_S * 2 ** min(attempt, 10), _LONGEST_WAIT_S))

    async def follow(self, path: str, params: dict[str, str]) -> AsyncIterator[tuple[str, bytes]]:
        """Yield each object now and after each change: ADDED, MODIFIED or DELETED, and its JSON.

        After a disconnection everything is listed again (ADDED) between a LISTING and a LISTED, so
        that the caller can find what was deleted meanwhile.
        """
        while True:
            with suppress(aiohttp.ClientError, TimeoutError, OSError, msgspec.DecodeError):
                async for change in self._follow_once(path, params):
                    yield change
            await asyncio.sleep(0.2)

    async def _follow_once(
        self, path: str, params: dict[str, str]
    ) -> AsyncIterator[tuple[str, bytes]]:
        url = self._server + path
        async with self._session.get(url, params=params) as answer:
            answer.raise_for_status()
            listed = msgspec.json.decode(await answer.read(), type=_List)
        yield "LISTING", b""
        for item in listed.items:
            yield "ADDED", bytes(item)
        yield "LISTED", b""
        version = listed.metadata.resource_version
        decode = msgspec.json.Decoder(_Change).decode
        while True:
            query = {
                **params,
                "watch": "true",
                "resourceVersion": version,
                "timeoutSeconds": str(_WATCH_S),
            }
            timeout = aiohttp.ClientTimeout(sock_connect=10, sock_read=_WATCH_S + 60)
            async with self._watching.get(url, params=query, timeout=timeout) as answer:
                answer.raise_for_status()
                async for line in answer.content:
                    change = decode(line)
                    if change.type == "ERROR":
                        return
                    found = msgspec.json.decode(change.object, type=_Version)
                    version = found.metadata.resource_version
                    yield change.type, bytes(change.object)
