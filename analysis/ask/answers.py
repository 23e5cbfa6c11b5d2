"""The study's questions, each answered by an effect with its interval, or by why there is none.

An answer compares clusters of one provenance only, never a rehearsal with a measurement. It uses
valid cells; where these are too few, the answer is that there is not enough data, and the detail
gives the effect over all successful pulls. Pure, over study_data.py; questions about time and price
are in cost_answers.py.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import combinations

import numpy as np

from analysis.ask.answer import Answer, largest_group, listed, no_answer, not_tested
from analysis.ask.cost_answers import faster_machine, job_times, not_pulling
from analysis.ask.effects import (
    Effect,
    Line,
    Matrix,
    Pulls,
    fit_line,
    nan_median,
    of_nodes,
    per_doubling,
    ratio,
    spread,
)
from analysis.ask.study_data import Cluster, Image
from analysis.read.machines import DISK_BYTES_PER_S, GUNZIP_BYTES_PER_S, NETWORK_BYTES_PER_S

_LEAST_SIDES = 2


def all_answers(clusters: Sequence[Cluster]) -> list[Answer]:
    """Answer every question for each provenance, in the order of the page."""
    asked: list[Callable[[Sequence[Cluster]], Answer]] = [
        cluster_size,
        layers_or_size,
        network_or_disk,
        not_pulling,
        faster_machine,
        registries,
        streaming,
    ]
    by_kind: dict[str, list[Cluster]] = defaultdict(list)
    for cluster in clusters:
        by_kind[cluster.kind].append(cluster)
    answers = []
    for question in asked:
        for _, mine in sorted(by_kind.items()):
            answer = question(mine)
            marks = sorted({cluster.provenance for cluster in mine if not cluster.measured})
            answers.append(replace(answer, provenance="; ".join(marks)))
    return answers


def cluster_size(clusters: Sequence[Cluster]) -> Answer:
    """Answer whether a pull takes longer on a larger cluster."""
    question = "Does the size of the cluster matter?"
    group = largest_group(clusters, lambda c: (c.study, c.machine_type, c.streaming))
    sizes = sorted({c.nodes for c in group})
    if len(sizes) < _LEAST_SIDES:
        if not sizes:
            return no_answer(question, "No pull was recorded.")
        return not_tested(question, f"All clusters have {sizes[0]} nodes.")
    every = per_doubling([c.every for c in group])
    valid = per_doubling([c.valid for c in group])
    caveat = f"Clusters of {listed(sizes)} nodes, one recording each: differences between days "
    caveat += "cannot be separated from differences between sizes. "
    if valid is None:
        hint = f"Over all successful pulls: {every.percent()} per doubling." if every else ""
        return no_answer(question, f"Too few nodes have valid cells at two sizes. {hint}")
    return Answer(
        question,
        f"{_direction(valid)}: {valid.percent()} per doubling of the nodes.",
        caveat + (f"All successful pulls: {every.percent()}. " if every else ""),
    )


def layers_or_size(clusters: Sequence[Cluster]) -> Answer:
    """Answer whether the number of layers or the size makes pulls longer."""
    question = "Do layers matter, or the total size?"
    images = _sized(clusters)
    counts = {image.layers for image in images.values()}
    if len({image.unpacked_bytes for image in images.values()}) < _LEAST_SIDES:
        return not_tested(question, "The images do not differ in size.")
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
        return not_tested(question, f"All images have {counts.pop()} layers. {size}")
    line = fit_line([c.valid for c in clusters], features, names)
    used = "valid cells"
    if line is None:
        line = fit_line([c.every for c in clusters], features, names)
        used = "all successful pulls, since valid cells are too few"
    if line is None:
        return no_answer(question, "Too few nodes pulled images that differ in both.")
    reach = [
        (max(v[i] for v in features.values()) - min(v[i] for v in features.values()))
        * line.values[i]
        for i in range(2)
    ]
    return Answer(
        question,
        f"{_which(line, reach)} Each GB takes {line.text('GB')} s, each 100 layers "
        f"{line.text('100 layers')} s.",
        f"Across these images, size accounts for {reach[0]:.1f} s and layers for "
        f"{reach[1]:.1f} s. Fitted to medians of {used}; together they explain "
        f"{line.explained:.1%} of the variance between images.{_steadiness(clusters)}",
    )


def _which(line: Line, reach: Sequence[float]) -> str:
    i = line.names.index("100 layers")
    if line.low[i] <= 0 <= line.high[i]:
        return "The total size; layers have no visible effect."
    far = 3  # times as much, from which on one of them is called the main cause
    if abs(reach[0]) > far * abs(reach[1]):
        return "Mostly the total size, layers a little."
    return "Both matter." if far * abs(reach[0]) > abs(reach[1]) else "Mostly the layers."


def _steadiness(clusters: Sequence[Cluster]) -> str:
    """Describe whether pulls of images with many layers vary less between nodes."""
    cluster = max(clusters, key=lambda c: np.isfinite(c.every.seconds).sum())
    counts = sorted({i.layers for i in cluster.images.values() if i.layers})
    if len(counts) < _LEAST_SIDES:
        return ""
    middle = counts[len(counts) // 2]
    few, many = (
        spread(cluster.every, [n for n, i in cluster.images.items() if i.layers in side])
        for side in ([n for n in counts if n < middle], [n for n in counts if n >= middle])
    )
    if not np.isfinite(few) or not np.isfinite(many):
        return ""
    return (
        f" Variation between nodes (interquartile range over median): {few:.1%} for images with "
        f"fewer than {middle} layers, {many:.1%} with {middle} or more ({cluster.label})."
    )


def network_or_disk(clusters: Sequence[Cluster]) -> Answer:
    """Answer which limit of the machine takes the largest share of the pull time."""
    question = "What limits a pull: network, unpacking or disk?"
    measured = [c for c in clusters if c.measured and c.machine_type in NETWORK_BYTES_PER_S]
    if not measured:
        return no_answer(
            question,
            "The limits of these machines are unknown; they are known for measured clusters "
            f"of a listed machine type.{_rates(clusters)}",
        )
    found = [
        (valid, cluster.nodes, number, shares)
        for number, cluster in enumerate(measured)
        for valid in (True, False)
        if (shares := limit_shares(cluster, valid=valid))
    ]
    if not found:
        return no_answer(
            question, "Too few nodes pulled an image of at least 1 GB whose size is known."
        )
    valid, _, number, shares = max(found, key=lambda one: one[:3])
    cluster = measured[number]
    name = max(shares, key=lambda limit: shares[limit].value)
    rest = ", ".join(f"{limit} {shares[limit].share()}" for limit in shares if limit != name)
    counted = any(image.written_bytes for image in cluster.images.values())
    return Answer(
        question,
        f"{name[0].upper()}{name[1:]}: at its limit it alone would take {shares[name].share()} of "
        f"the pull time; {rest}.",
        f"Medians over images of at least 1 GB on {cluster.label}, "
        f"{'valid cells' if valid else 'all successful pulls'}; bytes as "
        f"{'counted by the nodes' if counted else 'reported by the kubelet and by the tag'}. "
        f"Limits are published figures: disk {DISK_BYTES_PER_S / 1e6:.0f} MB/s, gunzip on one core "
        f"about {GUNZIP_BYTES_PER_S / 1e6:.0f} MB/s, network "
        f"{NETWORK_BYTES_PER_S[cluster.machine_type] / 1e6:.0f} MB/s. The steps overlap, so shares "
        "do not add up; above 100 % the true limit is higher than the figure.",
    )


def _rates(clusters: Sequence[Cluster]) -> str:
    """Describe the rates that nodes counted themselves."""
    rates = [
        (image.received_bytes / seconds, image.written_bytes / seconds)
        for cluster in clusters
        for name, seconds in zip(
            cluster.every.images, nan_median(cluster.every.seconds, 0), strict=True
        )
        if (image := cluster.images.get(name)) and image.received_bytes and image.written_bytes
    ]
    if not rates:
        return ""
    network, disk = np.median(rates, axis=0) / 1e6
    return (
        f" By their own counters, nodes received {network:.3g} MB/s and wrote {disk:.3g} MB/s "
        "while pulling (medians over images)."
    )


_LARGE_BYTES = 1e9


def limit_shares(cluster: Cluster, *, valid: bool) -> dict[str, Effect]:
    """Return by limit the share of the pull time that it alone would need (0.5: half).

    The median over images of at least 1 GB, with an interval over nodes; empty if the machine's
    limits or the images' bytes are unknown.
    """
    pulls = cluster.valid if valid else cluster.every
    large = [
        (name, image)
        for name in pulls.images
        if (image := cluster.images.get(name))
        and image.moved_bytes
        and (image.unpacked_bytes or 0) >= _LARGE_BYTES
    ]
    network = NETWORK_BYTES_PER_S.get(cluster.machine_type)
    if not large or network is None:
        return {}
    mine = replace(
        pulls, images=tuple(name for name, _ in large), seconds=pulls.of([n for n, _ in large])
    )
    needs = {
        "the network": [(i.moved_bytes or 0) / network for _, i in large],
        "unpacking on one core": [(i.unpacked_bytes or 0) / GUNZIP_BYTES_PER_S for _, i in large],
        "the disk": [(i.stored_bytes or 0) / DISK_BYTES_PER_S for _, i in large],
    }
    shares = {limit: of_nodes(mine, partial(_share, np.array(s))) for limit, s in needs.items()}
    return {limit: effect for limit, effect in shares.items() if effect is not None}


def _share(needed: Matrix, seconds: Matrix) -> Matrix:
    return nan_median(needed / nan_median(seconds, 1), 1)


def registries(clusters: Sequence[Cluster]) -> Answer:
    """Compare pulls of the same tags from two registries."""
    question = "Is one registry faster than another?"
    by_registry = _split(clusters, lambda image: image.registry)
    if len(by_registry) < _LEAST_SIDES:
        only = next(iter(by_registry), None)
        if only is None:
            return no_answer(question, "No valid cell names a registry.")
        return not_tested(question, f"All images came from {only}.")
    for (a, left), (b, right) in combinations(sorted(by_registry.items()), 2):
        for one in left:
            for other in right:
                effect = _same_tags(one, other)
                if effect and one[0].nodes == other[0].nodes:
                    together = one[0] is other[0]
                    return Answer(
                        question,
                        f"A pull from {a} takes {effect.times()} as long as from {b}.",
                        f"The same tags on {one[0].label}, in one run."
                        if together
                        else f"The same tags on {one[0].label} and {other[0].label}, in separate "
                        "runs, so the day may differ too.",
                    )
    return not_tested(question, "No tag was pulled from two registries on clusters of one size.")


def streaming(clusters: Sequence[Cluster]) -> Answer:
    """Compare image streaming with plain pulls, by pull time and by Job time."""
    question = "Does image streaming help?"
    streamed = [c for c in clusters if c.streaming]
    plain = [c for c in clusters if not c.streaming]
    for one in streamed:
        for other in plain:
            effect = ratio(other.every, one.every, _tag_of(one, other))
            jobs = job_times(other, one)
            if one.nodes == other.nodes and jobs and effect:
                job = sum(a for a, _ in jobs) / sum(b for _, b in jobs)
                return Answer(
                    question,
                    f"Pull times are {effect.times()} shorter; Job times {job:.3g} times.",
                    f"{one.label} against {other.label}, the same {len(jobs)} tags. Time that "
                    "streaming saves before the start may be lost while the program runs.",
                )
    kind = "with" if streamed else "without"
    return not_tested(question, f"Every recorded cluster pulled {kind} image streaming.")


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
    """Group valid pulls by a property of the image, for each cluster."""
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


def _direction(effect: Effect) -> str:
    if effect.low > 1:
        return "Pulls take longer"
    return "Pulls get shorter" if effect.high < 1 else "No visible difference"
