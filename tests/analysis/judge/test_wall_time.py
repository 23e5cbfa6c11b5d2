"""Where the time of a run went: every second to one part."""

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.judge.trial_moments import Moments
from analysis.judge.wall_time import PARTS, WallTime, account, lines, run_wall_time
from analysis.read.read_records import own_seconds
from schema.evidence_records import EvidenceRecord
from schema.run_records import (
    CellPhases,
    CellRecord,
    Phase,
    PhaseRecord,
    Rehearsal,
    RunRecord,
    Status,
    StepRecord,
    TrialPod,
    TrialRecord,
)
from tests.analysis.recorded import START, outputs, run_record

REFERENCE = "ghcr.io/a/b:9-layers-size-1176249324-bytes@sha256:" + "a" * 64


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def phase(which: Phase, begin: float, end: float) -> PhaseRecord:
    return PhaseRecord(phase=which, started_at=at(begin), ended_at=at(end))


def trial(number: int = 1, attempt: int = 1, **moments: float | None) -> TrialRecord:
    known = {f"{name}_at": None if s is None else at(s) for name, s in moments.items()}
    empty = dict.fromkeys(
        ("staged_at", "released_at", "first_bound_at", "all_bound_at", "last_finished_at")
    )
    return TrialRecord.model_validate(
        {
            **empty,
            "trial": number,
            "repetition": 1,
            "attempt": attempt,
            "reference": REFERENCE,
            "job": f"t{number}",
            "namespace": "n",
            "pods": (),
            **known,
        }
    )


def cell(
    number: int = 1,
    node: str = "node-1",
    status: Status = Status.VALID,
    attempt: int = 1,
    **moments: float,
) -> CellRecord:
    return CellRecord(
        run="r",
        trial=number,
        repetition=1,
        attempt=attempt,
        nodes=1,
        reference=REFERENCE,
        tag="9-layers-size-1176249324-bytes",
        node=node,
        pod="p",
        pod_uid="u",
        status=status,
        reason="",
        pull_s=1.0,
        pull_and_wait_s=1.0,
        image_bytes=1,
        warm_bytes=0,
        sources={},
        phases=CellPhases(**{f"{name}_at": at(s) for name, s in moments.items()}),
    )


PHASES = (
    phase(Phase.PREFLIGHT, 0, 2),
    phase(Phase.PROVISION, 2, 102),
    phase(Phase.PREPARE, 102, 110),
    phase(Phase.MEASURE, 110, 150),
    phase(Phase.COLLECT, 150, 155),
    phase(Phase.TEARDOWN, 155, 165),
)
TRIALS = (
    trial(1, staged=110.5, all_created=111, released=111.5, last_finished=128.25),
    trial(2, staged=112, all_created=112.5, released=128.5, last_finished=148),
)
CELLS = (
    cell(1, scheduled=112, pulling=113, pulled=123, started=123.5, finished=127, job_complete=129),
    cell(1, "node-2", scheduled=112, pulling=113, pulled=115, started=115.5, finished=116),
    cell(2, scheduled=129, pulling=130, pulled=145, started=146, finished=147, job_complete=149.5),
)


@pytest.fixture
def record() -> RunRecord:
    return run_record(1)


def known(time: WallTime) -> dict[str, float]:
    return {part: round(s, 3) for part, s in time.parts.items() if round(s, 6)}


def test_every_second_of_a_run_has_its_part(record: RunRecord) -> None:
    time = run_wall_time(record, PHASES, TRIALS, CELLS)

    assert time.clock_s == pytest.approx(165)
    assert known(time) == {
        "preflight": 2,
        "provision": 100,
        "prepare": 8,
        # of trial 1 the making of the Job, the binding and the noticing of the end; of trial 2 the
        # binding, the noticing, and the completion of its Job, which the runner waits for
        "control plane": round(0.5 + 0.5 + 1.25 + 0.5 + 1.0 + 1.5, 3),
        "start": round(1 + 0.5 + 1 + 1, 3),
        "pull": 25,
        "container": 2,
        "settling": 2.5,
        "runner": round(0.5 + 0.5 + 0.25 + 0.5, 3),
        "collect": 5,
        "teardown": 10,
    }
    assert time.explained == pytest.approx(1)


