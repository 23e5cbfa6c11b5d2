from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from experiment.errors import BudgetError, PlanError
from experiment.plan.cost import (
    Budget,
    Estimate,
    deadline,
    expected_trial_s,
    own_deadline,
    run_estimate,
    teardown_s,
    trial_range,
    unrecorded_time,
)
from experiment.provision.stack_cluster import StackCluster
from experiment.provision.stack_files import copy_stack_files, set_deadline, set_lifetime
from schema.errors import ExitCode
from schema.run_records import Phase, PhaseRecord, PlannedTrial
from tests.experiment.cells import at, planned
from tests.experiment.fakes import FakeCluster
from tests.experiment.plan.test_trial_order import image

RUN1 = (1176249324, 2770722493, 6836726027, 10902729561, 14968733095, 19034736629)
TURNS = {
    4: (17.857, 35.589, 75.665, 104.853, 144.770, 175.568),
    8: (18.188, 35.370, 77.753, 102.180, 140.293, 172.044),
    16: (19.478, 35.681, 77.756, 103.333, 140.038, 169.192),
}
"""Seconds from first Scheduled to Job complete of the original study's run1, from its events."""
SLOWEST_PULL = {
    4: (7.707, 16.211, 40.901, 85.845, 116.772, 154.882),
    8: (8.110, 15.699, 40.531, 84.027, 112.348, 147.621),
    16: (7.619, 16.650, 42.329, 84.088, 113.449, 147.480),
}


def trial(size: int, warm: int = 0, layers: int = 9) -> PlannedTrial:
    names = [f"{size}-{n}" for n in range(layers)]
    return PlannedTrial(trial=1, repetition=1, image=image(size, *names), warm_bytes=warm)


@pytest.mark.parametrize("nodes", sorted(TURNS))
def test_the_range_holds_every_trial_of_the_original_study(nodes: int) -> None:
    for size, turn, pull in zip(RUN1, TURNS[nodes], SLOWEST_PULL[nodes], strict=True):
        low, expected, high = trial_range(trial(size), nodes)
        assert low <= expected <= high
        assert low <= pull + 2, size
        assert turn <= high, size


def test_larger_clusters_take_longer_and_the_original_growth_is_the_most() -> None:
    spans = [trial_range(trial(RUN1[0]), nodes) for nodes in (16, 32, 64, 128, 256)]
    for which in (1, 2):
        assert [span[which] for span in spans] == sorted(span[which] for span in spans)
    assert spans[-1][2] - spans[0][2] == pytest.approx(38.8)
    assert trial_range(trial(RUN1[0]), 2000)[2] >= spans[-1][2] + 100


def test_a_minicluster_adds_what_it_took_in_the_original_study() -> None:
    job = trial(RUN1[0])
    added = job.model_copy(update={"view": image(9, "flux")})
    spans = zip(trial_range(added, 4), trial_range(job, 4), strict=True)
    assert [round(more - less, 1) for more, less in spans] == [9.0, 19.5, 24.3]


def test_reading_an_image_adds_its_share_of_the_bytes() -> None:
    pulled = trial(RUN1[0])
    read = pulled.model_copy(update={"read_share": 0.5})
    spans = zip(trial_range(read, 4), trial_range(pulled, 4), strict=True)
    gb = RUN1[0] / 2 / 1e9
    assert [more - less for more, less in spans] == pytest.approx([0.3 * gb, 2 * gb, 6 * gb])


def test_warm_layers_take_no_time() -> None:
    cold, warm = trial(RUN1[5]), trial(RUN1[5], warm=8100)
    assert expected_trial_s(warm) < 0.2 * expected_trial_s(cold)


def test_cost_is_hours_at_the_price_and_grows_with_trials() -> None:
    one, two = (run_estimate([trial(RUN1[0])] * count, FakeCluster()) for count in (1, 2))
    assert one.usd == pytest.approx(tuple(hours * 3.34 for hours in one.hours))
    assert two.hours[1] > one.hours[1]
    assert len(two.trial_s) == 2


