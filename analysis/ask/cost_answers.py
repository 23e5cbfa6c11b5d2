"""Answers about the time and price of whole trials. Pure, over study_data.py.

answers.py asks about pulls, this module about the time and cost around them.
"""

from collections import defaultdict
from collections.abc import Sequence
from itertools import combinations

import numpy as np

from analysis.ask.answer import Answer, largest_group, no_answer, not_tested
from analysis.ask.effects import Effect, Matrix, nan_median, of_nodes, ratio, signed
from analysis.ask.study_data import Cluster
from analysis.judge.wall_time import TrialTime

_NAMED_FROM = 0.005
"""A smaller share of the time is not named."""


def not_pulling(clusters: Sequence[Cluster]) -> Answer:
    """Answer how much of the wall time is not pulling, and what grows with the cluster."""
    question = "How much of the total time is not pulling?"
    timed = [c for c in clusters if c.trials_s > 0 and c.pulling_s > 0]
    if not timed:
        return no_answer(question, "No trial has both a start and an end.")
    shares = [1 - c.pulling_s / c.trials_s for c in timed]
    low, high = min(shares), max(shares)
    span = f"{low:.0%}" if round(low, 2) == round(high, 2) else f"{low:.0%} to {high:.0%}"
    largest = max(timed, key=lambda c: c.nodes)
    node = _node_share(largest)
    typical = f"; for the median node, {node.share()} on {largest.label}" if node else ""
    return Answer(
        question,
        f"{span.replace('%', ' %')} of the trials' time, on the path of the slowest node{typical}.",
        " ".join(part for part in (_what_else(timed), _growth(timed), _whole(timed)) if part),
    )


def _what_else(timed: Sequence[Cluster]) -> str:
    total = sum(c.trials_s for c in timed)
    parts: dict[str, float] = defaultdict(float)
    for cluster in timed:
        for trial in cluster.trials:
            for part, seconds in trial.parts.items():
                parts[part] += seconds / total
    named = sorted((-share, part) for part, share in parts.items() if part != "pull")
    text = ", ".join(f"{part} {-share:.1%}" for share, part in named if -share >= _NAMED_FROM)
    return f"Shares of the time of all trials: {text}." if text else ""


def _growth(timed: Sequence[Cluster]) -> str:
    """Describe how much longer the same images take on the largest cluster than the smallest."""
    group = largest_group(timed, lambda c: (c.study, c.machine_type, c.streaming))
    small, large = (end(group, key=lambda c: c.nodes) for end in (min, max))
    before, after = _first_trials(small), _first_trials(large)
    shared = sorted(before.keys() & after.keys())
    if small.nodes == large.nodes or not shared:
        return ""
    more = {
        part: sum(after[tag].parts[part] - before[tag].parts[part] for tag in shared)
        for part in after[shared[0]].parts
    }
    named = sorted(((s, p) for p, s in more.items()), key=lambda pair: -abs(pair[0]))
    text = ", ".join(f"{p} {signed(s)} s" for s, p in named if abs(s) >= 0.5)  # noqa: PLR2004
    tail = f": {text}" if text else ""
    return (
        f"From {small.nodes} to {large.nodes} nodes, the total time of the same {len(shared)} "
        f"images changes by {signed(sum(more.values()))} s{tail}."
    )


def _whole(timed: Sequence[Cluster]) -> str:
    """Describe the runs that created their clusters themselves."""
    runs = [c for c in timed if c.time.total_s > c.trials_s * 1.001]
    if not runs:
        return ""
    total = sum(c.time.total_s for c in runs)
    pulling = sum(c.pulling_s for c in runs)
    return (
        f"Including cluster creation and deletion, the runs took {total:.0f} s; pulling was "
        f"{pulling / total:.0%} of that."
    )


