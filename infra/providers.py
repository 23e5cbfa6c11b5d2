"""The stack's explicit providers: no resource uses an ambient project or kubeconfig."""

import pulumi
import pulumi_gcp as gcp
import pulumi_kubernetes as kubernetes

from infra.components.cluster import StudyCluster
from infra.settings import Settings


def google_provider(settings: Settings, after: pulumi.Resource) -> gcp.Provider:
    """Return the provider of Google Cloud, in the settings' project.

    Credentials are the Application Default Credentials of the caller; none are configured, so none
    are kept in the state. Calls are charged to the project itself: a user's login has no quota
    project, and the provider does not read the one that `set-quota-project` writes
    (hashicorp/terraform-provider-google, issue 20459).

    Args:
        settings: of the stack.
        after: must exist before this provider and every resource that uses it.
    """
    return gcp.Provider(
        "google",
        project=settings.project,
        billing_project=settings.project,
        user_project_override=True,
        opts=pulumi.ResourceOptions(depends_on=[after]),
    )


def kubernetes_provider(cluster: StudyCluster) -> kubernetes.Provider:
    """Return the provider of the stack's own cluster, through gke-gcloud-auth-plugin."""
    return kubernetes.Provider(
        "cluster", kubeconfig=cluster.kubeconfig, opts=pulumi.ResourceOptions(parent=cluster)
    )