def priced(per_hour: float, per_byte: float = 0.0) -> FakeCluster:
    cluster = FakeCluster()
    cluster.usd_per_hour, cluster.usd_per_byte = per_hour, per_byte
    return cluster


@pytest.mark.parametrize(
    ("repository", "usd"),
    [("ghcr.io/a/b", 4 * 900 * 1e-3), ("us-docker.pkg.dev/p/r/b", 0.0)],
)
def test_private_nodes_pay_for_what_they_pull_from_others_than_google(
    repository: str, usd: float
) -> None:
    image = trial(RUN1[0]).image.model_copy(update={"repository": repository})
    pulled = trial(RUN1[0], warm=8100).model_copy(update={"image": image})
    with_nat = run_estimate([pulled], priced(3.0, 1e-3))
    without = run_estimate([pulled], priced(3.0))
    assert with_nat.traffic_usd == pytest.approx(usd)
    assert with_nat.usd == pytest.approx(tuple(each + usd for each in without.usd))


@pytest.mark.parametrize(("highest", "hours"), [(0.6, 2), (1.01, 3), (2.5, 5), (9.0, 12)])
def test_the_deadline_is_twice_the_highest_estimate_within_limits(
    highest: float, hours: int
) -> None:
    assert Estimate((), (0.1, 0.2, highest), 0, (0, 0, 0)).deadline_hours == hours


def test_a_deadline_that_the_stack_s_file_sets_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "my-project")
    copy_stack_files("size-4", tmp_path)
    study = [trial(RUN1[0])]
    assert deadline(StackCluster("size-4", tmp_path), study) == "after 2 hours"
    set_lifetime("size-4", tmp_path, 7)
    assert own_deadline(StackCluster("size-4", tmp_path), study) is None
    assert deadline(StackCluster("size-4", tmp_path), study) == "after 7 hours"
    at = f"{datetime.now(UTC) + timedelta(days=2):%Y-%m-%dT%H:%MZ}"
    set_deadline("size-4", tmp_path, at)
    assert deadline(StackCluster("size-4", tmp_path), study) == f"at {at}"


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> datetime:
        return at(self.seconds)


NEXT_S = expected_trial_s(planned()) + teardown_s()


def phase(name: Phase, begin: float, end: float) -> PhaseRecord:
    return PhaseRecord(phase=name, started_at=at(begin), ended_at=at(end))


def test_a_trial_may_start_until_it_and_the_teardown_would_cost_too_much() -> None:
    clock = Clock()
    limit = (1000 + NEXT_S) / 3600 * 36
    budget = Budget(limit, priced(36.0), lambda: [phase(Phase.PROVISION, 0, 100)], now=clock)
    clock.seconds = 999
    budget.may_begin(planned())
    clock.seconds = 1001
    with pytest.raises(BudgetError, match=r"the cluster has cost 10\.01 USD") as caught:
        budget.may_begin(planned())
    assert caught.value.exit_code is ExitCode.BUDGET
    assert "--budget-usd" in caught.value.fix


def test_attempts_that_were_taken_down_count_and_the_pause_between_does_not() -> None:
    clock = Clock()
    earlier = [
        phase(Phase.PREFLIGHT, 0, 50),
        phase(Phase.PROVISION, 50, 150),
        phase(Phase.MEASURE, 150, 450),
        phase(Phase.TEARDOWN, 450, 550),
        phase(Phase.PREFLIGHT, 9000, 9001),
        phase(Phase.PROVISION, 9001, 9101),
    ]
    limit = (500 + 200 + NEXT_S) / 3600
    budget = Budget(limit, priced(1.0), lambda: earlier, now=clock)
    clock.seconds = 9001 + 199
    budget.may_begin(planned())
    clock.seconds = 9001 + 201
    with pytest.raises(BudgetError):
        budget.may_begin(planned())


