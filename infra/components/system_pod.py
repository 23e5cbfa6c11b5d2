"""One pod of the system: a Deployment of one, with its own namespace, account and role."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pulumi
from pulumi_kubernetes import apps, core, meta, rbac

_USER = 65532
"""User and group nonroot of the images of both the event exporter and the Flux Operator."""


@dataclass(frozen=True, slots=True)
class SystemPodArgs:
    """Where the pod runs, and of what.

    Attributes:
        cluster: deleting it deletes everything in it, so `destroy` skips its objects.
        node_pool: name of the pool to run on; None for any node.
        pools: must exist before the pod waits for a node.
        image: with its digest.
    """

    cluster: pulumi.Resource
    node_pool: pulumi.Input[str] | None
    pools: Sequence[pulumi.Resource]
    image: str


class SystemPod(pulumi.ComponentResource):
    """Declares namespace, account and role; a subclass then deploys its container."""

    def __init__(
        self,
        kind: str,
        name: str,
        args: SystemPodArgs,
        *,
        app: str,
        namespace: str,
        prefix: str,
        rules: Sequence[rbac.v1.PolicyRuleArgs],
        opts: pulumi.ResourceOptions | None,
    ) -> None:
        """Declare all but the Deployment.

        Args:
            kind: of the component, the last part of its type.
            name: of the component.
            args: see there.
            app: name of the Deployment, its container and its service account.
            namespace: to be created.
            prefix: of the resources' names in the program.
            rules: what the pod may do in the cluster.
            opts: of the component.
        """
        super().__init__(f"pull-study:infra:{kind}", name, None, opts)
        self._args, self._app, self._prefix = args, app, prefix
        self._labels = {"app": app}
        created = core.v1.Namespace(
            f"{prefix}namespace",
            metadata=meta.v1.ObjectMetaArgs(name=namespace, labels=self._labels),
            opts=self.in_cluster(),
        )
        self.metadata = meta.v1.ObjectMetaArgs(
            name=app, namespace=created.metadata.name, labels=self._labels
        )
        account = core.v1.ServiceAccount(
            f"{prefix}account", metadata=self.metadata, opts=self.in_cluster()
        )
        self._needed = [account, self._binding(rules), *args.pools]

    def _binding(self, rules: Sequence[rbac.v1.PolicyRuleArgs]) -> rbac.v1.ClusterRoleBinding:
        metadata = meta.v1.ObjectMetaArgs(name=f"pull-study-{self._app}", labels=self._labels)
        role = rbac.v1.ClusterRole(
            f"{self._prefix}role", metadata=metadata, rules=list(rules), opts=self.in_cluster()
        )
        return rbac.v1.ClusterRoleBinding(
            f"{self._prefix}binding",
            metadata=metadata,
            role_ref=rbac.v1.RoleRefArgs(
                api_group="rbac.authorization.k8s.io", kind="ClusterRole", name=role.metadata.name
            ),
            subjects=[
                rbac.v1.SubjectArgs(
                    kind="ServiceAccount", name=self._app, namespace=self.metadata.namespace
                )
            ],
            opts=self.in_cluster(),
        )

    def in_cluster(self, *after: pulumi.Resource) -> pulumi.ResourceOptions:
        """Return options of an object in the cluster."""
        return pulumi.ResourceOptions(
            parent=self, deleted_with=self._args.cluster, depends_on=list(after)
        )

    def deploy(
        self,
        container: core.v1.ContainerArgs,
        *after: pulumi.Resource,
        volumes: Sequence[core.v1.VolumeArgs] = (),
        annotations: Mapping[str, str] | None = None,
    ) -> None:
        """Declare the Deployment; it is created after what it needs and refers to by name only."""
        container.name, container.image = self._app, self._args.image
        container.security_context = core.v1.SecurityContextArgs(
            allow_privilege_escalation=False,
            read_only_root_filesystem=True,
            capabilities=core.v1.CapabilitiesArgs(drop=["ALL"]),
        )
        template = core.v1.PodTemplateSpecArgs(
            metadata=meta.v1.ObjectMetaArgs(labels=self._labels, annotations=annotations),
            spec=self._pod(container, volumes),
        )
        apps.v1.Deployment(
            f"{self._prefix}deployment",
            metadata=self.metadata,
            spec=apps.v1.DeploymentSpecArgs(
                # Two, even during a rollout, would do everything twice.
                replicas=1,
                strategy=apps.v1.DeploymentStrategyArgs(type="Recreate"),
                selector=meta.v1.LabelSelectorArgs(match_labels=self._labels),
                template=template,
            ),
            opts=self.in_cluster(*self._needed, *after),
        )
        self.register_outputs({})

    def _pod(
        self, container: core.v1.ContainerArgs, volumes: Sequence[core.v1.VolumeArgs]
    ) -> core.v1.PodSpecArgs:
        pool = self._args.node_pool
        return core.v1.PodSpecArgs(
            service_account_name=self._app,
            automount_service_account_token=True,
            node_selector={"cloud.google.com/gke-nodepool": pool} if pool else None,
            security_context=core.v1.PodSecurityContextArgs(
                run_as_non_root=True,
                run_as_user=_USER,
                run_as_group=_USER,
                seccomp_profile=core.v1.SeccompProfileArgs(type="RuntimeDefault"),
            ),
            containers=[container],
            volumes=list(volumes) or None,
        )


def probe(path: str, port: int) -> core.v1.ProbeArgs:
    """Return a probe by HTTP."""
    return core.v1.ProbeArgs(http_get=core.v1.HTTPGetActionArgs(path=path, port=port))