def test_a_trial_is_timed_by_its_last_node(record: RunRecord) -> None:
    first, second = run_wall_time(record, PHASES, TRIALS, CELLS).trials

    assert (first.trial, first.node) == (1, "node-1")
    assert (first.begin_s, first.total_s) == pytest.approx((110, 18.25))
    assert first.parts["pull"] == pytest.approx(10)
    assert second.begin_s == pytest.approx(128.25)
    assert sum(second.parts.values()) == pytest.approx(second.total_s) == pytest.approx(19.75)


def test_pods_that_the_controller_makes_late_are_the_control_planes_time(record: RunRecord) -> None:
    late = trial(2, staged=112, all_created=134, released=134.5, last_finished=148)

    time = run_wall_time(record, PHASES, (TRIALS[0], late), CELLS)

    waited = time.trials[1].parts
    assert waited["control plane"] >= 134 - 128.25
    assert waited["runner"] == pytest.approx(0.5)


def test_waiting_for_the_job_controller_in_vain_is_the_control_planes_time(
    record: RunRecord,
) -> None:
    step = StepRecord(name="Jobs complete", started_at=at(148), ended_at=at(149.9))
    phases = [
        p.model_copy(update={"steps": (step,)}) if p.phase is Phase.MEASURE else p for p in PHASES
    ]
    cells = [c.model_copy(deep=True) for c in CELLS]
    late = cells[2].phases.model_copy(update={"job_complete_at": None})
    cells[2] = cells[2].model_copy(update={"phases": late})

    plain = run_wall_time(record, PHASES, TRIALS, cells)
    told = run_wall_time(record, phases, TRIALS, cells)

    assert plain.parts["runner"] - told.parts["runner"] == pytest.approx(1.9)
    assert told.parts["control plane"] - plain.parts["control plane"] == pytest.approx(1.9)


def test_a_trial_without_evidence_is_unexplained(record: RunRecord) -> None:
    time = run_wall_time(record, PHASES, TRIALS, CELLS[:2])

    assert time.parts["unexplained"] == pytest.approx(148 - 128.5)
    assert time.explained == pytest.approx(1 - 19.5 / 165)


def test_a_failing_pull_is_pull_time_until_the_runner_gave_up(record: RunRecord) -> None:
    failed = cell(2, "node-9", Status.FAILED, scheduled=129, pulling=130)

    time = run_wall_time(record, PHASES, TRIALS, (*CELLS[:2], failed))

    assert time.trials[1].parts["pull"] == pytest.approx(148 - 130)
    assert time.explained == pytest.approx(1)


def test_waiting_until_a_node_is_called_lost_is_the_control_planes_time(
    record: RunRecord,
) -> None:
    lost = cell(2, "node-9", Status.NODE_LOST, scheduled=129, pulling=130)

    time = run_wall_time(record, PHASES, TRIALS, (*CELLS[:2], lost))

    assert time.trials[1].parts["control plane"] >= 148 - 130
    assert time.explained == pytest.approx(1)


def test_the_last_node_is_the_one_whose_end_the_runner_saw_last(record: RunRecord) -> None:
    quick = cell(2, "node-2", scheduled=129, pulling=130, pulled=131, started=131.2, finished=132)
    failed = cell(2, "node-9", Status.FAILED, scheduled=129, pulling=130)
    pods = [
        TrialPod(index=i, node=node, pod="p", uid="u", over_seen=at(seen))
        for i, (node, seen) in enumerate((("node-2", 133), ("node-9", 148)))
    ]
    seen = TRIALS[1].model_copy(update={"pods": tuple(pods)})

    time = run_wall_time(record, PHASES, (TRIALS[0], seen), (*CELLS[:2], quick, failed))

    assert time.trials[1].node == "node-9"
    assert time.trials[1].parts["pull"] == pytest.approx(148 - 130)


def test_of_a_cell_that_was_judged_again_the_last_line_counts(record: RunRecord) -> None:
    late_events = CELLS[2]
    before = cell(2, status=Status.MISSING_EVENTS)

    time = run_wall_time(record, PHASES, TRIALS, (*CELLS[:2], before, late_events))

    assert time.explained == pytest.approx(1)


