"""What a stack's configuration says: the only reader of `pulumi.Config`.

Every value and every combination is checked here, before any call to Google, because the gcp
provider lets much through that only fails (or silently differs) on the cluster. Each refusal names
the key, the value, the rule and the `pulumi config set` that mends it. `infra.settings_rules` holds
the rules that span several keys.
"""

import difflib
import json
import os
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Literal

import pulumi
import pulumi.runtime.config
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from infra.settings_rules import broken_rule
from schema.errors import UserError
from schema.names import PROJECT_VARIABLE

NAMESPACE = "pull-study"
"""Of the configuration keys, as in `pull-study:nodeCount`; also the Pulumi project's name."""
_STACK = re.compile(r"[a-z]([a-z0-9-]{0,21}[a-z0-9])?")
_PROJECT = re.compile(r"[a-z][a-z0-9-]{4,28}[a-z0-9]")


class SettingsError(UserError):
    """A stack's configuration cannot become a cluster."""


def _from_json(value: object) -> object:
    return json.loads(value) if isinstance(value, str) else value


def _moment(value: object) -> object:
    if not isinstance(value, str):
        return value
    return datetime.strptime(value, "%Y-%m-%dT%H:%MZ").replace(tzinfo=UTC) if value else None


class Settings(BaseModel):
    """One stack's configuration; keys are the field names in camel case.

    A field's description is its rule, as refusals quote it; its first example, or else its
    default, is the value that the mending command sets. Pulumi.yaml says what each key is for and
    repeats types and defaults for the CLI; a test holds the two together.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel)

    stack: str
    """Name of the stack, not a key."""
    project: str
    """Google Cloud project id, of `gcp:project` or the environment."""

    node_count: int = Field(
        ge=1, le=1000, description="a whole number from 1 to 1000", examples=[4]
    )
    zone: str = Field(default="us-central1-a", description="a zone of Google Cloud")
    control_plane_region: str = Field(
        default="", alias="region", description="a region of Google Cloud, or empty for the zone"
    )
    machine_type: str = Field(default="n1-standard-16", description="a priced machine type")
    threads_per_core: int = Field(default=1, ge=1, le=2, description="1 or 2")
    gvnic: bool = Field(default=True, description="true or false")
    spot: bool = Field(default=False, description="true or false")
    disk_type: Literal["pd-standard", "pd-balanced", "pd-ssd"] = Field(
        default="pd-balanced", description="pd-standard, pd-balanced or pd-ssd"
    )
    disk_size_gb: int = Field(
        default=100, ge=10, le=65536, description="a whole number of GB from 10 to 65536"
    )
    local_ssd_count: int = Field(
        default=0, ge=0, le=24, description="a number of local SSDs from 0 to 24"
    )
    image_streaming: bool = Field(default=False, description="true or false")
    max_parallel_image_pulls: int = Field(
        default=0, ge=0, le=5, description="0 (GKE's own choice) or 2 to 5"
    )
    release_channel: Literal["RAPID", "REGULAR", "STABLE", "EXTENDED", "UNSPECIFIED"] = Field(
        default="REGULAR", description="RAPID, REGULAR, STABLE, EXTENDED or UNSPECIFIED (none)"
    )
    kubernetes_version: str = Field(
        default="",
        pattern=r"^(1\.\d+(\.\d+(-gke\.\d+)?)?)?$",
        description="a version such as 1.34 or 1.34.1-gke.1829001, or empty for the channel's",
        examples=["1.34"],
    )
    private_nodes: bool = Field(default=False, description="true or false")
    shielded_nodes: bool = Field(default=True, description="true or false")
    workload_metadata: Literal["GCE_METADATA", "GKE_METADATA"] = Field(
        default="GCE_METADATA", description="GCE_METADATA or GKE_METADATA"
    )
    pod_range_prefix: int = Field(
        default=14, ge=9, le=21, description="a prefix length from 9 to 21"
    )
    monitoring_pool: bool = Field(default=True, description="true or false")
    monitoring_machine_type: str = Field(
        default="e2-standard-4", description="a priced machine type"
    )
    archive_bucket: str = Field(
        default="",
        pattern=r"^([a-z0-9][a-z0-9._-]{1,220}[a-z0-9])?$",
        description="the name of an existing bucket without gs://, or empty for a new one",
    )
    archive_days: int = Field(
        default=400, ge=1, le=3650, description="a whole number of days from 1 to 3650"
    )
    deadline_hours: int = Field(
        default=12, ge=1, le=168, description="a whole number of hours from 1 to 168"
    )
    expires_at: Annotated[datetime | None, BeforeValidator(_moment)] = Field(
        default=None,
        description="a time in UTC such as 2026-11-25T03:00Z, or empty for deadlineHours",
    )
    run_id: str = Field(
        default="",
        pattern=r"^[a-z0-9_-]{0,63}$",
        description="empty or up to 63 lower-case letters, digits, _ and -",
    )
    labels: Annotated[dict[str, str], BeforeValidator(_from_json)] = Field(
        default={}, description="a mapping of Google Cloud labels"
    )

    @property
    def cluster_name(self) -> str:
        """Deterministic, so that a cluster that the state has lost is found by its stack's name."""
        return f"pull-study-{self.stack}"

    @property
    def region(self) -> str:
        """Region of the zone."""
        return self.zone.rpartition("-")[0]

    @property
    def location(self) -> str:
        """Where the control plane is: the zone, or the region that is set."""
        return self.control_plane_region or self.zone

    @property
    def google_labels(self) -> dict[str, str]:
        """Labels of every Google Cloud resource that takes labels."""
        own = {"project": NAMESPACE, "stack": self.stack}
        return self.labels | own | ({"run": self.run_id} if self.run_id else {})


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
    """Make settings of raw values.

    Args:
        values: key without namespace -> text; objects as JSON.
        stack: the stack's name.
        project: Google Cloud project id.
        now: by which a deadline is past or not.

    Raises:
        SettingsError: a key or a combination breaks a rule.
    """
    _check_stack(stack)
    _check_project(project, stack)
    _check_keys(values, stack)
    try:
        settings = Settings.model_validate({**values, "stack": stack, "project": project})
    except ValidationError as error:
        key = str(error.errors()[0]["loc"][0])
        raise _wrong_value(stack, key, values.get(key)) from None
    broken = broken_rule(settings, now)
    if broken is not None:
        raise SettingsError(
            f"Stack {stack} sets {NAMESPACE}:{broken.key} to {broken.value}, but {broken.rule}.",
            _mend(stack, broken.key, broken.fix),
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
            f"The stack name {stack!r} cannot be part of Google Cloud's names: it must be 1 to 23 "
            "lower-case letters, digits and hyphens, beginning with a letter.",
            f"pulumi stack rename --stack {stack} size-4",
        )


