"""Pods and nodes in the API's JSON form, as far as a simulated kubelet needs them."""

import msgspec


class Meta(msgspec.Struct, rename="camel"):
    name: str
    uid: str = ""
    namespace: str = ""
    resource_version: str = ""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    deletion_timestamp: str | None = None


class Container(msgspec.Struct, rename="camel"):
    name: str
    image: str
    command: list[str] = []


class PodSpec(msgspec.Struct, rename="camel"):
    containers: list[Container]
    init_containers: list[Container] = []
    node_name: str = ""
    active_deadline_seconds: int | None = None


class Phase(msgspec.Struct):
    phase: str = ""


class Pod(msgspec.Struct):
    metadata: Meta
    spec: PodSpec
    status: Phase


class Condition(msgspec.Struct):
    type: str
    status: str


class Endpoint(msgspec.Struct, frozen=True):
    """Where a kubelet answers."""

    port: int = msgspec.field(default=0, name="Port")


class Endpoints(msgspec.Struct, rename="camel", frozen=True):
    kubelet_endpoint: Endpoint = Endpoint()


class NodeStatus(msgspec.Struct, rename="camel"):
    capacity: dict[str, str] = {}
    conditions: list[Condition] = []
    daemon_endpoints: Endpoints = Endpoints()


class Node(msgspec.Struct):
    metadata: Meta
    status: NodeStatus
