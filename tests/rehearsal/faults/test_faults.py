from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from docs.generate.faults import PAGE, updated
from rehearsal import cli
from rehearsal.faults.catalogue import ARGUMENTS, KINDS
from rehearsal.faults.faults import (
    FaultError,
    Faults,
    node_number,
    parse_fault,
    parse_faults,
    refuse_simulated,
)
from schema.errors import ExitCode
from tests.chaos.findings import RULES
from tests.chaos.matrix import MATRIX


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_is_read_with_its_defaults_and_says_what_it_does(name: str) -> None:
    fault = parse_fault(name)
    assert fault.values == KINDS[name].arguments
    assert KINDS[name].does.endswith(".")
    assert KINDS[name].shows
    assert set(fault.values) <= set(ARGUMENTS)


def test_every_argument_is_one_of_some_kind() -> None:
    assert {key for kind in KINDS.values() for key in kind.arguments} == set(ARGUMENTS)


def test_arguments_have_the_type_of_their_default() -> None:
    fault = parse_fault("event-late: trial=2, reason=Pulled ,s=1.5")
    assert (fault.values["trial"], fault.word("reason"), fault.number("s")) == (2, "Pulled", 1.5)


def test_a_message_is_the_last_argument_and_may_hold_commas() -> None:
    fault = parse_fault("google-error:status=429,message=Slow down, please, a=b.")
    assert fault.word("message") == "Slow down, please, a=b."
    assert fault.number("status") == 429


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("event-lots", "There is no fault 'event-lots'; the nearest is event-lost."),
        ("", "There is no fault ''"),
        ("event-lost:nodes=1", "The fault event-lost has no argument 'nodes'; it has count, node"),
        ("exporter-defaults:s=1", "has no argument 's'; it has trial."),
        ("event-lost:node=two", "The argument node of the fault event-lost is a number, not 'two'"),
        ("event-lost:share=2", "cannot be 2"),
        ("event-late:s=-1", "cannot be -1"),
        ("event-late:s=nan", "cannot be nan"),
        ("event-late:s=inf", "cannot be inf"),
        ("event-lost:node", "has 'node' where KEY=VALUE is expected"),
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
    path.write_text("# two of them\n\nevent-lost:trial=1  # the first\nsink-late\n")
    found = parse_faults(["exporter-defaults", f"@{path}"])
    assert [each.text for each in found] == ["exporter-defaults", "event-lost:trial=1", "sink-late"]


def test_a_fault_strikes_what_it_is_about_and_nothing_else() -> None:
    faults = Faults.read(["node-slow:trial=2,node=3"])
    assert faults.strike("node-slow", trial=2, node="n-0003")
    assert not faults.strike("node-slow", trial=1, node="n-0003")
    assert not faults.strike("node-slow", trial=2, node="n-0013")
    assert not faults.strike("event-lost", trial=2, node="n-0003")
    assert [(line["trial"], line["node"]) for line in faults.struck] == [(2, "n-0003")]


def test_a_count_limits_each_fault_for_itself() -> None:
    faults = Faults.read(["api-error:count=2", "api-error:count=1,verb=GET"])
    hits = [bool(faults.strike("api-error")) for _ in range(5)]
    assert hits == [True, True, True, False, False]


def test_draws_are_the_same_for_the_same_seed_and_differ_for_another() -> None:
    def draws(seed: int) -> list[bool]:
        faults = Faults.read([f"event-lost:share=0.3,seed={seed}"])
        return [bool(faults.strike("event-lost", trial=1, key=str(key))) for key in range(1000)]

    assert draws(1) == draws(1)
    assert draws(1) != draws(2)
    assert 240 < sum(draws(1)) < 360


def test_strikes_are_lines_of_a_file_that_several_append_to(tmp_path: Path) -> None:
    log = tmp_path / "injected.jsonl"
    for _ in range(2):
        Faults.read(["event-lost"], log).strike("event-lost", trial=1, node="n-1", uid="u")
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["fault"] for line in lines] == ["event-lost", "event-lost"]
    assert lines[0]["uid"] == "u"
    assert lines[0]["at"] <= lines[1]["at"]


def test_a_nodes_number_is_at_the_end_of_its_name() -> None:
    assert node_number("gke-size-4-measured-0012") == 12
    assert node_number("node") == 0
    assert node_number("") == 0


def test_the_page_of_faults_is_what_the_catalogue_says() -> None:
    assert PAGE.read_text("utf-8") == updated(), "stale: make docs"


@pytest.mark.parametrize("name", KINDS)
def test_make_chaos_has_a_rule_for_every_kind_and_plays_it(name: str) -> None:
    assert name in RULES
    asked = [parse_fault(text).name for scenario in MATRIX for text in scenario.faults]
    assert name in asked


def test_faults_of_simulated_nodes_are_refused_for_real_ones() -> None:
    refuse_simulated(parse_faults(["image-missing", "event-lost"]))
    with pytest.raises(FaultError, match="node-slow is a simulated node's"):
        refuse_simulated(parse_faults(["image-missing", "node-slow"]))


def test_the_list_of_faults_tells_every_kind() -> None:
    done = CliRunner().invoke(cli.app, ["faults"])
    assert done.exit_code == 0
    assert all(name in done.output for name in KINDS)
