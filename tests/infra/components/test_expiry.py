import re
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.components.expiry import (
    cron,
    deadline,
    excluded_since,
    limit,
    next_day_cron,
    scheduler_region,
)
from rehearsal.cluster.fleet import ClusterKey
from rehearsal.google.access.conditions import attributes_of, holds

NOW = datetime(2026, 11, 24, 3, 15, 42, tzinfo=UTC)


class TestDeadline:
    def test_of_a_new_cluster_is_so_many_whole_hours_ahead(self) -> None:
        assert deadline(None, NOW, 12) == datetime(2026, 11, 24, 15, 16, tzinfo=UTC)

    def test_that_is_ahead_is_kept_whatever_the_hours(self) -> None:
        known = "2026-11-24T04:00:00Z"
        assert deadline(known, NOW, 168) == datetime(2026, 11, 24, 4, 0, tzinfo=UTC)

    @pytest.mark.parametrize("past", ["2026-11-24T03:15:00Z", "2025-01-01T00:00:00Z", ""])
    def test_that_has_passed_is_replaced(self, past: str) -> None:
        assert deadline(past, NOW, 1) == datetime(2026, 11, 24, 4, 16, tzinfo=UTC)

    def test_set_by_the_user_is_taken(self) -> None:
        until = datetime(2026, 11, 25, 3, 0, tzinfo=UTC)
        assert deadline("2026-11-24T04:00:00Z", NOW, 12, until) == until

    @given(st.datetimes(datetime(2026, 1, 1), datetime(2030, 1, 1)), st.integers(1, 168))  # noqa: DTZ001
    def test_is_never_before_the_hours_are_over(self, now: datetime, hours: int) -> None:
        life = deadline(None, now.replace(tzinfo=UTC), hours) - now.replace(tzinfo=UTC)
        assert timedelta(hours=hours) < life <= timedelta(hours=hours, minutes=1)


class TestExclusion:
    AHEAD, PAST = "2026-11-24T04:00:00Z", "2026-11-24T03:00:00Z"

    @pytest.mark.parametrize(
        ("earlier", "since", "expected"),
        [
            (None, None, "2026-11-24T03:15:00Z"),
            (AHEAD, "2026-11-20T00:00:00Z", "2026-11-20T00:00:00Z"),
            (PAST, "2026-11-20T00:00:00Z", "2026-11-24T03:15:00Z"),
            (AHEAD, None, "2026-11-24T03:15:00Z"),
        ],
        ids=["new", "kept", "a cluster that was deleted", "a stack of an earlier version"],
    )
    def test_begins_with_the_cluster(
        self, earlier: str | None, since: str | None, expected: str
    ) -> None:
        assert excluded_since(earlier, since, NOW) == expected


class TestSchedules:
    @pytest.mark.parametrize(
        ("at", "first", "then"),
        [
            ("2026-11-24T15:06", "6 15-23 24 11 *", "*/15 * 25 11 *"),
            ("2026-12-31T23:59", "59 23 31 12 *", "*/15 * 1 1 *"),
            ("2028-02-28T00:00", "0 0-23 28 2 *", "*/15 * 29 2 *"),
        ],
    )
    def test_go_on_to_the_end_of_the_next_day(self, at: str, first: str, then: str) -> None:
        moment = datetime.fromisoformat(at).replace(tzinfo=UTC)
        assert (cron(moment), next_day_cron(moment)) == (first, then)

    @pytest.mark.parametrize(
        ("location", "region"),
        [
            ("us-east4-c", "us-east4"),
            ("europe-west4", "europe-west4"),
            ("northamerica-south1-a", "us-central1"),
            ("southamerica-west1", "us-central1"),
        ],
    )
    def test_are_in_a_region_that_has_cloud_scheduler(self, location: str, region: str) -> None:
        assert scheduler_region(location) == region


class TestLimit:
    def test_names_a_zonal_cluster_in_both_forms_and_a_regional_one_in_its_own(self) -> None:
        at = datetime(2026, 11, 24, tzinfo=UTC)
        until = 'request.time < timestamp("2027-07-01T00:00:00Z")'
        assert limit("us-central1-a", "c", at) == (
            f'resource.name.endsWith("/zones/us-central1-a/clusters/c") && {until}'
            f' || resource.name.endsWith("/locations/us-central1-a/clusters/c") && {until}'
        )
        assert limit("us-central1", "c", at) == (
            f'resource.name.endsWith("/locations/us-central1/clusters/c") && {until}'
        )

    @pytest.mark.parametrize("location", ["us-central1-a", "us-central1"])
    def test_holds_for_this_cluster_until_months_after_its_deadline(self, location: str) -> None:
        at = datetime(2026, 11, 24, tzinfo=UTC)
        condition = {"expression": limit(location, "c", at)}
        mine, another = ClusterKey("p", location, "c"), ClusterKey("p", location, "another-c")
        day_after, year_after = at + timedelta(days=2), at.replace(year=2027)
        assert holds(condition, attributes_of(mine, day_after))
        assert not holds(condition, attributes_of(mine, year_after))
        assert not holds(condition, attributes_of(another, day_after))

    @given(st.datetimes(datetime(2026, 1, 1), datetime(2040, 1, 1)))  # noqa: DTZ001
    def test_ends_after_the_last_request_and_before_the_schedule_comes_round(
        self, naive: datetime
    ) -> None:
        at = naive.replace(tzinfo=UTC)
        (text,) = set(re.findall(r'timestamp\("(.*?)"\)', limit("us-central1", "c", at)))
        end = datetime.fromisoformat(text)
        assert at + timedelta(days=2, hours=1) < end < at + timedelta(days=364)
