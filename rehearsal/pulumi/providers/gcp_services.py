"""Buckets, log sinks, scheduler jobs, image repositories and enabled APIs."""

from typing import Any, ClassVar

from rehearsal.pulumi.providers.base import ProviderError
from rehearsal.pulumi.providers.differences import Rules
from rehearsal.pulumi.providers.gcp_kind import Kind, Pattern, Update, location_of, project_of
from rehearsal.pulumi.providers.gcp_translate import Table
from rehearsal.pulumi.providers.google_rest import ApiError, GoogleApi, Json
from rehearsal.pulumi.providers.properties import Props


class Bucket(Kind):
    """A Cloud Storage bucket."""

    resource_type: ClassVar = "gcp:storage/bucket:Bucket"
    supported: ClassVar = {
        "deletionPolicy", "forceDestroy", "labels", "lifecycleRules", "location", "name",
        "project", "publicAccessPrevention", "softDeletePolicy", "storageClass",
        "uniformBucketLevelAccess", "versioning",
    }  # fmt: skip
    table: ClassVar = Table(
        rows={
            "lifecycleRules": "lifecycle.rule",
            "lifecycleRules.condition.matchesStorageClasses": "matchesStorageClass",
            "lifecycleRules.condition.matchesPrefixes": "matchesPrefix",
            "lifecycleRules.condition.matchesSuffixes": "matchesSuffix",
            "lifecycleRules.condition.withState": "",
            "publicAccessPrevention": "iamConfiguration.publicAccessPrevention",
            "uniformBucketLevelAccess": "iamConfiguration.uniformBucketLevelAccess.enabled",
        }
        | dict.fromkeys(("deletionPolicy", "forceDestroy", "project"), ""),
        int64=["softDeletePolicy.retentionDurationSeconds"],
    )
    rules: ClassVar = Rules(
        replace={"location", "name", "project"},
        computed={"labels", "project", "publicAccessPrevention", "softDeletePolicy",
                  "uniformBucketLevelAccess"},
        ignore_case={"location"},
    )  # fmt: skip
    defaults: ClassVar = {"forceDestroy": False, "storageClass": "STANDARD"}
    state_only: ClassVar = ("deletionPolicy", "forceDestroy", "project")
    auto_named: ClassVar = True
    labels: ClassVar = "labels"
    patterns: ClassVar = {
        "name": Pattern(
            "(?!goog)[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]",
            "3 to 63 lower-case letters, digits, -, _ and . (222 with dots), not beginning "
            "with goog",
        )
    }
    enums: ClassVar = {
        "lifecycleRules.action.type": {
            "AbortIncompleteMultipartUpload", "Delete", "SetStorageClass",
        },
        "lifecycleRules.condition.withState": {"LIVE", "ARCHIVED", "ANY", ""},
        "publicAccessPrevention": {"enforced", "inherited"},
    }  # fmt: skip

    def body(self, api: GoogleApi, inputs: Props) -> Json:
        """With isLive, which the SDK calls withState."""
        body = super().body(api, inputs)
        given = inputs.get("lifecycleRules", [])
        for rule, sdk in zip(body.get("lifecycle", {}).get("rule", []), given, strict=True):
            live = {"LIVE": True, "ARCHIVED": False}.get(sdk["condition"].get("withState"))
            if live is not None:
                rule["condition"]["isLive"] = live
        return body

    def create(self, api: GoogleApi, inputs: Props) -> str:
        """POST b?project=P."""
        params = {"project": project_of(api, inputs)}
        body = self.body(api, inputs)
        api.call("storage", "POST", "b", body=body, params=params)
        return str(inputs["name"])

    def fetch(self, api: GoogleApi, resource_id: str, inputs: Props) -> Json | None:
        """GET b/NAME."""
        return api.find("storage", f"b/{resource_id}")

    def outputs(self, api: GoogleApi, resource_id: str, body: Json) -> Props:
        """With url and selfLink."""
        outputs = super().outputs(api, resource_id, body)
        rules = body.get("lifecycle", {}).get("rule", [])
        for rule, rest in zip(outputs.get("lifecycleRules", []), rules, strict=True):
            live = rest.get("condition", {}).get("isLive")
            rule["condition"]["withState"] = {True: "LIVE", False: "ARCHIVED", None: "ANY"}[live]
        return {**outputs, "selfLink": body.get("selfLink"), "url": f"gs://{resource_id}"}

    def update(self, api: GoogleApi, resource_id: str, update: Update) -> None:
        """PATCH b/NAME with what the API knows of the changed properties."""
        body = self.body(api, update.new)
        body.setdefault("lifecycle", {"rule": []})
        parts = {self.table.rows.get(top, top).partition(".")[0] for top in update.tops} - {""}
        changed: dict[str, Any] = {key: body.get(key) for key in parts}
        if changed:
            path = f"b/{resource_id}"
            api.call("storage", "PATCH", path, body=changed)

    def delete(self, api: GoogleApi, resource_id: str, state: Props) -> None:
        """DELETE, with forceDestroy after the objects in it."""
        if state.get("forceDestroy"):
            self._empty(api, resource_id)
        try:
            api.remove("storage", f"b/{resource_id}")
        except ApiError as error:
            if error.status == 409:  # noqa: PLR2004 (HTTP)
                raise ProviderError(
                    f"Error trying to delete bucket {resource_id} containing objects without "
                    "`force_destroy` set to true"
                ) from error
            raise

    def _empty(self, api: GoogleApi, bucket: str) -> None:
        params = {"versions": "true"}
        while True:
            page = api.find("storage", f"b/{bucket}/o", params=params) or {}
            for item in page.get("items", []):
                name = str(item["name"]).replace("/", "%2F")
                api.remove("storage", f"b/{bucket}/o/{name}")
            if "nextPageToken" not in page:
                return


