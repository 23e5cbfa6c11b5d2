"""Whether a trial's image was in the remote repository before it: the cache was cold or warm. Pure.

The repository's own lists prove it. A cold one must have been pulled for the first time on this
cluster and must be in a later list: an image that is never listed would look cold for ever. The
lists have images, not layers: layers that an earlier image shares were in the cache before.
"""

from collections.abc import Sequence

from schema.run_records import Cache, PlannedImage, RepositoryRecord, TrialRecord


def cache_state(
    trial: TrialRecord,
    image: PlannedImage,
    lists: Sequence[RepositoryRecord],
    trials: Sequence[TrialRecord],
) -> Cache:
    """Return the state of the cache when a trial was released.

    Args:
        trial: of the image.
        image: empty `upstream` for one that was not pulled through the repository.
        lists: of all attempts.
        trials: of all attempts.
    """
    if not image.upstream:
        return Cache.NONE
    before = [
        each for each in lists if (each.attempt, each.before_trial) == (trial.attempt, trial.trial)
    ]
    if not before:
        return Cache.UNPROVED
    if image.digest in before[-1].digests:
        return Cache.WARM
    at = before[-1].at
    pulled = any(
        other.reference == trial.reference
        and other.cluster == trial.cluster
        and other.released_at
        and other.released_at < at
        for other in trials
    )
    listed = any(image.digest in each.digests for each in lists if each.at > at)
    return Cache.COLD if listed and not pulled else Cache.UNPROVED
