"""IAM: policies of resources, tokens, and the project itself.

Policies are kept, their etags and versions checked. They are enforced where a missing grant would
otherwise be noticed too late: for the writer of a log sink and for the account of a scheduled job.
Callers with the rehearsal's login (rehearsal.google.access.login) may do anything. To deny
permissions, put a DENIED_PERMISSIONS resource named `projects/P` with a key for each into the
state.
"""

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from urllib.parse import parse_qs

from rehearsal.google.access.conditions import check_condition, holds
from rehearsal.google.access.login import Login
from rehearsal.google.collections import project_number
from rehearsal.google.http import Endpoint, GoogleError, body_of
from rehearsal.google.state import GoogleState, Json, Kind
from rehearsal.machine.web import Call

_ROLE = re.compile(r"roles/[A-Za-z0-9_.]+")
"""Predefined ones: there are no custom roles here."""
_PREDEFINED = {
    "container.clusters.delete": {
        "roles/container.admin",
        "roles/container.clusterAdmin",
        "roles/editor",
        "roles/owner",
    },
    "storage.objects.get": {
        "roles/storage.admin",
        "roles/storage.objectAdmin",
        "roles/storage.objectUser",
        "roles/storage.objectViewer",
    },
    "storage.objects.create": {
        "roles/storage.admin",
        "roles/storage.objectAdmin",
        "roles/storage.objectCreator",
        "roles/storage.objectUser",
    },
}
"""Predefined roles by the permissions that this server checks."""
_GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_BASIC = {"roles/editor", "roles/owner", "roles/viewer"}
_WITH_CONDITIONS = 3
"""Version of a policy that has conditional bindings, and of the requests that see them."""
_NO_POLICY: Json = {"version": 1, "bindings": []}
_HOUR_S = 3600


def read_policy(state: GoogleState, resource: str, version: int = _WITH_CONDITIONS) -> Json:
    """Return the policy of a resource, with its etag.

    Below version 3 it shows no conditions, but names of roles that cannot be written back:
    https://docs.cloud.google.com/iam/docs/troubleshooting-withcond
    """
    policy = state.get(Kind.POLICY, resource) or _NO_POLICY
    _check_version(version)
    shown = policy
    if version < policy["version"]:
        bindings = [_without_condition(binding) for binding in policy["bindings"]]
        shown = {"version": 1, "bindings": bindings}
    return {**shown, "etag": _etag(policy)}


def write_policy(state: GoogleState, resource: str, policy: Json, stale: GoogleError) -> Json:
    """Replace the policy of a resource; raise `stale` if the policy's etag is an older one's.

    Raises:
        GoogleError: `stale`, or a binding names no existing role or member, or has a condition
            that is wrong or needs version 3.
    """
    bindings = policy.get("bindings", [])
    version = policy.get("version") or 1
    _check_version(version)
    for binding in bindings:
        _check_binding(state, binding, version)
    conditional = any("condition" in binding for binding in bindings)
    new = {"version": _WITH_CONDITIONS if conditional else 1, "bindings": bindings}

    def change(present: Json) -> None:
        if policy.get("etag") not in {None, "", _etag(present)}:
            raise stale
        if policy.get("etag") and version < present["version"]:
            # https://github.com/hashicorp/vault-plugin-secrets-gcp/issues/88
            sentence = (
                f"Specified policy version ({version}) cannot be less than the existing policy "
                f"version ({present['version']})."
            )
            raise GoogleError(400, sentence)
        present.clear()
        present.update(new)

    state.update(Kind.POLICY, resource, change, default=_NO_POLICY)
    return read_policy(state, resource)


def may(
    state: GoogleState,
    resource: str,
    member: str,
    permission: str,
    attributes: Mapping[str, str] | None = None,
) -> bool:
    """Return whether a member, such as `serviceAccount:E-MAIL`, holds a permission on a resource.

    `permission` is one of those that this server checks. Grants with a condition count if it is
    true of these attributes.
    """
    roles = _PREDEFINED[permission]
    bindings = read_policy(state, resource)["bindings"]
    return any(
        binding["role"] in roles
        and member in binding.get("members", [])
        and ("condition" not in binding or holds(binding["condition"], attributes or {}))
        for binding in bindings
    )


