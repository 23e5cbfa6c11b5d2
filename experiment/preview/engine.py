"""Previews stacks by the Pulumi engine: one revision's program, in a process of its own.

    python -P preview_engine.py ROOT

ROOT holds Pulumi.yaml, the stack files and the program; its `infra` and `schema` are imported, and
nothing else of this project, so that ROOT may be another revision. Reads an order a line, writes an
answer a line, JSON each. All stacks share one process, since the SDKs take seconds to load. What an
answer means for a reader is experiment.preview.previews's. It deliberately asks no cloud: what only
Google could tell of a resource stands in `_TOLD_BY_GOOGLE`.
"""

import importlib
import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Any

from pulumi import automation
from pulumi.automation.events import EngineEvent, OpType

_PROJECT = "pull-study"
_UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
"""How the engine writes a value that is not known before an update."""
_MARKUP = re.compile(r"<\{%[^%]*%\}>")
_STEPS = {
    OpType.CREATE: "create",
    OpType.UPDATE: "update",
    OpType.DELETE: "delete",
    OpType.REPLACE: "replace",
    OpType.CREATE_REPLACEMENT: "replace",
    OpType.DELETE_REPLACED: "replace",
    OpType.SAME: "same",
}
_TOLD_BY_GOOGLE: Mapping[str, Mapping[str, Any]] = {
    "gcp:container/cluster:Cluster": {
        # Nothing listens there: a provider that tries finds out at once.
        "endpoint": "127.0.0.1:1",
        "masterAuth": {"clusterCaCertificate": "QQ=="},
    },
    "gcp:logging/projectSink:ProjectSink": {"writerIdentity": "serviceAccount:sink@google"},
    "gcp:projects/iAMCustomRole:IAMCustomRole": {"name": "projects/p/roles/r"},
    "gcp:serviceaccount/account:Account": {
        "email": "account@p.iam.gserviceaccount.com",
        "member": "serviceAccount:account@p.iam.gserviceaccount.com",
    },
}
"""Outputs, by type, that other resources of the program are made of, with values of their form."""
_ROUNDS = 4
"""Each round of `_Engine.settle` knows the outputs of one more link of resources that need another
one's; the program has two such links."""

Answer = dict[str, Any]


class _Recorder:
    """Keeps of the engine's events what an answer needs."""

    def __init__(self) -> None:
        self.resources: dict[str, dict[str, Any]] = {}
        self.exports: dict[str, Any] = {}
        self.warnings: list[str] = []
        self.errors: list[str] = []

    def __call__(self, event: EngineEvent) -> None:
        """Take one event."""
        if event.resource_pre_event:
            self._plan(event.resource_pre_event.metadata)
        elif event.res_outputs_event:
            self._outputs(event.res_outputs_event.metadata)
        elif event.diagnostic_event and event.diagnostic_event.severity in {"warning", "error"}:
            said = self.errors if event.diagnostic_event.severity == "error" else self.warnings
            said.append(_MARKUP.sub("", event.diagnostic_event.message).strip())

    def _plan(self, metadata: Any) -> None:
        step = _STEPS.get(metadata.op)
        if step is None or metadata.type == "pulumi:pulumi:Stack":
            return
        found = self.resources.setdefault(metadata.urn, {"changed": []})
        found["changed"] += [path for path in _changed(metadata) if path not in found["changed"]]
        if "step" in found and not metadata.new:
            return  # the old one of a replacement
        now = metadata.new or metadata.old
        found |= {
            "urn": metadata.urn,
            "type": metadata.type,
            "custom": bool(now.custom),
            "step": step,
            "parent": now.parent,
            "provider": now.provider,
            "inputs": now.inputs or {},
        }

    def _outputs(self, metadata: Any) -> None:
        outputs = (metadata.new.outputs if metadata.new else None) or {}
        if metadata.type == "pulumi:pulumi:Stack":
            self.exports = {key: item for key, item in outputs.items() if not _has_unknown(item)}
        elif metadata.urn in self.resources:
            self.resources[metadata.urn]["outputs"] = outputs


def _changed(metadata: Any) -> list[str]:
    return sorted(metadata.detailed_diff or metadata.diffs or [])


