"""Buckets, log sinks, scheduler jobs and enabled APIs."""

from typing import Any, ClassVar
from urllib.parse import quote

from rehearsal.pulumi.providers.gcp_kind import Kind, Table, Update
from rehearsal.pulumi.providers.google_rest import GoogleApi, Json
from rehearsal.pulumi.providers.properties import Props, Rules


class Bucket(Kind):
    """A Cloud Storage bucket."""

    resource_type: ClassVar = "gcp:storage/bucket:Bucket"
    service: ClassVar = "STORAGE"
    properties: ClassVar = """
        name location labels storageClass publicAccessPrevention uniformBucketLevelAccess
        versioning.enabled lifecycleRules.action.type lifecycleRules.condition.age
        lifecycleRules.condition.withState
    """
    table: ClassVar = Table(
        rows={
            "lifecycleRules": "lifecycle.rule",
            "lifecycleRules.condition.withState": "",
            "publicAccessPrevention": "iamConfiguration.publicAccessPrevention",
            "uniformBucketLevelAccess": "iamConfiguration.uniformBucketLevelAccess.enabled",
        }
    )
    rules: ClassVar = Rules(
        replace={"location", "name"},
        computed={"labels", "publicAccessPrevention", "uniformBucketLevelAccess"},
        equal=lambda path, there, new: (
            path == "location" and str(there).lower() == str(new).lower()
        ),
    )
    defaults: ClassVar = {"storageClass": "STANDARD"}
    auto_named: ClassVar = True
    labels: ClassVar = "labels"
    enums: ClassVar = {"lifecycleRules.condition.withState": {"ANY"}}

    def create(self, api: GoogleApi, inputs: Props) -> str:
        api.call(self.service, "POST", "b", self.body(inputs), project=api.project_of(inputs))
        return str(inputs["name"])

    def fetch(self, api: GoogleApi, resource_id: str, inputs: Props) -> Json | None:
        return api.find(self.service, f"b/{resource_id}")

    def outputs(self, resource_id: str, body: Json) -> Props:
        outputs = super().outputs(resource_id, body)
        for rule in outputs.get("lifecycleRules", []):
            rule["condition"]["withState"] = "ANY"
        return {**outputs, "url": f"gs://{resource_id}"}

    def update(self, api: GoogleApi, resource_id: str, update: Update) -> None:
        """PATCH with what the API knows of the changed properties."""
        body = {"lifecycle": {"rule": []}, **self.body(update.new)}
        parts = {self.table.rows.get(top, top).partition(".")[0] for top in update.tops}
        changed: dict[str, Any] = {key: body.get(key) for key in parts}
        api.call(self.service, "PATCH", f"b/{resource_id}", changed)

    def delete(self, api: GoogleApi, resource_id: str, state: Props) -> None:
        api.remove(self.service, f"b/{resource_id}")


class BucketObject(Kind):
    """An object of a bucket, with its content; another content needs another name."""

    resource_type: ClassVar = "gcp:storage/bucketObject:BucketObject"
    service: ClassVar = "STORAGE"
    properties: ClassVar = "bucket name content contentType"
    needed: ClassVar = ("name", "content", "contentType")
    table: ClassVar = Table(rows={"content": ""})
    rules: ClassVar = Rules(replace={"bucket", "name", "content", "contentType"})
    state_only: ClassVar = ("content",)

    def create(self, api: GoogleApi, inputs: Props) -> str:
        bucket, name = str(inputs["bucket"]), str(inputs["name"])
        kind = str(inputs["contentType"])
        meta = {"bucket": bucket, "name": name, "contentType": kind}
        api.upload(self.service, f"b/{bucket}/o", meta, kind, str(inputs["content"]).encode())
        return f"{bucket}-{name}"

    def fetch(self, api: GoogleApi, resource_id: str, inputs: Props) -> Json | None:
        return api.find(self.service, _object_path(inputs))

    def outputs(self, resource_id: str, body: Json) -> Props:
        generation = int(body["generation"])
        return {**super().outputs(resource_id, body), "generation": generation}

    def delete(self, api: GoogleApi, resource_id: str, state: Props) -> None:
        api.remove(self.service, _object_path(state))


def _object_path(props: Props) -> str:
    return f"b/{props['bucket']}/o/{quote(str(props['name']), safe='')}"


class ProjectSink(Kind):
    """A log sink of a project, with its own writer identity."""

    resource_type: ClassVar = "gcp:logging/projectSink:ProjectSink"
    service: ClassVar = "LOGGING"
    properties: ClassVar = "name description destination filter uniqueWriterIdentity"
    needed: ClassVar = ("name",)
    table: ClassVar = Table(rows={"uniqueWriterIdentity": ""})
    rules: ClassVar = Rules(replace={"name"})
    defaults: ClassVar = {"uniqueWriterIdentity": True}
    state_only: ClassVar = ("uniqueWriterIdentity",)
    enums: ClassVar = {"uniqueWriterIdentity": {True}}

    def create(self, api: GoogleApi, inputs: Props) -> str:
        """POST, or take over one that exists with a PATCH."""
        parent = f"projects/{api.project_of(inputs)}/sinks"
        sink, body = f"{parent}/{inputs['name']}", self.body(inputs)
        if api.find(self.service, sink) is None:
            api.call(self.service, "POST", parent, body, uniqueWriterIdentity="true")
        else:
            body = {key: body[key] for key in body if key != "name"}
            body |= {"disabled": False, "exclusions": []}
            self._patch(api, sink, body, "exclusions,destination,filter,description")
        return sink

    def _patch(self, api: GoogleApi, sink: str, body: Json, mask: str) -> None:
        api.call(self.service, "PATCH", sink, body, uniqueWriterIdentity="true", updateMask=mask)

    def outputs(self, resource_id: str, body: Json) -> Props:
        writer = body.get("writerIdentity")
        return {**super().outputs(resource_id, body), "writerIdentity": writer}

    def update(self, api: GoogleApi, resource_id: str, update: Update) -> None:
        mask = ["destination", "filter", *sorted(update.tops & {"description"})]
        self._patch(api, resource_id, self.body(update.new), ",".join(mask))


