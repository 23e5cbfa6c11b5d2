"""The engine's side of a provider: gRPC requests in, plain Python calls out.

The engine connects once for each provider resource of each program, all to the one port, and its
requests do not name the resource; so a session belongs to the connection that configured it, and
two stacks in one process never share one.
"""

import json
from collections import OrderedDict
from collections.abc import Callable
from concurrent import futures
from functools import wraps
from threading import Lock
from typing import Any, NoReturn, TypeVar

import grpc
from google.protobuf import empty_pb2
from google.rpc import status_pb2  # type: ignore[import-untyped]
from grpc_status import rpc_status  # type: ignore[import-untyped]
from pulumi.runtime.proto import plugin_pb2, provider_pb2, provider_pb2_grpc

from rehearsal.pulumi.providers.base import (
    Difference,
    NotReadyError,
    Provider,
    ProviderError,
    Resource,
    Session,
)
from rehearsal.pulumi.providers.differences import Change, Effect
from rehearsal.pulumi.providers.properties import DEFAULTS, Props, from_struct, to_struct

_WORKERS = 64
"""Calls served at a time: several engines, each with up to 16 operations that wait."""

_SESSIONS = 256
"""Connections remembered; an engine's command needs one a provider resource and then ends."""

_KINDS = {
    (Effect.ADD, False): provider_pb2.PropertyDiff.ADD,
    (Effect.ADD, True): provider_pb2.PropertyDiff.ADD_REPLACE,
    (Effect.DELETE, False): provider_pb2.PropertyDiff.DELETE,
    (Effect.DELETE, True): provider_pb2.PropertyDiff.DELETE_REPLACE,
    (Effect.UPDATE, False): provider_pb2.PropertyDiff.UPDATE,
    (Effect.UPDATE, True): provider_pb2.PropertyDiff.UPDATE_REPLACE,
}


_Request = TypeVar("_Request")
_Answer = TypeVar("_Answer")
_Method = Callable[["Servicer", _Request, grpc.ServicerContext], _Answer]


def _answered(method: _Method[_Request, _Answer]) -> _Method[_Request, _Answer]:
    """Turn ProviderError into the engine's forms of an error."""

    @wraps(method)
    def answer(servicer: "Servicer", request: _Request, context: grpc.ServicerContext) -> _Answer:
        try:
            return method(servicer, request, context)
        except NotReadyError as error:
            _abort_not_ready(context, error)
        except ProviderError as error:
            context.abort(grpc.StatusCode.UNKNOWN, str(error))

    return answer


def _abort_not_ready(context: grpc.ServicerContext, error: NotReadyError) -> NoReturn:
    status = status_pb2.Status(code=grpc.StatusCode.UNKNOWN.value[0], message=str(error))
    status.details.add().Pack(
        provider_pb2.ErrorResourceInitFailed(
            id=error.resource_id,
            properties=to_struct(error.outputs),
            reasons=error.reasons,
        )
    )
    context.abort_with_status(rpc_status.to_status(status))
    raise AssertionError  # abort always raises


