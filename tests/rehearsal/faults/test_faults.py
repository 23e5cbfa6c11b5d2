from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from docs.generate.faults import PAGE, updated
from rehearsal.faults.catalogue import ARGUMENTS, KINDS, shown
from rehearsal.faults.faults import (
    FaultError,
    Faults,
    parse_fault,
    parse_faults,
    refuse_simulated,
)
from schema.errors import ExitCode


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_is_read_with_its_defaults_and_says_what_it_does(name: str) -> None:
    fault = parse_fault(name)
    assert {k: str(v) for k, v in fault.values.items()} == {
        key: words.partition("/")[0] for key, words in shown(KINDS[name]).items()
    }
    assert KINDS[name].does.endswith(".")
    assert KINDS[name].shows
    assert set(fault.values) <= set(ARGUMENTS)


def test_a_message_is_the_last_argument_and_may_hold_commas() -> None:
    fault = parse_fault("google:status=429,message=Slow down, please, a=b.")
    assert fault.word("message") == "Slow down, please, a=b."
    assert fault.number("status") == 429


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("evnt", "There is no fault 'evnt'; the nearest is event."),
        ("event-lost", "There is no fault 'event-lost'; the nearest is event."),
        ("", "There is no fault ''"),
        ("event:nodes=1", "The fault event has no argument 'nodes'; it has count, how, node"),
        ("two-pods:s=1", "has no argument 's'; it has node, to, trial."),
        ("event:node=two", "The argument node of the fault event is a number, not 'two'"),
        (
            "event:how=gone",
            "The argument how of the fault event is lost, twice or late, not 'gone'",
        ),
        (
            "process-killed:process=scheduler",
            "is runner, kube-scheduler or kube-controller-manager",
        ),
        ("event:share=2", "cannot be 2"),
        ("event:s=-1", "cannot be -1"),
        ("event:s=nan", "cannot be nan"),
        ("event:s=inf", "cannot be inf"),
        ("google:status=200", "cannot be 200"),
        ("event:node", "has 'node' where KEY=VALUE is expected"),
        ("@/does/not/exist", "The file of faults /does/not/exist cannot be read"),
    ],
)
def test_what_cannot_be_read_is_refused_in_a_sentence(text: str, problem: str) -> None:
    with pytest.raises(FaultError) as refused:
        parse_faults([text])
    assert problem in refused.value.problem
    assert refused.value.fix
    assert refused.value.exit_code is ExitCode.USAGE


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    with suppress(FaultError):
        assert parse_fault(text).name in KINDS


def test_a_file_holds_a_fault_a_line(tmp_path: Path) -> None:
    path = tmp_path / "faults"
    path.write_text("# two of them\n\nevent:trial=1  # the first\npull\n")
    found = parse_faults(["api", f"@{path}"])
    assert [each.text for each in found] == ["api", "event:trial=1", "pull"]


def test_a_fault_is_injected_where_it_applies_and_nowhere_else() -> None:
    faults = Faults.read(["node-slow:trial=2,node=3", "event:how=late"])
    assert faults.inject("node-slow", trial=2, node="n-0003")
    assert not faults.inject("node-slow", trial=1, node="n-0003")
    assert not faults.inject("node-slow", trial=2, node="n-0013")
    assert not faults.inject("event", how="lost", trial=2, node="n-0003")
    assert faults.inject("event", how="late", trial=2, node="n-0003")
    assert [line["fault"] for line in faults.injected] == ["node-slow", "event"]
    assert [(line["trial"], line["node"]) for line in faults.injected] == [(2, "n-0003")] * 2


def test_a_count_limits_each_fault_for_itself() -> None:
    faults = Faults.read(["api:count=2", "api:count=1,verb=GET"])
    hits = [bool(faults.inject("api")) for _ in range(5)]
    assert hits == [True, True, True, False, False]


def test_draws_are_the_same_for_the_same_seed_and_differ_for_another() -> None:
    def draws(seed: int) -> list[bool]:
        faults = Faults.read([f"event:share=0.3,seed={seed}"])
        return [bool(faults.inject("event", trial=1, key=str(key))) for key in range(1000)]

    assert draws(1) == draws(1)
    assert draws(1) != draws(2)
    assert 240 < sum(draws(1)) < 360


def test_injections_are_lines_of_a_file_that_several_append_to(tmp_path: Path) -> None:
    log = tmp_path / "injected.jsonl"
    for _ in range(2):
        Faults.read(["event"], log).inject("event", trial=1, node="n-1", uid="u")
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["fault"] for line in lines] == ["event", "event"]
    assert lines[0]["uid"] == "u"
    assert lines[0]["at"] <= lines[1]["at"]


def test_the_page_of_faults_is_what_the_catalogue_says() -> None:
    assert PAGE.read_text("utf-8") == updated(), "stale: make docs"


def test_faults_of_simulated_nodes_are_refused_for_real_ones() -> None:
    refuse_simulated(parse_faults(["pull", "event"]))
    with pytest.raises(FaultError, match="node-slow needs simulated nodes"):
        refuse_simulated(parse_faults(["pull", "node-slow"]))
