"""Pulumi and its providers alone: enough to preview, without a local Google or a control plane.

Official plugins that the user has are used; the others are replaced by fakes for as long as the
block lasts. A preview makes no call.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rehearsal.google.environment import debug_providers
from rehearsal.machine.home import RehearsalError
from rehearsal.machine.processes import first_line
from rehearsal.machine.programs import PROVIDERS, official_plugin
from schema.project_files import SETUP
from tools.programs import locate

_START_S = 60.0


@contextmanager
def provider_variables() -> Iterator[dict[str, str]]:
    """Yield the environment of a command that previews.

    Raises:
        RehearsalError: the fakes do not start.
        MissingProgram: pulumi is not on this machine.
    """
    pulumi = locate("pulumi").path
    path = os.pathsep.join([str(pulumi.parent), os.environ.get("PATH", os.defpath)])
    missing = sorted(name for name in PROVIDERS if official_plugin(name) is None)
    if not missing:
        yield {"PATH": path}
        return
    with _served(missing) as ports:
        yield {
            "PATH": path,
            # Else the CLI downloads the official plugin that a fake replaces.
            "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
            **debug_providers(ports),
        }


@contextmanager
def _served(names: list[str]) -> Iterator[dict[str, int]]:
    command = [sys.executable, "-m", "rehearsal.pulumi.providers"]
    if len(names) == 1:
        command += ["--only", names[0]]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
    with process:
        try:
            line = first_line(process, _START_S)
            if not line:
                raise RehearsalError(
                    "The fake Pulumi providers did not start; their error is above.", SETUP
                )
            yield {str(name): int(port) for name, port in json.loads(line).items()}
        finally:
            process.terminate()
