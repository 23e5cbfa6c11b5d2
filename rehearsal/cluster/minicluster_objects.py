"""What a MiniCluster consists of: a ConfigMap of scripts, a headless Service, an Indexed Job. Pure.

Names and fields are those that the Flux Operator gives them (flux-framework/flux-operator,
controllers/flux: job.go, containers.go, pods.go, minicluster.go), as far as the runner, the control
plane and a kubelet notice. The scripts are a rehearsal's own, as is the `flux` that they call
(rehearsal.real_nodes.flux_images): they start no broker, and each pod works for itself.
"""

from typing import Any

from rehearsal.cluster.kubernetes import Object
from schema.names import MINICLUSTERS

INDEX_LABEL = "job-index"
_SCRIPTS, _SOFTWARE = "/flux_operator", "/opt/software"
_INIT = """#!/bin/bash
set -e
echo "a stand-in of Flux is copied"
cp -R /opt/view "$1"
"""
_WAIT = """#!/bin/bash
export PATH="$1/view/bin:$PATH"
if [ "$JOB_COMPLETION_INDEX" = 0 ]; then exec flux start {command}; fi
exec flux broker
"""
"""JOB_COMPLETION_INDEX is Kubernetes' own, of each container of an Indexed Job."""


def objects_of(cluster: Object) -> list[tuple[str, Object]]:
    """Return the objects of a MiniCluster with the paths of their kinds, in the order of making."""
    namespace = cluster["metadata"]["namespace"]
    return [
        (f"/api/v1/namespaces/{namespace}/configmaps", _config_map(cluster)),
        (f"/api/v1/namespaces/{namespace}/services", _service(cluster)),
        (f"/apis/batch/v1/namespaces/{namespace}/jobs", _job(cluster)),
    ]


def _owned(cluster: Object, name: str, **more: Any) -> Object:
    own = cluster["metadata"]
    owner = {
        "apiVersion": "/".join(MINICLUSTERS[:2]),
        "kind": "MiniCluster",
        "name": own["name"],
        "uid": own["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }
    return {"name": name, "namespace": own["namespace"], "ownerReferences": [owner], **more}


def _config_map(cluster: Object) -> Object:
    command = cluster["spec"]["containers"][0]["command"]
    data = {"flux-init": _INIT, "wait-0": _WAIT.format(command=command), "curve.cert": "stand-in"}
    return {"metadata": _owned(cluster, _entrypoint(cluster)), "data": data}


def _service(cluster: Object) -> Object:
    name = cluster["metadata"]["name"]
    headless = cluster["spec"]["network"]["headlessName"]
    return {
        "metadata": _owned(cluster, headless),
        "spec": {"clusterIP": "None", "selector": {"job-name": name}},
    }


def _job(cluster: Object) -> Object:
    name, namespace = cluster["metadata"]["name"], cluster["metadata"]["namespace"]
    spec = cluster["spec"]
    labels = {
        **spec["pod"].get("labels", {}),
        "namespace": namespace,
        "app": "flux-operator",
        "app.kubernetes.io/name": name,
        "hpa-selector": name,
    }
    return {
        "metadata": _owned(cluster, name, labels=spec.get("jobLabels", {})),
        "spec": {
            "backoffLimit": spec.get("backoffLimit") or 100,
            "completions": spec["size"],
            "parallelism": spec["size"],
            "completionMode": "Indexed",
            "activeDeadlineSeconds": spec["deadlineSeconds"],
            "template": {"metadata": {"labels": labels}, "spec": _pod(cluster)},
        },
    }


def _pod(cluster: Object) -> Object:
    name, spec = cluster["metadata"]["name"], cluster["spec"]
    pod, view, study = spec["pod"], spec["flux"]["container"], spec["containers"][0]
    flux = str(view["mountPath"])
    mounts: list[Object] = [
        {"name": _entrypoint(cluster), "mountPath": f"{_SCRIPTS}/", "readOnly": True},
        {"name": "flux-install", "mountPath": flux},
    ]
    software = {"name": "spack-install", "mountPath": _SOFTWARE}
    anywhere_else = {
        "weight": 100,
        "podAffinityTerm": {
            "labelSelector": {"matchLabels": {"app.kubernetes.io/name": name}},
            "topologyKey": "kubernetes.io/hostname",
        },
    }
    anti = {"preferredDuringSchedulingIgnoredDuringExecution": [anywhere_else]}
    return {
        "subdomain": spec["network"]["headlessName"],
        "setHostnameAsFQDN": False,
        "automountServiceAccountToken": False,
        "restartPolicy": pod.get("restartPolicy") or "OnFailure",
        "schedulerName": pod.get("schedulerName") or "default-scheduler",
        "tolerations": pod.get("tolerations", []),
        "affinity": {"podAntiAffinity": anti},
        "volumes": [
            {"name": _entrypoint(cluster), "configMap": _scripts(cluster)},
            *({"name": each, "emptyDir": {}} for each in ("flux-install", "spack-install")),
        ],
        "initContainers": [_container(view["name"], view, "flux-init.sh", flux, mounts)],
        # The study's container has the name of its MiniCluster.
        "containers": [_container(name, study, "wait-0.sh", flux, [*mounts, software])],
    }


def _container(name: str, given: Object, script: str, flux: str, mounts: list[Object]) -> Object:
    return {
        "name": name,
        "image": given["image"],
        "imagePullPolicy": given.get("imagePullPolicy") or "IfNotPresent",
        "command": ["/bin/bash", f"{_SCRIPTS}/{script}", flux],
        "volumeMounts": mounts,
        "stdin": True,
        "tty": True,
    }


def _scripts(cluster: Object) -> Object:
    paths = {"flux-init": "flux-init.sh", "wait-0": "wait-0.sh", "curve.cert": "curve.cert"}
    items = [{"key": key, "path": path} for key, path in paths.items()]
    return {"name": _entrypoint(cluster), "items": items}


def _entrypoint(cluster: Object) -> str:
    return f"{cluster['metadata']['name']}-entrypoint"
