"""A local Google, a real Pulumi engine and its fake providers, for tests of kills and faults.

Clusters are entries in a list, so an `up` of the whole program takes two seconds.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from experiment.provision.stack_cluster import StackCluster
from experiment.provision.stack_files import copy_stack_files
from experiment.provision.stack_settings import stack_facts
from rehearsal.cluster.fleet import ClusterKey, ControlPlane
from rehearsal.faults.faults import Fault, Faults
from rehearsal.google.environment import PROJECT, debug_providers, google_variables
from rehearsal.google.state import Kind
from rehearsal.machine.home import Home
from rehearsal.machine.programs import write_plugin
from rehearsal.pulumi.providers import google_rest
from rehearsal.pulumi.providers.gcp import GcpProvider
from rehearsal.pulumi.providers.kubernetes import KubernetesProvider
from rehearsal.pulumi.providers.servicer import serve
from tests.live.harness import ROOT, kill
from tests.live.stack.fast_clock import FastClock
from tests.live.stack.kubernetes_list import kubernetes_list
from tests.rehearsal.local_google import LOGIN, Google, ListFleet, serving
from tools.programs import locate

STACK = "size-4"
LONGEST_S = 300.0

UP = """
import sys
from pathlib import Path
from tests.live.stack.fast_clock import FastClock
from experiment.provision.stack_cluster import StackCluster
from experiment.provision.stack_settings import stack_facts
work = Path(sys.argv[1])
say = lambda line: print(line, flush=True)
cluster = StackCluster(sys.argv[2], work, stack_facts(sys.argv[2], work), say, FastClock())
sys.stdin.readline()
if sys.argv[3] == "run":
    cluster.recover(resumed=False)
cluster.teardown() if sys.argv[3] == "destroy" else cluster.provision()
"""


@dataclass
class LightFleet(ListFleet):
    """A list of clusters that share one API server."""

    plane: ControlPlane = field(default_factory=lambda: ControlPlane("127.0.0.1:1", "", "v1.34.1"))

    def create_cluster(self, key: ClusterKey) -> ControlPlane:
        super().create_cluster(key)
        return self.plane


class ReplaceableFaults(Faults):
    """Faults that a test replaces while the local Google runs."""

    def __init__(self) -> None:
        super().__init__()
        self.current = Faults()

    def inject(self, *args: Any, **kwargs: Any) -> Fault | None:
        return self.current.inject(*args, **kwargs)


class Counting:
    """Counts the calls that reach the local Google, and lets something happen at one of them."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self.calls: list[str] = []
        self.at = 0
        """Number of the call at which it happens; 0 for never."""
        self.matching: re.Pattern[str] | None = None
        """Or the method and path of that call; it happens once."""
        self.after = False
        """Once Google has carried the call out, in place of before."""
        self.happen: Callable[[], None] = lambda: None

    def forget(self) -> None:
        """Count from nothing, and let nothing happen."""
        self.calls.clear()
        self.at = 0
        self.matching = None

    def middleware(self) -> Middleware:
        @web.middleware
        async def count(request: web.Request, handler: Handler) -> web.StreamResponse:
            with self._guard:
                call = f"{request.method} {request.path}"
                self.calls.append(call)
                due = len(self.calls) == self.at
                if self.matching and self.matching.fullmatch(call):
                    due, self.matching = True, None
            if due and not self.after:
                await asyncio.to_thread(self.happen)
            answer = await handler(request)
            if due and self.after:
                await asyncio.to_thread(self.happen)
            return answer

        return count


