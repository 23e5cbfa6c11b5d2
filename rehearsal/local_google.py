"""Puts the local Google together: its REST APIs, Cloud Logging, the registry's front, the clusters.

Imported late by the server, whose other parts start meanwhile: the clients of Google's messages
take more than a second to load.
"""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import uvicorn
from starlette.applications import Starlette

from rehearsal import cloud_logging, google_api, registry
from rehearsal.google_state import GoogleState
from rehearsal.home import Home
from rehearsal.local_fleet import LocalFleet
from rehearsal.log_store import LogStore
from rehearsal.mirror import ImageMaker, mirror_routes
from rehearsal.registry import LocalRegistry


@contextmanager
def local_google(
    home: Home,
    images: LocalRegistry,
    *,
    listening: socket.socket,
    logging_port: int,
    scale: float,
    rate_limits: bool,
    say: Callable[[str], None],
) -> Iterator[None]:
    """Serve until the block ends; its clusters end with it.

    Args:
        home: holds its state.
        images: the registry, started just now.
        listening: where the REST APIs and the registry's front answer.
        logging_port: for Cloud Logging's gRPC, on loopback.
        scale: of the images to what their tags claim.
        rate_limits: keep Kubernetes' own client-side rate limits.
        say: gets a line for each step.

    Raises:
        RehearsalError: the registry did not start.
    """
    with ExitStack() as stack:
        store = LogStore(home.folder / "log-entries.jsonl")
        stack.callback(store.close)
        logging, _ = cloud_logging.serve(store, logging_port)
        stack.callback(logging.stop, 0)
        fleet = LocalFleet(
            home,
            registry=images.address,
            pause_image=images.pause_image,
            write_log=store.append,
            rate_limits=rate_limits,
            say=say,
        )
        google = google_api.routes(GoogleState(home.folder / "google.sqlite"), fleet, store)
        maker = ImageMaker(images, scale, say)
        mirror = mirror_routes(images, maker)
        stack.callback(_serve(Starlette(routes=[*mirror, *google]), listening))
        stack.callback(fleet.close)
        registry.wait_until_up(images)
        maker.make_pause()
        yield


def _serve(app: Starlette, listening: socket.socket) -> Callable[[], None]:
    """Serve in a thread; what ends it."""
    config = uvicorn.Config(
        app, log_level="error", access_log=False, lifespan="off", timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()

    def end() -> None:
        server.should_exit = True
        thread.join(3)

    return end