class Servicer(provider_pb2_grpc.ResourceProviderServicer):
    """The gRPC service of one provider."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._sessions: OrderedDict[str, Session] = OrderedDict()
        self._lock = Lock()

    def _session(self, context: grpc.ServicerContext) -> Session:
        with self._lock:
            session = self._sessions.get(context.peer())
        if session is None:
            raise ProviderError(
                f"The {self._provider.name} provider lost the connection that configured it; "
                "run the command again."
            )
        return session

    @_answered
    def Handshake(  # noqa: N802
        self, request: provider_pb2.ProviderHandshakeRequest, context: grpc.ServicerContext
    ) -> provider_pb2.ProviderHandshakeResponse:
        """Say what this provider understands: plain values only."""
        return provider_pb2.ProviderHandshakeResponse()

    @_answered
    def Attach(  # noqa: N802
        self, request: plugin_pb2.PluginAttach, context: grpc.ServicerContext
    ) -> empty_pb2.Empty:
        """The engine uses a provider that runs already."""
        return empty_pb2.Empty()

    @_answered
    def GetPluginInfo(  # noqa: N802
        self, request: empty_pb2.Empty, context: grpc.ServicerContext
    ) -> plugin_pb2.PluginInfo:
        """The version that the engine records."""
        return plugin_pb2.PluginInfo(version=self._provider.version)

    @_answered
    def GetSchema(  # noqa: N802
        self, request: provider_pb2.GetSchemaRequest, context: grpc.ServicerContext
    ) -> provider_pb2.GetSchemaResponse:
        """An empty schema: the SDKs hold the types."""
        schema = {"name": self._provider.name, "version": self._provider.version}
        return provider_pb2.GetSchemaResponse(schema=json.dumps(schema))

    @_answered
    def CheckConfig(  # noqa: N802
        self, request: provider_pb2.CheckRequest, context: grpc.ServicerContext
    ) -> provider_pb2.CheckResponse:
        """Accept the configuration; a value that does not work fails where it is used."""
        return provider_pb2.CheckResponse(inputs=request.news)

    @_answered
    def DiffConfig(  # noqa: N802
        self, request: provider_pb2.DiffRequest, context: grpc.ServicerContext
    ) -> provider_pb2.DiffResponse:
        """What a changed configuration means for the resources of this provider."""
        old, new = from_struct(request.old_inputs), from_struct(request.news)
        replaced = self._provider.replaced_keys(old, new)
        return _difference(
            Difference(
                [
                    Change(key, Effect.UPDATE, key in replaced)
                    for key in sorted(old.keys() | new.keys())
                    if old.get(key) != new.get(key)
                ]
            )
        )

    @_answered
    def Configure(  # noqa: N802
        self, request: provider_pb2.ConfigureRequest, context: grpc.ServicerContext
    ) -> provider_pb2.ConfigureResponse:
        """Open the session of this connection."""
        config = {key.rpartition(":")[2]: value for key, value in request.variables.items()}
        session = self._provider.configure(config)
        with self._lock:
            self._sessions[context.peer()] = session
            while len(self._sessions) > _SESSIONS:
                self._sessions.popitem(last=False)
        return provider_pb2.ConfigureResponse(supportsPreview=True)

    @_answered
    def Check(  # noqa: N802
        self, request: provider_pb2.CheckRequest, context: grpc.ServicerContext
    ) -> provider_pb2.CheckResponse:
        """Refuse or complete the inputs of a resource."""
        checked = self._session(context).check(
            Resource(request.type, request.name),
            from_struct(request.olds),
            from_struct(request.news),
            request.randomSeed,
        )
        return provider_pb2.CheckResponse(
            inputs=to_struct(checked.inputs),
            failures=[
                provider_pb2.CheckFailure(property=failure.path, reason=failure.reason)
                for failure in checked.failures
            ],
        )

    @_answered
    def Diff(  # noqa: N802
        self, request: provider_pb2.DiffRequest, context: grpc.ServicerContext
    ) -> provider_pb2.DiffResponse:
        """Nothing, update or replace."""
        return _difference(
            self._session(context).diff(
                Resource(request.type, request.name),
                from_struct(request.olds),
                from_struct(request.old_inputs),
                from_struct(request.news),
            )
        )

    @_answered
    def Create(  # noqa: N802
        self, request: provider_pb2.CreateRequest, context: grpc.ServicerContext
    ) -> provider_pb2.CreateResponse:
        """Make a resource; in a preview the inputs are all that is known of it."""
        inputs = from_struct(request.properties)
        if request.preview:
            return provider_pb2.CreateResponse(properties=_known(inputs))
        resource = Resource(request.type, request.name, request.timeout)
        resource_id, outputs = self._session(context).create(resource, inputs)
        return provider_pb2.CreateResponse(id=resource_id, properties=to_struct(outputs))

    @_answered
    def Read(  # noqa: N802
        self, request: provider_pb2.ReadRequest, context: grpc.ServicerContext
    ) -> provider_pb2.ReadResponse:
        """Read a resource; an empty answer says that it is gone."""
        resource = Resource(request.type, request.name, request.timeout)
        found = self._session(context).read(resource, request.id, from_struct(request.inputs))
        if found is None:
            return provider_pb2.ReadResponse()
        return provider_pb2.ReadResponse(
            id=found.resource_id,
            inputs=to_struct(found.inputs),
            properties=to_struct(found.outputs),
        )

    @_answered
    def Update(  # noqa: N802
        self, request: provider_pb2.UpdateRequest, context: grpc.ServicerContext
    ) -> provider_pb2.UpdateResponse:
        """Change a resource in place; in a preview nothing is called."""
        state, new = from_struct(request.olds), from_struct(request.news)
        if request.preview:
            return provider_pb2.UpdateResponse(properties=_known({**state, **new}))
        outputs = self._session(context).update(
            Resource(request.type, request.name, request.timeout),
            request.id,
            state,
            from_struct(request.old_inputs),
            new,
        )
        return provider_pb2.UpdateResponse(properties=to_struct(outputs))

    @_answered
    def Delete(  # noqa: N802
        self, request: provider_pb2.DeleteRequest, context: grpc.ServicerContext
    ) -> empty_pb2.Empty:
        """Remove a resource."""
        resource = Resource(request.type, request.name, request.timeout)
        self._session(context).delete(resource, request.id, from_struct(request.properties))
        return empty_pb2.Empty()

    @_answered
    def Invoke(  # noqa: N802
        self, request: provider_pb2.InvokeRequest, context: grpc.ServicerContext
    ) -> provider_pb2.InvokeResponse:
        """Refuse: no program of this project calls a provider function."""
        raise ProviderError(
            f"The stand-in of the {self._provider.name} provider has no function {request.tok}; "
            "install the official plugin to use it."
        )

    @_answered
    def Cancel(  # noqa: N802
        self, request: empty_pb2.Empty, context: grpc.ServicerContext
    ) -> empty_pb2.Empty:
        """The user wants to stop."""
        with self._lock:
            session = self._sessions.get(context.peer())
        if session is not None:
            session.cancel()
        return empty_pb2.Empty()


def _known(props: Props) -> Any:
    return to_struct({key: item for key, item in props.items() if key != DEFAULTS})


def _difference(difference: Difference) -> provider_pb2.DiffResponse:
    changes = difference.changes
    some, none = provider_pb2.DiffResponse.DIFF_SOME, provider_pb2.DiffResponse.DIFF_NONE
    return provider_pb2.DiffResponse(
        changes=some if changes else none,
        diffs=list(dict.fromkeys(change.top for change in changes)),
        replaces=list(dict.fromkeys(change.top for change in changes if change.replace)),
        detailedDiff={
            change.path: provider_pb2.PropertyDiff(
                kind=_KINDS[change.effect, change.replace], inputDiff=True
            )
            for change in changes
        },
        hasDetailedDiff=True,
        deleteBeforeReplace=difference.delete_first,
    )


def serve(provider: Provider) -> tuple[grpc.Server, int]:
    """Serve a provider on a free port of the loopback address.

    Returns:
        The server, which the caller must keep (a server that is garbage-collected stops), and its
        port.
    """
    server = grpc.server(
        futures.ThreadPoolExecutor(max_workers=_WORKERS),
        options=[("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)],
    )
    provider_pb2_grpc.add_ResourceProviderServicer_to_server(Servicer(provider), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    return server, port