@dataclass
class Rig:
    """Everything that a stack's life needs."""

    google: Google
    calls: Counting
    fleet: LightFleet
    faults: ReplaceableFaults
    folder: Path
    _providers: subprocess.Popen[str] | None = None

    def work_dir(self, name: str = STACK) -> Path:
        """A fresh copy of the stack's files."""
        work = self.folder / f"work-{time.monotonic_ns()}"
        copy_stack_files(name, work)
        return work

    def cluster(self, said: list[str] | None = None) -> StackCluster:
        """The stack's cluster, in this process."""
        work = self.work_dir()
        lines = [] if said is None else said
        return StackCluster(STACK, work, stack_facts(STACK, work), lines.append, FastClock())

    def providers(self) -> subprocess.Popen[str]:
        """Start the fake providers unless they run; return their process."""
        if self._providers is None or self._providers.poll() is not None:
            self.end_providers()
            self._providers = process = subprocess.Popen(
                [sys.executable, "-m", "rehearsal.pulumi.providers"],
                cwd=ROOT,
                stdout=subprocess.PIPE,
                text=True,
            )
            assert process.stdout is not None
            os.environ |= debug_providers(json.loads(process.stdout.readline()))
        return self._providers

    def end_providers(self) -> None:
        """End them, if they run."""
        if self._providers is not None:
            kill(self._providers.pid)
            self._providers.wait(timeout=5)
            assert self._providers.stdout is not None
            self._providers.stdout.close()
            self._providers = None

    @contextmanager
    def retrying_providers(self, retry_s: float) -> Iterator[None]:
        """Stand-ins in this process, which ask again for so long what Google refuses for now."""
        before = google_rest._RETRY_S
        google_rest._RETRY_S = retry_s
        served = [(each.name, *serve(each)) for each in (GcpProvider(), KubernetesProvider())]
        try:
            os.environ |= debug_providers({name: port for name, _, port in served})
            yield
        finally:
            google_rest._RETRY_S = before
            for _, server, _ in served:
                server.stop(grace=None).wait(10)

    def inject(self, *texts: str) -> None:
        """Inject these faults from now on, and no others."""
        self.faults.current = Faults.read(texts)

    def maker(self, action: str) -> subprocess.Popen[str]:
        """A process that is ready to bring the stack up or down once it is written to."""
        return subprocess.Popen(
            [sys.executable, "-c", UP, str(self.work_dir()), STACK, action],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def resources(self) -> list[str]:
        """What of the stack is in Google Cloud, by Google's own lists; the archive is to stay."""
        state = self.google.state
        kinds = (Kind.CLUSTER, Kind.SERVICE_ACCOUNT, Kind.SCHEDULER_JOB)
        found = [
            f"{kind} {body.get('name') or body['body']['name']}"
            for kind in kinds
            for body in state.find(kind)
        ]
        left = (Kind.DISK, Kind.ADDRESS, Kind.FIREWALL)
        found += [f"{kind} {body['name']}" for kind in left for body in state.find(kind)]
        policy = state.get(Kind.POLICY, f"projects/{PROJECT}") or {"bindings": []}
        grants = [f"grant {each['role']}" for each in policy["bindings"] if each["members"]]
        return sorted([*found, *grants])


@contextmanager
def open_rig(folder: Path) -> Iterator[Rig]:
    """Set everything up; nothing of it is left afterwards."""
    faults = ReplaceableFaults()
    home = Home(folder / "home")
    home.programs.mkdir(parents=True)
    write_plugin(home)
    calls = Counting()
    with (
        kubernetes_list(folder) as plane,
        serving(LightFleet(plane=plane), faults, [calls.middleware()]) as google,
    ):
        path = os.pathsep.join(
            [str(home.programs), str(locate("pulumi").path.parent), os.environ["PATH"]]
        )
        variables = google_variables(home, LOGIN, url=google.url, logging="127.0.0.1:1")
        variables["PATH"] = path
        (home.folder / "pulumi-state").mkdir()
        before = dict(os.environ)
        os.environ.update(variables)
        try:
            assert isinstance(google.fleet, LightFleet)
            rig = Rig(google, calls, google.fleet, faults, folder)
            try:
                yield rig
            finally:
                rig.end_providers()
        finally:
            os.environ.clear()
            os.environ.update(before)
