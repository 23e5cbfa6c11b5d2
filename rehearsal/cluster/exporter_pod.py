"""Reads off a pod what running its event exporter as a plain process takes. Pure."""

import re
from pathlib import Path
from typing import Any

from rehearsal.cluster.admin import Object

IMAGE_NAME = "kubernetes-event-exporter"
"""Part of the image's name by which the exporter's containers are told."""


def exporter_container(pod: Object) -> Object | None:
    """The exporter's container of a pod that is bound and not about to go."""
    if "deletionTimestamp" in pod["metadata"] or not pod["spec"].get("nodeName"):
        return None
    containers: list[Object] = pod["spec"]["containers"]
    return next((each for each in containers if IMAGE_NAME in each["image"]), None)


def program_arguments(container: Object) -> list[str]:
    """What stands after the program's name."""
    return [str(each) for each in (*container.get("command", ())[1:], *container.get("args", ()))]


def lead_into(mounts: dict[str, Path], argument: str) -> str:
    """An argument such as `-conf=/data/config.yaml`, its path led into a volume's folder."""
    match = re.fullmatch(r"(?P<option>-{1,2}[\w-]+=)?(?P<path>/.*)", argument)
    if match is None:
        return argument
    path = Path(match["path"])
    for mount in sorted(mounts, key=len, reverse=True):
        if path.is_relative_to(mount):
            return f"{match['option'] or ''}{mounts[mount] / path.relative_to(mount)}"
    return argument


def variables(container: Object, pod: Object) -> dict[str, str]:
    """The container's variables, with values as such and from the pod's own fields."""
    found = {"PATH": "/usr/bin:/bin"}
    for variable in container.get("env", ()):
        field = variable.get("valueFrom", {}).get("fieldRef", {}).get("fieldPath")
        value: Any = variable.get("value", "")
        if field:
            value = pod
            for step in field.split("."):
                value = value.get(step, "") if isinstance(value, dict) else ""
        found[variable["name"]] = str(value)
    return found
