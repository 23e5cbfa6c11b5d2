"""The event exporter's pods get the real program.

Its metrics port wants the administrator's certificate.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import yaml

from rehearsal.cluster.control_plane import LocalControlPlane
from rehearsal.cluster.pod_host import Program, Start
from tools.programs import locate

NAME = "exporter"


def exporter(configure: Callable[[str], str]) -> Program:
    """Return the program; `configure` may change its configuration."""
    return Program(NAME, "/kubernetes-event-exporter", _command, configure)


def _command(start: Start) -> Sequence[str | Path]:
    metrics = _write_metrics(start.plane, start.folder)
    own = ["-metrics-address=127.0.0.1:0", f"-metrics-tls-config={metrics}"]
    if start.kubeconfig:
        own.append(f"-kubeconfig={start.kubeconfig}")
    return [locate("kubernetes-event-exporter").path, *start.arguments, *own]


def _write_metrics(plane: LocalControlPlane, folder: Path) -> Path:
    """Write a configuration of the metrics port that accepts the administrator alone."""
    path = folder / "metrics.yaml"
    settings = {
        "cert_file": str(plane.admin_certificate),
        "key_file": str(plane.admin_key),
        "client_auth_type": "RequireAndVerifyClientCert",
        "client_ca_file": str(plane.authority),
    }
    path.write_text(yaml.safe_dump({"tls_server_config": settings}), encoding="utf-8")
    return path
