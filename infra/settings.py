"""One stack's configuration: keys, types, ranges and defaults.

`infra.config` reads it from Pulumi; `infra.settings_rules` holds the rules that span several keys.
Whether a zone exists is asked of Google in preflight, so that a new one needs no change here.
"""

import json
from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel

NAMESPACE = "pull-study"
"""Of the configuration keys, as in `pull-study:nodeCount`; also the Pulumi project's name."""

EXPORTER = (
    "ghcr.io/resmoio/kubernetes-event-exporter"
    "@sha256:8abb52b66557d3333f9e473e0eff2951309abfd018bd8d7fcfd86c4ecce6b9cf"
)
"""v1.7, as the original study's nodes recorded it in September 2024."""
FLUX_OPERATOR = (
    "ghcr.io/flux-framework/flux-operator"
    "@sha256:0f61b69f36cc28d4c6c38daef6b1b96eaf9f76ca37528950380f7372f25ef973"
)
"""Of 2024, as pinned in the original study's flux-operator.yaml (converged-computing/
container-chonks): it has all fields that the runner sets. Its pods sleep 10 s more before the study
image than those of operators newer than October 2025."""
_PINNED = r"[a-z0-9][a-z0-9._:/-]*@sha256:[0-9a-f]{64}"
_Zone = Annotated[str, StringConstraints(pattern=r"^[a-z]+-[a-z]+\d+-[a-z]$")]
_HOST = r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:\d{1,5})?"
_Registry = Annotated[str, StringConstraints(pattern=rf"^{_HOST}$")]
_Mirror = Annotated[str, StringConstraints(pattern=rf"^https?://{_HOST}(/[\w.~-]+)*$")]
_Mirrors = Annotated[tuple[_Mirror, ...], Field(min_length=1, max_length=10)]


def _from_json(value: object) -> object:
    return json.loads(value) if isinstance(value, str) else value


def _moment(value: object) -> object:
    if not isinstance(value, str):
        return value
    return datetime.strptime(value, "%Y-%m-%dT%H:%MZ").replace(tzinfo=UTC) if value else None


class Settings(BaseModel):
    """One stack's configuration; keys are the field names in camel case.

    A field's description is its rule, as error messages quote it; its first example, or else its
    default, is the value that the suggested fix sets. Pulumi.yaml says what each key is for and
    repeats types and defaults for the CLI; a test compares the two.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel)

    stack: str
    """Name of the stack, not a key."""
    project: str
    """Google Cloud project id, of `gcp:project` or the environment."""

    node_count: int = Field(
        ge=1, le=1000, description="a whole number from 1 to 1000", examples=[4]
    )
    zones: Annotated[tuple[_Zone, ...], BeforeValidator(_from_json)] = Field(
        default=("us-central1-a",),
        min_length=1,
        max_length=10,
        description="a list of 1 to 10 zones of Google Cloud such as us-central1-a",
    )
    regional: bool = Field(default=False, description="true or false")
    machine_type: str = Field(default="n1-standard-16", description="a priced machine type")
    min_cpu_platform: str = Field(
        default="",
        pattern=r"^([A-Z][A-Za-z]+( [A-Z][A-Za-z0-9]+)+)?$",
        description="a CPU platform such as Intel Skylake, or empty for any",
    )
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
    preloaded_image: str = Field(
        default="",
        pattern=r"^((projects/[a-z][a-z0-9-]{4,28}[a-z0-9]/global/images/)?[a-z]([a-z0-9-]{0,61}[a-z0-9])?)?$",
        description="the name of a disk image, with projects/PROJECT/global/images/ where it is of "
        "another project, or empty for none",
    )
    max_parallel_image_pulls: int = Field(
        default=0, ge=0, le=5, description="0 (GKE's own choice) or 2 to 5"
    )
    parallel_unpacks: int = Field(
        default=0, ge=0, le=16, description="0 (containerd's own choice, one) or 2 to 16"
    )
    registry_hosts: Annotated[dict[_Registry, _Mirrors], BeforeValidator(_from_json)] = Field(
        default={},
        max_length=25,
        description="a mapping of at most 25 registries, as HOST or HOST:PORT, to lists of 1 to 10 "
        "mirrors, as http(s)://HOST[:PORT][/PATH]",
    )
    remote_repository: str = Field(
        default="",
        pattern=rf"^({_HOST})?$",
        description="a registry as HOST or HOST:PORT, or empty for none",
        examples=["ghcr.io"],
    )
    release_channel: Literal["RAPID", "REGULAR", "STABLE", "EXTENDED", "UNSPECIFIED"] = Field(
        default="REGULAR",
        description="RAPID, REGULAR, STABLE, EXTENDED, or UNSPECIFIED for none, which GKE allows "
        "existing customers only",
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
    exporter: str = Field(
        default=EXPORTER,
        pattern=rf"^(none|{_PINNED})$",
        description="an image with its digest (REPOSITORY@sha256:...), or none",
    )
    flux_operator: str = Field(
        default="none",
        pattern=rf"^(none|{_PINNED})$",
        description="an image with its digest (REPOSITORY@sha256:...), or none",
        examples=[FLUX_OPERATOR],
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
        """Deterministic, so that a cluster missing from the state is found by its stack's name."""
        return f"pull-study-{self.stack}"

    @property
    def zone(self) -> str:
        """Zone of all nodes: the first of `zones`."""
        return self.zones[0]

    @property
    def region(self) -> str:
        """Region of the zone."""
        return self.zone.rpartition("-")[0]

    @property
    def location(self) -> str:
        """Where the control plane is: the zone, or its region."""
        return self.region if self.regional else self.zone

    @property
    def exporter_image(self) -> str:
        """The event exporter's image with its digest; empty for no exporter."""
        return "" if self.exporter == "none" else self.exporter

    @property
    def flux_operator_image(self) -> str:
        """The Flux Operator's image with its digest; empty for no operator."""
        return "" if self.flux_operator == "none" else self.flux_operator

    @property
    def preloaded_disk(self) -> str:
        """The disk image with preloaded container images as GKE names it; empty for none."""
        name = self.preloaded_image
        return f"projects/{self.project}/global/images/{name}" if name and "/" not in name else name

    @property
    def pull_through(self) -> str:
        """Id of the remote repository, one a stack; also where there is none."""
        return f"pull-through-{self.stack}"

    @property
    def pull_through_name(self) -> str:
        """What replaces the registry in names of images; empty for no remote repository."""
        if not self.remote_repository:
            return ""
        return f"{self.region}-docker.pkg.dev/{self.project}/{self.pull_through}"

    @property
    def google_labels(self) -> dict[str, str]:
        """Labels of every Google Cloud resource that takes labels."""
        own = {"project": NAMESPACE, "stack": self.stack}
        return self.labels | own | ({"run": self.run_id} if self.run_id else {})
