"""IAM: who may do what. Service accounts, policies of resources, tokens.

Policies are kept and their etags held to. They are enforced where nobody would notice a missing
grant until it is too late: for the writer of a log sink and for the account of a scheduler's job.
Callers may do anything: any token is let in, none is not. A test or a user makes testIamPermissions
say otherwise by a LACKING resource named `projects/P` with a key for each permission.
"""

import base64
import hashlib
import json
import re
from urllib.parse import parse_qs

from rehearsal.google.http import Call, Endpoint, GoogleError, required
from rehearsal.google.state import AlreadyExistsError, GoogleState, Json, Kind

_ACCOUNT_ID = re.compile(r"[a-z][-a-z0-9]{4,28}[a-z0-9]")
_ROLE = re.compile(r"(?:roles|projects/[^/]+/roles|organizations/[^/]+/roles)/[A-Za-z0-9_.]+")
_PREDEFINED = {
    "container.clusters.delete": {
        "roles/container.admin",
        "roles/container.clusterAdmin",
        "roles/editor",
        "roles/owner",
    },
    "storage.objects.create": {
        "roles/storage.admin",
        "roles/storage.objectAdmin",
        "roles/storage.objectCreator",
        "roles/storage.objectUser",
    },
}
"""Predefined roles by the permissions that this server looks at."""
_GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_NO_POLICY: Json = {"version": 1, "bindings": []}
_HOUR_S = 3600


def project_number(project: str) -> str:
    """The number of a project: twelve digits that depend on its id."""
    return str(10**11 + int(hashlib.sha256(project.encode()).hexdigest(), 16) % (9 * 10**11))


def read_policy(state: GoogleState, resource: str) -> Json:
    """The policy of a resource, with its etag."""
    policy = state.get(Kind.POLICY, resource) or _NO_POLICY
    return {**policy, "etag": _etag(policy)}


def write_policy(state: GoogleState, resource: str, policy: Json, stale: GoogleError) -> Json:
    """Replace the policy of a resource.

    Args:
        state: holds it.
        resource: full name.
        policy: the new one; with an etag, only if the present one has it.
        stale: raised when it has not.

    Raises:
        GoogleError: `stale`, or a role or member that is none.
    """
    bindings = policy.get("bindings", [])
    for binding in bindings:
        _check_binding(state, binding)
    new = {"version": policy.get("version") or 1, "bindings": bindings}

    def change(present: Json) -> None:
        if policy.get("etag") not in {None, "", _etag(present)}:
            raise stale
        present.clear()
        present.update(new)

    state.update(Kind.POLICY, resource, change, default=dict(_NO_POLICY))
    return read_policy(state, resource)


def may(state: GoogleState, resource: str, member: str, permission: str) -> bool:
    """Whether a member holds a permission on a resource, by a predefined role or by a custom one.

    Args:
        state: holds policies and custom roles.
        resource: full name of what has a policy.
        member: such as `serviceAccount:E-MAIL`.
        permission: one of those that this server looks at.
    """
    roles = _PREDEFINED[permission] | {
        role["name"]
        for role in state.find(Kind.ROLE)
        if permission in role.get("includedPermissions", []) and not role.get("deleted")
    }
    bindings = read_policy(state, resource)["bindings"]
    return any(
        binding["role"] in roles and member in binding.get("members", []) for binding in bindings
    )


