"""Cloud Scheduler: jobs that call an HTTP address, such as a dead-man's switch on a cluster.

Jobs run by the clock and on `:run`; a failed one is retried as its retryConfig says. A job's
request is carried out only if it deletes a cluster, with the rights of its service account.
Schedules are unix-cron with numbers, in UTC; names of days and months are not read.
"""

import logging
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

from rehearsal.cluster.fleet import ClusterKey
from rehearsal.google.access.conditions import attributes_of
from rehearsal.google.access.iam import check_account, may
from rehearsal.google.collections import Collection
from rehearsal.google.compute import region_of
from rehearsal.google.http import Endpoint, GoogleError, body_of, now, required
from rehearsal.google.state import GoogleState, Json, Kind, MissingError
from rehearsal.machine.web import Call

_LOG = logging.getLogger(__name__)
_PAUSE_S = 1.0

Act = Callable[[datetime], None]
"""Callback, called every second with the UTC time; must not block."""
DeleteCluster = Callable[[ClusterKey, str], Json]
"""Deletes a cluster, given the base URL of links; raises GoogleError."""

_CLUSTER = re.compile(r"projects/([^/]+)/(?:locations|zones)/([^/]+)/clusters/([^/]+)$")
_PART = re.compile(r"(?:\*|(?P<first>\d{1,2})(?:-(?P<last>\d{1,2}))?)(?:/(?P<step>[1-9]\d?))?")
_BOUNDS = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
"""Of minute, hour, day, month and day of the week, in which both 0 and 7 are Sunday."""
_MOST_RETRIES = 5
_UTC = ("", "UTC", "Etc/UTC")
_MINUTE = timedelta(minutes=1)
_FAILED = {400: 9, 403: 7, 404: 5, 409: 6}
"""google.rpc.Code of an HTTP status, in a job's status."""


