"""The Flux Operator: it makes an Indexed Job of each MiniCluster, whose pods start Flux first.

The manager runs alone: its own manifest adds a proxy for its metrics, from a registry that is
closed. Its definition of a MiniCluster has 1,661 lines of types and defaults; ours accepts any
fields, as the runner writes all that matter and relies on no default.
"""

import pulumi
from pulumi_kubernetes import apiextensions, core, meta, rbac

from infra.components.system_pod import SystemPod, SystemPodArgs, probe
from schema.names import FLUX_OPERATOR, MINICLUSTERS

_GROUP, _VERSION, _PLURAL = MINICLUSTERS
_PORT = 8081
_READ = ["get", "list", "watch"]
_RULES = (
    (_GROUP, [_PLURAL], [*_READ, "update", "patch"]),
    (_GROUP, [f"{_PLURAL}/status"], ["get", "update", "patch"]),
    # Owner references that block deletion need it where the API server enforces them.
    (_GROUP, [f"{_PLURAL}/finalizers"], ["update"]),
    ("batch", ["jobs"], [*_READ, "create", "update", "patch"]),
    ("", ["configmaps", "services"], [*_READ, "create"]),
    ("", ["pods"], [*_READ, "patch"]),
    # It makes none of these here, but watches all kinds that it can own, in all namespaces.
    ("", ["secrets"], _READ),
    ("networking.k8s.io", ["ingresses"], _READ),
)
"""What the operator asks of the API server for MiniClusters of the runner's form
(flux-framework/flux-operator: SetupWithManager and ensureMiniCluster in controllers/flux)."""


class FluxOperator(SystemPod):
    """One Flux Operator and the definition of its objects."""

    def __init__(
        self, name: str, args: SystemPodArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__(
            "FluxOperator",
            name,
            args,
            app=FLUX_OPERATOR,
            namespace=FLUX_OPERATOR,
            prefix="operator-",
            rules=[
                rbac.v1.PolicyRuleArgs(api_groups=[group], resources=resources, verbs=verbs)
                for group, resources, verbs in _RULES
            ],
            opts=opts,
        )
        # It ends where the kind that it watches is not served.
        self.deploy(_container(), self._definition())

    def _definition(self) -> apiextensions.v1.CustomResourceDefinition:
        schema = apiextensions.v1.JSONSchemaPropsArgs(
            type="object", x_kubernetes_preserve_unknown_fields=True
        )
        version = apiextensions.v1.CustomResourceDefinitionVersionArgs(
            name=_VERSION,
            served=True,
            storage=True,
            schema=apiextensions.v1.CustomResourceValidationArgs(open_apiv3_schema=schema),
            subresources=apiextensions.v1.CustomResourceSubresourcesArgs(status={}),
        )
        return apiextensions.v1.CustomResourceDefinition(
            _PLURAL,
            metadata=meta.v1.ObjectMetaArgs(name=f"{_PLURAL}.{_GROUP}"),
            spec=apiextensions.v1.CustomResourceDefinitionSpecArgs(
                group=_GROUP,
                scope="Namespaced",
                names=apiextensions.v1.CustomResourceDefinitionNamesArgs(
                    kind="MiniCluster",
                    list_kind="MiniClusterList",
                    plural=_PLURAL,
                    singular="minicluster",
                ),
                versions=[version],
            ),
            opts=self.in_cluster(),
        )


def _container() -> core.v1.ContainerArgs:
    return core.v1.ContainerArgs(
        name=FLUX_OPERATOR,
        args=[f"--health-probe-bind-address=:{_PORT}", "--metrics-bind-address=0"],
        ports=[core.v1.ContainerPortArgs(name="health", container_port=_PORT)],
        readiness_probe=probe("/readyz", _PORT),
        liveness_probe=probe("/healthz", _PORT),
        # It caches the pods and Secrets of the whole cluster: 50 MB with 256 pods, where its own
        # manifest allows 128.
        resources=core.v1.ResourceRequirementsArgs(
            requests={"cpu": "100m", "memory": "256Mi"}, limits={"memory": "512Mi"}
        ),
    )
