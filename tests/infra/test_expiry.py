from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.expiry import cron, deadline

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


def test_schedule_names_minute_hour_day_and_month() -> None:
    assert cron(datetime(2026, 11, 24, 15, 6, tzinfo=UTC)) == "6 15 24 11 *"
