from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from rehearsal.faults.faults import Faults, injected_file
from rehearsal.faults.nodes import Pull, PullFaults, pull_faults
from rehearsal.simulated_nodes import messages

NODE = "gke-c-pool-0002"


def pull(trial: int = 1, node: str = NODE) -> Pull:
    return Pull(trial, node, f"job-{trial}-{node}", f"uid-{trial}-{node}", "ghcr.io/o/i:t@sha256:a")


def test_a_fault_affects_its_own_cell_and_is_recorded_once(tmp_path: Path) -> None:
    faults = pull_faults(["node-slow:trial=2,node=2,factor=3"], tmp_path)
    assert faults.factor(pull(trial=1)) == 1
    assert faults.factor(pull(trial=2, node="gke-c-pool-0003")) == 1
    assert [faults.factor(pull(trial=2)) for _ in range(3)] == [3, 3, 3]
    (line,) = injected_file(tmp_path).read_text().splitlines()
    injected = json.loads(line)
    assert (injected["fault"], injected["trial"], injected["node"]) == ("node-slow", 2, NODE)
    assert injected["uid"] == f"uid-2-{NODE}"


@pytest.mark.parametrize(
    ("text", "tries", "words"),
    [
        ("pull:how=404", [1, 2, 9], ["code = NotFound", "ghcr.io/o/i:t@sha256:a: not found"]),
        ("pull:how=429,tries=2", [1, 2], ["429 Too Many Requests", "v2/o/i/blobs/sha256:a"]),
        ("pull:how=down,tries=0", [1, 2, 9], ["connection refused", "v2/o/i/manifests/sha256:a"]),
    ],
)
def test_a_pull_fails_with_the_message_of_the_container_runtime(
    tmp_path: Path, text: str, tries: list[int], words: list[str]
) -> None:
    faults = pull_faults([text], tmp_path)
    for attempt in (1, 2, 9):
        how = faults.failure(pull(), attempt)
        error = messages.PULL_FAILURES[how](pull().image) if how else ""
        assert bool(error) == (attempt in tries)
        assert all(word in error for word in words) or not error


def test_faults_of_pulls_do_not_concern_the_view_and_its_own_does(tmp_path: Path) -> None:
    view = replace(pull(), image="ghcr.io/o/flux-view-ubuntu:t@sha256:b")
    faults = pull_faults(["pull:how=404", "cached-image:node=2", "view-missing"], tmp_path)
    assert (faults.presence(view), faults.presence(pull())) == ("", "present")
    assert faults.failure(view, 1) == "404"
    other = pull_faults(["pull:how=404"], tmp_path)
    assert (other.failure(view, 1), other.failure(pull(), 1)) == ("", "404")


def test_a_node_is_silent_from_its_pull_on_for_a_while() -> None:
    time = 100.0
    faults = PullFaults(Faults.read(["node-not-ready:node=2,after=1,s=5"]), lambda: time)
    assert not faults.is_silent(NODE)
    faults.presence(pull())
    silent = []
    for now in (100.0, 101.0, 105.9, 106.0):
        time = now
        silent.append(faults.is_silent(NODE))
    assert silent == [False, True, True, False]


def test_a_clock_is_wrong_on_one_node_alone(tmp_path: Path) -> None:
    faults = pull_faults(["node-clock:node=2,minutes=-3"], tmp_path)
    assert faults.clock_ahead(NODE) == timedelta(minutes=-3)
    assert faults.clock_ahead("gke-c-pool-0001") == timedelta(0)
    (line,) = injected_file(tmp_path).read_text().splitlines()
    assert json.loads(line)["node"] == NODE
