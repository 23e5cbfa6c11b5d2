"""The catalogue of faults: every kind that can be injected, its arguments, how a run shows it.

Data only; docs/faults.md is this catalogue as a table. The injection points are in
rehearsal.google.faults, rehearsal.cloud_logging.service and the other modules of this package.
"""

from collections.abc import Mapping
from dataclasses import dataclass

Value = int | float | str
Default = Value | tuple[str, ...]
"""A value, whose type is the argument's; or the allowed words, the first by default."""

_DRAWN: dict[str, Default] = {"share": 1.0, "count": 0, "seed": 0}
_CELL: dict[str, Default] = {"trial": 1, "node": 1, **_DRAWN}
_MOMENT: dict[str, Default] = {"trial": 1, "after": 0.0}

ARGUMENTS: Mapping[str, str] = {
    "after": "seconds from the trial's release",
    "count": "injections at most; 0 for no limit",
    "disguised": "1: the kubelet reports a quick pull, as with imagePullPolicy Always",
    "factor": "how many times longer a pull takes",
    "how": "what goes wrong",
    "message": "Google's sentence, in place of the usual one; the last argument, may hold commas",
    "method": "HTTP method of the call: GET, POST, PUT, PATCH, DELETE; empty for any",
    "minutes": "by which the node's clock is ahead; negative for behind",
    "ms": "milliseconds that each request is delayed, with how=slow",
    "node": "number at the end of the measured node's name; 0 for any",
    "page": "entries on a page at most, with how=token",
    "path": "end of the call's path; empty for any",
    "process": "which process",
    "reason": "of the event (Scheduled, Pulling, Pulled ...) or of Google's error; empty for any",
    "replaced": "1: an empty node of the same name takes its place",
    "resource": "part of the request's path, such as pods, jobs, events; empty for any",
    "s": "seconds",
    "seed": "of the random choices",
    "share": "fraction of what it could affect, chosen at random by seed",
    "source": "whose copy of the event: the runner's watch, the exporter, both and GKE's own log; "
    "logging: Cloud Logging shows late (or never) what exporter and GKE wrote in time",
    "status": "HTTP status, with how=error",
    "to": "number of the node that gets the pod",
    "tries": "attempts of a pull that fail; 0 for all, as always with how=404",
    "trial": "number of the trial in the plan; 0 for any",
    "type": "type of the operation, as GKE names it",
    "verb": "HTTP verb; empty for any",
}
"""What each argument means, whatever kind it belongs to."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of fault."""

    does: str
    """What happens, one sentence."""
    shows: str
    """How the run must show it: status of the cell, record, exit code."""
    arguments: Mapping[str, Default]
    simulated: bool = False
    """Only simulated nodes support it."""


