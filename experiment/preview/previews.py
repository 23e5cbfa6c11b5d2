"""What every stack would become: the engine's previews, compared with a base and judged.

Asks no cloud and needs no credential: the engine keeps its state in a folder of this preview alone,
and the gcp provider, which wants a token to start, gets one that is none. The base of a comparison
is another revision of this repository, brought into that state (experiment.preview.engine), so that
the engine's own difference is the answer. It deliberately knows nothing of clusters that exist:
`pulumi preview` compares with those.
"""

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from experiment.errors import GuardError, PreflightError
from experiment.preview.base_revision import unpack
from experiment.provision.stack_files import PROJECT_DIR, require_stack
from experiment.terminal.progress import Say
from infra.policy import Limits, Planned, load_limits, violations
from schema.names import PROJECT_VARIABLE

_ENGINE = Path(__file__).with_name("engine.py")
_LONGEST_ANSWER_S = 300.0
_CLUSTER = "gcp:container/cluster:Cluster"
_POOL = "gcp:container/nodePool:NodePool"
_UNCHANGED = "same"

Answer = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Change:
    """What would happen to one resource.

    Attributes:
        step: create, update, replace or delete.
        type: Pulumi's type token.
        name: its name in the program.
        properties: which of its properties differ, by path; empty for create and delete.
    """

    step: str
    type: str
    name: str
    properties: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class StackPreview:
    """What one stack would become.

    Attributes:
        stack: its name.
        problem: why it cannot be previewed; empty if it can, and only then the rest says anything.
        changes: of its resources in Google Cloud and in the cluster.
        unchanged: how many resources stay as they are.
        nodes: by pool.
        machine_type: of the measured nodes.
        usd_per_hour: list price of the cluster.
        usd_per_hour_before: the base's; None where there is none to compare with.
        warnings: what a reviewer should know, a sentence each.
        broken: the guards that it breaks, a sentence each.
    """

    stack: str
    problem: str = ""
    changes: tuple[Change, ...] = ()
    unchanged: int = 0
    nodes: Mapping[str, int] = field(default_factory=dict)
    machine_type: str = ""
    usd_per_hour: float = 0.0
    usd_per_hour_before: float | None = None
    warnings: tuple[str, ...] = ()
    broken: tuple[str, ...] = ()

    def count(self, step: str) -> int:
        """How many resources would take this step."""
        return sum(change.step == step for change in self.changes)


def preview_stacks(
    stacks: Sequence[str], against: str, say: Say, *, root: Path = PROJECT_DIR
) -> list[StackPreview]:
    """Preview stacks, each against its base.

    Args:
        stacks: names; each must have a file.
        against: git revision to compare with; empty compares with nothing, as if all were new.
        say: told what is under way, a line each.
        root: holds the program and its stack files.

    Raises:
        PlanError: a stack or the revision does not exist.
        PreflightError: the engine cannot be used here.
    """
    for stack in stacks:
        require_stack(stack, root)
    if shutil.which("pulumi") is None:
        raise PreflightError(
            "The Pulumi CLI is not on PATH, and it is its engine that previews.",
            "install it from https://www.pulumi.com/docs/install/, or without it: make preview",
        )
    limits = load_limits(root / "infra" / "limits.yaml")
    with ExitStack() as closing:
        scratch = Path(closing.enter_context(TemporaryDirectory(prefix="pull-study-preview-")))
        variables = _variables(scratch)
        # Closed last: its thread ends when the engine that it waits for is gone.
        pool = closing.enter_context(ThreadPoolExecutor(1))
        before: Mapping[str, Future[Answer]] = {}
        if against:
            base = unpack(against, root, scratch / "base")
            earlier_engine = closing.enter_context(_engine(base, variables))
            before = _settled(earlier_engine, base, stacks, pool)
        engine = closing.enter_context(_engine(root, variables))
        if engine.problem:
            raise PreflightError(f"The stacks cannot be previewed: {engine.problem}.")
        previews: list[StackPreview] = []
        for stack in stacks:
            say(f"{stack} ({len(previews) + 1} of {len(stacks)})")
            earlier = before[stack].result() if stack in before else None
            answer = engine.ask({"stack": stack, "settle": False})
            previews.append(_judged(stack, answer, earlier, limits))
        return previews


def require_sound(previews: Sequence[StackPreview]) -> None:
    """Refuse what must not be merged.

    Raises:
        PreflightError: a stack cannot be previewed.
        GuardError: a stack would break a guard.
    """
    problems = [each.stack for each in previews if each.problem]
    if problems:
        raise PreflightError(
            f"{len(problems)} of {len(previews)} stacks cannot be previewed: "
            f"{', '.join(problems)}.",
            "what stands under the table; without Google or an official Pulumi: make preview",
        )
    broken = [each.stack for each in previews if each.broken]
    if broken:
        raise GuardError(
            f"{len(broken)} of {len(previews)} stacks would break a guard: {', '.join(broken)}.",
            "change the stack, or have somebody review a higher limit in infra/limits.yaml",
        )


