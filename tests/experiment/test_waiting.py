from experiment.waiting import wait_until
from tests.experiment.fakes import FakeClock


def test_what_holds_already_is_not_waited_for() -> None:
    clock = FakeClock()
    assert wait_until(lambda: ["a node"], 10, 1, clock) == ["a node"]
    assert clock.pauses == []


def test_it_gives_up_at_its_time_after_a_last_look() -> None:
    clock, looks = FakeClock(), list[float]()
    assert wait_until(lambda: looks.append(clock.now), 2.5, 1, clock) is None
    assert looks == [0, 1, 2, 2.5]


def test_pauses_double_up_to_a_limit() -> None:
    clock = FakeClock()
    assert wait_until(lambda: clock.now > 10, 60, 1, clock, longest_pause_s=4)
    assert clock.pauses == [1, 2, 4, 4]


def test_a_first_look_that_takes_all_the_time_is_followed_by_a_second() -> None:
    clock = FakeClock()

    def slow() -> bool:
        clock.now += 100
        return clock.now > 150

    assert wait_until(slow, 30, 1, clock)
