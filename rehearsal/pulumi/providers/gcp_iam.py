"""Service accounts, custom roles and single grants ("members") of IAM policies.

A grant is read, modified and written back with the policy's etag, and again if somebody else wrote
in between.
"""

import threading
from abc import abstractmethod
from collections import defaultdict
from typing import Any, ClassVar

from rehearsal.pulumi.providers.gcp_kind import Kind, Table, Update
from rehearsal.pulumi.providers.google_rest import ApiError, GoogleApi, Json
from rehearsal.pulumi.providers.properties import Props, Rules
from rehearsal.pulumi.providers.protocol import ProviderError

_CONFLICTS = frozenset({409, 412})
_LOCKS: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)
"""One for each policy: this process does not race itself."""


class Account(Kind):
    """A service account."""

    resource_type: ClassVar = "gcp:serviceaccount/account:Account"
    service: ClassVar = "IAM_BETA"
    properties: ClassVar = "accountId displayName"
    table: ClassVar = Table(rows={"accountId": ""})
    rules: ClassVar = Rules(replace={"accountId"})
    state_only: ClassVar = ("accountId",)
    patterns: ClassVar = {
        "accountId": (
            "[a-z](?:[-a-z0-9]{4,28}[a-z0-9])",
            "6 to 30 lower-case letters, digits and hyphens, beginning with a letter",
        )
    }

    def create(self, api: GoogleApi, inputs: Props) -> str:
        body = {"accountId": inputs["accountId"], "serviceAccount": self.body(inputs)}
        path = f"projects/{api.project_of(inputs)}/serviceAccounts"
        return str(api.call(self.service, "POST", path, body)["name"])

    def outputs(self, resource_id: str, body: Json) -> Props:
        email = resource_id.rpartition("/")[2]
        member = f"serviceAccount:{email}"
        return {**super().outputs(resource_id, body), "email": email, "member": member}


class CustomRole(Kind):
    """A role of a project's own."""

    resource_type: ClassVar = "gcp:projects/iAMCustomRole:IAMCustomRole"
    service: ClassVar = "IAM_BETA"
    properties: ClassVar = "roleId title permissions stage"
    table: ClassVar = Table(rows={"permissions": "includedPermissions", "roleId": ""})
    rules: ClassVar = Rules(replace={"roleId"}, unordered={"permissions"})
    defaults: ClassVar = {"stage": "GA"}
    state_only: ClassVar = ("roleId",)
    patterns: ClassVar = {"roleId": ("[a-zA-Z0-9_.]{3,64}", "3 to 64 letters, digits, _ and .")}

    def create(self, api: GoogleApi, inputs: Props) -> str:
        """POST, or undelete and PATCH: a deleted role keeps its id for weeks."""
        parent = f"projects/{api.project_of(inputs)}/roles"
        role, body = f"{parent}/{inputs['roleId']}", self.body(inputs)
        found = api.find(self.service, role)
        if found is None:
            content = {"roleId": inputs["roleId"], "role": body}
            api.call(self.service, "POST", parent, content)
        elif not found.get("deleted"):
            raise ProviderError(f"Custom project role {role} already exists and must be imported.")
        else:
            api.call(self.service, "POST", f"{role}:undelete", {})
            api.call(self.service, "PATCH", role, body)
        return role

    def fetch(self, api: GoogleApi, resource_id: str, inputs: Props) -> Json | None:
        """GET; a deleted role counts as missing (the official provider takes it as existing)."""
        role = api.find(self.service, resource_id)
        return None if role is None or role.get("deleted") else role

    def outputs(self, resource_id: str, body: Json) -> Props:
        return {**super().outputs(resource_id, body), "name": resource_id}

    def update(self, api: GoogleApi, resource_id: str, update: Update) -> None:
        api.call(self.service, "PATCH", resource_id, self.body(update.new))


