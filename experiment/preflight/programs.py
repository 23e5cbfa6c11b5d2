"""Checks of the programs that a run calls: each is run, and the login that they use is one."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence

from experiment.errors import Failure
from experiment.preflight.findings import Finding, listed, ok, stop
from schema.names import OTHER_LOGIN_VARIABLES
from schema.project_files import SETUP

AUTH_PLUGIN = ("gke-gcloud-auth-plugin", "--use_application_default_credentials")
"""As the cluster's kubeconfig runs it (infra.components.cluster.kubeconfig)."""
_COMMANDS: Mapping[Sequence[str], str] = {
    ("pulumi", "version"): f"see https://www.pulumi.com/docs/install/, or {SETUP}",
    ("skopeo", "--version"): "apt-get install skopeo (or brew install skopeo)",
    AUTH_PLUGIN: "apt-get install google-cloud-cli-gke-gcloud-auth-plugin where gcloud came by "
    "apt, else gcloud components install gke-gcloud-auth-plugin",
}
_TIMEOUT_S = 60


def check_programs() -> Iterator[Finding]:
    """Check that each program that a run calls can be run."""
    for command, install in _COMMANDS.items():
        program = command[0]
        where = shutil.which(program)
        if where is None:
            yield stop("programs", f"{program} is not on PATH, and a run needs it.", install)
            continue
        output, problem = _run(command)
        if command is AUTH_PLUGIN:
            yield _login(output, problem)
        elif problem:
            yield stop("programs", f"{' '.join(command)} failed: {problem}.", install)
        else:
            yield ok("programs", f"{program} is {where}")


def check_login() -> Iterator[Finding]:
    """Check that Pulumi logs in to Google as the runner and the cluster's kubeconfig do."""
    others = [name for name in OTHER_LOGIN_VARIABLES if os.environ.get(name)]
    if others:
        yield stop(
            "login",
            f"Pulumi would log in by {listed(others)}, the runner and the cluster's kubeconfig by "
            "application-default credentials: an account that lacks permissions would be noticed "
            "once the cluster is up and costs money.",
            f"unset {' '.join(others)}; then gcloud auth application-default login, with "
            "--impersonate-service-account ACCOUNT to act as a service account",
            Failure.PERMISSION,
        )


def _login(output: str, problem: str) -> Finding:
    try:
        token = json.loads(output)["status"]["token"]
    except (ValueError, KeyError, TypeError):
        token = ""
    if not token:
        return stop(
            "login",
            f"{' '.join(AUTH_PLUGIN)} gets no token: {problem or 'its answer holds none'}. The "
            "cluster could not be used once it is up and costs money.",
            "gcloud auth application-default login",
            Failure.PERMISSION,
        )
    return ok("login", f"{AUTH_PLUGIN[0]} gets a token by application-default credentials")


def _run(command: Sequence[str]) -> tuple[str, str]:
    """Return a command's output and what is wrong, as the end of a sentence; one is empty."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return "", f"no answer within {_TIMEOUT_S} s"
    except OSError as error:
        return "", str(error)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        return "", last.rstrip(".")
    return done.stdout.strip(), ""
