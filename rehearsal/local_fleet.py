"""Clusters on this machine: implements the protocol of rehearsal.cluster.fleet.

The nodes of a pool with the label of measured nodes are real or simulated, by the rehearsal's
options; those of all other pools exist in the API only (kwok), since nothing is measured on them.
Pods of the event exporter and of the Flux Operator on nodes without a kubelet get a process
(rehearsal.cluster.pod_host).
"""

import itertools
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from hashlib import sha256
from pathlib import Path

from rehearsal.cluster import control_plane
from rehearsal.cluster.admin import ClusterAdmin
from rehearsal.cluster.control_plane import LocalControlPlane
from rehearsal.cluster.exporter import exporter
from rehearsal.cluster.fleet import (
    ClusterKey,
    ControlPlane,
    FleetError,
    Mirror,
    PoolSpec,
    WriteLog,
    node_name,
)
from rehearsal.cluster.flux_operator import flux_operator
from rehearsal.cluster.kubernetes import Object
from rehearsal.cluster.native_events import NativeEvents
from rehearsal.cluster.pod_host import PodHost, PodSite
from rehearsal.cluster.relay import Relay
from rehearsal.cluster.tunnel import KubeletTunnel
from rehearsal.faults.cluster import ClusterFaults, FaultSite
from rehearsal.faults.faults import NO_FAULTS, Faults
from rehearsal.machine import cgroups, processes, requirements, tokens
from rehearsal.machine.home import Home
from rehearsal.machine.options import Options
from rehearsal.real_nodes import node as real_node
from rehearsal.real_nodes import spans
from rehearsal.real_nodes.node import RealNode
from rehearsal.real_nodes.registry import LocalRegistry, authorization
from rehearsal.simulated_nodes import node as simulated_node
from rehearsal.simulated_nodes.clock import warnings
from schema.names import MEASURED_LABEL

_READY_S = 90.0
_REQUESTS_AT_ONCE = 16
"""Of a cluster's or pool's name within a node's name, so that this fits a label (63)."""


@dataclass(slots=True)
class _Pool:
    spec: PoolSpec
    nodes: dict[str, RealNode | None] = field(default_factory=dict)
    """By name, in the order of their start; None for a node without a kubelet."""

    @property
    def is_measured(self) -> bool:
        return self.spec.labels.get(MEASURED_LABEL) == "true"


@dataclass(slots=True)
class _Cluster:
    key: ClusterKey
    plane: LocalControlPlane
    admin: ClusterAdmin
    hosted: PodHost
    faults: ClusterFaults
    events: NativeEvents
    relay: Relay
    """Before the API server, for all that reach it by the cluster's endpoint."""
    kubelets: simulated_node.KubeletsProcess | None = None
    """Acts for the kubelets of simulated nodes, once there are such."""
    pools: dict[str, _Pool] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        return self.plane.folder

    @property
    def public(self) -> ControlPlane:
        """What the GKE API reports."""
        return replace(self.faults.public, endpoint=self.relay.address)

    def expect_exit(self) -> None:
        """Mark exits of processes from now on as intended."""
        if self.kubelets:
            self.kubelets.ending.set()


