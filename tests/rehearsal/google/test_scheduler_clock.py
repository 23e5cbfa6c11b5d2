import time
from datetime import UTC, datetime

from rehearsal.google.scheduler_clock import Clock

AT = datetime(2026, 11, 24, 3, 5, tzinfo=UTC)


def _fail(_at: datetime) -> None:
    raise ValueError("a mistake")


def test_all_is_told_the_time_though_one_fails() -> None:
    told: list[datetime] = []
    clock = Clock()
    clock.add(_fail)
    clock.add(told.append)
    clock.tick(AT)
    assert told == [AT]


def test_it_goes_by_itself_until_it_is_stopped() -> None:
    told: list[datetime] = []
    clock = Clock()
    clock.add(told.append)
    clock.start()
    end = time.monotonic() + 10
    while not told:
        assert time.monotonic() < end
        time.sleep(0.02)
    clock.stop()
    assert abs((datetime.now(UTC) - told[0]).total_seconds()) < 10
