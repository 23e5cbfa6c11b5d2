"""Previews stacks with the Pulumi engine: one revision's program, in its own process.

    python -P engine.py PROGRAM FILES

ROOT has Pulumi.yaml, the stack files and the program. Only its `infra` and `schema` are imported,
so ROOT may be another revision. Reads the name of a stack per line and writes an answer as JSON.
All stacks share one process, since the SDKs take seconds to import. experiment.preview.previews
compares and judges the answers.
"""

import importlib
import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pulumi import automation
from pulumi.automation.events import EngineEvent

_UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
"""The engine's placeholder of a value that is not known before an update."""
_MARKUP = re.compile(r"<\{%[^%]*%\}>")

Answer = dict[str, Any]


class _Recorder:
    """Collects from the engine's events what an answer needs."""

    def __init__(self) -> None:
        self.resources: dict[str, dict[str, Any]] = {}
        self.exports: dict[str, Any] = {}
        self.warnings: list[str] = []
        self.errors: list[str] = []

    def __call__(self, event: EngineEvent) -> None:
        """Take one event."""
        if event.resource_pre_event:
            metadata = event.resource_pre_event.metadata
            planned = metadata.new
            if planned and planned.custom and not metadata.type.startswith("pulumi:"):
                self.resources[metadata.urn] = {
                    "type": metadata.type,
                    "name": metadata.urn.rpartition("::")[2],
                    "inputs": planned.inputs or {},
                }
        elif event.res_outputs_event:
            metadata = event.res_outputs_event.metadata
            if metadata.type == "pulumi:pulumi:Stack" and metadata.new:
                outputs = metadata.new.outputs or {}
                self.exports = {k: v for k, v in outputs.items() if _UNKNOWN not in str(v)}
        elif event.diagnostic_event and event.diagnostic_event.severity in {"warning", "error"}:
            texts = self.errors if event.diagnostic_event.severity == "error" else self.warnings
            texts.append(_MARKUP.sub("", event.diagnostic_event.message).strip())


def _preview(workspace: automation.LocalWorkspace, name: str) -> Answer:
    recorder, problem = _Recorder(), ""
    try:
        stack = automation.Stack.create_or_select(name, workspace)
        stack.preview(on_event=recorder)
    except automation.CommandError as error:
        # The engine's last line says less than its earlier ones.
        causes = [each for each in recorder.errors if "preview failed" not in each]
        problem = "\n".join(causes or [str(error)])
    return {
        "problem": problem,
        "warnings": list(dict.fromkeys(recorder.warnings)),
        "exports": recorder.exports,
        "resources": [each for _, each in sorted(recorder.resources.items())],
    }


def _answers(files: Path, stacks: Iterator[str]) -> Iterator[Answer]:
    try:
        program = importlib.import_module("infra.program").declare
    except (ImportError, AttributeError, SyntaxError) as error:
        yield {"problem": f"its program cannot be loaded: {error}"}
        return
    yield {"problem": ""}
    with TemporaryDirectory() as folder:
        work_dir = Path(folder)
        (work_dir / "infra").mkdir()
        for path in files.glob("Pulumi*.yaml"):
            (work_dir / path.name).write_bytes(path.read_bytes())
        workspace = automation.LocalWorkspace(work_dir=folder, program=program)
        for line in stacks:
            yield _preview(workspace, line.strip())


def main() -> None:
    """Load the program, then preview the stacks named on stdin."""
    program, files = sys.argv[1:]
    sys.path.insert(0, program)
    # What a program prints must not mix with the answers.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    for answer in _answers(Path(files), iter(sys.stdin)):
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
