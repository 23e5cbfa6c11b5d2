"""Service accounts and single grants ("members") of IAM policies.

A grant is read, modified and written back with the policy's etag, and again if somebody else wrote
in between.
"""

import threading
from abc import abstractmethod
from collections import defaultdict
from typing import Any, ClassVar

from rehearsal.pulumi.providers.gcp_kind import Kind, Table
from rehearsal.pulumi.providers.google_rest import ApiError, GoogleApi, Json
from rehearsal.pulumi.providers.properties import Props, Rules

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
        grant = f"{target}/{inputs['role']}/{inputs['member']}"
        condition = inputs.get("condition")
        return f"{grant}/{condition['title']}//{condition['expression']}" if condition else grant

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
    properties: ClassVar = "member project role condition.expression condition.title"
    rules: ClassVar = Rules(replace={"condition", "member", "project", "role"})

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
    return binding.get("role") == grant["role"] and binding.get("condition") == grant.get(
        "condition"
    )


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
        if "condition" in grant:
            binding["condition"] = grant["condition"]
        bindings.append(binding)
    others = [each for each in binding.get("members", []) if each != grant["member"]]
    binding["members"] = [*others, grant["member"]] if present else others
    kept = [each for each in bindings if each.get("members")]
    return {**policy, "bindings": kept, "version": 3}
