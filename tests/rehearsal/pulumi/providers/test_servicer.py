"""The gRPC side, called as the engine calls it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

import grpc
import pytest
from google.protobuf import empty_pb2
from grpc_status import rpc_status  # type: ignore[import-untyped]
from pulumi.runtime.proto import provider_pb2, provider_pb2_grpc

from rehearsal.pulumi.providers.properties import Change, Effect, Props, from_struct, to_struct
from rehearsal.pulumi.providers.protocol import (
    Checked,
    Difference,
    Found,
    NotReadyError,
    ProviderError,
    Resource,
)
from rehearsal.pulumi.providers.servicer import serve
from rehearsal.pulumi.providers.shapes import Failure

Stub = provider_pb2_grpc.ResourceProviderStub
Answer = Any  # the stubs are untyped


class EchoSession:
    """Answers with its configuration."""

    def __init__(self, config: Mapping[str, str]) -> None:
        self.config = config
        self.cancelled = False

    def check(self, resource: Resource, old: Props, new: Props, seed: bytes) -> Checked:
        failures = [Failure("a.b", f"{resource.name} is bad.")] if new.get("bad") else []
        return Checked({**new, "seed": seed.decode()}, failures)

    def diff(self, resource: Resource, state: Props, old: Props, new: Props) -> Difference:
        changes = [
            Change("a.b", Effect.UPDATE), Change("a.c[0]", Effect.ADD),
            Change("d", Effect.DELETE, replace=True),
        ]  # fmt: skip
        return Difference(changes if old != new else [], delete_first=True)

    def create(self, resource: Resource, inputs: Props) -> tuple[str, Props]:
        if "refuse" in inputs:
            raise ProviderError("No.")
        if "half" in inputs:
            raise NotReadyError("id-1", {"a": 1}, ["One.", "Two."])
        return "id-1", {**self.config, "timeout": resource.timeout_s}

    def read(self, resource: Resource, resource_id: str, inputs: Props) -> Found | None:
        return None if resource_id == "missing" else Found(resource_id, inputs, {"found": True})

    def update(
        self, resource: Resource, resource_id: str, state: Props, old: Props, new: Props
    ) -> Props:
        return new

    def delete(self, resource: Resource, resource_id: str, state: Props) -> None:
        if not self.cancelled:
            raise ProviderError("Still there.")

    def cancel(self) -> None:
        self.cancelled = True


class EchoProvider:
    """A provider for this test."""

    name = "echo"
    version = "1.2.3"

    def replaced_keys(self, old: Props, new: Props) -> list[str]:
        return ["project"] if old.get("project") != new.get("project") else []

    def configure(self, config: Mapping[str, str]) -> EchoSession:
        if "bad" in config:
            raise ProviderError("Bad configuration.")
        return EchoSession(config)


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    server, port = serve(EchoProvider())
    yield port
    server.stop(None)


def test_another_user_is_refused(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 65534)  # the client is this user
    with _channel(port) as channel, pytest.raises(grpc.RpcError) as refused:
        _configure(Stub(channel), {"project": "p"})
    assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED


@pytest.fixture
def stub(port: int) -> Iterator[Stub]:
    with _channel(port) as channel:
        stub = Stub(channel)
        _configure(stub, {"project": "p"})
        yield stub


def _channel(port: int) -> grpc.Channel:
    # As two engines, which are two processes, never share a connection.
    return grpc.insecure_channel(
        f"127.0.0.1:{port}", options=[("grpc.use_local_subchannel_pool", 1)]
    )


def _configure(stub: Stub, config: Mapping[str, str]) -> Answer:
    variables = {f"echo:config:{key}": value for key, value in config.items()}
    return stub.Configure(provider_pb2.ConfigureRequest(variables=variables))


def _create(stub: Stub, inputs: dict[str, Any], **more: Any) -> Answer:
    request = provider_pb2.CreateRequest(properties=to_struct(inputs), **more)
    return stub.Create(request)


def test_each_connection_has_the_configuration_that_it_gave(port: int, stub: Stub) -> None:
    with _channel(port) as other_channel:
        other = Stub(other_channel)
        _configure(other, {"project": "q"})
        assert from_struct(_create(stub, {}).properties)["project"] == "p"
        assert from_struct(_create(other, {}).properties)["project"] == "q"


def test_a_connection_without_configuration_is_refused(port: int) -> None:
    with _channel(port) as channel, pytest.raises(grpc.RpcError, match="run the command again"):
        _create(Stub(channel), {})


def test_a_refused_configuration(stub: Stub) -> None:
    with pytest.raises(grpc.RpcError, match=r"Bad configuration\."):
        _configure(stub, {"bad": "1"})


def test_check_passes_inputs_failures_and_seed(stub: Stub) -> None:
    request = provider_pb2.CheckRequest(
        name="it", news=to_struct({"bad": True}), randomSeed=b"seed"
    )
    answer = stub.Check(request)
    assert from_struct(answer.inputs) == {"bad": True, "seed": "seed"}
    assert [(each.property, each.reason) for each in answer.failures] == [("a.b", "it is bad.")]


def test_diff_returns_every_change_and_its_effect(stub: Stub) -> None:
    answer = stub.Diff(provider_pb2.DiffRequest(news=to_struct({"a": 1})))
    assert answer.changes == provider_pb2.DiffResponse.DIFF_SOME
    assert list(answer.diffs) == ["a", "d"]
    assert list(answer.replaces) == ["d"]
    assert answer.deleteBeforeReplace
    kinds = {path: each.kind for path, each in answer.detailedDiff.items()}
    assert kinds == {
        "a.b": provider_pb2.PropertyDiff.UPDATE,
        "a.c[0]": provider_pb2.PropertyDiff.ADD,
        "d": provider_pb2.PropertyDiff.DELETE_REPLACE,
    }
    same = stub.Diff(provider_pb2.DiffRequest())
    assert same.changes == provider_pb2.DiffResponse.DIFF_NONE


def test_a_preview_creates_and_updates_nothing(stub: Stub) -> None:
    previewed = _create(stub, {"refuse": True, "__defaults": ["a"]}, preview=True)
    assert previewed.id == ""
    assert from_struct(previewed.properties) == {"refuse": True}
    update = provider_pb2.UpdateRequest(
        preview=True, olds=to_struct({"a": 1, "b": 2}), news=to_struct({"a": 3})
    )
    assert from_struct(stub.Update(update).properties) == {"a": 3, "b": 2}


def test_create_passes_the_timeout(stub: Stub) -> None:
    answer = _create(stub, {}, timeout=7.5)
    assert answer.id == "id-1"
    assert from_struct(answer.properties)["timeout"] == 7.5


def test_an_error_arrives_as_its_sentence(stub: Stub) -> None:
    with pytest.raises(grpc.RpcError) as refusal:
        _create(stub, {"refuse": True})
    assert refusal.value.details() == "No."


def test_a_broken_resource_arrives_with_its_id(stub: Stub) -> None:
    with pytest.raises(grpc.RpcError) as failure:
        _create(stub, {"half": True})
    (detail,) = rpc_status.from_call(failure.value).details
    initialized = provider_pb2.ErrorResourceInitFailed()
    assert detail.Unpack(initialized)
    assert initialized.id == "id-1"
    assert from_struct(initialized.properties) == {"a": 1}
    assert list(initialized.reasons) == ["One.", "Two."]


def test_read_answers_empty_for_what_does_not_exist(stub: Stub) -> None:
    missing = stub.Read(provider_pb2.ReadRequest(id="missing"))
    assert (missing.id, len(missing.properties.fields)) == ("", 0)
    there = stub.Read(provider_pb2.ReadRequest(id="x", inputs=to_struct({"a": 1})))
    assert (there.id, from_struct(there.inputs)) == ("x", {"a": 1})


def test_cancel_reaches_the_session(stub: Stub) -> None:
    with pytest.raises(grpc.RpcError, match=r"Still there\."):
        stub.Delete(provider_pb2.DeleteRequest(id="x"))
    stub.Cancel(empty_pb2.Empty())
    stub.Delete(provider_pb2.DeleteRequest(id="x"))


def test_configuration_is_compared(stub: Stub) -> None:
    def diff(**new: str) -> Answer:
        old = to_struct({"project": "p", "zone": "a"})
        return stub.DiffConfig(provider_pb2.DiffRequest(old_inputs=old, news=to_struct(new)))

    assert diff(project="p", zone="a").changes == provider_pb2.DiffResponse.DIFF_NONE
    assert list(diff(project="p", zone="b").replaces) == []
    assert list(diff(project="q", zone="a").replaces) == ["project"]


def test_the_process_prints_its_ports_and_ends_at_once() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "rehearsal.pulumi.providers"],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        ports = json.loads(process.stdout.readline())
        assert list(ports) == ["gcp", "kubernetes"]
        with _channel(ports["gcp"]) as channel:
            assert Stub(channel).GetPluginInfo(empty_pb2.Empty()).version
        os.kill(process.pid, signal.SIGINT)  # a terminal's Ctrl-C is for the engine
        assert process.poll() is None
        begin = time.monotonic()
        process.terminate()
        assert process.wait(timeout=10) == 0
        assert time.monotonic() - begin < 5
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
