"""How a call to a Google REST API comes in and how its answer goes out.

Handlers are plain functions from a Call to a JSON object; they run in threads, so they may block.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from rehearsal.google.state import Json

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
    """An answer that is an error.

    Args:
        code: HTTP status.
        message: one sentence.
        status: name of the gRPC status; the usual one of the code by default.
        reason: reason in Google's error list; the usual one of the code by default.
    """

    def __init__(self, code: int, message: str, *, status: str = "", reason: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status or _REASONS[code][0]
        self.reason = reason or _REASONS[code][1]

    def response(self) -> JSONResponse:
        """Google's JSON form of an error."""
        item = {"message": self.message, "domain": "global", "reason": self.reason}
        error = {
            "code": self.code,
            "message": self.message,
            "status": self.status,
            "errors": [item],
        }
        return JSONResponse({"error": error}, status_code=self.code)


@dataclass(frozen=True, slots=True)
class Call:
    """One request.

    Attributes:
        method: of HTTP.
        url_path: the path.
        path: its variable parts.
        query: of the URL; the last of a repeated name.
        raw: the body.
        base_url: scheme, host and port by which the caller reached this server, and a slash.
        authorization: the header; empty if there is none.
    """

    method: str
    url_path: str
    path: dict[str, str]
    query: dict[str, str]
    raw: bytes
    base_url: str
    authorization: str

    @property
    def body(self) -> Json:
        """The body as a JSON object; empty if there is none.

        Raises:
            GoogleError: it is not a JSON object.
        """
        try:
            body = json.loads(self.raw or b"{}")
        except ValueError as error:
            raise GoogleError(400, f"Invalid JSON payload received. {error}") from None
        if not isinstance(body, dict):
            raise GoogleError(400, "Invalid JSON payload received. It is not an object.")
        return body


Handler = Callable[[Call], Json | Response]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A method of an API: the calls that it answers and how.

    Attributes:
        method: of HTTP.
        path: with variable parts in braces.
        handler: answers; its GoogleError becomes an answer in Google's form.
    """

    method: str
    path: str
    handler: Handler

    def route(self, guard: Callable[[Call], None]) -> Route:
        """A route for a server; `guard` sees each call first and may refuse it by GoogleError."""

        def handle(call: Call) -> Json | Response:
            guard(call)
            return self.handler(call)

        async def answer(request: Request) -> Response:
            call = Call(
                method=request.method,
                url_path=request.url.path,
                path=dict(request.path_params),
                query=dict(request.query_params),
                raw=await request.body(),
                base_url=str(request.base_url),
                authorization=request.headers.get("authorization", ""),
            )
            try:
                answer = await run_in_threadpool(handle, call)
            except GoogleError as error:
                return error.response()
            return answer if isinstance(answer, Response) else JSONResponse(answer)

        return Route(self.path, answer, methods=[self.method])


def required(body: Json, field: str) -> str:
    """A field that the request must carry.

    Raises:
        GoogleError: it is not there, empty, or not a string.
    """
    value = body.get(field)
    if not isinstance(value, str) or not value:
        raise GoogleError(400, f"The request lacks the required field '{field}'.")
    return value
