"""Each published claim is confirmed, refuted or left open, and a study file tests it."""

from pathlib import Path

import pandas as pd
import pytest

import analysis
from analysis.ask.answers import all_cards, untold
from analysis.ask.effects import Effect, of_log
from analysis.ask.questions.cards import Card
from analysis.ask.questions.claims import (
    LAYERS,
    REGISTRY,
    SIZE,
    SSD,
    STREAMING,
    Claim,
    claims,
    judge,
)
from schema.study import load_study
from tests.analysis.simulated import Noise, Site, Truth, by_size, chonks, simulate

STUDIES = Path(__file__).parents[4] / "studies"
QUIET = Noise(node=0.02, pull=0.01, trial=0.01, cluster=0.01)
SITES = {
    SSD.name: [Site(8)] * 3 + [Site(8, disk="local-ssd")] * 3,
    STREAMING.name: [Site(8)] * 3 + [Site(8, streaming=True)] * 3,
}


def card(claim: Claim, truth: Truth) -> Card:
    """The card of a claim, from its own study and a known truth."""
    study = load_study(STUDIES / f"{claim.study}.yaml")
    samples = simulate(
        study.references(), SITES.get(claim.name, [Site(8)]), truth, noise=QUIET,
        repetitions=study.repetitions,
    )  # fmt: skip
    (found,) = (c for c in claims(samples) if c.contrast == f"claim: {claim.name}")
    return found


def only_size(image: pd.Series, _: Site) -> float:
    return float(1 + 6 * image["gb"])


def only_layers(image: pd.Series, _: Site) -> float:
    return float(1 + 0.1 * image["layers"])


def ssd(times: float) -> Truth:
    return lambda image, site: by_size(image, site) / (times if site.disk == "local-ssd" else 1)


def streamed(times: float) -> Truth:
    return lambda image, site: by_size(image, site) / (times if site.streaming else 1)


def googles(factor: float) -> Truth:
    return lambda image, site: (
        by_size(image, site) * (factor if "pkg.dev" in image["repository"] else 1)
    )


@pytest.mark.parametrize(
    ("claim", "truth", "verdict"),
    [
        (SIZE, only_size, "Confirmed."),
        (SIZE, only_layers, "Refuted."),
        (LAYERS, only_size, "Confirmed."),
        (LAYERS, only_layers, "Refuted."),
        (REGISTRY, googles(1.0), "Confirmed."),
        (REGISTRY, googles(1.3), "Refuted."),
        (SSD, ssd(1.25), "Confirmed."),
        (SSD, ssd(1.0), "Refuted."),
        (STREAMING, streamed(50), "Confirmed."),
        (STREAMING, streamed(3), "Refuted."),
    ],
    ids=lambda value: getattr(value, "name", getattr(value, "__name__", str(value))),
)
def test_a_study_confirms_or_refutes_its_claim(claim: Claim, truth: Truth, verdict: str) -> None:
    assert card(claim, truth).verdict == verdict


@pytest.mark.parametrize(
    ("effect", "verdict"),
    [
        (of_log(0.0, 0.001, 9, nodes=8, trials=3), "Confirmed."),
        (of_log(0.2, 0.01, 9, nodes=8, trials=3), "Refuted."),
        (of_log(0.0, 0.1, 9, nodes=8, trials=3), "Cannot tell: the interval is too wide."),
        (Effect(1.0, why="one cluster each"), "Cannot tell: one cluster each."),
    ],
)
def test_the_whole_interval_decides(effect: Effect, verdict: str) -> None:
    assert judge(effect, (0.95, 1.05)) == verdict


def test_registries_on_clusters_of_their_own_are_compared_by_clusters() -> None:
    images = chonks((0.5, 1.2, 3.0), [9])
    theirs = [image.replace("ghcr.io", "us-docker.pkg.dev") for image in images]
    one = simulate(images, [Site(8)] * 3, noise=QUIET)
    two = simulate(theirs, [Site(8)] * 3, googles(1.3), seed=2, noise=QUIET)
    both = pd.concat([one, two.assign(cluster="other " + two["cluster"])])
    (found,) = (c for c in claims(both) if c.contrast == "claim: registry")
    assert found.verdict == "Refuted."
    assert "3 clusters" in found.basis


def test_the_recorded_test_confirms_size_and_refutes_layers(chonks: Path) -> None:
    cards = {c.contrast: c for c in all_cards(analysis.load([chonks / "pulling-test"]))}
    size, layers = cards["claim: size"], cards["claim: layers"]
    assert (size.verdict, layers.verdict) == ("Confirmed.", "Refuted.")
    assert size.effect.startswith("19 GB more take 115.7 (91.6 … 139.8) s more, 99 layers more 3.2")
    assert layers.effect == "At 48.7 MB 100 layers take 4.47 times (3.68 … 5.26) as long as 1."


def test_the_recorded_study_leaves_the_other_claims_open(chonks: Path) -> None:
    text = untold(all_cards(analysis.load([chonks / "pulling"])))
    assert text.endswith(
        "Published claims not tested here, and the study that tests them: "
        "size (studies/matrix-38.yaml); layers (studies/layers.yaml); "
        "registry (studies/registries.yaml); local SSD (studies/disks.yaml); "
        "streaming (studies/streaming.yaml)."
    )