class ProjectSink(Kind):
    """A log sink of a project."""

    resource_type: ClassVar = "gcp:logging/projectSink:ProjectSink"
    supported: ClassVar = {
        "deletionPolicy", "description", "destination", "disabled", "exclusions", "filter",
        "name", "project", "uniqueWriterIdentity",
    }  # fmt: skip
    table: ClassVar = Table(
        rows=dict.fromkeys(("deletionPolicy", "project", "uniqueWriterIdentity"), "")
    )
    rules: ClassVar = Rules(replace={"name", "project"}, computed={"project"})
    defaults: ClassVar = {"uniqueWriterIdentity": True}
    state_only: ClassVar = ("deletionPolicy", "uniqueWriterIdentity")
    auto_named: ClassVar = True

    def create(self, api: GoogleApi, inputs: Props) -> str:
        """POST, or PATCH of one that is there: it is taken over."""
        parent = f"projects/{project_of(api, inputs)}/sinks"
        sink, body = f"{parent}/{inputs['name']}", self.body(api, inputs)
        params = self._params(inputs)
        if api.find("logging", sink) is None:
            api.call("logging", "POST", parent, body=body, params=params)
        else:
            mask = {"updateMask": "description,destination,disabled,exclusions,filter"}
            api.call("logging", "PATCH", sink, body=body, params=params | mask)
        return sink

    def _params(self, inputs: Props) -> dict[str, str]:
        unique = inputs.get("uniqueWriterIdentity", True)
        return {"uniqueWriterIdentity": str(unique).lower()}

    def fetch(self, api: GoogleApi, resource_id: str, inputs: Props) -> Json | None:
        """GET."""
        return api.find("logging", resource_id)

    def outputs(self, api: GoogleApi, resource_id: str, body: Json) -> Props:
        """With the identity that must be let into the destination."""
        return {
            **super().outputs(api, resource_id, body),
            "name": resource_id.rpartition("/")[2],
            "project": resource_id.split("/")[1],
            "writerIdentity": body.get("writerIdentity"),
        }

    def update(self, api: GoogleApi, resource_id: str, update: Update) -> None:
        """PATCH."""
        also = update.tops & {"description", "disabled", "exclusions"}
        mask = ["destination", "filter", *sorted(also)]
        params = {**self._params(update.new), "updateMask": ",".join(mask)}
        body = self.body(api, update.new)
        api.call("logging", "PATCH", resource_id, body=body, params=params)

    def delete(self, api: GoogleApi, resource_id: str, state: Props) -> None:
        """DELETE."""
        api.remove("logging", resource_id)


