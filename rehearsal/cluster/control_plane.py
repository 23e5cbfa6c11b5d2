"""A real Kubernetes control plane on this machine: etcd, API server, controller manager, scheduler.

kwokctl starts them; the versions are those of tools/. Everything listens on loopback alone, where
any user of the machine can connect: etcd and the API server accept clients with a certificate (the
API server also with a token) and no one else, and the others open no port. RBAC is on, so a service
account has the rights that were declared for it and no others, and client-side rate limits are
Kubernetes' own unless switched off, since they are part of what a pull study measures.
kwok-controller keeps nodes with the annotation `kwok.x-k8s.io/node=fake` Ready and their pods
Running, those of Jobs apart; it leaves real nodes alone. Nodes are not created here.
"""

import os
import ssl
import subprocess
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

import yaml

from rehearsal.cluster.certificates import (
    Authority,
    certify_administrator,
    certify_etcd,
    make_authority,
)
from rehearsal.cluster.fleet import ControlPlane, FleetError
from rehearsal.cluster.kubernetes import administrator
from rehearsal.machine import processes
from tools.programs import PROGRAMS, MissingProgram, locate

VIRTUAL_NODE = ("kwok.x-k8s.io/node", "fake")
"""Annotation of the nodes that kwok-controller manages."""

JOB_LABEL = "batch.kubernetes.io/job-name"
"""Label of the pods of Jobs, which kwok-controller leaves alone on every node."""

_COMPONENTS = (
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kwok-controller",
)
_NAME = "local"
_READY = "ready"
_START_S = 60.0


@dataclass(frozen=True, slots=True)
class LocalControlPlane:
    """A running control plane."""

    folder: Path
    port: int
    version: str
    """For example v1.34.1."""
    signer: Authority
    """The cluster's authority."""

    @property
    def public(self) -> ControlPlane:
        """What the GKE API reports."""
        return ControlPlane(
            endpoint=f"127.0.0.1:{self.port}",
            ca_pem=self.signer.pem.decode("ascii"),
            version=self.version.removeprefix("v"),
        )

    @property
    def kubeconfig(self) -> Path:
        """Of the administrator."""
        return self.folder / "admin.kubeconfig"

    @property
    def pki(self) -> Path:
        """Folder of ca.crt, ca.key, admin.crt and admin.key."""
        return _pki(self.folder)

    @property
    def authority(self) -> Path:
        return self.pki / "ca.crt"

    @property
    def admin_certificate(self) -> Path:
        return self.pki / "admin.crt"

    @property
    def admin_key(self) -> Path:
        return self.pki / "admin.key"

    @property
    def tls(self) -> ssl.SSLContext:
        """Settings of a client with the administrator's certificate."""
        return administrator(self.authority, self.admin_certificate, self.admin_key)


def start(
    folder: Path, *, reviewer: str, rate_limits: bool = True, tunnel: str = ""
) -> LocalControlPlane:
    """Start a control plane whose files and processes belong to the folder.

    `reviewer` is the URL that answers whether a token is valid (rehearsal.machine.tokens); `tunnel`
    the socket through which kubelets are reached, empty where they need not be. Raises FleetError
    with the end of the failed part's log.
    """
    folder.mkdir(parents=True, exist_ok=True)
    arguments = _reviewed(folder, reviewer) | (_tunnelled(folder, tunnel) if tunnel else {})
    try:
        configuration, port = _configuration(folder, rate_limits, arguments)
    except MissingProgram as missing:
        raise FleetError(str(missing)) from missing
    config_file = folder / "kwokctl.yaml"
    config_file.write_text(yaml.safe_dump(configuration), encoding="utf-8")
    log = folder / "kwokctl.log"
    plane = LocalControlPlane(folder, port, _version(), _make_certificates(folder))
    command: list[str | Path] = [locate("kwokctl").path, "create", "cluster", "--name", _NAME]
    command += ["--config", config_file, "--kubeconfig", plane.kubeconfig]
    environment = {**os.environ, "KWOK_WORKDIR": str(folder / "kwok")}
    process = processes.start(command, folder, log=log, environment=environment)
    try:
        code = process.wait(_START_S)
    except subprocess.TimeoutExpired:
        code = -1
    if code != 0:
        raise FleetError(f"The control plane in {folder} did not start: {_log_tail(folder, log)}.")
    _wait_until_ready(plane)
    return plane