class _Engine:
    """One revision's program, its stacks in the backend of the environment.

    Args:
        work_dir: holds Pulumi.yaml and the stack files; the engine may rewrite them.
        program: declares the current stack.
    """

    def __init__(self, work_dir: Path, program: Callable[[], None]) -> None:
        self._work_dir = work_dir
        self._workspace = automation.LocalWorkspace(work_dir=str(work_dir), program=program)

    def plan(self, stack: str) -> Answer:
        """What an update would do to a stack as the backend has it."""
        return self._answer(*self._preview(self._open(stack)))

    def settle(self, stack: str) -> Answer:
        """Make the backend's state what an update of a new stack would have left.

        A resource enters the state once all its inputs are known: those that need an output of
        another one follow in the next round.
        """
        opened = self._open(stack)
        for _ in range(_ROUNDS):
            recorder, problem = self._preview(opened)
            if problem:
                opened.import_stack(automation.Deployment(version=3, deployment=_deployment(stack)))
                return self._answer(recorder, problem)
            known = _known(recorder.resources.values())
            deployment = _deployment(stack, known, recorder.exports, self._goals)
            opened.import_stack(automation.Deployment(version=3, deployment=deployment))
            if len(known) == len(recorder.resources):
                return self._answer(recorder, "")
        vague = sorted(_name(urn) for urn, each in recorder.resources.items() if each not in known)
        recorder.warnings.append(f"not compared, since Google alone knows: {', '.join(vague)}")
        return self._answer(recorder, "")

    def _open(self, stack: str) -> automation.Stack:
        return automation.Stack.create_or_select(stack, self._workspace)

    def _preview(self, stack: automation.Stack) -> tuple[_Recorder, str]:
        recorder = _Recorder()
        path = self._work_dir / f"{stack.name}.plan.json"
        try:
            stack.preview(on_event=recorder, plan=str(path))
        except automation.CommandError as error:
            # The engine's own closing words say less than what went before.
            causes = [each for each in recorder.errors if "preview failed" not in each]
            return recorder, "\n".join(causes or [str(error)])
        plans = json.loads(path.read_text(encoding="utf-8"))["resourcePlans"]
        self._goals: dict[str, Any] = {urn: plan["goal"] for urn, plan in plans.items()}
        return recorder, ""

    def _answer(self, recorder: _Recorder, problem: str) -> Answer:
        return {
            "problem": problem,
            "warnings": list(dict.fromkeys(recorder.warnings)),
            "exports": recorder.exports,
            "resources": [
                {
                    "type": each["type"],
                    "name": _name(urn),
                    "step": each["step"],
                    "changed": each["changed"],
                    "inputs": each["inputs"],
                }
                for urn, each in sorted(recorder.resources.items())
                if each["custom"] and not each["type"].startswith("pulumi:")
            ],
        }


def _deployment(
    stack: str,
    resources: Sequence[Mapping[str, Any]] = (),
    exports: Mapping[str, Any] = MappingProxyType({}),
    goals: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
) -> dict[str, Any]:
    """A state that holds these resources, in the form of `pulumi stack export`."""
    root = f"urn:pulumi:{stack}::{_PROJECT}::pulumi:pulumi:Stack::{_PROJECT}-{stack}"
    there = {root, *(each["urn"] for each in resources)}
    stack_itself = {"urn": root, "custom": False, "type": "pulumi:pulumi:Stack"}
    states: list[dict[str, Any]] = [{**stack_itself, "outputs": dict(exports)}]
    for each in resources:
        goal = goals.get(each["urn"], {})
        by_property = goal.get("propertyDependencies") or {}
        state = {
            "urn": each["urn"],
            "type": each["type"],
            "custom": each["custom"],
            "parent": each["parent"],
            "inputs": each["inputs"],
            "outputs": _outputs(each),
            "dependencies": [urn for urn in goal.get("dependencies") or [] if urn in there],
            "propertyDependencies": {
                key: [urn for urn in urns if urn in there] for key, urns in by_property.items()
            },
        }
        if each["custom"]:
            state["id"] = _name(each["urn"])
        if each["provider"]:
            # An id that is made up here, where the preview of a new provider has none.
            urn, _, _ = each["provider"].rpartition("::")
            state["provider"] = f"{urn}::{_name(urn)}"
        states.append(state)
    return {"manifest": {"time": "2000-01-01T00:00:00Z", "magic": "", "version": ""}} | {
        "resources": states
    }


def _outputs(resource: Mapping[str, Any]) -> dict[str, Any]:
    """Planned outputs as far as they are known, with what Google would have told."""
    inputs = resource["inputs"]
    planned = {
        key: item for key, item in resource.get("outputs", {}).items() if not _has_unknown(item)
    }
    told = _TOLD_BY_GOOGLE.get(resource["type"], {})
    # pulumi-kubernetes compares with the inputs that it keeps there.
    kept = {"__inputs": inputs} if resource["type"].startswith("kubernetes:") else {}
    return {**inputs, **planned, **told, **kept}


def _known(resources: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The resources whose inputs are all known, and whose provider's are."""
    known: dict[str, dict[str, Any]] = {}
    for each in resources:
        provider, _, _ = each["provider"].rpartition("::")
        if not _has_unknown(each["inputs"]) and (not provider or provider in known):
            known[each["urn"]] = each
    return list(known.values())


def _has_unknown(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(map(_has_unknown, value.values()))
    if isinstance(value, list):
        return any(map(_has_unknown, value))
    return isinstance(value, str) and _UNKNOWN in value


def _name(urn: str) -> str:
    return urn.rpartition("::")[2]


def _answers(root: Path, orders: Iterator[str]) -> Iterator[Answer]:
    try:
        program = importlib.import_module("infra.program").declare
    except (ImportError, AttributeError, SyntaxError) as error:
        yield {"problem": f"its program cannot be loaded: {error}"}
        return
    yield {"problem": ""}
    with TemporaryDirectory() as folder:
        work_dir = Path(folder)
        (work_dir / "infra").mkdir()
        for path in root.glob("Pulumi*.yaml"):
            (work_dir / path.name).write_bytes(path.read_bytes())
        engine = _Engine(work_dir, program)
        for line in orders:
            order = json.loads(line)
            work = engine.settle if order["settle"] else engine.plan
            try:
                yield work(order["stack"])
            except automation.CommandError as error:
                yield {"problem": str(error)}


def main() -> None:
    """Load the program of ROOT, then answer the orders of stdin."""
    root = Path(sys.argv[1])
    sys.path.insert(0, str(root))
    # What a program prints must not come between the answers.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    for answer in _answers(root, iter(sys.stdin)):
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
