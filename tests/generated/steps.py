"""The steps of the fake engine: what `up`, its preview and `destroy` do with each resource."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

from pulumi.automation.events import OpType

from rehearsal.google.state import copied
from rehearsal.pulumi.providers.properties import Props
from rehearsal.pulumi.providers.protocol import NotReadyError, ProviderError, Resource
from tests.generated.backend import Backend, Cli, Json, OnEvent, Pulumi, event, is_cloud
from tests.generated.program import Declared, Program, filled, needs

_NAMED = "gcp:storage/bucket:Bucket"
"""The type whose resources get names from the engine's seed."""
_CHECKED: dict[str, Props] = {}


class Update:
    """`pulumi up`, or with `dry` its preview."""

    def __init__(
        self,
        pulumi: Pulumi,
        cli: Cli,
        program: Program,
        on_event: OnEvent,
        *,
        dry: bool = False,
    ) -> None:
        self._pulumi = pulumi
        self._cli = cli
        self._program = program
        self._on_event = on_event
        self._dry = dry
        self._state = {entry["urn"]: entry for entry in pulumi.backend.resources}
        self.outputs: dict[str, Props] = {}
        """Of what exists, by name in the program."""

    def run(self) -> None:
        left = list(self._program.resources)
        done: set[str] = set()
        there = {each.urn for each in left}
        while left and self._cli.begins:
            wave = [each for each in left if needs(each) & there <= done]
            left = [each for each in left if each not in wave]
            for act in [self._begin(each) for each in wave]:
                act()
            done |= {each.urn for each in wave}
        if not left and self._cli.begins:
            self._delete_undeclared(there)

    def _begin(self, declared: Declared) -> Callable[[], None]:
        """Begin with one resource; return what makes its calls."""
        inputs = filled(declared.inputs, self.outputs)
        old = self._state.get(declared.urn)
        if not is_cloud(declared.type):
            return lambda: self._register(declared, inputs, old)
        session, resource = self._pulumi.session(declared.type), _declared(declared)
        inputs = self._checked(declared, inputs, old)
        if old is None:
            return self._create(declared, inputs, "create")
        difference = session.diff(resource, old["outputs"], old["inputs"], inputs)
        keys = list(dict.fromkeys(change.top for change in difference.changes))
        if any(change.replace for change in difference.changes):
            return self._replace(declared, old, inputs, keys, first=difference.delete_first)
        if keys or old.get("initErrors"):
            return self._change(declared, old, inputs, keys)
        self.outputs[declared.name] = old["outputs"] | {"id": old["id"]}
        return lambda: None

    def _checked(self, declared: Declared, inputs: Props, old: Json | None) -> Props:
        """The inputs with what the provider adds; a bucket's name has a random end."""
        named = declared.type == _NAMED
        before = old["inputs"] if old and named else {}
        seed = self._pulumi.backend.seed() if named else b""
        key = json.dumps([declared.urn, inputs, before, seed.hex()], sort_keys=True)
        if key not in _CHECKED:
            session = self._pulumi.session(declared.type)
            checked = session.check(_declared(declared), before, inputs, seed)
            assert not checked.failures, checked.failures
            _CHECKED[key] = checked.inputs
        return dict(copied(_CHECKED[key]))

    def _register(self, declared: Declared, inputs: Props, old: Json | None) -> None:
        """A component, or a provider."""
        entry = {"urn": declared.urn, "type": declared.type, "custom": declared.custom}
        entry |= {"parent": declared.parent} if declared.parent else {}
        if declared.custom:
            known = old["id"] if old else str(uuid.uuid5(uuid.NAMESPACE_URL, declared.urn))
            entry |= {"id": known, "inputs": inputs, "outputs": inputs}
        if self._dry:
            if old is None:
                self._show(OpType.CREATE, declared, inputs, ())
            return
        self._keep(entry)

    def _create(self, declared: Declared, inputs: Props, op: str) -> Callable[[], None]:
        self._show(OpType(op), declared, inputs, ())
        if self._dry:
            return lambda: None
        entry = self._entry(declared, inputs)
        pending = self._pend("creating", entry)

        def act() -> None:
            made: Json | None = None
            try:
                self._cli.reach()
                session = self._pulumi.session(declared.type)
                found, outputs = session.create(_declared(declared), inputs)
                made = {**entry, "id": found, "outputs": outputs}
            except NotReadyError as error:
                made = {**entry, "id": error.resource_id, "outputs": error.outputs}
                made["initErrors"] = error.reasons
                self._fail(error)
            except ProviderError as error:
                self._fail(error)
            self._end(pending, made)

        return act

    def _change(
        self, declared: Declared, old: Json, inputs: Props, keys: list[str]
    ) -> Callable[[], None]:
        self._show(OpType.UPDATE, declared, inputs, keys)
        if self._dry:
            self.outputs[declared.name] = old["outputs"] | {"id": old["id"]}
            return lambda: None
        entry = {**self._entry(declared, inputs), "id": old["id"]}
        pending = self._pend("updating", {**entry, "outputs": old["outputs"]})

        def act() -> None:
            made: Json | None = None
            try:
                self._cli.reach()
                outputs = self._pulumi.session(declared.type).update(
                    _declared(declared), old["id"], old["outputs"], old["inputs"], inputs
                )
                made = {**entry, "outputs": outputs}
            except ProviderError as error:
                self._fail(error)
            self._end(pending, made)

        return act

    def _replace(
        self, declared: Declared, old: Json, inputs: Props, keys: list[str], *, first: bool
    ) -> Callable[[], None]:
        self._show(OpType.REPLACE, declared, inputs, keys)
        if self._dry:
            return lambda: None
        session = self._pulumi.session(declared.type)

        def delete() -> bool:
            pending = self._pend("deleting", old)
            try:
                self._cli.reach()
                session.delete(resource_of(old), old["id"], old["outputs"])
            except ProviderError as error:
                self._fail(error)
            gone = not self._cli.errors
            self._end(pending, None, removed=old["urn"] if gone else "")
            return gone

        def act() -> None:
            if first and not delete():
                return
            self._create(declared, inputs, "create-replacement")()
            if not first and not self._cli.errors:
                pending = self._pend("deleting", old)
                try:
                    self._cli.reach()
                    session.delete(resource_of(old), old["id"], old["outputs"])
                except ProviderError as error:
                    self._fail(error)
                self._end(pending, None)

        return act

    def _delete_undeclared(self, declared: set[str]) -> None:
        for entry in [each for each in self._state.values() if each["urn"] not in declared]:
            if self._dry or not self._cli.begins:
                return
            Destroy(self._pulumi, self._cli, self._on_event).delete(entry, set())

    def _fail(self, error: ProviderError) -> None:
        self._cli.fail(error, self._on_event)

    def _entry(self, declared: Declared, inputs: Props) -> Json:
        providers = {entry["urn"]: entry for entry in self._pulumi.backend.resources}
        provider = providers.get(declared.provider, {}).get("id", "")
        return {
            "urn": declared.urn,
            "type": declared.type,
            "custom": True,
            "inputs": inputs,
            "parent": declared.parent,
            "provider": f"{declared.provider}::{provider}",
            "dependencies": list(declared.dependencies),
            **({"retainOnDelete": True} if declared.retained else {}),
            **({"deletedWith": declared.deleted_with} if declared.deleted_with else {}),
        }

    def _pend(self, kind: str, entry: Json) -> Json:
        pending = {"type": kind, "resource": entry}
        self._pulumi.save(self._cli, lambda backend: backend.pending.append(pending))
        return pending

    def _end(self, pending: Json, made: Json | None, removed: str = "") -> None:
        def end(backend: Backend) -> None:
            backend.pending = [each for each in backend.pending if each is not pending]
            if removed:
                backend.resources = [e for e in backend.resources if e["urn"] != removed]
            if made is not None:
                _put(backend, made)

        self._pulumi.save(self._cli, end)
        if made is not None and not made.get("initErrors"):
            name = made["urn"].rpartition("::")[2]
            self.outputs[name] = made["outputs"] | {"id": made["id"]}

    def _keep(self, entry: Json) -> None:
        self._pulumi.save(self._cli, lambda backend: _put(backend, entry))

    def _show(self, op: OpType, declared: Declared, inputs: Props, keys: Any) -> None:
        new = SimpleNamespace(
            inputs=inputs,
            parent=declared.parent,
            provider=declared.provider and f"{declared.provider}::id",
            custom=declared.custom,
            retain_on_delete=declared.retained,
        )
        metadata = SimpleNamespace(
            op=op, urn=declared.urn, type=declared.type, new=new, diffs=list(keys)
        )
        self._on_event(
            event(resource_pre_event=SimpleNamespace(metadata=metadata, planning=self._dry))
        )


