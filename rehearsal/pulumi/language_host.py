"""A Python language host for a Pulumi CLI that was installed without the official one.

Runs programs for `pulumi preview`, `up`, `refresh` and `destroy`, each in its own process; the
Automation API's inline programs need no host. Methods that are missing here answer UNIMPLEMENTED,
which the CLI accepts.

    python -m rehearsal.pulumi.language_host ENGINE_ADDRESS   as the CLI starts it
"""

import argparse
import asyncio
import json
import logging
import os
import runpy
import signal
import subprocess
import sys
import threading
import traceback
from concurrent import futures
from importlib.metadata import version
from typing import Any, NoReturn

import grpc
import pulumi
from google.protobuf import empty_pb2
from pulumi import runtime
from pulumi.runtime.proto import language_pb2, language_pb2_grpc, plugin_pb2

from rehearsal.machine.peers import OwnUserOnly

_SHOWN = 32
"""Exit code of a program that failed and printed its error (as the official host has it)."""
_MODULE = "rehearsal.pulumi.language_host"


class LanguageHost(language_pb2_grpc.LanguageRuntimeServicer):
    """The gRPC service that the CLI calls; `engine` is the address of the engine's own."""

    def __init__(self, engine: str) -> None:
        self._engine = engine
        self._program: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()

    def GetPluginInfo(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        """Return the version, which is that of the SDK."""
        return plugin_pb2.PluginInfo(version=version("pulumi"))

    def Run(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
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
        # Through a pipe: configuration can hold secrets, and everybody can read arguments.
        self._program.communicate(json.dumps(order))
        code = self._program.returncode
        if code == 0:
            return language_pb2.RunResponse()
        if code == _SHOWN:
            return language_pb2.RunResponse(bail=True)
        return language_pb2.RunResponse(error=f"The program ended with exit code {code}.")

    def Cancel(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        """End the program."""
        self.end_program()
        return empty_pb2.Empty()

    def end_program(self) -> None:
        """End the program if it runs."""
        with self._lock:
            if self._program is not None and self._program.poll() is None:
                self._program.terminate()


def serve(engine: str) -> NoReturn:
    """Print the port and serve this user until SIGINT or SIGTERM, by which the CLI ends a host."""
    host = LanguageHost(engine)
    own_user = OwnUserOnly()
    server = grpc.server(
        futures.ThreadPoolExecutor(max_workers=8),
        interceptors=[own_user],
        options=[("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)],
    )
    language_pb2_grpc.add_LanguageRuntimeServicer_to_server(host, server)
    own_user.port = server.add_insecure_port("127.0.0.1:0")
    server.start()

    def end(*_: object) -> None:
        host.end_program()
        os._exit(0)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    sys.stdout.write(f"{own_user.port}\n")
    sys.stdout.flush()
    server.wait_for_termination()
    sys.exit(0)


def run_program() -> int:
    """Run the program that stdin describes; return its exit code."""
    order = json.load(sys.stdin)
    runtime.set_all_config(order["config"], order["secret_keys"])
    runtime.configure(runtime.Settings(**order["settings"]))
    os.chdir(order["pwd"])
    sys.argv = [order["program"]]
    # A program that fails leaves outputs that are never awaited; asyncio would log each of them.
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
        shown = traceback.format_exc()
        pulumi.log.error(f"Program failed with an unhandled exception:\n{shown}")
        return _SHOWN
    finally:
        loop.close()
    return 0


def main() -> None:
    """Serve, or run a program."""
    parser = argparse.ArgumentParser(prog=f"python -m {_MODULE}", description=__doc__)
    parser.add_argument("--program", action="store_true", help="run the program given on stdin")
    parser.add_argument("engine", nargs="?", default="", help="address of the engine")
    given, _ = parser.parse_known_args()
    if given.program:
        sys.exit(run_program())
    serve(given.engine)


if __name__ == "__main__":
    main()
