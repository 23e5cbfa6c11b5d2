"""Fakes of what a run works with: its cluster, and the measurement on it."""

from collections.abc import Callable, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any

from experiment.run_folder import RunFolder
from experiment.terminal.progress import Say, silent
from schema.run_records import Phase, RoofRecord, ZoneAttempt
from schema.stack_outputs import StackOutputs

OUTPUTS = StackOutputs(
    project="",
    location="l",
    cluster_name="c",
    node_count=4,
    machine_type="m",
    kubeconfig="",
    exporter_namespace="",
    exporter_deployment="",
    log_filter="",
    archive_bucket="",
)


class FakeClock:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 0.0
        self.pauses: list[float] = []
        self.on_sleep: Callable[[], None] = lambda: None

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.pauses.append(seconds)
        self.on_sleep()


class _Fake:
    """Notes what is done; a hook is called and an error raised where one is set for it."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.hooks: dict[str, Callable[[], None]] = {}
        self.errors: dict[str, BaseException] = {}

    def _do(self, what: str, name: str = "") -> None:
        self.done.append(name or what)
        if what in self.hooks:
            self.hooks[what]()
        if what in self.errors:
            raise self.errors[what]


class FakeCluster(_Fake):
    """A cluster that comes up and goes down at once (a Cluster)."""

    name = "size-4"
    description = "4 x n1-standard-16"
    machine_type = "n1-standard-16"
    node_count = 4
    disk_gb = 100
    usd_per_hour = 3.34
    usd_per_byte = 0.0
    price_note = "List prices."
    taking_down = "taking the cluster down"
    fresh = True
    zone_attempts: tuple[ZoneAttempt, ...] = ()

    def __init__(self) -> None:
        super().__init__()
        self.say: Say = silent
        self.exists = False
        self.left = False
        """A killed runner left it whole."""
        self.created_at: datetime | None = None

    def recover(self, *, resumed: bool) -> None:
        self.exists = self.left
        self._do("recover")

    def provision(self) -> StackOutputs:
        self.exists = True
        self._do("provision")
        return OUTPUTS

    def teardown(self) -> None:
        self._do("teardown")
        self.exists = False

    def kept(self) -> str:
        return "kept"

    def standing(self) -> str:
        return "Note: it is up." if self.exists else ""


class FakeMeasurement(_Fake):
    """A measurement that logs a line in each of its phases."""

    nodes = ("a", "b", "c", "d")
    versions: Mapping[str, str] = MappingProxyType({})
    warnings: tuple[str, ...] = ()
    roofs: tuple[RoofRecord, ...] = ()

    def __init__(self, folder: RunFolder) -> None:
        super().__init__()
        self._folder = folder

    def connect(self, *_: Any, **__: Any) -> "FakeMeasurement":
        self._do(Phase.PREPARE, "connect")
        return self

    def measure(self, *_: Any) -> None:
        self._do(Phase.MEASURE, "measure")

    def collect(self, _timeout_s: float) -> bool:
        self._do(Phase.COLLECT, "collect")
        return True

    def close(self) -> None:
        self._do("close")
