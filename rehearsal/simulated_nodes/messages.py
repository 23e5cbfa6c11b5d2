"""The messages of kubelet 1.34.1 in events and in pods' statuses, and of containerd in errors."""

from dataclasses import dataclass

NORMAL, WARNING = "Normal", "Warning"


@dataclass(frozen=True, slots=True)
class EventText:
    """Type (Normal or Warning), reason and message of an event."""

    kind: str
    reason: str
    message: str


def go_duration(seconds: float) -> str:
    """A duration as Go prints one that was cut to milliseconds: 437ms, 42.088s, 1m16.9s, 1h0m0s."""
    milliseconds = int(seconds * 1000 + 1e-6)
    if milliseconds < 1000:  # noqa: PLR2004
        return f"{milliseconds}ms" if milliseconds else "0s"
    minutes, rest = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    text = f"{rest // 1000}.{rest % 1000:03d}".rstrip("0").rstrip(".") + "s"
    if hours:
        return f"{hours}h{minutes}m{text}"
    return f"{minutes}m{text}" if minutes else text


def pulling(image: str) -> EventText:
    return EventText(NORMAL, "Pulling", f'Pulling image "{image}"')


def pulled(image: str, pull_s: float, pull_and_wait_s: float, size: int) -> EventText:
    return EventText(
        NORMAL,
        "Pulled",
        f'Successfully pulled image "{image}" in {go_duration(pull_s)} '
        f"({go_duration(pull_and_wait_s)} including waiting). Image size: {size} bytes.",
    )


def streamed(image: str) -> EventText:
    """Of a node of GKE, about an image without its tag; pulling/run4 of the original study."""
    return EventText(NORMAL, "ImageStreaming", f"Image {image} is backed by image streaming.")


def present(image: str) -> EventText:
    return EventText(NORMAL, "Pulled", f'Container image "{image}" already present on machine')


def pull_failed(image: str, error: str) -> EventText:
    return EventText(WARNING, "Failed", f'Failed to pull image "{image}": {error}')


def backing_off(image: str) -> EventText:
    return EventText(NORMAL, "BackOff", f'Back-off pulling image "{image}"')


def container_error(reason: str) -> EventText:
    """A container cannot be created, for a reason such as ErrImagePull."""
    return EventText(WARNING, "Failed", f"Error: {reason}")


def created(container: str) -> EventText:
    return EventText(NORMAL, "Created", f"Created container: {container}")


def started(container: str) -> EventText:
    return EventText(NORMAL, "Started", f"Started container {container}")


def killing(container: str) -> EventText:
    return EventText(NORMAL, "Killing", f"Stopping container {container}")


def not_found(image: str) -> str:
    """Return the runtime's error for an image that the registry does not have."""
    return (
        f'rpc error: code = NotFound desc = failed to pull and unpack image "{image}": failed to '
        f'resolve reference "{image}": {image}: not found'
    )


def throttled(image: str) -> str:
    """Return the runtime's error for a registry that limits the rate of pulls."""
    return (
        f'rpc error: code = Unknown desc = failed to pull and unpack image "{image}": failed to '
        "copy: httpReadSeeker: failed open: unexpected status code "
        f"{_url(image, 'blobs')}: 429 Too Many Requests - Server message: toomanyrequests: "
        "You have reached your pull rate limit."
    )


def refused(image: str) -> str:
    """Return the runtime's error for a registry that accepts no connection."""
    dial = "dial tcp 192.0.2.1:443: connect: connection refused"
    return unreachable(image, f'Head "{_url(image, "manifests")}": {dial}')


PULL_FAILURES = {"404": not_found, "429": throttled, "down": refused}
"""By the variant of the fault `pull`."""


def _url(image: str, kind: str) -> str:
    name, _, digest = image.partition("@")
    host, _, path = name.partition("/")
    repository = path.rpartition(":")[0] or path
    return f"https://{host}/v2/{repository}/{kind}/{digest or path.rpartition(':')[2]}"


def unreachable(image: str, why: str) -> str:
    """Return the runtime's error for a registry that does not answer."""
    return (
        f'rpc error: code = Unknown desc = failed to pull and unpack image "{image}": failed to '
        f'resolve reference "{image}": failed to do request: {why}'
    )


def no_space(image: str, layer: str) -> str:
    return (
        f'rpc error: code = Unknown desc = failed to pull and unpack image "{image}": failed to '
        f"extract layer {layer}: no space left on device: unknown"
    )


def node_status(node: str, status: str) -> EventText:
    """A condition of the node has changed, such as NodeHasDiskPressure."""
    return EventText(NORMAL, status, f"Node {node} status is now: {status}")


RECLAIMING = EventText(WARNING, "EvictionThresholdMet", "Attempting to reclaim ephemeral-storage")


def evicted(threshold: int, available: int) -> EventText:
    """A pod is evicted as the disk is nearly full; both arguments in bytes."""
    return EventText(
        WARNING,
        "Evicted",
        "The node was low on resource: ephemeral-storage. "
        f"Threshold quantity: {threshold}, available: {available // 1024}Ki. ",
    )


def rejected() -> EventText:
    """A pod is rejected as the disk is nearly full."""
    return EventText(WARNING, "Evicted", "The node had condition: [DiskPressure]. ")
