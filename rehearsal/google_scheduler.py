"""Cloud Scheduler: jobs that call an HTTP address, such as a dead-man's switch on a cluster.

Jobs run when they are asked to (`:run`), not by the clock: a rehearsal ends before one would fire.
A job's request is carried out if it deletes a cluster, which is what the study has jobs for.
"""

import re
from collections.abc import Callable
from urllib.parse import urlsplit

from rehearsal.google_http import Call, Endpoint, GoogleError, required
from rehearsal.google_iam import may
from rehearsal.google_operations import now
from rehearsal.google_places import region_of
from rehearsal.google_state import AlreadyExistsError, GoogleState, Json, Kind, MissingError

_CLUSTER = re.compile(r"projects/([^/]+)/(?:locations|zones)/([^/]+)/clusters/([^/]+)$")


class Scheduler:
    """Cloud Scheduler over a state.

    Args:
        state: where jobs are kept.
        delete_cluster: deletes (project, location, name), given the base URL of links; raises
            GoogleError.
    """

    def __init__(
        self, state: GoogleState, delete_cluster: Callable[[str, str, str, str], Json]
    ) -> None:
        self._state = state
        self._delete_cluster = delete_cluster

    def routes(self) -> list[Endpoint]:
        """Routes below /scheduler/."""
        jobs = "/scheduler/{version}/projects/{project}/locations/{location}/jobs"
        return [
            Endpoint("POST", f"{jobs}/{{job}}:pause", lambda call: self._set(call, "PAUSED")),
            Endpoint("POST", f"{jobs}/{{job}}:resume", lambda call: self._set(call, "ENABLED")),
            Endpoint("POST", f"{jobs}/{{job}}:run", self.run),
            Endpoint("POST", jobs, self.create),
            Endpoint("GET", jobs, self.list_jobs),
            Endpoint("GET", f"{jobs}/{{job}}", self.get),
            Endpoint("PATCH", f"{jobs}/{{job}}", self.patch),
            Endpoint("DELETE", f"{jobs}/{{job}}", self.delete),
        ]

    def create(self, call: Call) -> Json:
        """Make a job."""
        job = {**call.body, "state": "ENABLED", "userUpdateTime": now()}
        region_of(call.path["location"])
        name = required(job, "name").rpartition("/")[2]
        job["name"] = f"{_jobs(call)}{name}"
        required(job, "schedule")
        self._check_account(job)
        try:
            self._state.create(Kind.SCHEDULER_JOB, job["name"], job)
        except AlreadyExistsError:
            raise GoogleError(409, f"Job {job['name']} already exists.") from None
        return job

    def get(self, call: Call) -> Json:
        """One job."""
        job = self._state.get(Kind.SCHEDULER_JOB, f"{_jobs(call)}{call.path['job']}")
        if job is None:
            raise _no_job()
        return job

    def list_jobs(self, call: Call) -> Json:
        """The jobs of a region."""
        return {"jobs": self._state.find(Kind.SCHEDULER_JOB, _jobs(call))}

    def patch(self, call: Call) -> Json:
        """Change fields of a job."""
        sent = {field: value for field, value in call.body.items() if field != "name"}
        self._check_account(sent)
        return self._update(call, lambda job: job.update(sent))

    def delete(self, call: Call) -> Json:
        """Delete a job."""
        if not self._state.delete(Kind.SCHEDULER_JOB, f"{_jobs(call)}{call.path['job']}"):
            raise _no_job()
        return {}

    def run(self, call: Call) -> Json:
        """Carry out a job's request now, with the rights of its service account."""
        job = self.get(call)
        target = job.get("httpTarget", {})
        match = _CLUSTER.search(urlsplit(target.get("uri", "")).path)
        if target.get("httpMethod") != "DELETE" or match is None:
            raise GoogleError(501, "The local Google runs jobs that delete a cluster, no others.")
        email = target.get("oauthToken", {}).get("serviceAccountEmail", "")
        project, location, name = match.groups()
        member = f"serviceAccount:{email}"
        if not may(self._state, f"projects/{project}", member, "container.clusters.delete"):
            sentence = f'{email or "The job"} has no "container.clusters.delete" permission'
            raise GoogleError(403, f'{sentence} for "{match[0]}".')
        self._delete_cluster(project, location, name, call.base_url)
        return self._update(call, lambda job: job.update(lastAttemptTime=now(), status={}))

    def _set(self, call: Call, job_state: str) -> Json:
        return self._update(call, lambda job: job.update(state=job_state))

    def _update(self, call: Call, change: Callable[[Json], None]) -> Json:
        try:
            return self._state.update(
                Kind.SCHEDULER_JOB, f"{_jobs(call)}{call.path['job']}", change
            )
        except MissingError:
            raise _no_job() from None

    def _check_account(self, job: Json) -> None:
        email = job.get("httpTarget", {}).get("oauthToken", {}).get("serviceAccountEmail", "")
        if not email.endswith(".iam.gserviceaccount.com"):
            return
        project = email.partition("@")[2].removesuffix(".iam.gserviceaccount.com")
        name = f"projects/{project}/serviceAccounts/{email}"
        if self._state.get(Kind.SERVICE_ACCOUNT, name) is None:
            raise GoogleError(400, f"Service account {email} does not exist.")


def _jobs(call: Call) -> str:
    return f"projects/{call.path['project']}/locations/{call.path['location']}/jobs/"


def _no_job() -> GoogleError:
    return GoogleError(404, "Job not found.")
