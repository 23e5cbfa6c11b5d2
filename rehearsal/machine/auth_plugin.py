"""A local `gke-gcloud-auth-plugin`: the same kubeconfig as on GKE gets a credential here.

On GKE the plugin prints an access token of the Google user, whom the cluster takes for an
administrator. Here it prints a token that every local cluster's API server knows from its static
token file, for an administrator too. It is valid for this rehearsal's clusters alone.
"""

import secrets
from pathlib import Path

from rehearsal.machine.home import Home

NAME = "gke-gcloud-auth-plugin"

_SCRIPT = """\
#!/bin/sh
# Answers in the version of the ExecCredential API that it is asked in (client-go, plugin/exec).
case "$KUBERNETES_EXEC_INFO" in
*'client.authentication.k8s.io/v1"'*) version=v1 ;;
*) version=v1beta1 ;;
esac
printf '{"kind": "ExecCredential", "apiVersion": "client.authentication.k8s.io/%%s", ' "$version"
printf '"status": {"token": "%(token)s"}}\\n'
"""


def write_plugin(home: Home) -> None:
    """Write the clusters' token file, and the plugin that prints its one token."""
    token = secrets.token_urlsafe(32)
    _write(home.token_file, f'{token},rehearsal-user,rehearsal-user,"system:masters"\n', 0o600)
    home.programs.mkdir(exist_ok=True)
    _write(home.programs / NAME, _SCRIPT % {"token": token}, 0o700)


def _write(path: Path, text: str, mode: int) -> None:
    path.touch(mode=mode)
    path.write_text(text, encoding="ascii")
