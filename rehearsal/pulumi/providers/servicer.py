"""The engine's side of a provider: gRPC requests in, plain Python calls out.

The engine opens one connection for each provider resource of each program, all to the same port,
and its requests do not name that resource. So a session belongs to the connection that configured
it.
"""

from collections import OrderedDict
from collections.abc import Callable
from concurrent import futures
from functools import wraps
from threading import Lock
from typing import Any, NoReturn

import grpc
from google.protobuf import empty_pb2
from google.rpc import status_pb2  # type: ignore[import-untyped]
from grpc_status import rpc_status  # type: ignore[import-untyped]
from pulumi.runtime.proto import plugin_pb2, provider_pb2, provider_pb2_grpc

from rehearsal.machine.peers import OwnUserOnly
from rehearsal.pulumi.providers.properties import (
    DEFAULTS,
    Change,
    Effect,
    Props,
    from_struct,
    to_struct,
)
from rehearsal.pulumi.providers.protocol import (
    Difference,
    NotReadyError,
    Provider,
    ProviderError,
    Resource,
    Session,
)

_WORKERS = 64
"""Concurrent calls: several engines, each with up to 16 operations that wait."""

_SESSIONS = 256
"""Remembered connections; a command needs one for each provider resource."""

_KINDS = {
    (Effect.ADD, False): provider_pb2.PropertyDiff.ADD,
    (Effect.ADD, True): provider_pb2.PropertyDiff.ADD_REPLACE,
    (Effect.DELETE, False): provider_pb2.PropertyDiff.DELETE,
    (Effect.DELETE, True): provider_pb2.PropertyDiff.DELETE_REPLACE,
    (Effect.UPDATE, False): provider_pb2.PropertyDiff.UPDATE,
    (Effect.UPDATE, True): provider_pb2.PropertyDiff.UPDATE_REPLACE,
}


_Method = Callable[["Servicer", Any, grpc.ServicerContext], Any]


def _answered(method: _Method) -> _Method:
    """Convert ProviderError to the engine's forms of an error."""

    @wraps(method)
    def answer(servicer: "Servicer", request: Any, context: grpc.ServicerContext) -> Any:
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
    def Handshake(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        return provider_pb2.ProviderHandshakeResponse()

    @_answered
    def Attach(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        return empty_pb2.Empty()

    @_answered
    def GetPluginInfo(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        return plugin_pb2.PluginInfo(version=self._provider.version)

    @_answered
    def CheckConfig(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        return provider_pb2.CheckResponse(inputs=request.news)

    @_answered
    def DiffConfig(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
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
    def Configure(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        config = {key.rpartition(":")[2]: value for key, value in request.variables.items()}
        session = self._provider.configure(config)
        with self._lock:
            self._sessions[context.peer()] = session
            while len(self._sessions) > _SESSIONS:
                self._sessions.popitem(last=False)
        return provider_pb2.ConfigureResponse(supportsPreview=True)

    @_answered
    def Check(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
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
    def Diff(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        return _difference(
            self._session(context).diff(
                Resource(request.type, request.name),
                from_struct(request.olds),
                from_struct(request.old_inputs),
                from_struct(request.news),
            )
        )

    @_answered
    def Create(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        inputs = from_struct(request.properties)
        if request.preview:
            return provider_pb2.CreateResponse(properties=_known(inputs))
        resource = Resource(request.type, request.name, request.timeout)
        resource_id, outputs = self._session(context).create(resource, inputs)
        return provider_pb2.CreateResponse(id=resource_id, properties=to_struct(outputs))

    @_answered
    def Read(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
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
    def Update(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
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
    def Delete(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        resource = Resource(request.type, request.name, request.timeout)
        self._session(context).delete(resource, request.id, from_struct(request.properties))
        return empty_pb2.Empty()

    @_answered
    def Cancel(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
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
    """Serve this user on a free loopback port; the caller must keep the server, else it stops."""
    own_user = OwnUserOnly()
    server = grpc.server(
        futures.ThreadPoolExecutor(max_workers=_WORKERS),
        interceptors=[own_user],
        options=[("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)],
    )
    provider_pb2_grpc.add_ResourceProviderServicer_to_server(Servicer(provider), server)
    own_user.port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    return server, own_user.port