KILLED = (phase(Phase.PREFLIGHT, 0, 50), phase(Phase.PROVISION, 50, 150))
STOPPED = phase(Phase.TEARDOWN, 150, 200)
FAILED = STOPPED.model_copy(update={"error": "no"})
REFUSED = phase(Phase.PREFLIGHT, 300, 310).model_copy(update={"error": "no"})


@pytest.mark.parametrize(
    ("phases", "created", "expires", "hours", "times"),
    [
        ((), None, None, None, None),
        (KILLED, 60, None, None, (150, 9000)),
        (KILLED, None, None, None, (150, 9000)),
        (KILLED, None, 4000, 2, (150, 4000)),
        (KILLED, None, 100, 2, (150, 150)),
        (KILLED, None, None, 2, (150, 7350)),
        (KILLED, 60, 4000, 1, (150, 9000)),
        (KILLED, 5000, None, None, (5000, 9000)),
        (KILLED[:1], 60, None, None, (60, 9000)),
        ((*KILLED, REFUSED), 60, None, None, (150, 9000)),
        ((*KILLED, STOPPED), None, None, None, None),
        ((*KILLED, FAILED), 60, None, None, (200, 9000)),
        ((*KILLED, STOPPED, REFUSED), None, None, None, None),
    ],
    ids=["a first attempt", "its cluster is up", "its cluster is gone", "gone at its deadline",
         "it ran until its deadline", "gone at the run's deadline", "up beyond its old deadline",
         "of a later attempt", "killed in provisioning", "after a failed preflight", "taken down",
         "not taken down", "taken down before a failed preflight"],
)  # fmt: skip
def test_a_cluster_that_an_attempt_left_costs_money_until_the_next_one(
    phases: tuple[PhaseRecord, ...],
    created: float | None,
    expires: float | None,
    hours: int | None,
    times: tuple[float, float] | None,
) -> None:
    cluster = FakeCluster()
    cluster.created_at = None if created is None else at(created)
    found = unrecorded_time(
        phases,
        cluster,
        at(9000),
        expires_at=None if expires is None else at(expires),
        deadline_hours=hours,
    )
    assert found == (times and (at(times[0]), at(times[1])))


def test_the_budget_counts_killed_attempts_and_the_time_between_attempts() -> None:
    clock = Clock()
    found = {"cluster_since": at(150), "cluster_until": at(9000)}
    phases = [
        *KILLED,
        phase(Phase.PREFLIGHT, 8900, 9000).model_copy(update=found),
        phase(Phase.PROVISION, 9000, 9100),
    ]
    limit = (100 + 8850 + 200 + NEXT_S) / 3600
    budget = Budget(limit, priced(1.0), lambda: phases, now=clock)
    clock.seconds = 9000 + 199
    budget.may_begin(planned())
    clock.seconds = 9000 + 201
    with pytest.raises(BudgetError):
        budget.may_begin(planned())


def test_the_budget_counts_what_was_pulled_and_the_next_pulls() -> None:
    first = trial(RUN1[0])
    enough = 2 * 4 * first.image.compressed_bytes * 1e-3 + 0.01
    Budget(enough, priced(1e-6, 1e-3), list, pulled=[first]).may_begin(first)
    with pytest.raises(BudgetError):
        Budget(enough - 0.02, priced(1e-6, 1e-3), list, pulled=[first]).may_begin(first)
    budget = Budget(enough, priced(1e-6, 1e-3), list)
    budget.may_begin(first)
    budget.may_begin(first)
    with pytest.raises(BudgetError):
        budget.may_begin(first)


def test_without_a_limit_every_trial_may_start() -> None:
    Budget(None, priced(0.0), list).may_begin(planned())


def test_a_budget_without_a_price_is_refused() -> None:
    with pytest.raises(PlanError, match="The price of this cluster is not known"):
        Budget(5.0, priced(0.0), list)
