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

from rehearsal.cloud_logging import service
from rehearsal.cloud_logging.store import LogStore
from rehearsal.faults.faults import Faults, injected_file
from rehearsal.google import api
from rehearsal.google.faults import GoogleFaults
from rehearsal.google.scheduler_clock import Clock
from rehearsal.google.state import GoogleState
from rehearsal.local_fleet import LocalFleet
from rehearsal.machine.home import Home
from rehearsal.machine.options import Options
from rehearsal.real_nodes import registry
from rehearsal.real_nodes.mirror import ImageMaker, mirror_routes
from rehearsal.real_nodes.registry import LocalRegistry
from rehearsal.simulated_nodes.manifests import claim_routes


@contextmanager
def local_google(
    home: Home,
    images: LocalRegistry | None,
    *,
    listening: socket.socket,
    logging_port: int,
    options: Options,
    say: Callable[[str], None],
) -> Iterator[None]:
    """Serve until the block ends; its clusters end with it.

    Args:
        home: holds its state.
        images: the registry, started just now; None where nodes are simulated.
        listening: where the REST APIs and the registry's front answer.
        logging_port: for Cloud Logging's gRPC, on loopback.
        options: what kind of rehearsal it is.
        say: gets a line for each step.

    Raises:
        RehearsalError: the registry did not start.
    """
    with ExitStack() as stack:
        store = LogStore(home.folder / "log-entries.jsonl")
        stack.callback(store.close)
        faults = Faults.read(options.faults, injected_file(home.folder))
        ending = threading.Event()
        logging, _ = service.serve(store, logging_port, faults)
        stack.callback(logging.stop, 0)
        fleet = LocalFleet(
            home,
            images=images,
            mirror=f"127.0.0.1:{listening.getsockname()[1]}",
            write_log=store.append,
            options=options,
            faults=faults,
            say=say,
        )
        state = GoogleState(home.folder / "google.sqlite")
        clock = Clock()
        google = api.routes(
            state,
            fleet,
            store,
            GoogleFaults(faults, ending),
            clock=clock,
            base_url=f"http://127.0.0.1:{listening.getsockname()[1]}/",
        )
        maker = ImageMaker(images, options.scale, say) if images else None
        mirror = mirror_routes(images, maker) if images and maker else claim_routes(options.scale)
        stack.callback(_serve(Starlette(routes=[*mirror, *google]), listening))
        stack.callback(fleet.close)
        stack.callback(ending.set)
        clock.start()
        stack.callback(clock.stop)
        if images and maker:
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