def test_removing_images_before_a_trial_is_a_part_of_its_own(record: RunRecord) -> None:
    cold = trial(
        2, staged=112, all_created=112.5, released=134, last_finished=148,
        removal_begun=128.5, removal_ended=133.5,
    )  # fmt: skip

    parts = run_wall_time(record, PHASES, (TRIALS[0], cold), CELLS).trials[1].parts

    assert parts["removal"] == pytest.approx(5)
    assert parts["runner"] == pytest.approx(0.25 + 0.5)


@pytest.mark.parametrize(
    ("moments", "part"),
    [({"scheduled": 129.0}, "unexplained"), ({"scheduled": 129.0, "pulling": 130.0}, "pull")],
    ids=["nothing happened on the node", "its pull never ended"],
)
def test_a_trial_that_never_ended_was_waited_for_until_the_next_turn(
    record: RunRecord, moments: dict[str, float], part: str
) -> None:
    stuck = trial(2, staged=112, all_created=112.5, released=128.5)
    third = trial(3, staged=129, all_created=130, released=140, last_finished=148)
    aborted = cell(2, "node-1", Status.ABORTED, 1, **moments)
    last = cell(3, scheduled=140, pulling=141, pulled=145, started=146, finished=147)

    time = run_wall_time(record, PHASES, (TRIALS[0], stuck, third), (*CELLS[:2], aborted, last))

    assert time.trials[1].parts[part] == pytest.approx(140 - max(moments.values()))
    assert time.trials[1].begin_s + time.trials[1].total_s == pytest.approx(140)


def test_a_pull_whose_begin_was_lost_began_its_duration_before_its_end(record: RunRecord) -> None:
    lost = cell(2, scheduled=129, pulled=145, started=146, finished=147)

    assert run_wall_time(record, PHASES, TRIALS, (*CELLS[:2], lost)).trials[1].parts[
        "pull"
    ] == pytest.approx(1)


def test_a_resumed_run_does_not_count_the_pause_between_its_attempts(record: RunRecord) -> None:
    day = 86_400
    again = [phase(p.phase, 0, 0) for p in PHASES]
    again = [
        one.model_copy(
            update={
                "started_at": old.started_at + timedelta(seconds=day),
                "ended_at": old.ended_at + timedelta(seconds=day),
            }
        )
        for one, old in zip(again, PHASES, strict=True)
    ]
    second = trial(
        2, 2, staged=day + 110.5, all_created=day + 111, released=day + 111.5,
        last_finished=day + 140,
    )  # fmt: skip
    told = cell(2, attempt=2, scheduled=day + 112, pulling=day + 113, pulled=day + 135,
                started=day + 136, finished=day + 139)  # fmt: skip

    time = run_wall_time(record, (*PHASES, *again), (*TRIALS, second), (*CELLS, told))

    assert time.clock_s == pytest.approx(2 * 165)
    assert [(t.trial, t.attempt) for t in time.trials] == [(1, 1), (2, 1), (2, 2)]
    assert time.explained == pytest.approx(1)


NODE_TIMES = ("pulling", "pulled", "started", "finished")


def with_clock_off(
    told: CellRecord, seconds: float, *, names: tuple[str, ...] = NODE_TIMES
) -> CellRecord:
    """A cell whose node's clock is that many seconds ahead."""
    phases = told.phases
    moved = {
        f"{name}_at": at + timedelta(seconds=seconds)
        for name in names
        if (at := getattr(phases, f"{name}_at"))
    }
    return told.model_copy(update={"phases": phases.model_copy(update=moved)})


def clocks(**offsets: float) -> EvidenceRecord:
    """An assessment of attempt 1; offsets as they are measured: with an event's delay."""
    return EvidenceRecord(
        attempt=1, at=START, complete=True, waited_s=0, sources={}, seen_by_several=0,
        seen_by_one=0, seen_by_none=0,
        clock_offsets_s={name.replace("_", "-"): s for name, s in offsets.items()},
    )  # fmt: skip


