"""Serves the stand-ins: `python -m rehearsal.pulumi.providers [--only gcp|kubernetes]`.

Prints one line of JSON, {"gcp": PORT, "kubernetes": PORT}, for PULUMI_DEBUG_PROVIDERS, and serves
on the loopback address until SIGTERM, which ends it at once. Ctrl-C is left to the engine, which
first waits for what it started.
"""

import argparse
import json
import os
import shutil
import signal
import sys
from typing import NoReturn

from rehearsal.pulumi.providers.gcp import GcpProvider
from rehearsal.pulumi.providers.kubernetes import KubernetesProvider
from rehearsal.pulumi.providers.kubernetes_api import SCRATCH
from rehearsal.pulumi.providers.servicer import serve


def main() -> None:
    """Serve until ended."""
    parser = argparse.ArgumentParser(
        prog="python -m rehearsal.pulumi.providers", description=__doc__
    )
    parser.add_argument("--only", choices=["gcp", "kubernetes"], help="serve one of them")
    only = parser.parse_args().only
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: _end())
    providers = [
        each for each in (GcpProvider(), KubernetesProvider()) if only in {None, each.name}
    ]
    served = {provider.name: serve(provider) for provider in providers}
    sys.stdout.write(json.dumps({name: port for name, (_, port) in served.items()}) + "\n")
    sys.stdout.flush()
    for provider in providers:
        provider.warm_up()
    for server, _ in served.values():
        server.wait_for_termination()


def _end() -> NoReturn:
    """End without waiting for calls in flight: a resource is in the cloud or it is not."""
    shutil.rmtree(SCRATCH, ignore_errors=True)
    os._exit(0)


if __name__ == "__main__":
    main()
