"""The files of one real node: the configuration of containerd, kubelet and network plugin.

A node sees them below /var/lib/node, whatever its folder is outside (rehearsal.real_nodes.node),
and everything else where a GKE node has it: containerd's socket, images and kubelet's folder. What
is not set here has the default of the program, so events, pulls and garbage collection are limited
as on any node.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from rehearsal.cluster.certificates import Authority, certify_node
from rehearsal.cluster.control_plane import kubeconfig
from rehearsal.cluster.fleet import Mirror

INSIDE = "/var/lib/node"
"""Where a node sees its own files."""

CONTAINERD_SOCKET = "/run/containerd/containerd.sock"

PROGRAMS = ("containerd", "containerd-shim-runc-v2", "ctr", "kubelet")
"""What a node runs of what setup built. A node has them in its PATH's first folder."""

KERNEL_SETTINGS = {
    "kernel/keys/root_maxbytes": "25000000",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "net/ipv4/ip_forward": "1",
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
}
"""What kubelet (pkg/kubelet/cm, setupKernelTunables) and the network plugin write to the kernel.

A node finds these values written already, in files mounted over the kernel's, and so leaves the
machine's settings alone.
"""

EVICTION = {
    "memory.available": "100Mi",
    "nodefs.available": "2Gi",
    "nodefs.inodesFree": "1%",
    "imagefs.available": "2Gi",
    "imagefs.inodesFree": "1%",
}
"""Below which a node reports pressure and evicts pods."""

_KUBELET_MAY_SET = (
    "kubernetes.io/arch",
    "kubernetes.io/hostname",
    "kubernetes.io/os",
    "node.kubernetes.io/instance-type",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
)

_KUBELET_DOMAINS = (".kubelet.kubernetes.io", ".node.kubernetes.io")


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """Properties of one node."""

    name: str
    labels: dict[str, str]
    taints: tuple[tuple[str, str, str], ...]
    """(key, value, effect)."""
    number: int
    """Of this machine's nodes, from 1: gives the pods' network."""
    kubelet_port: int
    control_group: str
    registry: str
    """host:port of the registry that stands for all others, plain http."""
    registry_login: str
    """The Authorization header that it wants."""
    pause_image: str
    server: str
    """URL of the API server."""
    plugins: str
    """Folder of the network plugins."""
    mirrors: tuple[Mirror, ...] = ()
    """Asked before the registry."""
    traces: str = ""
    """URL that containerd sends its spans to; empty for none."""
    init_script: str = ""
    """Run before containerd is started; empty for nothing."""

    @property
    def own_labels(self) -> dict[str, str]:
        """Labels that a kubelet may give itself; it refuses to start with any other."""
        return {key: value for key, value in self.labels.items() if _is_own(key)}


def write_files(spec: NodeSpec, folder: Path, authority: Authority) -> None:
    """Write all files that the node reads into the folder, which it sees as /var/lib/node."""
    user = {"client-certificate": f"{INSIDE}/node.crt", "client-key": f"{INSIDE}/node.key"}
    of: dict[str, list[Mirror]] = {}
    for mirror in spec.mirrors:
        of.setdefault(mirror.registry, []).append(mirror)
    texts = {
        "containerd.toml": _containerd(spec),
        "cni/10-ptp.conflist": json.dumps(_network(spec)),
        "hosts/_default/hosts.toml": _hosts(spec),
        **{f"hosts/{name}/hosts.toml": _hosts(spec, mirrors) for name, mirrors in of.items()},
        "kubelet.yaml": yaml.safe_dump(_kubelet(spec)),
        "kubeconfig": kubeconfig(spec.server, f"{INSIDE}/ca.crt", user),
        "start.sh": _START,
        "init.sh": spec.init_script,
        **{f"kernel/{name}": f"{value}\n" for name, value in KERNEL_SETTINGS.items()},
    }
    for name, text in texts.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    certify_node(authority, spec.name).write(folder, "node")
    (folder / "ca.crt").write_bytes(authority.pem)


def node_environment(spec: NodeSpec) -> dict[str, str]:
    """Return what start.sh reads besides NODE and PROGRAMS."""
    labels = ",".join(f"{key}={value}" for key, value in sorted(spec.own_labels.items()))
    own = {"NODE_NAME": spec.name, "NODE_LABELS": labels, "PAUSE_IMAGE": spec.pause_image}
    return {**own, **_tracing(spec)} if spec.traces else own


def _tracing(spec: NodeSpec) -> dict[str, str]:
    """Return the variables of OpenTelemetry's SDK, as a unit file of containerd on GKE has them."""
    return {
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": spec.traces,
        "OTEL_RESOURCE_ATTRIBUTES": f"host.name={spec.name}",
        "OTEL_BSP_SCHEDULE_DELAY": "500",  # ms until spans are sent: 5 s by default
    }