def pid_of(plane: LocalControlPlane, component: str) -> int:
    """Return the process id of a component, such as kube-scheduler; raise FleetError."""
    path = _workdir(plane.folder) / "pids" / f"{component}.pid"
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError) as error:
        known = ", ".join(_COMPONENTS)
        raise FleetError(f"The control plane has no part {component}; it has {known}.") from error


def _reviewed(folder: Path, reviewer: str) -> dict[str, str]:
    """Return arguments of an API server that has tokens reviewed."""
    path = folder / "token-review.kubeconfig"
    path.write_text(kubeconfig(reviewer, "", {}), encoding="utf-8")
    return {
        "authentication-token-webhook-config-file": str(path),
        "authentication-token-webhook-version": "v1",
        "authentication-token-webhook-cache-ttl": "1s",  # beside its own cache, 10 s
    }


def _tunnelled(folder: Path, tunnel: str) -> dict[str, str]:
    """Return arguments of an API server that reaches nodes through a tunnel."""
    transport = {"uds": {"udsName": tunnel}}
    selection = {
        "name": "cluster",
        "connection": {"proxyProtocol": "HTTPConnect", "transport": transport},
    }
    path = folder / "egress.yaml"
    document = {
        "apiVersion": "apiserver.k8s.io/v1beta1",
        "kind": "EgressSelectorConfiguration",
        "egressSelections": [selection],
    }
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return {
        "egress-selector-config-file": str(path),
        # nodes' names are known to no resolver
        "kubelet-preferred-address-types": "InternalIP",
        "kubelet-client-certificate": str(_pki(folder) / "admin.crt"),
        "kubelet-client-key": str(_pki(folder) / "admin.key"),
    }


def _make_certificates(folder: Path) -> Authority:
    """Write them where kwokctl looks, which would create its own slower, with an invalid serial."""
    pki = _pki(folder)
    pki.mkdir(parents=True)
    authority = make_authority()
    authority.write(pki, "ca")
    certify_administrator(authority).write(pki, "admin")
    etcd = make_authority()
    (pki / "etcd-ca.crt").write_bytes(etcd.pem)  # its key is not needed again
    certify_etcd(etcd).write(pki, "etcd")
    return authority


def _version() -> str:
    return f"v{PROGRAMS['kube-apiserver'].version}"


def _workdir(folder: Path) -> Path:
    return folder / "kwok" / "clusters" / _NAME


def _pki(folder: Path) -> Path:
    return _workdir(folder) / "pki"


def _configuration(
    folder: Path, rate_limits: bool, server: Mapping[str, str]
) -> tuple[dict[str, Any], int]:
    """Return the KwokctlConfiguration with more arguments of the API server, and its port."""
    port, etcd, peer, manager, scheduler, kwok = processes.free_ports(6)
    key, value = VIRTUAL_NODE
    binaries = {
        "etcdBinary": "etcd",
        "kubeApiserverBinary": "kube-apiserver",
        "kubeControllerManagerBinary": "kube-controller-manager",
        "kubeSchedulerBinary": "kube-scheduler",
        "kwokControllerBinary": "kwok",
    }
    options = {
        "runtime": "binary",
        "bindAddress": "127.0.0.1",
        "kubeVersion": _version(),
        "kubeApiserverPort": port,
        "etcdPort": etcd,
        "etcdPeerPort": peer,
        "kubeControllerManagerPort": manager,
        "kubeSchedulerPort": scheduler,
        "kwokControllerPort": kwok,
        "disableQPSLimits": not rate_limits,
        # kwokctl's default, 5, multiplies Kubernetes' own timings of leases and of lost nodes
        "heartbeatFactor": 1,
        **{option: str(locate(name).path) for option, name in binaries.items()},
    }
    arguments = {
        # a rehearsal need not survive a power cut
        "etcd": {"unsafe-no-fsync": "true", **_etcd_security(folder)},
        "kube-apiserver": {
            "anonymous-auth": "false",
            "profiling": "false",
            "etcd-cafile": str(_pki(folder) / "etcd-ca.crt"),
            "etcd-certfile": str(_pki(folder) / "etcd.crt"),
            "etcd-keyfile": str(_pki(folder) / "etcd.key"),
            **server,
        },
        # its default folder, which it creates, is in /usr
        "kube-controller-manager": {"flex-volume-plugin-dir": str(folder / "flex")},
        # as arguments, since kwok exits silently with a KwokConfiguration in this file
        "kwok-controller": {
            "manage-all-nodes": "false",
            "manage-nodes-with-annotation-selector": f"{key}={value}",
            # a kubelet's, or that of rehearsal.simulated_nodes.process
            "disregard-status-with-label-selector": JOB_LABEL,
        },
    }
    client, peers = f"https://127.0.0.1:{etcd}", f"https://127.0.0.1:{peer}"
    # what kwokctl has set already, to serve plain HTTP
    replaced = {
        "etcd": {
            "listen-client-urls": client,
            "advertise-client-urls": client,
            "listen-peer-urls": peers,
            "initial-advertise-peer-urls": peers,
            "initial-cluster": f"node0={peers}",
        },
        "kube-apiserver": {"etcd-servers": client},
        "kube-controller-manager": {"secure-port": "0"},
        "kube-scheduler": {"secure-port": "0"},
        "kwok-controller": {"server-address": "", "node-port": "0"},
    }
    patches = [
        {
            "name": name,
            "extraArgs": [
                *({"key": k, "value": v} for k, v in arguments.get(name, {}).items()),
                *({"key": k, "value": v, "override": True} for k, v in changed.items()),
            ],
        }
        for name, changed in replaced.items()
    ]
    document = {
        "apiVersion": "config.kwok.x-k8s.io/v1alpha1",
        "kind": "KwokctlConfiguration",
        "options": options,
        "componentsPatches": patches,
    }
    return document, port