class Job(Kind):
    """A Cloud Scheduler job."""

    resource_type: ClassVar = "gcp:cloudscheduler/job:Job"
    supported: ClassVar = {
        "attemptDeadline", "deletionPolicy", "description", "httpTarget", "name", "paused",
        "project", "region", "retryConfig", "schedule", "timeZone",
    }  # fmt: skip
    table: ClassVar = Table(
        rows=dict.fromkeys(("deletionPolicy", "name", "paused", "project", "region"), "")
    )
    rules: ClassVar = Rules(
        replace={"name", "project", "region"},
        computed={"paused", "project", "region", "httpTarget.httpMethod"},
    )
    defaults: ClassVar = {"timeZone": "Etc/UTC"}
    state_only: ClassVar = ("deletionPolicy",)
    auto_named: ClassVar = True

    def create(self, api: GoogleApi, inputs: Props) -> str:
        """POST, then :resume or :pause."""
        project, region = project_of(api, inputs), location_of(api, inputs, region=True)
        parent = f"projects/{project}/locations/{region}/jobs"
        job = f"{parent}/{inputs['name']}"
        body = {"name": job, **self.body(api, inputs)}
        api.call("cloudScheduler", "POST", parent, body=body)
        self._run(api, job, inputs)
        return job

    def _run(self, api: GoogleApi, job: str, inputs: Props) -> None:
        verb = "pause" if inputs.get("paused") else "resume"
        api.call("cloudScheduler", "POST", f"{job}:{verb}", body={})

    def fetch(self, api: GoogleApi, resource_id: str, inputs: Props) -> Json | None:
        """GET."""
        return api.find("cloudScheduler", resource_id)

    def outputs(self, api: GoogleApi, resource_id: str, body: Json) -> Props:
        """With its state."""
        parts = resource_id.split("/")
        return {
            **super().outputs(api, resource_id, body),
            "name": parts[5],
            "paused": body.get("state") == "PAUSED",
            "project": parts[1],
            "region": parts[3],
            "state": body.get("state"),
        }

    def update(self, api: GoogleApi, resource_id: str, update: Update) -> None:
        """PATCH of the whole job, then :resume or :pause."""
        if update.tops - {"paused", *self.state_only}:
            body = {"name": resource_id, **self.body(api, update.new)}
            api.call("cloudScheduler", "PATCH", resource_id, body=body)
        if "paused" in update.tops:
            self._run(api, resource_id, update.new)

    def delete(self, api: GoogleApi, resource_id: str, state: Props) -> None:
        """DELETE."""
        api.remove("cloudScheduler", resource_id)


class Repository(Kind):
    """An Artifact Registry repository."""

    resource_type: ClassVar = "gcp:artifactregistry/repository:Repository"
    supported: ClassVar = {
        "deletionPolicy", "description", "format", "labels", "location", "mode", "project",
        "repositoryId",
    }  # fmt: skip
    table: ClassVar = Table(
        rows=dict.fromkeys(("deletionPolicy", "location", "project", "repositoryId"), "")
    )
    rules: ClassVar = Rules(
        replace={"format", "location", "mode", "project", "repositoryId"},
        computed={"location", "project"},
        ignore_case={"format"},
    )
    defaults: ClassVar = {"mode": "STANDARD_REPOSITORY"}
    state_only: ClassVar = ("deletionPolicy", "location", "repositoryId")
    labels: ClassVar = "labels"
    enums: ClassVar = {
        "mode": {"STANDARD_REPOSITORY", "VIRTUAL_REPOSITORY", "REMOTE_REPOSITORY"},
    }

    def create(self, api: GoogleApi, inputs: Props) -> str:
        """POST and wait."""
        project, location = project_of(api, inputs), location_of(api, inputs)
        parent = f"projects/{project}/locations/{location}/repositories"
        operation = api.call(
            "artifactRegistry", "POST", parent, body=self.body(api, inputs),
            params={"repository_id": inputs["repositoryId"]})  # fmt: skip
        api.wait("artifactRegistry", operation, str, "creating Repository")
        return f"{parent}/{inputs['repositoryId']}"

    def fetch(self, api: GoogleApi, resource_id: str, inputs: Props) -> Json | None:
        """GET."""
        return api.find("artifactRegistry", resource_id)

    def outputs(self, api: GoogleApi, resource_id: str, body: Json) -> Props:
        """With its name and the name under which images are pushed."""
        parts = resource_id.split("/")
        registry = f"{parts[3]}-{body.get('format', 'DOCKER').lower()}.pkg.dev"
        return {
            **super().outputs(api, resource_id, body),
            "createTime": body.get("createTime"),
            "location": parts[3],
            "name": parts[5],
            "project": parts[1],
            "registryUri": f"{registry}/{parts[1]}/{parts[5]}",
            "repositoryId": parts[5],
        }

    def update(self, api: GoogleApi, resource_id: str, update: Update) -> None:
        """PATCH."""
        mask = ",".join(sorted(update.tops & {"description", "labels"}))
        if mask:
            api.call(
                "artifactRegistry", "PATCH", resource_id, body=self.body(api, update.new),
                params={"updateMask": mask})  # fmt: skip

    def delete(self, api: GoogleApi, resource_id: str, state: Props) -> None:
        """DELETE and wait."""
        operation = api.remove("artifactRegistry", resource_id)
        if operation is not None:
            api.wait("artifactRegistry", operation, str, "deleting Repository")