_START = f"""\
# Runs as the first process of a node's own process and mount namespaces; when it ends, so does all
# that it started. $NODE is the node's folder, $PROGRAMS are paths, with colons between.
set -e
for setting in {" ".join(KERNEL_SETTINGS)}; do
    if [ -e "/proc/sys/$setting" ]; then
        mount --bind "$NODE/lib/node/kernel/$setting" "/proc/sys/$setting"
    fi
done
mkdir "$NODE/lib/node/bin" "$NODE/lib/node/links"
IFS=:
for program in $PROGRAMS; do
    name=${{program##*/}}
    touch "$NODE/lib/node/bin/$name"
    mount --bind "$program" "$NODE/lib/node/bin/$name"
    ln -s "{INSIDE}/bin/$name" "$NODE/lib/node/links/$name"
done
unset IFS
mount --bind "$NODE/log" /var/log
mount --rbind "$NODE/lib" /var/lib  # may hide $NODE, as may the next
mount -t tmpfs -o mode=0755 tmpfs /run
mkdir -p /run/containerd
# Jobs that enter the node find its ctr where every PATH begins, before the machine's own.
mount -t overlay -o lowerdir={INSIDE}/links:/usr/local/sbin overlay /usr/local/sbin
PATH=/usr/local/sbin:$PATH

# GKE runs a node pool's init script when the node starts. Where a node of GKE has its containerd's
# configuration, this machine may have its own.
export CONTAINERD_CONFIG={INSIDE}/containerd.toml
bash {INSIDE}/init.sh >/var/log/node-init.log 2>&1

containerd --config {INSIDE}/containerd.toml >/var/log/containerd.log 2>&1 &

# A node of a cloud comes with this image; without a registry the first pod's pull shows it.
pause() {{
    tries=0
    while ! ctr --address {CONTAINERD_SOCKET} --namespace k8s.io \\
        images pull --plain-http --hosts-dir {INSIDE}/hosts "$PAUSE_IMAGE"
    do
        tries=$((tries + 1))
        [ "$tries" -lt 100 ] || return 1
        sleep 0.1
    done
}}
pause >/var/log/pause.log 2>&1 </dev/null

kubelet --config={INSIDE}/kubelet.yaml --kubeconfig={INSIDE}/kubeconfig \\
    --hostname-override="$NODE_NAME" --node-labels="$NODE_LABELS" --v=2 >/var/log/kubelet.log 2>&1
"""


def _is_own(label: str) -> bool:
    domain = f".{label.rpartition('/')[0]}"
    if label in _KUBELET_MAY_SET or domain.endswith(_KUBELET_DOMAINS):
        return True
    return not domain.endswith((".kubernetes.io", ".k8s.io"))


def _containerd(spec: NodeSpec) -> str:
    # JSON's strings are TOML's basic strings
    pause, plugins = json.dumps(spec.pause_image), json.dumps(spec.plugins)
    return f"""\
version = 3
root = "/var/lib/containerd"
state = "/run/containerd"

[grpc]
  address = "{CONTAINERD_SOCKET}"

[plugins.'io.containerd.internal.v1.opt']
  path = "/var/lib/containerd/opt"

[plugins.'io.containerd.grpc.v1.cri']
  disable_tcp_service = true

[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = {pause}

[plugins.'io.containerd.cri.v1.images'.registry]
  config_path = "{INSIDE}/hosts"

[plugins.'io.containerd.cri.v1.runtime']
  # a machine without CAP_SYS_RESOURCE refuses to lower a process's score
  restrict_oom_score_adj = true
  # it would load a profile into the machine's kernel, and leave it there
  disable_apparmor = true

[plugins.'io.containerd.cri.v1.runtime'.cni]
  bin_dirs = [{plugins}]
  conf_dir = "{INSIDE}/cni"
"""


def _hosts(spec: NodeSpec, mirrors: Sequence[Mirror] = ()) -> str:
    """Replace a registry by this one, after its mirrors, also for images that it does not have."""
    own, login = f"http://{spec.registry}", json.dumps(spec.registry_login)
    hosts = (
        f"""
[host.{json.dumps(each.url)}]
  capabilities = ["pull", "resolve"]
  override_path = {json.dumps(each.root)}
"""
        for each in (*mirrors, Mirror("", own))
    )
    return f"""\
server = "{own}"

[header]
  Authorization = {login}
{"".join(hosts)}
[host."{own}".header]
  Authorization = {login}
"""


def _network(spec: NodeSpec) -> dict[str, Any]:
    ranges = [[{"subnet": f"10.213.{spec.number}.0/24"}]]
    ipam = {"type": "host-local", "dataDir": "/run/cni", "ranges": ranges}
    plugin = {"type": "ptp", "ipMasq": False, "ipam": ipam}
    return {"cniVersion": "0.4.0", "name": "pods", "plugins": [plugin]}


def _kubelet(spec: NodeSpec) -> dict[str, Any]:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": "127.0.0.1",
        "port": spec.kubelet_port,
        "readOnlyPort": 0,
        "healthzPort": 0,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": f"{INSIDE}/ca.crt"},
        },
        "authorization": {"mode": "Webhook"},
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{spec.control_group}",
        "failCgroupV1": False,
        "failSwapOn": False,
        "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
        # shares of a disk that all nodes share would describe none of them
        "evictionHard": EVICTION,
        "imageGCHighThresholdPercent": 100,
        "makeIPTablesUtilChains": False,
        "oomScoreAdj": 0,
        "volumePluginDir": "/var/lib/kubelet/volumeplugins",
        # there is no DNS in the cluster
        "resolvConf": "",
        "clusterDNS": ["10.0.0.10"],
        "clusterDomain": "cluster.local",
        "registerWithTaints": [
            {"key": key, "value": value, "effect": effect} for key, value, effect in spec.taints
        ],
    }
