"""Serve the fake providers: `python -m rehearsal.pulumi.providers [--only gcp|kubernetes]`.

Prints one line of JSON, {"gcp": PORT, "kubernetes": PORT}, for PULUMI_DEBUG_PROVIDERS, and serves
on loopback until SIGTERM. Ignores Ctrl-C: the engine waits for the operations that it started.
"""

import argparse
import json
import os
import signal
import sys

from rehearsal.pulumi.providers.gcp import GcpProvider
from rehearsal.pulumi.providers.kubernetes import KubernetesProvider
from rehearsal.pulumi.providers.servicer import serve


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(
        prog="python -m rehearsal.pulumi.providers", description=__doc__
    )
    parser.add_argument("--only", choices=["gcp", "kubernetes"], help="serve one of them")
    only = parser.parse_args().only
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Exit without waiting for calls in flight: a resource is in the cloud or it is not.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
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


if __name__ == "__main__":
    main()