def _node_share(cluster: Cluster) -> Effect | None:
    times: dict[str, float] = {}
    for trial in cluster.trials:
        if trial.parts["pull"] > 0:
            times.setdefault(trial.image, trial.total_s)
    known = [image in times for image in cluster.every.images]
    totals = np.array([times[image] for image in cluster.every.images if image in times])
    if not totals.size:
        return None

    def not_pulled(seconds: Matrix) -> Matrix:
        medians = nan_median(seconds, 1)[:, known]
        total = np.where(np.isfinite(medians), totals, 0).sum(1)  # of images that a draw pulled
        pulled = np.nansum(medians, axis=1)
        share = 1 - np.divide(pulled, total, out=np.full_like(total, np.nan), where=total > 0)
        return np.asarray(share)

    return of_nodes(cluster.every, not_pulled)


def faster_machine(clusters: Sequence[Cluster]) -> Answer:
    """Answer whether the more expensive machine type is worth its price."""
    question = "Is the faster machine worth its price?"
    priced = sorted((c for c in clusters if c.machine_type and _rate(c)), key=_rate)
    pairs = [
        (a, b)
        for a, b in combinations(priced, 2)
        if a.machine_type != b.machine_type
        and (a.nodes, a.study) == (b.nodes, b.study)
        and job_times(a, b)
    ]
    if not pairs:
        types = sorted({c.machine_type or "unknown" for c in clusters})
        known = ", ".join(types)
        return not_tested(question, f"No two machine types ran at the same cluster size: {known}.")
    cheap, dear = pairs[0]
    jobs = job_times(cheap, dear)
    slow_s, fast_s = sum(a for a, _ in jobs), sum(b for _, b in jobs)
    slow_usd, fast_usd = slow_s * _rate(cheap) / 3600, fast_s * _rate(dear) / 3600
    effect = ratio(cheap.valid, dear.valid) or ratio(cheap.every, dear.every)
    pulls = (
        f"a pull takes {effect.times()} as long on the cheaper one"
        if effect
        else "one side has pulls on too few nodes for an interval"
    )
    return Answer(
        question,
        f"{_verdict(slow_s - fast_s, fast_usd - slow_usd)} {dear.machine_type} is "
        f"{_speed(slow_s / fast_s)} {cheap.machine_type} and costs "
        f"{fast_usd / slow_usd:.3g} times as much; {pulls}.",
        f"Trials of the same {len(jobs)} images on {cheap.nodes} nodes, without the gaps "
        f"between them: {slow_s:.0f} s and {slow_usd:.2f} USD against {fast_s:.0f} s and "
        f"{fast_usd:.2f} USD, at {_rate(cheap):.2f} and {_rate(dear):.2f} USD per hour.",
    )


def _speed(ratio_of_times: float) -> str:
    if ratio_of_times >= 1:
        return f"{ratio_of_times:.3g} times as fast as"
    return f"{(1 / ratio_of_times - 1) * 100:.2g} % slower than"


def _verdict(saved_s: float, more_usd: float) -> str:
    if more_usd <= 0:
        return "Yes: it is cheaper in total."
    if saved_s <= 0:
        return "No: it saves no time."
    return f"Only if an hour saved is worth {more_usd / saved_s * 3600:.0f} USD:"


def _rate(cluster: Cluster) -> float:
    """Return USD per hour of the whole cluster; 0 if unknown."""
    usd = cluster.trials_usd
    return usd / cluster.trials_s * 3600 if usd and cluster.trials_s else 0.0


def job_times(one: Cluster, other: Cluster) -> list[tuple[float, float]]:
    """Return (seconds on `one`, seconds on `other`) of each tag's first trial, by tag.

    The gaps before the trials are not included; tags that only one of them pulled are left out.
    """
    mine, theirs = _first_trials(one), _first_trials(other)
    return [(_job_s(mine[tag]), _job_s(theirs[tag])) for tag in sorted(mine.keys() & theirs.keys())]


def _job_s(trial: TrialTime) -> float:
    return trial.total_s - trial.parts["runner"]


def _first_trials(cluster: Cluster) -> dict[str, TrialTime]:
    """Return by tag the first trial that pulled: a later Job may have found the image cached."""
    found: dict[str, TrialTime] = {}
    for trial in cluster.trials:
        if trial.parts["pull"] > 0:
            found.setdefault(trial.tag, trial)
    return found