def _etcd_security(folder: Path) -> dict[str, str]:
    """Return arguments of an etcd that accepts its own certificate alone, as client and as peer."""
    files = {"cert-file": "etcd.crt", "key-file": "etcd.key", "trusted-ca-file": "etcd-ca.crt"}
    paths = {name: str(_pki(folder) / file) for name, file in files.items()}
    return {
        "client-cert-auth": "true",
        "peer-client-cert-auth": "true",
        **paths,
        **{f"peer-{name}": path for name, path in paths.items()},
        "enable-grpc-gateway": "false",
    }


def kubeconfig(server: str, authority: str, user: dict[str, str]) -> str:
    """Return a kubeconfig of one cluster and one user, with paths of the credentials."""
    cluster = {"server": server, "certificate-authority": authority}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "cluster", "cluster": cluster}],
        "users": [{"name": "user", "user": user}],
        "contexts": [{"name": "user", "context": {"cluster": "cluster", "user": "user"}}],
        "current-context": "user",
    }
    return yaml.safe_dump(document)


def _wait_until_ready(plane: LocalControlPlane) -> None:
    found = processes.poll(lambda: _READY if _is_ready(plane) else _dead(plane.folder), _START_S)
    if found == _READY:
        return
    log = processes.log_tail(_log_of(plane.folder, found or "kube-apiserver"))
    cause = f"since {found} ended" if found else f"within {_START_S:.0f} s"
    raise FleetError(f"The control plane in {plane.folder} did not start, {cause}: {log}.")


def _is_ready(plane: LocalControlPlane) -> bool:
    url = f"https://127.0.0.1:{plane.port}/readyz"
    try:
        with urllib.request.urlopen(url, context=plane.tls, timeout=5) as answer:
            return bool(answer.status == HTTPStatus.OK)
    except (urllib.error.URLError, OSError):
        return False


def _dead(folder: Path) -> str | None:
    """Return the first component that has ended."""
    alive = set(processes.running(folder))
    for name in _COMPONENTS:
        pid_file = _workdir(folder) / "pids" / f"{name}.pid"
        if not pid_file.exists() or int(pid_file.read_text(encoding="ascii")) not in alive:
            return name
    return None


def _log_tail(folder: Path, log: Path) -> str:
    dead = _dead(folder) if _workdir(folder).is_dir() else None
    path = _log_of(folder, dead) if dead and _log_of(folder, dead).exists() else log
    return f"{os.path.basename(path)} ends with: {processes.log_tail(path)}"  # noqa: PTH119


def _log_of(folder: Path, name: str) -> Path:
    return _workdir(folder) / "logs" / f"{name}.log"
