"""Ends a rehearsal from outside, whatever state it is in."""

import os
import time

from rehearsal.machine import processes
from rehearsal.machine.cleanup import clear
from rehearsal.machine.home import Home, RehearsalError, is_locked, lock, read_json

STOP_S = 10.0
"""In which a server stops all clusters and removes its home."""


def end(home: Home) -> bool:
    """End the server of a home with all that it runs, or remove what a killed one left."""
    if not home.folder.exists():
        return False
    server = read_json(home.server_file)
    if server and is_locked(home):
        processes.terminate(int(server["pid"]), home.folder)
        deadline = time.monotonic() + STOP_S
        while processes.running(home.folder) and time.monotonic() < deadline:
            time.sleep(0.05)
    processes.stop(home.folder)
    if not home.folder.exists():
        return True
    descriptor = lock(home)
    if descriptor is None:
        raise RehearsalError(
            f"The rehearsal in {home.folder} is just being started anew, so it was left alone.",
            "python -m rehearsal down",
        )
    try:
        clear(home)
    finally:
        os.close(descriptor)
    return True
