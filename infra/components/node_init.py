"""What a measured node runs when it starts: the script that makes containerd unpack in parallel.

GKE has no setting for it; a node's init script (linux_node_config.custom_node_init) changes
containerd's configuration. The script is an object of a bucket of the stack's own, which the nodes'
account alone may read besides the project's own roles, and which is deleted with the stack.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import pulumi
from pulumi_gcp import container, serviceaccount, storage

from infra.settings import Settings

READER_ROLE = "roles/storage.objectViewer"
_SCRIPT = Path(__file__).with_name("parallel_unpacks.sh")


@dataclass(frozen=True, slots=True)
class NodeInit:
    """A script that nodes run.

    Attributes:
        config: of a node that runs it.
        needs: what must exist before the node.
    """

    config: container.NodePoolNodeConfigLinuxNodeConfigArgs
    needs: list[pulumi.Resource]


def node_init(
    settings: Settings, account: serviceaccount.Account, parent: pulumi.Resource
) -> NodeInit | None:
    """Declare the script of the settings; None where nodes need none."""
    if not settings.parallel_unpacks:
        return None
    opts = pulumi.ResourceOptions(parent=parent)
    bucket = storage.Bucket(
        "node-init",
        name=bucket_name(settings),
        location=settings.region,
        uniform_bucket_level_access=True,
        public_access_prevention="enforced",
        labels=settings.google_labels,
        opts=opts,
    )
    text = script(settings.parallel_unpacks)
    # A node pool has the generation of its script, so another script is another object.
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    uploaded = storage.BucketObject(
        "node-init-script",
        bucket=bucket.name,
        name=f"parallel-unpacks-{digest}.sh",
        content=text,
        content_type="text/x-shellscript",
        opts=opts,
    )
    reader = storage.BucketIAMMember(
        "node-init-reader",
        bucket=bucket.name,
        role=READER_ROLE,
        member=account.member,
        opts=opts,
    )
    init = container.NodePoolNodeConfigLinuxNodeConfigCustomNodeInitArgs(
        init_script=container.NodePoolNodeConfigLinuxNodeConfigCustomNodeInitInitScriptArgs(
            gcs_uri=pulumi.Output.format("gs://{}/{}", bucket.name, uploaded.name),
            gcs_generation=uploaded.generation,
        )
    )
    config = container.NodePoolNodeConfigLinuxNodeConfigArgs(custom_node_init=init)
    return NodeInit(config, [uploaded, reader])


def bucket_name(settings: Settings) -> str:
    """Return a name that is unique in all projects (buckets share one namespace) and never changes.

    At most 63 characters.
    """
    digest = hashlib.sha256(f"{settings.project}/{settings.stack}".encode()).hexdigest()[:12]
    return f"pull-study-{settings.stack}-{digest}"


def script(unpacks: int) -> str:
    """Return the script for so many layers at once."""
    return f"#!/bin/bash\nunpacks={unpacks}\n{_SCRIPT.read_text(encoding='utf-8')}"