class Destroy:
    """`pulumi destroy`."""

    def __init__(self, pulumi: Pulumi, cli: Cli, on_event: OnEvent) -> None:
        self._pulumi = pulumi
        self._cli = cli
        self._on_event = on_event

    def run(self) -> None:
        """Delete everything, what needs others first."""
        left = {entry["urn"]: entry for entry in self._pulumi.backend.resources}
        deleted: set[str] = set()
        while left and self._cli.begins:
            needed = {urn for entry in left.values() for urn in _needed(entry)}
            wave = [entry for urn, entry in left.items() if urn not in needed]
            for act in [self._begin(entry, left.keys()) for entry in wave]:
                act()
            for entry in wave:
                del left[entry["urn"]]
                deleted.add(entry["urn"])

        def forget(backend: Backend) -> None:
            backend.exports = {}

        if self._cli.begins:
            self._pulumi.save(self._cli, forget)

    def delete(self, entry: Json, with_them: Any) -> None:
        self._begin(entry, with_them)()

    def _begin(self, entry: Json, with_them: Any) -> Callable[[], None]:
        """Begin with one; `with_them` are deleted too, by URN."""
        silent = (
            not is_cloud(entry["type"])
            or entry.get("retainOnDelete")
            or entry.get("deletedWith") in with_them
        )
        pending = {"type": "deleting", "resource": entry}
        if not silent:
            self._pulumi.save(self._cli, lambda backend: backend.pending.append(pending))

        def act() -> None:
            gone = True
            if not silent:
                try:
                    self._cli.reach()
                    session = self._pulumi.session(entry["type"])
                    session.delete(resource_of(entry), entry["id"], entry["outputs"])
                except ProviderError as error:
                    self._cli.fail(error, self._on_event)
                    gone = False

            def end(backend: Backend) -> None:
                backend.pending = [each for each in backend.pending if each is not pending]
                if gone:
                    backend.resources = [
                        each for each in backend.resources if each["urn"] != entry["urn"]
                    ]

            self._pulumi.save(self._cli, end)

        return act


def _needed(entry: Json) -> list[str]:
    provider = str(entry.get("provider", "")).rpartition("::")[0]
    deleted_with = entry.get("deletedWith", "")
    return [*entry.get("dependencies", ()), entry.get("parent", ""), provider, deleted_with]


def _put(backend: Backend, entry: Json) -> None:
    for number, each in enumerate(backend.resources):
        if each["urn"] == entry["urn"]:
            backend.resources[number] = entry
            return
    backend.resources.append(entry)


def _declared(declared: Declared) -> Resource:
    return Resource(declared.type, declared.name, declared.timeout_s)


def resource_of(entry: Mapping[str, Any]) -> Resource:
    return Resource(entry["type"], entry["urn"].rpartition("::")[2], 2400.0)
