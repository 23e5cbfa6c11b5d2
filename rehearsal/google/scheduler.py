"""Cloud Scheduler: jobs that call an HTTP address, such as a dead-man's switch on a cluster.

Jobs run by the clock, and when they are asked to (`:run`); one that failed is tried again as its
retryConfig says. A job's request is carried out if it deletes a cluster, which is what the study
has jobs for, and with the rights of its service account. Schedules are read as far as the study
writes them: numbers and `*`, in UTC.
"""

import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import urlsplit

from rehearsal.google.http import Call, Endpoint, GoogleError, required
from rehearsal.google.iam import may
from rehearsal.google.operations import now
from rehearsal.google.places import region_of
from rehearsal.google.state import AlreadyExistsError, GoogleState, Json, Kind, MissingError

DeleteCluster = Callable[[str, str, str, str], Json]
"""Deletes (project, location, name), given the base URL of links; raises GoogleError."""

_CLUSTER = re.compile(r"projects/([^/]+)/(?:locations|zones)/([^/]+)/clusters/([^/]+)$")
_FIELD = re.compile(r"\*|\d{1,2}")
_FIELDS = 5
_UTC = ("", "UTC", "Etc/UTC")
_FAILED = {400: 9, 403: 7, 404: 5, 409: 6}
"""google.rpc.Code of an HTTP status, in a job's status."""


@dataclass(slots=True)
class _Retry:
    """A job whose last attempt failed."""

    at: datetime
    tries: int


class Scheduler:
    """Cloud Scheduler over a state.

    Args:
        state: where jobs are kept.
        delete_cluster: carries out what the jobs are for.
        base_url: of links in what jobs start; where this server answers.
    """

    def __init__(
        self, state: GoogleState, delete_cluster: DeleteCluster, base_url: str = "http://localhost/"
    ) -> None:
        self._state = state
        self._delete_cluster = delete_cluster
        self._base_url = base_url
        self._guard = threading.Lock()
        self._minutes: dict[str, str] = {}
        self._retries: dict[str, _Retry] = {}

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

    def tick(self, at: datetime) -> None:
        """Run the jobs that are due in this minute, and those whose next try is."""
        for job in self._state.find(Kind.SCHEDULER_JOB):
            if job.get("state") == "ENABLED" and self._is_due(job, at):
                self._attempt(job, at)

    def create(self, call: Call) -> Json:
        """Make a job."""
        job = {**call.body, "state": "ENABLED", "userUpdateTime": now()}
        region_of(call.path["location"])
        name = required(job, "name").rpartition("/")[2]
        job["name"] = f"{_jobs(call)}{name}"
        required(job, "schedule")
        _check_schedule(job)
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
        _check_schedule(sent)
        self._check_account(sent)
        return self._update(f"{_jobs(call)}{call.path['job']}", lambda job: job.update(sent))

    def delete(self, call: Call) -> Json:
        """Delete a job."""
        if not self._state.delete(Kind.SCHEDULER_JOB, f"{_jobs(call)}{call.path['job']}"):
            raise _no_job()
        return {}

    def run(self, call: Call) -> Json:
        """Carry out a job's request now, with the rights of its service account."""
        job = self.get(call)
        self._carry_out(job, call.base_url)
        return self._update(job["name"], lambda job: job.update(lastAttemptTime=now(), status={}))

    def _is_due(self, job: Json, at: datetime) -> bool:
        name, minute = job["name"], f"{at:%Y-%m-%dT%H:%M}"
        with self._guard:
            retry = self._retries.get(name)
            if retry is not None:
                return retry.at <= at
            if self._minutes.get(name) == minute or not _meets(job["schedule"], at):
                return False
            self._minutes[name] = minute
            return True

    def _attempt(self, job: Json, at: datetime) -> None:
        status: Json = {}
        try:
            self._carry_out(job, self._base_url)
        except GoogleError as error:
            status = {"code": _FAILED.get(error.code, 2), "message": error.message}
        with self._guard:
            before = self._retries.pop(job["name"], None)
            tries = 1 + (before.tries if before else 0)
            config = job.get("retryConfig", {})
            if status and tries <= int(config.get("retryCount", 0)):
                self._retries[job["name"]] = _Retry(at + _backoff(config, tries), tries)
        self._update(job["name"], lambda job: job.update(lastAttemptTime=now(), status=status))

    def _carry_out(self, job: Json, base_url: str) -> None:
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
        self._delete_cluster(project, location, name, base_url)

    def _set(self, call: Call, job_state: str) -> Json:
        return self._update(
            f"{_jobs(call)}{call.path['job']}", lambda job: job.update(state=job_state)
        )

    def _update(self, name: str, change: Callable[[Json], None]) -> Json:
        try:
            return self._state.update(Kind.SCHEDULER_JOB, name, change)
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


def _check_schedule(job: Json) -> None:
    """Refuse what Google would refuse, and what is not read here."""
    if "schedule" in job:
        fields = job["schedule"].split()
        if len(fields) != _FIELDS:
            raise GoogleError(400, f"Schedule or time zone is invalid: {job['schedule']}")
        if not all(_FIELD.fullmatch(field) for field in fields):
            raise GoogleError(
                501, f"The local Google reads numbers and * in schedules: {job['schedule']}"
            )
    if job.get("timeZone", "") not in _UTC:
        raise GoogleError(501, f"The local Google's jobs run in UTC, not in {job['timeZone']}.")


def _meets(schedule: str, at: datetime) -> bool:
    """Whether a unix-cron schedule names this minute; with a day of month and one of week, either.

    https://cloud.google.com/scheduler/docs/configuring/cron-job-schedules
    """
    minute, hour, day, month, weekday = schedule.split()
    fixed = ((minute, at.minute), (hour, at.hour), (month, at.month))
    if not all(_is(field, value) for field, value in fixed):
        return False
    days = [_is(day, at.day), _is(weekday, at.isoweekday() % 7)]
    return any(days) if "*" not in {day, weekday} else all(days)


def _is(field: str, value: int) -> bool:
    return field == "*" or int(field) == value


def _backoff(config: Json, tries: int) -> timedelta:
    """Doubled with each try, between the job's bounds."""
    least = float(str(config.get("minBackoffDuration", "5s")).removesuffix("s"))
    most = float(str(config.get("maxBackoffDuration", "3600s")).removesuffix("s"))
    return timedelta(seconds=min(least * 2 ** (tries - 1), most))


def _jobs(call: Call) -> str:
    return f"projects/{call.path['project']}/locations/{call.path['location']}/jobs/"


def _no_job() -> GoogleError:
    return GoogleError(404, "Job not found.")