@pytest.mark.parametrize("seconds", [60.0, -60.0, 4000.0, -4000.0, 6.0, -6.0])
@pytest.mark.parametrize("speed", [1.0, 20.0])
def test_a_nodes_clock_that_is_off_changes_no_trials_time(
    record: RunRecord, seconds: float, speed: float
) -> None:
    priced = record.model_copy(
        update={
            "outputs": outputs(1).model_copy(update={"usd_per_hour": 3600.0}),
            "rehearsal": Rehearsal(nodes="simulated", scale=1.0, speed=speed),
        }
    )
    cells = [with_clock_off(CELLS[0], seconds), CELLS[1], with_clock_off(CELLS[2], seconds)]

    right = run_wall_time(priced, PHASES, TRIALS, CELLS)
    time = run_wall_time(priced, PHASES, TRIALS, cells, [clocks(node_1=0.2 - seconds)])

    assert time.clock_s == pytest.approx(right.clock_s)
    slack = 2 * speed * 0.2  # the delay of events
    for one, its in zip(time.trials, right.trials, strict=True):
        assert one.parts == pytest.approx(its.parts, abs=slack)
        assert one.total_s == pytest.approx(its.total_s, abs=slack)
        assert one.usd == pytest.approx(its.usd, abs=slack)
    assert time.explained == pytest.approx(1)


@pytest.mark.parametrize("seconds", [60.0, -60.0])
def test_without_a_measured_offset_a_nodes_times_stay_between_the_runners(
    record: RunRecord, seconds: float
) -> None:
    cells = [CELLS[0], CELLS[1], with_clock_off(CELLS[2], seconds)]

    time = run_wall_time(record, PHASES, TRIALS, cells)

    right = run_wall_time(record, PHASES, TRIALS, CELLS).trials[1]
    assert time.trials[1].total_s == pytest.approx(right.total_s)
    for part in ("pull", "container", "settling", "unexplained"):
        assert time.trials[1].parts[part] == pytest.approx(right.parts[part])


@pytest.mark.parametrize("seconds", [60.0, -60.0])
def test_times_between_which_a_nodes_clock_was_set_are_unexplained(
    record: RunRecord, seconds: float
) -> None:
    late = with_clock_off(CELLS[2], seconds, names=("pulled", "started", "finished"))

    time = run_wall_time(record, PHASES, TRIALS, [*CELLS[:2], late])

    assert time.trials[1].total_s == pytest.approx(148 - 128.25)
    assert time.trials[1].parts["pull"] == 0
    assert time.trials[1].parts["unexplained"] == pytest.approx(148 - 129)


@pytest.mark.parametrize("seconds", [90.0, -90.0])
def test_a_runners_clock_that_is_off_changes_no_trials_time(
    record: RunRecord, seconds: float
) -> None:
    every = ("scheduled", *NODE_TIMES)
    cells = [with_clock_off(one, seconds, names=every) for one in CELLS]
    pods = {
        number: TrialPod(index=0, node="node-1", pod="p", uid="u", bound_seen=at(seen))
        for number, seen in ((1, 112.02), (2, 129.02))
    }
    trials = [one.model_copy(update={"pods": (pods[one.trial],)}) for one in TRIALS]
    seen = clocks(node_1=0.2 - seconds, node_2=0.2 - seconds, default_scheduler=0.1 - seconds)

    time = run_wall_time(record, PHASES, trials, cells, [seen])

    right = run_wall_time(record, PHASES, TRIALS, CELLS)
    for one, its in zip(time.trials, right.trials, strict=True):
        assert one.total_s == pytest.approx(its.total_s)
        assert one.parts["pull"] == pytest.approx(its.parts["pull"])
        assert one.parts["start"] == pytest.approx(its.parts["start"], abs=0.6)
    assert time.explained == pytest.approx(1)


def test_a_clock_that_is_ahead_does_not_decide_when_containers_of_other_nodes_ended(
    record: RunRecord,
) -> None:
    fast = record.model_copy(
        update={"rehearsal": Rehearsal(nodes="simulated", scale=1.0, speed=20.0)}
    )
    ended = (("node-1", 130, 130.06), ("node-2", 130, 130.4), ("node-3", 190, 130.3))
    pods = [
        TrialPod(index=i, node=node, pod="p", uid="u", finished_at=at(end), over_seen=at(seen))
        for i, (node, end, seen) in enumerate(ended)
    ]
    only = trial(1, staged=128, all_created=128.5, released=129, last_finished=130.4)
    told = cell(1, "node-2", scheduled=129.1, pulling=129.2, pulled=130, started=130.05,
                finished=130)  # fmt: skip

    (one,) = run_wall_time(
        fast, PHASES, [only.model_copy(update={"pods": tuple(pods)})], [told]
    ).trials

    assert one.parts["settling"] == pytest.approx(20 * (130.4 - 0.06 - 130.05) - 1, abs=1e-3)


