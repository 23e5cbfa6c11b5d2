"""Reads a stack's configuration: the only user of `pulumi.Config`.

Every value and every combination is checked here, before any call to Google: the gcp provider
accepts much that only fails (or silently differs) on the cluster. Each error names the key, the
value, the rule and the `pulumi config set` that fixes it.
"""

import difflib
import os
import re
import shlex
from collections.abc import Mapping
from datetime import UTC, datetime

import pulumi
import pulumi.runtime.config
from pydantic import ValidationError

from infra.settings import NAMESPACE, Settings
from infra.settings_rules import first_violation
from schema.errors import UserError
from schema.names import PROJECT_VARIABLE

_STACK = re.compile(r"[a-z]([a-z0-9-]{0,21}[a-z0-9])?")
_PROJECT = re.compile(r"[a-z][a-z0-9-]{4,28}[a-z0-9]")


class SettingsError(UserError):
    """A stack's configuration is not valid."""


def load_settings() -> Settings:
    """Read the current stack's configuration.

    Raises:
        SettingsError: a key or a combination breaks a rule.
    """
    prefix = f"{NAMESPACE}:"
    config = pulumi.Config(NAMESPACE)
    keys = sorted(_configured_keys(prefix) | {_alias(name) for name in _own_fields()})
    values = {key: value for key in keys if (value := config.get(key)) is not None}
    project = pulumi.Config("gcp").get("project") or os.environ.get(PROJECT_VARIABLE, "")
    return parse_settings(values, stack=pulumi.get_stack(), project=project, now=datetime.now(UTC))


def parse_settings(
    values: Mapping[str, str], *, stack: str, project: str, now: datetime
) -> Settings:
    """Validate raw values.

    Args:
        values: key without namespace -> text; objects as JSON.
        stack: the stack's name.
        project: Google Cloud project id.
        now: to check that a deadline is in the future.

    Raises:
        SettingsError: a key or a combination breaks a rule.
    """
    _check_stack(stack)
    _check_project(project, stack)
    _check_keys(values, stack)
    try:
        settings = Settings.model_validate({**values, "stack": stack, "project": project})
    except ValidationError as error:
        key, *index = error.errors()[0]["loc"]
        raise _wrong_value(stack, str(key), values.get(str(key)), *index[:1]) from error
    violation = first_violation(settings, now)
    if violation is not None:
        raise SettingsError(
            f"Stack {stack} sets {NAMESPACE}:{violation.key} to {violation.value}, "
            f"but {violation.rule}.",
            _fix(stack, violation.key, violation.fix),
        )
    return settings


def _own_fields() -> list[str]:
    return [name for name in Settings.model_fields if name not in {"stack", "project"}]


def _alias(name: str) -> str:
    return Settings.model_fields[name].alias or name


def _configured_keys(prefix: str) -> set[str]:
    # pulumi.Config can get a key but not list them, and an unknown key is a typo worth a refusal.
    return {
        key.removeprefix(prefix)
        for key in pulumi.runtime.config.CONFIG.get() | pulumi.runtime.config.get_config_env()
        if key.startswith(prefix)
    }


def _check_stack(stack: str) -> None:
    if not _STACK.fullmatch(stack):
        raise SettingsError(
            f"The stack name {stack!r} is not valid in Google Cloud names: it must be 1 to 23 "
            "lower-case letters, digits and hyphens, starting with a letter.",
            f"pulumi stack rename --stack {stack} size-4",
        )


def _check_project(project: str, stack: str) -> None:
    if not project:
        raise SettingsError(
            f"Stack {stack} has no Google Cloud project: neither gcp:project nor "
            f"{PROJECT_VARIABLE} is set.",
            f"pulumi config set --stack {stack} gcp:project PROJECT_ID",
        )
    if not _PROJECT.fullmatch(project):
        raise SettingsError(
            f"{project!r} is not a Google Cloud project id (stack {stack}): an id has 6 to 30 "
            "lower-case letters, digits and hyphens; it is not the project's name or number.",
            f"pulumi config set --stack {stack} gcp:project PROJECT_ID",
        )


def _check_keys(values: Mapping[str, str], stack: str) -> None:
    known = [_alias(name) for name in _own_fields()]
    for key in values:
        if key not in known:
            nearest = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
            hint = f" (did you mean {nearest[0]}?)" if nearest else ""
            raise SettingsError(
                f"Stack {stack} sets {NAMESPACE}:{key}, an unknown key{hint}: it has no effect.",
                f"pulumi config rm --stack {stack} {NAMESPACE}:{key}",
            )


def _wrong_value(stack: str, key: str, value: str | None, index: int | str = 0) -> SettingsError:
    field = next(Settings.model_fields[name] for name in _own_fields() if _alias(name) == key)
    does = (
        f"does not set {NAMESPACE}:{key}" if value is None else f"sets {NAMESPACE}:{key} to {value}"
    )
    example = field.examples[0] if field.examples else field.default
    path = key
    if isinstance(example, tuple):
        path, example = f"{key}[{index}]", example[0]
    return SettingsError(
        f"Stack {stack} {does}, but it must be {field.description}.", _fix(stack, path, example)
    )


def _fix(stack: str, key: str, value: object) -> str:
    """Return the command that sets or removes a key, or a part of one: labels.team, zones[1]."""
    path = "--path " if "." in key or "[" in key else ""
    name = shlex.quote(f"{NAMESPACE}:{key}")
    if not value and not isinstance(value, (bool, int)):
        return f"pulumi config rm --stack {stack} {path}{name}"
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return f"pulumi config set --stack {stack} {path}{name} {text}"
