"""Assembles the local Google: its REST APIs, Cloud Logging, the images, the clusters.

Imported late by the server, whose other parts start meanwhile: the clients of Google's messages
take more than a second to load.
"""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from rehearsal.cloud_logging import service
from rehearsal.cloud_logging.entries import LogStore
from rehearsal.faults.faults import Faults, injected_file
from rehearsal.google.access.login import Login
from rehearsal.google.api import LocalGoogle
from rehearsal.google.compute import region_of
from rehearsal.google.faults import GoogleFaults
from rehearsal.google.recorder import recorders
from rehearsal.local_fleet import LocalFleet
from rehearsal.machine import web
from rehearsal.machine.home import Home
from rehearsal.machine.options import Options
from rehearsal.machine.tokens import token_route
from rehearsal.real_nodes import registry
from rehearsal.real_nodes.caches import RegistryCaches
from rehearsal.real_nodes.mirror import ImageMaker, mirror_routes, system_routes
from rehearsal.real_nodes.registry import LocalRegistry
from rehearsal.real_nodes.spans import span_route
from rehearsal.simulated_nodes.manifests import claim_routes

_RESIZE_S = 6.0
"""Of a control plane, for which users report one to five minutes."""


@contextmanager
def local_google(
    home: Home,
    images: LocalRegistry | None,
    *,
    listening: socket.socket,
    logging_port: int,
    login: Login,
    options: Options,
    say: Callable[[str], None],
) -> Iterator[None]:
    """Serve until the block ends; its clusters end with it.

    Args:
        home: folder of the clusters.
        images: the registry, which may still be starting; None where nodes are simulated.
        listening: where the REST APIs and the image lookups answer.
        logging_port: for Cloud Logging's gRPC, on loopback.
        login: what callers need.
        options: of the rehearsal.
        say: gets a line for each step.

    Raises:
        RehearsalError: the registry did not start.
    """
    host = f"127.0.0.1:{listening.getsockname()[1]}"
    with ExitStack() as stack:
        logs = LogStore()
        faults = Faults.read(options.faults, injected_file(home.folder))
        ending = threading.Event()
        logging, _ = service.serve(logs, logging_port, faults, login.accepts)
        stack.callback(logging.stop, 0)
        caches = RegistryCaches(home.folder, images, f"http://{host}") if images else None
        if caches:
            stack.callback(caches.close_all)
        fleet = LocalFleet(
            home,
            images=images,
            mirror=host,
            write_log=logs.append,
            write_event=logs.append_event,
            options=options,
            faults=faults,
            say=say,
            through_google=lambda key: google.registry.hosts(key.project, region_of(key.location)),
        )
        google = LocalGoogle(
            fleet,
            logs=logs,
            faults=GoogleFaults(faults, ending),
            base_url=f"http://{host}/",
            resize_s=_RESIZE_S,
            login=login,
            cache=caches,
        )
        maker = ImageMaker(images, options.scale, say) if images else None
        mirror = mirror_routes(images, maker) if images and maker else claim_routes(options.scale)
        through = google.registry.image_routes()
        kept = [span_route(home.spans)] if images else []
        routes = [token_route(home), *kept, *system_routes(), *through, *mirror, *google.routes]
        stack.enter_context(web.serving(routes, listening, middlewares=recorders()))
        stack.callback(fleet.close)
        stack.callback(ending.set)
        google.clock.start()
        stack.callback(google.clock.stop)
        if images and maker:
            registry.wait_until_up(images)
            maker.make_pause()
        yield
