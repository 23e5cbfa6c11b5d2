"""The variables that make any program of this project run against the local Google.

Nothing else distinguishes a rehearsal from a run: programs read these as on Google Cloud.
"""

import json
import os

from rehearsal.google.access.login import Login, login_file
from rehearsal.machine.home import HOME_VARIABLE, Home, write_json
from rehearsal.machine.options import Options
from rehearsal.machine.programs import PROVIDERS
from schema.names import (
    LOGGING_ENDPOINT_VARIABLE,
    OTHER_LOGIN_VARIABLES,
    PROJECT_VARIABLE,
    REHEARSAL_VARIABLE,
    REMOVER_DIGEST_VARIABLE,
)
from schema.run_records import Rehearsal

PROJECT = "pull-study-rehearsal"

ENDPOINTS = {
    "ARTIFACT_REGISTRY": "artifacts/v1/",
    "CLOUD_SCHEDULER": "scheduler/v1/",
    "COMPUTE": "compute/beta/",
    "CONTAINER": "container/v1beta1/",
    "IAM_BETA": "iam/v1/",
    "LOGGING": "logging/v2/",
    "RESOURCE_MANAGER": "crm/v1/",
    "RESOURCE_MANAGER_V3": "crm/v3/",
    "SERVICE_USAGE": "serviceusage/v1/",
    "STORAGE": "storage/v1/",
}
"""What GOOGLE_..._CUSTOM_ENDPOINT ends with, as Pulumi's gcp provider reads it."""


def google_variables(home: Home, login: Login, *, url: str, logging: str) -> dict[str, str]:
    """Return the variables of Google's clients and of Pulumi; write the credentials' file.

    `url` has no slash at its end; `logging` is host:port of plaintext gRPC.
    """
    credentials = home.folder / "credentials.json"
    write_json(credentials, login_file(login, PROJECT, url))
    return {
        **{f"GOOGLE_{name}_CUSTOM_ENDPOINT": f"{url}/{path}" for name, path in ENDPOINTS.items()},
        LOGGING_ENDPOINT_VARIABLE: logging,
        PROJECT_VARIABLE: PROJECT,
        "GOOGLE_PROJECT": PROJECT,  # the provider's first choice, which a user may have set
        **dict.fromkeys(OTHER_LOGIN_VARIABLES, ""),
        "GOOGLE_OAUTH_ACCESS_TOKEN": login.token,
        "GOOGLE_APPLICATION_CREDENTIALS": str(credentials),
        "CONTAINERS_REGISTRIES_CONF": str(home.registries_conf),
        REMOVER_DIGEST_VARIABLE: "",
        "PULUMI_HOME": str(home.folder / "pulumi"),
        "PULUMI_BACKEND_URL": f"file://{home.folder / 'pulumi-state'}",
        "PULUMI_CONFIG_PASSPHRASE": "",
        "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
        "PULUMI_SKIP_UPDATE_CHECK": "true",
        "PULUMI_GCP_SKIP_REGION_VALIDATION": "true",
        HOME_VARIABLE: str(home.folder),
        **_past_proxies(),
    }


def debug_providers(ports: dict[str, int]) -> dict[str, str]:
    """Return the variable that makes Pulumi use providers that listen on these ports."""
    text = ",".join(f"{name}:{port}" for name, port in sorted(ports.items()))
    return {"PULUMI_DEBUG_PROVIDERS": text} if text else {}


def rehearsal_variable(options: Options, *, official: set[str]) -> dict[str, str]:
    """Return the variable that describes the rehearsal for the records of runs."""
    kind = {
        "real": "real nodes (kubelet and containerd) that share one machine",
        "simulated": "simulated nodes: a model computed every pull time; nothing was pulled",
    }
    fakes = sorted(set(PROVIDERS) - official)
    note = f"{kind[options.nodes]}; a local Google; images of {options.scale:.3g} x the bytes"
    note += "; MiniClusters, if any, by a stand-in of their operator and of Flux"
    if options.speed != 1:
        note += f"; {options.speed:g} times faster than the clock"
    if not options.rate_limits:
        note += "; a control plane without its rate limits"
    if fakes:
        note += f"; fake Pulumi providers {' and '.join(fakes)}"
    record = Rehearsal(
        nodes=options.nodes,
        scale=options.scale,
        note=note,
        speed=options.speed,
        faults=options.faults,
    )
    return {REHEARSAL_VARIABLE: json.dumps(record.model_dump())}


def _past_proxies() -> dict[str, str]:
    """Return the variables that except loopback from a user's proxy."""
    set_before = os.environ.get("NO_PROXY") or os.environ.get("no_proxy") or ""
    hosts = ",".join(
        dict.fromkeys([*filter(None, set_before.split(",")), "127.0.0.1", "localhost"])
    )
    return {"NO_PROXY": hosts, "no_proxy": hosts}
