"""Answers about the time and price of whole trials. Pure, over study_data.py.

What answers.py says of pulls, this says of all that surrounds them. Also here is what both need to
word an answer.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import combinations

import numpy as np

from analysis.ask.effects import Effect, Matrix, nan_median, of_nodes, ratio
from analysis.ask.study_data import Cluster
from analysis.judge.wall_time import TrialTime
from analysis.show.page import Answer

CANNOT = "This cannot be told from this data."

_LEAST_SIDES = 2
_TOLD_FROM = 0.005
"""A smaller share of the time is not named."""


def not_pulling(clusters: Sequence[Cluster]) -> Answer:
    """How much of the wall time is something else, and what grows with the cluster?"""
    question = "How much of the total time is not pulling?"
    timed = [c for c in clusters if c.trials_s > 0 and c.pulling_s > 0]
    if not timed:
        return untold(question, "No trial has both a begin and an end.")
    shares = [1 - c.pulling_s / c.trials_s for c in timed]
    low, high = min(shares), max(shares)
    span = f"{low:.0%}" if round(low, 2) == round(high, 2) else f"{low:.0%} to {high:.0%}"
    largest = max(timed, key=lambda c: c.nodes)
    node = _node_share(largest)
    middle = f"; for a node in the middle {node.share()} on {largest.label}" if node else ""
    return Answer(
        question,
        f"{span.replace('%', ' %')} of the trials' time, which waits for the slowest node{middle}.",
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
    text = ", ".join(f"{part} {-share:.1%}" for share, part in named if -share >= _TOLD_FROM)
    return f"Of the time of all trials: {text}." if text else ""


def _growth(timed: Sequence[Cluster]) -> str:
    """What the same images take longer on the largest cluster than on the smallest."""
    group = largest_group(timed, lambda c: (c.study, c.machine_type, c.streaming))
    small, large = (pick(group, key=lambda c: c.nodes) for pick in (min, max))
    before, after = _first_trials(small), _first_trials(large)
    shared = sorted(before.keys() & after.keys())
    if small.nodes == large.nodes or not shared:
        return ""
    more = {
        part: sum(after[tag].parts[part] - before[tag].parts[part] for tag in shared)
        for part in after[shared[0]].parts
    }
    named = sorted(((s, p) for p, s in more.items()), key=lambda pair: -abs(pair[0]))
    text = ", ".join(f"{p} {_signed(s)} s" for s, p in named if abs(s) >= 0.5)  # noqa: PLR2004
    total = _signed(sum(more.values()))
    tail = f": {text}" if text else ""
    return (
        f"From {small.nodes} to {large.nodes} nodes the same {len(shared)} images take {total} s "
        f"in all{tail}."
    )


def _whole(timed: Sequence[Cluster]) -> str:
    """Of the runs that brought their clusters up themselves."""
    runs = [c for c in timed if c.time.total_s > c.trials_s * 1.001]
    if not runs:
        return ""
    total = sum(c.time.total_s for c in runs)
    pulling = sum(c.pulling_s for c in runs)
    return (
        f"With the clusters' coming and going the runs took {total:.0f} s, of which pulling was "
        f"{pulling / total:.0%}."
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
        middle = nan_median(seconds, 1)[:, known]
        there = np.where(np.isfinite(middle), totals, 0).sum(1)  # of images that a draw pulled
        pulled = np.nansum(middle, axis=1)
        share = 1 - np.divide(pulled, there, out=np.full_like(there, np.nan), where=there > 0)
        return np.asarray(share)

    return of_nodes(cluster.every, not_pulled)


def faster_machine(clusters: Sequence[Cluster]) -> Answer:
    """Is the dearer machine worth its price?"""
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
        return untold(question, f"Only one machine type at a size: {', '.join(types)}.")
    cheap, dear = pairs[0]
    jobs = job_times(cheap, dear)
    slow_s, fast_s = sum(a for a, _ in jobs), sum(b for _, b in jobs)
    slow_usd, fast_usd = slow_s * _rate(cheap) / 3600, fast_s * _rate(dear) / 3600
    effect = ratio(cheap.valid, dear.valid) or ratio(cheap.every, dear.every)
    pulls = (
        f"a pull is {effect.times()} as long on the cheaper one"
        if effect
        else "pulls of one side have too few nodes for an interval"
    )
    return Answer(
        question,
        f"{_verdict(slow_s - fast_s, fast_usd - slow_usd)} {dear.machine_type} is "
        f"{slow_s / fast_s:.3g} times faster than {cheap.machine_type} and "
        f"{fast_usd / slow_usd:.3g} times dearer; {pulls}.",
        f"The trials of the same {len(jobs)} images on {cheap.nodes} nodes, without the gaps "
        f"between them: {slow_s:.0f} s and {slow_usd:.2f} USD against {fast_s:.0f} s and "
        f"{fast_usd:.2f} USD, at {_rate(cheap):.2f} and {_rate(dear):.2f} USD an hour.",
    )


def _verdict(saved_s: float, more_usd: float) -> str:
    if more_usd <= 0:
        return "Yes: it is cheaper in all."
    if saved_s <= 0:
        return "No: it saves no time."
    return f"Only where an hour is worth {more_usd / saved_s * 3600:.0f} USD:"


def _rate(cluster: Cluster) -> float:
    """USD an hour; 0 where it is not known."""
    usd = cluster.trials_usd
    return usd / cluster.trials_s * 3600 if usd and cluster.trials_s else 0.0


def job_times(one: Cluster, other: Cluster) -> list[tuple[float, float]]:
    """Seconds of the trials of tags that both pulled, without the gaps before them."""
    mine, theirs = _first_trials(one), _first_trials(other)
    return [(_job_s(mine[tag]), _job_s(theirs[tag])) for tag in sorted(mine.keys() & theirs.keys())]


def _job_s(trial: TrialTime) -> float:
    return trial.total_s - trial.parts["runner"]


def _first_trials(cluster: Cluster) -> dict[str, TrialTime]:
    """By tag the first trial that pulled: a later Job may have found the image on the nodes."""
    found: dict[str, TrialTime] = {}
    for trial in cluster.trials:
        if trial.parts["pull"] > 0:
            found.setdefault(trial.tag, trial)
    return found


def largest_group(clusters: Sequence[Cluster], key: Callable[[Cluster], object]) -> list[Cluster]:
    """The group with the most sizes of cluster."""
    groups: dict[object, list[Cluster]] = defaultdict(list)
    for cluster in clusters:
        groups[key(cluster)].append(cluster)
    return max(groups.values(), key=lambda group: len({c.nodes for c in group}), default=[])


def untold(question: str, why: str) -> Answer:
    """The answer that there is none, and why."""
    return Answer(question, CANNOT, why, told=False)


def listed(numbers: Sequence[int]) -> str:
    """Numbers as a sentence names them."""
    *most, last = [str(number) for number in numbers]
    return f"{', '.join(most)} and {last}" if most else last


def _signed(value: float) -> str:
    return f"{value:+.1f}".replace("-", "\u2212")
