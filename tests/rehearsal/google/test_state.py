import threading
from collections.abc import Callable

import pytest

from rehearsal.cluster.fleet import ClusterKey
from rehearsal.google.faults import GoogleFaults
from rehearsal.google.gke.operations import Operations
from rehearsal.google.state import GoogleState, Json, Kind, MissingError


@pytest.fixture
def state() -> GoogleState:
    return GoogleState()


def test_what_is_read_or_written_is_a_copy(state: GoogleState) -> None:
    body: Json = {"items": []}
    state.put(Kind.SINK, "a", body)
    body["items"].append(1)
    state.find(Kind.SINK)[0]["items"].append(2)
    assert state.get(Kind.SINK, "a") == {"items": []}


def test_failed_change_changes_nothing(state: GoogleState) -> None:
    state.create(Kind.SINK, "a", {"n": 1})

    def change(body: Json) -> None:
        body["n"] = 2
        raise RuntimeError

    with pytest.raises(RuntimeError):
        state.update(Kind.SINK, "a", change)
    assert state.get(Kind.SINK, "a") == {"n": 1}
    with pytest.raises(MissingError):
        state.update(Kind.SINK, "none", change)


def _together(count: int, work: Callable[[], None]) -> None:
    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)


def test_changes_of_many_threads_all_count(state: GoogleState) -> None:
    def work() -> None:
        for _ in range(25):
            state.update(Kind.SINK, "a", lambda body: body.update(n=body["n"] + 1), {"n": 0})

    _together(8, work)
    assert state.get(Kind.SINK, "a") == {"n": 200}


def test_a_cluster_has_one_lock_though_threads_ask_for_it_at_once(state: GoogleState) -> None:
    both = threading.Barrier(2)

    class SlowKey(ClusterKey):
        """Two threads are inside the lookup at once, unless one has to wait for the other."""

        def __hash__(self) -> int:
            try:
                both.wait(0.2)
            except threading.BrokenBarrierError:
                both.reset()
            return 1

    operations = Operations(state, GoogleFaults())
    locks: list[threading.Lock] = []
    key = SlowKey("p", "l", "c")
    _together(2, lambda: locks.append(operations.lock_of(key)))
    assert locks[0] is locks[1]
