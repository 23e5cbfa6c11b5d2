"""IAM's custom roles of a project: a deleted one keeps its id and can be undeleted, as Google's do.

Google forgets a deleted role after some weeks; here it never does.
"""

import re

from rehearsal.google.http import Call, Endpoint, GoogleError, required
from rehearsal.google.state import AlreadyExistsError, GoogleState, Json, Kind

_ROLE_ID = re.compile(r"[a-zA-Z0-9_.]{3,64}")
_FIELDS = ("title", "description", "stage", "includedPermissions")


class Roles:
    """The methods of custom roles over a state."""

    def __init__(self, state: GoogleState) -> None:
        self._state = state

    def routes(self) -> list[Endpoint]:
        """Routes below /iam/."""
        roles = "/iam/{version}/projects/{project}/roles"
        role = f"{roles}/{{role}}"
        return [
            Endpoint("POST", f"{role}:undelete", self.undelete),
            Endpoint("POST", roles, self.create),
            Endpoint("GET", roles, self.list),
            Endpoint("GET", role, self.get),
            Endpoint("PATCH", role, self.patch),
            Endpoint("DELETE", role, self.delete),
        ]

    def create(self, call: Call) -> Json:
        """Make a role."""
        role_id = required(call.body, "roleId")
        if not _ROLE_ID.fullmatch(role_id):
            raise GoogleError(400, f"The role id {role_id} must match {_ROLE_ID.pattern}.")
        given = call.body.get("role", {})
        name = f"projects/{call.path['project']}/roles/{role_id}"
        role = {"name": name, "stage": "GA"} | {k: given[k] for k in _FIELDS if k in given}
        try:
            self._state.create(Kind.ROLE, name, role)
        except AlreadyExistsError:
            sentence = f"A role named {role_id} in projects/{call.path['project']} already exists."
            raise GoogleError(409, sentence) from None
        return role

    def list(self, call: Call) -> Json:
        """The roles of a project, without the deleted ones."""
        found = self._state.find(Kind.ROLE, f"projects/{call.path['project']}/roles/")
        return {"roles": [role for role in found if not role.get("deleted")]}

    def get(self, call: Call) -> Json:
        """One role, a deleted one too."""
        role = self._state.get(Kind.ROLE, _name(call))
        if role is None:
            raise _missing(call)
        return role

    def patch(self, call: Call) -> Json:
        """Change the fields of a mask."""
        self.get(call)
        mask = call.query.get("updateMask", ",".join(_FIELDS)).split(",")
        unknown = sorted(set(mask) - set(_FIELDS))
        if unknown:
            raise GoogleError(400, f"The field '{unknown[0]}' of a role cannot be updated.")

        def change(present: Json) -> None:
            for field in mask:
                present.pop(field, None)
            present.update({field: call.body[field] for field in mask if field in call.body})

        return self._state.update(Kind.ROLE, _name(call), change)

    def delete(self, call: Call) -> Json:
        """Mark a role as deleted."""
        self.get(call)
        return self._state.update(Kind.ROLE, _name(call), lambda role: role.update(deleted=True))

    def undelete(self, call: Call) -> Json:
        """Take the mark away."""
        if not self.get(call).get("deleted"):
            raise GoogleError(400, f"The role {_name(call)} is not deleted.")
        return self._state.update(Kind.ROLE, _name(call), lambda role: role.pop("deleted"))


def _name(call: Call) -> str:
    return f"projects/{call.path['project']}/roles/{call.path['role']}"


def _missing(call: Call) -> GoogleError:
    return GoogleError(404, f"The role named {_name(call)} was not found.")
