"""The study's questions, each with what the data say: an effect, its interval, or that they cannot.

An answer compares only what can be compared: clusters of one provenance (a rehearsal never stands
beside a measurement). Valid cells decide; where they are too few, that is the answer, and the
detail says what all successful pulls would suggest. Pure, over study_data.py.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from itertools import combinations

import numpy as np

from analysis.effects import (
    Effect,
    Pulls,
    fit_line,
    nan_median,
    per_doubling,
    ratio,
)
from analysis.machines import (
    DISK_BYTES_PER_S,
    GUNZIP_BYTES_PER_S,
    NETWORK_BYTES_PER_S,
    USD_PER_HOUR,
)
from analysis.page import Answer
from analysis.study_data import Cluster, Image, priced_alike

CANNOT = "This cannot be told from this data."
EMPTY_FROM = 20
"""From this ratio of unpacked to compressed bytes on, images count as hardly more than air."""

_LEAST_SIDES = 2


def all_answers(clusters: Sequence[Cluster]) -> list[Answer]:
    """Every question, in the order of the page; questions are asked a provenance at a time."""
    asked: list[Callable[[Sequence[Cluster]], Answer]] = [
        cluster_size,
        layers_or_size,
        network_or_disk,
        not_pulling,
        faster_machine,
        registries,
        streaming,
    ]
    by_provenance: dict[str, list[Cluster]] = defaultdict(list)
    for cluster in clusters:
        by_provenance[cluster.provenance].append(cluster)
    answers = []
    for question in asked:
        for provenance, mine in sorted(by_provenance.items()):
            answer = question(mine)
            mark = "" if provenance == "measured" else provenance
            answers.append(Answer(answer.question, answer.fact, answer.detail, answer.told, mark))
    return answers


def cluster_size(clusters: Sequence[Cluster]) -> Answer:
    """Does a pull take longer on a larger cluster?"""
    question = "Does the size of the cluster matter?"
    group = _largest_group(clusters, lambda c: (c.study, c.machine_type, c.streaming))
    sizes = sorted({c.nodes for c in group})
    if len(sizes) < _LEAST_SIDES:
        known = f"All clusters have {sizes[0]} nodes." if sizes else "No pull was recorded."
        return _untold(question, known)
    every = per_doubling([c.every for c in group])
    valid = per_doubling([c.valid for c in group])
    spread = f"Clusters of {_listed(sizes)} nodes, one recording each: what differs between "
    spread += "days cannot be told from what differs between sizes. "
    if valid is None:
        hint = (
            f"All successful pulls would say {every.percent()} for each doubling." if every else ""
        )
        return _untold(question, f"Too few nodes have valid cells at two sizes. {hint}")
    return Answer(
        question,
        f"{_direction(valid, 'Pulls take longer', 'Pulls get shorter', 'No difference shows')}: "
        f"{valid.percent()} for each doubling of the nodes.",
        spread + (f"All successful pulls: {every.percent()}. " if every else ""),
    )


def layers_or_size(clusters: Sequence[Cluster]) -> Answer:
    """Is it the number of layers, or the bytes?"""
    question = "Do layers matter, or the total size?"
    images = _sized(clusters)
    counts = {image.layers for image in images.values()}
    if len({image.unpacked_bytes for image in images.values()}) < _LEAST_SIDES:
        return _untold(question, "The images do not differ in size.")
    features = {
        name: (image.unpacked_bytes / 1e9, image.layers / 100)
        for name, image in images.items()
        if image.unpacked_bytes and image.layers
    }
    names = ("GB", "100 layers")
    if len(counts) < _LEAST_SIDES:
        line = fit_line(
            [c.valid for c in clusters], {k: v[:1] for k, v in features.items()}, ["GB"]
        )
        size = f"Each GB takes {line.text('GB')} s. " if line else ""
        return _untold(question, f"All images have {counts.pop()} layers. {size}")
    line = fit_line([c.valid for c in clusters], features, names)
    used = "valid cells"
    if line is None:
        line = fit_line([c.every for c in clusters], features, names)
        used = "all successful pulls, since valid cells are too few"
    if line is None:
        return _untold(question, "Too few nodes pulled images that differ in both.")
    return Answer(
        question,
        f"Each GB takes {line.text('GB')} s, each 100 layers {line.text('100 layers')} s.",
        f"Fitted to medians of {used}; size and layers together explain {line.explained:.1%} of "
        f"the differences between images.",
    )


def network_or_disk(clusters: Sequence[Cluster]) -> Answer:
    """Which roof does a pull run under?"""
    question = "What limits a pull: network, unpacking or disk?"
    measured = [c for c in clusters if c.measured and c.machine_type in NETWORK_BYTES_PER_S]
    if not measured:
        return _untold(
            question,
            "The limits of the machines are not known here; they are known for measured clusters "
            "of a listed machine type.",
        )
    cluster = max(measured, key=lambda c: (len(c.valid.images) > 0, c.nodes))
    shares = roof_shares(cluster)
    if not shares:
        return _untold(question, "Bytes on the wire and on the disk are not known.")
    network, gunzip, disk = (float(np.median([s[i] for s in shares])) for i in range(3))
    name = max(
        (("the disk", disk), ("unpacking", gunzip), ("the network", network)),
        key=lambda pair: pair[1],
    )[0]
    return Answer(
        question,
        f"{name[0].upper()}{name[1:]}: at its limit it alone would take "
        f"{max(disk, gunzip, network):.0%} of the pull time; unpacking by one core "
        f"{gunzip:.0%}, the network {network:.2%}.",
        f"Medians over {len(shares)} images of at least 1 GB on {cluster.label}. The limits are "
        f"the makers' figures: disk {DISK_BYTES_PER_S / 1e6:.0f} MB/s, gunzip about "
        f"{GUNZIP_BYTES_PER_S / 1e6:.0f} MB/s, network "
        f"{NETWORK_BYTES_PER_S[cluster.machine_type] / 1e6:.0f} MB/s. The parts overlap, so shares "
        "do not add up; above 100 % the true limit is higher than the figure.",
    )


_LARGE_BYTES = 1e9


def roof_shares(cluster: Cluster) -> list[tuple[float, float, float]]:
    """Per large image, the share of its median pull that network, gunzip, disk would need."""
    pulls = cluster.valid if cluster.valid.images else cluster.every
    medians = dict(zip(pulls.images, nan_median(pulls.seconds, 0), strict=True))
    network = NETWORK_BYTES_PER_S.get(cluster.machine_type)
    shares = []
    for name, seconds in medians.items():
        image = cluster.images.get(name)
        if image is None or not image.unpacked_bytes or not image.wire_bytes or network is None:
            continue
        if image.unpacked_bytes < _LARGE_BYTES or not np.isfinite(seconds):
            continue
        shares.append(
            (
                image.wire_bytes / network / seconds,
                image.unpacked_bytes / GUNZIP_BYTES_PER_S / seconds,
                image.unpacked_bytes / DISK_BYTES_PER_S / seconds,
            )
        )
    return shares


def not_pulling(clusters: Sequence[Cluster]) -> Answer:
    """How much of the wall time is something else?"""
    question = "How much of the total time is not pulling?"
    timed = [c for c in clusters if c.wall_s > 0 and c.pulling_s > 0]
    if not timed:
        return _untold(question, "No turn has both a begin and an end.")
    shares = [1 - c.pulling_s / c.wall_s for c in timed]
    low, high = min(shares), max(shares)
    span = f"{low:.0%}" if round(low, 2) == round(high, 2) else f"{low:.0%} to {high:.0%}"
    settle = [
        t.complete_s - t.started_s for c in timed for t in c.turns if t.complete_s and t.started_s
    ]
    detail = "Wall time of the turns less the longest pull of each"
    if settle:
        detail += (
            "; from the start of the last container to the completion of its Job alone "
            f"{np.median(settle):.0f} s in the middle and up to {max(settle):.0f} s"
        )
    return Answer(
        question,
        f"{span} of the wall time.",
        f"{detail}. By cluster: {_by_cluster(timed, shares)}.",
    )


def _by_cluster(clusters: Sequence[Cluster], shares: Sequence[float]) -> str:
    return ", ".join(f"{c.label} {share:.0%}" for c, share in zip(clusters, shares, strict=True))


def faster_machine(clusters: Sequence[Cluster]) -> Answer:
    """Is the dearer machine worth its price?"""
    question = "Is the faster machine worth its price?"
    priced = [cluster for cluster, _ in priced_alike(clusters)]
    pairs = [
        (a, b)
        for a, b in combinations(sorted(priced, key=lambda c: USD_PER_HOUR[c.machine_type]), 2)
        if a.machine_type != b.machine_type and (a.nodes, a.study) == (b.nodes, b.study)
    ]
    if not pairs:
        types = sorted({c.machine_type or "unknown" for c in clusters})
        return _untold(question, f"Only one machine type at a size: {', '.join(types)}.")
    cheap, dear = pairs[0]
    effect = ratio(cheap.valid, dear.valid) or ratio(cheap.every, dear.every)
    faster = cheap.wall_s / dear.wall_s
    dearer = USD_PER_HOUR[dear.machine_type] / USD_PER_HOUR[cheap.machine_type] / faster
    pulls = (
        f"A pull is {effect.times()} as long on the cheaper one. "
        if effect
        else "The pulls of one side have too few valid nodes for an interval. "
    )
    return Answer(
        question,
        f"{dear.machine_type} is {faster:.3g} times faster than {cheap.machine_type} for the whole "
        f"study, and {dearer:.3g} times dearer.",
        f"{pulls}Whole study of {cheap.nodes} nodes: {cheap.wall_s:.0f} s against "
        f"{dear.wall_s:.0f} s, at {USD_PER_HOUR[cheap.machine_type]:.2f} and "
        f"{USD_PER_HOUR[dear.machine_type]:.2f} USD an hour and node.",
    )


def registries(clusters: Sequence[Cluster]) -> Answer:
    """Registry A against registry B, by the same tags."""
    question = "Is one registry faster than another?"
    by_registry = _split(clusters, lambda image: image.registry)
    if len(by_registry) < _LEAST_SIDES:
        only = ", ".join(by_registry) or "none"
        return _untold(question, f"All images came from {only}.")
    for (a, left), (b, right) in combinations(sorted(by_registry.items()), 2):
        for one in left:
            for other in right:
                effect = _same_tags(one, other)
                if effect and one[0].nodes == other[0].nodes:
                    return Answer(
                        question,
                        f"A pull from {a} takes {effect.times()} as long as from {b}.",
                        f"The same tags on {one[0].label} and {other[0].label}; runs of their own, "
                        f"so the day may differ too.",
                    )
    return _untold(question, "No tag was pulled from two registries on clusters of one size.")


def streaming(clusters: Sequence[Cluster]) -> Answer:
    """Image streaming against plain pulls, by pull time and by job time."""
    question = "Does image streaming help?"
    streamed = [c for c in clusters if c.streaming]
    plain = [c for c in clusters if not c.streaming]
    for one in streamed:
        for other in plain:
            shared = {i.tag for i in one.images.values()} & {i.tag for i in other.images.values()}
            effect = ratio(other.every, one.every, _tag_of(one, other))
            if one.nodes == other.nodes and shared and effect:
                job = _job_ratio(other, one, shared)
                return Answer(
                    question,
                    f"By pull time {effect.times()} shorter; by job time {job:.3g} times.",
                    f"{one.label} against {other.label}, the same {len(shared)} tags. What "
                    "streaming saves before the start it may cost while the program runs.",
                )
    kind = "with" if streamed else "without"
    return _untold(question, f"Every recorded cluster pulled {kind} image streaming.")


def _job_ratio(over: Cluster, under: Cluster, tags: set[str]) -> float:
    def total(cluster: Cluster) -> float:
        return sum(
            t.end_s - t.begin_s for t in cluster.turns if cluster.images[t.image].tag in tags
        )

    return total(over) / total(under)


def emptiest(clusters: Sequence[Cluster]) -> Image | None:
    """The image whose unpacked bytes exceed its compressed ones the most, if by EMPTY_FROM."""
    images = [
        image
        for cluster in clusters
        for image in cluster.images.values()
        if image.unpacked_bytes and image.wire_bytes
    ]
    worst = max(images, key=_emptiness, default=None)
    return worst if worst is not None and _emptiness(worst) >= EMPTY_FROM else None


def _emptiness(image: Image) -> float:
    return (image.unpacked_bytes or 0) / (image.wire_bytes or 1)


def _untold(question: str, why: str) -> Answer:
    return Answer(question, CANNOT, why, told=False)


def _largest_group(clusters: Sequence[Cluster], key: Callable[[Cluster], object]) -> list[Cluster]:
    """The group with the most sizes of cluster."""
    groups: dict[object, list[Cluster]] = defaultdict(list)
    for cluster in clusters:
        groups[key(cluster)].append(cluster)
    return max(groups.values(), key=lambda group: len({c.nodes for c in group}), default=[])


def _sized(clusters: Sequence[Cluster]) -> dict[str, Image]:
    return {
        name: image
        for cluster in clusters
        for name, image in cluster.images.items()
        if image.unpacked_bytes and image.layers
    }


def _split(
    clusters: Sequence[Cluster], key: Callable[[Image], str]
) -> dict[str, list[tuple[Cluster, Pulls]]]:
    """Valid pulls by a property of the image, a cluster at a time."""
    parts: dict[str, list[tuple[Cluster, Pulls]]] = defaultdict(list)
    for cluster in clusters:
        by_key: dict[str, list[str]] = defaultdict(list)
        for image in cluster.valid.images:
            if image in cluster.images:
                by_key[key(cluster.images[image])].append(image)
        for value, names in by_key.items():
            part = Pulls(cluster.nodes, cluster.valid.names, tuple(names), cluster.valid.of(names))
            parts[value].append((cluster, part))
    return parts


def _same_tags(one: tuple[Cluster, Pulls], other: tuple[Cluster, Pulls]) -> Effect | None:
    return ratio(one[1], other[1], _tag_of(one[0], other[0]))


def _tag_of(*clusters: Cluster) -> Callable[[str], str]:
    tags = {name: image.tag for cluster in clusters for name, image in cluster.images.items()}
    return lambda name: tags.get(name, name)


def _direction(effect: Effect, more: str, less: str, neither: str) -> str:
    if effect.low > 1:
        return more
    return less if effect.high < 1 else neither


def _listed(numbers: Sequence[int]) -> str:
    *most, last = [str(number) for number in numbers]
    return f"{', '.join(most)} and {last}" if most else last
