"""How soon the bytes of an image can be read: from the release, beside the pull. Pure.

A pull that streams or moves nothing ends early, and its bytes come when they are read. So ways to
get an image are compared by the time until a share of its bytes was read (Study.read).
"""

from dataclasses import replace

import numpy as np
import pandas as pd

from analysis.ask.effects import LEVEL, Effect, over_clusters, ratio
from analysis.ask.questions.cards import Card, cannot_tell, not_varied
from analysis.ask.questions.cluster_contrasts import cluster_effects
from analysis.ask.samples import matrices, samples_with
from analysis.frames import Frames
from schema.run_records import Status

MOMENTS = {
    "start": "start_s",
    "10 %": "ready_10_s",
    "50 %": "ready_50_s",
    "100 %": "ready_100_s",
}
"""What is timed from the release: the container's start, and when a share had been read."""

_NAME = "readiness"
_QUESTION = "How soon can an image's bytes be read?"
_CLOCKS = (
    "From the release, by the runner's clock, to the start, by the node's, and the reading. After "
    "a plain pull the bytes are read from memory."
)


def readiness_of(frames: Frames) -> pd.DataFrame:
    """Return samples (samples.samples_with) of each of MOMENTS of the cells that read their image.

    More columns: moment; way (how the cluster gets images: pulling, streaming or preloading).
    """
    cells = frames.cells
    starts = [cells[f"ready_{n}_s"] - cells[f"read_{n}_s"] for n in (10, 50, 100)]
    cells = cells.assign(start_s=starts[0].fillna(starts[1]).fillna(starts[2]))
    found = [
        samples_with(frames, (Status.VALID, Status.PRELOADED), cells[column]).assign(moment=name)
        for name, column in MOMENTS.items()
    ]
    samples = pd.concat(found, ignore_index=True)
    ways = np.where(samples["streaming"], "streaming", "pulling")
    return samples.assign(way=np.where(samples["preloaded"], "preloading", ways))


def readiness(samples: pd.DataFrame) -> Card:
    """Tell when shares of an image's bytes were read, by the way in which clusters get images.

    Args:
        samples: of readiness_of.
    """
    if samples.empty:
        return not_varied(_NAME, _QUESTION, "no study read its images (read)")
    shares = {name: samples[samples["moment"] == name] for name in MOMENTS if name != "start"}
    shares = {name: mine for name, mine in shares.items() if len(mine)}
    if compared := _between_ways(shares):
        return _compared(samples, compared)
    last, mine = list(shares.items())[-1]
    effect = _after_start(samples[samples["moment"] == "start"], mine)
    if effect is None or not effect.answered:
        return cannot_tell(_NAME, _QUESTION, effect, detail=_medians(samples))
    verdict = f"{last} after {effect.value:.2f} times the start's time."
    text = f"{last} of the bytes: {effect.times()} the time to the container's start."
    return Card(_NAME, _QUESTION, verdict, text, effect.basis(), _CLOCKS, _medians(samples))


Compared = dict[str, dict[str, Effect]]
"""By the names of two ways: the effect at each share."""


def _compared(samples: pd.DataFrame, compared: Compared) -> Card:
    def answered(pair: str) -> bool:
        return all(effect.answered for effect in compared[pair].values())

    pair = max(compared, key=answered)
    others = [_text(name, effects) for name, effects in compared.items() if name != pair]
    text, detail = _text(pair, compared[pair]), " ".join([*others, _medians(samples)])
    last = list(compared[pair].values())[-1]
    if not answered(pair):
        card = cannot_tell(_NAME, _QUESTION, last, detail=detail)
        return replace(card, effect=f"Observed: {text}")
    words = [f"{name} {_word(effect)}" for name, effect in compared[pair].items()]
    way = pair.partition(" ")[0].capitalize()
    verdict = f"{way}: {', '.join(words[:1] + words[1:][-1:])}."
    return Card(_NAME, _QUESTION, verdict, text, last.basis(), _CLOCKS, detail)


def _text(pair: str, effects: dict[str, Effect]) -> str:
    return f"{pair}: {', '.join(f'{name} {e.percent()}' for name, e in effects.items())}."


def _word(effect: Effect) -> str:
    if not effect.clear:
        return "alike"
    return "later" if effect.value > 1 else "sooner"


def _between_ways(shares: dict[str, pd.DataFrame]) -> Compared:
    found: Compared = {}
    for name, mine in shares.items():
        ways = mine.assign(way=mine["way"].replace("pulling", "a plain pull"), streaming="")
        effects, _ = cluster_effects(ways, "way")
        level = 1 - (1 - LEVEL) / max(1, len(shares) * len(effects))
        # where clusters of several sizes are compared, the best known effect
        for (way, base), effect in sorted(effects, key=lambda e: (e[1].answered, e[1].trials)):
            found.setdefault(f"{way} against {base}", {})[name] = effect.at(level)
    return found


def _after_start(starts: pd.DataFrame, reads: pd.DataFrame) -> Effect | None:
    """Return how many times the time to the start it takes until a share was read."""
    effects = []
    for cluster, mine in reads.groupby("cluster"):
        theirs = starts[starts["cluster"] == cluster]
        a, b, paired = matrices(theirs, mine, ["image", "repetition"])
        if a.size:
            effects.append(ratio(a, b, paired=paired))
    return over_clusters(effects) if effects else None


def _medians(samples: pd.DataFrame) -> str:
    """Return the median over cells of each moment, by cluster."""
    texts = []
    for cluster, mine in samples.groupby("cluster", sort=False):
        medians = mine.groupby("moment")["seconds"].median()
        known = ", ".join(f"{n} {medians[n]:.3g} s" for n in MOMENTS if n in medians.index)
        texts.append(f"{cluster} ({mine['way'].iloc[0]}): {known}")
    return f"Medians over cells. {'; '.join(texts)}."