def _check_project(project: str, stack: str) -> None:
    if not project:
        raise SettingsError(
            f"Stack {stack} has no Google Cloud project, so there is nowhere to create a cluster: "
            f"neither gcp:project nor {PROJECT_VARIABLE} is set.",
            f"pulumi config set --stack {stack} gcp:project PROJECT_ID",
        )
    if not _PROJECT.fullmatch(project):
        raise SettingsError(
            f"Stack {stack} names the Google Cloud project {project!r}, but a project id is 6 to "
            "30 lower-case letters, digits and hyphens (not the project's name or number).",
            f"pulumi config set --stack {stack} gcp:project PROJECT_ID",
        )


def _check_keys(values: Mapping[str, str], stack: str) -> None:
    known = [_alias(name) for name in _own_fields()]
    for key in values:
        if key not in known:
            nearest = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
            hint = f" (did you mean {nearest[0]}?)" if nearest else ""
            raise SettingsError(
                f"Stack {stack} sets {NAMESPACE}:{key}, which no part of this program "
                f"reads{hint}: left there, it would seem to have an effect.",
                f"pulumi config rm --stack {stack} {NAMESPACE}:{key}",
            )


def _wrong_value(stack: str, key: str, value: str | None) -> SettingsError:
    field = next(Settings.model_fields[name] for name in _own_fields() if _alias(name) == key)
    does = (
        f"does not set {NAMESPACE}:{key}" if value is None else f"sets {NAMESPACE}:{key} to {value}"
    )
    example = field.examples[0] if field.examples else field.default
    return SettingsError(
        f"Stack {stack} {does}, but it must be {field.description}.", _mend(stack, key, example)
    )


def _mend(stack: str, key: str, value: object) -> str:
    """The command that gives a key (labels.team: a key within a mapping) a legal value or none."""
    path = "--path " if "." in key else ""
    if not value and not isinstance(value, (bool, int)):
        return f"pulumi config rm --stack {stack} {path}{NAMESPACE}:{key}"
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return f"pulumi config set --stack {stack} {path}{NAMESPACE}:{key} {text}"