def check_account(state: GoogleState, email: str) -> None:
    """Refuse a user's service account that does not exist.

    Accounts of Google's own services (service-N@gcp-sa-...) exist without being created.
    """
    project = email.partition("@")[2].removesuffix(".iam.gserviceaccount.com")
    ours = email.endswith(".iam.gserviceaccount.com") and not project.startswith("gcp-sa-")
    if ours and not state.get(Kind.SERVICE_ACCOUNT, f"projects/{project}/serviceAccounts/{email}"):
        raise GoogleError(400, f"Service account {email} does not exist.")


class Iam:
    """The methods of Resource Manager and OAuth over a state."""

    def __init__(self, state: GoogleState, login: Login) -> None:
        self._state = state
        self._login = login

    def routes(self) -> list[Endpoint]:
        """Return the endpoints below /crm/, and /token."""
        project = "/crm/v1/projects/{project}"
        return [
            Endpoint("POST", f"{project}:getIamPolicy", self._read_policy),
            Endpoint("POST", f"{project}:setIamPolicy", self._write_policy),
            Endpoint("POST", f"{project}:testIamPermissions", self._test_permissions),
            Endpoint("GET", project, self._get_project),
            Endpoint("POST", "/token", self._token),
        ]

    def _read_policy(self, call: Call) -> Json:
        options = body_of(call).get("options", {})
        version = int(options.get("requestedPolicyVersion", 1))
        return read_policy(self._state, f"projects/{call.path['project']}", version)

    def _write_policy(self, call: Call) -> Json:
        stale = GoogleError(
            409,
            "There were concurrent policy changes. Please retry the whole read-modify-write with "
            "exponential backoff.",
            status="ABORTED",
            reason="aborted",
        )
        policy = body_of(call).get("policy", {})
        return write_policy(self._state, f"projects/{call.path['project']}", policy, stale)

    def _get_project(self, call: Call) -> Json:
        """Return the project: every id is that of an active one."""
        project = call.path["project"]
        return {
            "projectId": project,
            "projectNumber": project_number(project),
            "name": project,
            "lifecycleState": "ACTIVE",
        }

    def _test_permissions(self, call: Call) -> Json:
        """Return the requested permissions except those that are denied."""
        denied = self._state.get(Kind.DENIED_PERMISSIONS, f"projects/{call.path['project']}") or {}
        requested = body_of(call).get("permissions", [])
        if not requested or any("*" in permission for permission in requested):
            raise GoogleError(400, "Permissions must be named, one at least, without wildcards.")
        held = [permission for permission in requested if permission not in denied]
        return {"permissions": held} if held else {}

    def _token(self, call: Call) -> Json:
        """Return the access token for a request that the account signed."""
        form = {name: values[-1] for name, values in parse_qs(call.raw.decode()).items()}
        if form.get("grant_type") != _GRANT:
            raise GoogleError(400, f"The grant type must be {_GRANT}.")
        return {
            "access_token": self._login.exchange(form.get("assertion", "")),
            "expires_in": _HOUR_S,
            "token_type": "Bearer",
        }


def _check_version(version: int) -> None:
    if version not in {0, 1, _WITH_CONDITIONS}:
        raise GoogleError(400, f"Invalid policy version {version}: it must be 0, 1 or 3.")


def _without_condition(binding: Json) -> Json:
    if "condition" not in binding:
        return binding
    digest = hashlib.sha256(repr(binding["condition"]).encode()).hexdigest()[:20]
    return {"role": f"{binding['role']}_withcond_{digest}", "members": binding["members"]}


def _check_binding(state: GoogleState, binding: Json, version: int) -> None:
    role = binding.get("role", "")
    if "condition" in binding:
        if version != _WITH_CONDITIONS:
            raise GoogleError(400, "A policy with conditional role bindings must have version 3.")
        if role in _BASIC:  # https://github.com/hashicorp/terraform-provider-google/issues/7833
            raise GoogleError(400, f"Conditions can't be set on the basic role {role}.")
        check_condition(binding["condition"])
    if not _ROLE.fullmatch(role) or "_withcond_" in role:
        raise GoogleError(400, f"Role {role} is not supported for this resource.")
    for member in binding.get("members", []):
        kind, _, email = member.partition(":")
        if kind == "serviceAccount":
            check_account(state, email)


def _etag(policy: Json) -> str:
    digest = hashlib.sha256(json.dumps(policy, sort_keys=True).encode()).digest()
    return base64.b64encode(digest[:8]).decode()
