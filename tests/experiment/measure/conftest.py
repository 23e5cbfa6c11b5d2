"""Gated Jobs on a cluster that is faked."""

from collections.abc import Iterator

import pytest

from experiment.measure.gated_jobs import GatedJobs
from experiment.measure.pods import PodStates
from tests.experiment.conftest import NODES
from tests.experiment.fake_kube import PODS, FakeKube


@pytest.fixture
def kube() -> FakeKube:
    return FakeKube()


@pytest.fixture
def jobs(kube: FakeKube) -> Iterator[GatedJobs]:
    states = PodStates()
    kube.handlers[PODS] = states.handle
    jobs = GatedJobs(kube, states, NODES, dict)  # type: ignore[arg-type]
    yield jobs
    jobs.close()
