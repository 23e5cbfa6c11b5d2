"""Service accounts, custom roles and single grants ("members") of IAM policies.

A grant is read, modified and written back with the policy's etag, and again if somebody else wrote
in between. Deliberately without bindings and whole policies, which take rights away from others.
"""

import threading
from abc import abstractmethod
from collections import defaultdict
from typing import Any, ClassVar

from rehearsal.pulumi.providers.base import ProviderError
from rehearsal.pulumi.providers.differences import Rules
from rehearsal.pulumi.providers.gcp_kind import Kind, Pattern, Update, project_of
from rehearsal.pulumi.providers.gcp_translate import Table
from rehearsal.pulumi.providers.google_rest import ApiError, GoogleApi, Json
from rehearsal.pulumi.providers.properties import Props

_CONFLICTS = frozenset({409, 412})
_LOCKS: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
"""One a policy: this process does not race itself."""
_MEMBER = Pattern(
    "allUsers|allAuthenticatedUsers|[A-Za-z]+:.+",
    "a member is written as user:NAME, serviceAccount:NAME, group:NAME or domain:NAME",
)
_ROLE = Pattern(
    "(projects/[^/]+/|organizations/[^/]+/)?roles/.+", "a role is written as roles/NAME"
)


class Account(Kind):
    """A service account."""

    resource_type: ClassVar = "gcp:serviceaccount/account:Account"
    supported: ClassVar = {"accountId", "deletionPolicy", "description", "displayName", "project"}
    table: ClassVar = Table(rows=dict.fromkeys(("accountId", "deletionPolicy", "project"), ""))
    rules: ClassVar = Rules(replace={"accountId", "project"}, computed={"project"})
    state_only: ClassVar = ("accountId", "deletionPolicy")
    patterns: ClassVar = {
        "accountId": Pattern(
            "[a-z](?:[-a-z0-9]{4,28}[a-z0-9])",
            "6 to 30 lower-case letters, digits and hyphens, beginning with a letter",
        )
    }

    def create(self, api: GoogleApi, inputs: Props) -> str:
        """POST."""
        project = project_of(api, inputs)
        body = {"accountId": inputs["accountId"], "serviceAccount": self.body(api, inputs)}
        account = api.call("iamBeta", "POST", f"projects/{project}/serviceAccounts", body=body)
        return str(account["name"])

    def fetch(self, api: GoogleApi, resource_id: str, inputs: Props) -> Json | None:
        """GET."""
        return api.find("iamBeta", resource_id)

    def outputs(self, api: GoogleApi, resource_id: str, body: Json) -> Props:
        """With the forms in which others name it."""
        email = str(body.get("email") or resource_id.rpartition("/")[2])
        return {
            **super().outputs(api, resource_id, body),
            "accountId": email.partition("@")[0],
            "email": email,
            "member": f"serviceAccount:{email}",
            "name": body.get("name", resource_id),
            "project": resource_id.split("/")[1],
            "uniqueId": body.get("uniqueId"),
            "disabled": body.get("disabled", False),
        }

    def update(self, api: GoogleApi, resource_id: str, update: Update) -> None:
        """PATCH of what differs."""
        account = {key: update.new.get(key, "") for key in ("displayName", "description")}
        mask = ",".join(sorted(update.tops & account.keys()))
        if mask:
            body = {"serviceAccount": account, "updateMask": mask}
            api.call("iamBeta", "PATCH", resource_id, body=body)

    def delete(self, api: GoogleApi, resource_id: str, state: Props) -> None:
        """DELETE."""
        api.remove("iamBeta", resource_id)


