"""Staged Jobs on a cluster that is faked."""

from collections.abc import Iterator

import pytest

from experiment.measure.pods import PodStates
from experiment.measure.staged_jobs import StagedJobs
from tests.experiment.conftest import NODES
from tests.experiment.fake_kube import PODS, FakeKube


@pytest.fixture
def kube() -> FakeKube:
    return FakeKube()


@pytest.fixture
def jobs(kube: FakeKube) -> Iterator[StagedJobs]:
    states = PodStates()
    kube.handlers[PODS] = states.handle
    jobs = StagedJobs(kube, states, NODES, dict)  # type: ignore[arg-type]
    yield jobs
    jobs.close()