def test_late_collecting_counts_without_the_days_before_it(record: RunRecord) -> None:
    late = phase(Phase.COLLECT, 90_000, 90_007)

    time = run_wall_time(record, (*PHASES, late), TRIALS, CELLS)

    assert time.clock_s == pytest.approx(165 + 7)
    assert time.parts["collect"] == pytest.approx(5 + 7)


def test_trials_of_a_killed_runner_are_counted_without_their_phase(record: RunRecord) -> None:
    time = run_wall_time(record, PHASES[:3], TRIALS, CELLS)

    assert [t.trial for t in time.trials] == [1, 2]
    assert time.parts["pull"] == pytest.approx(25)
    assert time.clock_s == pytest.approx(148)


def test_a_run_that_never_measured_has_its_phases(record: RunRecord) -> None:
    time = run_wall_time(record, PHASES[:2], (trial(1),), ())

    assert known(time) == {"preflight": 2, "provision": 100}
    assert time.trials == ()


def test_nothing_recorded_is_no_time_and_no_division_by_zero(record: RunRecord) -> None:
    time = run_wall_time(record, (), (), ())

    assert (time.clock_s, time.total_s, time.explained) == (0, 0, 1)
    assert "total" in lines(time)[-1]


def test_time_of_a_faster_node_counts_as_many_times_and_no_other(record: RunRecord) -> None:
    fast = record.model_copy(
        update={"rehearsal": Rehearsal(nodes="simulated", scale=1.0, speed=20.0)}
    )

    time = run_wall_time(fast, PHASES, TRIALS, CELLS)

    assert time.clock_s == pytest.approx(165)
    assert time.parts["pull"] == pytest.approx(20 * 25)
    assert time.parts["provision"] == pytest.approx(100)
    assert time.parts["container"] == pytest.approx(2)  # a second each, at 20 times the speed
    assert time.parts["start"] == pytest.approx(2 + 20 * 1.5)
    assert time.total_s == pytest.approx(sum(time.parts.values()))
    assert any("faster" in line for line in lines(time))


def test_on_a_fast_node_an_end_lies_as_long_before_its_news_as_the_quickest_pods(
    record: RunRecord,
) -> None:
    """The kubelet tells whole seconds, of which one is 20 where nodes run 20 times faster."""
    fast = record.model_copy(
        update={"rehearsal": Rehearsal(nodes="simulated", scale=1.0, speed=20.0)}
    )
    pods = [
        TrialPod(index=i, node=node, pod="p", uid="u", finished_at=at(130), over_seen=at(seen))
        for i, (node, seen) in enumerate((("node-1", 130.06), ("node-2", 130.4)))
    ]
    only = trial(1, staged=128, all_created=128.5, released=129, last_finished=130.4)
    told = cell(1, "node-2", scheduled=129.1, pulling=129.2, pulled=130, started=130.05,
                finished=130)  # fmt: skip

    (one,) = run_wall_time(
        fast, PHASES, [only.model_copy(update={"pods": tuple(pods)})], [told]
    ).trials

    assert one.parts["container"] == pytest.approx(1)
    assert one.parts["settling"] == pytest.approx(20 * (130.4 - 0.06 - 130.05) - 1, abs=1e-3)
    assert one.parts["unexplained"] == 0


def test_a_run_costs_from_provision_to_teardown(record: RunRecord) -> None:
    priced = record.model_copy(
        update={"outputs": outputs(1).model_copy(update={"usd_per_hour": 3600.0})}
    )

    time = run_wall_time(priced, PHASES, TRIALS, CELLS)

    assert time.usd == pytest.approx(163)
    assert time.trials[0].usd == pytest.approx(18.25)
    assert any("163.00 USD" in line for line in lines(time))


def test_a_cluster_that_was_up_between_two_attempts_cost_money_then(record: RunRecord) -> None:
    """Killed in its second trial; the next attempt finds the cluster 900 seconds later."""
    priced = record.model_copy(
        update={"outputs": outputs(1).model_copy(update={"usd_per_hour": 3600.0})}
    )
    found = phase(Phase.PREFLIGHT, 1000, 1010).model_copy(
        update={"cluster_since": at(110), "cluster_until": at(1010)}
    )
    again = (found, phase(Phase.PROVISION, 1010, 1020), phase(Phase.TEARDOWN, 1020, 1050))

    time = run_wall_time(priced, (*PHASES[:3], *again), TRIALS, CELLS)

    assert time.clock_s == pytest.approx(148 + 50)
    assert time.usd == pytest.approx(1050 - 2)