class CustomRole(Kind):
    """A role of a project's own."""

    resource_type: ClassVar = "gcp:projects/iAMCustomRole:IAMCustomRole"
    supported: ClassVar = {
        "deletionPolicy", "description", "permissions", "project", "roleId", "stage", "title",
    }  # fmt: skip
    table: ClassVar = Table(
        rows={"permissions": "includedPermissions"}
        | dict.fromkeys(("deletionPolicy", "project", "roleId"), "")
    )
    rules: ClassVar = Rules(
        replace={"project", "roleId"}, computed={"project"}, unordered={"permissions"}
    )
    defaults: ClassVar = {"stage": "GA"}
    state_only: ClassVar = ("deletionPolicy", "roleId")
    patterns: ClassVar = {
        "roleId": Pattern("[a-zA-Z0-9_.]{3,64}", "3 to 64 letters, digits, _ and .")
    }
    enums: ClassVar = {
        "stage": {"ALPHA", "BETA", "GA", "DEPRECATED", "DISABLED", "EAP"},
    }

    def create(self, api: GoogleApi, inputs: Props) -> str:
        """POST, or undelete and PATCH: a deleted role keeps its id for a week."""
        parent = f"projects/{project_of(api, inputs)}/roles"
        role = f"{parent}/{inputs['roleId']}"
        body = self.body(api, inputs)
        found = api.find("iamBeta", role)
        if found is None:
            content = {"roleId": inputs["roleId"], "role": body}
            api.call("iamBeta", "POST", parent, body=content)
        elif not found.get("deleted"):
            raise ProviderError(f"Custom project role {role} already exists and must be imported.")
        else:
            api.call("iamBeta", "POST", f"{role}:undelete", body={})
            self._patch(api, role, body)
        return role

    def _patch(self, api: GoogleApi, role: str, body: Json) -> None:
        mask = {"updateMask": "title,description,stage,includedPermissions"}
        api.call("iamBeta", "PATCH", role, body=body, params=mask)

    def fetch(self, api: GoogleApi, resource_id: str, inputs: Props) -> Json | None:
        """GET; a deleted role counts as gone."""
        role = api.find("iamBeta", resource_id)
        return None if role is None or role.get("deleted") else role

    def outputs(self, api: GoogleApi, resource_id: str, body: Json) -> Props:
        """With its full name, by which a grant names it."""
        parts = resource_id.split("/")
        return {
            **super().outputs(api, resource_id, body),
            "deleted": False,
            "name": resource_id,
            "project": parts[1],
            "roleId": parts[3],
        }

    def update(self, api: GoogleApi, resource_id: str, update: Update) -> None:
        """PATCH."""
        self._patch(api, resource_id, self.body(api, update.new))

    def delete(self, api: GoogleApi, resource_id: str, state: Props) -> None:
        """DELETE."""
        api.remove("iamBeta", resource_id)


class Grant(Kind):
    """One member of one role in the IAM policy of something. Any change makes it anew."""

    subject: ClassVar[str]
    """The property that names whose policy it is."""
    patterns: ClassVar = {"member": _MEMBER, "role": _ROLE}

    @abstractmethod
    def prefix(self, api: GoogleApi, inputs: Props) -> str:
        """The part of the id that names whose policy it is."""

    @abstractmethod
    def read_policy(self, api: GoogleApi, prefix: str) -> Json:
        """The policy, version 3."""

    @abstractmethod
    def write_policy(self, api: GoogleApi, prefix: str, policy: Json) -> None:
        """Write it; a policy with an old etag is refused."""

    def create(self, api: GoogleApi, inputs: Props) -> str:
        """Add the member."""
        prefix = self.prefix(api, inputs)
        self._modify(api, prefix, inputs, present=True)
        condition = inputs.get("condition", {}).get("title")
        tail = f"/{condition}" if condition else ""
        return f"{prefix}/{inputs['role']}/{inputs['member']}{tail}"

    def _modify(self, api: GoogleApi, prefix: str, inputs: Props, *, present: bool) -> None:
        pause = 0.1
        while True:
            with _LOCKS[f"{self.resource_type} {prefix}"]:
                policy = self.read_policy(api, prefix)
                if _has(policy, inputs) == present:
                    return
                changed = _with(policy, inputs) if present else _without(policy, inputs)
                try:
                    self.write_policy(api, prefix, changed)
                except ApiError as error:
                    if error.status not in _CONFLICTS:
                        raise
                else:
                    return
            api.pause(pause, f"the IAM policy of {prefix} to be written")
            pause = min(pause * 2, 5.0)

    def fetch(self, api: GoogleApi, resource_id: str, inputs: Props) -> Json | None:
        """The grant itself, if the policy has it."""
        grant = inputs or self._parsed(resource_id)
        try:
            policy = self.read_policy(api, self.prefix(api, grant))
        except ApiError as error:
            if error.status == 404:  # noqa: PLR2004 (HTTP)
                return None
            raise
        return {**grant, "etag": policy.get("etag")} if _has(policy, grant) else None

    def _parsed(self, resource_id: str) -> Props:
        """The grant that an id names: SUBJECT ROLE MEMBER, or with slashes between them."""
        words = resource_id.split(" ")
        if len(words) < 3:  # noqa: PLR2004 (subject, role, member)
            subject, _, rest = resource_id.partition("/roles/")
            role, _, member = rest.rpartition("/")
            words = [subject, f"roles/{role}", member]
        return {self.subject: words[0], "role": words[1], "member": words[2]}

    def outputs(self, api: GoogleApi, resource_id: str, body: Json) -> Props:
        """The grant and the policy's etag."""
        return dict(body)

    def update(self, api: GoogleApi, resource_id: str, update: Update) -> None:
        """Nothing of a grant changes in place."""

    def delete(self, api: GoogleApi, resource_id: str, state: Props) -> None:
        """Take the member out."""
        try:
            self._modify(api, self.prefix(api, state), state, present=False)
        except ApiError as error:
            if error.status != 404:  # noqa: PLR2004 (HTTP)
                raise