KINDS: Mapping[str, Kind] = {
    "event": Kind(
        "An event of a trial's pod is lost, arrives twice, or arrives late.",
        "lost: missing-events if no source has the Pulling or the Pulled event, else valid, and "
        "the ledger names the sources that saw it and counts what each lost; twice and late: "
        "valid, events are merged on their uid and count by their own time",
        {
            "how": ("lost", "twice", "late"),
            **_CELL,
            "trial": 0,
            "node": 0,
            "reason": "",
            "source": ("both", "watch", "exporter", "logging"),
            "s": 2.0,
        },
    ),
    "exporter": Kind(
        "restart: the exporter is killed after the trial's release, and restarts. defaults: from "
        "before the trial (0: the start) it has its default settings: events older than 5 s "
        "dropped, look-ups at 5 requests a second.",
        "restart: valid, repeated events are merged on the uid; defaults: valid by the watch, and "
        "the ledger counts the lost events; from the start often the exit code of an event source "
        "that is down",
        {"how": ("restart", "defaults"), **_MOMENT},
    ),
    "logging": Kind(
        "Cloud Logging refuses reads of the trials' events: 429, its limit of reads a minute, or "
        "an expired page token after short pages.",
        "valid; the reads are repeated",
        {"how": ("429", "token"), "count": 2, "page": 50},
    ),
    "watch": Kind(
        "The watches of the resource are closed and refused until the time is over, or end with "
        "410 Gone.",
        "a gap of the source watch, but none where one of events ends with 410: a new list has all "
        "of them; cells valid if another source has their events",
        {"how": ("closed", "410"), **_MOMENT, "resource": "events", "s": 1.0},
    ),
    "api": Kind(
        "The API server answers with an error (429 has Retry-After), resets the connection after "
        "the request, or is slow. Watches only where the resource names them.",
        "valid; the request is repeated; a delay is in the time from release to the last pod bound",
        {
            "how": ("error", "reset", "slow"),
            "trial": 0,
            **_DRAWN,
            "count": 3,
            "verb": "",
            "resource": "",
            "status": 500,
            "ms": 500.0,
        },
    ),
    "api-away": Kind(
        "The API server answers no request from outside the cluster until the time is over, as in "
        "resizes of GKE's zonal control planes.",
        "valid, with a recovered gap of the source watch; one line on the terminal when it goes, "
        "and one when it is back; after six minutes the run ends",
        {**_MOMENT, "s": 30.0},
    ),
    "google": Kind(
        "A call to Google is refused, by default as unavailable (503); 409: something of that name "
        "exists; quota: 403, the quota is too small.",
        "503 once or twice: valid, the call is repeated; else the exit code of Google's answer: "
        "quota, permission, provider error; nothing is left",
        {
            "how": ("error", "quota"),
            "status": 503,
            "reason": "",
            "count": 1,
            "method": "POST",
            "path": "clusters",
            "message": "",
        },
    ),
    "list": Kind(
        "GKE's list lacks clusters: late: those created less than `s` seconds ago; zone: all, and "
        "it names their zones as missing.",
        "valid; `list` and `sweep` warn of missing zones; `destroy` and `recover` also ask for the "
        "stack's own cluster",
        {"how": ("late", "zone"), "s": 10.0},
    ),
    "new-project": Kind(
        "The project has the quotas of a new one: 12 CPUS_ALL_REGIONS, and in each region 24 CPUS, "
        "8 IN_USE_ADDRESSES and 500 GB of SSD_TOTAL_GB.",
        "exit code of a quota, in preflight",
        {},
    ),
    "operation": Kind(
        "A long-running operation of GKE fails, by default since the zone has no capacity; or "
        "makes no progress until the time is over (0 s: never).",
        "failed: exit code of capacity, the broken cluster is removed; stuck: a longer provision, "
        "or the exit code of provision after its deadline",
        {
            "how": ("failed", "stuck"),
            "count": 1,
            "type": "CREATE_CLUSTER",
            "s": 0.0,
            "message": "",
        },
    ),
    "pull": Kind(
        "The registry answers a node's pull with 404 or 429, or does not accept its connections.",
        "failed, or retried if a later attempt succeeded",
        {"how": ("404", "429", "down"), **_CELL, "node": 0, "tries": 1},
    ),
    "cached-image": Kind(
        "The image is on the node before its turn.", "cached", {**_CELL, "disguised": 0}, True
    ),
    "view-missing": Kind(
        "The registry has the image of Flux no more when nodes pull it, before the first trial.",
        "the run ends with the exit code of an image that is missing; no trial begins",
        {"count": 0},
    ),
    "operator-down": Kind(
        "The Flux Operator is killed after the trial's release, and stays down for some seconds; "
        "0 to the end.",
        "valid; the trials whose MiniClusters do not exist yet begin later, and abort if they must "
        "wait too long",
        {**_MOMENT, "s": 20.0},
    ),
    "node-deleted": Kind(
        "The node is deleted with its pods.",
        "node-lost, in this trial and in all that follow, whether it is replaced or not",
        {**_MOMENT, "node": 1, "replaced": 0},
        True,
    ),
    "node-not-ready": Kind(
        "The node's kubelet reports nothing, and the node is NotReady until the time is over.",
        "node-lost",
        {**_MOMENT, "node": 1, "s": 12.0},
        True,
    ),
    "node-slow": Kind(
        "Pulls on the node take longer by a factor.",
        "valid: it is what the node did, and stands out in pull_s",
        {**_CELL, "trial": 0, "factor": 5.0},
        True,
    ),
    "node-clock": Kind(
        "The node's clock is wrong: the times of its events, statuses and reports.",
        "valid: durations are the kubelet's own; the ledger names the node whose clock differs",
        {"node": 1, "minutes": 5.0},
        True,
    ),
    "disk-full": Kind(
        "The node runs out of disk during the pull and evicts the pod.",
        "evicted or disk-pressure",
        _CELL,
        True,
    ),
    "two-pods": Kind(
        "The pod of one node is sent to another, which then has two.",
        "aborted on the node without a pod, repeated or cached on the node with two",
        {"trial": 1, "node": 1, "to": 2},
    ),
    "scheduler-stalled": Kind(
        "The scheduler is stopped from before the trial's release.",
        "valid; the release does not wait for it, since the runner binds the pods",
        {"trial": 1, "s": 5.0},
    ),
    "process-killed": Kind(
        "A process is killed by SIGKILL after the trial's release.",
        "runner: `--resume` measures what is missing; kube-scheduler: nothing; "
        "kube-controller-manager: trials whose pods do not exist yet fail",
        {**_MOMENT, "process": ("runner", "kube-scheduler", "kube-controller-manager")},
    ),
}


def shown(kind: Kind) -> dict[str, str]:
    """Return the arguments of a kind with their defaults or allowed words, as users see them."""
    return {
        key: "/".join(default) if isinstance(default, tuple) else str(default)
        for key, default in kind.arguments.items()
    }
