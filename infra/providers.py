"""The only way to get a provider, so that no resource uses an ambient project or kubeconfig."""

import pulumi
import pulumi_gcp as gcp
import pulumi_kubernetes as kubernetes

from infra.cluster import StudyCluster
from infra.settings import Settings


def google_provider(settings: Settings, after: pulumi.Resource) -> gcp.Provider:
    """Google Cloud, in the settings' project and nowhere else.

    Credentials are the Application Default Credentials of whoever runs Pulumi; none are
    configured, so none are kept in the state.

    Args:
        settings: of the stack.
        after: what is to be there before this provider and all that uses it.
    """
    return gcp.Provider(
        "google", project=settings.project, opts=pulumi.ResourceOptions(depends_on=[after])
    )


def kubernetes_provider(cluster: StudyCluster) -> kubernetes.Provider:
    """The stack's own cluster, entered through gke-gcloud-auth-plugin."""
    return kubernetes.Provider(
        "cluster", kubeconfig=cluster.kubeconfig, opts=pulumi.ResourceOptions(parent=cluster)
    )
