"""The catalogue of faults: every kind that a rehearsal can suffer, its arguments, how it shows.

Data alone. docs/faults.md is this catalogue as a table, and a test holds the two together. What a
kind does is done where it strikes: rehearsal.google.faults, log_faults, api_front, registry_front,
cluster_faults, and node_faults for simulated nodes.
"""

from collections.abc import Mapping
from dataclasses import dataclass

Value = int | float | str
"""Of an argument; a default's type is the type of its argument."""

_DRAWN: dict[str, Value] = {"share": 1.0, "count": 0, "seed": 0}
_TRIAL: dict[str, Value] = {"trial": 0, **_DRAWN}
_CELL: dict[str, Value] = {"trial": 0, "node": 0, **_DRAWN}
_EVENT: dict[str, Value] = {**_CELL, "reason": "", "source": "both"}
_MOMENT: dict[str, Value] = {"trial": 1, "after": 0.0}
_REQUEST: dict[str, Value] = {**_TRIAL, "verb": "", "resource": ""}
_GOOGLE: dict[str, Value] = {"count": 1, "method": "POST", "path": "clusters", "message": ""}
_OPERATION: dict[str, Value] = {"count": 1, "type": "CREATE_CLUSTER"}


ARGUMENTS: Mapping[str, str] = {
    "after": "seconds from the trial's release",
    "behind": "how many later events overtake it",
    "count": "how often it strikes at most; 0 for no limit",
    "disguised": "1: the kubelet reports a quick pull, as with imagePullPolicy Always",
    "factor": "how many times longer a pull takes",
    "message": "Google's sentence instead of the usual one; the last argument, it may hold commas",
    "method": "of the call: GET, POST, PUT, PATCH, DELETE; empty for any",
    "minutes": "by which the node's clock is ahead; negative for behind",
    "ms": "milliseconds that each request waits",
    "node": "number at the end of the measured node's name; 0 for any",
    "page": "entries on a page at most",
    "path": "end of the call's path; empty for any",
    "process": "runner, kube-scheduler or kube-controller-manager",
    "reason": "of the event: Scheduled, Pulling, Pulled, Created, Started ...; empty for any",
    "resource": "part of the request's path, such as pods, jobs, events; empty for any",
    "s": "seconds",
    "seed": "of the draws",
    "share": "of what it could strike, drawn by seed",
    "source": "where the event is struck: watch (the runner's), exporter, or both alike",
    "status": "of HTTP",
    "to": "number of the node that gets the pod",
    "tries": "how many tries of a pull fail; 0 for all",
    "trial": "number of the trial in the plan; 0 for any",
    "type": "of the operation, as GKE names it",
    "verb": "of HTTP; empty for any",
}
"""What each argument means, whatever kind it belongs to."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of fault."""

    does: str
    """What happens, one sentence."""
    shows: str
    """How the run must show it: status of the cell, record, exit code."""
    arguments: Mapping[str, Value]
    """Defaults by name."""
    simulated: bool = False
    """Only simulated nodes can suffer it."""


