"""Lets each pod of a trial read shares of its image's bytes before the study's command.

A pull time says nothing of an image that is streamed, lazily loaded or preloaded: its bytes come
when they are read. read_image.sh runs inside the measured container, with its rights and tools, and
reports in the termination message. What that says is the image's word: it is checked for its form
here, and against what the image should hold by the ledger.
"""

import json
from importlib.resources import files

from schema.names import READ_NAME
from schema.run_records import Reading, ShareRead
from schema.study import Study

_SCRIPT = files("experiment.measure.on_nodes").joinpath("read_image.sh").read_text("utf-8")
_LONGEST_NOTE = 200


def pod_command(study: Study) -> tuple[str, ...]:
    """Return what each pod runs: the study's command, after reading where the study reads."""
    if not study.read:
        return study.command
    shares = " ".join(str(share.percent) for share in study.read)
    return ("sh", "-c", _SCRIPT, READ_NAME, shares, *study.command)


def read_reading(message: str) -> Reading | None:
    """Read a termination message; None if it is empty, and a note if it is no reading."""
    if not message:
        return None
    try:
        said = json.loads(message)
        if note := said.get("note"):
            return Reading(note=ascii(str(note))[1:-1][:_LONGEST_NOTE])  # not a lone surrogate
        reads = tuple(
            ShareRead(percent=percent, bytes=count, seconds=seconds)
            for percent, count, seconds in said["reads"]
        )
        return Reading(bytes=said["bytes"], list_s=said["list_s"], reads=reads)
    except (TypeError, ValueError, AttributeError, LookupError, RecursionError):
        return Reading(note=f"not the message of a reading: {message[:100]!r}")