class Service(Kind):
    """An API that is switched on in a project."""

    resource_type: ClassVar = "gcp:projects/service:Service"
    supported: ClassVar = {
        "checkIfServiceHasUsageOnDestroy", "deletionPolicy", "disableDependentServices",
        "disableOnDestroy", "project", "service",
    }  # fmt: skip
    rules: ClassVar = Rules(replace={"project", "service"}, computed={"project"})
    state_only: ClassVar = (
        "checkIfServiceHasUsageOnDestroy", "deletionPolicy", "disableDependentServices",
        "disableOnDestroy",
    )  # fmt: skip
    patterns: ClassVar = {
        "service": Pattern(r".*\..*", "an API is named as a domain, like container.googleapis.com")
    }

    def create(self, api: GoogleApi, inputs: Props) -> str:
        """POST :enable unless it is on already."""
        project, service = project_of(api, inputs), str(inputs["service"])
        if service not in self._enabled(api, project):
            operation = api.call(
                "serviceUsage", "POST", f"projects/{project}/services/{service}:enable",
                body={})  # fmt: skip
            api.wait("serviceUsage", operation, str, f"enabling {service}")
        return f"{project}/{service}"

    def _enabled(self, api: GoogleApi, project: str) -> set[str]:
        enabled: set[str] = set()
        params = {"filter": "state:ENABLED"}
        while True:
            path = f"projects/{project}/services"
            page = api.call("serviceUsage", "GET", path, params=params)
            enabled |= {str(each["name"]).rpartition("/")[2] for each in page.get("services", [])}
            if not page.get("nextPageToken"):
                return enabled
            params = {**params, "pageToken": page["nextPageToken"]}

    def fetch(self, api: GoogleApi, resource_id: str, inputs: Props) -> Json | None:
        """Whether it is in the list of those that are on."""
        project, _, service = resource_id.partition("/")
        if service not in self._enabled(api, project):
            return None
        return {"project": project, "service": service}

    def update(self, api: GoogleApi, resource_id: str, update: Update) -> None:
        """What can change is only of interest when it is removed."""

    def delete(self, api: GoogleApi, resource_id: str, state: Props) -> None:
        """Switch it off, if that was asked for."""
        if not state.get("disableOnDestroy"):
            return
        project, _, service = resource_id.partition("/")
        usage = "CHECK" if state.get("checkIfServiceHasUsageOnDestroy") else "SKIP"
        body = {
            "disableDependentServices": bool(state.get("disableDependentServices")),
            "checkIfServiceHasUsage": usage,
        }
        path = f"projects/{project}/services/{service}:disable"
        operation = api.call("serviceUsage", "POST", path, body=body)
        api.wait("serviceUsage", operation, str, f"disabling {service}")
