"""The slowest nodes are a result: their tail, their names with evidence, their cost."""

from pathlib import Path

import numpy as np
import pytest

import analysis
from analysis.ask.questions.slowest import excluded_ratio, nodes, slow_nodes, slowest, tails
from analysis.ask.samples import samples_of
from tests.analysis.recorded import write_study
from tests.analysis.simulated import Noise, Site, chonks, simulate

IMAGES = chonks((0.5, 1.2, 3.0, 7.0), [9])
QUIET = Noise(node=0.05, pull=0.03, trial=0.01, cluster=0.01)


def test_a_slow_node_is_named_with_its_evidence_and_cost() -> None:
    samples = simulate(IMAGES, [Site()], noise=QUIET)
    assert nodes(samples).verdict == "No node stands out."
    slow = samples["node"] == "n0-7"
    others = samples[~slow].groupby("image")["seconds"].max().sum()
    samples.loc[slow, "seconds"] *= 3
    found = nodes(samples)
    assert found.verdict == "Yes: one node is slow."
    assert "n0-7 (c0)" in found.detail
    assert "the slowest in 4 of 4 trials (by chance: p = 1.5e-05)" in found.detail
    cost = samples[slow]["seconds"].sum() - others
    assert f"lengthened them by {cost:.1f} s" in found.detail


def test_two_kinds_of_nodes_are_noticed() -> None:
    samples = simulate(IMAGES, [Site()], noise=QUIET)
    slow = samples["node"].isin([f"n0-{i}" for i in range(8)])
    samples.loc[slow, "seconds"] *= 2
    assert nodes(samples).verdict == "Yes, nodes differ widely."


def test_a_single_slow_pull_of_an_ordinary_node_is_named() -> None:
    samples = simulate(IMAGES, [Site()], noise=QUIET)
    one = (samples["node"] == "n0-3") & samples["image"].str.contains("500000000")
    samples.loc[one, "seconds"] *= 2
    found = nodes(samples)
    assert slow_nodes(samples)[0] == []
    assert "Single pulls of 1.5 times their trial's median or more: 1: n0-3 (c0) " in found.detail


def test_quantiles_need_pulls_beyond_them() -> None:
    few, many = (tails(simulate(IMAGES, [Site(n)], noise=QUIET)).iloc[0] for n in (16, 256))
    assert (few.pulls, many.pulls) == (64, 1024)
    assert np.isnan([few.p99, few.p999]).all()
    assert 1 < many.p99 < many.p999 < many.slowest_most
    assert many.slowest > few.slowest > 1


def test_a_trial_that_few_nodes_pulled_has_no_tail() -> None:
    samples = simulate(IMAGES, [Site()], noise=QUIET)
    lost = samples["image"].str.contains("500000000") & (samples["node"] > "n0-13")
    assert tails(samples[~lost]).iloc[0].trials == 3


def test_the_card_says_how_the_tail_grows_and_what_it_costs(tmp_path: Path) -> None:
    frames = analysis.load([write_study(tmp_path, (4, 8, 16))])
    samples = samples_of(frames)
    found = slowest(frames, samples)
    assert found.verdict == "1.07 times the median, on 16 nodes."
    assert "4 nodes: 1.01 times" in found.effect
    assert "With each doubling of the nodes the slowest moves by +2.7 % (one cluster each)." in (
        found.effect
    )
    waited = float(tails(samples).iloc[-1].waited_s)
    trials = samples[samples["nodes"] == 16].groupby("image")["seconds"]
    assert waited == pytest.approx((trials.max() - trials.mean()).sum())
    assert f"16 nodes {waited:.0f} s a node" in found.detail
    assert found.detail.endswith(" USD.")


def test_exclusion_that_depends_on_the_outcome_is_said(tmp_path: Path) -> None:
    frames = analysis.load([write_study(tmp_path, (16,))])
    assert slowest(frames, samples_of(frames)).limits == ""
    last = frames.pulls["node"].isin(["gke-test-cluster-16-0014", "gke-test-cluster-16-0015"])
    frames.pulls["status"] = frames.pulls["status"].cat.add_categories("disk-pressure")
    frames.pulls.loc[last, "status"] = "disk-pressure"
    frames.pulls.loc[last, "pull_s"] *= 2
    frames.cells["status"] = frames.cells["status"].cat.add_categories("disk-pressure")
    frames.cells.loc[
        frames.cells["node"].isin(["gke-test-cluster-16-0014", "gke-test-cluster-16-0015"]),
        "status",
    ] = "disk-pressure"
    ratio, count = excluded_ratio(frames.pulls)
    found = slowest(frames, samples_of(frames))
    assert ratio > 2
    assert f"Exclusion depends on the outcome: {count} excluded pulls took {ratio:.2f}" in (
        found.limits
    )
    assert f"{count} cells have no valid duration ({count} disk-pressure)" in found.limits
