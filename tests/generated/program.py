"""What the real program declares for a stack, as templates: run once for each set of settings.

The program runs against Pulumi's mocks; outputs of resources are marks in its inputs, which the
fake engine replaces. What depends on the deadline is computed by the program's own functions.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from pulumi.runtime import mocks
from pulumi.runtime.rpc import UNKNOWN

from infra.components import expiry
from infra.config import parse_settings
from infra.settings import Settings
from rehearsal.google.environment import PROJECT
from tests.infra.conftest import declare_with

_MARK = re.compile(r"@@(.+?)@@")
_LAST_UPDATE = "pulumi:pulumi:StackReference"
_AT = datetime(2999, 5, 6, 7, 8, tzinfo=UTC)
"""The deadline in templates."""
_SINCE = "2998-01-02T03:04:00Z"
_COMPUTED: Mapping[str, Sequence[str]] = {
    "gcp:container/cluster:Cluster": ("endpoint", "masterAuth.clusterCaCertificate"),
    "gcp:serviceaccount/account:Account": ("email", "member"),
    "gcp:logging/projectSink:ProjectSink": ("writerIdentity",),
    "gcp:storage/bucket:Bucket": ("name",),
}
"""Outputs that Google decides and the program uses, by type."""


@dataclass(frozen=True)
class Declared:
    """One resource as the program registers it.

    Attributes:
        urn: as the engine makes it.
        type: the type token.
        name: its name in the program.
        inputs: with marks for outputs of other resources.
        parent: URN.
        provider: URN of its provider; empty for none.
        custom: no component.
        retained: it outlives the stack.
        deleted_with: URN of the resource whose deletion deletes it too.
        dependencies: URNs of what it waits for.
        timeout_s: of its creation.
    """

    urn: str
    type: str
    name: str
    inputs: Mapping[str, Any]
    parent: str
    provider: str
    custom: bool
    retained: bool
    deleted_with: str
    dependencies: tuple[str, ...]
    timeout_s: float


@dataclass(frozen=True)
class Program:
    """What one `up` declares: its resources in an order in which they can be made."""

    resources: tuple[Declared, ...]
    exports: Mapping[str, Any]


@dataclass
class _Marks(mocks.Mocks):
    last_exports: dict[str, Any] = field(
        default_factory=lambda: {
            expiry.EXPORT: _AT.strftime(expiry.EXPORT_FORMAT),
            expiry.SINCE_EXPORT: _SINCE,
        }
    )

    def new_resource(self, args: mocks.MockResourceArgs) -> tuple[str, dict[str, Any]]:
        if args.typ == _LAST_UPDATE:
            return "last-update", {**args.inputs, "outputs": self.last_exports}
        outputs: dict[str, Any] = dict(args.inputs)
        for path in _COMPUTED.get(args.typ, ()):
            inner, *keys = path.split(".")
            value: Any = f"@@{args.name}.{path}@@"
            for key in reversed(keys):
                value = {key: value}
            outputs[inner] = value
        return f"@@{args.name}.id@@", outputs

    def call(self, args: mocks.MockCallArgs) -> tuple[dict[Any, Any], list[tuple[str, str]] | None]:
        raise AssertionError(f"the program calls {args.token}")


@functools.cache
def _template(stack: str, values: str) -> Program:
    declared = declare_with(_Marks(), stack, json.loads(values))
    resources = [
        Declared(
            urn=_urn(found.urn, stack),
            type=found.type,
            name=found.name,
            inputs=_without_none(found.inputs),
            parent=_urn(found.request.parent, stack),
            provider=_urn(found.request.provider.rpartition("::")[0], stack),
            custom=found.request.custom,
            retained=found.request.retainOnDelete,
            deleted_with=_urn(found.request.deletedWith, stack),
            dependencies=tuple(
                _urn(urn, stack) for urn in found.request.dependencies if _LAST_UPDATE not in urn
            ),
            timeout_s=_seconds(found.request.customTimeouts.create),
        )
        for found in declared.resources
        if found.type != _LAST_UPDATE
    ]
    return Program(tuple(_in_order(resources)), _without_none(declared.exports))


def program_of(
    stack: str, values: Mapping[str, str], last_exports: Mapping[str, Any], now: datetime
) -> Program:
    """Return what the program declares.

    Args:
        stack: its name.
        values: the stack's configuration, as texts.
        last_exports: of the stack's last update.
        now: the time.
    """
    settings = _settings(stack, json.dumps(values, sort_keys=True), now)
    fixed = {key: text for key, text in values.items() if key not in {"expiresAt", "deadlineHours"}}
    template = _template(stack, json.dumps(fixed, sort_keys=True))
    earlier, since = last_exports.get(expiry.EXPORT), last_exports.get(expiry.SINCE_EXPORT)
    at = expiry.deadline(earlier, now, settings.deadline_hours, settings.expires_at)
    old = _deadline_values(settings, _AT, _SINCE)
    new = _deadline_values(settings, at, expiry.excluded_since(earlier, since, now))
    moved = dict(zip(old, new, strict=True))
    return Program(
        tuple(
            Declared(**{**_fields(each), "inputs": _mapped(each.inputs, moved)})
            for each in template.resources
        ),
        _mapped(template.exports, moved),
    )


@functools.lru_cache(maxsize=64)
def _settings(stack: str, values: str, now: datetime) -> Settings:
    return parse_settings(json.loads(values), stack=stack, project=PROJECT, now=now)


def _deadline_values(settings: Settings, at: datetime, since: str) -> list[str]:
    return [
        at.strftime(expiry.EXPORT_FORMAT),
        at.strftime(expiry.LABEL_FORMAT),
        (at + timedelta(days=1)).strftime(expiry.EXPORT_FORMAT),
        expiry.cron(at),
        expiry.next_day_cron(at),
        expiry.limit(settings.location, settings.cluster_name, at),
        since,
    ]


def filled(value: Any, outputs: Mapping[str, Mapping[str, Any]]) -> Any:
    """Replace the marks by the outputs of resources, by name; UNKNOWN where there are none."""
    if isinstance(value, Mapping):
        return {key: filled(each, outputs) for key, each in value.items()}
    if isinstance(value, list):
        return [filled(each, outputs) for each in value]
    if not isinstance(value, str) or "@@" not in value:
        return value
    known = True

    def replace(match: re.Match[str]) -> str:
        nonlocal known
        name, _, path = match[1].partition(".")
        found: Any = outputs.get(name)
        for key in path.split("."):
            found = found.get(key) if isinstance(found, Mapping) else None
        known = known and found is not None
        return str(found)

    text = _MARK.sub(replace, value)
    return text if known else UNKNOWN


def _in_order(resources: list[Declared]) -> list[Declared]:
    """In the order of their registration, but each after what it needs."""
    order: list[Declared] = []
    known: set[str] = set()
    left = list(resources)
    there = {each.urn for each in left}
    while left:
        ready = next(each for each in left if needs(each) & there <= known)
        left.remove(ready)
        order.append(ready)
        known.add(ready.urn)
    return order


def needs(resource: Declared) -> set[str]:
    """The URNs of what must be made before a resource."""
    return {*resource.dependencies, resource.parent, resource.provider} - {""}


def _urn(urn: str, stack: str) -> str:
    """An URN of the mocks as the engine makes it."""
    plain = urn.replace("pulumi:pulumi:Stack$", "")
    return plain.replace("urn:pulumi:stack::project::", f"urn:pulumi:{stack}::pull-study::")


def _seconds(text: str) -> float:
    return 60.0 * float(text.removesuffix("m")) if text else 0.0


def _fields(resource: Declared) -> dict[str, Any]:
    return dict(vars(resource))


def _without_none(value: Any) -> Any:
    """Without nulls, and with whole numbers as ints, as a provider sees it."""
    if isinstance(value, Mapping):
        return {key: _without_none(each) for key, each in value.items() if each is not None}
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return [_without_none(each) for each in value] if isinstance(value, list) else value


def _mapped(value: Any, texts: Mapping[str, str]) -> Any:
    if isinstance(value, Mapping):
        return {key: _mapped(each, texts) for key, each in value.items()}
    if isinstance(value, list):
        return [_mapped(each, texts) for each in value]
    return texts.get(value, value) if isinstance(value, str) else value
