"""What every stack would create: the engine's previews, compared with a base and checked.

Calls no cloud and needs no credential: the engine has a temporary state, and the gcp provider,
which requires a token to start, gets an invalid one. The base is another revision of this
repository, previewed by its own program; the planned inputs of the two are compared. Running
clusters are not read: `pulumi preview` compares with those.
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
from experiment.preview.difference import Change, changes
from experiment.provision.stack_files import copy_stack_files
from experiment.terminal.progress import Say
from infra.policy import CLUSTER, NODE_POOL, Limits, Planned, load_limits, violations
from schema.names import PROJECT_VARIABLE
from schema.project_files import SETUP

_ENGINE = Path(__file__).with_name("engine.py")
_PROGRAM = Path(__file__).parents[2]
"""The folder of infra: this checkout, or where the wheel was installed."""
_LONGEST_ANSWER_S = 300.0

Answer = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class StackPreview:
    """What one stack would create.

    Attributes:
        stack: its name.
        problem: why it cannot be previewed; empty if it can. With a problem the rest is empty.
        changes: of its resources in Google Cloud and in the cluster.
        unchanged: number of resources that do not change.
        nodes: by pool.
        machine_type: of the measured nodes.
        usd_per_hour: list price of the cluster.
        usd_per_hour_before: the base's; None without a base.
        warnings: for a reviewer, a sentence each.
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
        """Return the number of resources with this step."""
        return sum(change.step == step for change in self.changes)


def preview_stacks(stacks: Sequence[str], against: str, say: Say) -> list[StackPreview]:
    """Preview stacks, each against its base.

    Args:
        stacks: names; each must have a file.
        against: git revision to compare with; empty for none, with which every resource is new.
        say: shows progress.

    Raises:
        PlanError: a stack or the revision does not exist.
        PreflightError: the engine cannot be used here.
    """
    if shutil.which("pulumi") is None:
        raise PreflightError(
            "The Pulumi CLI is not on PATH, and previews need its engine.",
            "install it from https://www.pulumi.com/docs/install/, or use a build of it: "
            f"{SETUP}, then make preview",
        )
    limits = load_limits()
    with ExitStack() as closing:
        scratch = Path(closing.enter_context(TemporaryDirectory(prefix="pull-study-preview-")))
        for stack in stacks:
            copy_stack_files(stack, scratch / "files")
        # Closed last: its thread ends when the engine that it waits for has ended.
        pool = closing.enter_context(ThreadPoolExecutor(1))
        before: dict[str, Future[Answer]] = {}
        if against:
            base = unpack(against, scratch / "base")
            earlier = closing.enter_context(_engine(base, base, _variables(scratch / "base-state")))
            there = [stack for stack in stacks if (base / f"Pulumi.{stack}.yaml").is_file()]
            before = {stack: pool.submit(earlier.preview, stack) for stack in there}
        engine = closing.enter_context(
            _engine(_PROGRAM, scratch / "files", _variables(scratch / "state"))
        )
        if engine.problem:
            raise PreflightError(f"The stacks cannot be previewed: {engine.problem}.")
        previews: list[StackPreview] = []
        for stack in stacks:
            say(f"{stack} ({len(previews) + 1} of {len(stacks)})")
            answer = engine.preview(stack)
            base_answer = before[stack].result() if stack in before else None
            previews.append(judged(stack, answer, base_answer, limits))
        return previews


def require_no_problems(previews: Sequence[StackPreview]) -> None:
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
            "see the reasons below the table; without official plugins: make preview in a checkout",
        )
    broken = [each.stack for each in previews if each.broken]
    if broken:
        raise GuardError(
            f"{len(broken)} of {len(previews)} stacks would break a guard: {', '.join(broken)}.",
            "change the stack, or get a higher limit in infra/limits.yaml reviewed",
        )