class Repository(Kind):
    """A remote repository of Artifact Registry."""

    resource_type: ClassVar = "gcp:artifactregistry/repository:Repository"
    service: ClassVar = "ARTIFACT_REGISTRY"
    properties: ClassVar = """
        project location repositoryId description format mode labels
        remoteRepositoryConfig.commonRepository.uri
    """
    needed: ClassVar = ("project", "location", "mode", "remoteRepositoryConfig")
    table: ClassVar = Table(rows=dict.fromkeys(("project", "location", "repositoryId"), ""))
    rules: ClassVar = Rules(
        replace={
            "project", "location", "repositoryId", "format", "mode", "remoteRepositoryConfig",
        },
        computed={"labels"},
    )  # fmt: skip
    state_only: ClassVar = ("project", "location", "repositoryId")
    labels: ClassVar = "labels"
    enums: ClassVar = {"format": {"DOCKER"}, "mode": {"REMOTE_REPOSITORY"}}

    def create(self, api: GoogleApi, inputs: Props) -> str:
        parent = f"projects/{api.project_of(inputs)}/locations/{inputs['location']}/repositories"
        name = str(inputs["repositoryId"])
        operation = api.call(self.service, "POST", parent, self.body(inputs), repository_id=name)
        api.wait(self.service, operation, str, f"creating the repository {name}")
        return f"{parent}/{name}"

    def update(self, api: GoogleApi, resource_id: str, update: Update) -> None:
        mask = ",".join(sorted(update.tops & {"description", "labels"}))
        api.call(self.service, "PATCH", resource_id, self.body(update.new), updateMask=mask)

    def delete(self, api: GoogleApi, resource_id: str, state: Props) -> None:
        operation = api.remove(self.service, resource_id)
        if operation:
            api.wait(self.service, operation, str, f"deleting {resource_id}")


class Job(Kind):
    """A Cloud Scheduler job."""

    resource_type: ClassVar = "gcp:cloudscheduler/job:Job"
    service: ClassVar = "CLOUD_SCHEDULER"
    properties: ClassVar = """
        name region description schedule timeZone httpTarget.httpMethod httpTarget.uri
        httpTarget.oauthToken.serviceAccountEmail retryConfig.maxBackoffDuration
        retryConfig.minBackoffDuration retryConfig.retryCount
    """
    needed: ClassVar = ("httpTarget", "name", "region")
    table: ClassVar = Table(rows={"name": "", "region": ""})
    rules: ClassVar = Rules(replace={"name", "region"})
    defaults: ClassVar = {"timeZone": "Etc/UTC"}
    state_only: ClassVar = ("name", "region")

    def create(self, api: GoogleApi, inputs: Props) -> str:
        """POST, then resume: a job of this name may have been paused before."""
        parent = f"projects/{api.project_of(inputs)}/locations/{inputs['region']}/jobs"
        job = f"{parent}/{inputs['name']}"
        api.call(self.service, "POST", parent, {"name": job, **self.body(inputs)})
        api.call(self.service, "POST", f"{job}:resume", {})
        return job

    def update(self, api: GoogleApi, resource_id: str, update: Update) -> None:
        api.call(self.service, "PATCH", resource_id, self.body(update.new))


class Service(Kind):
    """An API that is enabled in a project, and stays so."""

    resource_type: ClassVar = "gcp:projects/service:Service"
    service: ClassVar = "SERVICE_USAGE"
    properties: ClassVar = "project service disableOnDestroy"
    needed: ClassVar = ("disableOnDestroy",)
    rules: ClassVar = Rules(replace={"project", "service"})
    state_only: ClassVar = ("disableOnDestroy",)
    patterns: ClassVar = {
        "service": (r".*\..*", "an API is named as a domain, like container.googleapis.com")
    }
    enums: ClassVar = {"disableOnDestroy": {False}}

    def create(self, api: GoogleApi, inputs: Props) -> str:
        """POST :enable unless it is enabled already."""
        project, service = api.project_of(inputs), str(inputs["service"])
        if service not in self._enabled(api, project):
            path = f"projects/{project}/services/{service}:enable"
            operation = api.call(self.service, "POST", path, {})
            api.wait(self.service, operation, str, f"enabling {service}")
        return f"{project}/{service}"

    def _enabled(self, api: GoogleApi, project: str) -> set[str]:
        enabled: set[str] = set()
        params = {"filter": "state:ENABLED"}
        while True:
            page = api.call(self.service, "GET", f"projects/{project}/services", None, **params)
            enabled |= {str(each["name"]).rpartition("/")[2] for each in page.get("services", [])}
            if not page.get("nextPageToken"):
                return enabled
            params["pageToken"] = page["nextPageToken"]

    def fetch(self, api: GoogleApi, resource_id: str, inputs: Props) -> Json | None:
        project, _, service = resource_id.partition("/")
        if service not in self._enabled(api, project):
            return None
        return {"project": project, "service": service}

    def delete(self, api: GoogleApi, resource_id: str, state: Props) -> None:
        """Do nothing: other users of the project may need the API."""
