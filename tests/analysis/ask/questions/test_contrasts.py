"""Each contrast finds a known effect, and none where there is none."""

from pathlib import Path

import pandas as pd
import pytest

import analysis
from analysis.ask.answers import all_cards, before_pulls, kind_cards, untold
from analysis.ask.questions.cards import Card
from analysis.ask.questions.contrasts import CONTRASTS
from analysis.ask.samples import samples_of
from schema.run_records import Rehearsal
from schema.study import Contrast
from tests.analysis.recorded import Json, lines, study_events, write_run_folder, write_study
from tests.analysis.simulated import Noise, Site, by_size, chonks, simulate

SIZES = (0.5, 1.2, 3.0, 7.0)
IMAGES = chonks(SIZES, [9])
QUIET = Noise(node=0.05, pull=0.03, trial=0.01, cluster=0.01)


def card(contrast: Contrast, samples: pd.DataFrame) -> Card:
    return CONTRASTS[contrast](samples)


def test_layers_at_one_size() -> None:
    flat = simulate(chonks([1.2], [1, 3, 9, 27, 81, 125]), [Site()], lambda i, _: 6 * i["gb"])
    assert card(Contrast.LAYERS, flat).verdict == "No effect of layers found."
    steep = simulate(chonks([0.05, 1.2, 19], [9, 60, 125]), [Site()], noise=QUIET)
    found = card(Contrast.LAYERS, steep)
    assert found.verdict == "Layers matter, above all for small images."
    assert "Each 100 layers take 3" in found.effect or "Each 100 layers take 2.9" in found.effect
    assert "50 MB: 125 layers take 4." in found.detail
    assert "19 GB: 125 layers take 1.0" in found.detail


def test_one_size_is_no_reason_not_to_tell_layers() -> None:
    found = card(Contrast.LAYERS, simulate(chonks([1.2], [1, 9, 27, 125]), [Site()], noise=QUIET))
    assert found.answered
    assert card(Contrast.SIZE, simulate(chonks([1.2], [1, 9]), [Site()])).varied is False


def test_sizes() -> None:
    found = card(Contrast.SIZE, simulate(IMAGES, [Site()], noise=QUIET))
    assert found.verdict == "Larger images take longer."
    assert found.effect.startswith("Each unpacked GB takes 6.") or "takes 5.9" in found.effect


def other(images: list[str], salt: str = "-b") -> list[str]:
    return [image.replace("ghcr.io", "us-docker.pkg.dev") + salt for image in images]


@pytest.mark.parametrize("slower", [1.0, 1.2])
def test_registries_by_salted_copies_in_one_run(slower: float) -> None:
    samples = simulate(
        [*IMAGES, *other(IMAGES)],
        [Site()],
        lambda i, s: by_size(i, s) * (slower if "pkg" in i["repository"] else 1.0),
        noise=QUIET,
        seed=2,
    )
    found = card(Contrast.REGISTRY, samples)
    assert found.answered
    assert ("is faster" in found.verdict) is (slower > 1)
    if slower > 1:
        assert found.verdict in {"ghcr.io is faster.", "us-docker.pkg.dev is faster."}
        assert "ghcr.io is faster." in found.verdict
    assert "4 trials a side, 16 nodes" in found.basis


def test_three_registries_are_all_compared() -> None:
    third = [image.replace("ghcr.io", "quay.io") + "-c" for image in IMAGES]
    factor = {"ghcr.io": 1.0, "us-docker.pkg.dev": 1.5, "quay.io": 3.0}
    samples = simulate(
        [*IMAGES, *other(IMAGES), *third],
        [Site(4), Site(16)],
        lambda i, s: by_size(i, s) * factor[i["repository"].partition("/")[0]],
    )
    found = card(Contrast.REGISTRY, samples)
    assert "quay.io/lab/chonks: +20" in found.detail or "quay.io/lab/chonks: +19" in found.detail
    assert "us-docker.pkg.dev/lab/chonks: +" in found.detail
    assert "2 clusters" in found.basis


def test_one_cluster_each_is_only_observed() -> None:
    sites = [Site(), Site(machine_type="n1-standard-64")]
    found = card(Contrast.MACHINE, simulate(IMAGES, sites))
    assert (found.verdict, found.answered) == ("Cannot tell: one cluster each.", False)
    assert found.effect.startswith("Observed: ")


@pytest.mark.parametrize("factor", [1.0, 0.7])
@pytest.mark.parametrize(
    ("contrast", "change"),
    [
        (Contrast.MACHINE, {"machine_type": "n1-standard-64"}),
        (Contrast.DISK, {"disk": "local-ssd"}),
        (Contrast.ZONE, {"zone": "us-central1-f"}),
        (Contrast.STREAMING, {"streaming": True}),
        (Contrast.WORKLOAD, {"workload": "minicluster"}),
    ],
)
def test_several_clusters_a_side(contrast: Contrast, change: Json, factor: float) -> None:
    sites = [Site()] * 3 + [Site(**change)] * 3
    samples = simulate(
        IMAGES, sites, lambda i, s: by_size(i, s) * (factor if s == Site(**change) else 1.0)
    )
    found = card(contrast, samples)
    assert found.answered
    assert "faster" in found.verdict if factor < 1 else found.verdict.startswith("No difference")
    assert "3 clusters" in found.basis