class _Engine:
    """A process of experiment.preview.engine."""

    def __init__(self, process: "subprocess.Popen[str]", errors: Path) -> None:
        self._process = process
        self._errors = errors

    @cached_property
    def problem(self) -> str:
        """Why its program cannot be loaded, empty if it can; waits until it is loaded."""
        return str(self._read()["problem"])

    def preview(self, stack: str) -> Answer:
        """Preview one stack."""
        if self.problem:
            return {"problem": self.problem}
        try:
            print(stack, file=self._process.stdin, flush=True)
        except BrokenPipeError:
            return {"problem": self._last_words()}
        return self._read()

    def _read(self) -> Answer:
        assert self._process.stdout is not None  # noqa: S101 (PIPE)
        limit = threading.Timer(_LONGEST_ANSWER_S, self._process.kill)
        limit.start()
        try:
            line = self._process.stdout.readline()
        finally:
            limit.cancel()
        answer: Answer = json.loads(line) if line else {"problem": self._last_words()}
        return answer

    def _last_words(self) -> str:
        text = self._errors.read_text(encoding="utf-8", errors="replace").strip()
        return f"its engine ended: {text.splitlines()[-1] if text else 'no message'}"


@contextmanager
def _engine(program: Path, files: Path, variables: Mapping[str, str]) -> Iterator[_Engine]:
    """Run an engine for the program in one folder, with the stack files of another."""
    with TemporaryDirectory() as folder, (Path(folder) / "stderr").open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable, "-P", str(_ENGINE), str(program), str(files)],
            env={**os.environ, **variables},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        with process:
            try:
                yield _Engine(process, Path(errors.name))
            finally:
                process.kill()


def _variables(state: Path) -> dict[str, str]:
    """The engine's environment: its own state, and no credential of the user."""
    state.mkdir()
    return {
        "TMPDIR": str(state.parent),  # so that nothing is left, however it ends
        "PULUMI_BACKEND_URL": f"file://{state}",
        "PULUMI_CONFIG_PASSPHRASE": "",
        "PULUMI_SKIP_UPDATE_CHECK": "true",
        "PULUMI_GCP_SKIP_REGION_VALIDATION": "true",
        # The provider makes no call in a preview, but requires a token to start.
        "GOOGLE_OAUTH_ACCESS_TOKEN": "none",
        PROJECT_VARIABLE: os.environ.get(PROJECT_VARIABLE) or "preview-only",
    }


def judged(stack: str, answer: Answer, base: Answer | None, limits: Limits) -> StackPreview:
    """Compare a stack's preview with its base's, and check the guards.

    Args:
        stack: its name.
        answer: of the engine.
        base: of the base's engine; None if the base has no such stack.
        limits: of the guards.
    """
    if answer["problem"]:
        return StackPreview(stack, problem=str(answer["problem"]))
    known = base if base and not base["problem"] else None
    resources: list[dict[str, Any]] = answer["resources"]
    exports: Mapping[str, Any] = answer["exports"]
    found = tuple(changes(known["resources"] if known else (), resources))
    planned = [Planned(each["type"], each["name"], each["inputs"]) for each in resources]
    price = float(exports["usd_per_hour"])
    return StackPreview(
        stack,
        changes=found,
        unchanged=len(resources) - sum(change.step != "delete" for change in found),
        nodes={
            each.name: int(each.inputs.get("nodeCount", 0))
            for each in planned
            if each.type == NODE_POOL
        },
        machine_type=str(exports["machine_type"]),
        usd_per_hour=price,
        usd_per_hour_before=known["exports"].get("usd_per_hour") if known else None,
        warnings=(*answer["warnings"], *_warnings(found, planned, base)),
        broken=tuple(violations(planned, price, limits)),
    )


def _warnings(
    found: Sequence[Change], planned: Sequence[Planned], base: Answer | None
) -> Iterator[str]:
    if base and base["problem"]:
        yield f"the base cannot be previewed ({base['problem']}), so every resource counts as new"
    changed = {change.type for change in found if change.step in {"update", "delete"}}
    if CLUSTER in changed:
        yield "changes of the cluster may replace a running one: pulumi preview shows it"
    elif NODE_POOL in changed:
        yield "changes of a pool may replace running nodes with their images"
    for node in [each.inputs.get("nodeConfig", {}) for each in planned if each.type == NODE_POOL]:
        if node.get("spot"):
            yield "spot nodes: Google may preempt them at any time; priced here as on demand"
        if node.get("gcfsConfig", {}).get("enabled"):
            yield "image streaming: its images must be in Artifact Registry"
