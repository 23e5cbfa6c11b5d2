"""Parses a kubelet's messages about pulls, and the durations in them.

Reads the messages of `Pulling` and `Pulled` events (pkg/kubelet/images/image_manager.go) and Go's
time.Duration texts. Whether a pull counts is decided in exclusions.py.
"""

import re
from dataclasses import dataclass

_UNIT_NS = {
    "h": 3_600_000_000_000,
    "m": 60_000_000_000,
    "s": 1_000_000_000,
    "ms": 1_000_000,
    "us": 1_000,
    "\u00b5s": 1_000,  # micro sign, the form that Go prints
    "\u03bcs": 1_000,  # Greek mu, accepted by Go's parser
    "ns": 1,
}
_UNIT = "h|ms|m|us|\u00b5s|\u03bcs|ns|s"
_PART = re.compile(rf"(\d+)(?:\.(\d*))?({_UNIT})")
_DURATION = re.compile(rf"-?(?:\d{{1,18}}(?:\.\d{{0,18}})?(?:{_UNIT})){{1,8}}|-?0")
_SECONDS = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)s")

# Kubelets before 1.14 and virtual nodes write some of these words in lower case, or no duration.
_PULLED = re.compile(
    r'[Ss]uccessfully pulled image "(?P<image>[^"]*)"(?: in (?P<pull>\S+?)(?=\.?(?:\s|$))'
    r"(?: \((?P<wait>\S+) including waiting\))?)?"
    r"(?:\. Image size: (?P<bytes>\d{1,18}) bytes)?"
)
_CACHED = re.compile(r'[Cc]ontainer image "(?P<image>[^"]*)" already present on machine')
_PULLING = re.compile(r'[Pp]ulling image "(?P<image>[^"]*)"')
_FAILED = re.compile(r'(?:[Ff]ailed to pull|[Bb]ack-off pulling) image "(?P<image>[^"]*)"')
COMBINED = "(combined from similar events): "
"""How a kubelet begins the message of an event that stands for several different ones."""

LONGEST_PULL_S = 7 * 86_400.0
"""Seconds; a kubelet gives up a pull without progress within minutes."""


@dataclass(frozen=True, slots=True)
class PullMessage:
    """The message of a `Pulled` event.

    Attributes:
        image: as the pod named it.
        pull_s: seconds of the pull itself; None when nothing was pulled, or unknown: kubelets
            before 1.27 state one duration, which includes the wait, and some state none.
        pull_and_wait_s: the same plus waiting for other pulls on the node; None when nothing was
            pulled, or in a message without a duration.
        image_bytes: the size that the runtime reports (compressed, for containerd); None if the
            message does not have it.
        cached: whether the image was already on the node.
    """

    image: str
    pull_s: float | None
    pull_and_wait_s: float | None
    image_bytes: int | None
    cached: bool


def parse_duration(text: str) -> float:
    """Return seconds of a Go duration: `1h2m3s`, `1m16.9s`, `437ms`, `850µs`, `42ns`, `0s`.

    The sum is in whole nanoseconds, so `1m16.9s` is exactly the float 76.9.

    Raises:
        ValueError: the text is not a Go duration.
    """
    plain = _SECONDS.fullmatch(text)
    if plain:
        return float(plain[1])
    if not _DURATION.fullmatch(text):
        raise ValueError(f"{text!r} is not a duration as Go prints it, such as 1m16.9s or 437ms")
    total_ns = sum(_part_ns(*match) for match in _PART.findall(text))
    return (-total_ns if text.startswith("-") else total_ns) / 1_000_000_000


def parse_pulled(message: str) -> PullMessage | None:
    """Parse the message of a `Pulled` event; None if it is not one."""
    message = message.removeprefix(COMBINED)
    match = _PULLED.match(message)
    if match is None:
        cached = _CACHED.match(message)
        return PullMessage(cached["image"], None, None, None, cached=True) if cached else None
    pull_s = _seconds(match["pull"])
    pull_and_wait_s = _seconds(match["wait"])
    if match["wait"] is None:
        pull_s, pull_and_wait_s = None, pull_s
    image_bytes = int(match["bytes"]) if match["bytes"] else None
    return PullMessage(match["image"], pull_s, pull_and_wait_s, image_bytes, cached=False)


def _seconds(text: str | None) -> float | None:
    """Return a duration of a pull; None if there is none, or none that a pull can have."""
    try:
        seconds = parse_duration(text) if text else None
    except ValueError:
        return None
    return seconds if seconds is not None and 0 <= seconds <= LONGEST_PULL_S else None


def parse_pulling(message: str) -> str | None:
    """Return the image in the message of a `Pulling` event; None if it is not one."""
    match = _PULLING.match(message.removeprefix(COMBINED))
    return match["image"] if match else None


def parse_failed(message: str) -> str | None:
    """Return the image whose pull failed or is backed off; None for other failures."""
    match = _FAILED.match(message.removeprefix(COMBINED))
    return match["image"] if match else None


def _part_ns(whole: str, fraction: str, unit: str) -> int:
    scale = _UNIT_NS[unit]
    # Go truncates below a nanosecond, and so does the integer division.
    below = int(fraction) * scale // int(f"1{'0' * len(fraction)}") if fraction else 0
    return int(whole) * scale + below
