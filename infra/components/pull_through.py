"""The remote repository: an Artifact Registry that pulls through and caches another registry.

The first request of an image is answered from the other registry, later ones from the cache
(https://docs.cloud.google.com/artifact-registry/docs/repositories/remote-overview). It is
empty when it is created and deleted with the stack, so a new cluster begins with a cold cache.
"""

import pulumi
from pulumi_gcp import artifactregistry

from infra.settings import Settings


def remote_repositories(
    settings: Settings, parent: pulumi.Resource
) -> list[artifactregistry.Repository]:
    """Return the stack's remote repository in its region; nothing where the settings name none."""
    if not settings.remote_repository:
        return []
    upstream = artifactregistry.RepositoryRemoteRepositoryConfigCommonRepositoryArgs(
        uri=f"https://{settings.remote_repository}"
    )
    return [
        artifactregistry.Repository(
            "pull-through",
            project=settings.project,
            location=settings.region,
            repository_id=settings.pull_through,
            description=f"Images of {settings.remote_repository} that a pull study pulls through.",
            format="DOCKER",
            mode="REMOTE_REPOSITORY",
            labels=settings.google_labels,
            remote_repository_config=artifactregistry.RepositoryRemoteRepositoryConfigArgs(
                common_repository=upstream
            ),
            opts=pulumi.ResourceOptions(parent=parent),
        )
    ]