class LocalFleet:
    """Runs clusters on this machine (a rehearsal.cluster.fleet.Fleet)."""

    def __init__(
        self,
        home: Home,
        *,
        images: LocalRegistry | None,
        mirror: str,
        write_log: WriteLog,
        write_event: Callable[[ClusterKey, Object | None], None] = lambda _key, _event: None,
        options: Options,
        faults: Faults = NO_FAULTS,
        say: Callable[[str], None] = lambda _: None,
        through_google: Callable[[ClusterKey], list[str]] = lambda _key: [],
    ) -> None:
        self._through_google = through_google
        self._home = home
        self._faults = faults
        self._images = images
        self._mirror = mirror
        self._write_log = write_log
        self._write_event = write_event
        self._options = options
        self._say = say
        self._tunnel = KubeletTunnel()
        self._clusters: dict[ClusterKey, _Cluster] = {}
        self._locks: dict[ClusterKey, threading.Lock] = {}
        self._guard = threading.Lock()
        self._ending = threading.Event()

    def create_cluster(self, key: ClusterKey) -> ControlPlane:
        with self._locked(key):
            if key in self._clusters:
                return self._clusters[key].public
            self._refuse_if_ending()
            folder = self._home.clusters / _folder_name(key)
            try:
                plane = control_plane.start(
                    folder,
                    reviewer=f"http://{self._mirror}{tokens.PATH}",
                    rate_limits=self._options.rate_limits,
                    tunnel=self._tunnel.name,
                )
            except BaseException:
                _remove(folder)
                raise
            admin = ClusterAdmin(plane)
            write_event = partial(self._write_event, key)
            site = FaultSite(self._home, plane, admin, self._write_log, write_event, self._say)
            faults = ClusterFaults(self._faults, site)
            programs = (exporter(faults.exporter_configuration), flux_operator())
            hosted = PodHost(PodSite(key, plane, admin, faults.write_log, self._say, programs))
            events = NativeEvents(admin, faults.write_event)
            relay = Relay(faults.public.endpoint)
            cluster = _Cluster(key, plane, admin, hosted, faults, events, relay)
            self._clusters[key] = cluster
            hosted.start()
            events.start()
            faults.start(hosted)
            self._say(f"cluster {key.name}: control plane {plane.version} ready")
            return cluster.public

    def delete_cluster(self, key: ClusterKey) -> None:
        """Stop nodes and control plane; nothing of them is left. Idempotent."""
        with self._locked(key):
            cluster = self._clusters.pop(key, None)
            if cluster is None:
                return
            cluster.relay.stop()
            cluster.faults.stop()
            cluster.hosted.stop()
            cluster.events.stop()
            nodes = [node for pool in cluster.pools.values() for node in pool.nodes.values()]
            cluster.expect_exit()
            processes.stop(cluster.folder)
            for node in nodes:
                if node:
                    node.stop()
            cluster.admin.close()
            _remove(cluster.folder)
            self._say(f"cluster {key.name}: stopped")
            for line in warnings(self._home.folder):
                self._say(f"WARNING: {line}")

    def create_pool(self, key: ClusterKey, pool: PoolSpec) -> None:
        with self._locked(key):
            cluster = self._cluster(key)
            if pool.name in cluster.pools:
                raise FleetError(f"The cluster {key.name} has a node pool {pool.name} already.")
            cluster.pools[pool.name] = _Pool(pool)
            try:
                self._grow(cluster, cluster.pools[pool.name], pool.node_count)
            except BaseException:
                self._shrink(cluster, cluster.pools.pop(pool.name), 0)
                raise

    def resize_pool(self, key: ClusterKey, pool: str, node_count: int) -> None:
        with self._locked(key):
            cluster = self._cluster(key)
            found = cluster.pools.get(pool)
            if found is None:
                raise FleetError(f"The cluster {key.name} has no node pool {pool}.")
            before = len(found.nodes)
            try:
                self._grow(cluster, found, node_count)
            except BaseException:
                self._shrink(cluster, found, before)
                raise
            self._shrink(cluster, found, node_count)

    def delete_pool(self, key: ClusterKey, pool: str) -> None:
        with self._locked(key):
            cluster = self._clusters.get(key)
            found = cluster.pools.pop(pool, None) if cluster else None
            if cluster and found:
                self._shrink(cluster, found, 0)

    def resize_control_plane(self, key: ClusterKey, seconds: float, *, reachable: bool) -> None:
        relay = self._cluster(key).relay
        self._say(f"cluster {key.name}: the control plane is made larger, {seconds:g} s")
        with nullcontext() if reachable else relay.refusing():
            self._ending.wait(seconds)

    def close(self) -> None:
        """Stop every cluster. Idempotent. Operations in progress fail at once, later ones too."""
        self._ending.set()
        for cluster in list(self._clusters.values()):
            cluster.expect_exit()
        processes.stop(self._home.clusters)
        with ThreadPoolExecutor(4) as threads:
            list(threads.map(self.delete_cluster, list(self._clusters)))
        cgroups.remove(self._home.control_group)
        self._tunnel.close()

    def _cluster(self, key: ClusterKey) -> _Cluster:
        found = self._clusters.get(key)
        if found is None:
            raise FleetError(f"There is no cluster {key.name} in {key.location}.")
        return found

    def _locked(self, key: ClusterKey) -> threading.Lock:
        with self._guard:
            return self._locks.setdefault(key, threading.Lock())

    def _grow(self, cluster: _Cluster, pool: _Pool, node_count: int) -> None:
        names = _node_names(cluster.key, pool, node_count - len(pool.nodes))
        if not names:
            return
        if pool.is_measured and self._images:
            self._start_real(cluster, pool, names, self._images)
        else:
            self._add_virtual(cluster, pool, names)
        cluster.admin.wait_until_ready(
            set(names), timeout_s=_READY_S, check=lambda: self._check(cluster, pool, names)
        )
        for name in names:
            node = pool.nodes[name]
            if node and pool.spec.labels.keys() - node.spec.own_labels.keys():
                cluster.admin.label_node(name, pool.spec.labels)
        self._say(f"cluster {cluster.key.name}: {len(names)} nodes of {pool.spec.name} ready")

    def _add_virtual(self, cluster: _Cluster, pool: _Pool, names: list[str]) -> None:
        """Add nodes that kwok keeps, with simulated kubelets if they are measured."""
        if pool.is_measured:
            if obstacle := requirements.too_many("simulated", len(names)):
                raise FleetError(obstacle.problem)
            cluster.kubelets = cluster.kubelets or simulated_node.start_kubelets(
                cluster.plane,
                mirror=self._mirror,
                options=self._options,
                home=self._home.folder,
                on_exit=partial(self._lose_simulated, cluster),
            )
        node = partial(simulated_node.node_object, pool=pool.spec)
        with ThreadPoolExecutor(_REQUESTS_AT_ONCE) as threads:
            list(threads.map(cluster.admin.add_node, map(node, names)))
            pool.nodes.update(dict.fromkeys(names))
            cluster.admin.lift_not_ready(
                set(names),
                threads,
                timeout_s=_READY_S,
                check=lambda: self._check(cluster, pool, names),
            )

    def _lose_simulated(self, cluster: _Cluster, reason: str) -> None:
        """Remove nodes whose kubelets are dead, so that a run need not wait for its timeouts."""
        self._say(f"cluster {cluster.key.name}: the simulated kubelets' process exited: {reason}")
        lost = [
            name
            for pool in list(cluster.pools.values())
            if pool.is_measured
            for name in list(pool.nodes)
        ]
        with suppress(FleetError), ThreadPoolExecutor(_REQUESTS_AT_ONCE) as threads:
            list(threads.map(cluster.admin.remove_node, lost))

    def _start_real(
        self,
        cluster: _Cluster,
        pool: _Pool,
        names: list[str],
        images: LocalRegistry,
    ) -> None:
        if found := requirements.obstacles(self._home.folder):
            raise FleetError(" ".join(f"{each.problem}" for each in found))
        start = partial(
            real_node.start,
            plane=cluster.plane,
            labels=pool.spec.labels,
            taints=pool.spec.taints,
            mirrors=(
                *pool.spec.mirrors,
                # Remote repositories are Google's, not the registry's that stands for all others.
                *(
                    Mirror(name, f"http://{self._mirror}")
                    for name in self._through_google(cluster.key)
                ),
            ),
            init_script=pool.spec.init_script,
            traces=f"http://{self._mirror}{spans.PATH}",
            registry_login=authorization(images.password),
            pause_image=images.pause_image,
            control_group=self._home.control_group,
        )
        with real_node.take_numbers(len(names)) as numbers:
            for name in names:
                folder = cluster.folder / "nodes" / name
                registry = cluster.faults.registry(name, images.address)
                pool.nodes[name] = start(name, folder, number=numbers.pop(), registry=registry)

    def _shrink(self, cluster: _Cluster, pool: _Pool, node_count: int) -> None:
        names = list(pool.nodes)[node_count:]
        with ExitStack() as stops:  # one that fails does not keep the others up
            for node in [pool.nodes.pop(name) for name in names]:
                if node:
                    stops.callback(node.stop)
        with ThreadPoolExecutor(_REQUESTS_AT_ONCE) as threads:
            list(threads.map(cluster.admin.remove_node, names))

    def _check(self, cluster: _Cluster, pool: _Pool, names: list[str]) -> None:
        self._refuse_if_ending()
        if cluster.kubelets:
            cluster.kubelets.check()
        for name in names:
            node = pool.nodes[name]
            if node:
                node.check()

    def _refuse_if_ending(self) -> None:
        if self._ending.is_set():
            raise FleetError("The rehearsal is ending.")


def _node_names(key: ClusterKey, pool: _Pool, count: int) -> list[str]:
    """Return the next free names, in GKE's form."""
    name, spec = key.name, pool.spec
    taken = set(pool.nodes)
    names = (node_name(name, spec.name, number) for number in itertools.count(1))
    free = (each for each in names if each not in taken)
    return list(itertools.islice(free, max(count, 0)))


def _folder_name(key: ClusterKey) -> str:
    full = f"{key.project}/{key.location}/{key.name}"
    return f"{key.name}-{sha256(full.encode()).hexdigest()[:6]}"


def _remove(folder: Path) -> None:
    processes.stop(folder)
    shutil.rmtree(folder, ignore_errors=True)
