"""Where and how the recordings were made: conditions, differences, and how to repeat them."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from analysis.read.load_runs import Recording
from analysis.show.page import Section
from analysis.show.report_parts import Draft, make_table

_MOST_VALUES = 4

_VERSIONS = ("kubelet", "container runtime")
"""Versions in run.json that a pull depends on."""


_REPEAT = (
    "The seed gives the same order of images; run.json has all digests. pull-study-analysis plots "
    "draws each figure of this page from the same recordings; the digest below a figure is that of "
    "what it draws."
)

_USUAL = (("image streaming", ["off"]), ("workload", ["job"]))
"""Conditions that are named only where they differ."""


@dataclass(frozen=True)
class _Fact:
    """A property of clusters; `by_cluster` has its values, empty where it is unknown."""

    name: str
    by_cluster: Mapping[str, str]

    @property
    def known(self) -> list[str]:
        """Its distinct values, sorted."""
        return sorted({value for value in self.by_cluster.values() if value})


def _facts(draft: Draft) -> list[_Fact]:
    clusters = draft.frames.clusters
    names = list(clusters["cluster"])
    records = {(one.run, one.stack): one for one in draft.tables.recordings}
    mine = [records.get((row.run, row.stack)) for row in clusters.itertuples()]
    begins = draft.frames.pulls.groupby("cluster", observed=False)["started_at"].min()
    days = [begins.get(name) for name in names]
    columns = {
        "machine type": [_spaced(text) for text in clusters["machine_type"]],
        "disk": [_spaced(text) for text in clusters["disk"]],
        "zone": list(clusters["zone"]),
        "workload": list(clusters["workload"]),
        "image streaming": ["on" if on else "off" for on in clusters["streaming"]],
        **{version: [_version(one, version) for one in mine] for version in _VERSIONS},
        "kind of data": list(clusters["kind"]),
        "day": [f"{day:%Y-%m-%d}" if pd.notna(day) else "" for day in days],
    }
    return [_Fact(name, dict(zip(names, values, strict=True))) for name, values in columns.items()]


def _spaced(text: str) -> str:
    return text.replace(",", " and ")


def _version(recording: Recording | None, name: str) -> str:
    versions = recording.folder.record.versions if recording and recording.folder else {}
    return versions.get(name, "")


def conditions(draft: Draft) -> list[str]:
    """Return the conditions of all clusters, each as `name: values`; what is unknown is named."""
    facts = _facts(draft)
    known = [
        f"{fact.name}: {_few(fact.known)}"
        for fact in facts
        if fact.known and (fact.name, fact.known) not in _USUAL
    ]
    unknown = [fact.name for fact in facts if not fact.known]
    return [*known, *([f"not recorded: {', '.join(unknown)}"] if unknown else [])]


def differences(draft: Draft) -> str:
    """Return in what the clusters of a plot differ besides their nodes; empty for one cluster."""
    if len(draft.labels) < 2:  # noqa: PLR2004 (a comparison)
        return ""
    differ, unknown = [], []
    for fact in _facts(draft):
        if len(fact.known) > 1:
            differ.append(f"{fact.name} ({_few(fact.known)})")
        elif not all(fact.by_cluster.values()):
            unknown.append(fact.name)
    text = f" Clusters also differ in {', '.join(differ)}." if differ else ""
    if unknown:
        text += f" Not recorded for all clusters: {', '.join(unknown)}."
    return text


def _few(values: Sequence[str]) -> str:
    rest = len(values) - _MOST_VALUES
    return ", ".join(values[:_MOST_VALUES]) + (f" and {rest} more" if rest > 0 else "")


def repeat(draft: Draft) -> Section:
    """Return the section on how to repeat each recording, with the image digests and the cost."""
    rows = [
        [
            row.cluster,
            _command(recording),
            _digests(recording),
            _cost(draft, row.cluster, row.kind, row.total_s),
        ]
        for row in draft.frames.clusters.itertuples()
        for recording in draft.tables.recordings
        if (recording.run, recording.stack) == (row.run, row.stack)
    ]
    names = ("Cluster", "Command", "Images", "Cost of the recording")
    table = make_table("How each recording was made", names, rows, draft.mark)
    return Section("repeat", "Repeat it", [_REPEAT], tables=[table])


def _command(recording: Recording) -> str:
    """Return the command of a run of this project; what is known of a foreign one."""
    folder = recording.folder
    if not folder or not folder.record.trials:
        return "Recorded by another program; the recording does not have its command."
    record = folder.record
    place = ["--kubeconfig", "KUBECONFIG"] if record.existing else ["--stack", record.stack]
    words = ["pull-study", "run", *place, "--study", record.study_file, "--seed", str(record.seed)]
    rehearsal = record.rehearsal
    if rehearsal:
        words += ["--rehearse", "--nodes", rehearsal.nodes, "--scale", f"{rehearsal.scale:g}"]
        words += ["--speed", f"{rehearsal.speed:g}"] if rehearsal.speed != 1 else []
    return shlex.join(words)


def _digests(recording: Recording) -> str:
    trials = recording.folder.record.trials if recording.folder else ()
    digests = list(dict.fromkeys(trial.image.digest for trial in trials))
    if not digests:
        return "digests not recorded"
    first = digests[0].partition(":")[2][:12]
    return f"sha256:{first}…" + (f" and {len(digests) - 1} more" if len(digests) > 1 else "")


def _usd(draft: Draft, cluster: str, total_s: float) -> float:
    """Return the list price of a cluster for its recording; NaN if it is unknown."""
    trials = draft.of(draft.frames.trials, cluster)
    seconds, usd = trials["total_s"].sum(), trials["usd"].sum(min_count=max(1, len(trials)))
    return float(usd * max(1.0, total_s / seconds)) if seconds > 0 else float("nan")


def _cost(draft: Draft, cluster: str, kind: str, total_s: float) -> str:
    if kind != "measured":
        return "nothing: a rehearsal on one machine"
    usd = _usd(draft, cluster, total_s)
    if pd.isna(usd):
        return "unknown: no list price"
    return f"about {usd:.2f} USD for {total_s / 3600:.1f} h"


def repeat_cost(draft: Draft) -> str:
    """Return the cost of all measured recordings together in a few words."""
    measured = draft.frames.clusters[draft.frames.clusters["kind"] == "measured"]
    if measured.empty:
        return "at no cost, on one machine"
    costs = pd.Series([_usd(draft, row.cluster, row.total_s) for row in measured.itertuples()])
    known = costs.dropna()
    text = f"for about {known.sum():.2f} USD" if len(known) else "at an unknown cost"
    missing = len(costs) - len(known)
    return (
        f"{text}, without {missing} clusters of unknown price" if missing and len(known) else text
    )