class _Grant(Kind):
    """One member of one role in the IAM policy of something. Any change replaces it."""

    patterns: ClassVar = {
        "member": (
            "allUsers|allAuthenticatedUsers|[A-Za-z]+:.+",
            "a member is written as user:NAME, serviceAccount:NAME, group:NAME or domain:NAME",
        )
    }

    @abstractmethod
    def target(self, api: GoogleApi, inputs: Props) -> str:
        """Return the part of the id that names whose policy it is."""

    @abstractmethod
    def read_policy(self, api: GoogleApi, target: str) -> Json:
        """Return the policy, version 3."""

    @abstractmethod
    def write_policy(self, api: GoogleApi, target: str, policy: Json) -> None:
        """Write it; a policy with an old etag is refused."""

    def create(self, api: GoogleApi, inputs: Props) -> str:
        target = self.target(api, inputs)
        self._modify(api, target, inputs, present=True)
        return f"{target}/{inputs['role']}/{inputs['member']}"

    def _modify(self, api: GoogleApi, target: str, grant: Props, *, present: bool) -> None:
        pause = 0.1
        while True:
            with _LOCKS[f"{self.service} {target}"]:
                policy = self.read_policy(api, target)
                if _has(policy, grant) == present:
                    return
                try:
                    self.write_policy(api, target, _changed(policy, grant, present=present))
                except ApiError as error:
                    if error.status not in _CONFLICTS:
                        raise
                else:
                    return
            api.pause(pause, f"the IAM policy of {target} to be written")
            pause = min(pause * 2, 5.0)

    def fetch(self, api: GoogleApi, resource_id: str, inputs: Props) -> Json | None:
        """Return the grant itself, if the policy has it."""
        try:
            policy = self.read_policy(api, self.target(api, inputs))
        except ApiError as error:
            if error.status == 404:  # noqa: PLR2004 (HTTP)
                return None
            raise
        return {**inputs, "etag": policy.get("etag")} if _has(policy, inputs) else None

    def outputs(self, resource_id: str, body: Json) -> Props:
        return dict(body)

    def delete(self, api: GoogleApi, resource_id: str, state: Props) -> None:
        try:
            self._modify(api, self.target(api, state), state, present=False)
        except ApiError as error:
            if error.status != 404:  # noqa: PLR2004 (HTTP)
                raise


class ProjectGrant(_Grant):
    """A grant in a project's policy."""

    resource_type: ClassVar = "gcp:projects/iAMMember:IAMMember"
    service: ClassVar = "RESOURCE_MANAGER"
    properties: ClassVar = "member project role"
    rules: ClassVar = Rules(replace={"member", "project", "role"})

    def target(self, api: GoogleApi, inputs: Props) -> str:
        return api.project_of(inputs)

    def read_policy(self, api: GoogleApi, target: str) -> Json:
        body = {"options": {"requestedPolicyVersion": 3}}
        return api.call(self.service, "POST", f"projects/{target}:getIamPolicy", body)

    def write_policy(self, api: GoogleApi, target: str, policy: Json) -> None:
        body = {"policy": policy, "updateMask": "bindings,etag,auditConfigs"}
        api.call(self.service, "POST", f"projects/{target}:setIamPolicy", body)


class BucketGrant(_Grant):
    """A grant in a bucket's policy."""

    resource_type: ClassVar = "gcp:storage/bucketIAMMember:BucketIAMMember"
    service: ClassVar = "STORAGE"
    properties: ClassVar = "bucket member role"
    rules: ClassVar = Rules(replace={"bucket", "member", "role"})

    def target(self, api: GoogleApi, inputs: Props) -> str:
        return f"b/{str(inputs['bucket']).removeprefix('b/')}"

    def read_policy(self, api: GoogleApi, target: str) -> Json:
        return api.call(
            self.service, "GET", f"{target}/iam", None, optionsRequestedPolicyVersion="3"
        )

    def write_policy(self, api: GoogleApi, target: str, policy: Json) -> None:
        body = {key: policy[key] for key in policy if key not in {"kind", "resourceId"}}
        api.call(self.service, "PUT", f"{target}/iam", body)


def _matches(binding: Json, grant: Props) -> bool:
    return binding.get("role") == grant["role"] and "condition" not in binding


def _has(policy: Json, grant: Props) -> bool:
    return any(
        _matches(binding, grant) and grant["member"] in binding.get("members", [])
        for binding in policy.get("bindings", [])
    )


def _changed(policy: Json, grant: Props, *, present: bool) -> Json:
    """Return the policy with or without a grant, and without bindings of no member."""
    bindings: list[dict[str, Any]] = [dict(each) for each in policy.get("bindings", [])]
    binding = next((each for each in bindings if _matches(each, grant)), None)
    if binding is None:
        binding = {"role": grant["role"], "members": []}
        bindings.append(binding)
    others = [each for each in binding.get("members", []) if each != grant["member"]]
    binding["members"] = [*others, grant["member"]] if present else others
    kept = [each for each in bindings if each.get("members")]
    return {**policy, "bindings": kept, "version": 3}
