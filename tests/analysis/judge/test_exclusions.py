"""Which cell counts; the first objection decides."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.judge.exclusions import Evidence, judge
from schema.run_records import Status

SOUND = Evidence(pods=1, pulling=1, pulled=1)


@pytest.mark.parametrize(
    ("evidence", "status", "said"),
    [
        (SOUND, Status.VALID, ""),
        (Evidence(pods=2, pulling=1, pulled=1, cached=1), Status.VALID, ""),
        (
            Evidence(pods=1, pulling=1, pulled=1, eviction="low on disk"),
            Status.EVICTED,
            "low on disk",
        ),
        (
            Evidence(pods=1, pulling=1, pulled=1, lost="NodeNotReady"),
            Status.NODE_LOST,
            "NodeNotReady",
        ),
        (Evidence(pods=1, pulling=1, failed=2, failure="no space"), Status.FAILED, "no space"),
        (Evidence(pods=1, pulling=2, pulled=1, failed=1, failure="429"), Status.RETRIED, "429"),
        (Evidence(pods=3, pulling=3, pulled=3), Status.REPEATED, "3 times"),
        (
            Evidence(pods=1, pulling=1, pulled=1, pressure="NodeHasDiskPressure"),
            Status.DISK_PRESSURE,
            "NodeHasDiskPressure",
        ),
        (Evidence(pods=1, cached=1), Status.CACHED, "already on the node"),
        (Evidence(pods=1, pulling=1), Status.MISSING_EVENTS, "no end of the pull"),
        (Evidence(pods=1, pulled=1), Status.MISSING_EVENTS, "without Pulling"),
        (Evidence(pods=2, pulling=2, pulled=1), Status.MISSING_EVENTS, "2 Pulling"),
        (Evidence(pods=2), Status.MISSING_EVENTS, "2 pods were bound"),
        (Evidence(elsewhere=16), Status.MISSING_EVENTS, "16 ran on others"),
        (Evidence(pods=1, pulling=1, pulled=1, earlier=True), Status.WARM_LAYERS, "earlier Job"),
    ],
)
def test_a_cell_is_judged_by_its_evidence(evidence: Evidence, status: Status, said: str) -> None:
    found, reason = judge(evidence)
    assert found is status
    assert said in reason


counts = st.integers(0, 3)


@given(
    st.builds(
        Evidence,
        pods=counts,
        pulling=counts,
        pulled=counts,
        cached=counts,
        failed=counts,
        failure=st.just("f"),
        eviction=st.sampled_from(["", "e"]),
        pressure=st.sampled_from(["", "p"]),
        lost=st.sampled_from(["", "l"]),
        earlier=st.booleans(),
    )
)
def test_valid_means_exactly_one_complete_pull_and_nothing_else(evidence: Evidence) -> None:
    status, reason = judge(evidence)
    sound = (
        evidence.pulled == 1
        and evidence.pulling == 1
        and not evidence.failed
        and not (evidence.eviction or evidence.pressure or evidence.lost or evidence.earlier)
    )
    assert (status is Status.VALID) == sound
    assert (reason == "") == sound