class ProjectGrant(Grant):
    """A grant in a project's policy."""

    resource_type: ClassVar = "gcp:projects/iAMMember:IAMMember"
    subject: ClassVar = "project"
    supported: ClassVar = {"condition", "member", "project", "role"}
    rules: ClassVar = Rules(replace=supported)

    def prefix(self, api: GoogleApi, inputs: Props) -> str:
        """The project."""
        return project_of(api, inputs).removeprefix("projects/")

    def read_policy(self, api: GoogleApi, prefix: str) -> Json:
        """POST :getIamPolicy."""
        body = {"options": {"requestedPolicyVersion": 3}}
        path = f"projects/{prefix}:getIamPolicy"
        return api.call("resourceManager", "POST", path, body=body)

    def write_policy(self, api: GoogleApi, prefix: str, policy: Json) -> None:
        """POST :setIamPolicy."""
        body = {"policy": policy, "updateMask": "bindings,etag,auditConfigs"}
        path = f"projects/{prefix}:setIamPolicy"
        api.call("resourceManager", "POST", path, body=body)


class AccountGrant(Grant):
    """A grant in a service account's policy: who may use it."""

    resource_type: ClassVar = "gcp:serviceaccount/iAMMember:IAMMember"
    subject: ClassVar = "serviceAccountId"
    supported: ClassVar = {"condition", "member", "role", "serviceAccountId"}
    rules: ClassVar = Rules(replace=supported)

    def prefix(self, api: GoogleApi, inputs: Props) -> str:
        """The account's full name."""
        return str(inputs["serviceAccountId"])

    def read_policy(self, api: GoogleApi, prefix: str) -> Json:
        """POST :getIamPolicy."""
        params = {"options.requestedPolicyVersion": "3"}
        path = f"{prefix}:getIamPolicy"
        return api.call("iamBeta", "POST", path, params=params)

    def write_policy(self, api: GoogleApi, prefix: str, policy: Json) -> None:
        """POST :setIamPolicy."""
        path = f"{prefix}:setIamPolicy"
        api.call("iamBeta", "POST", path, body={"policy": policy})


class BucketGrant(Grant):
    """A grant in a bucket's policy."""

    resource_type: ClassVar = "gcp:storage/bucketIAMMember:BucketIAMMember"
    subject: ClassVar = "bucket"
    supported: ClassVar = {"bucket", "condition", "member", "role"}
    rules: ClassVar = Rules(replace=supported)

    def prefix(self, api: GoogleApi, inputs: Props) -> str:
        """The bucket, as b/NAME."""
        bucket = str(inputs["bucket"])
        return bucket if bucket.startswith("b/") else f"b/{bucket}"

    def read_policy(self, api: GoogleApi, prefix: str) -> Json:
        """GET b/NAME/iam."""
        params = {"optionsRequestedPolicyVersion": "3"}
        return api.call("storage", "GET", f"{prefix}/iam", params=params)

    def write_policy(self, api: GoogleApi, prefix: str, policy: Json) -> None:
        """PUT b/NAME/iam."""
        api.call("storage", "PUT", f"{prefix}/iam", body=policy)


def _matches(binding: Json, grant: Props) -> bool:
    same_condition = binding.get("condition") == grant.get("condition")
    return binding.get("role") == grant["role"] and same_condition


def _has(policy: Json, grant: Props) -> bool:
    return any(
        _matches(binding, grant) and grant["member"] in binding.get("members", [])
        for binding in policy.get("bindings", [])
    )


def _with(policy: Json, grant: Props) -> Json:
    bindings = [dict(binding) for binding in policy.get("bindings", [])]
    binding = next((each for each in bindings if _matches(each, grant)), None)
    if binding is None:
        binding = {"role": grant["role"], "members": []}
        if "condition" in grant:
            binding["condition"] = grant["condition"]
        bindings.append(binding)
    binding["members"] = [*binding["members"], grant["member"]]
    return {**policy, "bindings": bindings, "version": 3}


def _without(policy: Json, grant: Props) -> Json:
    bindings: list[dict[str, Any]] = []
    for binding in policy.get("bindings", []):
        members = list(binding.get("members", []))
        if _matches(binding, grant):
            members.remove(grant["member"]) if grant["member"] in members else None
        if members:
            bindings.append({**binding, "members": members})
    return {**policy, "bindings": bindings, "version": 3}
