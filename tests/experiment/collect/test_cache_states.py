"""Cold and warm of a remote repository are what its lists prove."""

from datetime import UTC, datetime, timedelta

import pytest

from experiment.collect.cache_states import cache_state
from schema.run_records import Cache, PlannedImage, RepositoryRecord, TrialRecord

START = datetime(2026, 11, 27, tzinfo=UTC)
IMAGE = PlannedImage(
    repository="r-docker.pkg.dev/p/pull-through-s/a", tag="t", digest="sha256:1", layers=(),
    upstream="ghcr.io/a",
)  # fmt: skip


def trial(number: int, at_s: int, cluster: str = "c", attempt: int = 1) -> TrialRecord:
    return TrialRecord(
        trial=number, repetition=1, attempt=attempt, reference=IMAGE.reference, job="j",
        namespace="n", pods=(), staged_at=START, released_at=START + timedelta(seconds=at_s),
        first_bound_at=None, all_bound_at=None, last_finished_at=None, cluster=cluster,
    )  # fmt: skip


def held(before: int | None, at_s: int, *digests: str, attempt: int = 1) -> RepositoryRecord:
    at = START + timedelta(seconds=at_s)
    return RepositoryRecord(attempt=attempt, before_trial=before, at=at, digests=digests)


FIRST, AGAIN = trial(1, 1), trial(2, 11)
BEFORE, LATER = held(1, 0), held(2, 10, "sha256:1")

CASES: dict[str, tuple[TrialRecord, list[RepositoryRecord], list[TrialRecord], Cache]] = {
    "absent before, listed after": (FIRST, [BEFORE, LATER], [FIRST, AGAIN], Cache.COLD),
    "listed before": (AGAIN, [BEFORE, LATER], [FIRST, AGAIN], Cache.WARM),
    "listed before its first pull": (FIRST, [held(1, 0, "sha256:1")], [FIRST], Cache.WARM),
    "never listed": (FIRST, [BEFORE, held(None, 10)], [FIRST], Cache.UNPROVED),
    "pulled before, not listed yet": (
        AGAIN, [BEFORE, held(2, 10), held(None, 20, "sha256:1")], [FIRST, AGAIN], Cache.UNPROVED,
    ),
    "pulled before on another cluster": (
        trial(1, 11, "new", attempt=2),
        [BEFORE, held(1, 10, attempt=2), held(None, 20, "sha256:1", attempt=2)],
        [FIRST, trial(1, 11, "new", attempt=2)],
        Cache.COLD,
    ),
    "not listed before this attempt": (
        trial(1, 11, attempt=2), [BEFORE, LATER], [FIRST], Cache.UNPROVED,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("one", "lists", "trials", "state"), CASES.values(), ids=CASES)
def test_state_of(
    one: TrialRecord, lists: list[RepositoryRecord], trials: list[TrialRecord], state: Cache
) -> None:
    assert cache_state(one, IMAGE, lists, trials) == state


def test_an_image_that_is_pulled_from_its_own_registry_has_none() -> None:
    own = IMAGE.model_copy(update={"upstream": ""})
    assert cache_state(FIRST, own, [BEFORE, LATER], [FIRST]) == Cache.NONE
