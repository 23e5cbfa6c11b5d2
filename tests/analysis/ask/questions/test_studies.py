"""Each study file gets the answer that it was written for, and none where there is no effect."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from analysis.ask.questions.contrasts import CONTRASTS
from schema.study import Contrast, load_study
from tests.analysis.simulated import Noise, Site, simulate

STUDIES = sorted((Path(__file__).parents[4] / "studies").glob("*.yaml"))
NAMED = [(path, contrast) for path in STUDIES for contrast in load_study(path).contrasts]

_SIZES = [Site(nodes) for nodes in (4, 8, 16, 32, 64, 128)]
_CACHE = ("ghcr.io", "us-central1-docker.pkg.dev/p/pull-through")
SITES: dict[Contrast | tuple[str, Contrast], list[Site]] = {
    ("pull-through", Contrast.CACHE): [Site(8, remote=_CACHE)],
    ("pull-through", Contrast.REGISTRY): [Site(8)] * 3 + [Site(8, remote=_CACHE)] * 3,
    Contrast.CLUSTER_SIZE: _SIZES,
    Contrast.MACHINE: [Site(8)] * 3 + [Site(8, machine_type="n1-standard-64")] * 3,
    Contrast.DISK: [Site(8)] * 3 + [Site(8, disk="local-ssd")] * 3,
    Contrast.STREAMING: [Site(8)] * 3 + [Site(8, streaming=True)] * 3,
    Contrast.PRELOADED: [Site(8)] * 3 + [Site(8, preloaded=True)] * 3,
    Contrast.UNPACK: [Site(8)] * 3 + [Site(8, unpacks="9")] * 3,
    Contrast.WORKLOAD: [Site(8)] * 3 + [Site(8, workload="minicluster")] * 3,
}

EFFECTS: dict[Contrast, Callable[[pd.Series, Site], float]] = {
    Contrast.SIZE: lambda image, _: 1 + 6 * image["gb"],
    Contrast.LAYERS: lambda image, _: 1 + 6 * image["gb"] + 0.03 * image["layers"],
    Contrast.REGISTRY: lambda image, _: 1.3 if "pkg.dev" in image["repository"] else 1.0,
    Contrast.CACHE: lambda image, _: 0.6 if image["cache"] == "warm" else 1.0,
    Contrast.COMPRESSION: lambda image, _: 1.3 if image["compression"] == "none" else 1.0,
    Contrast.FILES: lambda image, _: 1.4 if image["files"] == 10_000 else 1.0,
    Contrast.UPGRADE: lambda image, _: 0.3 if image["version"].startswith("v2") else 1.0,
    Contrast.CLUSTER_SIZE: lambda _, site: 1.15 ** (site.nodes.bit_length() - 3),
    Contrast.MACHINE: lambda _, site: 1.0 if site.machine_type == "n1-standard-16" else 0.7,
    Contrast.DISK: lambda _, site: 0.8 if site.disk == "local-ssd" else 1.0,
    Contrast.STREAMING: lambda _, site: 0.5 if site.streaming else 1.0,
    Contrast.PRELOADED: lambda _, site: 0.1 if site.preloaded else 1.0,
    Contrast.UNPACK: lambda _, site: 0.6 if site.unpacks == "9" else 1.0,
    Contrast.WORKLOAD: lambda _, site: 1.3 if site.workload == "minicluster" else 1.0,
}
VERDICTS = {
    Contrast.SIZE: "Larger images take longer.",
    Contrast.LAYERS: "ayers ",
    Contrast.REGISTRY: "ghcr.io is faster.",
    Contrast.CACHE: "Yes: a warm cache is faster.",
    Contrast.COMPRESSION: "Yes: none is slower.",
    Contrast.FILES: "Yes: 10000 files are slower.",
    Contrast.UPGRADE: "Less than the first pull.",
    Contrast.CLUSTER_SIZE: "Pulls take longer on larger clusters.",
    Contrast.MACHINE: "n1-standard-64 is faster.",
    Contrast.DISK: "local-ssd is faster.",
    Contrast.STREAMING: "streaming is faster.",
    Contrast.PRELOADED: "preloading is faster.",
    Contrast.UNPACK: "9 layers at once is faster.",
    Contrast.WORKLOAD: "job is faster.",
}


def measured(path: Path, contrast: Contrast, *, effect: bool, seed: int = 5) -> pd.DataFrame:
    study = load_study(path)
    samples = simulate(
        study.references(),
        SITES.get((path.stem, contrast)) or SITES.get(contrast, [Site(8)]),
        lambda image, site: 10 * (EFFECTS[contrast](image, site) if effect else 1.0),
        seed=seed,
        noise=Noise(node=0.05, pull=0.03, trial=0.02, cluster=0.02),
        repetitions=study.repetitions,
    )
    return samples.assign(warm=samples["version"].str.startswith("v2"))


def test_every_study_names_what_it_varies() -> None:
    assert {path for path, _ in NAMED} == set(STUDIES)


@pytest.mark.parametrize(
    ("path", "contrast"), NAMED, ids=[f"{path.stem}-{contrast}" for path, contrast in NAMED]
)
def test_a_study_answers_its_question(path: Path, contrast: Contrast) -> None:
    card = CONTRASTS[contrast](measured(path, contrast, effect=True))
    assert VERDICTS[contrast] in card.verdict
    without = [
        CONTRASTS[contrast](measured(path, contrast, effect=False, seed=seed))
        for seed in (5, 7, 11)
    ]
    false = [c for c in without if not c.verdict.startswith(("No difference", "No effect"))]
    assert len(false) <= 1, "an interval of 95 % misses once in 20"
    assert all(c.limits for c in without)


@pytest.mark.parametrize("contrast", [Contrast.MACHINE, Contrast.STREAMING])
def test_one_cluster_a_side_does_not(contrast: Contrast) -> None:
    path = next(path for path, named in NAMED if named == contrast)
    samples = measured(path, contrast, effect=True)
    samples = samples[samples["cluster"].isin(["c0", "c5"])]
    card = CONTRASTS[contrast](samples)
    assert card.verdict == "Cannot tell: one cluster each."
    assert " against " in card.detail
