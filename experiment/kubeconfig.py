"""Reads a kubeconfig into the settings of the Kubernetes client, and runs its plugin."""

from functools import partial
from pathlib import Path
from typing import Any

import yaml
from kubernetes import client, config
from kubernetes.config.kube_config import KubeConfigLoader

from experiment.errors import Failure, MeasureError, PlanError, one_line
from experiment.tokens import FreshToken, TokenError, run_plugin
from schema.run_records import ExistingCluster

Content = dict[str, Any]

_BAD_FILE = (config.ConfigException, yaml.YAMLError, OSError, TypeError, AttributeError, ValueError)


def context_name(cluster: ExistingCluster) -> str:
    """Return the context that a user's kubeconfig is used with; "" if it has no current one.

    Raises:
        PlanError: the file is not a kubeconfig.
    """
    return cluster.context or _contexts(cluster.kubeconfig)[1]


def load_kubeconfig(
    cluster: str | ExistingCluster, settings: client.Configuration
) -> FreshToken | None:
    """Read a kubeconfig into settings; return the token of its credential plugin, if it has one.

    Args:
        cluster: kubeconfig as YAML text, or the path and context of the user's own file.
        settings: of the client library.

    Raises:
        PlanError: the user's kubeconfig has no such context.
        MeasureError: the credential plugin fails.
    """
    if isinstance(cluster, str):
        content = yaml.safe_load(cluster)
        return _apply(content, str(content["current-context"]), None, settings)
    name, path = context_name(cluster), Path(cluster.kubeconfig)
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
        return _apply(content, name, str(path.absolute().parent), settings)
    except (*_BAD_FILE, KeyError) as error:
        known = ", ".join(_contexts(cluster.kubeconfig)[0]) or "none"
        raise PlanError(
            f"The context {name!r} of the kubeconfig {cluster.kubeconfig} cannot be used: "
            f"{one_line(error)}.",
            f"--context, one of: {known}",
        ) from error


def _apply(
    content: Content, name: str, folder: str | None, settings: client.Configuration
) -> FreshToken | None:
    """Read one context of a kubeconfig whose relative paths belong to a folder."""

    def named(kind: str, wanted: Any) -> Content:
        found = [each[kind] for each in content.get(f"{kind}s") or [] if each["name"] == wanted]
        return dict(found[0] or {}) if found else {}

    context = named("context", name)
    user, cluster = named("user", context.get("user")), named("cluster", context.get("cluster"))
    token = _token(user["exec"], cluster, folder) if user.get("exec") else None
    if token:  # else the library would run the plugin too
        del user["exec"]
        users = [{"name": context["user"], "user": user}]
        content = {**content, "users": users}
    KubeConfigLoader(content, active_context=name, config_base_path=folder).load_and_set(settings)
    return token


def _token(plugin: Content, cluster: Content, folder: str | None) -> FreshToken | None:
    fetch = partial(run_plugin, plugin, cluster, folder)
    try:
        first = fetch()
        return FreshToken(first, fetch) if first else None
    except TokenError as error:
        raise MeasureError(
            f"There is no login to the cluster: {error}.",
            "log in again; on GKE: gcloud auth application-default login",
            failure=Failure.PERMISSION,
        ) from error


def _contexts(path: str) -> tuple[list[str], str]:
    """Return the names of a kubeconfig's contexts, and of its current one."""
    try:
        found = yaml.safe_load(Path(path).read_text("utf-8"))
        names = [str(each["name"]) for each in found["contexts"]]
        return names, str(found.get("current-context") or "")
    except (*_BAD_FILE, KeyError) as error:
        raise PlanError(
            f"The file {path} is not a kubeconfig: {one_line(error)}.",
            f"kubectl --kubeconfig {path} config get-contexts",
        ) from error