class _Engine:
    """A process of experiment.preview.engine."""

    def __init__(self, process: "subprocess.Popen[str]", complaints: Path) -> None:
        self._process = process
        self._complaints = complaints

    @cached_property
    def problem(self) -> str:
        """Why its program cannot be previewed, empty if it can; waits until it is loaded."""
        return str(self._read()["problem"])

    def ask(self, order: Mapping[str, Any]) -> Answer:
        """Its answer to one order."""
        try:
            print(json.dumps(order), file=self._process.stdin, flush=True)
        except BrokenPipeError:
            return {"problem": self._last_words()}
        return self._read()

    def _read(self) -> Answer:
        if self._process.stdout is None:
            raise AssertionError
        limit = threading.Timer(_LONGEST_ANSWER_S, self._process.kill)
        limit.start()
        try:
            line = self._process.stdout.readline()
        finally:
            limit.cancel()
        answer: Answer = json.loads(line) if line else {"problem": self._last_words()}
        return answer

    def _last_words(self) -> str:
        said = self._complaints.read_text(encoding="utf-8", errors="replace").strip()
        return f"its engine ended: {said.splitlines()[-1] if said else 'it said nothing'}"


@contextmanager
def _engine(root: Path, variables: Mapping[str, str]) -> Iterator[_Engine]:
    """Start an engine for the program in a folder; it is gone afterwards."""
    with TemporaryDirectory() as folder, (Path(folder) / "stderr").open("wb") as complaints:
        process = subprocess.Popen(
            [sys.executable, "-P", str(_ENGINE), str(root)],
            env={**os.environ, **variables},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=complaints,
            text=True,
        )
        with process:
            try:
                yield _Engine(process, Path(complaints.name))
            finally:
                process.kill()


def _variables(scratch: Path) -> dict[str, str]:
    """What the engine runs with: a state of its own, and no credential of the user's."""
    state = scratch / "state"
    state.mkdir()
    return {
        # So that whatever ends it, nothing of it is left.
        "TMPDIR": str(scratch),
        "PULUMI_BACKEND_URL": f"file://{state}",
        "PULUMI_CONFIG_PASSPHRASE": "",
        "PULUMI_SKIP_UPDATE_CHECK": "true",
        "PULUMI_GCP_SKIP_REGION_VALIDATION": "true",
        # The provider makes no call in a preview, but does not start without a token.
        "GOOGLE_OAUTH_ACCESS_TOKEN": "none",
        PROJECT_VARIABLE: os.environ.get(PROJECT_VARIABLE) or "preview-only",
    }


def _settled(
    engine: _Engine, base: Path, stacks: Sequence[str], pool: ThreadPoolExecutor
) -> dict[str, "Future[Answer]"]:
    """Bring the base's stacks into the state one by one, while others are previewed already."""

    def settle(stack: str) -> Answer:
        if engine.problem:
            return {"problem": engine.problem}
        return engine.ask({"stack": stack, "settle": True})

    there = [stack for stack in stacks if (base / f"Pulumi.{stack}.yaml").is_file()]
    return {stack: pool.submit(settle, stack) for stack in there}


def _judged(stack: str, answer: Answer, earlier: Answer | None, limits: Limits) -> StackPreview:
    if answer["problem"]:
        return StackPreview(stack, problem=str(answer["problem"]))
    resources: list[dict[str, Any]] = answer["resources"]
    exports: Mapping[str, Any] = answer["exports"]
    changes = tuple(
        Change(each["step"], each["type"], each["name"], _properties(each))
        for each in resources
        if each["step"] != _UNCHANGED
    )
    planned = [
        Planned(each["type"], each["name"], each["inputs"])
        for each in resources
        if each["step"] != "delete"
    ]
    price = float(exports["usd_per_hour"])
    known = earlier is not None and not earlier["problem"]
    return StackPreview(
        stack,
        changes=changes,
        unchanged=len(resources) - len(changes),
        nodes={
            each.name: int(each.inputs.get("nodeCount", 0))
            for each in planned
            if each.type == _POOL
        },
        machine_type=str(exports["machine_type"]),
        usd_per_hour=price,
        usd_per_hour_before=earlier["exports"].get("usd_per_hour") if earlier and known else None,
        warnings=(*answer["warnings"], *_warnings(changes, planned, earlier)),
        broken=tuple(violations(planned, price, limits)),
    )


def _properties(resource: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(resource["changed"]) if resource["step"] in {"update", "replace"} else ()


def _warnings(
    changes: Sequence[Change], planned: Sequence[Planned], earlier: Answer | None
) -> Iterator[str]:
    if earlier and earlier["problem"]:
        yield f"the base cannot be previewed ({earlier['problem']}), so all counts as new"
    yield from (earlier or {}).get("warnings", ())
    replaced = {change.type for change in changes if change.step in {"replace", "delete"}}
    if _CLUSTER in replaced:
        yield "a running cluster would be deleted and made anew"
    elif _POOL in replaced:
        yield "nodes that run would be deleted and made anew, with what they have pulled"
    for node in [each.inputs.get("nodeConfig", {}) for each in planned if each.type == _POOL]:
        if node.get("spot"):
            yield "spot nodes: Google may take them at any time; priced here as on demand"
        if node.get("gcfsConfig", {}).get("enabled"):
            yield "image streaming: its images must lie in Artifact Registry"
