"""The exports of the Pulumi program that the runner reads."""

from pydantic import BaseModel, ConfigDict, Field


class StackOutputs(BaseModel):
    """Exports of one stack; the field names are the export names."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    project: str
    """Google Cloud project id."""
    location: str
    """Zone (or region) of the cluster, for example us-central1-a."""
    zone: str = ""
    """Zone of all nodes; empty if unknown."""
    cluster_name: str
    node_count: int = Field(ge=1, le=1000)
    """Nodes of the measured pool: N of the study."""
    machine_type: str
    preloaded_image: str = ""
    """Disk image with container images, which each measured node has a disk of; empty for none."""
    remote_repository: str = ""
    """Through which images are pulled, `REGION-docker.pkg.dev/PROJECT/REPOSITORY`; or empty."""
    flux_operator: str = ""
    """Image of the Flux Operator with its digest; empty where there is none."""
    parallel_unpacks: int = Field(default=0, ge=0)
    """Layers of an image that a measured node's containerd unpacks at once; 0: its own choice."""
    kubeconfig: str
    """Kubeconfig (YAML) that runs gke-gcloud-auth-plugin, without credentials; empty for an
    existing cluster, whose kubeconfig stays the user's file."""
    exporter_namespace: str
    exporter_deployment: str
    """Of the event exporter; both empty where there is none."""
    log_filter: str
    """Cloud Logging filter of this cluster's exporter and of GKE's native event log."""
    archive_bucket: str
    """Bucket that the log sink fills, late, and that outlives the stack."""
    expires_at: str = ""
    """When the dead-man switch deletes the cluster, RFC 3339 in UTC; empty if unknown."""
    upgrades_excluded_since: str = ""
    """Since when GKE does not upgrade the cluster, RFC 3339 in UTC; empty if unknown."""
    usd_per_hour: float | None = Field(default=None, ge=0, le=1e7)
    """List price of the whole cluster (infra/prices.py)."""
