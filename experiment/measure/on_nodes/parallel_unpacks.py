"""Whether the measured nodes unpack layers in parallel, as their stack declares.

The stack's init script configures containerd and leaves a file
(infra/components/parallel_unpacks.sh). A containerd before 2.2 ignores the setting, so such nodes
would be measured under a wrong name.
"""

import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from experiment.errors import ProvisionError, RunError
from experiment.kube import Kube, Obj
from schema.names import UNPACKS_LABEL

MARKER = "pull-study/parallel-unpacks"
"""What the script leaves in a node's /var/log: the number of layers."""
_LEAST = (2, 2)
"""Of containerd: the first with max_concurrent_unpacks in its transfer service (its pull 12332)."""
_AT_ONCE = 16
_RUNTIME = re.compile(r"containerd://v?(\d+)\.(\d+)")


def check_unpacks(kube: Kube, nodes: Sequence[Obj], unpacks: int) -> str:
    """Check that nodes unpack this many layers at once; return a warning, empty if it is proved.

    Each node gets a label with the number.

    Args:
        kube: of the cluster.
        nodes: the measured ones, core/v1 Nodes, which are changed.
        unpacks: layers of an image that the stack declares; 0 for containerd's own choice.

    Raises:
        ProvisionError: a node has a containerd that cannot, or was configured for another number.
    """
    if not unpacks:
        return ""
    runtimes = {
        str(node["metadata"]["name"]): str(node["status"]["nodeInfo"]["containerRuntimeVersion"])
        for node in nodes
    }
    old = {name: runtime for name, runtime in runtimes.items() if not _can(runtime)}
    if old:
        name, runtime = min(old.items())
        raise ProvisionError(
            f"{len(old)} of {len(runtimes)} measured nodes cannot unpack {unpacks} layers at once, "
            f"which needs containerd {'.'.join(map(str, _LEAST))}: {name} has {runtime}.",
            "set kubernetesVersion or releaseChannel of the stack to a version whose nodes have "
            "it, or remove parallelUnpacks",
        )
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        texts = threads.map(lambda name: _marker(kube, name), runtimes)
        found = dict(zip(runtimes, texts, strict=True))
    other = {name: text for name, text in found.items() if text not in {"", str(unpacks)}}
    if other:
        name, text = min(other.items())
        raise ProvisionError(
            f"The init script of {name} made its containerd unpack {text} layers at once, and the "
            f"stack declares {unpacks}.",
            "pull-study destroy --stack STACK, so that the next run has new nodes",
        )
    for node in nodes:
        node["metadata"].setdefault("labels", {})[UNPACKS_LABEL] = str(unpacks)
    silent = sorted(name for name, text in found.items() if not text)
    if not silent:
        return ""
    return (
        f"{len(silent)} of {len(runtimes)} measured nodes do not show that their init script ran "
        f"(/var/log/{MARKER}), such as {silent[0]}: that they unpack {unpacks} layers at once is "
        "declared, and not proved."
    )


def _can(runtime: str) -> bool:
    match = _RUNTIME.match(runtime)
    return match is not None and (int(match[1]), int(match[2])) >= _LEAST


def _marker(kube: Kube, node: str) -> str:
    """Return what the script left on a node; empty if the kubelet does not show it."""
    try:
        return kube.node_log(node, MARKER).strip()
    except RunError:
        return ""
