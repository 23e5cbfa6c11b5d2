"""A Python language host for a Pulumi CLI that came without the official one.

`pulumi preview`, `up`, `refresh` and `destroy` run the program in a process of its own, by the
interpreter for which this host was installed; the Automation API's inline programs need no host at
all. It installs no dependencies (`make setup` does), finds no plugins, and generates no code.

    python -m rehearsal.pulumi.language_host --install DIR    beside the pulumi binary of DIR
    python -m rehearsal.pulumi.language_host ENGINE_ADDRESS   as the CLI starts it
"""

import argparse
import asyncio
import json
import logging
import os
import platform
import runpy
import shlex
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator
from concurrent import futures
from importlib.metadata import version
from pathlib import Path
from typing import NoReturn

import grpc
import pulumi
from google.protobuf import empty_pb2
from pulumi import runtime
from pulumi.runtime.proto import language_pb2, language_pb2_grpc, plugin_pb2

PROGRAM_NAME = "pulumi-language-python"
_SHOWN = 32
"""Exit code of a program that failed and has said why (as the official host has it)."""
_MODULE = "rehearsal.pulumi.language_host"
_MARK = "# pull-study: a stand-in for the official Python language host."


def install(directory: Path, python: Path) -> Path | None:
    """Write the launcher beside the pulumi binary.

    Args:
        directory: of the pulumi binary; found elsewhere on PATH, the CLI would warn each time.
        python: interpreter that has this project and runs programs.

    Returns:
        The launcher, None if an official language host is there already: it stays.
    """
    launcher = directory / PROGRAM_NAME
    if launcher.exists() and _MARK.encode() not in launcher.read_bytes():
        return None
    command = f'exec {shlex.quote(str(python))} -P -m {_MODULE} "$@"'
    launcher.write_text(f"#!/bin/sh\n{_MARK}\n{command}\n")
    launcher.chmod(0o755)
    return launcher


class LanguageHost(language_pb2_grpc.LanguageRuntimeServicer):
    """The gRPC service that the CLI calls.

    Args:
        engine: address of the engine's own service, for the program's messages.
    """

    def __init__(self, engine: str) -> None:
        self._engine = engine
        self._program: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()

    def Handshake(  # noqa: N802
        self, request: language_pb2.LanguageHandshakeRequest, context: grpc.ServicerContext
    ) -> language_pb2.LanguageHandshakeResponse:
        """The CLI knows this host's only form."""
        return language_pb2.LanguageHandshakeResponse()

    def GetPluginInfo(  # noqa: N802
        self, request: empty_pb2.Empty, context: grpc.ServicerContext
    ) -> plugin_pb2.PluginInfo:
        """The version, which is the SDK's."""
        return plugin_pb2.PluginInfo(version=version("pulumi"))

    def GetRequiredPackages(  # noqa: N802
        self, request: language_pb2.GetRequiredPackagesRequest, context: grpc.ServicerContext
    ) -> language_pb2.GetRequiredPackagesResponse:
        """None: the engine asks for a plugin when a resource needs it."""
        return language_pb2.GetRequiredPackagesResponse()

    def GetRequiredPlugins(  # noqa: N802
        self, request: language_pb2.GetRequiredPluginsRequest, context: grpc.ServicerContext
    ) -> language_pb2.GetRequiredPluginsResponse:
        """None, as above."""
        return language_pb2.GetRequiredPluginsResponse()

    def RuntimeOptionsPrompts(  # noqa: N802
        self, request: language_pb2.RuntimeOptionsRequest, context: grpc.ServicerContext
    ) -> language_pb2.RuntimeOptionsResponse:
        """Nothing to ask."""
        return language_pb2.RuntimeOptionsResponse()

    def InstallDependencies(  # noqa: N802
        self, request: language_pb2.InstallDependenciesRequest, context: grpc.ServicerContext
    ) -> Iterator[language_pb2.InstallDependenciesResponse]:
        """Nothing to install."""
        text = "The environment is made by `make setup`; nothing is installed here.\n"
        yield language_pb2.InstallDependenciesResponse(stdout=text.encode())

    def About(  # noqa: N802
        self, request: language_pb2.AboutRequest, context: grpc.ServicerContext
    ) -> language_pb2.AboutResponse:
        """The interpreter."""
        return language_pb2.AboutResponse(
            executable=sys.executable, version=platform.python_version()
        )

    def GetProgramDependencies(  # noqa: N802
        self, request: language_pb2.GetProgramDependenciesRequest, context: grpc.ServicerContext
    ) -> language_pb2.GetProgramDependenciesResponse:
        """The SDKs, which is what a program of this project uses of Pulumi."""
        return language_pb2.GetProgramDependenciesResponse(
            dependencies=[
                language_pb2.DependencyInfo(name=name, version=version(name))
                for name in ("pulumi", "pulumi-gcp", "pulumi-kubernetes")
            ]
        )

    def Run(  # noqa: N802
        self, request: language_pb2.RunRequest, context: grpc.ServicerContext
    ) -> language_pb2.RunResponse:
        """Run the program to its end; its output is this process's output."""
        order = {
            "program": request.info.entry_point or request.program,
            "pwd": request.pwd,
            "config": dict(request.config),
            "secret_keys": list(request.configSecretKeys),
            "settings": {
                "project": request.project,
                "stack": request.stack,
                "parallel": request.parallel,
                "dry_run": request.dryRun,
                "organization": request.organization,
                "monitor": request.monitor_address,
                "engine": self._engine,
                "root_directory": request.info.root_directory,
            },
        }
        with self._lock:
            self._program = subprocess.Popen(
                [sys.executable, "-P", "-u", "-m", _MODULE, "--program"],
                stdin=subprocess.PIPE,
                text=True,
            )
        # By a pipe: configuration can hold secrets, and arguments can be read by everybody.
        self._program.communicate(json.dumps(order))
        code = self._program.returncode
        if code == 0:
            return language_pb2.RunResponse()
        if code == _SHOWN:
            return language_pb2.RunResponse(bail=True)
        return language_pb2.RunResponse(error=f"The program ended with exit code {code}.")

    def Cancel(  # noqa: N802
        self, request: empty_pb2.Empty, context: grpc.ServicerContext
    ) -> empty_pb2.Empty:
        """End the program: the engine asks for nothing more."""
        self.end_program()
        return empty_pb2.Empty()

    def end_program(self) -> None:
        """End the program if it runs."""
        with self._lock:
            if self._program is not None and self._program.poll() is None:
                self._program.terminate()


