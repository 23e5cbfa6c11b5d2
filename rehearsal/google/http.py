"""Google's form of requests and errors."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from aiohttp import web

from rehearsal.google.state import Json
from rehearsal.machine.web import Call, route

_REASONS = {
    400: ("INVALID_ARGUMENT", "badRequest"),
    401: ("UNAUTHENTICATED", "authError"),
    403: ("PERMISSION_DENIED", "forbidden"),
    404: ("NOT_FOUND", "notFound"),
    409: ("ALREADY_EXISTS", "alreadyExists"),
    412: ("FAILED_PRECONDITION", "conditionNotMet"),
    429: ("RESOURCE_EXHAUSTED", "rateLimitExceeded"),
    500: ("INTERNAL", "backendError"),
    501: ("UNIMPLEMENTED", "notImplemented"),
    503: ("UNAVAILABLE", "backendError"),
}


class GoogleError(Exception):
    """An error answer. Status and reason are by default the usual ones of the HTTP code."""

    def __init__(self, code: int, message: str, *, status: str = "", reason: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        usual_status, usual_reason = _REASONS.get(code, ("UNKNOWN", "unknown"))
        self.status = status or usual_status
        self.reason = reason or usual_reason

    def response(self) -> web.Response:
        """Return it in Google's JSON form."""
        item = {"message": self.message, "domain": "global", "reason": self.reason}
        error = {
            "code": self.code,
            "message": self.message,
            "status": self.status,
            "errors": [item],
        }
        return web.json_response({"error": error}, status=self.code)


Handler = Callable[[Call], Json | web.Response]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A method of an API; a GoogleError of its handler becomes an answer in Google's form."""

    method: str
    path: str
    handler: Handler

    def route(self, guard: Callable[[Call], None]) -> web.RouteDef:
        """Return a server's route; `guard` sees each call first and refuses it by GoogleError."""
        return route(self.method, self.path, lambda call: self.answer(call, guard))

    def answer(self, call: Call, guard: Callable[[Call], None]) -> web.Response:
        """Answer one call, as the route does."""
        try:
            guard(call)
            answer = self.handler(call)
        except GoogleError as error:
            return error.response()
        return answer if isinstance(answer, web.Response) else web.json_response(answer)


def body_of(call: Call) -> Json:
    """Return the body as a JSON object, empty without one; 400 for anything else."""
    try:
        body = json.loads(call.raw or b"{}")
    except ValueError as error:
        raise GoogleError(400, f"Invalid JSON payload received. {error}") from error
    if not isinstance(body, dict):
        raise GoogleError(400, "Invalid JSON payload received. It is not an object.")
    return body


def required(body: Json, field: str) -> str:
    """Return a field that must be a string that is not empty; 400 otherwise."""
    value = body.get(field)
    if not isinstance(value, str) or not value:
        raise GoogleError(400, f"The request lacks the required field '{field}'.")
    return value


def now() -> str:
    """Return the time as Google writes it."""
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
