"""Records the exchanges, which tests compare with Google's discovery documents."""

import json
import os
from pathlib import Path

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

EXCHANGES_VARIABLE = "PULL_STUDY_REHEARSAL_EXCHANGES"
"""Environment: the file that gets a line of JSON for each exchange; nothing is recorded without."""


def recorders() -> list[Middleware]:
    """Return the middleware that records, if the environment names a file."""
    path = os.environ.get(EXCHANGES_VARIABLE, "")
    return [recorder(Path(path))] if path else []


def recorder(path: Path) -> Middleware:
    """Return a middleware that appends to a file, which several servers may share."""

    @web.middleware
    async def record(request: web.Request, handler: Handler) -> web.StreamResponse:
        sent = await request.read()
        response = await handler(request)
        body = response.body if isinstance(response, web.Response) else b""
        exchange = {
            "method": request.method,
            "path": request.raw_path.partition("?")[0],
            "query": list(request.query.items()),
            "request": sent.decode(errors="replace"),
            "status": response.status,
            "answer": body.decode(errors="replace") if isinstance(body, bytes) else "",
        }
        with path.open("ab", buffering=0) as file:  # one write: lines of two servers never mix
            file.write(json.dumps(exchange).encode() + b"\n")
        return response

    return record
