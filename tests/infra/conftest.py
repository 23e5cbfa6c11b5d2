"""A stack declared against Pulumi's mocks, and everything that it registered."""

import asyncio
import contextvars
import functools
import gc
import json
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from google.protobuf import empty_pb2
from pulumi.runtime import mocks, rpc, run_in_stack
from pulumi.runtime.config import set_all_config
from pulumi.runtime.proto import resource_pb2
from pulumi.runtime.settings import configure

from infra.program import declare

PROJECT = "a-project"
NODE_COUNT = {"nodeCount": "4"}
COMPUTED: dict[str, dict[str, Any]] = {
    "gcp:container/cluster:Cluster": {
        "endpoint": "203.0.113.7",
        "masterAuth": {"clusterCaCertificate": "Q0E="},
    },
    "gcp:serviceaccount/account:Account": {
        "email": "nodes@a-project.iam.gserviceaccount.com",
        "member": "serviceAccount:nodes@a-project.iam.gserviceaccount.com",
    },
    "gcp:logging/projectSink:ProjectSink": {"writerIdentity": "serviceAccount:writer@google"},
    "gcp:storage/bucket:Bucket": {"name": "a-project-pull-study-size-4-1234567"},
}
"""What Google adds to a resource, by type."""


@dataclass
class Registration:
    """One resource as the program registered it."""

    urn: str
    type: str
    name: str
    inputs: dict[str, Any]
    request: resource_pb2.RegisterResourceRequest

    @property
    def provider_type(self) -> str:
        """`gcp` or `kubernetes` of a custom resource with an explicit provider, else empty."""
        return (
            self.request.provider.split("::")[2].rpartition(":")[2] if self.request.provider else ""
        )


@dataclass
class Declared:
    """What a program registered and exported."""

    resources: list[Registration] = field(default_factory=list)
    exports: dict[str, Any] = field(default_factory=dict)

    def of_type(self, suffix: str) -> list[Registration]:
        """All resources whose type token ends so."""
        return [resource for resource in self.resources if resource.type.endswith(suffix)]

    def only(self, suffix: str, name: str = "") -> Registration:
        """The one resource of a type (and name)."""
        found = [found for found in self.of_type(suffix) if name in {"", found.name}]
        assert len(found) == 1, [resource.urn for resource in self.resources]
        return found[0]

    @property
    def custom(self) -> list[Registration]:
        """All but components and providers."""
        return [
            found
            for found in self.resources
            if found.request.custom and not found.type.startswith("pulumi:providers:")
        ]


class _Answers(mocks.Mocks):
    def __init__(self, last_exports: dict[str, Any]) -> None:
        self.last_exports = last_exports

    def new_resource(self, args: mocks.MockResourceArgs) -> tuple[str, dict[str, Any]]:
        if args.typ == "pulumi:pulumi:StackReference":
            return f"{args.name}-id", {**args.inputs, "outputs": self.last_exports}
        state = {"name": args.name, **args.inputs, **COMPUTED.get(args.typ, {})}
        return f"{args.name}-id", state

    def call(self, args: mocks.MockCallArgs) -> tuple[dict[Any, Any], list[tuple[str, str]] | None]:
        raise AssertionError(f"the program calls {args.token}")


class _Recorder(mocks.MockMonitor):
    """Keeps the requests themselves: dependencies, timeouts, deletedWith and providers."""

    def __init__(self, answers: mocks.Mocks) -> None:
        super().__init__(answers)
        self.declared = Declared()

    def RegisterResource(self, request: Any) -> Any:  # noqa: N802
        # Left to itself, the mock monitor opens an event loop in each thread and closes none.
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        try:
            response = super().RegisterResource(request)  # type: ignore[no-untyped-call]
            if request.type != "pulumi:pulumi:Stack":
                # the engine hands providers that take no secrets their values
                inputs = {
                    name: rpc.unwrap_rpc_secret(value)
                    for name, value in rpc.deserialize_properties(request.object).items()
                }
                self.declared.resources.append(
                    Registration(response.urn, request.type, request.name, inputs, request)
                )
        finally:
            asyncio.set_event_loop(None)
            loop.close()
        return response

    def RegisterResourceOutputs(self, request: Any) -> Any:  # noqa: N802
        if request.urn.split("::")[2] == "pulumi:pulumi:Stack":
            self.declared.exports = rpc.deserialize_properties(request.outputs)
        return empty_pb2.Empty()


Declare = Callable[..., Declared]


def declare_with(
    answers: mocks.Mocks, stack: str, values: Mapping[str, object], *, preview: bool = False
) -> Declared:
    """Declare a stack whose registrations are answered by these mocks."""
    texts = {
        key: value if isinstance(value, str) else json.dumps(value) for key, value in values.items()
    }
    # Pulumi keeps its settings in context variables: a context of one's own leaves none behind.
    context = contextvars.copy_context()
    try:
        return context.run(_declare, stack, texts, answers, preview)
    finally:
        # Pulumi leaves coroutines in cycles. If they are collected while CPython 3.11 compiles a
        # module, the warning about them ends in a SystemError: so collect them here.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            gc.collect()
        gc.freeze()  # the SDKs' million objects are not looked at again: 1 s for each stack


@functools.cache
def _run(stack: str, values: str, last_exports: str, *, preview: bool) -> Declared:
    answers = _Answers(json.loads(last_exports))
    return declare_with(answers, stack, json.loads(values), preview=preview)


def _declare(
    stack: str, values: Mapping[str, str], answers: mocks.Mocks, preview: bool
) -> Declared:
    recorder = _Recorder(answers)
    supported = recorder.GetDeploymentInfo(empty_pb2.Empty())  # type: ignore[no-untyped-call]
    configure(
        mocks.MockSettings(  # type: ignore[no-untyped-call]
            monitor=recorder,
            monitor_features=set(supported.supportedFeatures),
            engine=mocks.MockEngine(None),
            project="pull-study",
            stack=stack,
            organization="organization",
            dry_run=preview,
        )
    )
    set_all_config({f"pull-study:{key}": value for key, value in values.items()})

    async def program() -> None:
        declare()

    asyncio.run(run_in_stack(program))
    return recorder.declared


@pytest.fixture(autouse=True)
def _project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", PROJECT)


@pytest.fixture
def declare_stack() -> Declare:
    """Declare a stack: `declare_stack(zone="us-east1-b")`, values being configuration."""

    def declare_one(
        stack: str = "size-4",
        *,
        preview: bool = False,
        last_exports: dict[str, Any] | None = None,
        **values: object,
    ) -> Declared:
        texts = json.dumps(NODE_COUNT | values)
        return _run(stack, texts, json.dumps(last_exports or {}), preview=preview)

    return declare_one


@pytest.fixture
def declared(declare_stack: Declare) -> Declared:
    """The stack size-4 with nothing but defaults."""
    return declare_stack()