def test_a_run_without_a_price_says_none(record: RunRecord) -> None:
    assert run_wall_time(record, PHASES, TRIALS, CELLS).usd is None


@st.composite
def runs(draw: st.DrawFn) -> tuple[list[PhaseRecord], list[TrialRecord], list[CellRecord]]:
    """Runs whose evidence may lack any moment, and whose clocks may disagree."""
    seconds = st.floats(0, 60).map(lambda s: round(s, 3))
    moment = st.floats(-1, 60).map(lambda s: round(s, 3))
    now = 0.0
    phases, trials, cells = [], [], []
    for which in Phase:
        begin = now + draw(seconds)
        now = begin + draw(seconds)
        if which is Phase.MEASURE:
            for number in range(1, draw(st.integers(1, 4))):
                released = now + draw(seconds)
                end = released + draw(seconds)
                times = {"staged": released - draw(seconds), "released": released}
                if draw(st.booleans()):
                    times["last_finished"] = end
                trials.append(trial(number, 1, **times))
                names = ("scheduled", "pulling", "pulled", "started", "finished", "job_complete")
                seen = {n: released + draw(moment) for n in names if draw(st.booleans())}
                cells.append(cell(number, "node", draw(st.sampled_from(Status)), 1, **seen))
                now = end
        phases.append(phase(which, begin, now))
    return phases, trials, cells


@given(runs())
def test_parts_always_add_up_to_the_time_that_passed(
    run: tuple[list[PhaseRecord], list[TrialRecord], list[CellRecord]],
) -> None:
    phases, trials, cells = run
    passed = (phases[-1].ended_at - phases[0].started_at).total_seconds()

    time = run_wall_time(run_record(1), phases, trials, cells)

    assert tuple(time.parts) == PARTS
    assert min(time.parts.values()) >= 0
    assert sum(time.parts.values()) == pytest.approx(time.total_s) == pytest.approx(passed)
    assert len(time.trials) == len(trials)
    for one in time.trials:
        assert sum(one.parts.values()) == pytest.approx(one.total_s)


def foreign(number: int, begin: float) -> Moments:
    """A trial with a second between its moments."""
    return Moments(
        trial=number,
        attempt=1,
        image="tag",
        node="node",
        staged_s=begin,
        scheduled_s=begin + 1,
        pulling_s=begin + 2,
        pulled_s=begin + 3,
        started_s=begin + 4,
        ended_s=begin + 5,
        known_s=begin + 5,
    )


def test_foreign_trials_have_gaps_but_no_long_pauses() -> None:
    time = account([foreign(1, 0), foreign(2, 15), foreign(3, 500)], own_s=0.25)

    assert time.clock_s == pytest.approx(5 + 10 + 5 + 5)
    assert known(time) == {
        "control plane": 3,
        "start": 6,
        "pull": 3,
        "container": 0.75,
        "settling": 2.25,
        "runner": 10,
    }


def test_a_foreign_trial_that_lost_its_pull_is_unexplained() -> None:
    lost = Moments(1, 1, "tag", "node", staged_s=0, started_s=40, ended_s=50, known_s=50)

    assert known(account([lost])) == {"settling": 10, "unexplained": 40}


@pytest.mark.parametrize(
    ("command", "seconds"),
    [
        (("sleep", "1"), 1.0),
        (("sh", "-c", "sleep 2.5"), 2.5),
        (("true",), 0.0),
        (("sleep",), 0.0),
        (("sleep", "x"), 0.0),
    ],
)
def test_how_long_a_command_says_that_it_runs(command: tuple[str, ...], seconds: float) -> None:
    assert own_seconds(command) == seconds


def test_lines_name_every_part_that_took_time_and_every_trial(record: RunRecord) -> None:
    text = lines(run_wall_time(record, PHASES, TRIALS, CELLS))

    assert [line.split()[0] for line in text[1:5]] == ["preflight", "provision", "prepare",
                                                       "control"]  # fmt: skip
    assert "100.0% explained" in next(line for line in text if line.startswith("total"))
    assert sum("9-layers" in line for line in text) == 2