class Clock:
    """Calls its callbacks every second, in a thread, between `start` and `stop`."""

    def __init__(
        self, *acts: Act, time: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._acts = acts
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="clock", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop after the callback that runs."""
        self._ending.set()
        self._thread.join(5)

    def tick(self, at: datetime) -> None:
        """Call every callback once with this time; log what they raise."""
        for act in self._acts:
            try:
                act(at)
            except Exception:  # noqa: BLE001 (one callback's failure must not stop the others)
                _LOG.exception("what was due at %s failed", at)

    def _run(self) -> None:
        while not self._ending.wait(_PAUSE_S):
            self.tick(datetime.now(UTC))


@dataclass(slots=True)
class _Retry:
    """A job whose last attempt failed."""

    at: datetime
    tries: int


class Scheduler:
    """Cloud Scheduler over a state."""

    def __init__(self, state: GoogleState, delete_cluster: DeleteCluster, base_url: str) -> None:
        self._state = state
        self._delete_cluster = delete_cluster
        self._base_url = base_url
        self._seen: datetime | None = None
        """The last minute whose jobs were run."""
        self._retries: dict[str, _Retry] = {}
        self._jobs = Collection(
            state=state,
            kind=Kind.SCHEDULER_JOB,
            path="/scheduler/v1/projects/{project}/locations/{location}/jobs",
            id_of=lambda call: required(body_of(call), "name").rpartition("/")[2],
            on_create=self._create,
            on_change=lambda call, job: self._checked(body_of(call)) | {"name": job["name"]},
            on_delete=lambda job: self._forget(job["name"]),
            missing="Job not found.",
            taken="Job {name} already exists.",
            plural="jobs",
        )

    def routes(self) -> list[Endpoint]:
        """Return the endpoints below /scheduler/."""
        job = f"{self._jobs.path}/{{id}}"
        return [
            Endpoint("POST", f"{job}:pause", lambda call: self._set(call, "PAUSED")),
            Endpoint("POST", f"{job}:resume", lambda call: self._set(call, "ENABLED")),
            Endpoint("POST", f"{job}:run", self._run_now),
            *self._jobs.routes(),
        ]

    def tick(self, at: datetime) -> None:
        """Run the jobs that became due since the last call, and the retries that are."""
        minutes = list(self._minutes(at))
        for job in self._state.find(Kind.SCHEDULER_JOB):
            if job.get("state") == "ENABLED" and self._is_due(job, at, minutes):
                self._attempt(job, at)

    def _minutes(self, at: datetime) -> Iterator[datetime]:
        """Give the minutes since the last call: a late call, or a suspended machine, skips none."""
        last = at.replace(second=0, microsecond=0)
        minute = self._seen + _MINUTE if self._seen else last
        while minute <= last:
            self._seen = minute
            yield minute
            minute += _MINUTE

    def _create(self, call: Call, name: str) -> Json:
        region_of(call.path["location"])
        required(body_of(call), "schedule")
        job = self._checked(body_of(call))
        return {**job, "name": name, "state": "ENABLED", "userUpdateTime": now()}

    def _checked(self, job: Json) -> Json:
        _check_schedule(job)
        if int(job.get("retryConfig", {}).get("retryCount", 0)) > _MOST_RETRIES:
            raise GoogleError(400, f"retry_count must be {_MOST_RETRIES} or less.")
        token = job.get("httpTarget", {}).get("oauthToken", {})
        check_account(self._state, token.get("serviceAccountEmail", ""))
        return job

    def _run_now(self, call: Call) -> Json:
        """Carry out a job's request now, with the rights of its service account."""
        self._carry_out(self._jobs.get(call), datetime.now(UTC), call.base_url)
        return self._jobs.update(call, lambda job: job.update(lastAttemptTime=now(), status={}))

    def _set(self, call: Call, job_state: str) -> Json:
        return self._jobs.update(call, lambda job: job.update(state=job_state))

    def _forget(self, name: str) -> None:
        self._retries.pop(name, None)

    def _is_due(self, job: Json, at: datetime, minutes: list[datetime]) -> bool:
        if any(_meets(job["schedule"], minute) for minute in minutes):
            self._forget(job["name"])  # Google retries until the next time of the schedule
            return True
        retry = self._retries.get(job["name"])
        return retry is not None and retry.at <= at

    def _attempt(self, job: Json, at: datetime) -> None:
        status: Json = {}
        try:
            self._carry_out(job, at, self._base_url)
        except GoogleError as error:
            status = {"code": _FAILED.get(error.code, 2), "message": error.message}
        before = self._retries.pop(job["name"], None)
        tries = 1 + (before.tries if before else 0)
        config = job.get("retryConfig", {})
        if status and tries <= int(config.get("retryCount", 0)):
            self._retries[job["name"]] = _Retry(at + _backoff(config, tries), tries)
        with_status = {"lastAttemptTime": now(), "status": status}
        try:
            self._state.update(Kind.SCHEDULER_JOB, job["name"], lambda job: job.update(with_status))
        except MissingError:  # deleted meanwhile
            self._forget(job["name"])

    def _carry_out(self, job: Json, at: datetime, base_url: str) -> None:
        target = job.get("httpTarget", {})
        match = _CLUSTER.search(urlsplit(target.get("uri", "")).path)
        if target.get("httpMethod") != "DELETE" or match is None:
            raise GoogleError(501, "The local Google runs jobs that delete a cluster, no others.")
        email = target.get("oauthToken", {}).get("serviceAccountEmail", "")
        key = ClusterKey(*match.groups())
        member, permission = f"serviceAccount:{email}", "container.clusters.delete"
        if not may(
            self._state, f"projects/{key.project}", member, permission, attributes_of(key, at)
        ):
            sentence = f'{email or "The job"} has no "{permission}" permission for "{match[0]}".'
            raise GoogleError(403, sentence)
        self._delete_cluster(key, base_url)


def _check_schedule(job: Json) -> None:
    """Refuse what Google would refuse, and what is not read here."""
    if "schedule" in job:
        _fields(job["schedule"])
    if job.get("timeZone", "") not in _UTC:
        raise GoogleError(501, f"The local Google's jobs run in UTC, not in {job['timeZone']}.")


def _fields(schedule: str) -> list[set[int]]:
    """Return the numbers that each field of a unix-cron schedule allows; 400 if it is none."""
    texts = schedule.split()
    if len(texts) != len(_BOUNDS):
        raise _invalid(schedule)
    return [
        {value for part in text.split(",") for value in _values(part, bounds, schedule)}
        for text, bounds in zip(texts, _BOUNDS, strict=True)
    ]


def _values(part: str, bounds: tuple[int, int], schedule: str) -> range:
    match = _PART.fullmatch(part)
    if match is None:
        raise _invalid(schedule)
    first = int(match["first"] or bounds[0])
    last = int(match["last"] or match["first"] or bounds[1])
    if not bounds[0] <= first <= last <= bounds[1]:
        raise _invalid(schedule)
    return range(first, last + 1, int(match["step"] or 1))


def _invalid(schedule: str) -> GoogleError:
    return GoogleError(400, f"Schedule or time zone is invalid: {schedule}")


def _meets(schedule: str, at: datetime) -> bool:
    """Whether a unix-cron schedule names this minute; with a day of month and one of week, either.

    https://cloud.google.com/scheduler/docs/configuring/cron-job-schedules
    """
    minutes, hours, days, months, weekdays = _fields(schedule)
    if at.minute not in minutes or at.hour not in hours or at.month not in months:
        return False
    right = [at.day in days, bool({at.isoweekday(), at.isoweekday() % 7} & weekdays)]
    _, _, day, _, weekday = schedule.split()
    return all(right) if "*" in {day, weekday} else any(right)


def _backoff(config: Json, tries: int) -> timedelta:
    """Return the pause before the next try: doubled each time, between the job's bounds."""
    least = float(str(config.get("minBackoffDuration", "5s")).removesuffix("s"))
    most = float(str(config.get("maxBackoffDuration", "3600s")).removesuffix("s"))
    return timedelta(seconds=min(least * 2 ** (tries - 1), most))
