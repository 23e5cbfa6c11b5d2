"""What a cell's pod read of its image: the columns of a cell, and what speaks against them. Pure.

The figures are the word of a program in the measured container. A share counts as read if its bytes
were; a mark says what is missing, or contradicts what the image should hold.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from schema.image_tag import find_tag
from schema.run_records import PlannedImage, Reading, TrialPod
from schema.study import Share

_LEAST = 0.99
"""Part of a share's bytes that must have been read: a few files belong to another user."""


def reading_columns(pod: TrialPod | None, shares: Sequence[Share]) -> dict[str, Any]:
    """Return read_bytes, reading_s and the seconds of each share that was asked for and read."""
    reading = pod.reading if pod else None
    if not shares or reading is None or not reading.reads:
        return {}
    asked = {share.percent for share in shares}
    seconds = {
        f"read_{read.percent}_s": read.seconds
        for read in reading.reads
        if read.percent in asked and _complete(reading, read.percent, read.bytes)
    }
    last = reading.reads[-1]
    return {"read_bytes": last.bytes, "reading_s": reading.list_s + last.seconds, **seconds}


def reading_doubts(
    pod: TrialPod | None, shares: Sequence[Share], claimed: int | None
) -> Iterable[str]:
    """Yield why a pod that ended well has no reading, or one that contradicts its image.

    Args:
        pod: of the cell.
        shares: that it was to read.
        claimed: bytes that its image's files should have (claimed_bytes).
    """
    if not shares or pod is None or pod.phase != "Succeeded":
        return
    reading = pod.reading
    if reading is None or not reading.reads:
        why = reading.note if reading else ""
        yield f"its pod reported no reading: {why or 'there is no termination message'}"
        return
    last = reading.reads[-1]
    if [read.percent for read in reading.reads] != [share.percent for share in shares]:
        yield "its pod reported other shares than those that the study reads"
    elif not _complete(reading, last.percent, last.bytes):
        yield (
            f"its pod read {last.bytes} bytes, and {last.percent} % of its image's files are "
            f"{reading.bytes * last.percent // 100}: not all can be read"
        )
    if claimed is not None and reading.bytes < _LEAST * claimed:
        yield (
            f"its image's files had {reading.bytes} bytes, and {claimed} by its tag: the figures "
            "of reading are of fewer bytes"
        )


def claimed_bytes(image: PlannedImage, scale: float) -> int | None:
    """Return the bytes of an image's files by its tag, in a rehearsal its part of them."""
    claim = find_tag(image.tag)
    return round(claim.size_bytes * scale) if claim else None


def _complete(reading: Reading, percent: int, count: int) -> bool:
    return count >= _LEAST * reading.bytes * percent / 100