@pytest.mark.parametrize(
    ("per_doubling", "verdict"),
    [(1.0, "No difference"), (1.1, "Pulls take longer on larger clusters.")],
)
def test_cluster_size(per_doubling: float, verdict: str) -> None:
    sites = [Site(n) for n in (4, 16, 64)] * 2
    samples = simulate(
        IMAGES,
        sites,
        lambda i, s: by_size(i, s) * per_doubling ** (s.nodes.bit_length() - 3),
        noise=QUIET,
    )
    assert card(Contrast.CLUSTER_SIZE, samples).verdict.startswith(verdict)


def test_three_sizes_once_each_are_only_observed() -> None:
    found = card(Contrast.CLUSTER_SIZE, simulate(IMAGES, [Site(n) for n in (4, 8, 16)]))
    assert found.verdict == "Cannot tell: one cluster each."


def test_clusters_with_too_few_valid_nodes_are_not_counted() -> None:
    samples = simulate(IMAGES, [Site(2), Site(16), Site(16)])
    assert card(Contrast.CLUSTER_SIZE, samples).answered is False


def test_two_studies_that_disagree_are_both_named() -> None:
    one = simulate(IMAGES[:2], [Site(n, study="a") for n in (4, 8, 16, 32, 64)], seed=3)
    two = simulate(IMAGES[2:], [Site(n, study="b") for n in (4, 8, 16, 32, 64)], seed=4)
    two["cluster"] = "other " + two["cluster"]
    found = card(Contrast.CLUSTER_SIZE, pd.concat([one, two]))
    assert found.detail.count("4, 8, 16, 32, 64") == 2


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_study(tmp_path_factory.mktemp("study"), (4, 8, 16))


def test_every_verdict_has_at_most_eight_words(study: Path) -> None:
    cards = all_cards(analysis.load([study]))
    assert [c for c in cards if len(c.verdict.split()) > 8] == []
    assert {c.contrast for c in cards} >= set(CONTRASTS)


def test_what_was_not_varied_is_one_line(study: Path) -> None:
    text = untold(all_cards(analysis.load([study])))
    assert text.startswith("Not varied here: layers (")
    assert "registry (all images came from one repository)" in text


def test_a_contrast_that_a_study_names_has_a_card_even_if_nothing_varies(study: Path) -> None:
    frames = analysis.load([study])
    frames.clusters["contrasts"] = [("registry",)] * len(frames.clusters)
    first = kind_cards(frames, samples_of(frames))[0]
    assert (first.contrast, first.varied, first.answered) == ("registry", True, False)


def test_what_is_not_pulling(study: Path) -> None:
    found = next(c for c in all_cards(analysis.load([study])) if c.contrast == "not-pulling")
    assert found.verdict.endswith("% is not pulling.")
    assert "From 4 to 16 nodes (one cluster each), the time of the same 3 images" in found.detail


def test_what_a_minicluster_does_before_its_pull_is_told_where_there_are_any(study: Path) -> None:
    frames = analysis.load([study])
    assert before_pulls(frames) == []
    frames.cells["init_s"] = 19.5
    (found,) = before_pulls(frames)
    assert found.verdict == "It copies Flux for 19.5 s."
    assert found.effect == "5 to 95 % of the cells: 19.5 to 19.5 s"
    assert "The pulls of a trial begin within" in found.detail


def test_measured_and_rehearsed_are_never_compared(tmp_path: Path) -> None:
    write_study(tmp_path / "m", (4,))
    run = write_run_folder(
        tmp_path / "r", nodes=16, rehearsal=Rehearsal(nodes="simulated", scale=1)
    )
    cards = all_cards(analysis.load([tmp_path / "m", run]))
    sizes = [c for c in cards if c.contrast == Contrast.CLUSTER_SIZE]
    assert {c.provenance for c in sizes} == {"", "simulated nodes"}
    assert not any(c.varied for c in sizes)


def test_no_pulls_give_no_answers(tmp_path: Path) -> None:
    path = tmp_path / "events.json"
    path.write_text(lines(study_events(4)[:1]))
    assert not any(c.answered for c in all_cards(analysis.load([path])))


def test_the_recorded_study_claims_no_more_than_it_shows(chonks: Path) -> None:
    cards = {c.contrast: c for c in all_cards(analysis.load([chonks / "pulling"]))}
    assert cards["limit"].verdict == "Cannot tell: nothing isolates a limit."
    assert cards[Contrast.CLUSTER_SIZE].verdict == "Cannot tell: one cluster each."
    assert "The order of the trials" not in cards[Contrast.SIZE].verdict
    assert "the order of the trials went with it" in cards[Contrast.SIZE].limits


def test_layers_in_the_recorded_test(chonks: Path) -> None:
    cards = {c.contrast: c for c in all_cards(analysis.load([chonks / "pulling-test"]))}
    layers = cards[Contrast.LAYERS]
    assert layers.verdict == "Layers matter, above all for small images."
    assert "Each 100 layers take 3.2" in layers.effect
    assert "48.7 MB: 100 layers take 4.25 times as long as 1" in layers.detail
    machine = cards[Contrast.MACHINE]
    assert not machine.answered
    assert "3348 s on 4 nodes" in machine.detail
    assert "USD, 3.7" in machine.detail
