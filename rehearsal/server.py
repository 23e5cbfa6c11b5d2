"""The process behind a rehearsal: `python -m rehearsal.server --home H --options JSON`.

It owns the home for its life: first it removes what a killed one left, then it starts the
registry, the local Google and the fakes of Pulumi's providers, writes the file that sessions read,
and prints one line of JSON. SIGTERM ends it, with all clusters, and removes the home. Everything
listens on loopback.
"""

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from rehearsal.google import environment
from rehearsal.google.access.login import Login
from rehearsal.machine import processes, programs
from rehearsal.machine.home import Home, RehearsalError, clear, lock, write_json
from rehearsal.machine.options import Options
from rehearsal.real_nodes import registry
from schema.errors import UserError
from schema.inert import visible
from schema.names import SPANS_VARIABLE
from schema.project_files import SETUP

Answer = Callable[[dict[str, object]], None]
"""Reports to the session that started this process whether it is ready; called once."""

_PROVIDERS_S = 30.0


def main() -> int:
    """Serve until SIGTERM; an exit code."""
    parser = argparse.ArgumentParser(prog="python -m rehearsal.server", description=__doc__)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--options", type=Options.from_json, required=True)
    given = parser.parse_args()
    ending = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ending.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as pipe:

        def answer(content: dict[str, object]) -> None:
            pipe.write(json.dumps(content) + "\n")
            pipe.close()

        try:
            _run(Home(given.home), given.options, ending, answer)
        except UserError as error:
            answer({"problem": error.problem, "fix": error.fix})
            return int(error.exit_code)
    return 0


def _run(home: Home, options: Options, ending: threading.Event, answer: Answer) -> None:
    descriptor = lock(home)
    if descriptor is None:
        raise RehearsalError(
            f"Another rehearsal runs in {home.folder}, and a folder holds one at a time.",
            "pull-study-rehearsal down, or set PULL_STUDY_REHEARSAL_HOME to another folder",
        )
    try:
        clear(home, whole=False)
        _log_to(home)
        with _serving(home, options) as facts:
            write_json(home.server_file, facts)
            answer({"ready": True})
            ending.wait()
            say("ending")
    finally:
        clear(home)
        os.close(descriptor)


@contextmanager
def _serving(home: Home, options: Options) -> Iterator[dict[str, object]]:
    """Run all parts; give what a session needs to know about them."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        (logging_port,) = processes.free_ports(1)
        login = Login()
        variables = environment.google_variables(
            home, login, url=url, logging=f"127.0.0.1:{logging_port}"
        )
        programs.write_programs(home)
        official = programs.link_plugins(Path(variables["PULUMI_HOME"]))
        Path(variables["PULUMI_BACKEND_URL"].removeprefix("file://")).mkdir()
        provider_ports = _start_providers(home, official, variables)
        images = _registry(home, options)
        registry.write_registries_conf(home.registries_conf, url.removeprefix("http://"))
        from rehearsal.local_google import local_google  # noqa: PLC0415 - while the others start

        with local_google(
            home,
            images,
            listening=listening,
            logging_port=logging_port,
            login=login,
            options=options,
            say=say,
        ):
            ports = provider_ports()
            say(f"ready: {url}, {options}" + (f" in {images.storage}" if images else ""))
            variable = environment.rehearsal_variable(options, official=official)
            variable[SPANS_VARIABLE] = str(home.spans) if images else ""
            yield {
                "pid": os.getpid(),
                "options": str(replace(options, faults=())),
                "faults": options.faults,
                "environment": {**variables, **environment.debug_providers(ports), **variable},
            }


def _registry(home: Home, options: Options) -> registry.LocalRegistry | None:
    """Start the registry that real nodes pull from; simulated ones pull no byte."""
    if options.nodes != "real":
        return None
    return registry.start(home.folder, registry.storage_of(options.scale))


def _start_providers(
    home: Home, official: set[str], variables: Mapping[str, str]
) -> Callable[[], dict[str, int]]:
    """Start the fakes of providers that are not installed; return what waits for their ports."""
    missing = sorted(set(programs.PROVIDERS) - official)
    if not missing:
        return dict
    command = [sys.executable, "-m", "rehearsal.pulumi.providers"]
    if len(missing) == 1:
        command += ["--only", missing[0]]
    log = home.folder / "providers.log"
    path = os.pathsep.join([str(home.programs), os.environ.get("PATH", "")])
    environment = {**os.environ, **variables, "PATH": path}
    process = processes.start(
        command, home.folder, log=log, environment=environment, output=subprocess.PIPE
    )

    def ports() -> dict[str, int]:
        line = processes.first_line(process, _PROVIDERS_S)
        if not line:
            raise RehearsalError(
                f"The fakes of Pulumi's providers did not start: {processes.log_tail(log)}.",
                SETUP,
            )
        return {str(name): int(port) for name, port in json.loads(line).items()}

    return ports


def _log_to(home: Home) -> None:
    """Redirect all that this process prints to the home's log."""
    descriptor = os.open(home.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)


def say(line: str) -> None:
    """Write a line to the home's log, with the time."""
    text = visible(line, keep="\n\t")
    sys.stderr.write(f"{datetime.now(UTC):%H:%M:%S.%f}"[:-3] + f" {text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # threads of calls in flight have nothing left to work on
