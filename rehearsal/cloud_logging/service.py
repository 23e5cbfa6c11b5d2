"""Cloud Logging's gRPC service over a LogStore: lists entries.

ListLogEntries alone; every other method answers UNIMPLEMENTED. Callers need the rehearsal's access
token, and be its user. Entries are there at once, where
Google takes seconds; its limit of 60 reads a minute is not enforced.
"""

import base64
import hashlib
import json
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import NoReturn

import grpc
from google.cloud.logging_v2.types import ListLogEntriesRequest, ListLogEntriesResponse

from rehearsal.cloud_logging.entries import Entry, Key, LogStore
from rehearsal.cloud_logging.query import FilterError, parse_filter
from rehearsal.faults.faults import NO_FAULTS, Faults
from rehearsal.machine.peers import OwnUserOnly
from schema.names import JOB_NAMESPACE

_SERVICE = "google.logging.v2.LoggingServiceV2"
_DEFAULT_PAGE = 50
_LONGEST_PAGE = 1000
_LARGEST_PAGE_BYTES = 3 << 20
"""gRPC clients take messages of 4 MiB by default; Google too cuts pages short."""
_ORDERS = {"": False, "timestamp": False, "timestamp asc": False, "timestamp desc": True}
_RESOURCE = re.compile(
    r"(?P<project>projects/[^/]+)(?:/locations/[^/]+/buckets/[^/]+/views/[^/]+)?"
)
_THREADS = 4
_TOO_OFTEN = (
    "Quota exceeded for quota metric 'Read requests' and limit 'Read requests per minute' of "
    "service 'logging.googleapis.com' for consumer 'project_number:1'."
)
"""Google's sentence, as users report it."""
_UNKNOWN_CALLER = (
    "Request is missing required authentication credential. Expected OAuth 2 access token, login "
    "cookie or other valid authentication credential."
)


def serve(
    store: LogStore,
    port: int = 0,
    faults: Faults = NO_FAULTS,
    accepts: Callable[[str], bool] = lambda _authorization: False,
) -> tuple[grpc.Server, int]:
    """Serve a store on loopback, in plaintext, on any free port by default.

    `accepts` decides by a call's Authorization.

    Returns:
        The running server, which stops when it is no longer referred to, and its port.

    Raises:
        RuntimeError: the port is taken.
    """
    service, own_user = _LoggingService(store, faults, accepts), OwnUserOnly()
    handler = grpc.method_handlers_generic_handler(
        _SERVICE,
        {
            "ListLogEntries": grpc.unary_unary_rpc_method_handler(
                service.list_log_entries,
                request_deserializer=ListLogEntriesRequest.deserialize,
                response_serializer=ListLogEntriesResponse.pb().SerializeToString,
            ),
        },
    )
    server = grpc.server(ThreadPoolExecutor(_THREADS), interceptors=[own_user])
    server.add_generic_rpc_handlers((handler,))
    own_user.port = server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    return server, own_user.port


class _LoggingService:
    def __init__(self, store: LogStore, faults: Faults, accepts: Callable[[str], bool]) -> None:
        self._store = store
        self._accepts = accepts
        self._faults = faults

    def list_log_entries(
        self, request: ListLogEntriesRequest, context: grpc.ServicerContext
    ) -> object:
        """Return a page of the matching entries; a protobuf ListLogEntriesResponse."""
        sent = dict(context.invocation_metadata() or ())
        if not self._accepts(str(sent.get("authorization", ""))):
            context.abort(grpc.StatusCode.UNAUTHENTICATED, _UNKNOWN_CALLER)
        size = request.page_size or _DEFAULT_PAGE
        if not 0 < size <= _LONGEST_PAGE:
            _refuse(context, f"page_size must be 1 to {_LONGEST_PAGE}, not {request.page_size}")
        if request.order_by not in _ORDERS:
            _refuse(context, f"order_by must be one of {sorted(_ORDERS)}")
        size = self._size_with_faults(request, context, size)
        matching = self._matching(request, context)
        page = ListLogEntriesResponse.pb()()
        total = 0
        last = None
        for entry in islice(matching, size):
            total += entry.message.ByteSize()
            if last is not None and total > _LARGEST_PAGE_BYTES:
                page.next_page_token = _token(request, last.key)
                return page
            page.entries.append(entry.message)
            last = entry
        if last is not None and next(matching, None) is not None:
            page.next_page_token = _token(request, last.key)
        return page

    def _size_with_faults(
        self, request: ListLogEntriesRequest, context: grpc.ServicerContext, size: int
    ) -> int:
        """Return the most entries of a page; refuse the request where a fault does."""
        for fault in self._faults.of("logging", how="token"):
            size = min(size, int(fault.number("page")))
        if request.page_token and self._faults.inject("logging", how="token"):
            _refuse(context, "page_token has expired")
        if self._faults.of("logging", how="429"):
            trials = (_is_of_a_trial(entry) for entry in self._matching(request, context))
            if any(trials) and self._faults.inject("logging", how="429"):
                context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, _TOO_OFTEN)
        return size

    def _matching(
        self, request: ListLogEntriesRequest, context: grpc.ServicerContext
    ) -> Iterator[Entry]:
        parents = tuple(_parents(request, context))
        try:
            predicate = parse_filter(request.filter)
        except FilterError as error:
            _refuse(context, f"Unparseable filter: {error}")
        after = _key(request, context)
        entries = self._store.entries(newest_first=_ORDERS[request.order_by], after=after)
        return (
            entry
            for entry in entries
            if entry.data["logName"].startswith(parents) and predicate(entry)
        )


def _is_of_a_trial(entry: Entry) -> bool:
    about = entry.data.get("jsonPayload", {}).get("involvedObject", {})
    return bool(about.get("kind") == "Pod" and about.get("namespace") == JOB_NAMESPACE)


def _parents(request: ListLogEntriesRequest, context: grpc.ServicerContext) -> Iterator[str]:
    if not request.resource_names:
        _refuse(context, "resource_names must name at least one project")
    for name in request.resource_names:
        match = _RESOURCE.fullmatch(name)
        if match is None:
            _refuse(context, f"The resource name {name!r} is not a project or a project's view")
        yield f"{match['project']}/logs/"


def _token(request: ListLogEntriesRequest, key: Key) -> str:
    return base64.urlsafe_b64encode(json.dumps([_fingerprint(request), *key]).encode()).decode()


def _key(request: ListLogEntriesRequest, context: grpc.ServicerContext) -> Key | None:
    if not request.page_token:
        return None
    try:
        fingerprint, *key = json.loads(base64.urlsafe_b64decode(request.page_token))
        time, insert_id, log_name = key
    except (ValueError, TypeError):
        _refuse(context, "page_token is not valid")
    if fingerprint != _fingerprint(request):
        _refuse(context, "page_token belongs to a request with other parameters")
    return int(time), str(insert_id), str(log_name)


def _fingerprint(request: ListLogEntriesRequest) -> str:
    parts = [*request.resource_names, request.filter, request.order_by]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def _refuse(context: grpc.ServicerContext, problem: str) -> NoReturn:
    context.abort(grpc.StatusCode.INVALID_ARGUMENT, problem)
    raise AssertionError("abort raises")