KINDS: Mapping[str, Kind] = {
    # Events on their way to the runner
    "event-lost": Kind(
        "An event of a trial's pod never reaches the source.",
        "missing-events if no source has the Pulling or the Pulled event; else valid, and the "
        "ledger names the sources that saw it and counts what each lost",
        _EVENT,
    ),
    "event-duplicated": Kind(
        "An event of a trial's pod reaches the source twice.",
        "valid: events are merged on their uid",
        _EVENT,
    ),
    "event-late": Kind(
        "An event of a trial's pod reaches the source late.",
        "valid: an event counts by its own time",
        {**_EVENT, "s": 2.0},
    ),
    "event-out-of-order": Kind(
        "An event of a trial's pod reaches the source after later ones.",
        "valid: an event counts by its own time",
        {**_EVENT, "behind": 3},
    ),
    # The exporter and Cloud Logging
    "exporter-restarted": Kind(
        "The exporter is killed once the trial is released, and starts again by itself.",
        "valid: it reports again what it had reported, merged on the uid",
        _MOMENT,
    ),
    "exporter-defaults": Kind(
        "From before the trial, 0 for the start, the exporter has its default settings: events "
        "older than 5 s dropped, look-ups at 5 requests a second.",
        "valid by the watch, and the ledger counts the events that the exporter lost; from the "
        "start often exit code of event source down, since not even a first event arrives",
        {"trial": 0},
    ),
    "entry-late": Kind(
        "Cloud Logging takes this long to show an entry that the exporter printed.",
        "valid; collecting waits, and `collect` finds it afterwards",
        {**_EVENT, "source": "exporter", "s": 60.0},
    ),
    "entry-never": Kind(
        "Cloud Logging never shows an entry that the exporter printed.",
        "as event-lost with source=exporter",
        {**_EVENT, "source": "exporter"},
    ),
    "logging-throttled": Kind(
        "Cloud Logging refuses reads of the trials' events by 429: its limit of reads a minute.",
        "valid; the reads are repeated",
        {"count": 2},
    ),
    "page-token-expired": Kind(
        "Cloud Logging gives short pages, and refuses the token of a next one.",
        "valid; the reading starts anew",
        {"count": 1, "page": 50},
    ),
    "sink-late": Kind(
        "The log sink writes to its bucket this long after the cluster was deleted.",
        "the archive is empty until then; the run itself does not need it",
        {"s": 60.0},
    ),
    # The runner's way to the API server
    "watch-closed": Kind(
        "The watches that the resource names are closed, and again until the time is over.",
        "a gap of the source watch; cells valid if another source has their events",
        {**_MOMENT, "resource": "events", "s": 1.0},
    ),
    "watch-expired": Kind(
        "The watches that the resource names are told that they are too old: 410 Gone.",
        "a gap of the source watch; cells valid if another source has their events",
        {**_MOMENT, "resource": "events"},
    ),
    "api-slow": Kind(
        "The API server's answers wait.",
        "valid; the wait is in the time from release to the last pod bound",
        {**_REQUEST, "ms": 500.0},
    ),
    "api-throttled": Kind(
        "The API server answers 429 with Retry-After.",
        "valid; the request is repeated",
        {**_REQUEST, "count": 3},
    ),
    "api-error": Kind(
        "The API server answers 500.",
        "valid; the request is repeated",
        {**_REQUEST, "count": 3},
    ),
    "api-reset": Kind(
        "The connection is reset after the request was sent.",
        "valid; the request is repeated",
        {**_REQUEST, "count": 3},
    ),
    "two-pods": Kind(
        "The pod of one node is sent to another, which so gets two.",
        "aborted on the node without a pod, repeated on the node with two",
        {"trial": 1, "node": 1, "to": 2},
    ),
    "scheduler-stalled": Kind(
        "The scheduler stands still from before the trial's release.",
        "valid; the stall is in the phase from release to scheduled",
        {"trial": 1, "s": 5.0},
    ),
    # Nodes
    "node-not-ready": Kind(
        "The node's kubelet falls silent, and the node is NotReady until the time is over.",
        "node-lost",
        {"trial": 1, "node": 1, "after": 0.0, "s": 12.0},
        simulated=True,
    ),
    "node-deleted": Kind(
        "The node is deleted with its pods.",
        "node-lost, in this trial and in all that follow",
        {"trial": 1, "node": 1, "after": 0.0},
        simulated=True,
    ),
    "node-replaced": Kind(
        "The node is deleted with its pods, and an empty one of the same name takes its place.",
        "node-lost, in this trial and in all that follow: another node of the same name",
        {"trial": 1, "node": 1, "after": 0.0},
        simulated=True,
    ),
    "node-slow": Kind(
        "Pulls on the node take longer by a factor.",
        "valid: it is what the node did, and stands out in pull_s",
        {**_CELL, "node": 1, "factor": 5.0},
        simulated=True,
    ),
    "node-disk-full": Kind(
        "The node runs out of disk during the pull and evicts the pod.",
        "evicted or disk-pressure",
        {**_CELL, "trial": 1, "node": 1},
        simulated=True,
    ),
    "node-clock-off": Kind(
        "The node's clock is wrong.",
        "valid: durations are the kubelet's own; the ledger names the node whose clock differs",
        {"node": 1, "minutes": 5.0},
        simulated=True,
    ),
    "cached-image": Kind(
        "The image is on the node before its turn.",
        "cached",
        {**_CELL, "trial": 1, "node": 1, "disguised": 0},
        simulated=True,
    ),
    # The registry, for nodes that pull
    "image-missing": Kind(
        "The registry answers a node's pull: not found.",
        "failed",
        {**_CELL, "trial": 1},
    ),
    "registry-throttled": Kind(
        "The registry answers a node's pull: 429.",
        "failed, or retried if a later try succeeded",
        {**_CELL, "trial": 1, "tries": 1},
    ),
    "registry-down": Kind(
        "The registry does not take a node's connections.",
        "failed, or retried if a later try succeeded",
        {**_CELL, "trial": 1, "tries": 1},
    ),
    # Google's APIs
    "google-conflict": Kind(
        "A call to Google is refused: 409, there is one of that name.",
        "exit code of provider error: something of the name is there that the state does not know",
        _GOOGLE,
    ),
    "google-quota": Kind(
        "A call to Google is refused: 403, the quota does not suffice.",
        "exit code of quota; nothing was created, nothing is left",
        _GOOGLE,
    ),
    "google-unavailable": Kind(
        "A call to Google is refused: 503.",
        "valid; the call is repeated",
        {**_GOOGLE, "count": 2},
    ),
    "google-error": Kind(
        "A call to Google is refused with any status and reason.",
        "as Google's sentence says",
        {"status": 403, "reason": "", **_GOOGLE},
    ),
    "google-operation-failed": Kind(
        "A long-running operation ends with an error: no capacity, by default.",
        "exit code of capacity; the broken cluster is removed",
        {**_OPERATION, "message": ""},
    ),
    "google-stuck": Kind(
        "A long-running operation makes no progress until the time is over; 0 s: for ever.",
        "a longer provision; for ever: exit code of provision after its deadline",
        {**_OPERATION, "s": 0.0},
    ),
    # The runner itself
    "process-killed": Kind(
        "A process is killed by SIGKILL once the trial is released.",
        "runner: `--resume` measures what is missing; others: as far as they are needed",
        {**_MOMENT, "process": "runner"},
    ),
}
