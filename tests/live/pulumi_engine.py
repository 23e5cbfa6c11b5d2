"""A real Pulumi engine on the stand-in providers, for tests."""

import gc
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from pulumi import automation

from tools.programs import locate

ROOT = Path(__file__).resolve().parents[2]


@contextmanager
def stand_ins(variables: Mapping[str, str], *arguments: str) -> Iterator[dict[str, int]]:
    """Run `python -m rehearsal.pulumi.providers`; its ports."""
    process = subprocess.Popen(
        [sys.executable, "-m", "rehearsal.pulumi.providers", *arguments],
        cwd=ROOT,
        env={**os.environ, **variables},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        yield json.loads(process.stdout.readline())
    finally:
        process.terminate()
        process.wait(timeout=5)
        process.stdout.close()


def engine_variables(folder: Path, ports: Mapping[str, int]) -> dict[str, str]:
    """The environment of the CLI: state in a folder, the stand-ins as its providers."""
    state = folder / "state"
    state.mkdir(exist_ok=True)
    pulumi = locate("pulumi").path
    return {
        "PATH": f"{pulumi.parent}{os.pathsep}{os.environ['PATH']}",
        "PULUMI_HOME": str(folder / "pulumi-home"),
        "PULUMI_BACKEND_URL": f"file://{state}",
        "PULUMI_CONFIG_PASSPHRASE": "",
        "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
        "PULUMI_SKIP_UPDATE_CHECK": "true",
        "PULUMI_DEBUG_PROVIDERS": ",".join(f"{name}:{port}" for name, port in ports.items()),
    }


def open_stack(program: Callable[[], None], name: str = "test") -> automation.Stack:
    """A stack of an inline program, by the environment's CLI."""
    return automation.create_or_select_stack(
        stack_name=name, project_name="engine-test", program=program
    )


def changed(
    result: automation.UpResult | automation.DestroyResult | automation.RefreshResult,
) -> dict[str, int]:
    """How many resources were created, updated, replaced, deleted; not those that stayed."""
    summary = result.summary.resource_changes or {}
    return {str(kind): count for kind, count in summary.items() if kind not in {"same", "read"}}


def collect_failed_outputs() -> None:
    """Let go of what a failed program never awaited.

    Each such task logs its traceback when it is collected. Should that happen in the middle of an
    import that pytest rewrites, CPython 3.11 ends with "AST constructor recursion depth mismatch"
    (python/cpython#106905).
    """
    gc.collect()