class Iam:
    """The methods of IAM, Resource Manager and OAuth over a state."""

    def __init__(self, state: GoogleState) -> None:
        self._state = state

    def routes(self) -> list[Endpoint]:
        """Routes below /iam/, /crm/ and the OAuth endpoints."""
        accounts = "/iam/{version}/projects/{project}/serviceAccounts"
        project = "/crm/{version}/projects/{project}"
        return [
            *policy_routes(self._state, f"{accounts}/{{account}}"),
            Endpoint("POST", accounts, self.create_account),
            Endpoint("GET", accounts, self.list_accounts),
            Endpoint("GET", f"{accounts}/{{account}}", self.get_account),
            Endpoint("PATCH", f"{accounts}/{{account}}", self.patch_account),
            Endpoint("DELETE", f"{accounts}/{{account}}", self.delete_account),
            *policy_routes(self._state, project),
            Endpoint("POST", f"{project}:testIamPermissions", self.test_permissions),
            Endpoint("GET", project, self.get_project),
            Endpoint("POST", "/token", self.token),
            Endpoint("GET", "/userinfo", self.user_info),
            Endpoint("GET", "/tokeninfo", self.user_info),
        ]

    def create_account(self, call: Call) -> Json:
        """Make a service account."""
        project = call.path["project"]
        account_id = required(call.body, "accountId")
        if not _ACCOUNT_ID.fullmatch(account_id):
            sentence = (
                f'Invalid account id "{account_id}": it must be 6 to 30 lower-case letters, '
                "digits and -, beginning with a letter."
            )
            raise GoogleError(400, sentence)
        email = f"{account_id}@{project}.iam.gserviceaccount.com"
        given = call.body.get("serviceAccount", {})
        account = {
            **{field: given[field] for field in ("displayName", "description") if field in given},
            "name": f"projects/{project}/serviceAccounts/{email}",
            "projectId": project,
            "uniqueId": str(10**20 + int(hashlib.sha256(email.encode()).hexdigest(), 16) % 10**20),
            "email": email,
            "oauth2ClientId": project_number(email),
        }
        try:
            self._state.create(Kind.SERVICE_ACCOUNT, account["name"], account)
        except AlreadyExistsError:
            sentence = f"Service account {account_id} already exists within project"
            raise GoogleError(409, f"{sentence} projects/{project}.") from None
        return account

    def get_account(self, call: Call) -> Json:
        """One service account, by e-mail address or unique id; `-` for any project."""
        return self._account(call)

    def list_accounts(self, call: Call) -> Json:
        """The service accounts of a project."""
        prefix = f"projects/{call.path['project']}/serviceAccounts/"
        return {"accounts": self._state.find(Kind.SERVICE_ACCOUNT, prefix)}

    def patch_account(self, call: Call) -> Json:
        """Change what a service account is called."""
        account = self._account(call)
        new = call.body.get("serviceAccount", {})

        def change(present: Json) -> None:
            for field in call.body.get("updateMask", "").split(","):
                if field not in {"displayName", "display_name", "description"}:
                    raise GoogleError(400, f"The field '{field}' cannot be updated.")
                name = "displayName" if field == "display_name" else field
                present[name] = new.get(name, "")

        return self._state.update(Kind.SERVICE_ACCOUNT, account["name"], change)

    def delete_account(self, call: Call) -> Json:
        """Delete a service account."""
        self._state.delete(Kind.SERVICE_ACCOUNT, self._account(call)["name"])
        return {}

    def get_project(self, call: Call) -> Json:
        """The project: every id is one that exists and is active."""
        project = call.path["project"]
        return {
            "projectId": project,
            "projectNumber": project_number(project),
            "name": project,
            "displayName": project,
            "lifecycleState": "ACTIVE",
            "state": "ACTIVE",
        }

    def test_permissions(self, call: Call) -> Json:
        """Those of some permissions that the caller holds: all but those taken from everybody."""
        lacking = self._state.get(Kind.LACKING, f"projects/{call.path['project']}") or {}
        asked = call.body.get("permissions", [])
        if not asked or any("*" in permission for permission in asked):
            raise GoogleError(400, "Permissions must be named, one at least, without wildcards.")
        held = [permission for permission in asked if permission not in lacking]
        return {"permissions": held} if held else {}

    def token(self, call: Call) -> Json:
        """An access token for a service account's signed request; the signature is not checked."""
        form = {name: values[-1] for name, values in parse_qs(call.raw.decode()).items()}
        if form.get("grant_type") != _GRANT:
            raise GoogleError(400, f"The grant type must be {_GRANT}.")
        account = _issuer(form.get("assertion", ""))
        token = hashlib.sha256(account.encode()).hexdigest()
        return {
            "access_token": f"rehearsal.{token}",
            "expires_in": _HOUR_S,
            "token_type": "Bearer",
        }

    def user_info(self, _call: Call) -> Json:
        """Who the caller is: always the same."""
        return {"email": "rehearsal@localhost.invalid", "email_verified": True}

    def _account(self, call: Call) -> Json:
        wanted, project = call.path["account"], call.path["project"]
        prefix = "projects/" if project == "-" else f"projects/{project}/"
        for account in self._state.find(Kind.SERVICE_ACCOUNT, prefix):
            if wanted in {account["email"], account["uniqueId"]}:
                return account
        raise GoogleError(404, f"Service account {wanted} does not exist.")


def policy_routes(state: GoogleState, resource: str) -> list[Endpoint]:
    """Routes that read and write the IAM policies of the resources at a path.

    Args:
        state: holds the policies.
        resource: the path, with `/API/{version}/` before the resource's full name.
    """
    stale = GoogleError(
        409,
        "There were concurrent policy changes. Please retry the whole read-modify-write with "
        "exponential backoff.",
        status="ABORTED",
        reason="aborted",
    )

    def name(call: Call) -> str:
        return resource.split("/", 3)[3].format(**call.path)

    def read(call: Call) -> Json:
        return read_policy(state, name(call))

    def write(call: Call) -> Json:
        return write_policy(state, name(call), call.body.get("policy", {}), stale)

    return [
        Endpoint("POST", f"{resource}:getIamPolicy", read),
        Endpoint("GET", f"{resource}:getIamPolicy", read),
        Endpoint("POST", f"{resource}:setIamPolicy", write),
    ]


def _check_binding(state: GoogleState, binding: Json) -> None:
    role = binding.get("role", "")
    custom = state.get(Kind.ROLE, role) if role.startswith("projects/") else {}
    if not _ROLE.fullmatch(role) or custom is None or custom.get("deleted"):
        raise GoogleError(400, f"Role {role} is not supported for this resource.")
    for member in binding.get("members", []):
        kind, _, email = member.partition(":")
        project = email.partition("@")[2].removesuffix(".iam.gserviceaccount.com")
        ours = kind == "serviceAccount" and email.endswith(f"@{project}.iam.gserviceaccount.com")
        name = f"projects/{project}/serviceAccounts/{email}"
        # Accounts of Google's own services (service-N@gcp-sa-...) exist without being made.
        if ours and not project.startswith("gcp-sa-") and not state.get(Kind.SERVICE_ACCOUNT, name):
            raise GoogleError(400, f"Service account {email} does not exist.")


def _etag(policy: Json) -> str:
    digest = hashlib.sha256(json.dumps(policy, sort_keys=True).encode()).digest()
    return base64.b64encode(digest[:8]).decode()


def _issuer(assertion: str) -> str:
    try:
        _header, claims, _signature = assertion.split(".")
        return str(json.loads(base64.urlsafe_b64decode(claims + "=="))["iss"])
    except (ValueError, KeyError, TypeError) as error:
        raise GoogleError(400, f"The assertion is not a signed token: {error}.") from None