def serve(engine: str) -> NoReturn:
    """Serve until SIGINT or SIGTERM, by which the CLI ends a host; prints the port."""
    host = LanguageHost(engine)
    server = grpc.server(
        futures.ThreadPoolExecutor(max_workers=8),
        options=[("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)],
    )
    language_pb2_grpc.add_LanguageRuntimeServicer_to_server(host, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()

    def end(*_: object) -> None:
        host.end_program()
        os._exit(0)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()
    server.wait_for_termination()
    sys.exit(0)


def run_program() -> int:
    """Run the program that stdin orders; returns its exit code."""
    order = json.load(sys.stdin)
    runtime.set_all_config(order["config"], order["secret_keys"])
    runtime.configure(runtime.Settings(**order["settings"]))
    os.chdir(order["pwd"])
    sys.argv = [order["program"]]
    # A program that fails leaves outputs that nobody awaits, and asyncio would name each of them.
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)

    def program() -> None:
        runpy.run_path(order["program"], run_name="__main__")

    try:
        loop.run_until_complete(runtime.run_in_stack(program))
    except pulumi.RunError as error:
        pulumi.log.error(str(error))
        return _SHOWN
    except Exception:  # noqa: BLE001 (whatever a program raises is shown to its author)
        said = traceback.format_exc()
        pulumi.log.error(f"Program failed with an unhandled exception:\n{said}")
        return _SHOWN
    finally:
        loop.close()
    return 0


def main() -> None:
    """Install, serve, or run a program."""
    parser = argparse.ArgumentParser(prog=f"python -m {_MODULE}", description=__doc__)
    parser.add_argument("--install", type=Path, metavar="DIR", help="write the launcher there")
    parser.add_argument("--program", action="store_true", help="run the program ordered by stdin")
    parser.add_argument("engine", nargs="?", default="", help="address of the engine")
    given, _ = parser.parse_known_args()
    if given.install:
        install(given.install, Path(sys.executable))
    elif given.program:
        sys.exit(run_program())
    else:
        serve(given.engine)


if __name__ == "__main__":
    main()
